#!/usr/bin/env bash
# All that wants a GPU, in one run of at most nine minutes, without a network: is it right, how fast is it, how fast is
# PyTorch on the same card.  docs/gpu.md explains.
#   run.sh OUT                 writes environment.json, doctor.json, stages.jsonl, results.jsonl and log.txt into OUT
#   run.sh --dry OUT           the same stages at tiny sizes on a machine without a GPU, with the emulated CUDA library
#   run.sh --only A,B OUT      only stages whose names begin so
#   run.sh --list              their names and limits
# Beside a pack (bench/gpu/pack.sh) it takes what is in there, elsewhere the checkout it lies in.  A stage has a limit of
# its own and cannot stop the next one.  Exit code: 0 when no stage failed, 1 when one did, 2 for wrong usage.
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usage() {
  printf 'run.sh: %s\nusage: run.sh [--dry] [--only STAGE,...] OUT | --list\n' "$1" >&2
  exit 2
}

dry=false list=false only='' out=''
while [ $# -gt 0 ]; do
  case $1 in
    --dry) dry=true ;;
    --list) list=true ;;
    --only)
      [ $# -gt 1 ] || usage '--only needs names'
      only=$2
      shift
      ;;
    -*) usage "unknown option '$1'" ;;
    *)
      [ -z "$out" ] || usage "one folder, got '$out' and '$1'"
      out=$1
      ;;
  esac
  shift
done

if ! $list; then
  [ -n "$out" ] || usage 'expected a folder to write to'
  mkdir -p "$out" 2>/dev/null || usage "cannot make the folder '$out'"
  out=$(cd "$out" && pwd) || usage "cannot enter '$out'"
  if ! : 2>/dev/null >"$out/log.txt"; then usage "cannot write to '$out'"; fi
  : >"$out/stages.jsonl"
  : >"$out/results.jsonl"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/flashmargin-gpu-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
mkdir "$work/logs"
deadline=540

# --- what runs: a pack, or the checkout ---------------------------------------------------------------------------------

