"""Random tokenizers, as HuggingFace writes them, against `vitrine tokenize`.

    python tests/nn/tokenizer/random_tokenizers.py --program build/dev/apps/vitrine --count 300 --seed 1

Needs transformers 5, tokenizers, sentencepiece and gguf; run by hand. Each tokenizer is a folder with a
tokenizer.json, with vocab.json and merges.txt and what may stand beside them, or with what save_pretrained
writes; or a GGUF file. Random
texts must get the ids that HuggingFace gives, or the folder must be refused by the name of something
that was put into it and is not supported. Prints how many were equal, how many were refused and for
which field, and every one that was wrong; exits with 1 when there was one. --keep DIR keeps the folders
of those.
"""
import argparse
import collections
import io
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["RUST_BACKTRACE"] = "0"

import gguf
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, GPT2Tokenizer
from transformers.utils import logging

logging.set_verbosity_error()

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TIKTOKEN_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2_PATTERN = LLAMA3_PATTERN.replace("{1,3}", "")
O200K_PATTERN = "|".join([r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                          r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                          r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"])
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]
PATTERNS = [GPT2_PATTERN, TIKTOKEN_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN, O200K_PATTERN, DEEPSEEK[2], r" ?[^(\s|[.,!?…。，、।۔،])]+"]
SMALL_PATTERNS = [r"\s+", r"\p{L}+", r"[^a-y]", r"\d{2,}", r"(?:t|th)e?", r"a(?=t)", r"\p{Lu}\p{Ll}*", r" (?!t)", r".", r"\P{L}++", r"'[st]|e|\n\n?",
                  r"[\p{^N}&&x]", r"\w+", r"(ab)+", r"t.*?e", r"^T", r"\bx", r"[ \t]{1,2}", r"(?i:THE|é)", r"(?i:sta)"]
ATOMS = [r"\p{L}", r"\s", "[^a]", "a", "t", "th", "'s", r"\r", "é", r"[^\s\p{N}]", ".", r"\p{N}", "[a-e]", r"[\p{Lu}é-]", r"\d", r"\S",
         r"[^(\s|[.,!?])]", r"\P{L}", r"\n", " ", r"[\p{^L}]", "北", "[0-9٣]"]
QUANTIFIERS = ["", "", "", "", "?", "*", "+", "{1,3}", "{2}", "++", "?+", "{,2}", "{2,}"]
WORDS = ("the cat sat on a mat and The capital of Texas is Austin we're don't I'll you've he'd naïve café 北京 東京 привет "
         "été 123 2024 3.14 x1 -- ... !? (a) [b] {c} <d> \U0001F98A \U0001F469\u200D\U0001F4BB e\u0301 ﬁ Ⅷ ½ ٣").split()
SPECIALS = ["<s>", "</s>", "<pad>", "<unk>", "<mask>", "<|im_start|>", "[CLS]", "<|endoftext|>"]
ADDED = ["hello world", "é", "éa", "Ġthe", "the", "北", "<tool>", "<tool", " x", "\n\n", "ing", "Texas", "<s>x", "a b", "ĠĠ", "'s", "1"]
SPACES = [" ", " ", " ", "  ", "   ", "\n", "\t", "\u00a0", "\u3000", "", "\r\n"]


class Case:
    """A folder, how HuggingFace reads it, and what in it may be refused."""

    def __init__(self, rng, folder):
        self.rng, self.folder, self.unsupported, self.contents = rng, folder, set(), []
        self.target = folder
        folder.mkdir(parents=True)

    def write(self, name, value):
        (self.folder / name).write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1))

    def maybe(self, chance, field):
        """Whether to put in something that is not supported."""
        if self.rng.random() >= chance:
            return False
        self.unsupported.add(field)
        return True


