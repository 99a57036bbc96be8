#!/usr/bin/env bash
# Builds and runs the tests: bash tests/run.sh [--label LABEL]... [--preset PRESET]
# The last line counts them; the exit code is 0 only when tests ran and none failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source apps/toolchain.sh

usage="usage: bash tests/run.sh [--label unit|gradcheck|golden|install|slow|browser|lessons|python]... [--preset dev|asan-ubsan|tsan]"
labels=""
label_arguments=()
preset=dev
while [ $# -gt 0 ]; do
  case $1 in
    --label)
      case ${2:-} in
        unit | gradcheck | golden | install | slow | browser | lessons | python)
          labels+=${labels:+|}$2
          label_arguments+=(--label "$2")
          ;;
        *) fail "--label takes unit, gradcheck, golden, install, slow, browser, lessons or python; $usage" ;;
      esac
      shift 2
      ;;
    --preset)
      case ${2:-} in
        dev | asan-ubsan | tsan) preset=$2 ;;
        *) fail "--preset takes dev, asan-ubsan or tsan; $usage" ;;
      esac
      shift 2
      ;;
    -h | --help)
      say "$usage"
      exit 0
      ;;
    *) fail "unknown argument '$1'; $usage" ;;
  esac
done

# ThreadSanitizer finds no room for its tables when addresses are randomised over many bits. The build needs the same
# care as the tests: test programs run during it, to list their cases.
if [ "$preset" = tsan ] && [ -z "${VITRINE_FIXED_ADDRESSES:-}" ] && setarch -R true 2>/dev/null; then
  VITRINE_FIXED_ADDRESSES=1 exec setarch -R bash tests/run.sh --preset tsan "${label_arguments[@]+"${label_arguments[@]}"}"
fi

install_packages tests
folder=build/$preset
# The Python package is built and tested where PyPI, or a mirror of it, gives what that needs.
python_options=()
no_python=""
if [ "$preset" = dev ]; then
  mkdir -p build
  if python_environment build/python >build/python.log 2>&1; then
    python_options=(-DVITRINE_PYTHON=ON "-DPython_EXECUTABLE=$PWD/build/python/bin/python")
  else
    no_python="the Python package: no Python with nanobind, numpy and pytest could be made (build/python.log)"
  fi
else
  no_python="the Python package: it is tested by the preset dev"
fi
say "Building $folder"
configure "$preset" ${python_options[@]+"${python_options[@]}"}
build "$preset" all

say "Running the tests"
begin=$SECONDS
report=$PWD/$folder/tests.xml
rm -f "$report"
selection=()
if [ -n "$labels" ]; then selection=(-L "^($labels)\$"); fi
# Failures are shown as they happen; what passes is not worth a line each.
{
  ctest --test-dir "$folder" -j "$(cores)" --timeout 300 --output-on-failure --output-junit "$report" \
    --test-output-size-passed 100000 ${selection[@]+"${selection[@]}"} 2>&1 </dev/null || true
} | tee "$folder/tests.log" |
  { grep -E -v '^( +Start +[0-9]+:|(Internal ctest|Test project|Errors while) )|^ *[0-9]+/[0-9]+ Test .*(Passed|\*\*\*Skipped) ' || true; } |
  sed '/^$/N;/^\n$/D;/tests passed, .* tests failed out of/,$d'
say "The tests took $(in_words $((SECONDS - begin)))"
[ -e "$report" ] || fail "ctest left no report; its output is in $folder/tests.log"

# Counts from the report: a test is skipped when it says so itself, failed when it neither passed nor said so.
awk -v no_python="$no_python" '
  BEGIN { if (no_python != "") skip[++skips] = no_python }
  function text(s) {
    gsub(/&lt;/, "<", s); gsub(/&gt;/, ">", s); gsub(/&quot;/, "\"", s); gsub(/&apos;/, "'\''", s); gsub(/&amp;/, "\\&", s)
    return s
  }
  function attribute(line, key) {
    if (!match(line, " " key "=\"[^\"]*\"")) return ""
    return text(substr(line, RSTART + length(key) + 3, RLENGTH - length(key) - 4))
  }
  /<testcase / { name = attribute($0, "name"); status = attribute($0, "status"); reason = ""; skipped = broken = reading = 0 }
  /<skipped message="SKIP_/ { skipped = 1 }
  /\[  FAILED  \]|Sanitizer: / { broken = 1 }
  /^\[  SKIPPED \]/ { reading = 0 }
  reading { reason = reason (reason == "" ? "" : " ") text($0) }
  /: Skipped$/ { reading = 1 }
  # Of a file of pytest: its own count, and what it skipped.
  name ~ /^python\./ && /^[0-9]+ passed/ { passed += $1 - 1 }
  name ~ /^python\./ && /^SKIPPED \[/ { sub(/^SKIPPED \[[0-9]+\] /, ""); skip[++skips] = name ": " text($0) }
  /<\/testcase>/ {
    if (status == "run") ++passed
    else if (status == "disabled") { ++skips; skip[skips] = name ": disabled in the source" }
    else if (skipped && !broken) { ++skips; skip[skips] = name ": " (reason == "" ? "gives no reason" : reason) }
    else { ++failures; failure[failures] = name }
  }
  END {
    if (skips) print "\nSkipped:"
    for (i = 1; i <= skips; ++i) print "  " skip[i]
    if (failures) print "\nFailed (" log_file " has everything that they said):"
    for (i = 1; i <= failures; ++i) print "  " failure[i]
    if (passed + failures + skips == 0) print "\nNo test was found."
    print ""
    printf "%d passed, %d failed", passed, failures
    if (skips) printf ", %d skipped", skips
    print ""
    exit failures > 0 || passed + failures == 0
  }' log_file="$folder/tests.log" "$report"
