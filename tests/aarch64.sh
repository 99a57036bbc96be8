#!/usr/bin/env bash
# Cross-compiles for aarch64 Linux and runs tests under qemu-user: bash tests/aarch64.sh [TARGET...]
#
# TARGET is a test program, tensor_test and autograd_test unless said otherwise. Needs Debian's cross compiler, qemu-user and
# the libraries for arm64; says how to install them when they are not there, and installs nothing by itself. Under the
# emulator the tests take half an hour and more. The last line counts them; the exit code is 0 only when tests ran and none
# failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source apps/toolchain.sh

case ${1:-} in
  -h | --help)
    sed -n '2,7s/^# \{0,1\}//p' tests/aarch64.sh
    exit 0
    ;;
esac
programs=("$@")
[ $# -gt 0 ] || programs=(tensor_test autograd_test)

# What compiles for arm64, and what that finds.
has_arm64() {
  printf '#include <fmt/core.h>\n#include <gtest/gtest.h>\n#include <hwy/highway.h>\nextern "C" void dgesdd_();\nint main() { dgesdd_(); }\n' |
    aarch64-linux-gnu-g++ -std=c++17 -x c++ - -o /dev/null -lopenblas -lfmt -lhwy -lgtest >/dev/null 2>&1
}
missing=0
for command in aarch64-linux-gnu-g++ qemu-aarch64 cmake ninja; do has_command "$command" || missing=1; done
if [ $missing = 1 ] || ! has_arm64; then
  say "Needed: a cross compiler, an emulator, and libraries for arm64. On Debian 12, as root:"
  say "  dpkg --add-architecture arm64 && apt-get update"
  say "  apt-get install g++-aarch64-linux-gnu qemu-user cmake ninja-build nlohmann-json3-dev libcli11-dev \\"
  say "    libhwy-dev:arm64 libopenblas-dev:arm64 libfmt-dev:arm64 libgtest-dev:arm64 libgmock-dev:arm64"
  fail "something of that is missing here"
fi

folder=build/aarch64
say "Building $folder: ${programs[*]}"
configure aarch64
build aarch64 "${programs[@]}"

say "Running the tests under $(qemu-aarch64 --version | head -n 1)"
passed=0
failed=0
for program in "${programs[@]}"; do
  path=$(find "$folder/tests" -name "$program" -type f -perm -u+x | head -n 1)
  report=$PWD/$folder/$program.xml
  rm -f "$report"
  qemu-aarch64 "$path" --gtest_brief=1 --gtest_output="xml:$report" || true
  if [ ! -e "$report" ]; then
    say "$program ended before it could report"
    failed=$((failed + 1))
    continue
  fi
  read -r tests failures errors < <(sed -n 's/^<testsuites tests="\([0-9]*\)" failures="\([0-9]*\)" disabled="[0-9]*" errors="\([0-9]*\)".*/\1 \2 \3/p' "$report")
  passed=$((passed + tests - failures - errors))
  failed=$((failed + failures + errors))
done
say "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