def random_text(rng, contents):
    parts = []
    for _ in range(rng.randint(0, 12)):
        kind = rng.random()
        if kind < 0.55:
            parts.append(rng.choice(WORDS))
        elif kind < 0.75 and contents:
            content = rng.choice(contents)
            parts.append(content if rng.random() < 0.8 else content[: rng.randint(0, len(content))])
        elif kind < 0.85:
            parts.append(chr(rng.choice([rng.randint(1, 0xD7FF), rng.randint(0xE000, 0x10FFFF), rng.randint(32, 126)])))
        else:
            parts.append(rng.choice(["'s", "'LL", "the", " ", "aaaa", "\u0000", "Ġ", "é", "ab" * 40]))
        parts.append(rng.choice(SPACES))
    return "".join(parts)


def train(rng, specials):
    """A byte-level BPE of a random size whose special tokens come first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [" ".join(rng.choice(WORDS) for _ in range(30)) for _ in range(rng.randint(1, 40))]
    alphabet = pre_tokenizers.ByteLevel.alphabet() if rng.random() < 0.93 else []
    trainer = trainers.BpeTrainer(vocab_size=rng.randint(200, 700), min_frequency=rng.choice([1, 2]), special_tokens=specials,
                                  show_progress=False, initial_alphabet=sorted(alphabet))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer, bool(alphabet)


def random_added(case, content, special=None):
    """An AddedToken with flags, the one that is not supported rarely."""
    rng = case.rng
    flags = {}
    for flag in ("lstrip", "rstrip"):
        if rng.random() < 0.1:
            flags[flag] = True
    if case.maybe(0.01, "single_word"):
        flags["single_word"] = True
    if rng.random() < 0.5:
        flags["normalized"] = rng.random() < 0.5
    case.contents.append(content)
    return AddedToken(content, special=rng.random() < 0.5 if special is None else special, **flags)


def some(rng, items, most):
    return rng.sample(items, rng.randint(0, min(most, len(items))))


def base(case):
    """A trained tokenizer, its special tokens, and the fields of a vocabulary that lacks bytes."""
    specials = some(case.rng, SPECIALS, 4)
    tokenizer, whole = train(case.rng, specials)
    case.contents += specials
    if not whole:
        case.unsupported |= {"no token in the vocabulary", "unk_token"}
    return tokenizer, specials


def template(case, tokenizer):
    """A post-processor, or none."""
    rng = case.rng
    kind = rng.choice(["none", "none", "byte level", "bos", "bos", "two", "plain", "sequence", "eos", "roberta"])
    names = [t for t in tokenizer.get_vocab() if t in SPECIALS]
    bos = rng.choice(names) if names else None
    if kind == "none" or (bos is None and kind not in ("byte level", "plain")):
        return None
    ids = [(t, tokenizer.token_to_id(t)) for t in names]
    if kind == "byte level":
        return processors.ByteLevel(trim_offsets=rng.random() < 0.5)
    if kind == "plain":
        return processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    if kind == "sequence":
        return processors.Sequence([processors.ByteLevel(trim_offsets=False),
                                    processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=ids)])
    if kind == "roberta":
        case.unsupported.add("post_processor")
        return processors.RobertaProcessing((bos, dict(ids)[bos]), (bos, dict(ids)[bos]))
    single = {"bos": f"{bos} $A", "two": f"{bos} {rng.choice(names)} $A", "eos": f"{bos} $A {bos}"}[kind]
    if kind == "eos":
        case.unsupported.add("post_processor")
    return processors.TemplateProcessing(single=single, pair=f"{bos} $A $B", special_tokens=ids)


def library_ids(folder):
    """By the tokenizers library; None for a text on which it panics: a token whose rstrip takes white space
    in which another token begins."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def ids(text):
        try:
            return tokenizer.encode(text).ids
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            return None
    return lambda texts: [ids(text) for text in texts]


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(pattern, behavior, invert)


