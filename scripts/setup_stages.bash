# shellcheck shell=bash
# What set-up consists of, as functions. scripts/setup, scripts/test, scripts/demo and scripts/check_torch source this file and call fgvl_setup,
# which leaves FGVL_CMAKE, FGVL_NINJA, FGVL_TORCH_DIR, FGVL_CUDA (ON or OFF) and FGVL_CMAKE_ARGS behind.

FGVL_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
FGVL_CACHE="${XDG_CACHE_HOME:-${HOME:?fgvl: set HOME or XDG_CACHE_HOME to a folder of yours}/.cache}/fgvl"
FGVL_TOOLS="$FGVL_CACHE/tools"
FGVL_CMAKE="$FGVL_TOOLS/bin/cmake"
FGVL_NINJA="$FGVL_TOOLS/bin/ninja"
FGVL_DEFAULT_TORCH_VERSION=2.11.0
FGVL_PACKAGES=(g++ pkg-config ccache python3 python3-venv ca-certificates libyaml-cpp-dev libabsl-dev libopencv-dev
               libsimdjson-dev nlohmann-json3-dev libpugixml-dev libcli11-dev libturbojpeg0-dev libicu-dev zlib1g-dev libxxhash-dev catch2)

# ---- saying what happens ----

fgvl_stage_name=""
fgvl_stage_start=0
fgvl_unfinished=""

fgvl_say() { echo "   $*" >&2; }

# fgvl_die SENTENCE...: the one sentence that says what to do.
fgvl_die() {
  fgvl_stage_name=""
  echo "fgvl: $*" >&2
  exit 1
}

# fgvl_stage NAME COMMAND...: runs it and says how long it took. The command stands in no condition: bash would ignore set -e inside of it.
fgvl_stage() {
  fgvl_stage_name="$1"
  fgvl_stage_start=$SECONDS
  shift
  echo "-- $fgvl_stage_name ..." >&2
  "$@"
  echo "-- $fgvl_stage_name: $((SECONDS - fgvl_stage_start)) s" >&2
  fgvl_stage_name=""
}

fgvl_at_exit() {
  local code=$? place
  # A disk that was too small is not left full.
  if [ -n "$fgvl_unfinished" ]; then rm -rf "$fgvl_unfinished"; fi
  if [ "$code" = 0 ] || [ -z "$fgvl_stage_name" ]; then return; fi
  for place in "$FGVL_ROOT" "$FGVL_CACHE" "${TMPDIR:-/tmp}"; do
    if [ "$(df -Pk "$place" 2>/dev/null | awk 'NR == 2 {print $4}')" -lt 102400 ] 2>/dev/null; then
      echo "fgvl: $fgvl_stage_name failed: the disk of $place is full; free 8 GB there and run this again." >&2
      return
    fi
  done
  echo "fgvl: $fgvl_stage_name failed after $((SECONDS - fgvl_stage_start)) s; what it said stands above." >&2
}
trap fgvl_at_exit EXIT

# fgvl_explain OUTPUT: one sentence for what usually goes wrong with a download.
fgvl_explain() {
  local output="$1" wanted offered
  if grep -qiE 'no space left|not enough free space|disk quota' <<<"$output"; then
    fgvl_die "the disk is full: free 8 GB in $FGVL_CACHE (or set XDG_CACHE_HOME to a larger disk) and 2 GB in /usr, /var and /tmp, and run this again."
  fi
  if grep -qiE 'temporary failure|could not resolve|name or service not known|network is (unreachable|down)|no route to host|connection (refused|reset|aborted|timed out)|(read|connect).?timeout|timed out|failed to establish|proxyerror|failed to fetch' <<<"$output"; then
    fgvl_die "the network does not answer: connect this machine (or set HTTPS_PROXY and PIP_INDEX_URL) and run this again."
  fi
  if wanted="$(grep -oiE 'unable to locate package [^ ]+' <<<"$output" | head -n 1)"; then
    fgvl_die "apt is ${wanted,}: this distribution is too old (Debian 12 has all of them), or its sources in /etc/apt are incomplete."
  fi
  if wanted="$(grep -oE 'No matching distribution found for [^ ]+' <<<"$output" | head -n 1)"; then
    wanted="${wanted##* }"
    offered="$(grep -oE 'from versions: [^)]*' <<<"$output" | head -n 1 | tr -d ' ' | cut -d: -f2 | tr , '\n' | tail -n 8 | paste -sd' ')"
    if [[ "$wanted" == torch==* ]] && [ "${offered:-none}" != none ]; then
      fgvl_die "there is no $wanted for this Python: set FGVL_TORCH_VERSION to one that exists (the newest: $offered), or unset it."
    fi
    fgvl_die "the package index has no $wanted for this Python and processor: unset PIP_INDEX_URL, or ask its owner."
  fi
  tail -n 15 <<<"$output" >&2
  fgvl_die "${fgvl_stage_name:-this} failed; its last lines stand above."
}

