#!/usr/bin/env bash
# Compiles what bench/gpu/run.sh runs, for this machine's GPU alone: where a pack was built for another system.
#   rebuild.sh PACKAGE PROGRAMS OUT     the sources, the folder with the list of tests, and the one for flashmargin.node,
#                                       the CUDA library and the programs
set -euo pipefail

package=$1 programs=$2 out=$3
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .) || capability=''
headers=$package/include/node
[ -d "$headers" ] || headers=$(dirname "$(readlink -f "$(command -v node)")")/../include/node
cmake -S "$package" -B "$build" -DCMAKE_BUILD_TYPE=Release -DFM_TESTS=ON -DFM_CUDA=on -DFM_ONEDNN=off \
  -DCMAKE_CUDA_ARCHITECTURES="${capability:-native}-real" \
  -DCMAKE_JS_INC="$package/node_modules/node-addon-api;$headers"
# shellcheck disable=SC2046  # a word for each test
cmake --build "$build" -j "$(nproc)" --target \
  flashmargin flashmargin_cuda cuda_head_bench $(cat "$programs/gpu-tests")
mkdir -p "$out"
cp "$programs/gpu-tests" "$out"
find "$build" -maxdepth 1 -type f \( -name '*.node' -o -name 'libflashmargin_cuda.so' -o -perm -u+x \) -exec cp {} "$out" \;
