#!/usr/bin/env python3
"""The texts on which the default SAEs are trained, from those that make_model.sh fetched and generated.

  sae_texts.py --data WORK/data --out mix.jsonl
"""

import argparse
import json
import random

# Characters of each text; about a third is prose, a third capitals.
AMOUNTS = {
    "prose_gutenberg": 2_200_000,
    "prose_speeches": 1_800_000,
    "prose_austen": 800_000,
    "prose_bible": 500_000,
    "prose_wordnet": 700_000,
    "prose_webster": 400_000,
    "capitals": 4_500_000,
    "gifts": 2_000_000,
    "repeats": 1_500_000,
}
LONG, PIECE = 1200, 1000  # a text of LONG characters or more is cut into pieces


def pieces(text, shuffle):
    parts = [text] if len(text) < LONG else [text[i : i + PIECE] for i in range(0, len(text), PIECE)]
    if shuffle:
        random.shuffle(parts)
    return [part.strip().replace("\n", " ") for part in parts]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder with the texts, NAME.jsonl")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    random.seed(1)
    chosen = []
    for name, amount in AMOUNTS.items():
        with open(f"{args.data}/{name}.jsonl") as file:
            texts = [json.loads(line)["text"] for line in file]
        random.shuffle(texts)
        got = 0
        for text in texts:
            for part in pieces(text, name.startswith("prose")):
                if part and got < amount:
                    chosen.append(part)
                    got += len(part)
            if got >= amount:
                break
    random.shuffle(chosen)
    with open(args.out, "w") as out:
        for text in chosen:
            out.write(json.dumps({"text": text}) + "\n")


if __name__ == "__main__":
    main()
