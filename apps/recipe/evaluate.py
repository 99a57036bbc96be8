#!/usr/bin/env python3
"""Measures what a model has learnt, by running the program `vitrine` on it.

    python3 evaluate.py --program build/release/apps/vitrine --model FOLDER --out results.json

Prints a table, writes JSON, and exits with 1 if the model misses a target:

  capitals   greedy continuation gives the whole name: trained phrasings >= 95 %, the held-out phrasing >= 80 %, each
             way round (capitals.py)
  gifts      greedy continuation gives the receiver, for pairs of names never trained: >= 90 %, the giver named first
             and second (gifts.py)
  repeats    uniformly random tokens said twice: the loss on the second half at most half of that on the first
  text       bits per byte of a text that was not trained on: fewer than the model of --beside FOLDER, if there is one

Pass --prepend-bos to put the end-of-text token before every prompt, as at the start of a document.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import capitals
import gifts

HELD_OUT_TEXT = Path(__file__).resolve().parents[2] / "tests" / "data" / "held-out.txt"


class Program:
    """The program with one model: each call is a process of its own."""

    def __init__(self, path, model, bos):
        self.path, self.model, self.bos = path, model, ["--prepend-bos"] if bos else []

    def run(self, *arguments):
        command = [self.path, *arguments, "--model", self.model, "--format", "json", "--quiet", "--threads", "1"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}\nfailed with exit code {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def continuation(self, prompt):
        """What greedy decoding says after `prompt`."""
        return self.run("generate", "--prompt", prompt, "--temperature", "0", "--max-tokens", "12", *self.bos)["text"]

    def loss(self, file):
        """`evaluate` on `file`: {"loss": nats per token, "tokens": how many were predicted, "bits_per_byte"...}."""
        return self.run("evaluate", file)


def says(text, answer):
    """Whether `text` goes on with the whole name `answer`, and with no longer word."""
    return text.startswith(" " + answer) and not text[len(answer) + 1 :][:1].isalpha()


def score(program, jobs, asked):
    """`asked`: [(group, prompt, answer)]. Returns {group: (right, all)} and [what went wrong]."""
    with ThreadPoolExecutor(jobs) as pool:
        texts = list(pool.map(program.continuation, [prompt for _, prompt, _ in asked]))
    counts, wrong = defaultdict(lambda: [0, 0]), []
    for (group, prompt, answer), text in zip(asked, texts):
        counts[group][1] += 1
        if says(text, answer):
            counts[group][0] += 1
        else:
            wrong.append({"group": group, "prompt": prompt, "expected": " " + answer, "said": text})
    return counts, wrong


def capital_questions(random, per_place):
    """Each place with the most common trained phrasing and `per_place` others, and with the held-out one."""
    by_place = defaultdict(list)
    for way, phrasing, prompt, answer in capitals.prompts(held_out=False):
        first = phrasing in (capitals.FORWARD[0][1], capitals.REVERSE[0][1])
        by_place[way, answer].append((not first, random.random(), prompt))
    asked = []
    for (way, answer), prompts in by_place.items():
        asked += [(f"capitals {way}, trained", prompt, answer) for *_, prompt in sorted(prompts)[: per_place + 1]]
    for way, _, prompt, answer in capitals.prompts(held_out=True):
        asked.append((f"capitals {way}, held out", prompt, answer))
    return asked


def losses_of_repeats(program, random, vocabulary, rows=64, length=50):
    """(loss on the first half, loss on the second) in nats per token, of `rows` random sequences said twice."""
    halves = [[random.randrange(1, vocabulary) for _ in range(length)] for _ in range(rows)]
    with tempfile.TemporaryDirectory() as folder:
        sums = []  # nats, and how many tokens
        for name, times in (("once", 1), ("twice", 2)):
            file = Path(folder) / f"{name}.jsonl"
            file.write_text("".join(json.dumps({"tokens": half * times}) + "\n" for half in halves))
            result = program.loss(file)
            sums.append((result["loss"] * result["tokens"], result["tokens"]))
    (first, first_count), (both, both_count) = sums
    return first / first_count, (both - first) / (both_count - first_count)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/release/apps/vitrine", help="the built program")
    parser.add_argument("--model", help="model folder; needed but for --questions")
    parser.add_argument("--beside", help="another model folder, for bits per byte")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    parser.add_argument("--text", type=Path, default=HELD_OUT_TEXT, help="the text for bits per byte")
    parser.add_argument("--prepend-bos", action="store_true", help="the end-of-text token before every prompt")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (2)")
    parser.add_argument("--phrasings", type=int, default=2, help="trained phrasings asked of each place beside one (2)")
    parser.add_argument("--gifts", type=int, default=400, help="how many gifts (400)")
    parser.add_argument("--seed", type=int, default=11, help="chooses what is asked (11)")
    parser.add_argument("--questions", type=Path, help="write what is asked to this file, as JSONL, and run nothing")
    parser.add_argument("--wrong", type=int, default=10, help="wrong answers shown (10)")
    options = parser.parse_args()
    random = Random(options.seed)

    asked = capital_questions(random, options.phrasings)
    asked += [(f"gifts, {order}", prompt, receiver) for order, prompt, receiver, _ in gifts.prompts(random, options.gifts)]
    if options.questions:
        lines = [json.dumps({"group": g, "prompt": p, "answer": a}, ensure_ascii=False) + "\n" for g, p, a in asked]
        options.questions.write_text("".join(lines), encoding="utf-8")
        return
    if not options.model:
        parser.error("there is no model to ask; give --model FOLDER")
    program = Program(options.program, options.model, options.prepend_bos)
    counts, wrong = score(program, options.jobs, asked)
    results, missed = {"model": options.model, "prepend_bos": options.prepend_bos, "right": {}, "wrong": wrong}, []

    def row(name, value, target, met):
        print(f"{name:32}{value:>12}   {target + ('' if met else '   MISSED') if target else ''}".rstrip())
        if not met:
            missed.append(name)

    for group, (right, total) in counts.items():
        least = 0.9 if group.startswith("gifts") else 0.8 if group.endswith("held out") else 0.95
        share = right / total
        results["right"][group] = {"share": share, "right": right, "asked": total, "target": least}
        row(group, f"{100 * share:.1f} %", f"at least {100 * least:.0f} % of {total}", share >= least)
    vocabulary = program.run("info")["config"]["vocabulary"]
    first, second = losses_of_repeats(program, random, vocabulary)
    results["repeats"] = {"first_half": first, "second_half": second}
    row("random tokens, first half", f"{first:.3f}", "", True)
    row("random tokens, second half", f"{second:.3f}", f"at most {first / 2:.3f} nats", second <= first / 2)
    results["bits_per_byte"] = {}
    for model in filter(None, [options.model, options.beside]):
        bits = Program(options.program, model, False).loss(options.text)["bits_per_byte"]
        results["bits_per_byte"][model] = bits
        better = model != options.beside or results["bits_per_byte"][options.model] < bits
        row(f"bits per byte, {Path(model).name}"[:31], f"{bits:.3f}", "" if better else "to be beaten", better)
    for miss in wrong[: options.wrong]:
        print(f"wrong: {miss['prompt']} ->{miss['said'].splitlines()[0] if miss['said'] else ''}"
              f" (expected{miss['expected']})")
    if options.out:
        options.out.write_text(json.dumps(results | {"missed": missed}, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
