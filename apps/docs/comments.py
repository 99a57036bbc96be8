"""The text of a comment as Markdown: what is indented is code, `names` that the site knows are links, the rest is prose."""

import html
import re

_LIST = re.compile(r"^(- |\d+\. )")


def _escaped(text):
    text = text.replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([*_\[\]#|>+])", r"\\\1", text)


def prose(line, link=None):
    """A line in which Markdown marks nothing but `code`; link(name) is the address of a name, or None."""
    parts = line.split("`")
    if len(parts) % 2 == 0:  # a tick that stands alone
        return _escaped(line).replace("`", "\\`")
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = _escaped(part)
        else:
            to = link(part) if link else None
            code = f"<code>{html.escape(part, quote=False)}</code>"
            parts[i] = f'<a href="{to}">{code}</a>' if to else code
    return "".join(parts)


def _is_cpp(block):
    return any(re.sub(r"//.*", "", line).rstrip().endswith((";", "{")) for line in block)


def as_markdown(text, link=None):
    """Paragraphs, lists and blocks of code, as the comments of the headers are written (see HACKING.md)."""
    out, block, in_list = [], [], False

    def end_block():
        while block and not block[-1].strip():
            block.pop()
        if block:
            indent = min(len(b) - len(b.lstrip()) for b in block if b.strip())
            out.extend(["", "```cpp" if _is_cpp(block) else "```text", *(b[indent:] for b in block), "```", ""])
        block.clear()

    for line in text.strip("\n").splitlines():
        indented = line.startswith("  ") and not in_list
        if indented or (block and not line.strip()):
            block.append(line)
            continue
        end_block()
        if not line.strip():
            in_list = False
            out.append("")
        elif match := _LIST.match(line):
            if not in_list:
                out.append("")
            in_list = True
            out.append(match[0] + prose(line[len(match[0]) :], link))
        else:
            out.append(("    " if in_list else "") + prose(line.strip(), link))
    end_block()
    return "\n".join(out).strip("\n")


def first_sentence(text):
    """Up to the first full stop that ends one, on one line."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    match = re.match(r"(.*?[^.\s][.:])(\s+[A-Z`]|$)", paragraph)
    return (match[1] if match else paragraph).rstrip(".:")
