#!/usr/bin/env bash
# Builds and runs a lesson, an exercise or its solution: bash apps/lessons/run.sh 3, ... exercise 3, ... solution 3
# The first time compiles the library, as apps/quickstart.sh does; after that a lesson takes seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source apps/toolchain.sh

usage="usage: bash apps/lessons/run.sh [exercise|solution] NUMBER; the lessons are:"
kind=lesson
case ${1:-} in exercise | solution) kind=$1 && shift ;; esac
number=${1:-}
[[ $number =~ ^[0-9]{1,2}$ ]] || fail "$usage
$(cd apps/lessons && ls [0-9][0-9]_*.cpp | sed 's/\.cpp$//; s/^/  /')"
number=$(printf '%02d' "$((10#$number))")

folder=apps/lessons ending=.cpp
if [ "$kind" != lesson ]; then folder=apps/lessons/exercises ending=_check.cpp; fi
file=$(ls "$folder/${number}_"*"$ending" 2>/dev/null | head -n 1) || true
[ -n "$file" ] || fail "there is no $kind $number in $folder"
target=${kind}_$(basename "$file" "$ending")

install_packages program
if [ ! -e build/release/nn/libvitrine_nn.a ]; then say "Building the library (once: a few minutes on two cores)"; fi
configure release
build release "$target"
exec "build/release/apps/lessons/$target"
