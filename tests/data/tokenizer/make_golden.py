#!/usr/bin/env python3
"""Makes the golden tokenisations in this folder with HuggingFace tokenizers (0.23).

usage: make_golden.py MODEL_FOLDER     (with vocab.json and merges.txt; writes beside this script)

golden.json      texts and their ids under MODEL_FOLDER's tokenizer
str_tokens.json  some of the texts, each id decoded on its own
classes.json     the code points that the split takes for letters, numbers and spaces, as ranges
added.json       a small tokenizer.json with awkward added tokens, texts, and their ids; and the same
                 with ignore_merges
"""
import json
import pathlib
import random
import sys

from tokenizers import AddedToken, ByteLevelBPETokenizer, Tokenizer, decoders, models, pre_tokenizers

here = pathlib.Path(__file__).parent
model = pathlib.Path(sys.argv[1])
tokenizer = ByteLevelBPETokenizer(str(model / "vocab.json"), str(model / "merges.txt"),
                                  add_prefix_space=False)
random.seed(1729)


def save(name, value):
    lines = ",\n".join(json.dumps(v) for v in value)
    (here / name).write_text(f"[\n{lines}\n]\n")


by_hand = [
    "", " ", "  ", "\n", "\r\n", "\t\tx", " \n ", "\n\n\nx", "x \n\n y", "trailing   ", "   leading",
    "The capital of Texas is", " Austin", "The capital of Texas is Austin.",
    "When Mary and John went to the store, John gave a book to Mary",
    "we're I'm you'd they've he'll it's don't", "WE'RE I'M YOU'D THEY'VE", "''s'' 'tis 's's",
    " 's 't 're", "o'clock rock'n'roll '99", "\u2019s \u2019t", "'\u017f", "x'", "'", "'r", "'l", "'v",
    "3.14159 1,000,000 1e-9 0xFF", "12\u00b2 \u00bd \u2167 \u0664\u0662 \uff11", "a1b2c3", "snake_case camelCase",
    "caf\u00e9 cafe\u0301 na\u00efve \u0130i\u0131", "\u00a0\u00a0nbsp", "a\u00a0b", "a\u3000b", "a\u2003 b", "a \u2003b",
    "a\u200bb \u180e \ufeff", "\u0085\u2028\u2029", "\x1c\x1d\x1e\x1f", "\x00", "\x7f\x80\x9f",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!", "\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\u3053\u3093\u306b\u3061\u306f", "\u0645\u0631\u062d\u0628\u0627", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\U0001f642", "ok \U0001f44d\U0001f3fd!", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1f3\U0001f1f1", "\u2764\ufe0f",
    "\U0001d400\U0001d7d9 \U00020000 \U000323af \U0010ffff \ufffd", "\u1c89\ua7cb\U00010d40",
    "a" * 63, "a" * 64, "a" * 65, "a" * 500, "ab" * 200, "the" * 100, "-" * 100, "=" * 31 + " " * 33,
    "<|endoftext|>", "<|endoftext|> The", "f(x) = {y: [1, 2]}; // why?\n\treturn x->y;",
]


def random_character():
    while True:
        c = random.choice([random.randint(0x20, 0x7e), random.randint(0x20, 0x7e), random.randint(0, 0x24f),
                           random.randint(0x250, 0x2fff), random.randint(0x3000, 0xffff),
                           random.randint(0x10000, 0x323ff), random.randint(0x10000, 0x10ffff)])
        if not 0xd800 <= c < 0xe000:
            return chr(c)


def random_text():
    words = ["the", "Texas", "of", "'s", "n't", "'", " ", "  ", "\n", "\t", "\u00a0", "12", "0", ".", ",", "!?"]
    return "".join(random_character() if random.random() < 0.4 else random.choice(["", " "]) + random.choice(words)
                   for _ in range(random.randint(1, 30)))


texts = by_hand + [random_text() for _ in range(300)]
save("golden.json", [{"text": s, "ids": tokenizer.encode(s).ids} for s in texts])
save("str_tokens.json", [{"text": s, "str_tokens": [tokenizer.decode([i], skip_special_tokens=False)
                                                    for i in tokenizer.encode(s).ids]}
                         for s in by_hand + texts[-20:]])

# A character joins "a" (letter), "1" (number) or "!" (other) to one piece; else it is a space.
split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
ranges = []
for c in range(0x110000):
    if 0xd800 <= c < 0xe000:
        continue
    kind = next((k for k, start in [("L", "a"), ("N", "1"), ("", "!")] if len(split(start + chr(c))) == 1), "S")
    if not kind:
        continue
    if ranges and ranges[-1][1:] == [c - 1, kind]:
        ranges[-1][1] = c
    else:
        ranges.append([c, c, kind])
save("classes.json", ranges)

# All bytes, and merges of which some make words that ignore_merges finds whole and others do not.
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
merges = [("t", "h"), ("th", "e"), ("o", "f"), ("\u0120", "the"), ("e", "n"), ("en", "d"), ("\u0120", "of")]
vocabulary = {c: i for i, c in enumerate(alphabet + [a + b for a, b in merges] + ["then", "\u0120lathe"])}
added = Tokenizer(models.BPE(vocabulary, merges))
added.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
added.decoder = decoders.ByteLevel()
added.add_special_tokens(["<|endoftext|>", "<|end", "  \n"])
added.add_tokens([AddedToken("the", normalized=True), AddedToken("the end", normalized=True),
                  AddedToken("d|", normalized=False), AddedToken("\u00e9t\u00e9", normalized=True),
                  AddedToken("<<", normalized=True)])
added_texts = ["", "<|endoftext|>", "a<|endoftext|>b", "<|endoftext|><|endoftext|>", "<|endof", "<|end|", "the end",
               "the enthe", "then the end.", " the end|", "x  \n y", "x   \n", "\u00e9t\u00e9 \u00e9t", "<<<<<|endoftext|>>>",
               "x  <|endoftext|>  y", "don<|endoftext|>'t", "of the lathe then thenthe"]
without = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
without.pre_tokenizer = added.pre_tokenizer
without.decoder = added.decoder
whole_texts = ["then", " then", "lathe", " lathe", "of the lathe then", "thenthe then"]
(here / "added.json").write_text(json.dumps({
    "tokenizer": json.loads(added.to_str()),
    "cases": [{"text": s, "ids": added.encode(s).ids} for s in added_texts],
    "ignore_merges": json.loads(without.to_str()),
    "ignore_merges_cases": [{"text": s, "ids": without.encode(s).ids} for s in whole_texts],
}, indent=1) + "\n")
