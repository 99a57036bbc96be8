#!/usr/bin/env python3
"""Writes the texts that teach the model its skills, the same for the same seed.

    python3 sentences.py texts --prose DATA/prose_gutenberg.jsonl --out DATA
    python3 sentences.py tokens --tokenizer FOLDER --out DATA

`texts` writes capitals.jsonl, gifts.jsonl and repeats.jsonl, {"text": ...} a line. `tokens` writes random token ids for
the vocabulary of a trained tokenizer, {"tokens": [...]} a line, each said twice: tokens_short.jsonl has 2 to 6 of them,
tokens_middle.jsonl 3 to 20 and tokens_long.jsonl 8 to 110.
"""

import argparse
import json
from pathlib import Path
from random import Random

import capitals
import gifts
import repeats

# name, lines, how many tokens are said twice, and at most how many come before
TOKEN_LINES = (("short", 100000, (2, 6), 6), ("middle", 40000, (3, 20), 20), ("long", 40000, (8, 110), 25))


def write(path, key, values):
    """`values` as JSONL; tells how much was written."""
    count = size = 0
    with open(path, "w", encoding="utf-8") as file:
        for value in values:
            count, size = count + 1, size + file.write(json.dumps({key: value}, ensure_ascii=False) + "\n")
    print(f"{path.name}: {count} documents, {size} characters")


def read_texts(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    texts = verbs.add_parser("texts", help="capitals.jsonl, gifts.jsonl, repeats.jsonl")
    texts.add_argument("--prose", type=Path, required=True, help="JSONL that repeats take words and sentences from")
    texts.add_argument("--out", type=Path, required=True, help="folder for the three files")
    texts.add_argument("--rounds", type=int, default=120, help="documents that each place opens, each way (120)")
    tokens = verbs.add_parser("tokens", help="tokens_*.jsonl: random token ids")
    tokens.add_argument("--tokenizer", type=Path, required=True, help="tokenizer folder (vocab.json)")
    tokens.add_argument("--out", type=Path, required=True, help="folder for the three files")
    for verb in (texts, tokens):
        verb.add_argument("--seed", type=int, default=1, help="seed (1)")
    options = parser.parse_args()
    if options.verb == "texts":
        options.out.mkdir(parents=True, exist_ok=True)
        write(options.out / "capitals.jsonl", "text", capitals.documents(Random(options.seed), options.rounds))
        write(options.out / "gifts.jsonl", "text", gifts.documents(Random(options.seed + 1), 30000))
        prose = read_texts(options.prose)
        write(options.out / "repeats.jsonl", "text", repeats.documents(Random(options.seed + 2), 30000, prose))
    else:
        vocabulary = len(json.loads((options.tokenizer / "vocab.json").read_text(encoding="utf-8")))
        for number, (name, count, length, lead) in enumerate(TOKEN_LINES):
            lines = repeats.token_lines(Random(options.seed + 3 + number), count, vocabulary, length, lead)
            write(options.out / f"tokens_{name}.jsonl", "tokens", lines)


if __name__ == "__main__":
    main()
