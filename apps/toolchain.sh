# What apps/quickstart.sh, apps/docs.sh, tests/run.sh and bench/run.sh share: packages, configuring, building. To be sourced from the
# root of the checkout; changes nothing by itself.

say() { printf '%s\n' "$*"; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Runs a command with its output in a log; when it fails, shows the end of the log and stops.
#   logged FILE "what failed, what to do" COMMAND...
logged() {
  local log=$1 message=$2
  shift 2
  if ! "$@" >"$log" 2>&1 </dev/null; then
    tail -n 40 "$log" >&2
    fail "$message (the whole output is in $log)"
  fi
}

# ---- what is there -----------------------------------------------------------------------------
compiler() {
  local name
  for name in ${CXX:+"$CXX"} c++ g++ clang++; do
    if command -v "$name"; then return; fi
  done
  return 1
}

has_compiler() { compiler >/dev/null; }
has_command() { command -v "$1" >/dev/null; }
has_ninja() { has_command ninja || has_command ninja-build || has_command samu; }

has_browser() { has_command chromium || has_command chromium-browser || has_command google-chrome; }
# Ubuntu's package of that name is a snap, which does not install everywhere; tests of pages are skipped without a browser.
has_no_chromium_package() { ! grep -qs '^ID=debian' /etc/os-release; }
has_browser_if_packaged() { has_browser || has_no_chromium_package; }

has_python_headers() {
  local folder
  folder=$(python3 -c 'import sysconfig; print(sysconfig.get_paths()["include"])' 2>/dev/null) && [ -e "$folder/Python.h" ]
}
has_python_venv() { python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }

# Is version $1 at least $2?
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

cmake_version() { cmake --version 2>/dev/null | sed -n '1s/.* \([0-9][0-9.]*\).*/\1/p'; }
has_cmake() { at_least "$(cmake_version)" 3.25; }

# Asks the compiler, which knows its own search path; without one, looks in the usual places.
has_header() {
  local cxx
  if cxx=$(compiler); then
    printf '#if !__has_include(<%s>)\n#error\n#endif\n' "$1" | "$cxx" -std=c++17 -E -x c++ - >/dev/null 2>&1
  else
    [ -e "/usr/include/$1" ] || [ -e "/usr/local/include/$1" ]
  fi
}

# No header says whether LAPACK is in it: asks the linker.
has_openblas() {
  local cxx name
  cxx=$(compiler) || return 1
  for name in openblas openblas64; do
    printf 'extern "C" void dgesdd_();\nint main() { dgesdd_(); }\n' |
      "$cxx" -x c++ - -o /dev/null "-l$name" >/dev/null 2>&1 && return
  done
  return 1
}

# ---- packages ----------------------------------------------------------------------------------
missing_packages=() # names on Debian and Ubuntu
missing_reasons=()

# need PACKAGE REASON CHECK...: notes the package when the check fails.
need() {
  local package=$1 reason=$2
  shift 2
  if ! "$@"; then
    missing_packages+=("$package")
    missing_reasons+=("$reason")
  fi
}

# look_for program|tests|bench|docs: fills missing_packages.
look_for() {
  missing_packages=()
  missing_reasons=()
  need g++ "the compiler" has_compiler
  need cmake "3.25 or newer, configures the build" has_cmake
  need ninja-build "runs the build" has_ninja
  need pkg-config "finds Highway where that brings no CMake package" has_command pkg-config
  need libhwy-dev "Highway: SIMD for every CPU from one source" has_header hwy/highway.h
  need libopenblas-dev "OpenBLAS: factorisations of matrices" has_openblas
  need libfmt-dev "fmt: formatting" has_header fmt/core.h
  need nlohmann-json3-dev "JSON" has_header nlohmann/json.hpp
  need libcli11-dev "CLI11: the options of the program" has_header CLI/CLI.hpp
  need libcpp-httplib-dev "cpp-httplib: the live page of 'vitrine serve'" has_header httplib.h
  if [ "$1" = tests ]; then
    need libgtest-dev "GoogleTest" has_header gtest/gtest.h
    need libgmock-dev "GoogleMock, its matchers" has_header gmock/gmock.h
    need chromium "opens pages, as their tests do" has_browser_if_packaged
    need ccache "makes the second build fast" has_command ccache
    need python3-dev "what the Python package is compiled against" has_python_headers
    need python3-venv "an environment in which the Python package is tested" has_python_venv
  fi
  if [ "$1" = docs ]; then
    need doxygen "reads the public headers" has_command doxygen
    need python3-dev "what the Python package is compiled against" has_python_headers
    need python3-venv "an environment in which the site is built" has_python_venv
  fi
  if [ "$1" = bench ]; then
    need libbenchmark-dev "Google Benchmark" has_header benchmark/benchmark.h
    need python3 "prints the comparison" has_command python3
  fi
}

list_missing() {
  local i
  for i in "${!missing_packages[@]}"; do
    printf '  %-20s %s\n' "${missing_packages[i]}" "${missing_reasons[i]}"
  done
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  else
    sudo "$@"
  fi
}

# A compiler that is too old fails far from the reason; better to say so first.
check_compiler() {
  local cxx facts
  cxx=$(compiler)
  facts=$(printf '#ifdef __clang__\nclang __clang_major__\n#else\ngcc __GNUC__\n#endif\n' | "$cxx" -E -P -x c++ - 2>/dev/null || true)
  case $facts in
    gcc\ *) [ "${facts#gcc }" -ge 12 ] || fail "$cxx is g++ ${facts#gcc }, but the source is C++20: install g++ 12 or newer and set CXX to it" ;;
    clang\ *) [ "${facts#clang }" -ge 14 ] || fail "$cxx is clang ${facts#clang }, but the source is C++20: install clang 14 or newer and set CXX to it" ;;
  esac
}

