"""Builds the documentation as one site: guides, lessons, the Python guide, and the references of verbs, ops, sites, terms, Python and C++.

    python apps/docs/site.py --program build/release/apps/vitrine --headers build/release/include/vitrine
                             --package build/release/apps/python --out build/docs

Needs Doxygen, MkDocs and NumPy. The texts are those of the checkout; what is said of words comes from the program, of Python from the
package, of C++ from the public headers. Nothing is fetched, neither now nor by a reader. The site opens from a disk.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from api import Reference, read_entities, run_doxygen  # noqa: E402
from check import broken_links, search_index  # noqa: E402
from words import Words, slug  # noqa: E402

GUIDES = [  # in the order of the navigation
    ("Overview", "README.md"),
    ("The command line", "apps/README.md"),
    ("Tensors", "tensor/README.md"),
    ("The graph", "autograd/README.md"),
    ("Models", "nn/README.md"),
    ("Interpretability", "interp/README.md"),
    ("Sparse autoencoders", "sae/README.md"),
    ("The default model", "apps/model/README.md"),
    ("Its autoencoders", "apps/model/sae/README.md"),
    ("How it was trained", "apps/recipe/README.md"),
    ("Benchmarks", "bench/README.md"),
    ("Tests", "tests/README.md"),
    ("Working on Vitrine", "HACKING.md"),
    ("Changes", "CHANGELOG.md"),
]
PYTHON = "apps/python/docs"
PICTURES = {".png", ".svg", ".jpg"}
# The first heading of a Markdown file is its title.
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def page_of(path):
    """The page of a Markdown file: README.md of a folder is its index."""
    path = pathlib.PurePosixPath(path)
    return str(path.with_name("index.md") if path.name == "README.md" else path)


class Site:
    """Pages of Markdown in a folder, with the layout of the checkout, and their navigation."""

    def __init__(self, work, headers, entries):
        self.pages = work / "pages"
        shutil.rmtree(self.pages, ignore_errors=True)
        self.headers, self.entries = set(headers), entries
        self.texts = {}  # of the checkout, by path: those that are pages
        self.sources = set()  # other files that pages refer to, which become pages

    # ---- where things are ---------------------------------------------------------------------------
    def address(self, path):
        """The page of a file of the checkout, 'op:NAME' or 'python:NAME', from the root of the site; None where there is none."""
        if path.startswith("op:"):
            return f"reference/ops.html#{path[3:]}"
        if path.startswith("python:"):
            return f"{PYTHON}/reference.html#{path[7:]}"
        if path in self.texts:
            return page_of(path)[:-3] + ".html"
        if path in self.headers:
            return Reference.page(path)
        if f"{path}/README.md" in self.texts:
            return page_of(f"{path}/README.md")[:-3] + ".html"
        if (ROOT / path).is_dir() and path not in (".", ""):
            self.sources.add(path)
            return f"source/{path}/index.html"
        if (ROOT / path).is_file():
            self.sources.add(path)
            return f"source/{path}.html"
        return None

    def link_from(self, page):
        """link(path): the address of a file relative to a page."""

        def link(path):
            found = self.address(path)
            return os.path.relpath(found, os.path.dirname(page) or ".") if found else None

        return link

    # ---- pages ----------------------------------------------------------------------------------------
    def write(self, page, text):
        file = self.pages / page
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def _relinked(self, path, text):
        """Links of a text to files: to the pages of these. Pictures are copied."""
        folder, page = os.path.dirname(path), page_of(path)

        def changed(match):
            target, _, anchor = match[2].partition("#")
            if re.match(r"[a-z]+:", match[2]) or not target:
                return match[0]
            wanted = os.path.normpath(os.path.join(folder, target))
            if pathlib.Path(wanted).suffix in PICTURES and (ROOT / wanted).is_file():
                (self.pages / wanted).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / wanted, self.pages / wanted)
                return match[0]
            found = self.address(wanted)
            if found is None:
                raise SystemExit(f"error: {path} refers to {match[2]}, which is not there")
            relative = os.path.relpath(found, os.path.dirname(page) or ".")
            if not found.startswith("api/"):
                relative = relative[:-5] + ".md"
            return match[1] + relative + ("#" + anchor if anchor else "") + match[3]

        parts = re.split(r"(^```.*?^```$)", text, flags=re.M | re.S)  # code stays
        return "".join(p if i % 2 else _LINK.sub(changed, p) for i, p in enumerate(parts))

    def add_texts(self, paths):
        for path in paths:
            self.texts[path] = (ROOT / path).read_text(encoding="utf-8")
        for path, text in self.texts.items():
            self.write(page_of(path), self._relinked(path, text))

    def add_words(self):
        def words(page):
            return Words(self.entries, self.link_from(page))

        self.write("reference/verbs.md", words("reference/verbs.md").verbs())
        for verb in words("").of("verb"):
            page = f"reference/verbs/{slug(verb['name'])}.md"
            self.write(page, words(page).verb(verb))
        self.write("reference/ops.md", words("reference/ops.md").ops())
        self.write("reference/sites.md", words("reference/sites.md").sites())
        self.write("reference/glossary.md", words("reference/glossary.md").terms())

    def add_api(self, reference):
        lines = [
            "# C++ headers\n",
            "What `#include <vitrine/FOLDER/NAME.h>` brings; `<vitrine/vitrine.h>` brings all of it.\n",
        ]
        folder = None
        for header in sorted(self.headers, key=lambda h: (_order(h), os.path.dirname(h), h)):
            self.write(f"api/{header[:-2]}.md", reference.markdown(header))
            if os.path.dirname(header) != folder:
                folder = os.path.dirname(header)
                lines.append(f"\n## {folder} {{: #{slug(folder)} }}\n\n| header | what it is |\n|---|---|")
            lines.append(f"| [`{os.path.basename(header)}`]({header[:-2]}.md) | {_cell(reference.summary(header))} |")
        self.write("api/index.md", "\n".join(lines) + "\n")

    def add_sources(self):
        """Files that pages refer to, as they are; of folders what is in them; notebooks as what their cells say."""
        done = set()
        while left := sorted(self.sources - done):  # a folder refers to its files
            for path in left:
                done.add(path)
                if (ROOT / path).is_dir():
                    self.write(f"source/{path}/index.md", self._folder(path))
                elif path.endswith(".ipynb"):
                    self.write(f"source/{path}.md", _notebook(path))
                else:
                    self.write(f"source/{path}.md", _source(path))

    def _folder(self, path):
        link = self.link_from(f"source/{path}/index.html")
        names = sorted(p.name for p in (ROOT / path).iterdir() if p.is_file() and not p.name.startswith("."))
        return f"# {path}\n\n" + "".join(f'- <a href="{link(f"{path}/{name}")}">{name}</a>\n' for name in names)


def _source(path):
    languages = {".cpp": "cpp", ".h": "cpp", ".py": "python", ".sh": "sh", ".json": "json", ".js": "js"}
    text = (ROOT / path).read_text(encoding="utf-8", errors="replace")
    fence = "`" * (1 + max((len(m) for m in re.findall(r"`{3,}", text)), default=2))
    return f"# {path}\n\n{fence}{languages.get(pathlib.Path(path).suffix, 'text')}\n{text.rstrip()}\n{fence}\n"


def _notebook(path):
    """Texts and code of a notebook; what its links lead to is in the checkout, and they become text."""
    parts = [f"# {path}\n"]
    for cell in json.loads((ROOT / path).read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            parts.append(f"```python\n{text}\n```\n")
        else:
            text = re.sub(r"\[([^\]]+)\]\((?![a-z]+:)[^)\s]+\)", r"\1", text)
            parts.append(re.sub(r"^#", "##", text, flags=re.M) + "\n")  # the page has its title
    return "\n".join(parts)


def _order(header):
    return ["tensor", "autograd", "nn", "interp", "sae"].index(header.split("/")[0])


def _cell(text):
    from comments import prose

    return prose(text)


def navigation(site, lessons):
    def api(folder):
        mine = sorted(h for h in site.headers if os.path.dirname(h) == folder)
        return [{os.path.basename(h): f"api/{h[:-2]}.md"} for h in mine]

    folders = sorted({os.path.dirname(h) for h in site.headers}, key=lambda f: (_order(f + "/"), f))
    verbs = [v["name"] for v in site.entries if v["kind"] == "verb"]
    titles = {path: re.search(r"^# (.*)$", site.texts[path], re.M)[1] for path in lessons}
    guide = ["index", "running", "edits", "graphs", "explaining", "saes", "results", "from-transformerlens"]
    nav = [{"Guide": [{title: page_of(path)} for title, path in GUIDES]}]
    if lessons:
        nav.append({"Lessons": [{titles[path]: page_of(path)} for path in lessons]})
    names = {"index": "Quick start", "saes": "SAEs", "from-transformerlens": "From TransformerLens"}
    python = [{"The package": page_of("apps/python/README.md")}]
    python += [{names.get(n, n.capitalize()): f"{PYTHON}/{n}.md"} for n in guide]
    nav.append({"Python": python + [{"Reference": f"{PYTHON}/reference.md"}]})
    nav.append(
        {
            "Words": [
                {"Glossary": "reference/glossary.md"},
                {"Sites": "reference/sites.md"},
                {"Ops": "reference/ops.md"},
                {
                    "Verbs": [{"All verbs": "reference/verbs.md"}]
                    + [{v: f"reference/verbs/{slug(v)}.md"} for v in verbs]
                },
            ]
        }
    )
    nav.append({"C++": [{"All headers": "api/index.md"}] + [{f: api(f)} for f in folders]})
    return nav


def settings(site, lessons, out):
    return {
        "site_name": "Vitrine",
        "docs_dir": str(site.pages),
        "site_dir": str(out),
        "theme": {"name": None, "custom_dir": str(HERE / "theme")},
        "use_directory_urls": False,
        "validation": {
            "omitted_files": "ignore",
            "links": {"anchors": "warn", "unrecognized_links": "warn", "absolute_links": "warn"},
        },
        "markdown_extensions": ["attr_list", "md_in_html", "tables", "fenced_code", {"toc": {"toc_depth": "2-3"}}]
        + [{"codehilite": {"guess_lang": False}}],
        "nav": navigation(site, lessons),
        "plugins": [],
        "hooks": [str(ROOT / PYTHON / "reference.py")],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("program", "headers", "package", "out"):
        parser.add_argument(f"--{name}", required=True, type=pathlib.Path)
    options = parser.parse_args()
    out = options.out.resolve()
    work = out.with_name(out.name + "-work")
    work.mkdir(parents=True, exist_ok=True)

    headers = run_doxygen(options.headers.resolve(), work)
    answer = subprocess.run(
        [str(options.program.resolve()), "explain", "--format", "json"], stdout=subprocess.PIPE, check=True
    )
    site = Site(work, headers, json.loads(answer.stdout)["entries"])
    lessons = ["apps/lessons/README.md"] if (ROOT / "apps/lessons/README.md").is_file() else []
    lessons += sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "apps/lessons").glob("[0-9][0-9]_*.md"))
    python = ["apps/python/README.md"] + sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / PYTHON).glob("*.md"))
    paths = [path for _, path in GUIDES] + lessons + python
    for path in paths:
        site.texts[path] = ""  # all are known before the first is read
    site.add_texts(paths)
    site.add_words()
    formulas = {e["name"]: e["formula"] for e in site.entries if e["kind"] == "op"}
    site.add_api(Reference(*read_entities(work / "xml"), formulas))
    site.add_sources()

    configuration = work / "mkdocs.json"  # JSON is YAML
    configuration.write_text(json.dumps(settings(site, lessons, out)), encoding="utf-8")
    environment = dict(os.environ, PYTHONPATH=str(options.package.resolve()), PYTHONDONTWRITEBYTECODE="1")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--clean", "-f", str(configuration)],
        check=True,
        env=environment,
    )
    (out / "search_index.js").write_text(search_index(out), encoding="utf-8")
    broken = broken_links(out)
    if broken:
        raise SystemExit("error: broken links:\n" + "\n".join(broken))
    print(f"{len(list(out.rglob('*.html')))} pages, every link checked: {out / 'index.html'}")


if __name__ == "__main__":
    main()