node=$(command -v node || true)
if [ -f "$here/build.json" ]; then
  package=$work/package programs=$work/package/programs
  if ! $list; then
    mkdir "$package"
    for part in "$here"/*.tar.xz; do
      tar -C "$package" -xJf "$part" || { printf 'run.sh: cannot unpack %s\n' "$part" >&2 && exit 1; }
    done
  fi
  node=$package/node
else
  package=$(cd "$here/../.." && pwd) programs=$package/build-emulated
  if ! $list && { [ ! -f "$package/dist/cli/main.mjs" ] || [ ! -f "$package/build/Release/flashmargin.node" ]; }; then
    printf 'run.sh: %s is not built: npm run build there, or make a pack with bench/gpu/pack.sh\n' "$package" >&2
    exit 2
  fi
fi
gpu=$package/bench/gpu
library=${FLASHMARGIN_CUDA:-$package/build/Release/libflashmargin_cuda.so}
if $dry && ! $list && [ -z "${FLASHMARGIN_CUDA:-}" ]; then
  library=$(find "$programs" -name libflashmargin_cuda_emulated.so 2>/dev/null | head -n 1)
  if [ -z "$library" ]; then
    printf 'run.sh: no emulated CUDA library in %s: bench/gpu/pack.sh --programs builds it\n' "$programs" >&2
    exit 2
  fi
fi
if $dry; then export FM_EMULATED_CAPABILITY="${FM_EMULATED_CAPABILITY:-90}"; fi # every path's stages
export FLASHMARGIN_CUDA=$library PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

python=''
for each in "${FLASHMARGIN_PYTHON:-}" python3 /usr/bin/python3; do
  if [ -n "$each" ] && "$each" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' 2>/dev/null; then
    python=$each
    break
  fi
done

# cuDNN and cuBLASLt from torch's own wheels: both sides convolve with the same library.
if [ -n "$python" ] && [ -z "${FLASHMARGIN_PYTHON_SITE:-}" ] && ! $dry; then
  FLASHMARGIN_PYTHON_SITE=$("$python" -c 'import importlib.util as u, os; print(os.path.dirname(next(iter(u.find_spec("nvidia").submodule_search_locations))))' 2>/dev/null)
  export FLASHMARGIN_PYTHON_SITE
fi

# --- stages ------------------------------------------------------------------------------------------------------------

declare -A status_of=()
failed_stages=0

# Text as a JSON string, of 300 characters at most.
quoted() {
  local text
  text=$(printf '%s' "$1" | tr -d '\000-\010\013-\037' | tr '\n\t' '  ' | cut -c 1-300)
  text=${text//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

wanted() {
  local each
  [ -n "$only" ] || return 0
  for each in ${only//,/ }; do
    case $1 in "$each"*) return 0 ;; esac
  done
  return 1
}

# record NAME STATUS SECONDS LIMIT NOTE LOG
record() {
  local name=$1 status=$2 log=$6 counts='' found
  status_of[$name]=$status
  case $status in failed | timeout) failed_stages=$((failed_stages + 1)) ;; esac
  found=$(grep -oE '[0-9]+ passed, [0-9]+ failed(, [0-9]+ [a-z ]+)?' "$log" 2>/dev/null | tail -n 1)
  if [ -n "$found" ]; then
    counts=$(printf '%s' "$found" | sed -E 's/^([0-9]+) passed, ([0-9]+) failed(, ([0-9]+).*)?$/,"passed":\1,"failed":\2,"skipped":\4/; s/"skipped":$/"skipped":0/')
  fi
  printf '{"stage":"%s","status":"%s","s":%s,"limit":%s,"dry":%s%s,"note":%s}\n' \
    "$name" "$status" "$3" "$4" "$dry" "$counts" "$(quoted "$5")" >>"$out/stages.jsonl"
  grep -aE '^\{.*\}$' "$log" 2>/dev/null | sed "s/^{/{\"stage\":\"$name\",\"dry\":$dry,/" >>"$out/results.jsonl"
  { printf '=== %s: %s, %s s. %s\n' "$name" "$status" "$3" "$5" && tail -c 100000 "$log" 2>/dev/null; } >>"$out/log.txt"
  printf '%-18s %-8s %4s s  %s%s\n' "$name" "$($dry && printf 'dry ')$status" "$3" "${found:+$found.  }" "$5"
}

# stage NAME LIMIT COMMAND...: exit code 77 is a program's word for something that is not here.
stage() {
  local name=$1 limit=$2 began=$SECONDS log rc status note
  shift 2
  if $list; then
    printf '%-18s %4d s\n' "$name" "$limit"
    return 0
  fi
  wanted "$name" || return 0
  log=$work/logs/$name.log
  if [ $((deadline - SECONDS)) -lt 5 ]; then
    record "$name" skipped 0 "$limit" "not available: no time was left of $deadline s" "$log"
    return 0
  fi
  if [ "$limit" -gt $((deadline - SECONDS)) ]; then limit=$((deadline - SECONDS)); fi
  timeout --kill-after=5 "$limit" "$@" >"$log" 2>&1 </dev/null
  rc=$?
  note=''
  case $rc in
    0) status=ok ;;
    77)
      status=skipped
      note=$(grep -a '^not available: ' "$log" | tail -n 1)
      ;;
    124 | 137)
      status=timeout
      note="stopped after $limit s"
      ;;
    *)
      if grep -qa '^0 passed, 0 failed' "$log"; then
        status=skipped
        note="not available: $(grep -a '^not run, ' "$log" | tail -n 1)"
      else
        status=failed
        note=$(grep -aE '^(FAILED|[A-Za-z]*Error: )' "$log" | tail -n 1)
        note="exit code $rc: ${note:-$(grep -av '^ *$' "$log" | tail -n 1)}"
      fi
      ;;
  esac
  record "$name" "$status" $((SECONDS - began)) "$limit" "$note" "$log"
}

# skip NAME LIMIT WHY
skip() {
  if $list; then printf '%-18s %4d s\n' "$1" "$2" && return 0; fi
  wanted "$1" || return 0
  record "$1" skipped 0 "$2" "not available: $3" /dev/null
}

# stage, where the words before -- hold: each is 'condition=reason', of a variable that must not be empty.
needs() {
  local name=$1 limit=$2 variable
  shift 2
  while [ "$1" != -- ]; do
    variable=${1%%=*}
    if ! $list && [ -z "${!variable}" ]; then
      skip "$name" "$limit" "${1#*=}"
      return 0
    fi
    shift
  done
  shift
  stage "$name" "$limit" "$@"
}

program() { find "$programs" -maxdepth 1 -type f -name "$1" -perm -u+x 2>/dev/null | head -n 1; }
# A tool of NVIDIA's, on PATH or where its packages put it; never in a dry run.
tool() {
  local each
  if $dry; then return 0; fi
  for each in "$(command -v "$1")" /usr/local/cuda/bin/"$1" /opt/nvidia/*/*/"$1"; do
    if [ -x "$each" ] && [ -f "$each" ]; then printf '%s' "$each" && return 0; fi
  done
}

# --- environment -----------------------------------------------------------------------------------------------------------

