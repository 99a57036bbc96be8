#!/usr/bin/env bash
# Indirect object identification (Wang et al. 2023), as the demo notebook of TransformerLens explores it, in ten
# commands: how well the model names the indirect object, which layers and heads bring it there, where they look,
# and what breaks when they are cut.
#
#   bash apps/examples/ioi.sh                       # the default model
#   bash apps/examples/ioi.sh --model smollm2       # SmolLM2-135M (apps/get_smollm2.sh)
#   bash apps/examples/ioi.sh --out DIR             # keeps the files: prompts, tensors (default: a temporary folder)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

model=()
out=""
while [ $# -gt 0 ]; do
  case $1 in
    --model | --out)
      [ -n "${2:-}" ] || { echo "$1 needs a value" >&2; exit 2; }
      if [ "$1" = --model ]; then model=(--model "$2"); else out=$2; fi
      shift 2
      ;;
    -h | --help)
      sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      echo "unknown argument '$1'; usage: bash apps/examples/ioi.sh [--model MODEL] [--out DIR]" >&2
      exit 2
      ;;
  esac
done
vitrine=${VITRINE:-build/release/apps/vitrine}
[ -x "$vitrine" ] || vitrine=$(command -v vitrine) || {
  echo "there is no vitrine program; build it with: bash apps/quickstart.sh (or name it: VITRINE=PATH)" >&2
  exit 3
}
if [ -z "$out" ]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"
pairs=$out/ioi.jsonl

step() { # HEADING VERB OPTION...
  printf '\n== %s\n$ vitrine %s\n' "$1" "${*:2}"
  "$vitrine" "${@:2}" "${model[@]+"${model[@]}"}"
}

step "Eight prompts, both orders, and what is corrupt about them" prompts ioi --count 8 --out "$pairs"
step "How well the model does it" predict --prompts "$pairs" --group-by order --each
step "After which layer it knows (logit lens)" lens --prompts "$pairs" --out "$out/lens.safetensors"
step "Which layers and heads write the answer (direct logit attribution)" \
  decompose --prompts "$pairs" --out "$out/decompose.safetensors"
step "Where the heads look from the last token" \
  attention --prompts "$pairs" --from end --to io,s1,s2 --out "$out/attention.safetensors"
step "Which positions carry it, layer by layer (activation patching)" \
  patch --pairs "$pairs" --site resid_pre,attn_out,mlp_out --out "$out/patch_stream.safetensors"
step "Which heads carry it: outputs, queries, keys, values, patterns" \
  patch --pairs "$pairs" --site z,q,k,v,pattern --by head --out "$out/patch_heads.safetensors"
step "The same by gradients, the strongest measured exactly" \
  attribute --pairs "$pairs" --sites z --verify 10 --top 10 --out "$out/attribution.safetensors"
step "Several heads ablated together: which break it" \
  ablate --prompts "$pairs" --of heads --action mean --sets greedy --out "$out/ablation.safetensors"
step "All heads write their means: what is left without attention to these prompts" \
  predict --prompts "$pairs" --group-by order --edit "mean z from=$pairs"
