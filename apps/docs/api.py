"""The C++ reference: what Doxygen read from the public headers, as a page of Markdown for each of them."""

import html
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

from comments import as_markdown, first_sentence, prose
from headers import blocks_of, copy_marked

_SETTINGS = """
INPUT = "{inputs}"
RECURSIVE = YES
FILE_PATTERNS = *.h
OUTPUT_DIRECTORY = "{out}"
STRIP_FROM_PATH = "{inputs}"
GENERATE_HTML = NO
GENERATE_LATEX = NO
GENERATE_XML = YES
XML_PROGRAMLISTING = NO
EXTRACT_ALL = YES
EXTRACT_STATIC = YES
ENABLE_PREPROCESSING = NO
MARKDOWN_SUPPORT = NO
AUTOLINK_SUPPORT = NO
SORT_MEMBER_DOCS = NO
QUIET = YES
WARNINGS = YES
WARN_IF_DOC_ERROR = YES
WARN_LOGFILE = "{out}/warnings.txt"
"""


_TYPES = ("struct", "class", "enum", "typedef", "union")


@dataclass
class Entity:
    """A type, function, constant or alias, and the members of a type."""

    kind: str
    name: str  # without vitrine::, dots between: "nn.Model.run"
    declaration: str
    doc: str
    file: str
    line: int
    end: int = 0  # its last line
    members: list = field(default_factory=list)
    anchor: str = ""
    beside: "Entity" = None  # of one without a doc, the one next to it that has it

    @property
    def short(self):
        return self.name.rsplit(".", 1)[-1]


def run_doxygen(headers, work):
    """Reads the tree of public headers; gives the names of the headers. Its warnings are errors."""
    names = copy_marked(headers, work / "headers")
    shutil.rmtree(work / "xml", ignore_errors=True)
    settings = work / "Doxyfile"
    settings.write_text(_SETTINGS.format(inputs=work / "headers", out=work), encoding="utf-8")
    subprocess.run(["doxygen", str(settings)], check=True)
    warnings = (work / "warnings.txt").read_text(encoding="utf-8").strip()
    if warnings:
        raise SystemExit(f"error: Doxygen warns of the public headers:\n{warnings}")
    return names


# ---- reading ------------------------------------------------------------------------------------------
def _text(element):
    return "" if element is None else " ".join("".join(element.itertext()).split())


def _doc(element):
    return "\n\n".join(v.text.strip("\n") for v in element.findall("detaileddescription//verbatim") if v.text)


def _plain_name(qualified):
    return re.sub(r"^vitrine::", "", qualified).replace("::", ".")


def _tidy(code):
    for pattern, by in (
        (r"\s*<\s*", "<"),
        (r"\s+>", ">"),
        (r"\( ", "("),
        (r" ([&*])(?=\w)", r"\1 "),
        (r" ([&*])([,)>])", r"\1\2"),
    ):
        code = re.sub(pattern, by, code)
    code = re.sub(r"\btemplate<", "template <", code)
    return re.sub(r"\b(vitrine::)(?=\w)", "", code)


def _parameters(element):
    listed = element.find("templateparamlist")
    if listed is None:
        return ""
    found = []
    for p in listed.findall("param"):
        name = _text(p.find("declname"))
        found.append(_text(p.find("type")) + (f" {name}" if name else ""))
    return f"template <{', '.join(found)}>\n"


def _wrapped(code, width=92):
    """A long declaration with its parameters below each other."""
    lines = code.split("\n")
    if len(lines[-1]) <= width or "(" not in lines[-1]:
        return code
    head, _, rest = lines[-1].partition("(")
    depth, part, parts = 0, "", []
    for i, c in enumerate(rest):
        if c in "<({[":
            depth += 1
        elif c in ">)}]":
            depth -= 1
        if depth < 0:
            parts.append(part)
            tail = rest[i:]
            break
        if c == "," and depth == 0:
            parts.append(part + ",")
            part = ""
        else:
            part += c
    else:
        return code
    lines[-1] = head + "(\n    " + "\n    ".join(p.strip() for p in parts) + tail
    return "\n".join(lines)