smi() { nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits 2>/dev/null | head -n 1; }
state() { # of clocks and power, as a row of its own
  if $list || $dry; then return 0; fi
  command -v nvidia-smi >/dev/null || return 0
  printf '{"stage":"state","dry":false,"bench":"gpu-state","when":"%s","smMHz, memoryMHz, watt, celsius":%s}\n' "$1" \
    "$(quoted "$(smi clocks.sm,clocks.mem,power.draw,temperature.gpu)")" >>"$out/results.jsonl"
}
environment() {
  local commit=unknown from=$here/build.json gpu_name driver
  if [ -f "$from" ]; then
    commit=$(sed -n 's/.*"commit": *"\([^"]*\)".*/\1/p' "$from")
  elif git -C "$package" rev-parse HEAD >/dev/null 2>&1; then
    commit=$(git -C "$package" rev-parse --short HEAD)
    [ -z "$(git -C "$package" status --porcelain -- lib src native)" ] || commit="$commit with changes"
  fi
  if $dry; then gpu_name='none (dry run)' driver=''; else gpu_name=$(smi name) driver=$(smi driver_version); fi
  printf '{\n'
  printf '  "date": "%s",\n  "commit": %s,\n  "dry": %s,\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(quoted "$commit")" "$dry"
  printf '  "gpu": %s,\n  "driver": %s,\n' "$(quoted "${gpu_name:-none}")" "$(quoted "$driver")"
  printf '  "memoryMiB": %s,\n' "$(quoted "$($dry || smi memory.total)")"
  printf '  "cpu": %s,\n' "$(quoted "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)")"
  printf '  "cores": %s,\n  "kernel": %s,\n' "$(nproc)" "$(quoted "$(uname -sr)")"
  printf '  "node": %s,\n' "$(quoted "$("$node" --version 2>/dev/null)")"
  printf '  "torch": %s,\n' "$(quoted "$([ -z "$python" ] || "$python" -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null)")"
  printf '  "nvcc": %s\n}\n' "$(quoted "$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p')")"
}
$list || environment >"$out/environment.json"

# --- 1. does it start? ---------------------------------------------------------------------------------------------------------

cli=$package/dist/cli/main.mjs
doctor() {
  stage "$1" 40 bash -c '"$0" "$1" doctor && "$0" "$1" doctor --json >"$2" && exec "$0" "$3"' \
    "$node" "$cli" "$out/doctor.json" "$gpu/usable.mjs"
}
cuda=''
doctor runs
if $list || { ! $dry && [ "${status_of[runs]:-ok}" != ok ]; }; then
  nvcc=$(tool nvcc) cmake=$(tool cmake)
  needs rebuild 170 nvcc='nvcc is not installed' cmake='cmake is not installed' -- \
    env CUDACXX="$nvcc" bash "$gpu/rebuild.sh" "$package" "$programs" "$work/rebuilt"
  if [ "${status_of[rebuild]:-}" = ok ]; then
    export FLASHMARGIN_ADDON=$work/rebuilt/flashmargin.node FLASHMARGIN_CUDA=$work/rebuilt/libflashmargin_cuda.so
    library=$FLASHMARGIN_CUDA programs=$work/rebuilt
    doctor runs-rebuilt
    status_of[runs]=${status_of[runs-rebuilt]:-failed}
  fi
fi
if $list || [ "${status_of[runs]:-ok}" = ok ]; then cuda=$library; fi
no_cuda='the CUDA library does not run here, see the stage runs'

# Paths that take their operands in bfloat16; the plain one is always there.
paths=plain
for path in tensor hopper; do
  needs "path-$path" 15 cuda="$no_cuda" -- \
    env FLASHMARGIN_CUDA_HEAD=$path "$node" "$gpu/usable.mjs" --precision bfloat16
  if [ "${status_of[path-$path]:-ok}" = ok ]; then paths="$paths $path"; fi
done
# Hopper's path suits some shapes alone: those of a stage that it does not go where the head would take them anyway.
forced() { if [ "$1" != hopper ]; then printf '%s' "$1"; fi }
on_path() { case " $paths " in *" $1 "*) printf '%s' "$1" ;; esac }
precision_of() { if [ "$1" = plain ]; then printf 'float32'; else printf 'bfloat16'; fi }

# --- 2. is it right? -------------------------------------------------------------------------------------------------------------

head_bench=$(program cuda_head_bench)
unbuilt="it is not built in $programs: bench/gpu/pack.sh --programs"
mapfile -t tests < <(cat "$programs/gpu-tests" 2>/dev/null || printf 'cuda_head_test\ndevices_test\n')
if $dry; then
  golden=(--only 'arcface.*small') fuzz=(--cases 4 --largest 100 --seconds 8 --seed 1)
  small=(7,32,150 9,24,40,3) odd=7,33,50
