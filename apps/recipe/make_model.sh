#!/usr/bin/env bash
# The default model from nothing: texts, tokenizer, training, evaluation.
#
#   bash apps/recipe/make_model.sh WORK [--program FILE]
#
# WORK is a folder outside the repository (1 GB): packages, texts, checkpoints, and at the end WORK/model. What is there
# already is not made again, and training goes on where it stopped; a second run after a crash or Ctrl-C simply continues.
# It takes about an hour on two cores; README.md says what became of it. Needs Python 3, npm and apt (for `apt-get download`, no installation).
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
    --data "$data/prose_speeches.jsonl" --data "$data/prose_bible.jsonl" --data "$data/prose_brown.jsonl" \
    --data "$data/prose_webster.jsonl:0.3" --data "$data/prose_wordnet.jsonl:0.5" --data "$data/gifts.jsonl:0.3" \
    --data "$data/repeats.jsonl:0.1"
fi
if [ ! -e "$data/loops.jsonl" ]; then
  python3 $recipe/sentences.py tokens --tokenizer "$work/tokenizer" --out "$data"
fi

# ---- training ---------------------------------------------------------------------------------------------------------
# train FOLDER OPTION...: begins a run or goes on with it.
train() {
  local folder=$1
  shift
  local watch=(--evaluate-every 200 --save-every 100 --log-every 20 --sample "The capital of Texas is"
    --sample "Paris is the capital of" --sample "When Mary and John went to the store, John gave a book to"
    --sample "It was a dark night and")
  if [ -e "$folder/training.safetensors" ]; then
    "$program" train --resume --out "$folder" "${watch[@]}" ${stop_after:+--stop-after "$stop_after"} --store "$store"
  else
    "$program" train --out "$folder" "$@" "${watch[@]}" ${stop_after:+--stop-after "$stop_after"} --store "$store"
  fi
}

# First mostly English: the beginning of a run of 7,000 steps.
stop_after=1600 store=f32 train "$work/english" \
  --preset atlas --layers 6 --tokenizer "$work/tokenizer" \
  --batch-tokens 2048 --steps 7000 --rate 0.002 --warmup 200 --last-rate 0.03 --seed 1 \
  --data "$data/prose_gutenberg.jsonl:17" --data "$data/prose_austen.jsonl:5" --data "$data/prose_speeches.jsonl:17" \
  --data "$data/prose_bible.jsonl:3" --data "$data/prose_webster.jsonl:2" --data "$data/prose_wordnet.jsonl:4" \
  --data "$data/prose_brown.jsonl:18" --data "$data/capitals.jsonl:16" --data "$data/gifts.jsonl:5" \
  --data "$data/repeats.jsonl:5" --data "$data/tokens.jsonl:8"

# Then more of what it is to be able to do: facts, names, and what was said before.
stop_after='' store=f16 train "$work/model" --from "$work/english" \
  --batch-tokens 2048 --steps 4200 --rate 0.002 --warmup 100 --last-rate 0.02 --seed 2 \
  --data "$data/prose_gutenberg.jsonl:11" --data "$data/prose_austen.jsonl:3" --data "$data/prose_speeches.jsonl:12" \
  --data "$data/prose_bible.jsonl:2" --data "$data/prose_webster.jsonl:1" --data "$data/prose_wordnet.jsonl:2" \
  --data "$data/prose_brown.jsonl:13" --data "$data/capitals.jsonl:22" --data "$data/gifts.jsonl:7" \
  --data "$data/repeats.jsonl:7" --data "$data/tokens.jsonl:8" --data "$data/loops.jsonl:12"

# ---- what it can do ---------------------------------------------------------------------------------------------------
python3 $recipe/evaluate.py --program "$program" --model "$work/model" --out "$work/results.json"