def random_pattern(rng, depth=0):
    """A regular expression of constructs that are known."""
    alternatives = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        parts = []
        for _ in range(rng.randint(1, 4)):
            kind = rng.random()
            if kind < 0.78 or depth > 2:
                parts.append(rng.choice(ATOMS) + rng.choice(QUANTIFIERS))
            elif kind < 0.9:
                parts.append("(?:" + rng.choice(ATOMS) + random_pattern(rng, depth + 1) + ")" + rng.choice(["", "?"]))
            else:
                parts.append(rng.choice(["(?=", "(?!"]) + random_pattern(rng, depth + 1) + ")")
        alternatives.append("".join(parts))
    return "|".join(alternatives)


def random_split(rng):
    """One of the patterns in use, or a small one with any behavior."""
    if rng.random() < 0.5:
        return split(Regex(rng.choice(PATTERNS)))
    if rng.random() < 0.3:
        return split(Regex(random_pattern(rng)), rng.choice(["isolated", "removed"]), rng.random() < 0.5)
    pattern = rng.choice([Regex(p) for p in SMALL_PATTERNS] + [" ", "the", "\n", ".", "[a]", "é"])
    behavior = rng.choice(["isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous"])
    return split(pattern, behavior, rng.random() < 0.2)


def random_normalizer(case, characters):
    """Of characters: often the two steps of Llama 2."""
    rng = case.rng
    if case.maybe(0.02, "normalizer"):
        return rng.choice([normalizers.Lowercase(), normalizers.Sequence([normalizers.NFKC()]), normalizers.StripAccents()])
    some_of = [lambda: normalizers.NFC(), lambda: normalizers.Replace(" ", "▁"), lambda: normalizers.Prepend("▁"),
               lambda: normalizers.Replace(Regex(rng.choice(SMALL_PATTERNS)), rng.choice(["", " ", "xy"])),
               lambda: normalizers.Replace("e", "é"), lambda: normalizers.Prepend(" ")]
    if characters and rng.random() < 0.6:
        return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [rng.choice(some_of)() for _ in range(rng.choice([0, 0, 0, 1, 1, 2]))]
    if not steps:
        return None
    return steps[0] if len(steps) == 1 and rng.random() < 0.5 else normalizers.Sequence(steps)


def random_pre_tokenizer(case, bytes_last):
    rng = case.rng
    if case.maybe(0.02, "pre_tokenizer"):
        return rng.choice([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation(), pre_tokenizers.BertPreTokenizer()])
    steps = []
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        kind = rng.random()
        if kind < 0.6:
            steps.append(random_split(rng))
        elif kind < 0.9:
            steps.append(pre_tokenizers.Digits(individual_digits=rng.random() < 0.5))
        else:
            steps.append(pre_tokenizers.Metaspace("▁", rng.choice(["always", "first", "never"]), rng.random() < 0.5))
    if bytes_last:
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=rng.random() < 0.2, use_regex=rng.random() < 0.6))
    if not steps:
        return None
    return steps[0] if len(steps) == 1 and rng.random() < 0.5 else pre_tokenizers.Sequence(steps)


def family_json(case):
    """A tokenizer of one of the known families that merges bytes."""
    rng = case.rng
    tokenizer, specials = base(case)
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    family = rng.choice(["llama3", "qwen2", "smollm2", "neox", "o200k", "deepseek"])
    if family == "smollm2":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    elif family == "neox":
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.NFC(), words
        tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    elif family == "deepseek":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split(Regex(p)) for p in DEEPSEEK] + [plain])
    else:
        tokenizer.normalizer = normalizers.NFC() if family == "qwen2" else None
        pattern = {"llama3": LLAMA3_PATTERN, "qwen2": QWEN2_PATTERN, "o200k": O200K_PATTERN}[family]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split(Regex(pattern)), plain])
    if (post := template(case, tokenizer)) is not None:
        tokenizer.post_processor = post
    tokenizer.add_special_tokens([AddedToken(c) for c in some(rng, SPECIALS, 3)])
    case.contents += SPECIALS
    data = json.loads(tokenizer.to_str())
    data["model"]["ignore_merges"] = family == "llama3"
    case.write("tokenizer.json", data)
    return library_ids(case.folder)