else
  golden=() fuzz=(--seconds 10)
  small=(70,40,300 130,512,1030 65,128,259,3) odd=70,33,300 # rows that the copy engine does not take
fi
for each in "${tests[@]}"; do
  test=$(program "$each")
  if $dry && [ "$each" != devices_test ]; then
    skip "native-${each%_test}" 45 'the native tests of npm run check are its dry run'
  else
    needs "native-${each%_test}" 45 cuda="$no_cuda" test="$unbuilt" -- "$test"
  fi
done
for path in plain tensor hopper; do
  there=$(on_path $path)
  options=() multiple=1
  if [ $path != plain ]; then options=(--precision bfloat16); fi
  if [ $path = hopper ]; then multiple=8; fi
  needs golden-$path 45 cuda="$no_cuda" there="see path-$path" -- \
    env FLASHMARGIN_CUDA_HEAD="$(forced $path)" "$node" "$cli" conformance "$package/test/golden" --device cuda \
    "${golden[@]}" "${options[@]}"
  needs fuzz-$path 20 cuda="$no_cuda" there="see path-$path" -- \
    env FLASHMARGIN_CUDA_HEAD="$(forced $path)" "$node" "$gpu/fuzz.mjs" --precision "$(precision_of $path)" \
    --multiple $multiple "${fuzz[@]}"
done

# Every kernel of each path on small shapes.
export head_bench paths odd
sanitizer=$(tool compute-sanitizer)
no_sanitizer='compute-sanitizer is not installed'
if $dry; then no_sanitizer='the emulation has no GPU code to watch'; fi
for tool in memcheck racecheck synccheck; do
  needs $tool 45 cuda="$no_cuda" head_bench="$unbuilt" sanitizer="$no_sanitizer" -- \
    bash -c 'code=0
      for path in $paths; do
        if [ "$path" = plain ]; then precision=float32; else precision=bfloat16; fi
        if [ "$path" = hopper ]; then odd=; fi
        FLASHMARGIN_CUDA_HEAD=$path "$0" --tool "$1" --error-exitcode 9 "$head_bench" \
          --precision $precision --steps 1 --rounds 1 "${@:2}" $odd || code=1
      done
      exit $code' "$sanitizer" "$tool" "${small[@]}"
done

# --- 3. how fast is the head? --------------------------------------------------------------------------------------------------------

state before
if $dry; then
  plain_shapes=(7,32,150) kept_shapes=(7,32,150) tensor_shapes=(7,32,150) hopper_shapes=(7,32,150)
  launched_shapes=(7,32,150) filtered_shapes=(7,32,150) sampled_shapes=(7,32,150) few=(--steps 1 --rounds 2)
  torch_shapes=(8,32,200) torch_device=(--device cpu --steps 2) quick=(--steps 1 --rounds 2) profile_shape=7,32,150
else
  plain_shapes=(1024,512,10000 1024,512,100000 1024,512,1000000) few=(--steps 3)
  tensor_shapes=(1024,512,10000 1024,512,100000 1024,512,1000000 1024,512,333333,3 1024,512,10000000)
  hopper_shapes=(1024,512,10000 1024,512,100000 512,512,100000 1024,512,1000000 4096,512,1000000
    1024,512,333333,3 1024,512,10000000)
  kept_shapes=(1024,512,100000 1024,512,1000000 1024,512,333333,3) launched_shapes=(1024,512,10000 1024,512,1000000)
  filtered_shapes=(1024,512,100000 1024,512,1000000) sampled_shapes=(1024,512,1000000 1024,512,10000000)
  torch_shapes=(1024,512,10000 1024,512,100000 1024,512,1000000) torch_device=(--device cuda) quick=(--steps 10)
  profile_shape=1024,512,100000
