"""Compiles the code examples of headers and READMEs, without running them.

    python3 tests/snippets/snippets.py --work DIR [--compiler g++] [--include-path DIR:DIR] [FOLDER ...]

An example is a ```cpp block of a README.md, or in a header a block of comment lines that are indented by three spaces or
more, of which at least one ends with a semicolon (tables, formulas and JSON have none). FOLDER.h beside this script
declares the names that the examples of FOLDER assume. All examples of a folder are one source file, each a function in its
header's namespace; those of a README are one function. Errors name the line of the example.
"""

import argparse
import concurrent.futures
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ["README.md", "tensor", "autograd", "nn", "interp", "sae"]


def is_cpp(block):
    return any(re.sub(r"//.*", "", code).rstrip().endswith(";") for _, code in block)


def examples_of_header(lines):
    """Blocks of (line number, code). A paragraph that begins with "- " or "1. " is a list, whose lines are indented too."""
    block, is_list = [], False
    for number, line in enumerate(lines + [""], 1):
        match = re.match(r"\s*//   +(\S.*)", line)
        if match and not is_list:
            block.append((number, match[1]))
            continue
        if is_cpp(block):
            yield block
        block = []
        is_list = bool(match) or bool(re.match(r"\s*// (-|\d+\.) ", line))


def examples_of_readme(lines):
    block, inside = [], False
    for number, line in enumerate(lines, 1):
        if line.startswith("```"):
            inside = line == "```cpp"
        elif inside:
            block.append((number, line))
    if block:
        yield block


def functions_of(path):
    """The includes that the examples of a file ask for, and one function for each example."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix == ".md":
        includes, before, after = "", "using namespace vitrine;", ""
        examples = examples_of_readme(lines)
    else:
        # The last: what stands before it is declared of others.
        namespaces = [m[1] for m in (re.match(r"namespace (\S+) {$", line) for line in lines) if m]
        namespace = namespaces[-1] if namespaces else "vitrine"
        includes, before, after = f'#include "{path.relative_to(ROOT)}"\n', "", "}"
        examples = examples_of_header(lines)
    functions = ""
    for block in examples:
        name = f"example_{re.sub(r'[^a-z0-9]', '_', str(path.relative_to(ROOT)).lower())}_{block[0][0]}"
        functions += f"namespace {namespace} {{\n" if after else ""
        functions += f"void {name}() {{ {before}\n"
        for number, code in block:
            if code.startswith("#include"):
                includes += code + "\n"
            else:
                functions += f'#line {number} "{path}"\n{code}\n'
        functions += f"}}{after}\n\n"
    return (includes, functions) if functions else ("", "")


def source_of(folder):
    """The source file with all examples of a folder, or of one file; and how many files have some."""
    path = ROOT / folder
    files = [path] if path.is_file() else sorted([*path.rglob("*.h"), *path.rglob("README.md")])
    found = [f for f in map(functions_of, files) if f[1]]
    prelude = pathlib.Path(__file__).parent / f"{path.stem}.h"
    includes = "".join(i for i, _ in found) + (f'#include "{prelude}"\n' if path.is_dir() and prelude.exists() else "")
    return includes + "\n" + "".join(f for _, f in found), len(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", required=True, type=pathlib.Path, help="a folder for the source files that are made")
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--include-path", default="", help="folders of headers that Vitrine's include, separated by :")
    parser.add_argument("folders", nargs="*", default=FOLDERS, metavar="FOLDER")
    args = parser.parse_args()
    includes = [f"-I{folder}" for folder in [ROOT, *filter(None, args.include_path.split(":"))]]
    args.work.mkdir(parents=True, exist_ok=True)

    def compile_one(folder):
        source, files = source_of(folder)
        path = args.work / f"{re.sub(r'[^a-z0-9]', '_', folder.lower())}.cpp"
        path.write_text(source, encoding="utf-8")
        done = subprocess.run([args.compiler, "-std=c++20", "-fsyntax-only", "-w", *includes, path], capture_output=True,
                              text=True)
        print(f"{done.stderr}{folder}: examples of {files} files, {'wrong' if done.returncode else 'good'}", flush=True)
        return files > 0 and done.returncode == 0

    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        sys.exit(0 if all(list(pool.map(compile_one, args.folders))) else 1)


main()
