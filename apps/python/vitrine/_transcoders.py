"""Transcoders for every MLP of a model."""

import os
import shutil
import tempfile
import weakref

from . import _sae, _vitrine


class Transcoders:
    """A transcoder for every MLP, per layer or cross-layer: features = activation(x W_enc^T + b_enc) of what the MLP reads; the
    features of a layer write to its MLP's output, or, cross-layer, to it and to all later ones.

    A path of its own (os.PathLike), so that it can be given wherever a folder of transcoders can.
    """

    def __init__(self, native, folder):
        self._native = native
        self.folder = folder

    @classmethod
    def load(cls, folder):
        """From circuit-tracer's folder, or one of SAELens's transcoders of all layers; or by the name of those that came with
        the default model ('cross-layer'). Raises FileError, ConfigError, CheckpointError, NumericError."""
        folder = os.fspath(folder)
        if not os.path.exists(folder):
            shipped = os.path.join(_vitrine.default_model(), "transcoders", folder)
            folder = shipped if os.path.exists(shipped) else folder
        return cls(_vitrine.TranscoderSet.load(folder), folder)

    def save(self, folder, *, dtype="float32"):
        """Writes circuit-tracer's folder."""
        self._native.save(os.fspath(folder), dtype)

    def __fspath__(self):
        return self.folder

    @property
    def layers(self):
        """How many layers there are."""
        return self._native.layers

    @property
    def features(self):
        """How many features a layer has."""
        return self._native.features

    @property
    def width(self):
        """d, of what they read and give."""
        return self._native.width

    @property
    def cross_layer(self):
        """Whether the features of a layer write to all later ones, too."""
        return self._native.cross_layer

    @property
    def activation(self):
        """'relu', 'jumprelu' or 'topk'."""
        return self._native.activation

    @property
    def sites(self):
        """[(input, output)] of each layer, as far as it is known."""
        return list(zip(self._native.inputs, self._native.outputs))

    def weights(self, layer):
        """{name: array} of a layer, read-only, where they are: W_enc [features, d], b_enc, W_dec (a list: [features, d] to this
        layer's output, to the next one's, ...), b_dec [d], threshold [features] of jumprelu, W_skip [d, d]."""
        return self._native.weights(layer)

    def encode(self, layer, activations):
        """float32 [.., features]: the features of what MLP `layer` reads, [.., d]. Raises ShapeError for another width."""
        return self._native.encode(layer, activations)

    def __repr__(self):
        kind = "cross-layer" if self.cross_layer else "per layer"
        return f"<vitrine.Transcoders: {kind}, {self.activation}, {self.layers} layers of {self.features} features, width {self.width}>"


def trained(model, texts, out, cross_layer, options):
    """Model.train_transcoders."""
    own = None
    if out is None:
        own = out = tempfile.mkdtemp(prefix="vitrine-transcoders-")
    options = {"cross_layer": cross_layer, "target": "*.hook_mlp_out", **options}
    try:
        result = _sae.ask_to_train(model, options.pop("site", "*.ln2.hook_normalized"), texts, out, options)
        made = Transcoders.load(out)
    except BaseException:
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)
        raise
    made.training = result["saes"]
    if own is not None:
        weakref.finalize(made, shutil.rmtree, own, True)
    return made
