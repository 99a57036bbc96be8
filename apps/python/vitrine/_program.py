"""What is not about one model: training, logs, the machine; and the help of every verb."""

import os

from . import _ask, _vitrine
from ._results import Result


def help(verb):
    """Prints the options of a verb: of Model.patch those of 'patch', with _ for -; of Model.train_sae those of 'sae train'."""
    words = verb.split()
    print(_vitrine.ask(None, words[0], [*words[1:], "--help"])["written"])


def explain(word=None, prompt=None, **options):
    """What a site, an op, a term of the field or a verb is, with the numbers of the model that ships with Vitrine;
    Model.explain for another one."""
    from ._model import load

    return load().explain(word, prompt, **options)


def curves(*logs, **options):
    """How training went: first, last and best of every quantity in log.jsonl files or their folders; its page draws them."""
    words = [os.fspath(log) for log in logs]
    for name, value in options.items():
        words += _ask.option(name, value)
    return Result("curves", _ask.ask(None, "curves", words), lambda: _ask.ask(None, "curves", words, page=True))


def read_graph(file, *, supernodes=None, **options):
    """An attribution graph that was written before, by circuit-tracer, Model.graph or its page: result.nodes, result.links,
    result.qParams['supernodes'] [[name, node, ...]]; result.merged: edges with each supernode as one node.

    supernodes: more of them, as Model.graph takes them. options: top
    """
    scratch = _ask.Scratch()
    words = ["--read", os.fspath(file), *_ask.supernodes(scratch, supernodes)]
    for name, value in options.items():
        words += _ask.option(name, value)

    def ask(page=None, keeps=scratch):  # the files live as long as the result may ask again
        return _ask.ask(None, "graph", words, page=page)

    return Result("graph", ask(), lambda: ask(page=True))


def doctor(*, quick=True):
    """Whether this machine computes right, and as fast as it could."""
    return Result("doctor", _ask.ask(None, "doctor", ["--quick"] if quick else [], page=False))


def train(texts, out, **options):
    """Trains a GPT-2 or a Llama from scratch, and gives the model: vitrine.help('train') lists the options.

    texts: a file, or an iterable of texts or of dicts with 'text'. out: the folder, which resume=True goes on.
    """
    from ._model import load

    scratch = _ask.Scratch()
    words = ["--out", os.fspath(out)]
    if texts is not None:
        words += ["--data", _ask.lines_file(scratch, "texts.jsonl", texts)]
    for name, value in options.items():
        words += _ask.option(name, value)
    found = Result("train", _ask.ask(None, "train", words, page=False))
    model = load(out)
    model.training = found
    return model


def tokenizer(texts, out, *, vocabulary, **options):
    """Learns a byte-level BPE vocabulary from texts and writes its files to a folder."""
    scratch = _ask.Scratch()
    words = [
        "train",
        "--data",
        _ask.lines_file(scratch, "texts.jsonl", texts),
        "--out",
        os.fspath(out),
        "--vocabulary",
        str(vocabulary),
    ]
    for name, value in options.items():
        words += _ask.option(name, value)
    return Result("tokenizer train", _ask.ask(None, "tokenizer", words, page=False))