# install_packages program|tests|bench|docs: installs what is missing, or says what to install.
install_packages() {
  look_for "$1"
  if [ ${#missing_packages[@]} -gt 0 ]; then
    if ! has_command apt-get; then
      say "This is not Debian or Ubuntu. Please install (Debian's names; other distributions have the same projects):"
      list_missing
      fail "${#missing_packages[@]} things are missing; run this again once they are there"
    fi
    say "Missing here, and about to be installed:"
    list_missing
    if [ "$(id -u)" -ne 0 ] && ! has_command sudo; then
      fail "installing needs root and there is no sudo; as root, run: apt-get install ${missing_packages[*]}"
    fi
    mkdir -p build
    logged build/packages.log "apt-get update failed: is there a connection to the package mirror?" \
      as_root apt-get update -q
    logged build/packages.log "apt-get could not install these packages" \
      as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing_packages[@]}"
    look_for "$1"
    if [ ${#missing_packages[@]} -gt 0 ]; then
      list_missing
      if ! has_cmake; then
        say "cmake here is $(cmake_version); Debian 12 and Ubuntu 24.04 have one that is new enough."
      fi
      fail "the packages are installed, but what they should bring is not found; please install the above by hand"
    fi
  fi
  check_compiler
}

# ---- building ----------------------------------------------------------------------------------
cores() { nproc 2>/dev/null || echo 2; }

# python_environment FOLDER: a Python with nanobind, NumPy and pytest in FOLDER, made once, and with what a few of its tests use
# besides, where that can be had. Fails where none can be made.
python_environment() {
  local python=$1/bin/python
  if [ -x "$python" ] && "$python" -c 'import nanobind, numpy, pytest' 2>/dev/null; then return; fi
  rm -rf "$1"
  python3 -m venv "$1" && "$python" -m pip install --quiet --disable-pip-version-check nanobind numpy pytest || return
  "$python" -m pip install --quiet --disable-pip-version-check pandas mkdocs || true
}

# configure PRESET [-DNAME=VALUE...]: once, and again for values that are new; ninja configures again by itself when a
# CMakeLists.txt changes.
configure() {
  local folder=build/$1 fresh=() preset=$1 definition known=1
  shift
  if [ -e "$folder/CMakeCache.txt" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$folder/CMakeCache.txt"; then
    fresh=(--fresh) # the checkout was moved or copied
    rm -f "$folder/build.ninja"
  fi
  for definition in "$@"; do
    grep -qs "^$(printf '%s' "${definition#-D}" | sed 's/=/:[A-Z]*=/')\$" "$folder/CMakeCache.txt" || known=0
  done
  [ -e "$folder/build.ninja" ] && [ $known = 1 ] && return
  mkdir -p "$folder"
  logged "$folder/configure.log" "configuring the preset $preset failed" \
    cmake --preset "$preset" ${fresh[@]+"${fresh[@]}"} "$@"
}

in_words() { printf '%d min %d s' $(($1 / 60)) $(($1 % 60)); } # of seconds

# build PRESET TARGET...: ninja's progress on a terminal, silence elsewhere. Says how long it took, when it took long.
build() {
  local preset=$1 folder=build/$1 begin=$SECONDS
  shift
  local command=(cmake --build "$folder" -j "$(cores)" --target "$@")
  if [ -t 1 ]; then
    "${command[@]}" || fail "building the preset $preset failed, see above"
  else
    logged "$folder/build.log" "building the preset $preset failed" "${command[@]}"
  fi
  if [ $((SECONDS - begin)) -ge 10 ]; then say "Built in $(in_words $((SECONDS - begin)))"; fi
}
