#!/usr/bin/env bash
# From a fresh checkout to a prediction: installs what is missing (and says what), builds the program, runs it.
# The second time it only runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source apps/toolchain.sh

program=build/release/apps/vitrine
prompt="The capital of Texas is"

install_packages program
if [ ! -e "$program" ]; then say "Building $program (all of it is compiled: about four minutes on two cores)"; fi
configure release
build release vitrine

say "vitrine predict --prompt \"$prompt\""
"$program" predict --prompt "$prompt" || fail "the program was built, but does not run: $program predict"
