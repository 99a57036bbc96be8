"""The guide's reference, made from docstrings while MkDocs builds.

In docs/reference.md a line '::: NAME' becomes what is said of that name of the package.

Of the engine's classes and functions signatures are the first line of the docstring, as nanobind writes them.
"""

import inspect
import re

import vitrine

_ARGUMENT = re.compile(r"^(\w+(?:, \w+)*): ")


def _plain(signature):
    signature = re.sub(r"\b(vitrine\._vitrine|vitrine|collections\.abc)\.", "", signature)
    signature = signature.replace("int | Sequence[int] | None", "index").replace("Sequence[", "list[")
    return signature.replace("(self, ", "(").replace("(self)", "()")


def signature_and_text(thing, name):
    """('zero(site, ...)', what its docstring says)."""
    doc = inspect.getdoc(thing) or ""
    first, _, rest = doc.partition("\n")
    if first.startswith(name.rsplit(".", 1)[-1] + "("):  # nanobind's
        return _plain(first), rest.strip()
    try:
        signature = inspect.signature(thing)
        plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
        signature = signature.replace(parameters=plain, return_annotation=inspect.Signature.empty)
        return name.rsplit(".", 1)[-1] + _plain(str(signature)), doc
    except (TypeError, ValueError):
        return name.rsplit(".", 1)[-1], doc


def _escaped(line):
    """What Markdown would take for marks, outside of backticks."""
    parts = line.replace("<", "&lt;").split("`")
    return "`".join(part if i % 2 else part.replace("*", "\\*") for i, part in enumerate(parts))


def as_markdown(text):
    """A docstring: 'name: what it is' are items of a list, '>>>' code, the rest paragraphs."""
    lines, code = [], False
    for line in text.splitlines():
        is_code = line.startswith((">>>", "..."))
        if is_code != code:
            lines.append("```python" if is_code else "```")
            if not is_code:
                lines.append("")
            code = is_code
        if code:
            lines.append(line[4:])
        elif _ARGUMENT.match(line):
            if lines and lines[-1] and not lines[-1].startswith(("- ", "  ")):
                lines.append("")
            lines.append(_ARGUMENT.sub(r"- **\1**: ", _escaped(line)))
        else:
            lines.append(_escaped(line))
    return "\n".join(lines + ["```"] * code)


def describe(name, level):
    """The Markdown of one name of the package: of a class its public members, too."""
    thing = vitrine
    for part in name.split("."):
        thing = getattr(thing, part)
    heading = "#" * level
    if not inspect.isclass(thing):
        signature, text = signature_and_text(thing, name)
        return f"{heading} {name} {{#{name}}}\n\n```text\n{signature}\n```\n\n{as_markdown(text)}\n"
    parts = [f"{heading} {name} {{#{name}}}\n\n{as_markdown(inspect.getdoc(thing) or '')}\n"]
    for member, value in vars(thing).items():
        if member.startswith("_"):
            continue
        if isinstance(value, property) or not callable(getattr(thing, member)):
            text = (inspect.getdoc(value) or "")
            text = re.sub(r"^\(self\)[^\n]*\n*", "", text)  # nanobind's signature of a property
            parts.append(f"{heading}# {name}.{member} {{#{name}.{member}}}\n\n{as_markdown(text)}\n")
        else:
            signature, text = signature_and_text(getattr(thing, member), member)
            title = f"{heading}# {name}.{member} {{#{name}.{member}}}"
            parts.append(f"{title}\n\n```text\n{signature}\n```\n\n{as_markdown(text)}\n")
    return "\n".join(parts)


def missing(markdown):
    """Public names that the page does not have."""
    shown = {line[4:].split(".")[0] for line in markdown.splitlines() if line.startswith("::: ")}
    return sorted(set(vitrine.__all__) - shown)


def on_page_markdown(markdown, page, config, files):
    if page.file.src_uri.rpartition("docs/")[2] != "reference.md":  # alone, or as a part of apps/docs.sh's site
        return markdown
    left_out = missing(markdown)
    if left_out:
        raise ValueError(f"docs/reference.md lacks ::: lines for {', '.join(left_out)}")
    lines = []
    for line in markdown.splitlines():
        if line == "::: ops":
            lines += [describe(f"ops.{name}", 4) for name in vitrine.ops.__all__]
        else:
            lines.append(describe(line[4:], 3) if line.startswith("::: ") else line)
    return "\n".join(lines)
