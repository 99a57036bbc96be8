"""Finds the top-activating contexts of every MLP neuron of a GPT-2 in PyTorch: what `vitrine neurons --corpus` does.

  torch_neuron_contexts.py --model apps/model --corpus lines.txt --out contexts.json
  torch_neuron_contexts.py --model apps/model --compare ours.json contexts.json

HuggingFace's GPT2LMHeadModel with a forward hook on each MLP's activation; lines in padded batches, in the order of the
file or, with --sorted, of their lengths, which saves most of the padding; of each line and neuron the maximum over its
tokens, and torch.topk merges these with what was best before. Lines longer than the context are cut. Needs torch, transformers
and tokenizers. Prints seconds from start to end and of CPU time, both without imports, and the process's peak memory.
"""

import argparse
import json
import resource
import time


def lines_of(file, tokenizer, context):
    """(line number, ids) of every line that is not blank; what is beyond the context is cut off."""
    with open(file, encoding="utf-8") as text:
        for number, line in enumerate(text, 1):
            line = line.rstrip("\n")
            if line.strip(" \t\r"):
                yield number, tokenizer.encode(line).ids[:context]


def batches_of(items, size):
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def collect(arguments):
    import tokenizers
    import torch
    import transformers

    torch.set_grad_enabled(False)
    torch.set_num_threads(arguments.threads)
    start, cpu_start = time.perf_counter(), time.process_time()
    tokenizer = tokenizers.Tokenizer.from_file(f"{arguments.model}/tokenizer.json")
    model = transformers.GPT2LMHeadModel.from_pretrained(arguments.model, dtype=torch.float32).eval()
    layers, context = model.config.n_layer, model.config.n_positions
    acts = [None] * layers

    def keep(layer):
        def hook(_module, _inputs, output):
            acts[layer] = output

        return hook

    for layer, block in enumerate(model.transformer.h):
        block.mlp.act.register_forward_hook(keep(layer))

    best = [None] * layers  # of each layer: activation, line, position and predicted token, [k, neurons]
    lines = tokens = 0
    items = lines_of(arguments.corpus, tokenizer, context)
    if arguments.sorted:
        items = sorted(items, key=lambda item: len(item[1]))
    for batch in batches_of(items, arguments.batch):
        longest = max(len(ids) for _, ids in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros(len(batch), longest, dtype=torch.long)
        for i, (_, one) in enumerate(batch):
            ids[i, : len(one)] = torch.tensor(one)
            mask[i, : len(one)] = 1
        lines += len(batch)
        tokens += int(mask.sum())
        numbers = torch.tensor([number for number, _ in batch])
        predicted = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.argmax(-1)  # [batch, position]
        for layer in range(layers):
            peak, at = acts[layer].masked_fill(mask[:, :, None] == 0, -torch.inf).max(1)  # [batch, neurons]
            new = (peak, numbers[:, None].expand_as(at), at, predicted.gather(1, at))
            if best[layer] is not None:
                new = tuple(torch.cat(pair) for pair in zip(best[layer], new))
            top = new[0].topk(min(arguments.contexts, len(new[0])), 0)
            best[layer] = (top.values, *(x.gather(0, top.indices) for x in new[1:]))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{lines} lines, {tokens} tokens: {seconds:.1f} s, {cpu:.1f} s of CPU, {memory:.0f} MiB")
    if arguments.out:
        found = []
        for layer, (activation, line, at, token) in enumerate(best):
            columns = (x.T.tolist() for x in (activation, line, at, token))
            for neuron, rows in enumerate(zip(*columns)):
                contexts = [{"activation": a, "line": n, "pos": p, "predicted": {"id": t}} for a, n, p, t in zip(*rows)]
                found.append({"layer": layer, "neuron": neuron, "contexts": contexts})
        with open(arguments.out, "w", encoding="utf-8") as out:
            json.dump({"lines": lines, "tokens": tokens, "neurons": found}, out)


def compare(ours, theirs):
    """Prints how far two results agree: activations rank by rank, and the places that they are from."""
    with open(ours, encoding="utf-8") as a, open(theirs, encoding="utf-8") as b:
        ours, theirs = json.load(a), json.load(b)
    names = [[(n["layer"], n["neuron"]) for n in result["neurons"]] for result in (ours, theirs)]
    assert names[0] == names[1], "not the same neurons"
    worst, total, places, predictions = 0.0, 0, 0, 0
    for mine, other in zip(ours["neurons"], theirs["neurons"]):
        assert len(mine["contexts"]) == len(other["contexts"]), "not the same number of contexts"
        there = {(c["line"], c["pos"]): c["predicted"]["id"] for c in other["contexts"]}
        for c, d in zip(mine["contexts"], other["contexts"]):
            worst = max(worst, abs(c["activation"] - d["activation"]))
            total += 1
            place = (c["line"], c["pos"])
            places += place in there
            predictions += there.get(place) == c["predicted"]["id"]
    print(f"lines {ours['lines']} and {theirs['lines']}, tokens {ours['tokens']} and {theirs['tokens']}")
    print(f"{total} contexts: the same place {places}, and the same prediction {predictions}; max |difference| of activations {worst:.2e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="apps/model", help="a HuggingFace folder with tokenizer.json")
    parser.add_argument("--corpus", help="a text, a line at a time")
    parser.add_argument("--contexts", type=int, default=10)
    parser.add_argument("--batch", type=int, default=32, help="lines")
    parser.add_argument("--sorted", action="store_true", help="batches of lines of similar length")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", help="the JSON file to write")
    parser.add_argument("--compare", nargs=2, metavar=("OURS", "THEIRS"), help="instead: compare two such files")
    arguments = parser.parse_args()
    if arguments.compare:
        compare(*arguments.compare)
    elif arguments.corpus:
        collect(arguments)
    else:
        parser.error("give --corpus FILE or --compare OURS THEIRS")


if __name__ == "__main__":
    main()
