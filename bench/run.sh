#!/usr/bin/env bash
# Builds the benchmark programs, runs them and their peers in turns, and prints the times, ratios and targets.
# bench/README.md says what is measured and how.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source apps/toolchain.sh

usage="usage: bash bench/run.sh [--peers] [--python PATH] [--openblas FILE] [--threads N] [--rounds N] [--quick]

  --peers          time PyTorch too, which needs a python with torch and transformers, TransformerLens where that
                   python has a release before 4, SAELens where it has that, and OpenBLAS
  --python PATH    that python (default: python3)
  --openblas FILE  an OpenBLAS shared library, to compare matrix products with (default with --peers:
                   the system's, if there is one)
  --threads N      for us and for the peers (default: 2)
  --rounds N       how often we and the peers take turns (default: 3)
  --quick          the shorter works once: shows that everything works, not how fast it is"
peers=no
python=python3
openblas=""
threads=2
rounds=""
quick=no
while [ $# -gt 0 ]; do
  case $1 in
    --peers) peers=yes ;;
    --quick) quick=yes ;;
    --python | --openblas | --threads | --rounds)
      [ -n "${2:-}" ] || fail "$1 needs a value; $usage"
      printf -v "${1#--}" %s "$2"
      shift
      ;;
    -h | --help)
      say "$usage"
      exit 0
      ;;
    *) fail "unknown argument '$1'; $usage" ;;
  esac
  shift
done
for number in "$threads" "${rounds:-1}"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || fail "--threads and --rounds take a number from 1, not '$number'"
done
if [ "$peers" = yes ] && ! "$python" -c 'import torch, transformers' 2>/dev/null; then
  fail "$python has no torch and transformers; give one that has: --python PATH"
fi
# The file that the dynamic linker would take for this name; nothing when there is none.
system_library() {
  { PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null || true; } |
    awk -v name="$1" '$1 == name && file == "" { file = $NF } END { if (file != "") print file }'
}
if [ "$peers" = yes ] && [ -z "$openblas" ]; then openblas=$(system_library libopenblas.so.0); fi
if [ -n "$openblas" ] && [ ! -e "$openblas" ]; then fail "--openblas: there is no file $openblas"; fi

# The slower of two libraries suffers more from neighbours, so that not even ratios survive them.
load=$(cut -d ' ' -f 1 /proc/loadavg 2>/dev/null || echo 0)
if [ "${load%.*}" -ge 1 ]; then
  say "warning: this machine is busy (load $load); the numbers will not be worth keeping" >&2
fi

install_packages bench
configure bench
say "Building build/bench"
build bench gemm_bench model_bench sae_bench sweep_bench
programs=build/bench/bench
results=build/bench/results
rm -rf "$results"
mkdir -p "$results"

works=(forward/1x16 forward/8x64 forward/4x256 forward/1x1024 train/gpt2-small/4x256 train/small/16x128 train/default-model/8x256
  plan/forward plan/training plan/lookup generate/gpt2-small
  sweep/resid_pre sweep/mlp_out sweep/z_head sweep/pattern_head sweep/q_head sweep/z_head_pos
  sae/standard/768x24576x4096 sae/standard_sparse/768x24576x4096 sae/topk/768x24576x4096 sae/topk_dead/768x24576x4096
  sae/topk_file/768x24576x4096 sae/batchtopk/768x24576x4096 sae/batchtopk_dead/768x24576x4096 sae/jumprelu/768x24576x4096
  sae/jumprelu_sparse/768x24576x4096 sae/encode/768x24576x4096
  sweep/without_rows sweep/without_heads sweep/without_difference sweep/without_demand sweep/batched sweep/loop)
if [ -n "${VITRINE_BENCH_MODEL:-}" ]; then works+=(generate/model); fi
compiled=(forward/4x256 train/gpt2-small/4x256 train/small/16x128 train/default-model/8x256) # also timed through torch.compile
products='.'
if [ "$quick" = yes ]; then
  works=(forward/1x16 forward/8x64 train/small/16x128 plan/forward plan/training plan/lookup
    sweep/resid_pre)
  compiled=()
  products='/(16x3072x768|64x768x768|512x3072x768)/'
