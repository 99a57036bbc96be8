"""The pages of verbs, ops, sites and terms: what `vitrine explain --format json` says of each."""

import html
import re

from comments import prose

_PARTS = (  # of the model, in its order: how the names of sites begin
    ("Before the blocks", lambda n: n in ("hook_embed", "hook_pos_embed")),
    ("The residual stream", lambda n: re.search(r"hook_(resid|attn_out|mlp_out|mlp_in)", n) and "sae" not in n),
    ("Norms", lambda n: re.search(r"\.ln\d", n)),
    ("Attention", lambda n: ".attn." in n or re.search(r"hook_[qkv]_input", n)),
    ("MLP", lambda n: ".mlp." in n),
    ("After the blocks", lambda n: n.startswith(("ln_final", "unembed"))),
    ("A spliced SAE", lambda n: "hook_sae_" in n),
)


def slug(name):
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")


def command(text, width=88):
    """A command for a shell, on as many lines as it takes: it goes on behind an option's value."""
    lines = []
    for line in text.split("\n"):
        line, begin = line.strip(), True
        for part in re.split(r" (?=--)", line):
            if begin or len(lines[-1]) + len(part) + 3 > width:
                if not begin:
                    lines[-1] += " \\"
                lines.append(part if begin else "  " + part)
            else:
                lines[-1] += " " + part
            begin = False
    return "\n".join(lines)


def _code(text):
    return f"<code>{html.escape(text, quote=False)}</code>"


