"""The texts of the lessons quote their code by reference; this checks that they quote it as it is.

A region of a source lies between `// [snippet NAME]` and `// [/snippet NAME]`. A text quotes it in a block of C++ whose first line
is `// FILE [NAME]`, FILE being relative to the text. What follows that line must be the region, without the indentation that all of
its lines share.

    python3 apps/lessons/quotes.py            # says which quotes are old; exit code 1 when there are such
    python3 apps/lessons/quotes.py --write    # renews them
    python3 apps/lessons/quotes.py --printed FOLDER

The last one checks what texts say that a lesson prints: each block ```text of NN_NAME.md must be lines of FOLDER/NN_NAME.txt, one after the
other, `...` standing for any lines. The last digit of a number may differ, and so the length of its bar: machines round differently.
"""

import argparse
import pathlib
import re
import sys
import tempfile
import textwrap

BLOCK = re.compile(r"^```cpp\n// (?P<file>\S+) \[(?P<name>[\w-]+)\]\n(?P<code>.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)")
PRINTED = re.compile(r"^```text\n(?P<lines>.*?)^```$", re.M | re.S)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
BAR = re.compile(r"[█▏▎▍▌▋▊▉]+$")
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


def alike(found, stated):
    """Whether two lines are equal but for one unit in the last digit of each number, and the lengths of bars."""
    found, stated = BAR.sub("", found.rstrip()).rstrip(), BAR.sub("", stated.rstrip()).rstrip()
    if NUMBER.sub("#", found).split() != NUMBER.sub("#", stated).split():
        return False
    for a, b in zip(NUMBER.findall(found), NUMBER.findall(stated)):
        if abs(float(a) - float(b)) > 1.01 * 10 ** -len(b.partition(".")[2]) * ("." in b):
            return False
    return True


def not_printed(stated, printed):
    """The first of the stated lines that does not come next in what is printed, or None."""
    at, anywhere = 0, True
    for line in stated:
        if line.strip() == "...":
            anywhere = True
            continue
        places = range(at, len(printed)) if anywhere else range(at, min(at + 1, len(printed)))
        place = next((i for i in places if alike(printed[i], line)), None)
        if place is None:
            return line
        at, anywhere = place + 1, False
    return None


def check_printed(folder, printed):
    faults = []
    for text in sorted(folder.glob("[0-9][0-9]_*.md")):
        content, output = text.read_text(encoding="utf-8"), printed / text.with_suffix(".txt").name
        lines = output.read_text(encoding="utf-8").splitlines() if output.is_file() else []
        for block in PRINTED.finditer(content):
            line = not_printed(block["lines"].splitlines(), lines)
            if line is not None:
                where = f"{text}:{content.count(chr(10), 0, block.start()) + 1}"
                faults.append(f"{where}: not printed, or not there: {line!r}")
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
        assert (
            "no [snippet soul]" in told and "02_two.md is not there" in told and "[snippet body] is quoted" in told
        ), told
        assert alike("  a  1.24  ██▎", "  a  1.25  ██") and not alike("  a  1.24  ██", "  a  1.26  ██")
        assert alike("12 ✓", "12 ✓") and not alike("12", "13") and not alike("a 1", "b 1")
        printed = ["one", "two", "three 3.0", "four"]
        assert (
            not_printed(["two", "three 3.1"], printed) is None and not_printed(["one", "...", "four"], printed) is None
        )
        assert not_printed(["one", "four"], printed) == "four" and not_printed(["five"], printed) == "five"
        (folder / "01_one.txt").write_text("\n".join(printed))
        text.write_text("```text\ntwo\nfour\n```\n")
        assert "'four'" in "\n".join(check_printed(folder, folder))
        text.unlink()
        assert "its text, 01_one.md, is not there" in "\n".join(check(folder, False))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--write", action="store_true", help="renew old quotes")
    arguments.add_argument("--self-test", action="store_true", help="check this script on texts that are wrong")
    arguments.add_argument("--printed", type=pathlib.Path, help="a folder with what each lesson printed")
    chosen = arguments.parse_args()
    if chosen.self_test:
        self_test()
        return 0
    here = pathlib.Path(__file__).resolve().parent
    try:
        faults = check_printed(here, chosen.printed) if chosen.printed else check(here, chosen.write)
    except ValueError as fault:
        faults = [str(fault)]
    print("\n".join(faults) if faults else "the texts say what is so")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