def _declaration(member):
    kind, name = member.get("kind"), _text(member.find("name"))
    if kind == "enum":
        scoped = "enum class" if member.get("strong") == "yes" else "enum"
        return f"{scoped} {name}"
    if kind == "typedef":
        return _tidy(_text(member.find("definition")).replace(_text(member.find("qualifiedname")), name))
    static = "static " if member.get("static") == "yes" and kind == "function" else ""
    code = f"{_text(member.find('type'))} {name}".strip()
    if kind == "function":
        code += re.sub(r"(\w)=([\w{\"'\[.-])", r"\1 = \2", _text(member.find("argsstring")))
    elif kind == "variable":
        code += _text(member.find("argsstring"))
        start = _text(member.find("initializer"))
        code += f" {start}" if start and len(start) < 60 else ""
    return _wrapped(_parameters(member) + static + _tidy(code))


def _end(where):
    return max(int(where.get("line")), int(where.get("bodyend") or -1))


def _member(element):
    where = element.find("location")
    qualified = _text(element.find("qualifiedname")) or _text(element.find("name"))
    entity = Entity(
        element.get("kind"),
        _plain_name(qualified),
        _declaration(element),
        _doc(element),
        where.get("file"),
        int(where.get("line")),
        _end(where),
    )
    for value in element.findall("enumvalue"):
        name = _text(value.find("name"))
        entity.members.append(Entity("value", f"{entity.name}.{name}", name, _doc(value), entity.file, entity.line))
    return entity


def _members(compound):
    for section in compound.findall("sectiondef"):
        for element in section.findall("memberdef"):
            if element.get("prot") == "public" and element.get("kind") != "friend":
                yield _member(element)


def read_entities(xml):
    """({header: what it is for}, [Entity]): types with their members, and what stands in namespaces."""
    about, found = {}, []
    for path in sorted(xml.glob("*.xml")):
        for compound in ElementTree.parse(path).getroot().findall("compounddef"):
            kind, where = compound.get("kind"), compound.find("location")
            if kind == "file":
                about[where.get("file")] = _doc(compound)
            elif kind == "namespace":
                found.extend(_members(compound))
            elif kind in ("struct", "class", "union") and compound.get("prot") == "public":
                name = _plain_name(_text(compound.find("compoundname")))
                bases = ", ".join(f"public {_text(b)}" for b in compound.findall("basecompoundref"))
                code = _parameters(compound) + f"{kind} {name.rsplit('.', 1)[-1]}" + (f" : {bases}" if bases else "")
                members = sorted(_members(compound), key=lambda m: m.line)
                found.append(
                    Entity(
                        kind,
                        name,
                        _tidy(code),
                        _doc(compound),
                        where.get("file"),
                        int(where.get("line")),
                        _end(where),
                        members,
                    )
                )
    found.sort(key=lambda e: (e.file, e.line))
    _find_beside(found, xml.parent / "headers")
    return about, found


def _find_beside(entities, headers):
    """Declarations without a blank line between them belong together, a type and the function that gives it, say: one that has
    no comment is told by the one before it, or else by the one behind."""
    blocks = {file: blocks_of((headers / file).read_text(encoding="utf-8")) for file in {e.file for e in entities}}

    def joined(first, second):
        return first.file == second.file and blocks[first.file][first.end] == blocks[first.file][second.line]

    for before, entity in zip(entities, entities[1:]):
        if not entity.doc and joined(before, entity):
            entity.beside = before if before.doc else before.beside
    for entity, behind in reversed(list(zip(entities, entities[1:]))):
        if not entity.doc and not entity.beside and joined(entity, behind):
            entity.beside = behind if behind.doc else behind.beside


