"""Every public name is documented and is used by a test."""

import inspect
import pathlib

import pytest

import vitrine as vt

HERE = pathlib.Path(__file__).parent
TESTS = "\n".join(p.read_text() for p in sorted(HERE.glob("test_*.py")))


def public_of(thing):
    return [name for name in vars(thing) if not name.startswith("_")]


def test_every_name_is_used():
    missing = [name for name in vt.__all__ if name != "ops" and f"vt.{name}" not in TESTS]
    missing += [f"ops.{name}" for name in vt.ops.__all__ if f"ops.{name}" not in TESTS and f'"{name}"' not in TESTS]
    for kind in (
        vt.Model,
        vt.Sae,
        vt.Transcoders,
        vt.Result,
        vt.Builder,
        vt.Value,
        vt.Graph,
        vt.Plan,
        vt.Results,
        vt.Run,
        vt.Sweep,
        vt.Interventions,
        vt.Edit,
        vt.Metric,
    ):
        missing += [f"{kind.__name__}.{name}" for name in public_of(kind) if f".{name}" not in TESTS]
    assert not missing, ", ".join(missing)


@pytest.mark.parametrize("kind", [vt.Model, vt.Sae, vt.Transcoders, vt.Result])
def test_methods_are_documented(kind):
    assert [
        n for n in public_of(kind) if not inspect.getdoc(getattr(kind, n)) and n not in ("name", "has_tokenizer")
    ] == []


def test_what_comes_back_is_what_is_documented(model, tmp_path):
    b = vt.Builder()
    x = b.input("x", (2,))
    assert isinstance(x, vt.Value)
    b.output("y", x)
    graph = b.finish()
    plan = vt.compile(graph, "y")
    metric = vt.logit(5)
    assert isinstance(graph, vt.Graph) and isinstance(plan, vt.Plan) and isinstance(plan.run({"x": [1, 2]}), vt.Results)
    assert (
        isinstance(vt.zero("s"), vt.Edit) and isinstance(metric, vt.Metric) and isinstance(model.run("Paris"), vt.Run)
    )
    assert isinstance(model.sweep("Paris", [vt.zero("blocks.0.hook_mlp_out")], metric), vt.Sweep) and isinstance(
        model.predict("Paris"), vt.Result
    )
    with pytest.raises(vt.SaveError):
        model.patch("Paris", "Rome", 5, 6, site="z", out="/no/such/folder/x.npz")


def test_explain_names_what_python_has():
    found = vt.explain(kind="verb")
    for verb in found.entries:
        if verb["python"] is None:
            continue
        thing = vt
        for name in verb["python"].split("."):
            thing = getattr(thing, name)
        assert callable(thing), verb["python"]
    assert "predict" in str(found)
    with pytest.raises(vt.UsageError, match="logit lens"):
        vt.explain("logit lans")


def test_the_tour(model):
    found = model.tour()
    claims = [claim for step in found.steps for claim in step["claims"]]
    assert len(claims) >= 15 and all(claim["holds"] for claim in claims)


def test_functions_are_documented():
    assert [n for n in vt.__all__ if n != "ops" and not inspect.getdoc(getattr(vt, n))] == []
    assert [n for n in vt.ops.__all__ if not getattr(vt.ops, n).__doc__] == []


def test_errors_are_what_python_calls_them():
    for kind, also in [
        (vt.UsageError, ValueError),
        (vt.ShapeError, ValueError),
        (vt.TokenError, ValueError),
        (vt.ContextError, ValueError),
        (vt.FileError, OSError),
        (vt.SaveError, OSError),
        (vt.SiteError, LookupError),
        (vt.NumericError, ArithmeticError),
        (vt.GraphError, Exception),
        (vt.ConfigError, Exception),
        (vt.CheckpointError, Exception),
    ]:
        assert issubclass(kind, vt.Error) and issubclass(kind, also)
