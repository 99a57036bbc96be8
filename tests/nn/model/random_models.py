"""Random GPT-2 folders as transformers saves them: does Vitrine compute their logits, or name what it refuses?

    python tests/nn/model/random_models.py --program build/dev/apps/vitrine --count 300 --seed 0

Needs torch, transformers and safetensors. Each model has a random configuration, random weights, and something that folders
of people have: shards, half precision, other heads, names without a prefix, masks, other spellings of config.json. Its
logits on random ids, computed by transformers in f64, must be those of `vitrine cache` (and the best ids those of
`vitrine predict`) within 1e-4 of the largest; a refusal is right only where something is not supported, with exit code 3
and with the name of the field, tensor or file. The last line counts; the exit code is 0 when there is no fault.
"""
import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import GPT2Config  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

SAME = ["gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate", "gelu", "gelu_python", "relu"]
OTHER = ["gelu_10", "quick_gelu", "silu", "swish", "tanh", "relu2", "linear", "mish"]
HEADS = ["GPT2Model", "GPT2DoubleHeadsModel", "GPT2ForSequenceClassification", "GPT2ForTokenClassification",
         "GPT2ForQuestionAnswering"]
TOLERANCE = 1e-4


class Case:
    """A folder, how it was made, and the words one of which a refusal must have; without any it must load."""

    def __init__(self, folder, draw):
        self.folder, self.draw = folder, draw
        self.notes, self.refusal = [], []

    def maybe(self, share):
        return self.draw.random() < share

    def unsupported(self, *words):
        self.refusal += words


