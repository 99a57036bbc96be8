"""Models: running, editing, sweeping; the same numbers as the program and as loops over single runs."""

import numpy as np
import pytest

import vitrine as vt
from conftest import CALIFORNIA, PAIRS, TEXAS
from vitrine import ops


def test_what_a_model_is(model):
    assert model.name == "default" and model.gauge == "raw" and model.has_tokenizer and model.edits == []
    c = model.config
    assert (c["layers"], c["heads"], c["d_model"], c["vocabulary"]) == (6, 4, 256, 6000)
    assert model.tokens(TEXAS) == model.tokens(model.tokens(TEXAS)) and model.text(model.tokens(TEXAS)) == TEXAS
    assert model.str_tokens(TEXAS)[3] == " Texas" and model.str_tokens([model.token(" Austin")]) == [" Austin"]
    assert model.tokenize(TEXAS)[3]["token"] == " Texas"
    assert "blocks.5.hook_resid_post" in model.sites and "6 layers" in repr(model)
    with pytest.raises(vt.TokenError, match="' Austin'|\" Austin\""):
        model.token("Austin")
    with pytest.raises(vt.UsageError):
        vt.Model("gpt2")


def test_batches_of_any_lengths(model):
    run = model.run([TEXAS, "Paris"], "blocks.1.hook_resid_post,logits")
    assert run.prompts == [model.tokens(TEXAS), model.tokens("Paris")]
    assert run.last_logits.shape == (2, 6000)
    alone = model.run("Paris", ["blocks.1.hook_resid_post"])
    np.testing.assert_allclose(
        run.sequence("blocks.1.hook_resid_post", 1), alone["blocks.1.hook_resid_post"], atol=1e-5
    )
    with pytest.raises(vt.ShapeError):
        run["blocks.1.hook_resid_post"]
    assert model.run([model.tokens(TEXAS), model.tokens(TEXAS)]).logits.shape == (2, 5, 6000)
    assert (
        "logits" in run
        and len(run) == len(list(run)) == len(run.keys())
        and "Run" in repr(run)
        and len(run.results) == len(run)
    )
    mean, each = model.loss([TEXAS, CALIFORNIA])
    assert each.shape == (8,) and abs(each.mean() - mean) < 1e-6


@pytest.mark.parametrize(
    "prompt, error",
    [
        ("", vt.ContextError),
        ([], vt.ContextError),
        ([6000], vt.TokenError),
        ([-1], vt.TokenError),
        ("a " * 400, vt.ContextError),
        ([[]], vt.ContextError),
    ],
)
def test_prompts_that_no_model_takes(model, prompt, error):
    with pytest.raises(error):
        model.run(prompt)


def test_prompts_of_other_types(model):
    for prompt in (3, None, [1.5], object()):
        with pytest.raises(Exception):
            model.run(prompt)


def test_edits_do_what_they_say(model):
    site = "blocks.2.hook_mlp_out"
    clean = model.run(TEXAS, [site, "blocks.2.hook_resid_post", "blocks.2.hook_resid_mid"])
    at = lambda edits, what=site: model.run(TEXAS, what, edits=edits)[what]
    np.testing.assert_array_equal(at(vt.zero(site, pos=4))[0, 4], 0)
    np.testing.assert_array_equal(at(vt.zero(site, pos=4))[0, :4], clean[site][0, :4])
    np.testing.assert_allclose(at(vt.scale(site, 2.0)), 2 * clean[site], rtol=1e-6)
    direction = np.ones(256, np.float32)
    np.testing.assert_allclose(at(vt.add(site, direction, 3.0, pos=[1, 2]))[0, 1:3], clean[site][0, 1:3] + 3, atol=1e-5)
    gone = at(vt.project_out(site, direction))
    np.testing.assert_allclose(gone @ direction, 0, atol=1e-3)
    np.testing.assert_array_equal(at(vt.replace(site, direction, feature=[7]))[..., 7], 1)
    np.testing.assert_array_equal(at(vt.detach(site)), clean[site])
    other = model.run(CALIFORNIA, [site, "blocks.2.hook_resid_post"])
    np.testing.assert_array_equal(at(vt.from_run(site, other)), other[site])
    np.testing.assert_array_equal(
        at(vt.from_run("blocks.2.hook_resid_post", other.results, source=site), "blocks.2.hook_resid_post"), other[site]
    )
    np.testing.assert_array_equal(at(vt.hold(site, other)), other[site])
    np.testing.assert_allclose(at(vt.mean(site, other))[0, 0], other[site][0].mean(0), atol=1e-5)
    np.testing.assert_allclose(at(vt.mean(site, other, by_position=True)), other[site], atol=1e-5)
    two = model.run([TEXAS, CALIFORNIA], site)
    swapped = model.run([TEXAS, CALIFORNIA], site, edits=vt.resample(site, two, seed=1))
    np.testing.assert_array_equal(swapped[site][0], two[site][1])
    both = model.run(TEXAS, site, edits=vt.Interventions(vt.zero(site)).then(vt.add(site, direction)), before=site)
    np.testing.assert_allclose(both[site], 1)
    np.testing.assert_array_equal(both.before(site), clean[site])
    edit = vt.zero(site, head=[1])
    assert edit.site == site and edit.action == "zero" and repr(vt.Interventions(vt.zero(site))) != ""


