"""Vitrine looks inside transformers: a tensor and autograd engine made for interpretability, in C++, called from Python.

>>> import vitrine as vt
>>> m = vt.load()                                              # the default model; a folder, a .gguf file, "smollm2"
>>> run = m.run("The capital of Texas is", sites="blocks.*.attn.hook_pattern")
>>> run["blocks.2.attn.hook_pattern"].shape                    # [batch, head, query, key], a NumPy array, no copy
(1, 4, 5, 5)
>>> m.patch("The capital of Texas is", "The capital of Ohio is", " Austin", " Columbus", site="z", by="head")

Interventions are values that are written into the model's graph (`zero`, `add`, `from_run`, ...), metrics and rewrites are
functions of `Value`s that run once, while the graph is built. Results show themselves: as text in a terminal, as a page in a
notebook. Whatever goes wrong is a `vitrine.Error`, whose text says what was expected and what to do.
"""

from . import ops
from ._vitrine import (
    Builder,
    CheckpointError,
    ConfigError,
    ContextError,
    Edit,
    Error,
    FileError,
    Graph,
    GraphError,
    Interventions,
    Metric,
    NumericError,
    Plan,
    Results,
    Run,
    SaveError,
    ShapeError,
    SiteError,
    Sweep,
    TokenError,
    UsageError,
    Value,
    __version__,
    accuracy,
    add,
    compile,
    detach,
    edit_feeds,
    from_run,
    gradient,
    grid,
    hold,
    intervene,
    kl_to,
    linearise,
    log_probability,
    logit,
    logit_diff,
    mean,
    metric,
    probability,
    project_out,
    prompt_loss,
    rank,
    recompute,
    replace,
    resample,
    rewrite,
    scale,
    sweep,
    training_loss,
    with_metric,
    zero,
)
from ._model import Model, from_transformer_lens, from_transformers, from_weights, load
from ._program import curves, doctor, explain, help, read_graph, tokenizer, train
from ._results import Result
from ._sae import Sae, splice
from ._transcoders import Transcoders
from ._settings import settings

__all__ = [name for name in dir() if not name.startswith("_")]
