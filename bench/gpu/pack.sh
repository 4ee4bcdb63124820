#!/usr/bin/env bash
# Makes a folder that bench/gpu/run.sh needs nothing beside, for a machine with a GPU and without a network:
#   pack.sh [FOLDER]       (bench/gpu/packed) run.sh, build.json, and Node, package and data as .tar.xz; 64 MiB at most
#   pack.sh --programs     only builds the native programs into build-emulated, for run.sh in this checkout
#   pack.sh --dry-programs those of them that run.sh --dry runs
# Needs what `npm run build` made.  On the other machine: bash FOLDER/run.sh OUT
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
complain() {
  printf 'pack.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}
case ${1:-} in
  --programs | --dry-programs | [!-]* | '') ;;
  *) complain "unknown option '$1'; usage: pack.sh [FOLDER | --programs | --dry-programs]" 2 ;;
esac

# Tests that a library named by FLASHMARGIN_CUDA goes through as the emulated one does.
mapfile -t tests < <(grep -l 'setenv("FLASHMARGIN_CUDA", FM_EMULATED_CUDA, 0)' test/native/*_test.cpp | xargs -n 1 basename -s .cpp)
tests+=(devices_test)
targets=(flashmargin_cuda_emulated cuda_head_bench devices_test)
[ "${1:-}" = --dry-programs ] || targets+=("${tests[@]}")
cmake -S . -B build-emulated -DCMAKE_BUILD_TYPE=Release -DFM_TESTS=ON -DFM_CUDA=off -DFM_ONEDNN=off >/dev/null
cmake --build build-emulated -j "$(nproc)" --target "${targets[@]}" >/dev/null
printf '%s\n' "${tests[@]}" >build-emulated/gpu-tests
case ${1:-} in --*) exit 0 ;; esac

folder=${1:-bench/gpu/packed}
for made in build/Release/flashmargin.node build/Release/libflashmargin_cuda.so dist/cli/main.mjs; do
  [ -f "$made" ] || complain "$made is missing: npm run build, where nvcc is on PATH"
done
mkdir -p "$folder" || complain "cannot make the folder '$folder'"
folder=$(cd "$folder" && pwd)
rm -f "$folder"/*.tar.xz "$folder/run.sh" "$folder/build.json"

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
package=$stage/package
mkdir -p "$package/build/Release" "$package/programs" "$package/include/node" "$stage/node" "$stage/data"

# Node.  The compressor's filter for x86 code saves a tenth.
node=$(readlink -f "$(command -v node)")
cp "$node" "$stage/node/node"
strip "$stage/node/node"
cp "$(dirname "$node")"/../include/node/{node_api,node_api_types,js_native_api,js_native_api_types}.h "$package/include/node/"

# The package: what runs, the golden files, and sources enough to compile it again.
cp build/Release/flashmargin.node build/Release/libflashmargin_cuda.so "$package/build/Release/"
cp "${tests[@]/#/build-emulated/}" build-emulated/cuda_head_bench \
  build-emulated/test/native/emulation/libflashmargin_cuda_emulated.so "$package/programs/"
strip "$package"/build/Release/* "$package"/programs/*
cp build-emulated/gpu-tests "$package/programs/"
tracked() { git ls-files -z -- "$@" | tar -cf - --null -T - | tar -C "$package" -xf -; }
tracked package.json CMakeLists.txt native src test/native bench/native bench/gpu bench/peers bench/results examples \
  'test/golden/*.safetensors'
find dist -name '*.mjs' -print0 | tar -cf - --null -T - | tar -C "$package" -xf -
unneeded=('*.ts' '*.cts' '*.mts' '*.map' '*.md')
for other in win32 darwin freebsd android arm musl; do unneeded+=("*/prebuilds/*$other*"); done
node bench/gpu/dependencies.mjs | tar -cf - -h "${unneeded[@]/#/--exclude=}" -T - | tar -C "$package" -xf -

# The set that is trained on and judged by; the pairs are not needed.
(cd "$root" && tar -cf - data/kanji28/{train,test}.{rec,idx,property} data/kanji28/test.tsv) | tar -C "$stage/data" -xf -

pack() { tar -C "$1" --sort=name --owner=0 --group=0 --mtime=@0 -cf - . | xz "${@:3}" >"$folder/$2.tar.xz"; }
pack "$stage/node" node --x86 --lzma2=preset=9e,dict=96MiB &
pack "$stage/data" data --lzma2=preset=9e,dict=64MiB
pack "$package" package --x86 --lzma2=preset=9e,dict=64MiB
wait
cp bench/gpu/run.sh "$folder/run.sh"

commit=$(git rev-parse --short HEAD)
[ -z "$(git status --porcelain -- lib src native)" ] || commit="$commit with changes"
compiler=$(g++ --version | head -n 1)
nvcc=$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p')
printf '{"commit": "%s", "built": "%s", "node": "%s", "compiler": "%s", "nvcc": "%s"}\n' \
  "$commit" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(node --version)" "$compiler" "$nvcc" >"$folder/build.json"

size=$(du -sb "$folder" | cut -f 1)
printf 'pack.sh: %s, %d.%d MiB:\n' "$folder" $((size >> 20)) $(((size & 1048575) * 10 >> 20))
du -b "$folder"/* | sed 's/^/  /'
[ "$size" -le $((64 << 20)) ] || complain "the pack is larger than 64 MiB"
