"""Memory, threads and Ctrl-C."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import numpy as np
import pytest

import vitrine as vt
from conftest import CALIFORNIA, TEXAS
from vitrine import ops


def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_thousand_runs_of_changing_lengths_leave_memory_flat():
    model = vt.load(memory=64 << 20)
    ids = list(range(100, 160))
    lengths = np.random.default_rng(0).integers(1, 60, 1000)
    for n in lengths[:300]:
        model.run(ids[:n], "blocks.*.hook_resid_post")
    before = resident()
    for n in lengths:
        model.run(ids[:n], "blocks.*.hook_resid_post")
    assert resident() - before < 32 << 20


def test_dropped_models_free_their_memory():
    def once():
        model = vt.load(dtype="float64", weights="widened")  # 50 MB of its own
        model.run(TEXAS)
        return weakref.ref(model)

    once()
    before = resident()
    for _ in range(8):
        gone = once()
        gc.collect()
        assert gone() is None
    assert resident() - before < 100 << 20


def test_cycles_are_collected():
    class Probe:
        pass

    def rewritten():
        model, probe = vt.load(), Probe()
        changed = model.with_rewrite("blocks.0.hook_mlp_out", lambda x: (probe, x)[1] * 2.0)
        changed.run(TEXAS)
        probe.model = changed  # the function refers to what refers to the model that holds the function
        return weakref.ref(probe)

    def measured():
        probe = Probe()
        probe.metric = vt.metric(lambda logits: (probe, ops.max(logits, [1]))[1])
        vt.load().run(TEXAS, metric=probe.metric)
        return weakref.ref(probe)

    for make in (rewritten, measured):
        gone = make()
        gc.collect()
        assert gone() is None, make.__name__


def test_two_threads_run_two_models():
    models = [vt.load(threads=1), vt.load(threads=1)]
    expected = models[0].run(TEXAS).logits.copy()
    wrong = []

    def work(model):
        for _ in range(30):
            if not np.array_equal(model.run(TEXAS).logits, expected):
                wrong.append("logits")
            if model.predict(TEXAS).top[0]["token"] != " Austin":
                wrong.append("top")

    threads = [threading.Thread(target=work, args=(m,)) for m in [*models, models[0]]]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_other_threads_go_on_while_a_plan_runs(model):
    counted = [0]
    stop = threading.Event()

    def count():
        while not stop.is_set():
            counted[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    begin = time.monotonic()
    while time.monotonic() - begin < 0.5:
        model.patch(TEXAS, CALIFORNIA, " Austin", " Sacramento", site="z", by="head,pos")
    stop.set()
    thread.join()
    assert counted[0] > 50


INTERRUPTED = """
    import os, signal, threading, time
    import numpy as np
    import vitrine as vt
    m = vt.load()
    def kill(): time.sleep(1.0); os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=kill, daemon=True).start()
    begin = time.monotonic()
    try:
        {work}
    except KeyboardInterrupt:
        took = time.monotonic() - begin
        assert 0.5 < took < 6, took
        print("interrupted", m.predict("The capital of Texas is").top[0]["token"])
    else:
        print("not interrupted")
"""


@pytest.mark.parametrize(
    "work",
    [
        "b = vt.Builder(); x = b.input('x', (2048, 2048)); y = x\n        for _ in range(400): y = vt.ops.tanh(y @ x * 0.01)\n        b.output('y', y); vt.compile(b.finish(), 'y').run({'x': np.ones((2048, 2048), np.float32)})",
        "m.neurons(corpus=['The capital of Texas is Austin, and so on and on.'] * 2_000_000, layer=1, top=1)",
        "for _ in range(1000): m.generate('The', 3, on_token=lambda t: time.sleep(0.05))",
    ],
)
def test_control_c_stops_and_leaves_everything_usable(work):
    script = textwrap.dedent(INTERRUPTED).format(work=work.replace("\n        ", "\n    "))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["interrupted", "Austin"], (done.stdout, done.stderr)


def test_import_is_quick_and_pulls_in_little():
    script = "import sys, time; t = time.perf_counter(); import vitrine; print(time.perf_counter() - t); print([m for m in ('torch', 'pandas', 'IPython', 'transformers') if m in sys.modules])"
    best = 9.0
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        seconds, modules = done.stdout.splitlines()
        best = min(best, float(seconds))
    assert modules == "[]" and best < 0.5
