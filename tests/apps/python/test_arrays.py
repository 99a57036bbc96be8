"""Arrays cross without a copy, in both directions, and none outlives its memory."""

import gc

import numpy as np
import pytest

import vitrine as vt


def identity_plan(shape, dtype="float32"):
    b = vt.Builder()
    x = b.input("x", shape, dtype)
    b.output("y", vt.ops.identity(x))
    b.output("double", x + x if "int" not in dtype and dtype != "bool" else vt.ops.identity(x))
    return vt.compile(b.finish(), ["y", "double"])


def test_a_fetched_activation_is_the_runs_own_memory(model):
    run = model.run("The capital of Texas is", "blocks.2.attn.hook_pattern")
    first, second = run["blocks.2.attn.hook_pattern"], run["blocks.2.attn.hook_pattern"]
    assert first.ctypes.data == second.ctypes.data  # no copy was made for either
    assert first.shape == (1, 4, 5, 5) and first.dtype == np.float32
    np.testing.assert_allclose(first.sum(-1), 1, atol=1e-6)


def test_a_hundred_megabytes_are_fetched_without_a_copy():
    b = vt.Builder()
    b.output("y", vt.ops.broadcast_to(b.input("x", (1,)), (25_000_000,)) + 1.0)
    results = vt.compile(b.finish(), "y").run({"x": np.ones(1, np.float32)})
    assert results["y"].nbytes == 100_000_000
    assert results["y"].ctypes.data == results["y"].ctypes.data
    assert results["y"][-1] == 2


def test_an_array_keeps_its_memory_when_everything_else_is_gone(model):
    pattern = model.run("The capital of Texas is", "blocks.0.attn.hook_pattern")["blocks.0.attn.hook_pattern"]
    expected = pattern.copy()
    gc.collect()
    for _ in range(5):  # other runs take what memory is free
        model.run("Another prompt of another length, to be sure", "blocks.*.attn.hook_pattern")
    np.testing.assert_array_equal(pattern, expected)


def test_an_array_that_is_freed_is_kept_as_long_as_it_is_needed():
    b = vt.Builder()
    c = b.constant(np.arange(6, dtype=np.float32).reshape(2, 3))  # a temporary
    b.output("y", c * 2.0)
    edit = vt.replace("site", np.full((3,), 7.0, np.float32))
    gc.collect()
    assert vt.compile(b.finish(), "y").run()["y"].tolist() == [[0, 2, 4], [6, 8, 10]]
    assert "site" in repr(edit)


def test_weights_are_read_only_and_shared(model):
    weights = model.parameters
    embedding = weights["wte.weight"]
    assert not embedding.flags.writeable
    with pytest.raises(ValueError):
        embedding[0, 0] = 1
    assert model.parameters["ln_f.weight"].ctypes.data == weights["ln_f.weight"].ctypes.data


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "bool"])
def test_types_cross_both_ways(dtype):
    x = np.array([[1, 0, 3], [0, 5, 6]]).astype(dtype)
    y = identity_plan((2, 3), dtype).run({"x": x})["y"]
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(x, y)


def test_views_lists_and_numbers_are_taken():
    plan = identity_plan((2, 2))
    x = np.arange(16, dtype=np.float32).reshape(4, 4)
    np.testing.assert_array_equal(plan.run({"x": x[::2, 1::2]})["double"], 2 * x[::2, 1::2])
    np.testing.assert_array_equal(plan.run({"x": x[:2, :2].T})["double"], 2 * x[:2, :2].T)
    assert plan.run({"x": [[1, 2], [3, 4]]})["double"].tolist() == [[2, 4], [6, 8]]
    read_only = x[:2, :2].copy()
    read_only.setflags(write=False)
    np.testing.assert_array_equal(plan.run({"x": read_only})["y"], read_only)


def test_what_is_no_array_is_refused():
    plan = identity_plan((2,))
    with pytest.raises(vt.ShapeError, match="complex128"):
        plan.run({"x": np.zeros(2, np.complex128)})
    with pytest.raises(vt.Error):
        plan.run({"x": np.zeros(3, np.float32)})  # another shape
    with pytest.raises(vt.Error):
        plan.run({"x": np.zeros(2, np.float64)})  # another type: arrays are never converted in silence
    with pytest.raises(vt.Error, match="'x'|x"):
        plan.run({})
    with pytest.raises((vt.ShapeError, TypeError, ValueError)):
        plan.run({"x": object()})
    with pytest.raises(vt.ShapeError, match="there is no type"):
        vt.Builder().input("x", (2,), "float8")
    with pytest.raises(vt.ShapeError):
        identity_plan((1,) * 9)


def test_torch_shares_memory_by_dlpack():
    torch = pytest.importorskip("torch")
    plan = identity_plan((2, 3))
    x = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    y = plan.run({"x": x})["double"]
    np.testing.assert_array_equal(y, 2 * x.numpy())
    back = torch.from_dlpack(y)
    assert back.data_ptr() == y.ctypes.data
    of_a_parameter = torch.ones(2, 3, requires_grad=True)
    assert plan.run({"x": of_a_parameter})["double"].tolist() == [[2.0] * 3] * 2


def test_a_leaf_with_an_update_writes_into_the_array():
    b = vt.Builder()
    w = b.parameter("w", (3,))
    b.output("w.next", w - b.input("g", (3,)) * 0.5)
    plan = vt.compile(b.finish(), ["w.next"], updates={"w": "w.next"})
    weights = np.ones(3, np.float32)
    plan.run({"g": np.array([2, 4, 6], np.float32)}, {"w": weights})
    assert weights.tolist() == [0, -1, -2]
    weights.setflags(write=False)
    with pytest.raises(vt.Error):
        plan.run({"g": np.zeros(3, np.float32)}, {"w": weights})