class Words:
    """The entries of `vitrine explain`, and how they refer to other pages: link(path) is the address of a file."""

    def __init__(self, entries, link):
        self.entries, self.link = entries, link

    def of(self, kind):
        return [e for e in self.entries if e["kind"] == kind]

    def _file(self, path, text=None):
        to = self.link(path) if path else None
        code = _code(text or path or "")
        return f'<a href="{to}">{code}</a>' if to else code

    def _table(self, rows):
        rows = [(name, text) for name, text in rows if text]
        cells = "".join(f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in rows)
        return f'<table class="facts">{cells}</table>\n' if rows else ""

    def _lesson(self, entry):
        lesson = entry["lesson"]
        return self._link_text(lesson["file"], lesson["title"]) if lesson else None

    def _link_text(self, path, text):
        to = self.link(path)
        return f'<a href="{to}">{html.escape(text)}</a>' if to else html.escape(text)

    # ---- verbs ----------------------------------------------------------------------------------------
    def verbs(self):
        lines = ["# Verbs\n", "`vitrine VERB [options]`: each in the order of the questions that they answer.\n"]
        lines += ["| verb | what it does |", "|---|---|"]
        for verb in self.of("verb"):
            lines.append(f"| [`{verb['name']}`](verbs/{slug(verb['name'])}.md) | {prose(verb['summary'])} |")
        return "\n".join(lines) + "\n"

    def verb(self, verb):
        python = verb["python"]
        facts = [
            ("in Python", python and self._link_text(f"python:{python}", f"vitrine.{python}")),
            ("in C++", verb["library"] and self._file(verb["library"])),
            ("the verb", self._file(verb["file"])),
            ("lesson", self._lesson(verb)),
        ]
        return (
            f"# vitrine {verb['name']}\n\n{prose(verb['summary'])}\n\n{self._table(facts)}\n"
            f"```sh\n{command(verb['example'])}\n```\n\n## Options\n\n```text\n{verb['help'].rstrip()}\n```\n"
        )

    # ---- ops ------------------------------------------------------------------------------------------
    def ops(self):
        lines = [
            "# Ops\n",
            "All that graphs are made of. `y` is the result, `x` (or `a`, `b`) what it is computed from, `dy` the gradient that arrives, `dx` the one "
            "that is passed on. `vitrine explain OP` says the same, and where the op stands in a model.\n",
        ]
        file = None
        files = list(dict.fromkeys(op["file"] for op in self.of("op")))  # in the order of the table of ops
        for op in sorted(self.of("op"), key=lambda op: files.index(op["file"])):
            if op["file"] != file:
                file = op["file"]
                lines.append(f"## {file.rsplit('/', 1)[-1][:-4].replace('_', ' ')} {{: #file-{slug(file)} }}\n")
            linear = op["linear_in"]
            facts = [
                ("formula", _code(op["formula"])),
                ("is", op["is"] and html.escape(op["is"], quote=False)),
                ("linear in", linear if isinstance(linear, str) else ", ".join(f"input {i}" for i in linear)),
                ("gradient", html.escape(op["gradient"], quote=False)),
                ("expands", "into simpler ops, when what lies inside is asked for" if op["expands"] else None),
                ("defined in", self._file(file)),
                ("lesson", self._lesson(op)),
            ]
            lines.append(f"### {op['name']} {{: #{op['name']} }}\n\n{self._table(facts)}")
        return "\n".join(lines)

    # ---- sites ----------------------------------------------------------------------------------------
    def sites(self):
        lines = [
            "# Sites\n",
            "Named activations, under TransformerLens's names: each can be read, edited and differentiated. Shapes and formulas are those of the model that "
            "comes with the source, for a prompt of ten tokens; L is the layer. `vitrine explain SITE --prompt TEXT` shows what a site holds.\n",
        ]
        left = self.of("site")
        for title, belongs in _PARTS:
            lines.append(f"## {title}\n")
            for site in [s for s in left if belongs(s["name"])]:
                lines.append(self._site(site))
            left = [s for s in left if not belongs(s["name"])]
        if left:
            raise SystemExit(f"error: the page of sites has no place for {left[0]['name']}")
        return "\n".join(lines)

    def _site(self, site):
        here = site["layers"] is not None
        sizes = site["shape"] or [""] * len(site["axes"])
        shape = ", ".join(f"{axis} {size}".strip() for axis, size in zip(site["axes"], sizes))
        where = f"{site['file']}:{site['line']}" if here else None
        facts = [
            ("typed", _code(site["typed"])),
            ("shape", f"[{shape}]"),
            ("formula", site["formula"] and _code(site["formula"])),
            ("weights", ", ".join(_code(w["name"]) for w in site["weights"] or [])),
            (
                "ops",
                ", ".join(
                    f'<a href="{self.link("op:" + o["name"])}">{_code(o["name"])}</a>' for o in site["ops"] or []
                ),
            ),
            (
                "inside",
                site["hidden_in"] and f"the op {_code(site['hidden_in'])}, which is expanded when it is asked for",
            ),
            ("computed in", where and self._file(site["file"], where)),
            ("in C++", site["code"] and _code(site["code"])),
            ("lesson", self._lesson(site)),
        ]
        return f"### {prose(site['name'])} {{: #{slug(site['name'])} }}\n\n{prose(site['summary'] or '')}\n\n{self._table(facts)}"

    # ---- terms ----------------------------------------------------------------------------------------
    def terms(self):
        lines = [
            "# Glossary\n",
            "The words of the field and ours, each with a command that shows it. `vitrine explain WORD` says the same; with `--prompt` the command is about "
            "your prompt.\n",
        ]
        for term in sorted(self.of("term"), key=lambda t: t["name"].lower()):
            others = ", ".join(n for n in term["names"] if n != term["name"])
            facts = [
                ("also", html.escape(others)),
                ("source", term["source"] and html.escape(term["source"], quote=False)),
                ("lesson", self._lesson(term)),
            ]
            shown = f"```sh\n{command(term['command'])}\n```\n" if term["command"] else ""
            lines.append(
                f"## {term['name']} {{: #{slug(term['name'])} }}\n\n{prose(term['summary'])}\n\n{self._table(facts)}\n{shown}"
            )
        return "\n".join(lines)