def test_edits_that_do_not_fit(model):
    site = "blocks.2.hook_mlp_out"
    for edits, error in [
        (vt.zero("blocks.9.hook_mlp_out"), vt.SiteError),
        (vt.zero(site, pos=5), vt.GraphError),
        (vt.zero(site, head=0), vt.GraphError),
        (vt.replace(site, np.ones(3, np.float32)), vt.ShapeError),
        ([vt.zero(site), vt.scale(site, 2.0)], vt.GraphError),
    ]:
        with pytest.raises(error):
            model.run(TEXAS, edits=edits)
    with pytest.raises(Exception):
        model.run(TEXAS, edits="zero " + site)
    with pytest.raises(vt.FileError, match="stages"):
        vt.Interventions.from_json('{"version": 1, "stages": [[{"site": 3}]]}')
    with pytest.raises(vt.GraphError, match="run"):
        vt.mean(site, {"no": "run"})


def test_metrics_and_gradients(model):
    answer, wrong = model.token(" Austin"), model.token(" Sacramento")
    logits = model.run(TEXAS).last_logits[0].astype(np.float64)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    for metric, expected in [
        (vt.logit_diff(answer, wrong), logits[answer] - logits[wrong]),
        (vt.logit(answer), logits[answer]),
        (vt.probability(answer), p[answer]),
        (vt.log_probability([answer]), np.log(p[answer])),
        (vt.rank(wrong), (logits > logits[wrong]).sum()),
        (vt.accuracy(answer), 1.0),
    ]:
        run = model.run(TEXAS, metric=metric)
        assert abs(run[metric.name] - expected) < 1e-4, metric
    kl = vt.kl_to(model.run(TEXAS).last_logits)
    assert abs(model.run(TEXAS, metric=kl)["kl"]) < 1e-6
    assert abs(model.run(TEXAS, metric=vt.prompt_loss())["prompt_loss"] - model.loss(TEXAS)[0]) < 1e-5
    assert (
        abs(
            model.run_graph(vt.with_metric(model.build_for(TEXAS), vt.training_loss(4)), TEXAS, outputs="loss")["loss"]
            - model.loss(TEXAS)[0]
        )
        < 1e-5
    )

    mine = vt.metric(
        lambda l: ops.pick(l, l.builder.constant(np.array([answer], np.int32)))
        - ops.pick(l, l.builder.constant(np.array([wrong], np.int32))),
        "mine",
    )
    built_in = model.run(TEXAS, metric=vt.logit_diff(answer, wrong), gradients="blocks.3.hook_resid_pre")
    own = model.run(TEXAS, metric=mine, gradients=["blocks.3.hook_resid_pre"])
    assert own["mine"] == built_in["logit_diff"] and own["mine_per_prompt"].shape == (1,)
    np.testing.assert_array_equal(own.grad("blocks.3.hook_resid_pre"), built_in.grad("blocks.3.hook_resid_pre"))
    whole = vt.metric(lambda b: ops.mean(b.get_output("logits")), "average", per_prompt=False)
    assert abs(model.run(TEXAS, metric=whole)["average"] - model.run(TEXAS).logits.mean()) < 1e-5
    with pytest.raises(vt.UsageError, match="metric="):
        model.run(TEXAS, gradients="blocks.3.hook_resid_pre")


def test_the_gradient_is_that_of_a_finite_difference(model):
    double = vt.load(dtype="float64")
    site, metric = "blocks.4.hook_resid_pre", vt.logit(double.token(" Austin"))
    grad = double.run(TEXAS, metric=metric, gradients=site).grad(site)
    direction = np.random.default_rng(0).standard_normal(256)
    up, down = (
        double.run(TEXAS, metric=metric, edits=vt.add(site, direction, step, pos=3))["logit"] for step in (1e-4, -1e-4)
    )
    assert abs((up - down) / 2e-4 - grad[0, 3] @ direction) < 1e-5