fi
if [ "$quick" = yes ]; then rounds=${rounds:-1}; else rounds=${rounds:-3}; fi

# How often a work is timed in each process.
repetitions() {
  if [ "$quick" = yes ]; then echo 2; elif [ "$1" = forward/1x16 ]; then echo 20; else echo 4; fi
}

is_one_of() { # WORD LIST...
  local word=$1 each
  shift
  for each in "$@"; do [ "$each" = "$word" ] && return; done
  return 1
}

# ours PROGRAM FILTER REPETITIONS NAME ARGUMENT...
ours() {
  local program=$1 filter=$2 count=$3 name=$4
  shift 4
  logged "$results/$name.log" "$program failed" "$programs/$program" --threads "$threads" \
    --benchmark_filter="$filter" --benchmark_repetitions="$count" \
    --benchmark_out="$results/$name.json" --benchmark_out_format=json "$@"
}

# torch WORK REPETITIONS NAME [--compile]
torch() {
  local work=$1 count=$2 name=$3
  shift 3
  logged "$results/$name.log" "PyTorch on $work failed" "$python" -B bench/peers/torch_gpt2.py --work "$work" \
    --threads "$threads" --repetitions "$count" --out "$results/$name.json" "$@"
}

# The program that has a work.
program_of() {
  case $1 in
    sweep/*) echo sweep_bench ;;
    sae/*) echo sae_bench ;;
    *) echo model_bench ;;
  esac
}

known_to_torch=()
known_to_lens=()
known_to_saelens=()
if [ "$peers" = yes ]; then mapfile -t known_to_torch < <("$python" -B bench/peers/torch_gpt2.py --list); fi
if [ "$peers" = yes ] && "$python" -c 'from transformer_lens import HookedTransformer' 2>/dev/null; then
  mapfile -t known_to_lens < <("$python" -B bench/peers/transformer_lens_patching.py --list)
fi
if [ "$peers" = yes ] && "$python" -c 'import sae_lens' 2>/dev/null; then
  mapfile -t known_to_saelens < <("$python" -B bench/peers/sae_lens_step.py --list)
fi
for ((round = 1; round <= rounds; ++round)); do
  for work in "${works[@]}"; do
    say "Round $round of $rounds: $work"
    name=${work//\//_}.$round
    count=$(repetitions "$work")
    ours "$(program_of "$work")" "^$work/" "$count" "$name.ours"
    # Half a minute a sweep, so once is enough.
    if [ "$round" = 1 ] && is_one_of "$work" ${known_to_lens[@]+"${known_to_lens[@]}"}; then
      logged "$results/$name.lens.log" "TransformerLens on $work failed" "$python" -B \
        bench/peers/transformer_lens_patching.py --work "$work" --threads "$threads" --out "$results/$name.lens.json"
    fi
    # Half a minute to a minute a work: once, too.
    if [ "$round" = 1 ] && is_one_of "$work" ${known_to_saelens[@]+"${known_to_saelens[@]}"}; then
      logged "$results/$name.saelens.log" "SAELens on $work failed" "$python" -B bench/peers/sae_lens_step.py \
        --work "$work" --threads "$threads" --repetitions 2 --out "$results/$name.saelens.json"
    fi
    if is_one_of "$work" ${known_to_torch[@]+"${known_to_torch[@]}"}; then
      torch "$work" "$count" "$name.torch"
      if is_one_of "$work" ${compiled[@]+"${compiled[@]}"}; then torch "$work" "$count" "$name.torch_compile" --compile; fi
    fi
  done
  say "Round $round of $rounds: matrix products"
  VITRINE_PEER_OPENBLAS=$openblas ours gemm_bench "$products" 2 "gemm.$round" --benchmark_enable_random_interleaving=true
done

say ""
python3 -B bench/compare.py "$results"/*.json | tee "$results/table.md"
