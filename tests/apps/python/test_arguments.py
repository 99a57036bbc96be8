"""What calls make of their arguments: answers where they fit, and errors that say what to do where they do not."""

import numpy as np
import pytest

import vitrine as vt

CLEAN, CORRUPT = "The capital of Texas is", "The capital of California is"
QUESTION = (CLEAN, CORRUPT, " Austin", " Sacramento")


@pytest.fixture(scope="module")
def m():
    return vt.load()


def test_ready_sets_are_named_by_their_first_argument(m):
    pairs = m.prompts("capitals", count=3, seed=1)
    assert len(pairs) == 3 and {"clean", "corrupt", "answer", "wrong"} <= pairs[0].keys()
    with pytest.raises(vt.UsageError, match="capitals, ioi"):
        m.prompts("no such set")


def test_prompts_may_be_plain_texts(m):
    assert m.predict(prompts=[CLEAN, CORRUPT]).json["all"]["prompts"] == 2


def test_a_circuit_is_judged_without_being_looked_for(m, tmp_path):
    found = m.circuit(*QUESTION, edges=40, random=0, mib=tmp_path / "circuit.json")
    applied = m.circuit(*QUESTION, apply=tmp_path / "circuit.json", random=0)
    assert applied.faithfulness == pytest.approx(found.faithfulness, abs=1e-6)


def test_attention_is_of_the_first_layer_unless_one_is_named(m):
    assert np.array_equal(m.attention(CLEAN).values, m.attention(CLEAN, layer=0).values)
    assert not np.array_equal(m.attention(CLEAN).values, m.attention(CLEAN, layer=1).values)


@pytest.mark.parametrize("edits", ["zero 1.z", ["zero 1.z"]])
def test_edits_as_text_are_refused_where_values_are_wanted(m, edits):
    metric = vt.logit(m.token(" Austin"))
    for call in [
        lambda: m.run(CLEAN, edits=edits),
        lambda: m.generate(CLEAN, 1, edits=edits),
        lambda: m.with_edits(edits),
        lambda: m.sweep(CLEAN, [edits], metric),
        lambda: m.run_graph(m.build_for(CLEAN), CLEAN, edits=edits),
    ]:
        with pytest.raises(vt.UsageError, match="vitrine.zero"):
            call()


def test_weights_have_transformer_lens_names_and_shapes(m):
    c, file = m.config, m.parameters
    heads, width = c["heads"], c["d_head"]
    joined = file["h.1.attn.c_attn.weight"]
    for i, name in enumerate("QKV"):
        w = m.weight(f"blocks.1.attn.W_{name}")
        assert w.shape == (heads, c["d_model"], width)
        begin = i * c["d_model"] + 2 * width
        assert np.allclose(w[2], joined[:, begin : begin + width])
        assert m.weight(f"blocks.1.attn.b_{name}").shape == (heads, width)
    assert np.allclose(m.weight("blocks.1.attn.W_O")[3], file["h.1.attn.c_proj.weight"][3 * width :])
    assert np.allclose(m.weight("unembed.W_U"), file["wte.weight"].T)
    assert np.allclose(m.weight("blocks.0.mlp.W_in"), file["h.0.mlp.c_fc.weight"])
    with pytest.raises(vt.UsageError, match="embed.W_E"):
        m.weight("W_E")


def test_tables_of_results_with_several_arrays(m):
    pytest.importorskip("pandas")
    parts = m.decompose(CLEAN, " Austin")
    assert parts.to_pandas()["value"].sum() == pytest.approx(parts.logit, abs=1e-3)
    assert list(parts.to_pandas("components").columns)[:2] == ["name", "value"]
    assert len(parts.to_pandas("neurons")) == m.config["layers"] * m.config["d_mlp"]
    with pytest.raises(vt.UsageError, match="components"):
        parts.to_pandas("no such table")
