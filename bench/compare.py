"""Prints what the benchmarks measured: our times beside a peer's, the ratio, and whether it meets the target.

  compare.py FILE...            JSON of Google Benchmark (--benchmark_out) and of peers/*.py, in any order; several
                                files with the same work are rounds of one measurement
  compare.py --median FILE...   medians instead of the shortest times

A ratio is the peer's time divided by ours: 2.00x is twice as fast. Targets are in targets.json.
"""

import argparse
import json
import math
import pathlib
import re
import statistics
import sys
from dataclasses import dataclass, field

UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
COUNTERS = ("arena_bytes", "intermediate_bytes", "arena_share", "tokens", "peak_rss_bytes")
TARGETS = pathlib.Path(__file__).with_name("targets.json")


class InputError(Exception):
    pass


# ---- reading ---------------------------------------------------------------------------------------------------------
@dataclass
class Measured:
    seconds: list = field(default_factory=list)
    counters: dict = field(default_factory=dict)  # of several repetitions the largest

    def add(self, seconds, counters):
        self.seconds += seconds
        for name, value in counters.items():
            self.counters[name] = max(value, self.counters.get(name, value))


@dataclass
class Measurements:
    ours: dict = field(default_factory=dict)  # work -> Measured
    peers: dict = field(default_factory=dict)  # (work, peer) -> Measured
    context: dict = field(default_factory=dict)  # what the programs say about themselves


def work_name(run_name):
    """forward/1x16/iterations:1/real_time -> forward/1x16"""
    parts = run_name.split("/")
    return "/".join(p for p in parts if not re.fullmatch(r"[a-z_]+:[0-9.]+s?|(real|manual|process)_time", p))


def owner(work):
    """gemm/openblas/64x768x768 -> gemm/64x768x768 and openblas; the peer is None for our own."""
    parts = work.split("/")
    if parts[0] in ("gemm", "gemm_bt") and len(parts) == 3:
        return f"{parts[0]}/{parts[2]}", None if parts[1] == "vitrine" else parts[1]
    return work, None


def add_google_benchmark(out, report):
    for key in ("threads", "products", "peer_openblas", "model"):
        if key in report.get("context", {}):
            out.context[key] = report["context"][key]
    for run in report["benchmarks"]:
        if run.get("run_type", "iteration") != "iteration":
            continue  # means and medians of the repetitions
        if run.get("error_occurred"):
            raise InputError(f"{run['name']} failed: {run.get('error_message', 'it gives no reason')}")
        work, peer = owner(work_name(run.get("run_name", run["name"])))
        where = out.ours.setdefault(work, Measured()) if peer is None else out.peers.setdefault((work, peer), Measured())
        counters = {name: run[name] for name in COUNTERS if name in run}
        where.add([run["real_time"] * UNITS[run["time_unit"]]], counters)


def add_peer(out, report):
    for entry in report:
        where = out.peers.setdefault((entry["work"], entry["peer"]), Measured())
        where.add(entry["seconds"], {"peak_rss_bytes": entry["peak_rss_bytes"]})
        out.context[entry["peer"]] = f"{entry['version']}, {entry['threads']} threads"


def read(paths):
    out = Measurements()
    for path in paths:
        try:
            report = json.loads(pathlib.Path(path).read_text())
            if isinstance(report, dict):
                add_google_benchmark(out, report)
            else:
                add_peer(out, report)
        except OSError as e:
            raise InputError(f"{path}: {e.strerror}") from e
        except (ValueError, KeyError, TypeError) as e:
            raise InputError(f"{path} is neither JSON of Google Benchmark nor of a peer: {e!r}") from e
    return out


# ---- the verdict -----------------------------------------------------------------------------------------------------
def verdict(value, target, higher_is_better=True, dream=None):
    reaches = (lambda goal: value >= goal) if higher_is_better else (lambda goal: value <= goal)
    if dream is not None and reaches(dream):
        return "yes, the dream too"
    return "yes" if reaches(target) else "no"


def find_target(targets, kind, **keys):
    for target in targets:
        if kind in target and all(target.get(k) == v for k, v in keys.items()):
            return target
    return None


def time_text(seconds):
    if seconds >= 10:
        return f"{seconds:.1f} s"
    if seconds >= 0.1:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} us"


def bytes_text(count):
    return f"{count / 2**20:.0f} MiB"


# ---- tables: each is a list of rows, the first the heading -------------------------------------------------------------
def peer_table(m, targets, best):
    rows = [["work", "ours", "peer", "its time", "ratio", "target", "met"]]
    for (work, peer), theirs in m.peers.items():
        if work not in m.ours or work.startswith("gemm"):
            continue
        ours, other = best(m.ours[work].seconds), best(theirs.seconds)
        target = find_target(targets, "ratio", work=work, peer=peer)
        goal, met = "", ""
        if target:
            dream = target.get("dream")
            goal = f"{target['ratio']:.2f}x" + (f" (dream {dream:.2f}x)" if dream else "")
            met = verdict(other / ours, target["ratio"], dream=dream)
        rows.append([work, time_text(ours), peer, time_text(other), f"{other / ours:.2f}x", goal, met])
    return rows