# Runs a command quietly. Its output is kept in memory: a full /tmp must not hide the sentence about it.
fgvl_quietly() {
  local output
  output="$("$@" 2>&1)" || fgvl_explain "$output"
}

# ---- one set-up at a time ----

fgvl_lock() {
  mkdir -p "$FGVL_CACHE/tmp" 2>/dev/null || fgvl_die "cannot write to $FGVL_CACHE (no permission, or the disk is full): set XDG_CACHE_HOME to a folder of yours."
  { exec 9>"$FGVL_CACHE/lock"; } 2>/dev/null || fgvl_die "cannot write to $FGVL_CACHE: set XDG_CACHE_HOME to a folder of yours."
  command -v flock >/dev/null || return 0
  flock --nonblock 9 && return 0
  fgvl_say "another set-up is at work in $FGVL_CACHE: waiting for it"
  flock 9 || fgvl_die "cannot lock $FGVL_CACHE/lock: set XDG_CACHE_HOME to a folder on a local disk."
}

fgvl_unlock() { exec 9>&-; }

# ---- system packages ----

fgvl_missing_packages() {
  local package
  for package in "${FGVL_PACKAGES[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || echo "$package"
  done
}

fgvl_install_packages() {
  local missing root=() updated="" output
  command -v apt-get >/dev/null || { fgvl_say "not a Debian system: expecting the packages of CONTRIBUTING.md to be there"; return 0; }
  mapfile -t missing < <(fgvl_missing_packages)
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fgvl_die "packages are missing and only root may install them; ask for: apt-get install ${missing[*]}"
    sudo -n true 2>/dev/null || [ -t 0 ] || fgvl_die "packages are missing and sudo asks for a password; run: sudo apt-get install ${missing[*]}"
    root=(sudo)
  fi
  fgvl_say "installing ${missing[*]}"
  # One broken source among many need not matter: what its update said is only told when the installation fails.
  updated="$("${root[@]}" env LC_ALL=C apt-get update -q -o APT::Update::Error-Mode=any -o DPkg::Lock::Timeout=300 2>&1)" && updated=""
  output="$("${root[@]}" env LC_ALL=C DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}" 2>&1)" || fgvl_explain "$updated"$'\n'"$output"
}

# ---- build tools ----

# pip downloads through TMPDIR, and /tmp is often small; what it fetched is kept unpacked, so a second copy in its own cache would be waste.
fgvl_pip() { TMPDIR="$FGVL_CACHE/tmp" "$1/bin/pip" install --disable-pip-version-check --no-cache-dir --quiet "${@:2}"; }

# fgvl_environment FOLDER PACKAGE...: a Python virtual environment that holds exactly these.
fgvl_environment() {
  local folder="$1" pinned="${*:2}"
  [ "$(cat "$folder/pinned" 2>/dev/null || true)" = "$pinned" ] && return 0
  command -v python3 >/dev/null || fgvl_die "python3 is missing: install Python 3.9 or newer with its venv module."
  rm -rf "$folder" || fgvl_die "cannot remove the outdated $folder: remove it by hand."
  fgvl_quietly env TMPDIR="$FGVL_CACHE/tmp" python3 -m venv "$folder"
  fgvl_quietly fgvl_pip "$folder" "${@:2}"
  echo "$pinned" >"$folder/pinned" || fgvl_die "cannot write to $folder: is its disk full?"
}

fgvl_install_tools() { fgvl_environment "$FGVL_TOOLS" cmake==3.31.6 ninja==1.11.1.4; }

# TensorBoard itself reads what the trainer writes, in a test.
fgvl_install_tensorboard() {
  fgvl_lock
  fgvl_environment "$FGVL_CACHE/tensorboard" tensorboard==2.19.0 setuptools==80.9.0
  fgvl_unlock
}