def test_own_graphs_of_a_model_run_with_its_weights(model):
    graph = vt.rewrite(model.build_for(TEXAS), "blocks.1.hook_mlp_out", lambda x: x * 0.0)
    zeroed = model.run(TEXAS, edits=vt.zero("blocks.1.hook_mlp_out")).logits
    np.testing.assert_array_equal(model.run_graph(graph, TEXAS, outputs="logits")["logits"], zeroed)
    plan = vt.compile(graph, "logits")
    np.testing.assert_allclose(plan.run(model.feeds(graph, TEXAS), model.parameters)["logits"], zeroed, atol=1e-4)
    changed = model.with_rewrite("blocks.1.hook_mlp_out", lambda x: x * 0.0)
    np.testing.assert_array_equal(changed.run(TEXAS).logits, zeroed)
    np.testing.assert_array_equal(model.run(TEXAS).logits, vt.load().run(TEXAS).logits)  # the first one is as it was
    edited = vt.intervene(model.build_for(TEXAS), vt.zero("blocks.1.hook_mlp_out"))
    np.testing.assert_array_equal(
        model.run_graph(edited, TEXAS, outputs="logits", edits=vt.zero("blocks.1.hook_mlp_out"))["logits"], zeroed
    )
    with_gradients = vt.gradient(model.build_for(TEXAS), vt.logit(5), sites="blocks.0.hook_resid_pre")
    kept = vt.recompute(with_gradients, "blocks.*.hook_resid_pre")
    assert len(kept) > len(with_gradients)


def test_sweeps_equal_loops(model):
    metric = vt.logit_diff(model.token(" Austin"), model.token(" Sacramento"))
    clean = model.run(TEXAS, "blocks.*.attn.hook_z,blocks.*.hook_resid_pre")
    worlds = [vt.from_run(f"blocks.{layer}.attn.hook_z", clean, head=head) for layer in range(6) for head in range(4)]
    swept = model.sweep(CALIFORNIA, worlds, metric)
    loop = [model.run(CALIFORNIA, edits=w, metric=metric)["logit_diff"] for w in worlds]
    np.testing.assert_allclose(swept.values, loop, atol=1e-4)
    assert (
        swept.axes == ["world"]
        and "sweep" in swept.explain()
        and abs(swept.base + 13.475) < 1e-2
        and "Sweep" in repr(swept)
    )
    grid = model.grid(CALIFORNIA, "blocks.*.attn.hook_z", ["head"], clean, metric=metric)
    np.testing.assert_array_equal(grid.values.reshape(-1), swept.values)
    assert grid.axes == ["site", "head"] and grid.sites[5] == "blocks.5.attn.hook_z"
    zeros = model.grid(CALIFORNIA, "blocks.2.attn.hook_z", "head", metric=vt.metric(lambda l: ops.max(l, [1])))
    assert zeros.values.shape == (1, 4)
    with pytest.raises(vt.Error):
        model.grid(CALIFORNIA, "blocks.2.hook_resid_pre", "head", metric=metric)


def test_patch_equals_grid_and_program(model, program, tmp_path):
    found = model.patch(TEXAS, CALIFORNIA, " Austin", " Sacramento", site="resid_pre", by="pos")
    grid = model.grid(
        CALIFORNIA,
        "blocks.*.hook_resid_pre",
        ["pos"],
        model.run(TEXAS, "blocks.*.hook_resid_pre"),
        metric=vt.logit_diff(model.token(" Austin"), model.token(" Sacramento")),
    )
    np.testing.assert_array_equal(found.values, grid.values)
    program(
        "patch",
        "--clean",
        TEXAS,
        "--corrupt",
        CALIFORNIA,
        "--answer",
        " Austin",
        "--wrong",
        " Sacramento",
        "--site",
        "resid_pre",
        "--out",
        tmp_path / "sweep.npz",
    )
    np.testing.assert_array_equal(found.values, np.load(tmp_path / "sweep.npz")["sweep"])


