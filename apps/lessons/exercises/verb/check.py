"""Checks the exercise "add a verb": does PROGRAM have a verb `nearest` that does what README.md beside this file says?

    python3 apps/lessons/exercises/verb/check.py build/release/apps/vitrine

Exit code 4: not yet. With --any-files it does not look which files have been changed.
"""

import argparse
import json
import math
import pathlib
import struct
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[4]
PROMISED = {
    "apps/verbs/nearest.cpp",
    "apps/verbs/verbs.h",
    "apps/verb_table.cpp",
    "apps/CMakeLists.txt",
    "apps/README.md",
    "tests/apps/verbs/nearest_test.cpp",
    "tests/apps/CMakeLists.txt",
    "CHANGELOG.md",
}


def refuse(what):
    print(f"  ✗ {what}")
    sys.exit(4)


def expect(what, good):
    if not good:
        refuse(what)
    print(f"  ✓ {what}")


def embeddings():
    """The rows of wte.weight of the default model, which is stored in f16."""
    data = (ROOT / "apps/model/model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    name = next(n for n in header if n.endswith("wte.weight"))
    rows, width = header[name]["shape"]
    first = 8 + length + header[name]["data_offsets"][0]
    return [struct.unpack_from(f"<{width}e", data, first + 2 * width * row) for row in range(rows)]


def nearest(table, token, count):
    """The ids with the largest cosine, and the cosines."""

    def norm(x):
        return math.sqrt(sum(v * v for v in x))

    one = table[token]
    cosines = [sum(map(float.__mul__, one, row)) / (norm(one) * norm(row)) for row in table]
    ids = sorted((i for i in range(len(table)) if i != token), key=lambda i: -cosines[i])[:count]
    return ids, [cosines[i] for i in ids]


def check_verb(program):
    def run(*words):
        return subprocess.run([program, "nearest", *words], capture_output=True, text=True)

    shown = run("--help")
    expect("`nearest --help` works", shown.returncode == 0)
    expect("and ends with an example", "vitrine nearest --token" in shown.stdout)
    table = embeddings()
    for word, count in ((" Texas", 5), (" gave", 3)):
        result = run("--token", word, "--top", str(count), "--format", "json")
        expect(f"`--token '{word}' --top {count} --format json` works", result.returncode == 0)
        try:
            told = json.loads(result.stdout)
            token, found = told["token"]["id"], told["nearest"]
            ids, cosines = [n["id"] for n in found], [n["cosine"] for n in found]
            texts = [n["token"] for n in found]
        except (ValueError, KeyError, TypeError) as fault:
            refuse(f"the JSON is not as README.md has it: {fault!r}")
        right, sizes = nearest(table, token, count)
        expect(f"it says {', '.join(map(repr, texts))}: the right tokens, in order", ids == right)
        expect("and their cosines", max(abs(a - b) for a, b in zip(cosines, sizes)) < 1e-4)
    expect("the table names them too", texts[0].strip() in run("--token", " gave", "--top", "3").stdout)
    expect("two tokens are refused with exit code 3", run("--token", " Texas Texas").returncode == 3)
    expect("--top -1 is refused with exit code 2", run("--token", " Texas", "--top", "-1").returncode == 2)


def check_files():
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"], cwd=ROOT, capture_output=True, text=True
    )
    if changed.returncode != 0:
        return print("  (not a git repository: which files you have changed is not looked at)")
    others = {line[3:] for line in changed.stdout.splitlines()} - PROMISED
    expect(f"no other file has been touched{': ' if others else ''}{', '.join(sorted(others))}", not others)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("program", help="the program, build/release/apps/vitrine")
    arguments.add_argument("--any-files", action="store_true", help="do not look which files have been changed")
    chosen = arguments.parse_args()
    check_verb(chosen.program)
    if not chosen.any_files:
        check_files()
    print("\nRight.")


if __name__ == "__main__":
    main()
