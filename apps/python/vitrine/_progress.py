"""A progress bar as tqdm draws it, on stderr: plain text, which terminals and notebooks show without widgets."""

import sys
import time

_FIRST = 0.4  # seconds: what ends sooner needs no bar
_EVERY = 0.1
_WIDTH = 20


def _clock(seconds):
    seconds = int(seconds)
    hours, rest = divmod(seconds, 3600)
    text = f"{rest // 60:02d}:{rest % 60:02d}"
    return f"{hours}:{text}" if hours else text


def line(label, unit, done, total, seconds):
    """'patching:  45%|█████████           | 45/100 [00:01<00:02, 40.10runs/s]'"""
    fraction = min(max(done / total, 0.0), 1.0) if total > 0 else 0.0
    eighths = int(fraction * _WIDTH * 8)
    blocks = "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")
    rate = done / seconds if seconds > 0 else 0.0
    left = _clock((total - done) / rate) if rate > 0 else "?"
    return f"{label}: {fraction:4.0%}|{blocks:<{_WIDTH}}| {done:.0f}/{total:.0f} [{_clock(seconds)}<{left}, {rate:.2f}{unit}/s]"


class Bar:
    """What a verb says of its progress, drawn. Called with the label, what is counted, how many are done, and of how many."""

    def __init__(self, stream=None):
        self._stream = stream or sys.stderr
        self._label = None
        self._begun = self._next = 0.0
        self._width = 0

    def __call__(self, label, unit, done, total):
        now = time.monotonic()
        if label != self._label:
            self.close()
            self._label, self._begun, self._next = label, now, now + _FIRST
        if now < self._next:
            return
        self._next = now + _EVERY
        text = line(label, unit, done, total, now - self._begun)
        self._stream.write("\r" + text + " " * max(0, self._width - len(text)))
        self._stream.flush()
        self._width = len(text)

    def close(self):
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
        self._label, self._width = None, 0
