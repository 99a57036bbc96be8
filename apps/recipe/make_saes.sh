#!/usr/bin/env bash
# The default model's SAEs: on the MLP outputs of an earlier and a later layer, in one pass over 4 million vectors.
#
#   bash apps/recipe/make_saes.sh WORK [--program FILE]
#
# WORK is the folder that make_model.sh has filled (its texts are enough). Takes 7 minutes on two cores; a second run goes
# on where the first was stopped. The SAEs are in WORK/saes, and stored in f16 in WORK/saes-f16.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
program=build/release/apps/vitrine
usage="usage: bash apps/recipe/make_saes.sh WORK [--program FILE]"
[ $# -ge 1 ] || { echo "$usage" >&2; exit 2; }
work=$(cd "$1" && pwd)
shift
if [ "${1:-}" = --program ]; then program=${2:?$usage}; fi
[ -x "$program" ] || { echo "error: $program is not there; 'bash apps/quickstart.sh' builds it" >&2; exit 1; }

if [ ! -e "$work/mix.jsonl" ]; then python3 apps/recipe/sae_texts.py --data "$work/data" --out "$work/mix.jsonl"; fi
if [ -e "$work/saes/training.safetensors" ]; then
  "$program" sae train --resume --out "$work/saes"
else
  "$program" sae train --site blocks.1.hook_mlp_out,blocks.4.hook_mlp_out --data "$work/mix.jsonl" --out "$work/saes" \
    --kind batchtopk --k 16 --features 2048 --vectors 4000000 --batch 2048 --buffer 262144 --rate 0.001 --warmup 50 \
    --schedule linear --last-rate 0.05 --dead-after 400000 --normalize expected_average_only_in
fi
for site in blocks.1.hook_mlp_out blocks.4.hook_mlp_out; do
  "$program" sae convert --from "$work/saes/$site" --store f16 --out "$work/saes-f16/$site"
done
