"""The documentation as one site: it builds, its links lead somewhere, and everything is on it."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "apps/docs"))

import check  # noqa: E402
import words  # noqa: E402
from comments import as_markdown, first_sentence  # noqa: E402
from headers import blocks_of, marked  # noqa: E402


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if shutil.which("doxygen") is None:
        pytest.skip("there is no Doxygen")
    pytest.importorskip("mkdocs", reason="there is no MkDocs")
    out = tmp_path_factory.mktemp("docs") / "site"
    built = subprocess.run(
        [sys.executable, str(ROOT / "apps/docs/site.py"), "--program", os.environ["VITRINE_PROGRAM"]]
        + ["--headers", os.environ["VITRINE_HEADERS"], "--package", os.environ["PYTHONPATH"], "--out", str(out)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return out


def entries():
    answer = subprocess.run(
        [os.environ["VITRINE_PROGRAM"], "explain", "--format", "json"], capture_output=True, check=True
    )
    return json.loads(answer.stdout)["entries"]


def test_every_link_leads_somewhere_and_nothing_is_fetched(site):
    assert check.broken_links(site) == []


def test_every_word_has_its_place(site):
    pages = {name: check.Page((site / f"reference/{name}.html").read_text()) for name in ("ops", "sites", "glossary")}
    missing = []
    for entry in entries():
        if entry["kind"] == "verb":
            page = site / f"reference/verbs/{entry['name'].replace(' ', '-')}.html"
            if not page.is_file() or "vitrine " + entry["name"] not in page.read_text():
                missing.append(entry["name"])
        else:
            page = pages[{"op": "ops", "site": "sites", "term": "glossary"}[entry["kind"]]]
            if entry["name"] not in {text.rstrip("¶").strip() for _, _, text in page.headings}:
                missing.append(entry["name"])
    assert missing == []


def test_every_public_header_and_guide_is_there(site):
    umbrella = (pathlib.Path(os.environ["VITRINE_HEADERS"]) / "vitrine.h").read_text()
    headers = [line[18:-3] for line in umbrella.splitlines() if line.startswith('#include "vitrine/')]
    assert len(headers) > 100
    for name in headers:
        assert (site / "api" / f"{name}.html").is_file(), name
    for page in ("index", "autograd/index", "apps/python/docs/reference", "HACKING"):
        assert (site / f"{page}.html").is_file(), page
    for lesson in (ROOT / "apps/lessons").glob("[0-9][0-9]_*.md"):
        assert (site / "apps/lessons" / lesson.stem).with_suffix(".html").is_file(), lesson


def test_folders_and_notebooks_that_texts_refer_to(site):
    notebooks = sorted(p.name for p in (ROOT / "apps/lessons/notebooks").glob("*.ipynb"))
    folder = (site / "source/apps/lessons/notebooks/index.html").read_text()
    assert notebooks and all(f'<a href="{name}.html">{name}</a>' in folder for name in notebooks)
    page = (site / f"source/apps/lessons/notebooks/{notebooks[0]}.html").read_text()
    assert "&quot;cell_type&quot;" not in page and '<div class="codehilite">' in page


def test_a_header_as_a_reader_sees_it(site):
    page = (site / "api/interp/lens.html").read_text()
    assert 'id="interp.logit_lens"' in page
    assert '<a href="../nn/model/model.html#nn.Model">Model</a>' in page
    assert "nostalgebraist 2020" in page and "@verbatim" not in page
    example = page[: page.index('id="interp.Lens"')]
    assert "lens" in example and '<div class="codehilite">' in example  # the example at the head of the header


def test_a_function_without_a_comment_refers_to_the_type_that_has_it(site):
    page = (site / "api/interp/steering.html").read_text()
    assert 'See <a href="#interp.Norms"><code>Norms</code></a>' in page


def test_the_search_knows_names(site):
    text = (site / "search_index.js").read_text()
    rows = json.loads(text[text.index("[") : text.rindex(";")])
    found = {row[0]: row[2] for row in rows}
    assert found["logit_lens"] == "api/interp/lens.html#interp.logit_lens"
    assert found["softmax"].startswith("reference/ops.html#")
    assert all((site / address.split("#")[0]).is_file() for _, _, address in rows)


def test_the_search_in_a_browser(site):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium")
    page = site / "typed.html"  # the front page, and somebody who types
    typed = "<script>addEventListener('load', () => { input.value = 'logit_lens'; show(); });</script></body>"
    page.write_text((site / "index.html").read_text().replace("</body>", typed))
    try:
        done = subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={site.parent / 'profile'}"]
            + ["--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom", page.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        page.unlink()
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    results = done.stdout[done.stdout.index('id="found"') :]
    assert results.index("api/interp/lens.html#interp.logit_lens") < results.index("</ol>")


# ---- parts --------------------------------------------------------------------------------------------
def test_a_link_that_leads_nowhere_is_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#x">to b</a><a href="c.html">to c</a><a href="b.html#y">y</a>')
    (tmp_path / "b.html").write_text(
        '<h2 id="x">x</h2><script src="https://cdn.example/x.js"></script><img src="no.png">'
    )
    assert check.broken_links(tmp_path) == [
        "a.html: c.html: there is no such page",
        "a.html: b.html#y: the page has no such place",
        "b.html: fetches https://cdn.example/x.js",
        "b.html: lacks no.png",
    ]


def test_comments_that_belong_to_declarations_are_marked():
    text = marked(
        "// What the file is.\n#pragma once\n\n// ---- a part ----\nint f(int x);  // twice x\n\n// Alone.\n\nint g();\n"
    )
    assert text.startswith("/**\n@file\n@verbatim\nWhat the file is.\n@endverbatim\n*/\n#pragma once")
    assert "int f(int x); /**<\n@verbatim\ntwice x\n@endverbatim\n*/" in text
    assert "a part" not in text and "Alone" not in text
    assert 'x = "http://a"; /**<' in marked('int y;\nauto x = "http://a";  // an address\n')


def test_declarations_without_a_blank_line_between_them_belong_together():
    text = marked("// First.\n//\n// More.\nstruct A {\n};\nA make();\n\nint b();\n")
    lines, blocks = text.splitlines(), blocks_of(text)
    at = {line: blocks[i + 1] for i, line in enumerate(lines)}
    assert at["struct A {"] == at["A make();"] != at["int b();"]


def test_comments_become_markdown():
    text = as_markdown(
        "Reads x[i] of <file>.\n\n  Lens l = lens(m);\n  l.raw;\n\n  y = x * w\n\n- one\n  more\n- two `a*b`"
    )
    assert "Reads x\\[i\\] of &lt;file&gt;." in text or "Reads x\\[i\\] of &lt;file\\>." in text
    assert "```cpp\nLens l = lens(m);\nl.raw;" in text
    assert "- one\n    more\n- two <code>a*b</code>" in text
    assert first_sentence("What it is: all. Then more.") == "What it is: all"


def test_long_commands_go_on_in_the_next_line():
    long = "vitrine patch --clean 'The capital of Texas is' --corrupt 'The capital of California is' --answer ' Austin'"
    assert words.command(long).split("\n") == [
        "vitrine patch --clean 'The capital of Texas is' \\",
        "  --corrupt 'The capital of California is' --answer ' Austin'",
    ]
    assert words.command("vitrine lens\n  vitrine info") == "vitrine lens\nvitrine info"
