"""Every way to explain a model gives what the program gives: to the bit, in JSON and in arrays; and shows itself."""

import json
import pathlib
import shutil
import subprocess

import numpy as np
import pytest

import vitrine as vt
from conftest import CALIFORNIA, PAIRS, TEXAS, TEXTS, without_meta

PROMPTS = [{"prompt": p["clean"], "answer": p["answer"], "wrong": p["wrong"], "kind": "state"} for p in PAIRS]
PAIR = ["--clean", TEXAS, "--corrupt", CALIFORNIA, "--answer", " Austin", "--wrong", " Sacramento"]

# The call, and the command that it stands for.
SAME = {
    "predict": (lambda m, f: m.predict(TEXAS, top=3), ["predict", "--prompt", TEXAS, "--top", "3"]),
    "predict many": (lambda m, f: m.predict(prompts=PROMPTS), ["predict", "--prompts", "PROMPTS"]),
    "attention": (
        lambda m, f: m.attention(TEXAS, layer=1, head=2),
        ["attention", "--prompt", TEXAS, "--layer", "1", "--head", "2"],
    ),
    "attention many": (
        lambda m, f: m.attention(prompts=PROMPTS, from_=-1, to=3),
        ["attention", "--prompts", "PROMPTS", "--from=-1", "--to", "3"],
    ),
    "lens": (
        lambda m, f: m.lens(TEXAS, " Austin", pos="all"),
        ["lens", "--prompt", TEXAS, "--answer", " Austin", "--pos", "all"],
    ),
    "decompose": (
        lambda m, f: m.decompose(TEXAS, " Austin", " Sacramento", stream=True),
        ["decompose", "--prompt", TEXAS, "--answer", " Austin", "--wrong", " Sacramento", "--stream"],
    ),
    "patch": (
        lambda m, f: m.patch(
            TEXAS, CALIFORNIA, " Austin", " Sacramento", site="z", by="head,pos", layer=[0, 2], pos=[-1]
        ),
        ["patch", *PAIR, "--site", "z", "--by", "head,pos", "--layer", "0,2", "--pos=-1"],
    ),
    "patch pairs": (
        lambda m, f: m.patch(pairs=PAIRS, site="resid_pre", metric="prob"),
        ["patch", "--pairs", "PAIRS", "--site", "resid_pre", "--metric", "prob"],
    ),
    "attribute": (
        lambda m, f: m.attribute(TEXAS, CALIFORNIA, " Austin", " Sacramento", verify=2),
        ["attribute", *PAIR, "--method", "attribution-patching", "--verify", "2"],
    ),
    "attribute edges": (
        lambda m, f: m.attribute(TEXAS, CALIFORNIA, " Austin", " Sacramento", method="edges"),
        ["attribute", *PAIR, "--method", "edges"],
    ),
    "circuit": (
        lambda m, f: m.circuit(TEXAS, CALIFORNIA, " Austin", " Sacramento", edges=30, random=2),
        ["circuit", *PAIR, "--by", "edges-ig", "--edges", "30", "--random", "2"],
    ),
    "ablate": (
        lambda m, f: m.ablate(TEXAS, " Austin", " Sacramento", of="mlps", action="mean"),
        [
            "ablate",
            "--prompt",
            TEXAS,
            "--answer",
            " Austin",
            "--wrong",
            " Sacramento",
            "--of",
            "mlps",
            "--sets",
            "single",
            "--action",
            "mean",
        ],
    ),
    "heads": (lambda m, f: m.heads(sequences=2, half=8), ["heads", "--sequences", "2", "--half", "8"]),
    "heads explain": (
        lambda m, f: m.heads(explain="1.2", prompt=TEXAS),
        ["heads", "--explain", "1.2", "--prompt", TEXAS],
    ),
    "neurons": (lambda m, f: m.neurons(TEXAS, " Austin"), ["neurons", "--prompt", TEXAS, "--answer", " Austin"]),
    "neurons corpus": (
        lambda m, f: m.neurons(corpus=f("TEXTS"), layer=1, top=2),
        ["neurons", "--corpus", "TEXTS", "--layer", "1", "--top", "2"],
    ),
    "steer": (
        lambda m, f: m.steer(TEXAS, plus=TEXAS, minus=CALIFORNIA, site="2.resid_post", scale=[1.0], max_tokens=3),
        [
            "steer",
            "--prompt",
            TEXAS,
            "--plus",
            TEXAS,
            "--minus",
            CALIFORNIA,
            "--site",
            "2.resid_post",
            "--scale",
            "1.0",
            "--max-tokens",
            "3",
        ],
    ),
    "influence": (
        lambda m, f: m.influence(TEXAS, source_sae="blocks.1.hook_mlp_out", target_sae="blocks.4.hook_mlp_out"),
        [
            "influence",
            "--prompt",
            TEXAS,
            "--source-sae",
            "blocks.1.hook_mlp_out",
            "--target-sae",
            "blocks.4.hook_mlp_out",
        ],
    ),
    "evaluate": (lambda m, f: m.evaluate(f("TEXTS")), ["evaluate", "TEXTS"]),
    "evaluate many": (
        lambda m, f: m.evaluate(prompts=PROMPTS, metric="logit_diff", group_by="kind"),
        ["evaluate", "--prompts", "PROMPTS", "--metric", "logit_diff", "--group-by", "kind"],
    ),
    "sae_features": (
        lambda m, f: m.sae_features("blocks.4.hook_mlp_out", TEXAS),
        ["sae", "features", "--sae", "blocks.4.hook_mlp_out", "--prompt", TEXAS],
    ),
    "sae_features corpus": (
        lambda m, f: m.sae_features("blocks.4.hook_mlp_out", corpus=f("TEXTS"), feature=[61, 730]),
        ["sae", "features", "--sae", "blocks.4.hook_mlp_out", "--corpus", "TEXTS", "--feature", "61,730"],
    ),
    "sae_eval": (
        lambda m, f: m.sae_eval("blocks.4.hook_mlp_out", f("TEXTS"), rows=500),
        ["sae", "eval", "--sae", "blocks.4.hook_mlp_out", "--data", "TEXTS", "--rows", "500"],
    ),
    "info": (lambda m, f: m.info(), ["info"]),
    "explain": (lambda m, f: m.explain("2.z", TEXAS), ["explain", "2.z", "--prompt", TEXAS]),
    "doctor": (lambda m, f: m.doctor(), ["doctor", "--model", "default", "--model-alone"]),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, lines in {"PROMPTS": PROMPTS, "PAIRS": PAIRS, "TEXTS": [{"text": t} for t in TEXTS]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lambda name: str(folder / f"{name}.jsonl")


def shown(words):
    words = list(words)
    if words[0] == "doctor":  # whose default is the machine alone
        at = words.index("--model")
        words[at : at + 2] = ["--model", vt._vitrine.default_model()]
    return words


@pytest.mark.parametrize("name", SAME)
def test_json_is_the_programs(model, said, files, name):
    call, words = SAME[name]
    found = call(model, files)
    expected = said(*[files(w) if w in ("PROMPTS", "PAIRS", "TEXTS") else w for w in shown(words)])
    mine = without_meta(found)
    if name == "doctor":
        mine["model"].pop("name"), expected["model"].pop("name")
    for found_here in (mine, expected):
        for changing in ("seconds", "machine", "rates", "explanation"):
            found_here.pop(changing, None)
    assert mine == expected
    assert str(found) and repr(found)


ARRAYS = {
    "patch": ["sweep"],
    "attention": ["pattern"],
    "lens": ["raw", "ln"],
    "heads": ["induction"],
    "attribute edges": ["edge/score"],
    "ablate": ["effect"],
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_the_programs(model, program, files, tmp_path, name):
    call, words = SAME[name]
    found = call(model, files)
    program(*words, "--out", tmp_path / "out.npz")
    saved = np.load(tmp_path / "out.npz")
    assert set(ARRAYS[name]) <= set(found.tensors)
    for tensor, array in found.tensors.items():
        np.testing.assert_array_equal(array, saved[tensor])
        axes = found.axes_of(tensor)
        assert axes == () or len(axes) == array.ndim


@pytest.mark.parametrize(
    "name",
    [
        "attention",
        "lens",
        "decompose",
        "patch",
        "attribute",
        "circuit",
        "neurons",
        "neurons corpus",
        "sae_features",
        "info",
    ],
)
def test_pages(model, files, name, tmp_path):
    found = SAME[name][0](model, files)
    found.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>") or page.lower().startswith("<!doctype html")
    assert len(page) < 3_000_000 and "http://" not in page.replace("http://www.w3.org", "")
    frame = found._repr_html_()
    assert (
        frame.startswith('<iframe sandbox="allow-scripts"')
        and "allow-same-origin" not in frame
        and "<script" not in frame
    )
    assert frame.count("srcdoc=") == 1


def test_pages_live_side_by_side_in_a_notebook(model, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium")
    frames = [SAME[name][0](model, None)._repr_html_() for name in ("patch", "attention", "lens")]
    (tmp_path / "notebook.html").write_text("<!doctype html><meta charset=utf-8>" + "\n".join(frames))
    picture = tmp_path / "notebook.png"
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        + [
            "--window-size=1000,1700",
            "--virtual-time-budget=5000",
            "--enable-logging=stderr",
            f"--screenshot={picture}",
        ]
        + [(tmp_path / "notebook.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert picture.stat().st_size > 50_000  # three pages, not three empty frames


def test_results_have_every_form(model, tmp_path):
    found = SAME["patch"][0](model, None)
    assert found.shape == [2, 1, 4] and found["site"] == "z" and "strongest" in dir(found) and "values" in dir(found)
    assert json.loads(found.to_json()) == found.json
    found.to_json(tmp_path / "patch.json")
    assert json.loads((tmp_path / "patch.json").read_text()) == found.json
    assert found.command.startswith("vitrine patch --clean 'The capital of Texas is'")
    assert found.axes == ("layer", "pos", "head") and found.values.shape == (2, 1, 4)
    with pytest.raises(AttributeError, match="strongest"):
        found.no_such_field
    with pytest.raises(vt.UsageError, match="no array"):
        model.predict(TEXAS).values
    with pytest.raises(vt.UsageError, match="several"):
        model.lens(TEXAS, " Austin").values
    with pytest.raises(vt.UsageError, match="no page"):
        model.predict(TEXAS).html
    assert model.predict(TEXAS)._repr_html_() is None


def test_results_as_data_frames(model):
    pandas = pytest.importorskip("pandas")
    frame = SAME["patch"][0](model, None).to_pandas()
    assert list(frame.columns) == ["layer", "pos", "head", "value"] and len(frame) == 8
    assert isinstance(model.predict(TEXAS).to_pandas(), pandas.DataFrame)
    assert len(model.lens(TEXAS, " Austin").to_pandas("ln")) == 7
    with pytest.raises(vt.UsageError, match="no table"):
        model.predict(TEXAS).to_pandas("bottom")


def test_circuits_from_prompts(model):
    circuit = model.circuit(pairs=PAIRS, edges=40, random=0)
    assert circuit.faithfulness == circuit.json["circuit"]["faithfulness"] and len(circuit.json["edges"]) <= 40


def test_attribution_graphs(said):
    data = pathlib.Path(__file__).parents[2] / "data"
    tiny, set = vt.load(data / "tiny-gpt2"), data / "transcoders" / "cross-layer"
    found = tiny.graph([5, 17, 33, 64], transcoders=set, top=4, verify=2)
    words = [
        "--model",
        data / "tiny-gpt2",
        "--transcoders",
        set,
        "--tokens",
        "5,17,33,64",
        "--top",
        "4",
        "--verify",
        "2",
    ]
    assert without_meta(found) == said("graph", *words)
    assert found.tensors["adjacency"].shape[1] == sum(
        found.counts[n] for n in ("features", "errors", "tokens", "logits")
    )
    assert "What causes the next token" in found.html


def test_supernodes_and_graphs_that_are_read(tmp_path):
    data = pathlib.Path(__file__).parents[2] / "data"
    tiny, set = vt.load(data / "tiny-gpt2"), data / "transcoders" / "cross-layer"
    tokens = [5, 17, 33, 64, 2, 88, 9, 17]
    groups = {"early": ["0_7_7", "0_17_7"], "late": ["2_59_7"]}
    found = tiny.graph(tokens, transcoders=set, supernodes=groups, factor=2, verify=0, random=0)
    assert [s["name"] for s in found.supernodes] == list(groups) and found.supernodes[0]["factor"] == 2
    assert any(m["source"] == "early" and m["target"] == "late" for m in found.merged)
    (tmp_path / "graph.json").write_text(json.dumps(found.json))
    read = vt.read_graph(tmp_path / "graph.json", top=3)
    assert read.nodes == found.nodes and read.links == found.links and read.merged == found.merged
    assert read.qParams["supernodes"] == [["early", "0_7_7", "0_17_7"], ["late", "2_59_7"]]
    again = tiny.graph(tokens, transcoders=set, supernodes=tmp_path / "graph.json", verify=0, random=0)
    assert [s["nodes"] for s in again.supernodes] == [s["nodes"] for s in found.supernodes]
    assert "What causes the next token" in read.html
    explained = tiny.graph(
        tokens, transcoders=set, verify=0, random=0, explain_attention="1.2:7:4", explain_edge="E_64_3,2_59_7", heads=1
    )
    pairs = explained.tensors["attention/1.2.7.4"]
    assert abs(pairs.sum() - explained.attention[0]["score"]) < 1e-5 * max(1, abs(pairs).sum())
    assert explained.edges[0]["heads"][0]["weight"] != 0 and len(explained.attention) == 2
    with pytest.raises(vt.UsageError, match="in two supernodes"):
        vt.read_graph(tmp_path / "graph.json", supernodes={"x": ["0_7_7"]})
    (tmp_path / "graph.json").write_text("{}")
    with pytest.raises(vt.FileError, match="metadata"):
        vt.read_graph(tmp_path / "graph.json")


def test_prompts(model):
    made = model.prompts(template="The capital of {s} is", slot={"s": ["Texas", "Ohio"]})
    assert [p["prompt"] for p in made] == [TEXAS, "The capital of Ohio is"]


def test_mistakes_speak_of_arguments(model):
    for call, words in [
        (lambda: model.patch(TEXAS, CALIFORNIA, site="z"), "answer="),
        (lambda: model.patch(TEXAS, CALIFORNIA, " Austin", " Sacramento", site="zz"), "zz"),
        (lambda: model.patch(TEXAS, CALIFORNIA, " Austin", " Sacramento", site="z", bye="head"), "by="),
        (lambda: model.decompose(TEXAS, wrong=" Austin"), "answer"),
        (lambda: model.lens(TEXAS, "Austin"), " Austin"),
        (lambda: model.predict(TEXAS, edits=["zero 1.z", vt.zero("blocks.0.hook_mlp_out")]), "one order"),
        (lambda: model.predict(TEXAS, edits="frobnicate 1.z"), "frobnicate"),
    ]:
        with pytest.raises(vt.Error) as error:
            call()
        assert (
            words in str(error.value) and "--" not in str(error.value) and "see 'vitrine" not in str(error.value)
        ), str(error.value)


def test_a_prompt_that_looks_like_an_option(model):
    assert model.predict("--help").json["str_tokens"] == model.str_tokens("--help")
    assert model.predict("-").json["str_tokens"] == model.str_tokens("-")  # and not what stdin holds


def test_steering_by_an_array(model):
    direction = np.zeros(256, np.float32)
    direction[3] = 4
    found = model.steer(TEXAS, direction=direction, site="2.resid_post", scale=[0.0, 1.0], max_tokens=2)
    assert [s["scale"] for s in found.steered] == [0, 1]


def test_edits_as_values_reach_verbs(model):
    edits = [vt.zero("blocks.1.attn.hook_z", head=[0, 2])]
    assert model.predict(TEXAS, edits=edits).top == model.predict(TEXAS, edits="zero blocks.1.attn.hook_z head=0,2").top


def test_notes_are_logged(model, caplog, tmp_path):
    model.save(tmp_path / "m")
    for file in ("tokenizer.json", "vocab.json", "merges.txt"):
        (tmp_path / "m" / file).write_text("broken")
    broken = vt.load(tmp_path / "m")
    assert not broken.has_tokenizer
    assert broken.predict(model.tokens(TEXAS)).top[0]["id"] == model.token(" Austin")


def test_progress(model, monkeypatch, capsys):
    from vitrine import _progress

    assert _progress.line("patching", "runs", 45, 100, 1.5).startswith("patching:  45%|")
    assert _progress.line("x", "runs", 0, 0, 0.0)
    told = []
    bar = _progress.Bar(type("S", (), {"write": lambda s, t: told.append(t), "flush": lambda s: None})())
    monkeypatch.setattr(_progress, "_FIRST", 0)
    monkeypatch.setattr(_progress, "_EVERY", 0)
    bar("patching", "runs", 1, 4)
    bar("patching", "runs", 4, 4)
    bar.close()
    assert "100%" in told[1] and told[-1].strip() == ""
    vt.settings.progress = True
    try:
        model.neurons(corpus=TEXTS * 20, layer=1, top=1)
    finally:
        vt.settings.progress = None
    with pytest.raises(vt.UsageError, match="progress"):
        vt.settings.colour = True
    assert "columns=100" in repr(vt.settings)


def test_help_and_the_machine(capsys):
    vt.help("patch")
    assert "--site" in capsys.readouterr().out
    vt.help("sae train")
    assert "--features" in capsys.readouterr().out
    found = vt.doctor()
    assert found.rates["peak_gflops"] > 0


def test_the_program_comes_with_the_package():
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "vitrine", "predict", "--prompt", TEXAS, "--format", "json"],
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout)["top"][0]["token"] == " Austin"
    done = subprocess.run([sys.executable, "-m", "vitrine", "predct"], capture_output=True, text=True)
    assert done.returncode == 2 and "did you mean" in done.stderr
    done = subprocess.run([sys.executable, "-m", "vitrine", "--version"], capture_output=True, text=True)
    assert done.stdout.split()[1] == vt.__version__
