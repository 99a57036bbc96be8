"""The texts of the lessons quote their code by reference; this checks that they quote it as it is.

A region of a source lies between `// [snippet NAME]` and `// [/snippet NAME]`. A text quotes it in a block of C++ whose first line
is `// FILE [NAME]`, FILE being relative to the text. What follows that line must be the region, without the indentation that all of
its lines share.

    python3 apps/lessons/quotes.py            # says which quotes are old; exit code 1 when there are such
    python3 apps/lessons/quotes.py --write    # renews them
"""

import argparse
import pathlib
import re
import sys
import tempfile
import textwrap

BLOCK = re.compile(r"^```cpp\n// (?P<file>\S+) \[(?P<name>[\w-]+)\]\n(?P<code>.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)")
LEAST_LINES, MOST_LINES = 60, 200  # of a lesson's program


def snippets(source):
    """The marked regions of a source by name. Raises ValueError for marks that do not pair up."""
    found, open_name, lines = {}, None, []
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
        mark = re.fullmatch(r"\s*// \[(/?)snippet ([\w-]+)\]", line)
        if not mark:
            lines.append(line)
            continue
        closes, name = bool(mark[1]), mark[2]
        if name != open_name if closes else (open_name is not None or name in found):
            raise ValueError(f"{source}:{number}: the mark [{mark[1]}snippet {name}] does not fit the one before it")
        if closes:
            found[name] = textwrap.dedent("\n".join(lines)).strip("\n") + "\n"
        open_name, lines = None if closes else name, []
    if open_name is not None:
        raise ValueError(f"{source}: [snippet {open_name}] has no end")
    return found


def check_text(text, write):
    """The faults of one Markdown file, as lines to print; with `write`, old quotes are renewed instead."""
    faults, quoted = [], set()
    before = text.read_text(encoding="utf-8")

    def renewed(block):
        where = f"{text}:{before.count(chr(10), 0, block.start()) + 1}"
        source = (text.parent / block["file"]).resolve()
        code = snippets(source).get(block["name"]) if source.is_file() else None
        if code is None:
            faults.append(f"{where}: there is no [snippet {block['name']}] in {block['file']}")
            return block[0]
        quoted.add((source, block["name"]))
        if code != block["code"] and not write:
            faults.append(f"{where}: [{block['name']}] of {block['file']} has changed; renew it by quotes.py --write")
        return f"```cpp\n// {block['file']} [{block['name']}]\n{code}```"

    after = BLOCK.sub(renewed, before)
    if write and after != before:
        text.write_text(after, encoding="utf-8")
    for link in LINK.finditer(before):
        if not (text.parent / link[1]).exists():
            faults.append(f"{text}:{before.count(chr(10), 0, link.start()) + 1}: {link[1]} is not there")
    own = text.with_suffix(".cpp")
    if own.is_file():
        for name in snippets(own):
            if (own.resolve(), name) not in quoted:
                faults.append(f"{own}: [snippet {name}] is quoted nowhere in {text.name}")
    return faults


def check(folder, write):
    faults = []
    contents = (folder / "README.md").read_text(encoding="utf-8")
    for source in sorted(folder.glob("[0-9][0-9]_*.cpp")):
        text, lines = source.with_suffix(".md"), source.read_text(encoding="utf-8").count("\n")
        if not LEAST_LINES <= lines <= MOST_LINES:
            faults.append(f"{source}: {lines} lines; a lesson has {LEAST_LINES} to {MOST_LINES}")
        if not text.is_file():
            faults.append(f"{source}: its text, {text.name}, is not there")
        if f"]({text.name})" not in contents:
            faults.append(f"{folder / 'README.md'}: no link to {text.name}")
    for text in sorted(folder.rglob("*.md")):
        faults += check_text(text, write)
    return faults


def self_test():
    """An old quote, a missing snippet and a missing file are each told, and --write renews the quote."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "README.md").write_text("[one](01_one.md)\n")
        code = "int one() {\n  // [snippet body]\n  return 1;\n  // [/snippet body]\n}\n"
        (folder / "01_one.cpp").write_text(code + "// a line\n" * LEAST_LINES)
        text = folder / "01_one.md"
        text.write_text("Look:\n\n```cpp\n// 01_one.cpp [body]\nreturn 2;\n```\n")
        assert [fault.split(": ", 1)[1][:6] for fault in check(folder, False)] == ["[body]"], check(folder, False)
        assert check(folder, True) == [] and check(folder, False) == []
        assert text.read_text().endswith("[body]\nreturn 1;\n```\n"), text.read_text()
        text.write_text(text.read_text().replace("[body]", "[soul]") + "[a link](02_two.md)\n")
        told = "\n".join(check(folder, False))
        assert "no [snippet soul]" in told and "02_two.md is not there" in told and "[snippet body] is quoted" in told, told
        text.unlink()
        assert "its text, 01_one.md, is not there" in "\n".join(check(folder, False))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--write", action="store_true", help="renew old quotes")
    arguments.add_argument("--self-test", action="store_true", help="check this script on texts that are wrong")
    chosen = arguments.parse_args()
    if chosen.self_test:
        self_test()
        return 0
    try:
        faults = check(pathlib.Path(__file__).resolve().parent, chosen.write)
    except ValueError as fault:
        faults = [str(fault)]
    print("\n".join(faults) if faults else "the texts quote the code as it is")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
