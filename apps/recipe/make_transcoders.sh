#!/usr/bin/env bash
# The default model's transcoders: one for every MLP, per layer and cross-layer, each in one pass over the texts.
#
#   bash apps/recipe/make_transcoders.sh WORK [--program FILE]
#
# WORK is the folder that make_model.sh has filled (its texts are enough). Takes 20 minutes on two cores; a second run goes on
# where the first was stopped. They are in WORK/transcoders, and stored in f16 in WORK/transcoders-f16.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
program=build/release/apps/vitrine
usage="usage: bash apps/recipe/make_transcoders.sh WORK [--program FILE]"
[ $# -ge 1 ] || { echo "$usage" >&2; exit 2; }
work=$(cd "$1" && pwd)
shift
if [ "${1:-}" = --program ]; then program=${2:?$usage}; fi
[ -x "$program" ] || { echo "error: $program is not there; 'bash apps/quickstart.sh' builds it" >&2; exit 1; }

if [ ! -e "$work/mix.jsonl" ]; then python3 apps/recipe/sae_texts.py --data "$work/data" --out "$work/mix.jsonl"; fi
# train NAME OPTION...
train() {
  local folder=$work/transcoders/$1
  shift
  if [ -e "$folder/training.safetensors" ]; then
    "$program" sae train --resume --out "$folder"
  else
    "$program" sae train --site '*.ln2.hook_normalized' --target '*.hook_mlp_out' --data "$work/mix.jsonl" --out "$folder" \
      --kind batchtopk --k 16 --batch 2048 --buffer 131072 --rate 0.001 --warmup 50 --schedule linear --last-rate 0.05 \
      --dead-after 400000 --normalize expected_average_only_in "$@"
  fi
}
mkdir -p "$work/transcoders" "$work/transcoders-f16"
train cross-layer --cross-layer --features 384 --vectors 2000000
train per-layer --features 768 --vectors 1500000
for name in cross-layer per-layer; do
  "$program" sae convert --from "$work/transcoders/$name" --store f16 --out "$work/transcoders-f16/$name"
done