def random_config(case):
    draw = case.draw
    heads = draw.choice([1, 1, 2, 3, 4])
    width = heads * draw.choice([1, 2, 3, 4, 8, 16])
    width = max(width, 2)  # the LayerNorm of one number is a constant
    width = -(-width // heads) * heads
    vocabulary = draw.choice([2, 7, 50, 97, 256, 300])
    fields = dict(
        n_layer=draw.choice([1, 1, 2, 2, 3, 5]), n_head=heads, n_embd=width, vocab_size=vocabulary,
        n_positions=draw.choice([3, 4, 5, 8, 16, 33]),
        n_inner=draw.choice([None, None, 1, 3, 2 * width, 5 * width + 1]),
        activation_function=draw.choice(SAME),
        layer_norm_epsilon=draw.choice([1e-5, 1e-5, 1e-6, 1e-12, 1e-3, 0.1]),
        scale_attn_weights=draw.choice([True, True, False]),
        scale_attn_by_inverse_layer_idx=draw.choice([False, False, True]),
        reorder_and_upcast_attn=draw.choice([False, False, True]),
        tie_word_embeddings=draw.choice([True, True, False]),
        resid_pdrop=draw.choice([0.0, 0.1]), embd_pdrop=draw.choice([0.0, 0.1]), attn_pdrop=draw.choice([0.0, 0.3]),
        initializer_range=draw.choice([0.02, 0.5]), use_cache=draw.choice([True, False]),
        summary_type=draw.choice(["cls_index", "last", "mean"]), summary_use_proj=draw.choice([True, False]),
        num_labels=draw.choice([1, 2, 5]),
        bos_token_id=draw.choice([50256, 0, None]),
        eos_token_id=draw.choice([50256, 0, None, [0, 1], [1]]), pad_token_id=draw.choice([None, 0]))
    if case.maybe(0.06):
        fields["activation_function"] = draw.choice(OTHER)
        case.unsupported("activation_function")
    if case.maybe(0.05):
        fields["add_cross_attention"] = True
        case.unsupported("add_cross_attention")
    case.notes.append(" ".join(f"{k}={v}" for k, v in fields.items() if k in (
        "n_layer", "n_head", "n_embd", "n_inner", "vocab_size", "n_positions", "activation_function", "tie_word_embeddings")))
    return GPT2Config(**fields)


def random_model(case, config):
    name = "GPT2LMHeadModel" if case.maybe(0.6) else case.draw.choice(HEADS)
    case.notes.append(name)
    if not config.tie_word_embeddings and name in ("GPT2Model", "GPT2ForSequenceClassification",
                                                   "GPT2ForTokenClassification", "GPT2ForQuestionAnswering"):
        case.unsupported("lm_head.weight")  # it is not in the folder
    model = getattr(transformers, name)(config)
    spread = case.draw.choice([0.05, 0.2, 0.5])
    with torch.no_grad():
        for parameter, p in model.named_parameters():
            gain = parameter.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight"))
            p.copy_(torch.randn_like(p) * spread + (1.0 if gain else 0.0))
    dtype = case.draw.choice([torch.float32, torch.float32, torch.bfloat16, torch.float16])
    case.notes.append(str(dtype))
    return model.eval().to(dtype)


# ---- what is done to the folder that was saved ---------------------------------------------------------------------------
def edit_config(case, change):
    file = case.folder / "config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config, indent=1))


def canonical_names(case):
    def change(config):
        for own, other in GPT2Config.attribute_map.items():
            if case.maybe(0.7):
                config[own] = config.pop(other)
    edit_config(case, change)


def fields_without_use(case):
    edit_config(case, lambda c: c.update(
        n_ctx=7, task_specific_params={"text-generation": {"do_sample": True, "max_length": 50}},
        gradient_checkpointing=True, tokenizer_class="GPT2Tokenizer", predict_special_tokens=True, torch_dtype="bfloat16",
        summary_activation=None, some_loss=float("nan"), pruned_heads={}, is_decoder=True, finetuning_task=None))


def refused_field(case):
    field, value = case.draw.choice([
        ("is_causal", False), ("pruned_heads", {"0": [0]}), ("per_layer_config", {"0": {"n_inner": 3}}),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_8bit": True}), ("model_type", "gpt_neo"),
        ("scale_attn_weights", None), ("scale_attn_weights", 1), ("n_inner", 0), ("layer_norm_epsilon", "1e-5")])
    edit_config(case, lambda c: c.update({field: value}))
    case.notes.append(f"{field}={value}")
    case.unsupported(field)


def with_tensors(case, change):
    """`change` gives the tensors of the one file anew."""
    file = case.folder / "model.safetensors"
    if not file.exists():
        return
    tensors = change(load_file(file))
    save_file({name: t.contiguous() for name, t in tensors.items()}, file, metadata={"format": "pt"})


def bare_names(case):
    with_tensors(case, lambda all: {n.removeprefix("transformer."): t for n, t in all.items()})


def prefixed_names(case):
    with_tensors(case, lambda all: {
        n if not n.startswith(("h.", "wte.", "wpe.", "ln_f.")) else "transformer." + n: t for n, t in all.items()})


def wrapped_names(case):
    if not (case.folder / "model.safetensors").exists():
        return
    prefix = case.draw.choice(["module.", "_orig_mod.", "pretrained_model."])
    with_tensors(case, lambda all: {prefix + n: t for n, t in all.items()})
    case.unsupported(prefix)


def masks(case):
    def change(all):
        length = 16
        for name in list(all):
            if name.endswith("attn.c_attn.weight") and "cross" not in name:
                base = name.removesuffix("c_attn.weight")
                all[base + "bias"] = torch.tril(torch.ones(length, length, dtype=torch.uint8)).view(1, 1, length, length)
                all[base + "masked_bias"] = torch.tensor(-1e4)
        return all
    with_tensors(case, change)


def value_head(case):
    def change(all):
        all["v_head.summary.weight"], all["v_head.summary.bias"] = torch.randn(1, 4), torch.randn(1)
        return all
    with_tensors(case, change)


def head_only(case):
    """The tied table under the name of the head."""
    def change(all):
        for name in ("transformer.wte.weight", "wte.weight"):
            if name in all and "lm_head.weight" not in all and not case.refusal:
                all["lm_head.weight"] = all.pop(name)
        return all
    with_tensors(case, change)


def head_beside(case):
    """Tied, and both names are there."""
    def change(all):
        for name in ("transformer.wte.weight", "wte.weight"):
            if name in all and "lm_head.weight" not in all and not case.refusal:
                all["lm_head.weight"] = all[name].clone()
        return all
    with_tensors(case, change)


def missing_tensor(case):
    def change(all):
        names = [n for n in all if not n.startswith(("lm_head", "score", "classifier", "qa_", "multiple_choice"))]
        name = case.draw.choice(names)
        case.unsupported(name.removeprefix("transformer."))
        del all[name]
        return all
    with_tensors(case, change)


def pickled(case):
    file = case.folder / "model.safetensors"
    if not file.exists():
        return
    torch.save(load_file(file), case.folder / "pytorch_model.bin")
    file.unlink()
    case.unsupported("pytorch_model.bin")


def adapter(case):
    (case.folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    case.unsupported("adapter_config.json")


CHANGES = {canonical_names: 3, fields_without_use: 3, refused_field: 2, bare_names: 2, prefixed_names: 2, wrapped_names: 1,
           masks: 2, value_head: 2, head_only: 2, head_beside: 2, missing_tensor: 1, pickled: 1, adapter: 0.5}


# ---- comparing -----------------------------------------------------------------------------------------------------------
def reference(model, config, ids):
    """Logits [position, vocabulary] in f64 of the language model with these weights."""
    config = GPT2Config(**{k: v for k, v in config.to_dict().items() if k not in ("dtype", "torch_dtype")})
    config._attn_implementation = "eager"
    config.reorder_and_upcast_attn = False  # it computes scores in f32, the same numbers
    language = transformers.GPT2LMHeadModel(config).eval().double()
    state = {}
    for name, tensor in model.state_dict().items():
        own = name if name.startswith(("transformer.", "lm_head.")) else "transformer." + name
        state[own] = tensor.double()
    language.load_state_dict(state, strict=False)
    if config.tie_word_embeddings:
        language.tie_weights()
    with torch.no_grad():
        return language(torch.tensor([ids])).logits[0]


def run(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr.strip()


def fault_of(case, program, model, config):
    """What is wrong, or None; and whether the folder was refused."""
    ids = [case.draw.randrange(config.vocab_size) for _ in range(case.draw.randint(1, config.n_positions))]
    tokens, out = ",".join(map(str, ids)), case.folder / "out.safetensors"
    code, _, message = run(program, "cache", "--model", case.folder, "--tokens", tokens, "--sites", "blocks.0.hook_resid_pre",
                           "--out", out, "--quiet")
    if code == 3:
        if not case.refusal:
            return f"refused without a reason: {message}", True
        named = message.removeprefix(f"vitrine: {case.folder}")  # the name of the folder proves nothing
        return (None if any(w in named for w in case.refusal) else f"none of {case.refusal} is named: {message}"), True
    if code != 0:
        return f"exit code {code}: {message}", False
    if case.refusal:
        return f"should have been refused for {case.refusal}", False
    want = reference(model, config, ids)
    got = load_file(out)["logits"][0].double()
    largest = want.abs().max().item()
    off = (got - want).abs().max().item()
    if not off <= TOLERANCE * largest:
        return f"logits are off by {off:.3g}, the largest is {largest:.3g}", False
    code, text, message = run(program, "predict", "--model", case.folder, "--tokens", tokens, "--top", 5, "--format", "json")
    if code != 0:
        return f"predict: exit code {code}: {message}", False
    for one in json.loads(text)["top"]:
        if not abs(one["logit"] - want[-1, one["id"]].item()) <= TOLERANCE * largest:
            return f"predict: id {one['id']} has {one['logit']}, not {want[-1, one['id']].item()}", False
    return None, False


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--program", required=True)
    arguments.add_argument("--count", type=int, default=300)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--keep", help="a folder for the models with faults")
    a = arguments.parse_args()
    program = str(pathlib.Path(a.program).resolve())
    counts, changes = collections.Counter(), collections.Counter()
    for number in range(a.count):
        draw = random.Random(f"{a.seed} {number}")
        torch.manual_seed(draw.randrange(1 << 30))
        with tempfile.TemporaryDirectory() as scratch:
            case = Case(pathlib.Path(scratch) / "m", draw)
            config = random_config(case)
            model = random_model(case, config)
            shards = case.maybe(0.15)
            model.save_pretrained(case.folder, max_shard_size=draw.choice(["2KB", "20KB"]) if shards else "5GB")
            if (case.folder / "model.safetensors.index.json").exists():
                changes["sharded"] += 1
            for change in draw.choices(list(CHANGES), list(CHANGES.values()), k=draw.choice([0, 0, 1, 1, 2])):
                case.notes.append(change.__name__)
                changes[change.__name__] += 1
                change(case)
            fault, refused = fault_of(case, program, model, config)
            counts["faults" if fault else "refused, by name" if refused else "equal"] += 1
            if fault:
                print(f"model {number}: {fault}\n  {'; '.join(case.notes)}", flush=True)
                if a.keep:
                    shutil.copytree(case.folder, pathlib.Path(a.keep) / str(number), dirs_exist_ok=True)
    print("with", ", ".join(f"{name} {n}" for name, n in sorted(changes.items())))
    print(f"{a.count} models (transformers {transformers.__version__}):", ", ".join(f"{n} {what}" for what, n in counts.items()))
    raise SystemExit(1 if counts["faults"] else 0)


if __name__ == "__main__":
    main()
