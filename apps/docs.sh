#!/usr/bin/env bash
# Builds the documentation as one site, build/docs/index.html: guides, lessons, the Python guide, and the references of verbs, ops,
# sites, words, Python and C++. Installs what is missing, builds what it reads, and ends with an error for a link that leads nowhere.
#   bash apps/docs.sh [--preset release|dev]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source apps/toolchain.sh

usage="usage: bash apps/docs.sh [--preset release|dev]"
preset=release
while [ $# -gt 0 ]; do
  case $1 in
    --preset)
      case ${2:-} in
        release | dev) preset=$2 ;;
        *) fail "--preset takes release or dev; $usage" ;;
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

install_packages docs
mkdir -p build
logged build/python.log "no Python with nanobind and NumPy could be made: is there a connection to PyPI, or to a mirror of it?" \
  python_environment build/python
python=$PWD/build/python/bin/python
"$python" -c 'import mkdocs' 2>/dev/null ||
  logged build/python.log "MkDocs could not be installed" "$python" -m pip install --quiet --disable-pip-version-check mkdocs
folder=build/$preset
say "Building $folder"
configure "$preset" -DVITRINE_PYTHON=ON "-DPython_EXECUTABLE=$python"
build "$preset" vitrine _vitrine
"$python" -B apps/docs/site.py --program "$folder/apps/vitrine" --headers "$folder/include/vitrine" \
  --package "$folder/apps/python" --out build/docs
