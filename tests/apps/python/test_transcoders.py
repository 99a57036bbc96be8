"""Transcoders of all layers from Python: trained, looked at, evaluated, given to the attribution graph."""

import gc
import os

import numpy as np
import pytest

import vitrine as vt

TEXTS = [
    f"The capital of {a} is {b}." for a, b in [("Texas", "Austin"), ("Ohio", "Columbus"), ("France", "Paris")]
] * 80
TEXAS = "The capital of Texas is"
OPTIONS = {"kind": "batchtopk", "features": 64, "k": 6, "vectors": 4000, "batch": 256, "buffer": 2048, "rate": 0.003}


@pytest.fixture(scope="module")
def model():
    return vt.load()


def test_cross_layer(model, tmp_path):
    made = model.train_transcoders(TEXTS, cross_layer=True, **OPTIONS)
    assert made.cross_layer and made.layers == 6 and made.features == 64 and made.width == 256 and made.activation == "jumprelu"
    assert made.sites[5] == ("blocks.5.ln2.hook_normalized", "blocks.5.hook_mlp_out")
    assert len(made.training[0]["last"]["explained_variance_layers"]) == 6
    weights = made.weights(2)
    assert [w.shape for w in weights["W_dec"]] == [(64, 256)] * 4
    x = model.run(TEXAS, "blocks.2.ln2.hook_normalized")["blocks.2.ln2.hook_normalized"]
    h = x @ weights["W_enc"].T + weights["b_enc"]
    np.testing.assert_allclose(made.encode(2, x), np.where(h > weights["threshold"], h, 0), atol=1e-5)
    found = model.transcoders_eval(made, TEXTS, rows=1000)
    assert all(layer["normalised_mse"] < 0.9 for layer in found.layers)
    assert found.model["kl"] > 0
    graph = model.graph(TEXAS, transcoders=made, verify=1, random=0)
    assert graph.closure["largest_error"] < 1e-4 * graph.closure["largest_target"]
    made.save(tmp_path / "half", dtype="float16")
    half = vt.Transcoders.load(tmp_path / "half")
    np.testing.assert_allclose(half.weights(1)["W_enc"], made.weights(1)["W_enc"], atol=1e-3)
    folder = made.folder
    assert os.path.isdir(folder)
    del made, weights
    gc.collect()
    assert not os.path.isdir(folder)


def test_per_layer_and_errors(model, tmp_path):
    made = model.train_transcoders(TEXTS, out=tmp_path / "run", **{**OPTIONS, "vectors": 1000})
    assert not made.cross_layer and made.layers == 6 and "per layer" in repr(made)
    with pytest.raises(vt.ShapeError, match="width 256"):
        made.encode(0, np.zeros((2, 3), np.float32))
    with pytest.raises(vt.UsageError, match="there is no layer 6"):
        made.weights(6)
    with pytest.raises(vt.FileError):
        vt.Transcoders.load("nowhere")
    with pytest.raises(vt.Error, match="gated"):
        model.train_transcoders(TEXTS, cross_layer=True, **{**OPTIONS, "kind": "gated"})