def characters_json(case):
    """A tokenizer that merges characters, as Llama 2, Mistral and Gemma do, or with random parts."""
    rng = case.rng
    tokenizer = Tokenizer(models.BPE())
    space = pre_tokenizers.Metaspace("▁", "always", True)
    tokenizer.pre_tokenizer = space
    texts = [" ".join(rng.choice(WORDS) for _ in range(30)) for _ in range(rng.randint(1, 40))]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=rng.randint(100, 700), show_progress=False,
                                                             limit_alphabet=rng.choice([20, 60, 1000])))
    data = json.loads(tokenizer.to_str())
    pieces = sorted(data["model"]["vocab"], key=data["model"]["vocab"].get)
    specials = ["<unk>", "<s>", "</s>"]
    bytes_ = [f"<0x{b:02X}>" for b in range(256) if rng.random() < 0.999]
    all_bytes = len(bytes_) == 256
    fallback = rng.random() < 0.9
    order = specials + bytes_ + pieces
    if rng.random() < 0.3:
        order = specials + [p for p in order if p not in specials]
    data["model"].update(vocab={p: i for i, p in enumerate(order)}, byte_fallback=fallback,
                         unk_token="<unk>" if rng.random() < 0.9 else None, fuse_unk=rng.random() < 0.7)
    if not data["model"]["unk_token"] and not (fallback and all_bytes):
        case.unsupported.add("has no token in the vocabulary")
    if rng.random() < 0.1:
        data["model"]["ignore_merges"] = True
    tokenizer = Tokenizer.from_str(json.dumps(data))
    family = rng.choice(["llama2", "llama2", "metaspace", "mistral", "gemma", "random", "random"])
    byte_decoders = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    strip = [decoders.Strip(" ", 1, 0)]
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Sequence(byte_decoders + strip)
    if family == "llama2":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif family == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", rng.choice(["always", "first", "never"]), rng.random() < 0.3)
    elif family == "mistral":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", False)
        tokenizer.decoder = decoders.Metaspace("▁", "first", False)
    elif family == "gemma":
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = split(" ", "merged_with_previous")
        tokenizer.decoder = decoders.Sequence(byte_decoders)
    else:
        tokenizer.normalizer = random_normalizer(case, True)
        tokenizer.pre_tokenizer = random_pre_tokenizer(case, False)
    tokenizer.add_special_tokens(specials)
    for content in some(rng, ADDED + SPECIALS + ["▁▁", "▁the"], 4):
        tokenizer.add_tokens([random_added(case, content)])
    case.contents += specials
    if rng.random() < 0.6:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    if case.maybe(0.03, "decoder"):
        tokenizer.decoder = rng.choice([decoders.WordPiece(), decoders.ByteLevel()])
    case.write("tokenizer.json", json.loads(tokenizer.to_str()))
    return library_ids(case.folder)


