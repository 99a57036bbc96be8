"""The notebooks, the README and the guide of the Python package: their code runs, and what they claim holds.

pytest tests/apps/python/test_notebooks.py, with PYTHONPATH=build/dev/apps/python, or the package installed.
"""

import ast
import contextlib
import io
import json
import pathlib
import re
import subprocess
import sys

import pytest

import vitrine

APPS = pathlib.Path(__file__).resolve().parents[3] / "apps"
PACKAGE = APPS / "python"
NOTEBOOKS = sorted((PACKAGE / "notebooks").glob("*.ipynb")) + sorted((APPS / "lessons" / "notebooks").glob("*.ipynb"))


@pytest.fixture(autouse=True)
def same_settings():
    yield
    vitrine.settings.__init__()


def run_cell(code, names, where):
    """Runs code as a notebook does, and gives the value of a last expression."""
    tree = ast.parse(code, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, where, "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), where, "eval"), names)


def shown(value):
    """What a notebook shows of it: its text, and its page where it has one."""
    page = getattr(value, "_repr_html_", lambda: None)()
    assert page is None or page.startswith("<iframe")
    return repr(value)


def need_pandas(text):
    if ".to_pandas(" in text:
        pytest.importorskip("pandas")


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebook_runs(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = file.read_text(encoding="utf-8")
    need_pandas(text)
    cells = json.loads(text)["cells"]
    names = {"__name__": "__main__"}
    asserted = 0
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        code = "".join(cell["source"])
        asserted += code.count("assert ")
        with contextlib.redirect_stdout(io.StringIO()):
            value = run_cell(code, names, f"{file.name}, cell {number}")
            if value is not None:
                shown(value)
    assert asserted >= 5, "claims of a notebook are asserted in its code"


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebook_is_small_and_has_no_outputs(file):
    assert file.stat().st_size < 30_000
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None, "clear all outputs before a commit"


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 5


# ---- Markdown: README.md and the guide -----------------------------------------------------------
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.S | re.M)
CELL = re.compile(r"^\| .* \| (`[^|]*) \|$", re.M)  # the last cell of a table's row, where it begins with code
CODE = re.compile(r"`([^`]+)`")
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?%?")


def alike(found, stated):
    """'' if equal line by line, but for the last digit of numbers, in which machines may differ; else what is not.

    A line '...' stands for any lines.
    """
    found = [line.rstrip() for line in found.strip().splitlines()]
    stated = [line.rstrip() for line in stated.strip().splitlines()]
    at = 0
    for line in stated:
        if line == "...":
            at = None
            continue
        places = range(len(found)) if at is None else range(at, at + 1)
        place = next((i for i in places if i < len(found) and same_line(found[i], line)), None)
        if place is None:
            return f"{line!r} is not in\n" + "\n".join(found)
        at = place + 1
    return "" if at is None or at == len(found) else "more is printed:\n" + "\n".join(found[at:])


def same_line(found, stated):
    if NUMBER.sub("#", found) != NUMBER.sub("#", stated):
        return False
    for a, b in zip(NUMBER.findall(found), NUMBER.findall(stated)):
        x, y = float(a.rstrip("%")), float(b.rstrip("%"))
        last_digit = 10.0 ** -len(b.rstrip("%").partition(".")[2])
        if x != y and abs(x - y) > (0 if last_digit == 1 and "%" not in b else 2.01 * last_digit):
            return False
    return True


PAGES = [PACKAGE / "README.md", *sorted((PACKAGE / "docs").glob("*.md"))]


def run_spans(cell, names, where):
    """The code of a table's cell."""
    for code in CODE.findall(cell):
        try:
            run_cell(code, names, where)
        except Exception as error:
            raise AssertionError(f"{where}: {code}: {error}") from error


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
def test_examples_of_the_page_run(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    text = file.read_text(encoding="utf-8")
    need_pandas("".join(block[1] for block in BLOCK.finditer(text)))
    tables = CELL.finditer(text) if file.stem == "from-transformerlens" else []
    for block in sorted([*BLOCK.finditer(text), *tables], key=lambda match: match.start()):
        if block.re is CELL:
            run_spans(block[1], names, f"{file.name}:{text[: block.start()].count(chr(10)) + 1}")
            continue
        line = text[: block.start()].count("\n") + 2
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            value = run_cell("\n" * (line - 1) + block[1], names, file.name)  # errors then name the line of the page
            if value is not None:
                print(shown(value))
        if block[2] is not None:
            assert not (wrong := alike(out.getvalue(), block[2])), f"{file.name}:{line}: {wrong}"


def test_the_guide_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    made = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", PACKAGE / "mkdocs.yml", "-d", tmp_path / "site"],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    page = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    assert "Model.patch" in page and "Zero ablation." in page and "ops.softmax" in page
