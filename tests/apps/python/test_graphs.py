"""Own graphs: builders, ops, gradients, plans; and the ways in which a function given to the library can go wrong."""

import math

import numpy as np
import pytest

import vitrine as vt
from conftest import slope
from vitrine import ops


def value_of(make, **feeds):
    """Runs a graph of float64 inputs: make(builder, *values) gives its output."""
    b = vt.Builder()
    out = make(*[b.input(name, np.shape(x), "float64") for name, x in feeds.items()])
    b.output("y", out)
    arrays = {name: np.asarray(x, np.float64) for name, x in feeds.items()}
    return vt.compile(b.finish(), "y").run(arrays)["y"]


X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])
ELEMENTWISE = {
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "square": np.square,
    "reciprocal": np.reciprocal,
    "exp": np.exp,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "erf": np.vectorize(math.erf),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "gelu_erf": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "detach": lambda x: x,
    "identity": lambda x: x,
    "widen": lambda x: x,
    "transpose": lambda x: x.T,
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "log_softmax": lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True)),
    "argmax": lambda x: x.argmax(-1),
    "sum": np.sum,
    "mean": np.mean,
    "sum_squares": lambda x: np.sum(x * x),
}
POSITIVE = {"sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "log": np.log}
BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "equal": np.equal,
    "less": np.less,
    "less_equal": np.less_equal,
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_unary_ops(name):
    np.testing.assert_allclose(value_of(getattr(ops, name), x=X), ELEMENTWISE[name](X), atol=1e-12)


@pytest.mark.parametrize("name", POSITIVE)
def test_ops_of_what_is_positive(name):
    np.testing.assert_allclose(value_of(getattr(ops, name), x=np.abs(X)), POSITIVE[name](np.abs(X)), atol=1e-12)


@pytest.mark.parametrize("name", BINARY)
def test_binary_ops_broadcast(name):
    y = np.array([0.5, 2.0, -3.0])
    np.testing.assert_allclose(value_of(getattr(ops, name), x=X, y=y), BINARY[name](X, y), atol=1e-12)
    np.testing.assert_allclose(value_of(lambda x: getattr(ops, name)(x, 0.5), x=X), BINARY[name](X, 0.5), atol=1e-12)


def test_operators_are_the_ops():
    y = np.array([1.0, 2.0, 4.0])
    got = value_of(lambda x, y: (2.0 * x + y) / y - (1.0 - -x), x=X, y=y)
    np.testing.assert_allclose(got, (2 * X + y) / y - (1 + X))
    assert value_of(lambda x: x < 0.5, x=X).tolist() == (X < 0.5).tolist()
    assert value_of(lambda x: x >= 0.5, x=X).tolist() == (X >= 0.5).tolist()
    np.testing.assert_allclose(value_of(lambda x: x @ x.T, x=X), X @ X.T)


def test_truth_and_selection():
    low, high = (lambda x: x < -0.5), (lambda x: x > 1.0)
    got = value_of(lambda x: ops.select(ops.logical_or(low(x), high(x)), x, 0.0), x=X)
    np.testing.assert_allclose(got, np.where((X < -0.5) | (X > 1), X, 0))
    got = value_of(
        lambda x: ops.select(ops.logical_and(ops.logical_not(low(x)), ops.logical_not(high(x))), 1.0, x), x=X
    )
    np.testing.assert_allclose(got, np.where((X >= -0.5) & (X <= 1), 1, X))
    np.testing.assert_allclose(value_of(lambda x: ops.softcap(x, 2.0), x=X), 2 * np.tanh(X / 2))


def test_shapes():
    np.testing.assert_allclose(value_of(lambda x: ops.reshape(x, (3, -1)), x=X), X.reshape(3, 2))
    np.testing.assert_allclose(value_of(lambda x: ops.permute(x, (1, 0)), x=X), X.T)
    np.testing.assert_allclose(value_of(lambda x: ops.broadcast_to(x, (4, 2, 3)), x=X), np.broadcast_to(X, (4, 2, 3)))
    np.testing.assert_allclose(value_of(lambda x: ops.slice(x, 1, 0, 3, 2), x=X), X[:, ::2])
    np.testing.assert_allclose(value_of(lambda x: ops.unslice(x, 1, 1, 1, 5), x=X), np.pad(X, ((0, 0), (1, 1))))
    np.testing.assert_allclose(value_of(lambda x: ops.concat([x, x], 0), x=X), np.concatenate([X, X]))
    assert value_of(lambda x: ops.cast(x, "float32"), x=X).dtype == np.float32
    np.testing.assert_allclose(value_of(lambda x: ops.sum(x, [1], keepdims=True), x=X), X.sum(1, keepdims=True))
    np.testing.assert_allclose(value_of(lambda x: ops.mean(x, [0]), x=X), X.mean(0))
    np.testing.assert_allclose(value_of(lambda x: ops.max(x, [1]), x=X), X.max(1))


def test_products_norms_and_lookups():
    w, bias = np.arange(6.0).reshape(3, 2), np.array([1.0, -1.0])
    np.testing.assert_allclose(value_of(ops.linear, x=X, w=w, b=bias), X @ w + bias)
    np.testing.assert_allclose(value_of(ops.matmul, x=X, w=w), X @ w)
    gain, shift = np.array([1.0, 2.0, 0.5]), np.array([0.1, 0.0, -0.1])
    centred = (X - X.mean(-1, keepdims=True)) / np.sqrt(X.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(
        value_of(lambda x, g, b: ops.layer_norm(x, g, b, 1e-5), x=X, g=gain, b=shift),
        centred * gain + shift,
        atol=1e-12,
    )
    rms = X / np.sqrt((X * X).mean(-1, keepdims=True) + 1e-5) * gain
    np.testing.assert_allclose(value_of(lambda x, g: ops.rms_norm(x, g, 1e-5), x=X, g=gain), rms, atol=1e-12)

    b = vt.Builder()
    table, index = b.input("table", (4, 2)), b.input("index", (3,), "int32")
    b.output("rows", ops.gather_rows(table, index))
    b.output("added", ops.scatter_add_rows(ops.gather_rows(table, index), index, 4))
    b.output("picked", ops.pick(table, b.input("column", (4,), "int32")))
    b.output("top", ops.top_mask(table, 1))
    b.output("loss", ops.cross_entropy(table, b.input("target", (4,), "int32")))
    b.output("fused", ops.linear_cross_entropy(table, b.input("w", (5, 2)), b.input("t", (4,), "int32")))
    b.output("dropped", ops.dropout(table, b.input("key", (2,), "int64"), 0.5, 1))
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    run = vt.compile(b.finish(), ["rows", "added", "picked", "top", "loss", "fused", "dropped"]).run(
        {
            "table": values,
            "index": [2, 0, 2],
            "column": [0, 1, 1, 0],
            "target": [1, 1, 0, 0],
            "w": np.ones((5, 2), np.float32),
            "t": [0, 1, 2, 3],
            "key": [3, 4],
        }
    )
    assert run["rows"].tolist() == values[[2, 0, 2]].tolist()
    assert run["added"].tolist() == [[0, 1], [0, 0], [8, 10], [0, 0]]
    assert run["picked"].tolist() == [0, 3, 5, 6]
    assert run["top"].tolist() == [[False, True]] * 4
    np.testing.assert_allclose(run["loss"], [0.31326166, 0.31326166, 1.3132616, 1.3132616], rtol=1e-6)
    np.testing.assert_allclose(run["fused"], np.log(5) * np.ones(4), rtol=1e-5)
    assert set(np.unique(run["dropped"] / np.maximum(values, 1e-9)).round(3)) <= {0.0, 2.0}


def test_attention_is_softmax_of_masked_scores():
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((3, 2, 4)) for _ in range(3))
    b = vt.Builder()
    names = [b.input(n, (3, 2, 4), "float64") for n in "qkv"]
    tables = [b.input("sequence", (3,), "int32"), b.input("position", (3,), "int32"), b.input("keys", (1, 3), "int32")]
    b.output("z", ops.attention(*names, *tables, scale=0.5))
    scores = b.input("scores", (3, 3), "float64")
    b.output("masked", ops.softmax(ops.mask(scores, 0, 1)))
    feeds = {
        "q": q,
        "k": k,
        "v": v,
        "sequence": [0, 0, 0],
        "position": [0, 1, 2],
        "keys": [[0, 1, 2]],
        "scores": np.zeros((3, 3)),
    }
    run = vt.compile(b.finish(), ["z", "masked"]).run(feeds)
    s = np.einsum("qhe,khe->hqk", q, k) * 0.5
    s = np.where(np.tril(np.ones((3, 3), bool)), s, -np.inf)
    p = np.exp(s) / np.exp(s).sum(-1, keepdims=True)
    np.testing.assert_allclose(run["z"], np.einsum("hqk,khe->qhe", p, v), atol=1e-12)
    np.testing.assert_allclose(run["masked"], np.tril(np.ones((3, 3))) / np.arange(1, 4)[:, None])


def test_gradients_equal_finite_differences():
    b = vt.Builder()
    x = b.input("x", (2, 3), "float64")
    hidden = b.site("hidden", ops.tanh(x), ["row", "feature"])
    b.output("loss", ops.sum(ops.square(hidden) * 0.5 + ops.exp(hidden)))
    graph = b.finish()
    both = vt.gradient(graph, "loss", sites="hidden", leaves="x")
    run = vt.compile(both, ["loss"], gradients="hidden", leaf_gradients="x").run({"x": X})
    plan = vt.compile(graph, "loss")
    np.testing.assert_allclose(run.grad("x"), slope(lambda v: plan.run({"x": v})["loss"], X), atol=1e-7)
    np.testing.assert_allclose(run.grad("hidden"), np.tanh(X) + np.exp(np.tanh(X)), atol=1e-12)
    b = vt.Builder()
    b.output("loss", ops.sum(ops.tanh(b.input("x", (2, 3), "float64")) * 3.0))
    frozen = vt.gradient(vt.linearise(b.finish(), activation="detach"), "loss", leaves="x")
    np.testing.assert_allclose(
        vt.compile(frozen, leaf_gradients="x").run({"x": X}).grad("x"), 3 * (1 - np.tanh(X) ** 2)
    )
    with pytest.raises(vt.UsageError, match="sites="):
        vt.gradient(graph, "loss")
    with pytest.raises(vt.UsageError, match="policy"):
        vt.linearise(graph, norm="freeze")


def test_rewrite_intervene_and_what_graphs_say():
    b = vt.Builder()
    b.output("y", b.site("mine.gate", b.input("x", (2, 3)), ["row", "feature"]) * 2.0)
    graph = b.finish()
    assert graph.sites == ["mine.gate"] and graph.outputs == ["y"] and len(graph) == len(graph.node_table())
    assert graph.site_table() == [{"name": "mine.gate", "axes": ("row", "feature"), "shape": (2, 3), "dtype": "f32"}]
    assert "mine.gate" in graph.to_text() and "mine.gate" in graph.to_dot() and "mine.gate" in str(graph)
    assert graph.node_table()[-1]["file"].endswith("test_graphs.py")
    x = X.astype(np.float32)
    doubled = vt.rewrite(graph, "mine.gate", lambda v: v * 3.0)
    assert doubled != graph and graph == graph and graph != "a graph" and hash(graph) == hash(graph)
    np.testing.assert_allclose(vt.compile(doubled, "y").run({"x": x})["y"], 6 * x, rtol=1e-6)
    edits = vt.Interventions(vt.scale("mine.gate", 0.5)).then(vt.zero("mine.gate", feature=1))
    assert vt.Interventions.from_json(edits.to_json()).to_json() == edits.to_json()
    assert len(vt.intervene(graph, edits)) > len(graph)
    plan = vt.compile(vt.Builder(graph).finish(), sites="mine.gate", before="mine.gate")
    run = plan.run({"x": x})
    np.testing.assert_array_equal(run.before("mine.gate"), run["mine.gate"])
    assert plan.graph == graph and plan.stats["steps"] >= 0 and "steps" in plan.explain()
    assert run.axes("mine.gate") == ["row", "feature"] and run.raw("mine.gate").shape == (2, 3)
    assert (
        sorted(run) == sorted(run.keys())
        and len(run) == 2
        and "mine.gate" in run
        and dict(run.items())
        and run.lengths == []
    )


def test_a_builder_goes_on_from_a_graph():
    b = vt.Builder()
    b.output("y", b.site("s", b.input("x", (2,)) + 1.0, ["feature"]))
    more = vt.Builder(b.finish())
    more.output("z", more.get_output("y") * more.at("s"))
    assert more.weight("none") is None
    run = vt.compile(more.finish(), "z").run({"x": [1, 2]})
    assert run["z"].tolist() == [4, 9]


def test_values_die_with_their_graph():
    b = vt.Builder()
    x = b.input("x", (2,))
    b.output("y", x)
    b.finish()
    for use in [
        lambda: x + 1.0,
        lambda: x.shape,
        lambda: ops.relu(x),
        lambda: repr(x),
        lambda: b.input("z", (1,)),
        lambda: b.finish(),
        lambda: x.builder,
    ]:
        with pytest.raises(vt.GraphError, match="finished"):
            use()


def test_a_lent_value_dies_when_the_function_returns(model):
    kept = []
    graph = model.build_for("The capital of Texas is")
    vt.rewrite(graph, "blocks.0.hook_mlp_out", lambda x: kept.append(x) or x * 2.0)
    with pytest.raises(vt.GraphError, match="finished"):
        kept[0] + 1.0
    with pytest.raises(vt.GraphError, match="finish"):
        vt.rewrite(graph, "blocks.0.hook_mlp_out", lambda x: x.builder.finish())


def test_functions_that_go_wrong_raise_and_break_nothing(model):
    graph = model.build_for("The capital of Texas is")
    with pytest.raises(ZeroDivisionError):
        vt.rewrite(graph, "blocks.0.hook_mlp_out", lambda x: 1 / 0)
    with pytest.raises(vt.GraphError, match="nothing"):
        vt.rewrite(graph, "blocks.0.hook_mlp_out", lambda x: None)
    with pytest.raises(vt.ShapeError):
        vt.rewrite(graph, "blocks.0.hook_mlp_out", lambda x: ops.sum(x))
    with pytest.raises(vt.GraphError):
        other = vt.Builder()
        vt.rewrite(graph, "blocks.0.hook_mlp_out", lambda x: other.input("x", (5, 256)))
    with pytest.raises(vt.SiteError, match="did you mean"):
        vt.rewrite(graph, "blocks.0.hook_mlp_outt", lambda x: x)
    with pytest.raises(KeyError):
        model.run("The capital of Texas is", metric=vt.metric(lambda logits: {}["no"]))
    with pytest.raises(vt.GraphError, match="Value"):
        model.run("The capital of Texas is", metric=vt.metric(lambda logits: 3.0))
    assert model.run("The capital of Texas is").logits.shape == (1, 5, 6000)


def test_mistakes_with_values_say_what_to_do():
    b, other = vt.Builder(), vt.Builder()
    x = b.input("x", (2, 3))
    with pytest.raises(vt.ShapeError, match="test_graphs.py"):  # the line of Python
        x @ x
    with pytest.raises(vt.ShapeError, match="constant"):
        x + np.ones(3)
    with pytest.raises(vt.GraphError, match="select"):
        bool(x)
    with pytest.raises(vt.GraphError, match="slice"):
        x[0]
    with pytest.raises(vt.Error):
        x + other.input("x", (2, 3))
    with pytest.raises(vt.GraphError, match="axis 'batches'"):
        b.site("s", x, ["batches", "feature"])
    with pytest.raises(vt.GraphError):
        b.input("x", (3, 3))
    with pytest.raises(vt.ShapeError):
        ops.concat([], 0)
    with pytest.raises(TypeError):
        ops.relu(3.0)
    b.rows(b.input("s", (2,), "int32"), b.input("p", (2,), "int32"), b.input("k", (1, 2), "int32"))
    assert (b.scalar(2.0) * x).ndim == 2 and x.dtype == "f32"
    with pytest.raises(vt.Error):
        vt.compile(b.finish(), "nothing")


def test_own_graphs_are_swept():
    b = vt.Builder()
    x = b.site("early", b.input("x", (1, 3, 4)) * 2.0, ["batch", "pos", "feature"])
    late = b.site("late", x * x, ["batch", "pos", "feature"])
    b.output("score", ops.sum(ops.slice(late, 1, 2, 3)))
    graph = b.finish()
    x = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    plan = vt.compile(graph, "score")
    other = vt.compile(graph, sites="*").run({"x": x + 1})
    grid = vt.grid(graph, "*", ["pos"], other, output="score", feeds={"x": x})
    assert grid.axes == ["site", "pos"] and grid.sites == ["early", "late"] and grid.base == plan.run({"x": x})["score"]
    worlds = [vt.from_run(site, other, pos=p) for site in ("early", "late") for p in range(3)]
    swept = vt.sweep(graph, worlds, "score", feeds={"x": x})
    np.testing.assert_array_equal(grid.values.reshape(-1), swept.values)
    for world, found in zip(worlds, swept.values):
        edited = vt.intervene(graph, world)
        assert vt.compile(edited, "score").run(vt.edit_feeds(edited, world, {"x": x}))["score"] == found
    zeros = vt.grid(graph, "late", ["pos"], output="score", feeds={"x": x})
    assert zeros.values.tolist() == [[zeros.base, zeros.base, 0]]