# ---- CUDA and LibTorch ----

# Where the CUDA toolkit is; nothing if there is none.
fgvl_toolkit() {
  local compiler="${CUDACXX:-}"
  [ -n "$compiler" ] || compiler="$(command -v nvcc || true)"
  [ -n "$compiler" ] || compiler=/usr/local/cuda/bin/nvcc
  compiler="$(command -v "$compiler" || true)"
  [ -z "$compiler" ] || dirname "$(dirname "$compiler")"
}

# The wheel without Python's side: torch itself and the NVIDIA libraries that its own METADATA names, all of them or (cpu) those that libtorch_cpu
# needs to be linked. Sets FGVL_TORCH_DIR.
fgvl_install_wheel() {
  local version="$1" flavour="$2" target fresh listed requirements
  FGVL_TORCH_DIR="$FGVL_CACHE/torch-$version-cuda/torch"  # holds everything of the other
  [ -e "$FGVL_TORCH_DIR/lib/libtorch_cpu.so" ] && return 0
  target="$FGVL_CACHE/torch-$version-$flavour"
  fresh="$target.new"
  FGVL_TORCH_DIR="$target/torch"
  [ -e "$FGVL_TORCH_DIR/lib/libtorch_cpu.so" ] && return 0
  rm -rf "$fresh" "$target" || fgvl_die "cannot remove the unfinished $fresh: remove it by hand."
  fgvl_unfinished="$fresh"
  fgvl_say "downloading torch $version ($flavour; $([ "$flavour" = cuda ] && echo 5 || echo 1.5) GB when unpacked)"
  fgvl_quietly fgvl_pip "$FGVL_TOOLS" --no-deps --target "$fresh" "torch==$version"
  listed="$("$FGVL_TOOLS/bin/python" "$FGVL_ROOT/scripts/wheel_requirements.py" "$fresh" "$flavour")" ||
    fgvl_die "cannot tell which NVIDIA libraries torch $version needs (see above): choose another FGVL_TORCH_VERSION."
  if [ -n "$listed" ]; then
    mapfile -t requirements <<<"$listed"
    fgvl_quietly fgvl_pip "$FGVL_TOOLS" --upgrade --target "$fresh" "${requirements[@]}"
  fi
  if [ ! -e "$fresh/torch/lib/libtorch_cpu.so" ] || [ ! -e "$fresh/torch/include/ATen/core/Tensor.h" ]; then
    fgvl_die "the wheel of torch $version holds no LibTorch with headers: choose another FGVL_TORCH_VERSION."
  fi
  mv "$fresh" "$target" || fgvl_die "cannot move $fresh to $target: is the disk full?"
  fgvl_unfinished=""
}

# fgvl_given_torch: sets FGVL_TORCH_DIR to the LibTorch that Torch_DIR, Torch_ROOT or CMAKE_PREFIX_PATH in the environment mean, if there is one.
fgvl_given_torch() {
  local found version
  [ -n "${CMAKE_PREFIX_PATH:-}${Torch_DIR:-}${Torch_ROOT:-}" ] || return 0
  found="$("$FGVL_CMAKE" -P "$FGVL_ROOT/cmake/FgvlTorchRoot.cmake")" || fgvl_die "cannot look for LibTorch in CMAKE_PREFIX_PATH and Torch_DIR (see above)."
  if [ -z "$found" ]; then
    [ -z "${Torch_DIR:-}${Torch_ROOT:-}" ] || fgvl_die "Torch_DIR or Torch_ROOT is set to '${Torch_DIR:-$Torch_ROOT}', which holds no LibTorch: correct it or unset it."
    fgvl_say "no LibTorch in CMAKE_PREFIX_PATH: looking further"
    return 0
  fi
  version="${found%% *}"
  if ! fgvl_version_at_least "$version" 2.6; then
    [ -z "${Torch_DIR:-}${Torch_ROOT:-}" ] || fgvl_die "LibTorch $version in ${found#* } is too old (2.6 is needed): correct or unset Torch_DIR and Torch_ROOT."
    fgvl_say "LibTorch $version in CMAKE_PREFIX_PATH is too old (2.6 is needed): looking further"
    return 0
  fi
  FGVL_TORCH_DIR="${found#* }"
  fgvl_say "LibTorch $version: yours, in $FGVL_TORCH_DIR"
}

