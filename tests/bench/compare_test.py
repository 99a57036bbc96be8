"""Tests bench/compare.py on reports made by hand: python3 tests/bench/compare_test.py"""

import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "bench"))
import compare


def run(name, milliseconds, **counters):
    return {"name": name, "run_name": name, "run_type": "iteration", "real_time": milliseconds, "time_unit": "ms", **counters}


def peer(work, seconds, name="torch eager"):
    return {"work": work, "peer": name, "version": "2", "threads": 2, "seconds": seconds, "peak_rss_bytes": 3 * 2**20}


class Compare(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def read(self, *reports):
        paths = []
        for i, content in enumerate(reports):
            paths.append(self.folder / f"{i}.json")
            paths[-1].write_text(content if isinstance(content, str) else json.dumps(content))
        return compare.read(paths)

    def test_names_lose_what_google_benchmark_appends(self):
        self.assertEqual(compare.work_name("forward/1x16/iterations:1/repeats:3/real_time"), "forward/1x16")
        self.assertEqual(compare.work_name("gemm/vitrine/2x3x4/min_time:0.200/real_time"), "gemm/vitrine/2x3x4")
        self.assertEqual(compare.work_name("gemm/vitrine/2x3x4/min_time:0.200s/real_time"), "gemm/vitrine/2x3x4")

    def test_rounds_are_pooled_and_aggregates_left_out(self):
        mean = run("w/real_time", 1) | {"run_type": "aggregate"}
        m = self.read({"benchmarks": [run("w/real_time", 30), mean]}, {"benchmarks": [run("w/real_time", 20)]})
        self.assertEqual(m.ours["w"].seconds, [0.03, 0.02])

    def test_units(self):
        m = self.read({"benchmarks": [run("w", 5) | {"time_unit": "us"}]})
        self.assertAlmostEqual(m.ours["w"].seconds[0], 5e-6)

    def test_ratio_target_and_dream(self):
        targets = [{"work": "w", "peer": "torch eager", "ratio": 1.5, "dream": 2.0}]
        for milliseconds, ratio, met in ((50, "1.00x", "no"), (30, "1.67x", "yes"), (25, "2.00x", "yes, the dream too")):
            m = self.read({"benchmarks": [run("w", milliseconds)]}, [peer("w", [0.06, 0.05])])
            row = compare.peer_table(m, targets, min)[1]
            self.assertEqual(row[4:], [ratio, "1.50x (dream 2.00x)", met])

    def test_each_peer_has_its_own_target(self):
        targets = [{"work": "w", "peer": "a", "ratio": 1.0}, {"work": "w", "peer": "b", "ratio": 3.0}]
        m = self.read({"benchmarks": [run("w", 50)]}, [peer("w", [0.1], "a"), peer("w", [0.1], "b")])
        self.assertEqual([row[6] for row in compare.peer_table(m, targets, min)[1:]], ["yes", "no"])

    def test_medians(self):
        m = self.read({"benchmarks": [run("w", t) for t in (10, 20, 90)]}, [peer("w", [0.04, 0.06, 0.02])])
        self.assertIn("| 2.00x |", compare.report(m, [], median=True))

    def test_time_alone(self):
        targets = [{"work": "plan", "milliseconds": 20}]
        for milliseconds, met in ((19, "yes"), (21, "no")):
            m = self.read({"benchmarks": [run("plan", milliseconds)]})
            self.assertEqual(compare.alone_table(m, targets, min)[1], ["plan", f"{milliseconds}.0 ms", "20 ms", met])

    def test_products_are_paired(self):
        runs = [run("gemm/vitrine/10x100x1000/real_time", 1), run("gemm/openblas/10x100x1000/real_time", 2)]
        m = self.read({"benchmarks": runs})
        self.assertEqual(compare.gemm_table(m, min)[1], ["10 x 100 x 1000", "[k, n]", "2.0", "1.0", "2.00x"])

    def test_memory(self):
        counters = {"arena_bytes": 2**20, "intermediate_bytes": 2**22, "arena_share": 0.25, "peak_rss_bytes": 2**21}
        m = self.read({"benchmarks": [run("w", 1, **counters)]}, [peer("w", [1])])
        row = compare.memory_table(m, [{"work": "w", "arena_share": 0.2}])[1]
        self.assertEqual(row, ["w", "1 MiB", "4 MiB", "25.0%", "20%", "no", "2 MiB", "3 MiB"])

    def test_tokens_per_second(self):
        m = self.read({"benchmarks": [run("generate/w", 2000, tokens=128)]}, [peer("generate/w", [4])])
        self.assertEqual(compare.generation_table(m, min)[1:], [["generate/w", "ours", "64.0"], ["generate/w", "torch eager", "32.0"]])

    def test_targets_that_were_not_measured_are_named(self):
        m = self.read({"benchmarks": [run("w", 1)]})
        targets = [{"work": "w", "peer": "torch eager", "ratio": 1}, {"work": "w", "milliseconds": 2}]
        self.assertEqual(compare.not_measured(m, targets), ["w against torch eager"])

    def test_errors_name_the_file(self):
        for content in ("nothing", "{}", "[1]"):
            with self.assertRaisesRegex(compare.InputError, "0.json is neither"):
                self.read(content)
        with self.assertRaisesRegex(compare.InputError, "absent.json: No such file"):
            compare.read([self.folder / "absent.json"])
        with self.assertRaisesRegex(compare.InputError, "w failed: out of memory"):
            self.read({"benchmarks": [run("w", 1) | {"error_occurred": True, "error_message": "out of memory"}]})

    def test_the_targets_are_well_formed(self):
        for target in json.loads(compare.TARGETS.read_text()):
            self.assertEqual(len({"ratio", "milliseconds", "arena_share"} & set(target)), 1, target)
            self.assertEqual("ratio" in target, "peer" in target, target)

    def test_times_as_text(self):
        texts = {12.34: "12.3 s", 3.5: "3500 ms", 0.0312: "31.2 ms", 0.000009: "9.0 us"}
        for seconds, text in texts.items():
            self.assertEqual(compare.time_text(seconds), text)


if __name__ == "__main__":
    unittest.main()