fi
# A process each, whose peak memory is that of one shape.  graph=off: every step by plain launches.
head_times() { # NAME PATH LIMIT OPTIONS SHAPES...
  local name=$1 path=$2 limit=$3 there
  shift 3
  there=$(on_path "$path")
  needs "head-$name" "$limit" cuda="$no_cuda" head_bench="$unbuilt" there="see path-$path" -- \
    env FLASHMARGIN_CUDA_HEAD="$path" FLASHMARGIN_CUDA_GRAPH="${graph:-}" bash -c 'code=0
      options=()
      for each; do
        case $each in
          *,*) "$0" "${options[@]}" "$each" || code=1 ;;
          *) options+=("$each") ;;
        esac
      done
      exit $code' "$head_bench" --precision "$(precision_of "$path")" "$@"
}
head_times hopper hopper 60 "${quick[@]}" "${hopper_shapes[@]}"
head_times hopper-kept hopper 30 --keep all "${quick[@]}" "${kept_shapes[@]}" # 2·N·C bytes of terms
# Features that are learned: the most that leaving tiles out can save.
head_times hopper-filtered hopper 20 --filter 1e-4 "${quick[@]}" "${filtered_shapes[@]}"
# Partial FC: a tenth of the classes, whose rows lie apart from each other.
head_times hopper-sampled hopper 20 --sample 0.1 "${quick[@]}" "${sampled_shapes[@]}"
head_times tensor tensor 50 "${quick[@]}" "${tensor_shapes[@]}"
head_times plain plain 40 "${few[@]}" "${plain_shapes[@]}"
graph=off head_times hopper-launched hopper 20 "${quick[@]}" "${launched_shapes[@]}"
graph=off head_times tensor-launched tensor 20 "${quick[@]}" "${launched_shapes[@]}"

no_torch='no python3 here has torch; FLASHMARGIN_PYTHON names one'
torch_head() { # MODE LIMIT
  needs "torch-$1" "$2" python="$no_torch" -- "$python" "$gpu/torch_head.py" "$1" "${torch_device[@]}" \
    "${torch_shapes[@]}"
}
torch_head ceilings 20
torch_head gemm3 15
torch_head eager 25
torch_head chunked 25
torch_head triton 35
torch_head filtered 20
torch_head compile 50
torch_head check 25

# --- 4. a whole network ----------------------------------------------------------------------------------------------------------------

if $dry; then
  ours=(--net iresnetSmall --side 16 --batch 2 --classes 20 --steps 1 --precision float32)
  theirs=(--depth 18 --side 32 --batch 2 --classes 20 --steps 1 --rounds 1)
  kanji=(--tiny --precision float32)
else
  ours=() theirs=() kanji=()
fi
needs backbone 45 cuda="$no_cuda" -- env FLASHMARGIN_CUDA_TF32=on FLASHMARGIN_CUDNN_SEARCH=measure \
  "$node" "$gpu/backbone.mjs" "${ours[@]}"
needs backbone-float32 45 cuda="$no_cuda" -- env FLASHMARGIN_CUDA_TF32=on FLASHMARGIN_CUDNN_SEARCH=measure \
  "$node" "$gpu/backbone.mjs" "${ours[@]}" --net-precision float32
needs backbone-own 40 cuda="$no_cuda" -- env FLASHMARGIN_CUDA_OPS=own "$node" "$gpu/backbone.mjs" "${ours[@]}" \
  --net-precision float32
needs torch-backbone 40 python="$no_torch" -- "$python" "$gpu/torch_backbone.py" "${torch_device[@]}" "${theirs[@]}"
needs train 90 cuda="$no_cuda" -- "$node" "$gpu/train.mjs" "${kanji[@]}" --out "$work/run"
state after

# --- 5. why? -----------------------------------------------------------------------------------------------------------------------------

ncu=$(tool ncu)
no_ncu='ncu is not installed'
if $dry; then no_ncu='the emulation has no GPU code to count'; fi
for path in $paths; do profiled=$path; done # the fastest
needs profile 30 cuda="$no_cuda" head_bench="$unbuilt" ncu="$no_ncu" -- \
  env FLASHMARGIN_CUDA_HEAD="${profiled:-plain}" "$ncu" --clock-control none --section SpeedOfLight \
  --section MemoryWorkloadAnalysis --launch-skip 20 --launch-count 12 "$head_bench" --precision \
  "$(precision_of "${profiled:-plain}")" --steps 2 --rounds 1 "$profile_shape"

if $list; then exit 0; fi
printf '\n%s\n' "$(sed 's/^/  /' "$out/environment.json" | tr -d '{}"' | grep -E 'gpu|driver|commit|torch' | tr -s ' ' | tr -d '\n')"
grep -c '"status":"ok"' "$out/stages.jsonl" | sed 's/$/ stages ok/'
for status in failed timeout skipped; do
  printf '%s %s: %s\n' "$(grep -c "\"status\":\"$status\"" "$out/stages.jsonl")" "$status" \
    "$(sed -n "s/^{\"stage\":\"\([^\"]*\)\",\"status\":\"$status\".*/\1/p" "$out/stages.jsonl" | tr '\n' ' ')"
done
if $dry; then printf 'A dry run: nothing here was measured on a GPU.\n'; fi
[ "$failed_stages" -eq 0 ]