fgvl_version_at_least() { [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

fgvl_find_torch() {
  local toolkit packaged
  FGVL_CUDA="${FGVL_CUDA:-AUTO}"
  toolkit="$(fgvl_toolkit)"
  case "$FGVL_CUDA" in
    ON) [ -n "$toolkit" ] || fgvl_die "FGVL_CUDA=ON, but there is no CUDA toolkit: set CUDACXX to its nvcc, or FGVL_CUDA=OFF." ;;
    AUTO | OFF) ;;
    *) fgvl_die "FGVL_CUDA='$FGVL_CUDA': expected AUTO, ON or OFF." ;;
  esac
  FGVL_TORCH_DIR=""
  # A version asked for by name means that wheel and no other LibTorch.
  if [ -z "${FGVL_TORCH_VERSION:-}" ]; then
    fgvl_given_torch
    if [ -z "$FGVL_TORCH_DIR" ]; then
      packaged="$(dpkg-query -W -f='${db:Status-Status} ${Version}' libtorch-dev 2>/dev/null || true)"
      if [[ "$packaged" == "installed "* ]] && fgvl_version_at_least "${packaged#* }" 2.6; then
        FGVL_TORCH_DIR=/usr
        fgvl_say "LibTorch ${packaged#* }: the distribution's"
      fi
    fi
  fi
  if [ -z "$FGVL_TORCH_DIR" ]; then
    if [ "$FGVL_CUDA" = AUTO ]; then FGVL_CUDA=$([ -n "$toolkit" ] && echo ON || echo OFF); fi
    fgvl_install_wheel "${FGVL_TORCH_VERSION:-$FGVL_DEFAULT_TORCH_VERSION}" "$([ "$FGVL_CUDA" = ON ] && echo cuda || echo cpu)"
    fgvl_say "LibTorch ${FGVL_TORCH_VERSION:-$FGVL_DEFAULT_TORCH_VERSION}: the wheel, in $FGVL_TORCH_DIR"
  elif [ "$FGVL_CUDA" = AUTO ]; then
    # A LibTorch without CUDA parts makes a CPU build, toolkit or not.
    FGVL_CUDA=OFF
    if [ -n "$toolkit" ] && compgen -G "$FGVL_TORCH_DIR/lib*/libtorch_cuda.so" >/dev/null; then FGVL_CUDA=ON; fi
  fi
  fgvl_say "$([ "$FGVL_CUDA" = ON ] && echo "CUDA build, with the toolkit in $toolkit" || echo "CPU build")"
  FGVL_CMAKE_ARGS+=("-DFGVL_TORCH_DIR=$FGVL_TORCH_DIR" "-DFGVL_CUDA=$FGVL_CUDA")
  # An nvcc on PATH is followed better by CMake, which asks it (it may be a wrapper).
  if [ "$FGVL_CUDA" = ON ] && { [ -n "${CUDACXX:-}" ] || ! command -v nvcc >/dev/null; }; then export CUDAToolkit_ROOT="$toolkit"; fi
}

# ---- all of it ----

# Everything a build is configured with stands here, so that scripts/test and scripts/demo can share a build folder without compiling twice.
fgvl_setup() {
  FGVL_CMAKE_ARGS=(-G Ninja "-DCMAKE_MAKE_PROGRAM=$FGVL_NINJA" -DCMAKE_BUILD_TYPE=Release "-DFGVL_WERROR=${FGVL_WERROR:-OFF}")
  fgvl_lock
  fgvl_stage "system packages" fgvl_install_packages
  fgvl_stage "build tools" fgvl_install_tools
  fgvl_stage "LibTorch" fgvl_find_torch
  fgvl_unlock
}

# fgvl_configure BUILD ARGUMENT...
fgvl_configure() { "$FGVL_CMAKE" -S "$FGVL_ROOT" -B "$1" "${FGVL_CMAKE_ARGS[@]}" "${@:2}"; }

# fgvl_run_tests BUILD CTEST-ARGUMENT...
fgvl_run_tests() {
  FGVL_TENSORBOARD_PYTHON="$FGVL_CACHE/tensorboard/bin/python" FGVL_CMAKE="$FGVL_CMAKE" \
    "$FGVL_TOOLS/bin/ctest" --test-dir "$1" --output-on-failure --parallel "$(nproc)" "${@:2}"
}
