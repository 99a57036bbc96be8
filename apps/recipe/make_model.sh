#!/usr/bin/env bash
# The default model from nothing: texts, tokenizer, training, evaluation.
#
#   bash apps/recipe/make_model.sh WORK [--program FILE]
#
# WORK is a folder outside the repository (1 GB): packages, texts, checkpoints, and at the end WORK/model. What is there
# already is not made again, and training goes on where it stopped; a second run after a crash or Ctrl-C simply continues.
# It takes about 75 minutes on two cores. Needs Python 3, npm and apt (for `apt-get download`, no installation).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
recipe=apps/recipe
program=build/release/apps/vitrine

usage="usage: bash apps/recipe/make_model.sh WORK [--program FILE]"
[ $# -ge 1 ] || { echo "$usage" >&2; exit 2; }
mkdir -p "$1"
work=$(cd "$1" && pwd)
shift
while [ $# -gt 0 ]; do
  case $1 in
    --program) program=${2:?$usage} && shift 2 ;;
    *) echo "$usage" >&2 && exit 2 ;;
  esac
done
[ -x "$program" ] || { echo "error: $program is not there; 'bash apps/quickstart.sh' builds it" >&2; exit 1; }
data=$work/data

# ---- texts ------------------------------------------------------------------------------------------------------------
if [ ! -e "$data/repeats.jsonl" ]; then
  python3 $recipe/sources.py --cache "$work/packages" --out "$data"
  python3 $recipe/sentences.py texts --prose "$data/prose_gutenberg.jsonl" --out "$data"
fi

# ---- tokenizer: capitals count four times, so that the names of places are single tokens ----------------------------------
if [ ! -e "$work/tokenizer/tokenizer.json" ]; then
  "$program" tokenizer train --vocabulary 6000 --out "$work/tokenizer" \
    --data "$data/capitals.jsonl:4" --data "$data/prose_gutenberg.jsonl" --data "$data/prose_austen.jsonl" \
    --data "$data/prose_speeches.jsonl" --data "$data/prose_bible.jsonl" \
    --data "$data/prose_webster.jsonl:0.3" --data "$data/prose_wordnet.jsonl:0.5" --data "$data/gifts.jsonl:0.3" \
    --data "$data/repeats.jsonl:0.1"
fi
if [ ! -e "$data/tokens_long.jsonl" ]; then
  python3 $recipe/sentences.py tokens --tokenizer "$work/tokenizer" --out "$data"
fi

# ---- training ---------------------------------------------------------------------------------------------------------
# store=TYPE [stop_after=STEP] train FOLDER OPTION...: begins a run or goes on with it.
train() {
  local folder=$1
  shift
  local watch=(--evaluate-every 200 --save-every 100 --log-every 20 --sample "The capital of Texas is"
    --sample "Paris is the capital of" --sample "When Mary and John went to the store, John gave a book to"
    --sample "It was a dark night and" --store "$store" ${stop_after:+--stop-after "$stop_after"})
  if [ -e "$folder/training.safetensors" ]; then
    "$program" train --resume --out "$folder" "${watch[@]}"
  else
    "$program" train --out "$folder" "$@" "${watch[@]}"
  fi
}

# First to complete what is said twice: random tokens, a few of them, then longer. Induction heads form here, in about 800
# steps; in a mixture with text they do not for a long time.
copying=(--batch-tokens 2048 --schedule constant --rate 0.0006 --warmup 20 --beta2 0.99)
store=f32 train "$work/copying" \
  --preset atlas --layers 6 --heads 4 --tokenizer "$work/tokenizer" --initializer mimetic --initializer-range 0.04 \
  "${copying[@]}" --steps 450 --seed 1 --data "$data/tokens_short.jsonl" --data "$data/tokens_middle.jsonl"
store=f32 train "$work/copying-longer" --from "$work/copying" \
  "${copying[@]}" --steps 350 --seed 2 --data "$data/tokens_middle.jsonl:3" --data "$data/tokens_long.jsonl:7"

# Then English, facts, names, and what was said before: the beginning of a run of 6,500 steps.
stop_after=3200 store=f32 train "$work/mixed" --from "$work/copying-longer" \
  --batch-tokens 2048 --steps 6500 --rate 0.001 --warmup 100 --last-rate 0.02 --beta2 0.98 --seed 3 \
  --data "$data/prose_gutenberg.jsonl:12" --data "$data/prose_austen.jsonl:4" --data "$data/prose_speeches.jsonl:13" \
  --data "$data/prose_bible.jsonl:2" --data "$data/prose_webster.jsonl:1" --data "$data/prose_wordnet.jsonl:3" \
  --data "$data/capitals.jsonl:25" --data "$data/gifts.jsonl:12" --data "$data/repeats.jsonl:12" \
  --data "$data/tokens_middle.jsonl:4" --data "$data/tokens_long.jsonl:12"

# By then it knows the capitals, but names the giver as often as the receiver: more gifts.
store=f16 train "$work/model" --from "$work/mixed" \
  --batch-tokens 2048 --steps 3300 --rate 0.0008 --warmup 50 --last-rate 0.02 --beta2 0.98 --seed 4 \
  --data "$data/prose_gutenberg.jsonl:11" --data "$data/prose_austen.jsonl:4" --data "$data/prose_speeches.jsonl:12" \
  --data "$data/prose_bible.jsonl:2" --data "$data/prose_webster.jsonl:1" --data "$data/prose_wordnet.jsonl:3" \
  --data "$data/capitals.jsonl:10" --data "$data/gifts.jsonl:32" --data "$data/repeats.jsonl:10" \
  --data "$data/tokens_middle.jsonl:3" --data "$data/tokens_long.jsonl:10"

# ---- what it can do ---------------------------------------------------------------------------------------------------
python3 $recipe/evaluate.py --program "$program" --model "$work/model" --out "$work/results.json"