def test_generation(model, said):
    told = said("generate", "--prompt", TEXAS, "--max-tokens", "8", "--temperature", "0.9", "--seed", "5")
    mine = model.generate(TEXAS, 8, temperature=0.9, seed=5)
    assert mine["tokens"] == told["tokens"] and mine["text"] == told["text"]
    seen = []
    model.generate(TEXAS, 8, on_token=lambda t: seen.append(t) or len(seen) < 2)
    assert len(seen) == 2
    with pytest.raises(RuntimeError, match="stop here"):

        def stop(token):
            raise RuntimeError("stop here")

        model.generate(TEXAS, 8, on_token=stop)
    assert (
        model.generate(TEXAS, 3, edits=vt.zero("blocks.0.hook_resid_pre"))["tokens"]
        != model.generate(TEXAS, 3)["tokens"]
    )
    with pytest.raises(vt.UsageError):
        model.generate(TEXAS, 3, temperature=-1.0)
    with pytest.raises(vt.ContextError):
        model.generate(TEXAS, 1000)


def test_models_with_edits_explain_with_them(model):
    edits = vt.zero("blocks.1.attn.hook_z", head=[1, 2], pos=[-1])
    changed = model.with_edits(edits)
    assert len(changed.edits) == 1 and "pos -1" in changed.edits[0] and model.edits == []
    np.testing.assert_array_equal(
        changed.run(TEXAS).logits, model.run(TEXAS, edits=vt.zero("blocks.1.attn.hook_z", head=[1, 2], pos=4)).logits
    )
    by_text = model.predict(TEXAS, edits="zero blocks.1.attn.hook_z head=1,2 pos=-1")
    assert changed.predict(TEXAS).top == by_text.top
    more = changed.predict(TEXAS, edits="zero blocks.5.hook_mlp_out")
    assert len(more.json["meta"]["edits"]) == 2 and more.top != by_text.top
    assert changed.with_edits(vt.zero("blocks.0.hook_mlp_out")).edits[0] == changed.edits[0]
    with pytest.raises(vt.ContextError):
        model.with_edits(vt.zero("blocks.1.attn.hook_z", pos=7)).run(TEXAS)


def test_gauges_keep_the_function(model):
    processed = model.in_gauge("processed")
    assert processed.gauge == "processed" and vt.load(gauge="fold_ln").gauge == "fold_ln"
    a, b = model.run(TEXAS).last_logits, processed.run(TEXAS).last_logits
    np.testing.assert_allclose(a - a.mean(), b - b.mean(), atol=2e-4)
    assert processed.decompose(TEXAS, " Austin").json["meta"]["gauge"] == "processed"
    assert (
        model.decompose(TEXAS, " Austin", gauge="processed").components
        == processed.decompose(TEXAS, " Austin").components
    )
    with pytest.raises(vt.UsageError, match="before it is edited"):
        model.with_edits(vt.zero("blocks.0.hook_mlp_out")).in_gauge("processed")
    np.testing.assert_array_equal(processed.in_gauge("raw").run(TEXAS).logits, model.run(TEXAS).logits)
    with pytest.raises(vt.UsageError):
        model.in_gauge("cooked")


def test_saved_and_made_of_weights(model, tmp_path):
    model.save(tmp_path / "copy")
    loaded = vt.load(tmp_path / "copy")
    np.testing.assert_array_equal(loaded.run(TEXAS).logits, model.run(TEXAS).logits)
    config = (tmp_path / "copy" / "config.json").read_text()
    weights = {name: np.array(array) for name, array in loaded.parameters.items()}
    made = vt.from_weights(config, weights, tokenizer=tmp_path / "copy", name="mine")
    np.testing.assert_array_equal(made.run(TEXAS).logits, model.run(TEXAS).logits)
    assert made.name == "mine" and made.parameters["ln_f.weight"].ctypes.data == weights["ln_f.weight"].ctypes.data
    prefixed = vt.from_weights(config, {"transformer." + n: w for n, w in weights.items()})
    assert not prefixed.has_tokenizer and prefixed.run(model.tokens(TEXAS)).logits.shape == (1, 5, 6000)
    weights.pop("ln_f.bias")
    with pytest.raises(vt.CheckpointError, match="ln_f.bias"):
        vt.from_weights(config, weights)
    with pytest.raises(vt.ConfigError):
        vt.from_weights({"model_type": "unheard-of"}, {})
    for bad, error in [
        ({"name": "/no/such/model"}, vt.FileError),
        ({"dtype": "int32"}, vt.UsageError),
        ({"gauge": "x"}, vt.UsageError),
        ({"weights": "x"}, vt.UsageError),
    ]:
        with pytest.raises(error):
            vt.load(**bad)


