#!/usr/bin/env bash
# One circuit, many phrasings: the edges that complete "The capital of Texas is" are found on that phrasing alone.
# Do they complete six other phrasings, and the reverse direction ("Austin is the capital of")? Beside them stand
# random circuits of as many edges, the circuit of the reverse direction, and that of another task (who got the
# gift?). A causal model predicts what follows a text: a blank in the middle of a sentence is nothing that it can
# fill, so every phrasing ends where the answer begins.
#
#   bash apps/examples/phrasings.sh                       # the default model: 10 seconds
#   bash apps/examples/phrasings.sh --model smollm2       # SmolLM2-135M (apps/get_smollm2.sh): minutes
#   bash apps/examples/phrasings.sh --edges 100           # another size (default: 60; smollm2: 1000)
#   bash apps/examples/phrasings.sh --out DIR             # keeps prompts and circuits (default: a temporary folder)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

model=()
out=""
edges=60
edges_given=no
while [ $# -gt 0 ]; do
  case $1 in
    --model | --out | --edges)
      [ -n "${2:-}" ] || { echo "$1 needs a value" >&2; exit 2; }
      case $1 in
        --model) model=(--model "$2"); [ "$edges_given" = yes ] || edges=1000 ;;
        --edges) edges=$2; edges_given=yes ;;
        *) out=$2 ;;
      esac
      shift 2
      ;;
    -h | --help)
      sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      echo "unknown argument '$1'; usage: bash apps/examples/phrasings.sh [--model MODEL] [--edges N] [--out DIR]" >&2
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

step() { # HEADING VERB OPTION...
  printf '\n== %s\n$ vitrine %s\n' "$1" "${*:2}"
  "$vitrine" "${@:2}" "${model[@]+"${model[@]}"}"
}

cat > "$out/capitals.csv" <<'END'
place,capital
Alabama,Montgomery
California,Sacramento
Colorado,Denver
Florida,Tallahassee
Georgia,Atlanta
Illinois,Springfield
Massachusetts,Boston
Ohio,Columbus
Oregon,Salem
Tennessee,Nashville
Texas,Austin
Virginia,Richmond
France,Paris
Germany,Berlin
Italy,Rome
Spain,Madrid
Russia,Moscow
Japan,Tokyo
China,Beijing
Egypt,Cairo
Greece,Athens
Cuba,Havana
Kenya,Nairobi
Poland,Warsaw
END
step "Seven phrasings, as far as the model knows the answer" prompts --table "$out/capitals.csv" \
  --template 'plain=The capital of {place} is' --template 'city=The capital city of {place} is' \
  --template "possessive={place}'s capital is" --template 'governed={place} is governed from' \
  --template 'meets=The government of {place} meets in' \
  --template 'question=What is the capital of {place}? It is' \
  --template 'visit=When you visit the capital of {place}, you see' \
  --answer ' {capital}' --wrong ' {capital:other}' --corrupt other=place --single answer,wrong --known \
  --out "$out/forward.jsonl"
step "The reverse direction" prompts --table "$out/capitals.csv" \
  --template 'is_capital={capital} is the capital of' --template 'seat={capital} is the capital city of' \
  --template 'whose=The place whose capital city is {capital} is called' \
  --answer ' {place}' --wrong ' {place:other}' --corrupt other=capital --single answer,wrong --known \
  --out "$out/reverse.jsonl"
step "Another task" prompts ioi --count 20 --out "$out/gift.jsonl"
grep '"template":"plain"' "$out/forward.jsonl" > "$out/plain.jsonl"
grep '"template":"is_capital"' "$out/reverse.jsonl" > "$out/back.jsonl"

step "The circuit of the plain phrasing" circuit --pairs "$out/plain.jsonl" --edges "$edges" --out "$out/circuit.json"
step "The circuit of the reverse direction" circuit --pairs "$out/back.jsonl" --edges "$edges" --out "$out/back.json"
step "The circuit of the other task" circuit --pairs "$out/gift.jsonl" --edges "$edges" --out "$out/gift.json"
step "What the plain phrasing's circuit does in the others" circuit --apply "$out/circuit.json" \
  --pairs "$out/forward.jsonl" --group-by template --compare "$out/back.json" --compare "$out/gift.json" \
  --top 10 --out "$out/forward.safetensors"
step "And in the reverse direction" circuit --apply "$out/circuit.json" \
  --pairs "$out/reverse.jsonl" --group-by template --compare "$out/back.json" --compare "$out/gift.json" \
  --top 10 --out "$out/backward.safetensors"