def tokenizer_json(case):
    """A tokenizer.json alone, read by the tokenizers library."""
    rng = case.rng
    tokenizer, specials = base(case)
    tokenizer.normalizer = random_normalizer(case, False)
    tokenizer.pre_tokenizer = random_pre_tokenizer(case, True)
    for content in some(rng, ADDED, 5) + some(rng, SPECIALS, 2):
        tokenizer.add_tokens([random_added(case, content)])
    tokenizer.add_special_tokens([random_added(case, c, True) for c in some(rng, SPECIALS, 2)])
    if (post := template(case, tokenizer)) is not None:
        tokenizer.post_processor = post
    if case.maybe(0.02, "decoder"):
        tokenizer.decoder = decoders.WordPiece()
    data = json.loads(tokenizer.to_str())
    data["model"]["ignore_merges"] = rng.random() < 0.2
    if rng.random() < 0.1:
        data["model"]["unk_token"] = rng.choice(list(data["model"]["vocab"]))
    if rng.random() < 0.3:
        data["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    if case.maybe(0.02, "dropout"):
        data["model"]["dropout"] = 1.0
    if rng.random() < 0.1:
        data["padding"] = None
    case.write("tokenizer.json", data)
    return library_ids(case.folder)


def write_gguf(case, model, tokens, kinds, **more):
    writer = gguf.GGUFWriter(case.folder / "tokens.gguf", "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    for name, value in more.items():
        getattr(writer, "add_" + name)(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    case.target = case.folder / "tokens.gguf"


def bytes_gguf(case):
    """A GGUF file with the vocabulary of a byte-level tokenizer, which the tokenizers library has too."""
    rng = case.rng
    tokenizer, specials = base(case)
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pre = rng.choice(["llama-bpe", "qwen2", "smollm", "gpt-2"])
    if pre in ("llama-bpe", "qwen2"):
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split(Regex(LLAMA3_PATTERN if pre == "llama-bpe" else QWEN2_PATTERN)), plain])
        tokenizer.normalizer = normalizers.NFC() if pre == "qwen2" else None
    else:
        digits = [pre_tokenizers.Digits(individual_digits=True)] if pre == "smollm" else []
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(digits + [words])
    words_added = some(rng, ["hello world", "  ", "   ", "<tool>", "\n\n"], 3)
    tokenizer.add_tokens([AddedToken(c, normalized=False) for c in words_added])
    case.contents += words_added
    data = json.loads(tokenizer.to_str())
    data["model"]["ignore_merges"] = pre == "llama-bpe"
    case.write("expected.json", data)
    vocab = tokenizer.get_vocab()
    tokens = sorted(vocab, key=vocab.get)
    merges = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    add_bos = rng.random() < 0.5
    write_gguf(case, "gpt2", tokens, [3 if t in specials else 4 if t in words_added else 1 for t in tokens], tokenizer_pre=pre,
               token_merges=merges, bos_token_id=7, add_bos_token=add_bos)
    library = Tokenizer.from_file(str(case.folder / "expected.json"))
    return lambda texts: [[7] * add_bos + library.encode(t).ids for t in texts]


def sentencepiece_gguf(case):
    """A GGUF file with a SentencePiece model."""
    rng = case.rng
    texts = [" ".join(rng.choice(WORDS) + rng.choice(["", "", "  ", "\n"]) for _ in range(30)) for _ in range(rng.randint(2, 40))]
    # SentencePiece puts no space after a user-defined token; llama.cpp does, as HuggingFace's Prepend.
    prefix = rng.random() < 0.7
    words_added = [] if prefix else some(rng, ["hello", "<tool>", "<|x|>"], 2)
    for size in [rng.randint(330, 800), *range(700, 280, -10)]:  # what the texts have pieces for
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts), model_writer=model, model_type="bpe", vocab_size=size, byte_fallback=True,
                character_coverage=rng.choice([0.95, 1.0]), normalization_rule_name="identity", remove_extra_whitespaces=False,
                add_dummy_prefix=prefix, user_defined_symbols=words_added, minloglevel=2, hard_vocab_limit=False,
                split_by_whitespace=rng.random() < 0.7, split_by_unicode_script=rng.random() < 0.5, split_digits=rng.random() < 0.5,
                allow_whitespace_only_pieces=rng.random() < 0.5)
        except RuntimeError:
            continue
        if model.getvalue():
            break
    sp = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(sp.vocab_size())
    tokens = [sp.id_to_piece(i) for i in ids]
    kinds = [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 4 if tokens[i] in words_added else 1 for i in ids]
    case.contents += words_added
    case.exclude = ["<s>", "</s>", "<unk>", "\0"]  # SentencePiece takes these for text
    add_bos = rng.random() < 0.5
    write_gguf(case, "llama", tokens, kinds, token_scores=[sp.get_score(i) for i in ids], bos_token_id=1, add_bos_token=add_bos,
               add_space_prefix=prefix)
    return lambda texts: [[1] * add_bos + sp.encode(t) if not any(x in t for x in case.exclude) else None for t in texts]


