"""Models: running and editing them, and every way to explain what they do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import _ask, _vitrine
from ._results import Result
from ._types import Edits, Path, Patterns, Prompt, Prompts, Records, Texts, Token
from ._vitrine import Graph, Metric, Results, Run, Sweep, Value

if TYPE_CHECKING:
    from ._sae import Sae
    from ._transcoders import Transcoders

_native_model = _vitrine.Model


def load(
    name: Path = "",
    *,
    dtype: str = "float32",
    weights: str = "stored",
    threads: int = 0,
    gauge: str = "raw",
    memory: int = 0,
) -> Model:
    """Loads a model.

    name: '' is the model that ships with Vitrine; a HuggingFace folder of a GPT-2, Llama, Mistral, Qwen, Pythia or Gemma;
        FILE.gguf; OWNER/NAME in HuggingFace's local cache; 'gpt2', 'smollm2'
    dtype: what it computes in, float32 or float64
    weights: 'stored', matrices that the file has in f16, bf16 or blocks stay as they are; or 'widened'
    threads: 0, one per core
    gauge: 'raw', 'processed' (as TransformerLens does by default), or rewrites with commas: fold_ln, center_writing_weights,
        center_unembed, fold_value_biases. The function stays the same.
    memory: bytes that compiled plans and memory kept for the next run may take; 0, a quarter of the machine's

    Raises FileError, ConfigError, CheckpointError, NumericError.
    """
    return Model(
        _vitrine.load(os.fspath(name), dtype=dtype, weights=weights, threads=threads, gauge=gauge, memory=memory)
    )


def from_weights(
    config: Mapping[str, Any] | str,
    weights: Mapping[str, Any],
    *,
    tokenizer: Path | None = None,
    name: str = "weights",
    dtype: str = "float32",
    threads: int = 0,
    gauge: str = "raw",
    memory: int = 0,
) -> Model:
    """A model of weights that are in memory.

    config: a dict, or the text, of HuggingFace's config.json
    weights: {name: array}, by HuggingFace's names; read where they are, without a copy, as far as they are contiguous
    tokenizer: a folder, or the text of a tokenizer.json; None: prompts are ids

    Raises what load raises.
    """
    text = config if isinstance(config, str) else json.dumps(config)
    words = None if tokenizer is None else os.fspath(tokenizer)
    return Model(
        _vitrine.from_weights(
            text, dict(weights), tokenizer=words, name=name, dtype=dtype, threads=threads, gauge=gauge, memory=memory
        )
    )


def from_transformers(model: Any, tokenizer: Any = None, **options: Any) -> Model:
    """A model of HuggingFace's transformers, whose weights are shared where they are float32 and contiguous.

    tokenizer: its fast tokenizer, too. Further arguments are those of from_weights.
    """
    from ._neighbours import transformers_parts

    config, weights, words = transformers_parts(model, tokenizer)
    return from_weights(
        config, weights, tokenizer=words, **{"name": getattr(model, "name_or_path", "") or "transformers", **options}
    )


def from_transformer_lens(model: Any, **options: Any) -> Model:
    """A HookedTransformer with the weights of a GPT-2 (learned positions, LayerNorm, no folding: from_pretrained_no_processing).

    Further arguments are those of from_weights. Raises ConfigError for another kind of model, naming what differs.
    """
    from ._neighbours import transformer_lens_parts

    config, weights, words = transformer_lens_parts(model)
    return from_weights(config, weights, tokenizer=words, **{"name": model.cfg.model_name, **options})


class Model:
    """A loaded model. A model never changes: what edits it gives another one, over the same weights."""

    def __init__(self, native):
        if not isinstance(native, _native_model):
            raise _vitrine.UsageError(
                "a Model is made by vitrine.load, from_weights, from_transformers or from_transformer_lens"
            )
        self._native = native

    def __repr__(self):
        c = self.config
        edited = "".join(f", {e}" for e in self.edits)
        gauge = "" if self.gauge == "raw" else f", {self.gauge}"
        return f"<vitrine.Model {self.name}: {c['model_type']}, {c['layers']} layers, {c['parameters']:,} parameters{gauge}{edited}>"

    # ---- what it is -----------------------------------------------------------------------------
    @property
    def name(self) -> str:
        """Where it came from."""
        return self._native.name

    @property
    def config(self) -> dict[str, Any]:
        """{model_type, layers, heads, kv_heads, d_model, d_head, d_mlp, context, vocabulary, ..., parameters}"""
        return self._native.config

    @property
    def gauge(self) -> str:
        """'raw', 'processed', or the rewrites of its weights."""
        return self._native.gauge

    @property
    def parameters(self) -> dict[str, Any]:
        """{name: array}: the weights, read-only, where they are; those that are stored in bf16 or blocks widened to float32."""
        return self._native.parameters

    def weight(self, name: str) -> Any:
        """A weight by TransformerLens's name, in its shape, as the gauge has it: a copy in float32.

        embed.W_E [v, d], pos_embed.W_pos, blocks.L.attn.W_Q [head, d, e] (W_K, W_V), b_Q [head, e], W_O [head, e, d], b_O,
        blocks.L.mlp.W_in, b_in, W_out, b_out, W_gate, blocks.L.ln1.w, b, ..., ln_final.w, unembed.W_U [d, v]. Raises
        UsageError for a name that this model does not have.
        """
        return self._native.weight(name)

    @property
    def edits(self) -> list[str]:
        """What stands in every run, in words."""
        return self._native.edits

    @property
    def sites(self) -> list[str]:
        """The names of all sites, in the order of the model."""
        return self._native.build(1, 1).sites

    @property
    def has_tokenizer(self) -> bool:
        return self._native.has_tokenizer

    def tokens(self, prompt: Prompt) -> list[int]:
        """The ids of a prompt: of a text those that the tokenizer gives, what it puts before every prompt included."""
        return self._native.tokens(prompt)

    def token(self, text: str) -> int:
        """The id of a text that is one token. Raises TokenError otherwise, naming ' Text' if that is one."""
        return self._native.token(text)

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return self._native.text(list(ids))

    def str_tokens(self, prompt: Prompt) -> list[str]:
        """Each token as text, as TransformerLens's to_str_tokens gives them."""
        return self._native.str_tokens(prompt)

    # ---- running --------------------------------------------------------------------------------
    def run(
        self,
        prompts: Prompts,
        sites: Patterns | None = None,
        *,
        edits: Edits | None = None,
        metric: Metric | None = None,
        gradients: Patterns | None = None,
        before: Patterns | None = None,
    ) -> Run:
        """Runs prompts and gives a Run.

        prompts: a text or a list of ids; or a list of these, of any lengths
        sites: patterns of sites to fetch, 'blocks.*.attn.hook_z', 'z' (all layers), '2.z'; 'logits' too. None: the logits alone
        edits: what `zero`, `add`, `from_run`, ... made; several in a list, made together; a.then(b) one after the other
        metric: a Metric, whose value is run[metric.name] then, and run[metric.name + '_per_prompt'] of each prompt
        gradients: patterns of sites: d metric / d site, as run.grad(site)
        before: patterns of sites whose values before edits are wanted, as run.before(site)

        Raises TokenError, ContextError, SiteError, ShapeError, GraphError, NumericError.
        """
        return self._native.run(prompts, sites, edits=_values(edits), metric=metric, gradients=gradients, before=before)

    def run_graph(
        self,
        graph: Graph,
        prompts: Prompts,
        sites: Patterns | None = None,
        *,
        outputs: Patterns | None = None,
        before: Patterns | None = None,
        gradients: Patterns | None = None,
        leaf_gradients: Patterns | None = None,
        feeds: Mapping[str, Any] | None = None,
        edits: Edits | None = None,
        metric: Metric | None = None,
    ) -> Run:
        """Runs a graph that was made of one of `build_for(prompts)`: transformed by intervene, rewrite, gradient, ...

        feeds: arrays of inputs besides the prompts'. edits: those that intervene wrote into the graph. metric: one that is in
        the graph (by with_metric or gradient) and has feeds.
        """
        return self._native.run_graph(
            graph,
            prompts,
            sites,
            outputs=outputs,
            before=before,
            gradients=gradients,
            leaf_gradients=leaf_gradients,
            feeds=feeds or {},
            edits=_values(edits),
            metric=metric,
        )

    def build(self, batch: int = 1, tokens: int = 1) -> Graph:
        """The graph for `batch` prompts of `tokens` tokens each."""
        return self._native.build(batch, tokens)

    def build_for(self, prompts: Prompts) -> Graph:
        """The graph for these prompts."""
        return self._native.build_for(prompts)

    def feeds(self, graph: Graph, prompts: Prompts) -> dict[str, Any]:
        """{input: array} for such a graph, for a plan of one's own: vitrine.compile(graph, ...).run(feeds, model.parameters)."""
        return self._native.feeds(graph, prompts)

    def loss(self, prompts: Prompts) -> tuple[float, Any]:
        """The next-token cross-entropy in nats: the mean over all tokens of all prompts, and float32 [tokens]."""
        return self._native.loss(prompts)

    def generate(
        self,
        prompt: Prompt,
        count: int = 20,
        *,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        edits: Edits | None = None,
        on_token: Callable[[int], Any] | None = None,
    ) -> dict[str, Any]:
        """Continues a prompt: {'tokens', 'text'} of what is new. temperature 0 is greedy.

        edits hold while it writes: one without positions at every token. on_token(id) is called as tokens come; False stops.
        """
        return self._native.generate(
            prompt,
            count,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            edits=_values(edits),
            on_token=on_token,
        )

    def sweep(self, prompts: Prompts, worlds: Iterable[Edits], metric: Metric, *, memory: int = 1 << 30) -> Sweep:
        """One edited run of the prompts for each of `worlds` (edits, as of run), compiled into one program: a Sweep [world]."""
        return self._native.sweep(prompts, [_values(world) for world in worlds], metric, memory=memory)

    def grid(
        self,
        prompts: Prompts,
        sites: str,
        by: Patterns,
        run: Run | Results | None = None,
        *,
        metric: Metric,
        memory: int = 1 << 30,
    ) -> Sweep:
        """One edited run for each of `sites` and each place along the axes `by` ('pos', 'head', 'key', 'feature', 'prompt').

        run: whose values are put in there (activation patching); None: zeros (ablation). Gives a Sweep with named axes.

        >>> clean = m.run("The capital of Texas is", "blocks.*.hook_resid_pre")
        >>> m.grid("The capital of Ohio is", "blocks.*.hook_resid_pre", ["pos"], clean, metric=vt.logit(m.token(" Austin")))
        """
        return self._native.grid(
            prompts, sites, [by] if isinstance(by, str) else list(by), run, metric=metric, memory=memory
        )

    # ---- changed models -------------------------------------------------------------------------
    def with_edits(self, edits: Edits) -> Model:
        """The model with these edits in every run: whatever explains or measures it does so with them. Positions are those of
        each prompt, negative ones from its end."""
        return Model(self._native.with_edits(_values(edits)))

    def with_sae(self, sae: Sae, site: str | None = None, *, error: str = "keep") -> Model:
        """The model with an SAE spliced in, at its own site or another one: its features are the site
        SITE.hook_sae_acts_post then. error: 'keep' changes nothing, 'detach' lets gradients flow through features alone,
        'drop' lets the reconstruction flow on."""
        return Model(self._native.with_sae(sae._native, site, error=error))

    def with_rewrite(self, site: str, function: Callable[[Value], Value]) -> Model:
        """The model in which function(x) flows on from a site: see vitrine.rewrite. The function runs once for each size of batch."""
        return Model(self._native.with_rewrite(site, function))

    def in_gauge(self, gauge: str) -> Model:
        """The same function with its weights rewritten: see load."""
        return Model(self._native.in_gauge(gauge))

    def save(self, folder: Path, *, dtype: str = "float32") -> None:
        """Writes a HuggingFace folder: config.json, model.safetensors in float32, float16 or bfloat16, and the tokenizer."""
        self._native.save(os.fspath(folder), dtype)

    # ---- explaining -----------------------------------------------------------------------------
    # Each of these asks the verb of the program of that name. Options that are not named here are given by their names with _
    # for -: vitrine.help("patch") lists them.
    def _ask(self, verb, words, scratch):
        name, *first = verb.split(" ")
        words = [*first, *([] if self.name == "default" else ["--model", self.name]), *words]

        def ask(page=None, native=self._native, keeps=scratch):  # the files live as long as the result may ask again
            return _ask.ask(native, name, words, page=page)

        return Result(verb, ask(), lambda: ask(page=True))

    def _verb(self, verb, options, **texts):
        scratch = _ask.Scratch()
        return self._ask(verb, self._words(scratch, options, **texts), scratch)

    def _words(self, scratch, options, *, prompts=(), tokens=(), files=()):
        words = []
        for name, value in prompts:
            # To the program - is what stdin holds.
            words += _ask.prompt(name, self.tokens(value) if value == "-" else value)
        for name, value in tokens:
            words += _ask.token(name, value)
        for name, items in files:
            if items is not None:
                words += [
                    "--" + name,
                    _ask.lines_file(scratch, name + ".jsonl", items, "prompt" if name == "prompts" else "text"),
                ]
        words += _ask.edits(scratch, options.pop("edits", None))
        words += _ask.saes(scratch, options.pop("sae", None))
        for name, value in options.items():
            words += _ask.option(name, value)
        return words

    def predict(self, prompt: Prompt | None = None, *, prompts: Records | None = None, **options: Any) -> Result:
        """The most probable next tokens: result.top [{id, token, logit, prob}]. prompts: many, a file or a list of texts
        or of dicts {'prompt', 'answer', ...}. Options: top, edits, metric, group_by, ..."""
        return self._verb("predict", options, prompts=[("prompt", prompt)], files=[("prompts", prompts)])

    def attention(
        self,
        prompt: Prompt | None = None,
        *,
        prompts: Records | None = None,
        layer: int | None = None,
        head: int | None = None,
        **options: Any,
    ) -> Result:
        """Where each token looks: result.values [head, query, key] of one layer (the first one by default); the page has all
        layers. Of many prompts: how much every head attends between positions (from_=, to=)."""
        layer = 0 if layer is None and prompts is None else layer
        options = {"layer": layer, "head": head, **options}
        return self._verb("attention", options, prompts=[("prompt", prompt)], files=[("prompts", prompts)])

    def lens(
        self,
        prompt: Prompt | None = None,
        answer: Token | None = None,
        wrong: Token | None = None,
        *,
        prompts: Records | None = None,
        **options: Any,
    ) -> Result:
        """The logit lens: the answer's logit after the embedding and every layer. result.tensors['raw'], ['ln'] [1 + layers];
        with pos='all' [1 + layers, position]."""
        return self._verb(
            "lens",
            options,
            prompts=[("prompt", prompt)],
            tokens=[("answer", answer), ("wrong", wrong)],
            files=[("prompts", prompts)],
        )

    def decompose(
        self,
        prompt: Prompt | None = None,
        answer: Token | None = None,
        wrong: Token | None = None,
        *,
        prompts: Records | None = None,
        **options: Any,
    ) -> Result:
        """Direct logit attribution: a logit, or a difference of two, as the sum of what every part wrote:
        result.components [{name, value, kind, layer, head}]."""
        return self._verb(
            "decompose",
            options,
            prompts=[("prompt", prompt)],
            tokens=[("answer", answer), ("wrong", wrong)],
            files=[("prompts", prompts)],
        )

    def _pairs(self, verb, clean, corrupt, answer, wrong, pairs, options):
        return self._verb(
            verb,
            options,
            prompts=[("clean", clean), ("corrupt", corrupt)],
            tokens=[("answer", answer), ("wrong", wrong)],
            files=[("pairs", pairs)],
        )

    def patch(
        self,
        clean: Prompt | None = None,
        corrupt: Prompt | None = None,
        answer: Token | None = None,
        wrong: Token | None = None,
        *,
        pairs: Records | None = None,
        site: str,
        by: str | None = None,
        **options: Any,
    ) -> Result:
        """Activation patching: result.values along result.axes, the metric of each edited run. pairs: many, a file or a list of
        dicts {'clean', 'corrupt', 'answer', 'wrong'}; then result.mean, result.standard_error.

        site: resid_pre, resid_mid, resid_post, attn_out, mlp_out, z, q, k, v, pattern, post, pre, an SAE's features
        by: 'pos', 'head', 'head,pos', 'head,dest', 'head,dest,src', 'feature', 'feature,pos'
        options: direction='noise', action='zero', metric='prob', layer=[1, 2], pos=[-1], normalise=True, edits=, sae=, ...
        """
        return self._pairs("patch", clean, corrupt, answer, wrong, pairs, {"site": site, "by": by, **options})

    def attribute(
        self,
        clean: Prompt | None = None,
        corrupt: Prompt | None = None,
        answer: Token | None = None,
        wrong: Token | None = None,
        *,
        pairs: Records | None = None,
        method: str = "attribution-patching",
        **options: Any,
    ) -> Result:
        """Gradient attribution: 'attribution-patching', 'grad-x-act', 'ig', 'edges' (EAP), 'edges-ig' (EAP-IG),
        'edges-exact'; the strongest are measured exactly beside it. result.nodes or result.edges; result.tensors."""
        return self._pairs("attribute", clean, corrupt, answer, wrong, pairs, {"method": method, **options})

    def circuit(
        self,
        clean: Prompt | None = None,
        corrupt: Prompt | None = None,
        answer: Token | None = None,
        wrong: Token | None = None,
        *,
        pairs: Records | None = None,
        by: str | None = None,
        edges: int | None = None,
        **options: Any,
    ) -> Result:
        """The edges that do a behaviour's work, judged exactly: result.edges, result.faithfulness. by: 'exact', 'edges-ig' (the
        default), 'edges', 'acdc' (threshold=), 'greedy'; apply=FILE judges a circuit that there is, compare=FILE compares.
        """
        result = self._pairs("circuit", clean, corrupt, answer, wrong, pairs, {"by": by, "edges_": edges, **options})
        result.faithfulness = result.json["circuit"]["faithfulness"] if result.json.get("circuit") else None
        return result

    def ablate(
        self,
        prompt: Prompt | None = None,
        answer: Token | None = None,
        wrong: Token | None = None,
        *,
        prompts: Records | None = None,
        of: str = "heads",
        sets: str = "single",
        **options: Any,
    ) -> Result:
        """What the answers need: heads, mlps, layers or features out of work one at a time, in pairs, or in sets that grow
        ('greedy'). result.units, result.pairs or result.steps."""
        options = {"of": of, "sets": sets, **options}
        return self._verb(
            "ablate",
            options,
            prompts=[("prompt", prompt)],
            tokens=[("answer", answer), ("wrong", wrong)],
            files=[("prompts", prompts)],
        )

    def heads(
        self,
        *,
        explain: str | None = None,
        prompt: Prompt | None = None,
        prompts: Records | None = None,
        **options: Any,
    ) -> Result:
        """What every head does on repeated random tokens, which are induction heads and what feeds them; explain='1.4': one
        head, from its weights and on a prompt. result.tensors['induction'] [layer, head], ..."""
        return self._verb(
            "heads", {"explain": explain, **options}, prompts=[("prompt", prompt)], files=[("prompts", prompts)]
        )

    def neurons(
        self,
        prompt: Prompt | None = None,
        answer: Token | None = None,
        wrong: Token | None = None,
        *,
        prompts: Records | None = None,
        corpus: Texts | None = None,
        **options: Any,
    ) -> Result:
        """The strongest MLP neurons on a prompt, by activation or direct effect on an answer; with corpus (a file, or texts) the
        contexts in which each is most active. result.neurons."""
        return self._verb(
            "neurons",
            options,
            prompts=[("prompt", prompt)],
            tokens=[("answer", answer), ("wrong", wrong)],
            files=[("prompts", prompts), ("corpus", corpus)],
        )

    def steer(
        self,
        prompt: Prompt | None = None,
        *,
        prompts: Records | None = None,
        plus: Prompt | None = None,
        minus: Prompt | None = None,
        direction: Any = None,
        toward: Token | None = None,
        site: str | None = None,
        scale: Sequence[float] | None = None,
        **options: Any,
    ) -> Result:
        """Continues a prompt with a direction added at a site, for each scale, beside the plain text: result.steered. The
        direction is the difference of `plus` and `minus`, an array or file, or a token's unembedding vector (toward).
        """
        scratch = _ask.Scratch()
        if direction is not None and not isinstance(direction, (str, os.PathLike)):
            import numpy

            path = scratch.path("direction.npy")
            numpy.save(path, numpy.ascontiguousarray(direction, dtype=numpy.float32))
            direction = path
        options = {"direction": direction, "site": site, "scale": scale, **options}
        words = self._words(
            scratch,
            options,
            prompts=[("prompt", prompt), ("plus", plus), ("minus", minus)],
            tokens=[("toward", toward)],
            files=[("prompts", prompts)],
        )
        return self._ask("steer", words, scratch)

    def influence(
        self,
        prompt: Prompt | None = None,
        *,
        prompts: Records | None = None,
        source_sae: Sae | Path | Sequence[Sae | Path],
        target_sae: Sae | Path | Sequence[Sae | Path],
        **options: Any,
    ) -> Result:
        """Which features of SAEs and transcoders cause which of later ones, first order and exactly: result.targets. Several of
        both are spliced into one model: causes in several layers at once."""
        scratch = _ask.Scratch()
        words = _ask.saes(scratch, source_sae, "--source-sae") + _ask.saes(scratch, target_sae, "--target-sae")
        words += self._words(scratch, options, prompts=[("prompt", prompt)], files=[("prompts", prompts)])
        return self._ask("influence", words, scratch)

    def graph(
        self,
        prompt: Prompt | None = None,
        *,
        transcoders: Transcoders | Path | None = None,
        supernodes: Mapping[str, Sequence[str]] | Path | None = None,
        **options: Any,
    ) -> Result:
        """The attribution graph of a prompt: which features of the MLPs' transcoders cause which later ones, and the next token.

        transcoders: what train_transcoders gives, circuit-tracer's folder, or one of SAELens transcoders, one for each layer; None: those
            that came with the model
        supernodes: groups of nodes that are looked at as one, {'Texas': ['1_20_3', '2_7_3']} (features are LAYER_FEATURE_POSITION,
        errors error_LAYER_POSITION, tokens E_ID_POSITION), or a graph's file that has some
        result.strongest [{layer, position, feature, activation, influence, effect, exact, raised}]; result.tensors['adjacency']
        [targets, nodes]; result.nodes and result.links as circuit-tracer's viewers read them; result.supernodes: what switching
        each off (factor=0) does, by the graph and in the model; result.merged: edges with each supernode as one node;
        options: first='zero', node_threshold, edge_threshold, verify, attention='hold', factor, ...
        """
        scratch = _ask.Scratch()
        words = _ask.supernodes(scratch, supernodes)
        words += self._words(scratch, {"transcoders": transcoders, **options}, prompts=[("prompt", prompt)])
        return self._ask("graph", words, scratch)

    def evaluate(self, file: Texts | None = None, *, prompts: Records | None = None, **options: Any) -> Result:
        """How well the model predicts a text (a file, or texts): result.loss in nats a token, perplexities; or the answers of
        prompts: means of metrics, with standard errors."""
        scratch = _ask.Scratch()
        words = self._words(scratch, options, files=[("prompts", prompts)])
        if file is not None:
            words.insert(0, _ask.lines_file(scratch, "texts.jsonl", file))
        return self._ask("evaluate", words, scratch)

    def prompts(
        self, set: str | None = None, *, template: str | Sequence[str] | None = None, **options: Any
    ) -> list[dict[str, Any]]:
        """Prompts or pairs for experiments, from templates or ready-made (set='capitals', 'ioi', 'induction', 'greater-than'):
        a list of dicts, which `pairs=` and `prompts=` take."""
        scratch = _ask.Scratch()
        words = [] if set is None else [set]
        for one in [template] if isinstance(template, str) else template or []:
            words += _ask.option("template", one)
        for slot in _many(options.pop("slot", None)):
            words += ["--slot", slot]
        words += self._words(scratch, options)
        if self.name != "default":
            words = ["--model", self.name, *words]
        found = _ask.ask(self._native, "prompts", words, page=False)
        return [json.loads(line) for line in found["written"].splitlines()]

    def sae_features(
        self,
        sae: Sae | Path,
        prompt: Prompt | None = None,
        *,
        corpus: Texts | None = None,
        feature: Sequence[int] | None = None,
        **options: Any,
    ) -> Result:
        """The features of an SAE that are active on a prompt (result.active); or with corpus (a file, or texts) the contexts in
        which features are strongest, with feature=[...] all that is known of these (result.features)."""
        scratch = _ask.Scratch()
        words = _ask.saes(scratch, sae) + self._words(
            scratch, {"feature": feature, **options}, prompts=[("prompt", prompt)], files=[("corpus", corpus)]
        )
        return self._ask("sae features", words, scratch)

    def sae_eval(self, sae: Sae | Path, data: Texts, **options: Any) -> Result:
        """How well an SAE reconstructs over texts (a file, or texts), and what its reconstruction does to predictions:
        result.reconstruction, result.model."""
        scratch = _ask.Scratch()
        words = _ask.saes(scratch, sae) + self._words(scratch, options, files=[("data", data)])
        return self._ask("sae eval", words, scratch)

    def train_sae(
        self,
        site: Patterns,
        texts: Texts | None = None,
        *,
        out: Path | None = None,
        target: str | None = None,
        **options: Any,
    ) -> Sae | list[Sae]:
        """Trains SAEs on the activations at a site (several: a list) over texts, and gives the Sae, or a list of them.

        texts: files, or an iterable of texts or of dicts with 'text' (a `datasets` data set)
        out: the folder of the run, which resume=True goes on; None: one that goes with the Sae
        target: a transcoder, which gives this site
        options: kind='batchtopk', features=4096, k=32, vectors=10_000_000, batch=4096, rate=..., sweep={...}, ...
        """
        from ._sae import trained

        return trained(self, site, texts, out, target, options)

    def train_transcoders(
        self, texts: Texts | None = None, *, cross_layer: bool = False, out: Path | None = None, **options: Any
    ) -> Transcoders:
        """Trains a transcoder for every MLP over texts, per layer or one cross-layer, and gives them.

        texts, out: as of train_sae
        options: kind='batchtopk', features=4096 and k=32 (of each layer), vectors=10_000_000, batch=4096, rate=..., site and
        target (default: '*.ln2.hook_normalized' and '*.hook_mlp_out'), ...
        """
        from ._transcoders import trained

        return trained(self, texts, out, cross_layer, options)

    def transcoders_eval(self, transcoders: Transcoders | Path, data: Texts, **options: Any) -> Result:
        """How well transcoders stand for the MLPs over texts (a file, or texts): result.layers [{l0, mse, normalised_mse,
        dead_fraction}], and result.model, all of them in the place of all MLPs: {ce_clean, ce_replaced, ce_zero, kl, ...}."""
        scratch = _ask.Scratch()
        words = ["--transcoders", os.fspath(transcoders)] + self._words(scratch, options, files=[("data", data)])
        return self._ask("sae eval", words, scratch)

    def tokenize(self, text: str) -> list[dict[str, Any]]:
        """[{id, token}] of a text, as `vitrine tokenize` prints it."""
        ids = self.tokens(text)
        return [{"id": i, "token": t} for i, t in zip(ids, self._native.str_tokens(ids))]

    def info(self, **options: Any) -> Result:
        """Configuration, parameters, sites, memory and FLOPs; its page is a drawing of the model."""
        return self._verb("info", options)

    def explain(self, word: str | None = None, prompt: Prompt | None = None, **options: Any) -> Result:
        """What a site ('z', '2.z', '2.4.z'), an op, a term of the field or a verb is: result.entries [{kind, name, summary,
        lesson, ...}]; of a site with a prompt also what it holds there, entries[0]['values'].

        word: None, all that there is
        options: kind='op', length=5 (tokens, of shapes and costs), edits, sae
        """
        scratch = _ask.Scratch()
        words = [] if word is None else [word]
        return self._ask("explain", words + self._words(scratch, options, prompts=[("prompt", prompt)]), scratch)

    def doctor(self, **options: Any) -> Result:
        """Whether the model is sound: causality, NaN, dead units, the loss: result.model['checks']."""
        scratch = _ask.Scratch()
        words = ["--model", self.name, "--model-alone"] + self._words(scratch, options)
        found = _ask.ask(self._native, "doctor", words, page=False)
        return Result("doctor", found)

    def tour(self, **options: Any) -> Result:
        """The whole story on this model, about a minute: result.steps."""
        return self._verb("tour", options)


def _values(edits):
    """Edits as the engine takes them: what `zero`, `add`, ... made."""
    listed = isinstance(edits, (list, tuple)) and any(isinstance(e, str) for e in edits)
    if isinstance(edits, str) or listed:
        raise _vitrine.UsageError(
            "an edit as text is for predict, patch, ablate and the like; here give vitrine.zero(site, head=...), add, "
            "from_run, ..."
        )
    return edits


def _many(value):
    if value is None:
        return []
    if isinstance(value, dict):
        return [
            f"{name}={','.join(map(str, items)) if not isinstance(items, str) else items}"
            for name, items in value.items()
        ]
    return [value] if isinstance(value, str) else list(value)
