"""Sparse autoencoders and transcoders."""

import json
import os
import shutil
import tempfile
import weakref

from . import _ask, _vitrine


class Sae:
    """A sparse autoencoder (or transcoder): features = activation((x - b_dec) W_enc + b_enc), x' = features W_dec + b_dec.
    Of a matching pursuit, which has no encoder, the features are found one after the other with the rows of W_dec."""

    def __init__(self, native, folder=None):
        self._native = native
        self.folder = folder  # where it was loaded from or trained, or None

    @classmethod
    def load(cls, folder):
        """From a SAELens folder, or by the name of one that came with the default model ('blocks.4.hook_mlp_out'). Raises
        FileError, ConfigError, CheckpointError, NumericError."""
        folder = os.fspath(folder)
        if not os.path.exists(folder):
            shipped = os.path.join(_default_saes(), folder)
            folder = shipped if os.path.exists(shipped) else folder
        return cls(_vitrine.Sae.load(folder), folder)

    @classmethod
    def from_weights(cls, config, weights):
        """From a dict, or the text, of SAELens's cfg.json and {name: array}: W_enc [d_in, d_sae], b_enc, W_dec, b_dec, ..."""
        text = config if isinstance(config, str) else json.dumps(config)
        with tempfile.TemporaryDirectory(prefix="vitrine-") as folder:
            return cls(_vitrine.Sae.from_weights(folder, text, dict(weights)))

    @classmethod
    def from_sae_lens(cls, sae):
        """An SAE of the package sae_lens."""
        with tempfile.TemporaryDirectory(prefix="vitrine-") as folder:
            sae.save_model(folder)
            loaded = _vitrine.Sae.load(folder)
            config = open(os.path.join(folder, "cfg.json"), encoding="utf-8").read()
            return cls.from_weights(config, {name: array.copy() for name, array in loaded.weights.items()})

    def to_sae_lens(self, device="cpu"):
        """The same as an SAE of the package sae_lens, which must be installed."""
        import sae_lens

        with tempfile.TemporaryDirectory(prefix="vitrine-") as folder:
            self.save(folder)
            return sae_lens.SAE.load_from_disk(folder, device=device)

    def save(self, folder, *, dtype="float32"):
        """Writes a SAELens folder."""
        self._native.save(os.fspath(folder), dtype)

    @property
    def name(self):
        return self._native.name

    @property
    def site(self):
        """The site that it reads."""
        return self._native.site

    @property
    def config(self):
        """{architecture, d_in, d_sae, d_out, transcoder, normalise, k, hook_name, ..., metadata}"""
        return self._native.config

    @property
    def weights(self):
        """{name: array}, read-only, where they are: W_enc [d_in, d_sae], W_dec [d_sae, d_out], ..."""
        return self._native.weights

    def encode(self, activations):
        """float32 [.., d_sae]: the features of activations [.., d_in]. Raises ShapeError for another width, NumericError for NaN."""
        return self._native.encode(activations)

    def reconstruct(self, activations):
        """float32 [.., d_out]: what the features decode to."""
        return self._native.reconstruct(activations)

    def fold_decoder_norm(self):
        """The same function with decoder rows of norm 1."""
        return Sae(self._native.fold_decoder_norm())

    def __repr__(self):
        c = self.config
        kind = "transcoder" if c["transcoder"] else "SAE"
        return f"<vitrine.Sae: {c['architecture']} {kind}, {c['d_in']} inputs, {c['d_sae']} features, of {c['hook_name'] or 'no site'}>"


def splice(graph, sae, site="", *, error="keep", name="sae"):
    """The graph with the SAE in a site: its features are SITE.hook_sae_acts_post then, its weights the parameters NAME.W_enc, ...
    See Model.with_sae."""
    return _vitrine.splice(graph, sae._native, site, error=error, name=name)


def _default_saes():
    return os.path.join(_vitrine.default_model(), "sae")


def ask_to_train(model, site, texts, out, options):
    """The Result of `vitrine sae train` in the folder `out`."""
    from ._results import Result

    scratch = _ask.Scratch()
    options = dict(options)
    words = ["--site", site if isinstance(site, str) else ",".join(site), "--out", os.fspath(out)]
    if texts is not None:
        paths = [texts] if isinstance(texts, (str, os.PathLike)) and os.path.exists(texts) else None
        paths = paths or [_ask.lines_file(scratch, "texts.jsonl", [texts] if isinstance(texts, str) else texts)]
        for path in paths:
            words += ["--data", os.fspath(path)]
    for name, values in (options.pop("sweep", None) or {}).items():
        words += ["--sweep", f"{name}={','.join(map(str, values))}"]
    for name, value in options.items():
        words += _ask.option(name, value)
    if model.name != "default":
        words = ["--model", model.name, *words]
    return Result("sae train", _ask.ask(model._native, "sae", ["train", *words], page=False))


def trained(model, site, texts, out, target, options):
    """Model.train_sae."""
    own = None
    if out is None:
        own = out = tempfile.mkdtemp(prefix="vitrine-sae-")
    try:
        found = ask_to_train(model, site, texts, out, {"target": target, **options})
    except BaseException:
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)
        raise
    saes = []
    for entry in found["saes"]:
        sae = Sae(_vitrine.Sae.load(entry["folder"]), entry["folder"])
        sae.training = entry
        saes.append(sae)
    if own is not None:  # the folder goes when the last of them does
        for sae in saes:
            sae._keeps = saes
        weakref.finalize(saes[0], shutil.rmtree, own, True)
    return saes[0] if len(saes) == 1 else saes
