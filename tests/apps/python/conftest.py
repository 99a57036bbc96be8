"""What the tests of the Python package share. ctest says where the program and the package are (VITRINE_PROGRAM, PYTHONPATH)."""

import json
import os
import subprocess

import numpy as np
import pytest

import vitrine as vt

TEXAS, CALIFORNIA = "The capital of Texas is", "The capital of California is"
PAIRS = [
    {"clean": TEXAS, "corrupt": CALIFORNIA, "answer": " Austin", "wrong": " Sacramento"},
    {"clean": "The capital of Ohio is", "corrupt": TEXAS, "answer": " Columbus", "wrong": " Austin"},
]
TEXTS = [
    "The capital of Texas is Austin.",
    "The capital of Ohio is Columbus, and it is a city.",
    "Paris is the capital of France.",
] * 40


@pytest.fixture(scope="session")
def model():
    return vt.load()


@pytest.fixture(scope="session")
def program():
    path = os.environ.get("VITRINE_PROGRAM")
    if not path:
        pytest.skip("VITRINE_PROGRAM does not say where the program is")

    def run(*words):
        done = subprocess.run([path, *map(str, words)], capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def said(program):
    """The JSON of a verb without what says where it came from."""

    def run(*words):
        found = json.loads(program(*words, "--format", "json"))
        found.pop("meta"), found.pop("file", None)
        return found

    return run


def without_meta(result):
    found = dict(result.json)
    found.pop("meta"), found.pop("file", None)
    return found


def slope(function, x, step=1e-4):
    """Finite differences of a scalar function of an array."""
    x = np.asarray(x, dtype=np.float64)
    out = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        out[i] = (function(up) - function(down)) / (2 * step)
    return out