def test_pairs_in_memory(model):
    found = model.patch(pairs=PAIRS, site="z", by="head")
    assert found.axes == ("layer", "head") and found.json["pairs"][1]["str_tokens"]["clean"][3] == " Ohio"
    assert len(found.html) > 10_000  # its pairs are still there


def test_sites_are_said_as_everywhere(model):
    run = model.run(TEXAS, ["2.z", "logits"])
    np.testing.assert_array_equal(
        run["blocks.2.attn.hook_z"], model.run(TEXAS, "blocks.2.attn.hook_z")["blocks.2.attn.hook_z"]
    )
    assert len(model.run(TEXAS, "z")) == 6
    by_name = model.run(TEXAS, edits=vt.zero("blocks.2.attn.hook_z", head=1, pos=4)).logits
    np.testing.assert_array_equal(model.run(TEXAS, edits=vt.zero("2.1.z", pos=-1)).logits, by_name)
    every = model.run(TEXAS, edits=[vt.zero(f"blocks.{layer}.hook_mlp_out", pos=-1) for layer in range(6)]).logits
    np.testing.assert_array_equal(model.run(TEXAS, edits=vt.zero("blocks.*.hook_mlp_out", pos=-1)).logits, every)
    two = model.run([TEXAS, "Paris"], edits=vt.zero("1.mlp_out", pos=-1))
    np.testing.assert_allclose(
        two.last_logits[1], model.run("Paris", edits=vt.zero("1.mlp_out", pos=-1)).last_logits[0], atol=1e-4
    )
    recorded = model.run(CALIFORNIA, "1.z")
    np.testing.assert_array_equal(
        model.run(TEXAS, edits=vt.from_run("1.z", recorded)).logits,
        model.run(TEXAS, edits=vt.from_run("blocks.1.attn.hook_z", recorded)).logits,
    )
    assert model.with_edits(vt.zero("2.1.z")).edits == model.with_edits(vt.zero("blocks.2.attn.hook_z", head=1)).edits
    with pytest.raises(vt.UsageError, match="head"):
        model.run(TEXAS, edits=vt.zero("2.1.z", head=3))
    with pytest.raises(vt.ContextError, match="tokens"):
        model.run([TEXAS, "Paris"], edits=vt.zero("1.mlp_out", pos=-3))
    with pytest.raises(vt.GraphError, match="logits"):
        model.run(TEXAS, "2.z").last_logits


def test_a_metric_of_ones_own_graph_is_fed(model):
    metric = vt.logit_diff([model.token(" Austin")], [model.token(" Sacramento")])
    assert sorted(metric.feeds) == ["logit_diff.answer", "logit_diff.wrong"]
    graph = vt.gradient(model.build_for(TEXAS), metric, sites="2.z")
    run = model.run_graph(graph, TEXAS, gradients="2.z", outputs="logit_diff", metric=metric)
    whole = model.run(TEXAS, metric=metric, gradients="2.z")
    np.testing.assert_array_equal(run.grad("blocks.2.attn.hook_z"), whole.grad("blocks.2.attn.hook_z"))


def test_weights_have_transformer_lens_names(model):
    q, o = model.weight("blocks.1.attn.W_Q"), model.weight("blocks.1.attn.W_O")
    assert q.shape == (4, 256, 64) and o.shape == (4, 64, 256) and model.weight("blocks.1.attn.b_K").shape == (4, 64)
    assert model.weight("embed.W_E").shape == (6000, 256) and model.weight("unembed.W_U").shape == (256, 6000)
    run = model.run(TEXAS, ["1.z", "blocks.1.hook_attn_out", "blocks.1.ln1.hook_normalized"])
    out = np.einsum("bphe,hed->bpd", run["blocks.1.attn.hook_z"], o) + model.weight("blocks.1.attn.b_O")
    np.testing.assert_allclose(out, run["blocks.1.hook_attn_out"], atol=1e-4)
    with pytest.raises(vt.UsageError, match="W_Q"):
        model.weight("blocks.1.attn.W_q")


def test_results_without_a_table_are_summed_up(model):
    text = str(
        vt.Result(
            "anything",
            {
                "json": '{"meta": {}, "long": [1, 2, 3, 4], "short": [1], "word": "x"}',
                "text": None,
                "page": "",
                "tensors": {},
                "axes": {},
                "places": {},
            },
        )
    )
    assert "long: 4, the first 1" in text and "word: x" in text and len(text.splitlines()) == 4
