"""Public headers as Doxygen reads them: copies in which the comments that belong to declarations are marked.

Comments here are plain `//` lines: before what they are about, behind it, or at the head of a file. Doxygen wants them marked, and takes
their signs for commands; so each becomes a block of verbatim text, which comes out as it went in.
"""

import pathlib
import re
import shutil

_COMMENT = re.compile(r"^(\s*)//(?!/) ?(.*)$")
_RULE = re.compile(r"^-{3,}")  # // ---- shape ----
_TRAILING = re.compile(r"^((?:[^\"/]|\"(?:[^\"\\]|\\.)*\"|/(?!/))*?\S)(\s*)// ?(.*)$")


def _block(lines, mark):
    text = "\n".join(lines).replace("*/", "* /")
    return f"/**{mark}\n@verbatim\n{text}\n@endverbatim\n*/"


def _without_lint(text):
    return re.sub(r"\s*NOLINT\w*(\([^)]*\))?", "", text).strip()


def _trailing(line):
    """(code, column of the comment, comment) of a line of code with a comment behind it; None of any other."""
    if "//" not in line or _COMMENT.match(line):
        return None
    match = _TRAILING.match(line)
    return (match[1], len(match[1]) + len(match[2]), match[3]) if match else None


def marked(text):
    """The text of a header with its comments marked."""
    lines, out, at = text.splitlines(), [], 0
    if lines and _COMMENT.match(lines[0]):  # what the file is for
        head = []
        while at < len(lines) and (match := _COMMENT.match(lines[at])):
            head.append(match[2])
            at += 1
        out.append(_block(head, "\n@file"))
    while at < len(lines):
        line = lines[at]
        if match := _COMMENT.match(line):
            block = []
            while at < len(lines) and (match := _COMMENT.match(lines[at])):
                if not _RULE.match(match[2]):
                    block.append(_without_lint(match[2]) if "NOLINT" in match[2] else match[2])
                at += 1
            follows = lines[at].strip() if at < len(lines) else ""
            if block and any(block) and follows and not follows.startswith(("}", "#")):
                out.append(_block(block, ""))
        elif found := _trailing(line):
            code, column, comment = found
            comment, at = [_without_lint(comment)], at + 1
            while at < len(lines) and (match := _COMMENT.match(lines[at])) and len(match[1]) == column:
                comment.append(match[2])
                at += 1
            belongs = any(comment) and not comment[0].startswith("namespace ")
            out.append(code + (" " + _block(comment, "<") if belongs else ""))
        else:
            out.append(line)
            at += 1
    return "\n".join(out) + "\n"


def copy_marked(headers, to):
    """Copies the public headers, those that vitrine.h includes; gives their paths within the tree."""
    shutil.rmtree(to, ignore_errors=True)  # a header may have moved since
    text = (pathlib.Path(headers) / "vitrine.h").read_text(encoding="utf-8")
    found = re.findall(r'^#include "vitrine/([^"]+)"$', text, re.M)
    for name in found:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        header = (pathlib.Path(headers) / name).read_text(encoding="utf-8")
        (to / name).write_text(marked(header), encoding="utf-8")
    return found


def blocks_of(text):
    """For each line of a marked header the number of its block: declarations without a blank line between them are one."""
    numbers, block, in_comment = [0], 0, False
    for line in text.splitlines():
        if line.startswith("/**") or line.endswith(("/**", "/**<")):
            in_comment = True
        if line == "*/" or line.startswith("*/"):
            in_comment = False
        if not line.strip() and not in_comment:
            block += 1
        numbers.append(block)
    return numbers
