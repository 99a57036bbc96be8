"""Ends training runs at random moments and lets them go on: the bits must be those of a run that nothing happened to.

    python tests/apps/kill_runs.py --program build/dev/apps/vitrine --count 20 --seed 0

For `train` and `sae train` and each of SIGKILL, SIGTERM and SIGHUP: COUNT runs. A run is ended at a random moment, at any
time between its start and its end, and again when it goes on, until it has had five endings; then it goes on to its end. The
weights, the state and the log must be those of the whole run, and nothing else may be left in its folder.
"""
import argparse
import json
import os
import pathlib
import random
import signal
import struct
import subprocess
import tempfile
import time

QUIET = ["--quiet", "--threads", "1"]


def text(lines):
    draw = random.Random(7)
    known = "the old cat sat on a mat with seven mice and sang".split()
    return "".join(" ".join(draw.choice(known) for _ in range(9)) + f" {draw.randrange(10000)}.\n" for _ in range(lines))


def tensors(file):
    """The data and the metadata of a safetensors file, without what the clock decides."""
    data = file.read_bytes()
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__", {})
    progress = json.loads(metadata.pop("progress", "{}"))
    progress.pop("seconds", None)
    return header, metadata, progress, data[8 + length:]


def log(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for line in lines:
        for field in ("seconds", "tokens_per_second", "vectors_per_second"):
            line.pop(field, None)
    return [line for line in lines if "command" not in line]


def differences(whole, other):
    """What is not as in the folder of the whole run."""
    found = []
    names = lambda folder: sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    if names(whole) != names(other):
        found.append(f"other files: {set(names(whole)) ^ set(names(other))}")
    for name in names(whole):
        if not (other / name).exists():
            continue
        if name.endswith(".safetensors"):
            if tensors(whole / name) != tensors(other / name):
                found.append(name)
        elif name == "log.jsonl":
            if log(whole) != log(other):
                found.append(name)
        elif (whole / name).read_bytes() != (other / name).read_bytes():
            found.append(name)
    return found


class Trial:
    def __init__(self, program, begin, resume, folder):
        self.program, self.begin, self.resume, self.folder = program, begin, resume, folder

    def command(self):
        there = (self.folder / "training.safetensors").exists()
        words = self.resume if there else self.begin + ["--overwrite"]
        return [self.program, *words, "--out", str(self.folder), *QUIET]

    def ended_after(self, seconds, number):
        """Whether the signal came while it ran; its exit code."""
        process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(seconds)
        running = process.poll() is None
        process.send_signal(number)
        message = process.communicate(timeout=120)[1].decode()
        return running, process.returncode, message

    def finish(self):
        done = subprocess.run(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        return done.returncode, done.stderr


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--program", required=True)
    arguments.add_argument("--count", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    a = arguments.parse_args()
    program, draw, faults = str(pathlib.Path(a.program).resolve()), random.Random(a.seed), 0
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        scratch = pathlib.Path(scratch)
        (scratch / "text.txt").write_text(text(300))
        (scratch / "few.txt").write_text(text(40))
        run = lambda *words: subprocess.run([program, *words, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        run("tokenizer", "train", "--data", "text.txt", "--vocabulary", "300", "--out", "tokenizer")
        train = ["train", "--layers", "2", "--width", "16", "--heads", "2", "--context", "16", "--batch-tokens", "64", "--steps",
                 "150", "--data", "text.txt", "--tokenizer", "tokenizer", "--log-every", "1", "--evaluate-every", "1000",
                 "--save-every", "3", "--dropout", "0.1"]
        run(*train[:-2], "--out", "model")
        sae = ["sae", "train", "--model", "model", "--site", "blocks.0.hook_mlp_out", "--data", "few.txt", "--features", "32",
               "--sweep", "k=2,4", "--vectors", "20000", "--batch", "64", "--buffer", "256", "--log-every", "1",
               "--save-every", "0.01"]
        for name, begin, resume in [
                ("train", train, ["train", "--resume", "--log-every", "1", "--evaluate-every", "1000", "--save-every", "3"]),
                ("sae train", sae, ["sae", "train", "--resume", "--log-every", "1", "--save-every", "0.01"])]:
            whole = Trial(program, begin, resume, scratch / f"{begin[0]}-whole")
            start = time.monotonic()
            assert whole.finish()[0] == 0
            seconds = time.monotonic() - start
            for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP):
                hit, bad = 0, 0
                for i in range(a.count):
                    trial = Trial(program, begin, resume, scratch / f"{begin[0]}-{number}-{i}")
                    expected = -number if number == signal.SIGKILL else 130
                    for _ in range(5):
                        running, code, message = trial.ended_after(draw.uniform(0, 0.3 * seconds), number)
                        hit += running
                        # Before it listens, the program ends at once.
                        if code not in (0, expected, -number):
                            bad += 1
                            print(f"{name}, {number.name}, run {i}: exit code {code}: {message}", flush=True)
                    code, message = trial.finish()
                    found = differences(whole.folder, trial.folder) if code == 0 else [f"exit code {code}: {message}"]
                    if found:
                        bad += 1
                        print(f"{name}, {number.name}, run {i}: {found}", flush=True)
                faults += bad
                print(f"{name}, {number.name}: {a.count} runs, {hit} endings, {bad} faults", flush=True)
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main()