# ---- writing ------------------------------------------------------------------------------------------
class Reference:
    """Pages api/FOLDER/NAME.md for headers, and the addresses of names on them."""

    def __init__(self, about, entities, formulas):
        self.about, self.entities = about, entities
        self.formulas = formulas  # of ops, by name
        self.links, seen = {}, {}
        for top in entities:
            for entity in (top, *top.members):
                count = seen[entity.name] = seen.get(entity.name, 0) + 1
                entity.anchor = entity.name if count == 1 else f"{entity.name}-{count}"
                address = f"{self.page(entity.file)}#{entity.anchor}"
                self.links.setdefault(entity.name, address)
        self.types = {e.short for e in entities if e.kind in _TYPES}
        short = {}  # of types those of types alone, not their constructors
        for top in entities:
            for entity in (top, *top.members):
                if entity.kind in _TYPES or entity.short not in self.types:
                    short.setdefault(entity.short, set()).add(self.links[entity.name])
        self.short = {name: min(found) for name, found in short.items() if len(found) == 1}

    @staticmethod
    def page(header):
        return f"api/{header[:-2]}.html"

    def find(self, name):
        """The address of a name as a text says it: `Model::run`, `logit_lens(...)`; None where that is unclear."""
        name = re.sub(r"\(.*\)$", "", name.strip()).replace("::", ".")
        return self.links.get(name) or (self.short.get(name) if re.fullmatch(r"\w{3,}", name) else None)

    def _relative(self, header):
        folder = os.path.dirname(self.page(header))

        def link(name):
            found = self.find(name)
            return os.path.relpath(found, folder) if found else None

        return link

    def _code(self, declaration, header):
        """As HTML, the types of the library being links."""
        link = self._relative(header)

        def linked(match):
            name = match[0]
            to = link(name) if name in self.types else None
            return f'<a href="{to}">{name}</a>' if to else name

        text = re.sub(r"\b[A-Za-z_]\w*\b(?!;)", linked, html.escape(declaration, quote=False))
        return text.replace("\n", "&#10;")

    def _members_html(self, entity, header):
        rows = ['<dl class="members" markdown="block">']
        for member in entity.members:
            rows.append(f'<dt id="{member.anchor}"><code>{self._code(member.declaration, header)}</code></dt>')
            doc = as_markdown(member.doc, self._relative(header))
            if doc:
                rows += ['<dd markdown="block">', "", doc, "", "</dd>"]
        return "\n".join(rows + ["</dl>"])

    def _doc_of(self, entity, header):
        if entity.doc:
            return as_markdown(entity.doc, self._relative(header))
        if header == "autograd/ops/ops.h" and entity.short in self.formulas:
            ops = os.path.relpath("reference/ops.html", os.path.dirname(self.page(header)))
            return f'{prose("`" + self.formulas[entity.short] + "`")} (<a href="{ops}#{entity.short}">the op</a>)'
        if entity.beside and entity.beside.name != entity.name:
            return f'See <a href="#{entity.beside.anchor}"><code>{entity.beside.short}</code></a>, which comes with it.'
        return ""

    def markdown(self, header):
        """The page of one header."""
        mine = [e for e in self.entities if e.file == header]
        parts = [f"# {header}\n", f"```cpp\n#include <vitrine/{header}>\n```\n"]
        parts.append(as_markdown(self.about.get(header, ""), self._relative(header)) + "\n")
        before = None
        for entity in mine:
            if entity.name != before or entity.kind != "function":  # overloads stand under one heading
                parts.append(f"## {entity.short} {{: #{entity.anchor} }}\n")
                extra = ""
            else:
                extra = f' id="{entity.anchor}"'
            before = entity.name
            scope = ".".join(entity.name.split(".")[:-1]).replace(".", "::")
            where = f'<span class="scope">vitrine{"::" + scope if scope else ""}</span>'
            parts.append(
                f'<pre class="declaration"{extra}>{where}<code>{self._code(entity.declaration, header)}</code></pre>\n'
            )
            parts.append(self._doc_of(entity, header) + "\n")
            if entity.members:
                parts.append(self._members_html(entity, header) + "\n")
        return "\n".join(parts)

    def summary(self, header):
        return first_sentence(self.about.get(header, ""))
