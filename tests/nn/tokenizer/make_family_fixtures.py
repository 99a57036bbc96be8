"""Writes tests/data/tokenizer/families: a tiny tokenizer of each known family, with texts and ids.

    python tests/nn/tokenizer/make_family_fixtures.py tests/data/tokenizer/families

Needs tokenizers 0.23 and sentencepiece 0.2. Each file has "tokenizer", a tokenizer.json trained on a few
sentences, and "cases" of that library: text, the ids of encode (special tokens matched, what a template puts
in front among them), and decoded: what decode makes of the ids. sentencepiece.json has the "gguf" metadata of
a SentencePiece model in place of a tokenizer.json, and the ids that SentencePiece gives.
"""
import io
import json
import pathlib
import sys

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
TRAINING = ["The capital of Texas is Austin, and the cat sat on the mat.", "We're here; they've been there since 1969, don't you think?",
            "def mean(xs):\n    return sum(xs) / len(xs)\n\n", "naïve café, Straße 日本語 привет", "1234567 + 20 = 1234587  (3.14)"] * 3
TEXTS = ["", " ", "  ", "\n", "a", " a", "a ", "The capital of Texas is", "  two  spaces", "IT'S it's 'S 'ſ we'LL don't", "1234567 12 ½ ²x",
         "a  12", "x\n\n  5\r\n\r\n", "tabs\tand\u00a0others\u3000", "naïve cafe\u0301 Å \u1100\u1161\u11a8", "日本語 привет 🙂👩\u200d💻",
         "<s>hello</s> world", "a <|x|>  b<|x|>", "  <|x|> the", "the\u2581cat \u2581", "<0x0A>", "def f(x):\n        return x  # !?", "ab" * 40,
         "🙂" * 5, "\u0000\u0001", "the" + " " * 20 + "mat"]


def cases(tokenizer):
    return [{"text": t, "ids": (ids := tokenizer.encode(t).ids), "decoded": tokenizer.decode(ids, skip_special_tokens=False)} for t in TEXTS]


def of_bytes(pre, normalizer=None, ignore_merges=False, bos=False, added=()):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = normalizer, pre, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=340, show_progress=False, special_tokens=["<s>", "</s>", "<|x|>"],
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(TRAINING, trainer)
    tokenizer.add_tokens(list(added))
    if bos:
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 0)])])
    data = json.loads(tokenizer.to_str())
    data["model"]["ignore_merges"] = ignore_merges
    if ignore_merges:  # a word that no merge makes
        data["model"]["vocab"]["ĠAustin"] = len(data["model"]["vocab"]) + len(added)
    return Tokenizer.from_str(json.dumps(data))


def of_characters(normalizer, pre, decoder, bos=True, added=(), lstrip=False):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always", True)
    tokenizer.train_from_iterator(TRAINING, trainers.BpeTrainer(vocab_size=120, show_progress=False))
    data = json.loads(tokenizer.to_str())
    learnt = sorted(data["model"]["vocab"], key=data["model"]["vocab"].get)
    order = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + learnt
    data["model"].update(vocab={p: i for i, p in enumerate(order)}, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = normalizer, pre, decoder
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>", AddedToken("<|x|>", lstrip=lstrip, rstrip=lstrip)])
    tokenizer.add_tokens(list(added))
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return tokenizer


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated", False)


def sentencepiece_file():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAINING), model_writer=model, model_type="bpe", vocab_size=420, byte_fallback=True, character_coverage=0.99,
        normalization_rule_name="identity", remove_extra_whitespaces=False, user_defined_symbols=["<|x|>"], minloglevel=2)
    sp = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    kinds = [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 4 if sp.id_to_piece(i) == "<|x|>" else 1
             for i in range(sp.vocab_size())]
    gguf = {"model": "llama", "tokens": [sp.id_to_piece(i) for i in range(sp.vocab_size())], "token_type": kinds,
            "scores": [sp.get_score(i) for i in range(sp.vocab_size())], "bos_token_id": sp.bos_id(), "eos_token_id": sp.eos_id()}
    texts = [t for t in TEXTS if "<s>" not in t and "<|x|>" not in t and "\u0000" not in t]
    return {"gguf": gguf, "cases": [{"text": t, "ids": sp.encode(t), "decoded": sp.decode(sp.encode(t))} for t in texts]}


def main():
    folder = pathlib.Path(sys.argv[1])
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    metaspace = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    spaces = normalizers.Replace(" ", "▁")
    families = {
        "llama3": of_bytes(pre_tokenizers.Sequence([split(LLAMA3), plain]), ignore_merges=True, bos=True),
        "qwen2": of_bytes(pre_tokenizers.Sequence([split(QWEN2), plain]), normalizer=normalizers.NFC()),
        "smollm2": of_bytes(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])),
        "neox": of_bytes(words, normalizer=normalizers.NFC(), added=[AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)]),
        "llama2": of_characters(normalizers.Sequence([normalizers.Prepend("▁"), spaces]), None, decoders.Sequence(metaspace + [decoders.Strip(" ", 1, 0)])),
        "mistral": of_characters(None, pre_tokenizers.Metaspace("▁", "first", False), decoders.Metaspace("▁", "first", False), lstrip=True),
        "gemma": of_characters(spaces, pre_tokenizers.Split(" ", "merged_with_previous", False), decoders.Sequence(metaspace),
                               added=[AddedToken(c, normalized=False) for c in ("\n\n", "▁▁")]),
    }
    for name, tokenizer in families.items():
        whole = {"tokenizer": json.loads(tokenizer.to_str()), "cases": cases(tokenizer)}
        (folder / f"{name}.json").write_text(json.dumps(whole, ensure_ascii=False, separators=(",", ":")) + "\n")
    (folder / "sentencepiece.json").write_text(json.dumps(sentencepiece_file(), ensure_ascii=False, separators=(",", ":")) + "\n")


main()