def alone_table(m, targets, best):
    """Works that no peer was timed on, and those with a target for their time alone."""
    with_peer = {work for work, _ in m.peers}
    rows = [["work", "ours", "target", "met"]]
    for work, measured in m.ours.items():
        target = find_target(targets, "milliseconds", work=work)
        if work.startswith("gemm") or (work in with_peer and not target):
            continue
        seconds = best(measured.seconds)
        goal = f"{target['milliseconds']} ms" if target else ""
        met = verdict(seconds * 1e3, target["milliseconds"], higher_is_better=False) if target else ""
        rows.append([work, time_text(seconds), goal, met])
    return rows


def generation_table(m, best):
    """Tokens per second."""
    rows = [["work", "who", "tokens/s"]]
    for work, measured in m.ours.items():
        if "tokens" not in measured.counters:
            continue
        tokens = measured.counters["tokens"]
        rows.append([work, "ours", f"{tokens / best(measured.seconds):.1f}"])
        for (other, peer), theirs in m.peers.items():
            if other == work:
                rows.append([work, peer, f"{tokens / best(theirs.seconds):.1f}"])
    return rows


def gemm_flops(shape):
    return 2.0 * math.prod(int(size) for size in shape.split("x"))


def gemm_table(m, best):
    peers = sorted({peer for work, peer in m.peers if work.startswith("gemm")})
    rows = [["m x n x k", "B", "ours, GFLOP/s"] + [column for p in peers for column in (f"{p}, GFLOP/s", "ratio")]]
    products = [(*work.split("/"), work) for work in m.ours if work.startswith("gemm")]
    for form, shape, work in sorted(products, key=lambda p: (p[0], -gemm_flops(p[1]))):
        flops, ours = gemm_flops(shape), best(m.ours[work].seconds)
        row = [shape.replace("x", " x "), "[n, k]" if form == "gemm_bt" else "[k, n]", f"{flops / ours / 1e9:.1f}"]
        for peer in peers:
            theirs = m.peers.get((work, peer))
            row += [f"{flops / best(theirs.seconds) / 1e9:.1f}", f"{best(theirs.seconds) / ours:.2f}x"] if theirs else ["", ""]
        rows.append(row)
    return rows


def memory_table(m, targets):
    """The arena of intermediates against the sum of their sizes; and the peak of the whole process."""
    peers = sorted({peer for (work, peer), p in m.peers.items() if "peak_rss_bytes" in p.counters})
    rows = [["work", "arena", "sum of intermediates", "share", "target", "met", "process peak"] + [f"{p}'s" for p in peers]]
    for work, measured in m.ours.items():
        c = measured.counters
        if "peak_rss_bytes" not in c:
            continue
        row = [work, "", "", "", "", ""]
        if "arena_share" in c:
            row[1:4] = [bytes_text(c["arena_bytes"]), bytes_text(c["intermediate_bytes"]), f"{c['arena_share']:.1%}"]
            target = find_target(targets, "arena_share", work=work)
            if target:
                met = verdict(c["arena_share"], target["arena_share"], higher_is_better=False)
                row[4:6] = [f"{target['arena_share']:.0%}", met]
        row.append(bytes_text(c["peak_rss_bytes"]))
        for peer in peers:
            theirs = m.peers.get((work, peer))
            row.append(bytes_text(theirs.counters["peak_rss_bytes"]) if theirs else "")
        rows.append(row)
    return rows


def not_measured(m, targets):
    out = []
    for target in targets:
        peer = target.get("peer")
        measured = target["work"] in m.ours and (peer is None or (target["work"], peer) in m.peers)
        if not measured:
            out.append(target["work"] + (f" against {peer}" if peer else ""))
    return sorted(set(out))


def markdown(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def report(m, targets, median=False):
    best = statistics.median if median else min
    parts = ["\n".join(f"{key}: {text}" for key, text in m.context.items())]
    tables = {
        "Against peers": peer_table(m, targets, best),
        "Alone": alone_table(m, targets, best),
        "Generating text": generation_table(m, best),
        "Matrix products": gemm_table(m, best),
        "Memory": memory_table(m, targets),
    }
    parts += [f"{title}\n\n{markdown(rows)}" for title, rows in tables.items() if len(rows) > 1]
    missing = not_measured(m, targets)
    if missing:
        parts.append("Targets that were not measured: " + "; ".join(missing))
    which = "medians" if median else "the shortest"
    parts.append(f"Times are {which} of all repetitions; a ratio is the peer's time divided by ours.")
    return "\n\n".join(part for part in parts if part)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", help="JSON of Google Benchmark and of peers/*.py")
    parser.add_argument("--median", action="store_true", help="medians instead of the shortest times")
    arguments = parser.parse_args()
    try:
        print(report(read(arguments.files), json.loads(TARGETS.read_text()), arguments.median))
    except InputError as e:
        sys.exit(f"error: {e}")


if __name__ == "__main__":
    main()
