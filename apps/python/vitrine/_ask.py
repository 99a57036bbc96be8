"""Asks a verb of the program, in this process: keyword arguments become its options, what it finds a `Result`."""

import json
import logging
import os
import re
import shutil
import tempfile
import weakref

from . import _vitrine
from ._progress import Bar
from ._settings import makes_pages, settings, shows_progress

_log = logging.getLogger("vitrine")


class Scratch:
    """Files that a call hands to the verb: data that Python has in memory. They go when it does."""

    def __init__(self):
        self._folder = None

    def path(self, name):
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="vitrine-")
            weakref.finalize(self, shutil.rmtree, self._folder, True)
        return os.path.join(self._folder, name)


def lines_file(scratch, name, items, key="text"):
    """JSON lines of an iterable of dicts (or of texts, which become {key: ...}); a path stays what it is."""
    if isinstance(items, (str, os.PathLike)):
        return os.fspath(items)
    path = scratch.path(name)
    with open(path, "w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps({key: item} if isinstance(item, str) else dict(item), ensure_ascii=False) + "\n")
    return path


def _word(value):
    if isinstance(value, bool):
        raise _vitrine.UsageError("True and False are for options without a value")
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (list, tuple, range)) or type(value).__module__ == "numpy":
        return ",".join(_word(v) for v in value) if hasattr(value, "__iter__") else _word(value.item())
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def option(name, value):
    """--by-pos of by_pos=True; --head 1,2 of head=[1, 2]; nothing of None and False."""
    flag = "--" + name.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return []
    if value is True:
        return [flag]
    word = _word(value)
    return [f"{flag}={word}"] if word.startswith("-") or word == "" else [flag, word]


def prompt(name, value):
    """A prompt is text, or a list of token ids."""
    if value is None:
        return []
    ids = "--tokens" if name == "prompt" else f"--{name}-tokens"
    if isinstance(value, str):
        return [f"--{name}={value}"] if value.startswith("-") or value == "" else [f"--{name}", value]
    return [ids, ",".join(str(int(i)) for i in value)]


def token(name, value):
    """A token is its text, or its id."""
    if value is None:
        return []
    if isinstance(value, str):
        return [f"--{name}={value}"] if value.startswith("-") or value == "" else [f"--{name}", value]
    return [f"--{name}-token", str(int(value))]


def edits(scratch, value):
    """Edits are texts ('zero blocks.1.attn.hook_z head=0,2'), or what `zero`, `add`, ... made."""
    if value is None:
        return []
    items = [value] if isinstance(value, (str, _vitrine.Edit, _vitrine.Interventions)) else list(value)
    texts = [e for e in items if isinstance(e, str)]
    if len(texts) == len(items):
        return [word for e in texts for word in ("--edit", e)]
    if texts:
        raise _vitrine.UsageError("edits are all texts or all values (zero(...), add(...)): they are made in one order")
    made = items[0] if isinstance(items[0], _vitrine.Interventions) else _vitrine.Interventions(*items)
    path = scratch.path("edits.json")
    with open(path, "w", encoding="utf-8") as file:
        file.write(made.to_json())
    return ["--edits", path]


def saes(scratch, value, flag="--sae"):
    """SAEs are folders, names of those that came with the model, or `Sae`s."""
    if value is None:
        return []
    items = value if isinstance(value, (list, tuple)) else [value]
    words = []
    for i, sae in enumerate(items):
        if not isinstance(sae, (str, os.PathLike)) and sae.folder is not None and os.path.isdir(sae.folder):
            sae = sae.folder
        elif not isinstance(sae, (str, os.PathLike)):
            folder = scratch.path(f"sae{len(words)}{flag.strip('-')}{i}")
            sae.save(folder)
            sae = folder
        words += [flag, os.fspath(sae)]
    return words


def supernodes(scratch, value):
    """Supernodes are {name: [node, ...]}, or a file that has them."""
    if value is None:
        return []
    if isinstance(value, (str, os.PathLike)):
        return ["--supernodes", os.fspath(value)]
    path = scratch.path("supernodes.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump([[name, *nodes] for name, nodes in dict(value).items()], file)
    return ["--supernodes", path]


# What the program says of its options, said of arguments: --group-by FIELD is group_by=FIELD.
def _in_python(message):
    message = re.sub(r"^vitrine [a-z]+( [a-z]+)?: ", "", message)
    message = re.sub(r"[;.]? ?see 'vitrine [a-z ]+--help'\.?", "", message)
    message = re.sub(
        r"(?<![\w-])--([a-z][a-z-]*)(?: ([A-Z][A-Z.]*)\b)?",
        lambda m: m[1].replace("-", "_") + "=" + (m[2] or ""),
        message,
    )
    return message


# What a verb says on stderr: notes are meant for everybody, how far it has got for who asks for it.
def _note(line):
    (_log.warning if line.startswith("note:") else _log.info)(line)


def ask(native, verb, words, *, page=None):
    """Runs a verb and gives what `_vitrine.ask` gives. With a page where the verb makes one, unless page is False."""
    bar = Bar() if shows_progress() else None
    wants = makes_pages() if page is None else page
    try:
        for html in ([["--html", "page.html"], []] if wants else [[]]):
            try:
                return _vitrine.ask(native, verb, words + html, columns=settings.columns, progress=bar, log=_note)
            except _vitrine.UsageError as error:
                if html and page is None:
                    continue  # a result without a page
                raise _vitrine.UsageError(_in_python(str(error))) from None
            except _vitrine.Error as error:
                raise type(error)(_in_python(str(error))) from None
    finally:
        if bar is not None:
            bar.close()