def named_tokens(case, specials):
    """Roles for special tokens, some of which may be new."""
    rng = case.rng
    roles = {}
    for role in some(rng, ["bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token", "mask_token"], 5):
        roles[role] = rng.choice(specials + SPECIALS[:4]) if rng.random() < 0.9 else None
    if rng.random() < 0.15:
        roles["image_token"] = "<image>"
    if rng.random() < 0.3:
        roles[rng.choice(["additional_special_tokens", "extra_special_tokens"])] = some(rng, SPECIALS + ["<x>", "a b"], 3)
    for value in roles.values():
        case.contents += value if isinstance(value, list) else [value] if value else []
    return roles


def as_added_token(value):
    """As a configuration writes an AddedToken object."""
    return {"__type": "AddedToken", "content": value, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


def slow_folder(case):
    """vocab.json and merges.txt, and what older versions of transformers write beside them."""
    rng = case.rng
    tokenizer, specials = base(case)
    tokenizer.model.save(str(case.folder))
    vocab = json.loads((case.folder / "vocab.json").read_text())
    config = {"tokenizer_class": rng.choice(["GPT2Tokenizer", "GPT2TokenizerFast"]), "model_max_length": 1024, "errors": "replace"}
    roles = named_tokens(case, specials)
    if rng.random() < 0.3:
        roles = {k: as_added_token(v) if isinstance(v, str) else v for k, v in roles.items()}
    new = [c for c in some(rng, ADDED + SPECIALS, 4)]
    case.contents += new
    fresh = [c for c in new if c not in vocab]
    listed = {c: vocab[c] for c in some(rng, [s for s in specials if s in vocab], 4)}
    listed.update({c: len(vocab) + i for i, c in enumerate(fresh)})
    kind = rng.choice(["decoder", "decoder", "map", "config", "nothing"])
    if kind == "decoder":
        config.update(roles)
        config["added_tokens_decoder"] = {
            str(i): {k: v for k, v in random_added(case, c).__getstate__().items()} for c, i in listed.items()}
    elif kind == "map":
        case.write("special_tokens_map.json", {k: {f: x for f, x in v.items() if f != "__type"} if isinstance(v, dict) else v
                                               for k, v in roles.items() if v is not None})
        if fresh:
            case.write("added_tokens.json", {c: listed[c] for c in fresh})
    elif kind == "config":
        config.update(roles)
    if rng.random() < 0.3:
        config["add_bos_token"] = rng.random() < 0.8
    if rng.random() < 0.1:
        config["add_eos_token"] = True
        case.unsupported.add("add_eos_token")
    if case.maybe(0.03, "add_prefix_space"):
        config["add_prefix_space"] = True
    if case.maybe(0.02, "split_special_tokens"):
        config["split_special_tokens"] = True
    if case.maybe(0.02, "tokenizer_class"):
        config["tokenizer_class"] = "RobertaTokenizer"
    if kind in ("nothing", "map") and rng.random() < 0.5 and not case.unsupported:
        return lambda texts: GPT2Tokenizer.from_pretrained(case.folder)(texts)["input_ids"]
    case.write("tokenizer_config.json", config)
    return lambda texts: AutoTokenizer.from_pretrained(case.folder)(texts)["input_ids"]


def saved_folder(case):
    """What save_pretrained writes, with its tokenizer.json or the vocabulary and merges in its place."""
    rng = case.rng
    tokenizer, specials = base(case)
    tokenizer.model.save(str(case.folder))
    roles = {k: v for k, v in named_tokens(case, specials).items() if v is not None}
    settings = {}
    if rng.random() < 0.4:
        settings["add_bos_token"] = True
    if case.maybe(0.05, "post_processor"):
        settings["add_eos_token"] = True
        case.unsupported.add("add_eos_token")
    if case.maybe(0.03, "add_prefix_space"):
        settings["add_prefix_space"] = True
    made = GPT2Tokenizer.from_pretrained(case.folder, **roles, **settings)
    for content in some(rng, ADDED, 3):
        made.add_tokens([random_added(case, content)])
    if rng.random() < 0.4:
        made.add_special_tokens({"pad_token": rng.choice(["<pad>", "[PAD]"])})
        case.contents.append("[PAD]")
    keep_json = rng.random() < 0.7
    if keep_json:
        for name in ("vocab.json", "merges.txt"):
            (case.folder / name).unlink()
    made.save_pretrained(case.folder)
    if not keep_json:
        data = json.loads((case.folder / "tokenizer.json").read_text())
        (case.folder / "tokenizer.json").unlink()
        added = {t["content"]: t["id"] for t in data["added_tokens"] if t["content"] not in data["model"]["vocab"]}
        if added:
            case.write("added_tokens.json", added)
    elif rng.random() < 0.2:  # another token in the configuration alone
        config = json.loads((case.folder / "tokenizer_config.json").read_text())
        config["sep_token"] = "[SEP]"
        case.contents.append("[SEP]")
        case.write("tokenizer_config.json", config)
    return lambda texts: AutoTokenizer.from_pretrained(case.folder)(texts)["input_ids"]


def vitrine_ids(program, folder, texts):
    """Lists of ids, or the message of a refusal."""
    lines = "".join(json.dumps({"text": t}) + "\n" for t in texts)
    done = subprocess.run([program, "tokenize", "--model", str(folder), "--special", "--jsonl", "-"], input=lines.encode(), capture_output=True)
    if done.returncode == 0:
        return [json.loads(line)["ids"] for line in done.stdout.decode().split("\n") if line], ""
    return None, f"exit {done.returncode}: {done.stderr.decode().strip()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/dev/apps/vitrine")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--texts", type=int, default=25, help="for each tokenizer")
    parser.add_argument("--only", type=int, help="the number of one tokenizer")
    parser.add_argument("--keep", type=pathlib.Path)
    options = parser.parse_args()
    if options.keep and options.keep.exists() and any(options.keep.iterdir()):
        sys.exit(f"{options.keep} is not empty")
    equal, refused, wrong = collections.Counter(), collections.Counter(), []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(options.count) if options.only is None else [options.only]:
            rng = random.Random(f"{options.seed} {number}")
            case = Case(rng, pathlib.Path(scratch) / str(number))
            make = rng.choice([tokenizer_json, tokenizer_json, family_json, characters_json, characters_json, bytes_gguf, sentencepiece_gguf, slow_folder, saved_folder])
            encode = make(case)
            texts = ["", "The capital of Texas is"] + [random_text(rng, case.contents) for _ in range(options.texts)]
            ids, message = vitrine_ids(options.program, case.target, texts)
            said = ""
            if ids is None:
                fields = sorted(f for f in case.unsupported | {"Regex", "prepend_scheme"} if f in message)
                if message.startswith("exit 3") and fields:
                    refused[fields[0]] += 1
                else:
                    said = f"refused: {message}"
            else:
                try:
                    expected = encode(texts)
                except Exception as error:  # HuggingFace cannot read it either
                    said, expected = f"HuggingFace: {error!r}", []
                for text, got, want in zip(texts, ids, expected):
                    if want is not None and got != want:
                        said = f"{text!r}: {got}, but HuggingFace gives {want}"
                        break
                if not said:
                    equal[make.__name__] += 1
            if said:
                wrong.append(number)
                print(f"tokenizer {number} ({make.__name__}): {said[:700]}")
                if options.keep:
                    shutil.copytree(case.folder, options.keep / str(number))
            shutil.rmtree(case.folder)
    print("equal:", sum(equal.values()), dict(equal))
    print("refused:", sum(refused.values()), dict(refused))
    print("wrong:", len(wrong), wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
