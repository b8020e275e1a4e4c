# Shared by the scripts: saying what is done, installing what is missing, building.
# Sourced, never run; expects `set -euo pipefail`.
# shellcheck shell=bash

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$TOP"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}

STARTED_SECONDS=$SECONDS

# Says what is done, with the seconds since the start.
say() { printf '\033[1m[%4ds]\033[0m %s\n' "$((SECONDS - STARTED_SECONDS))" "$*"; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Installs Debian packages that are missing. Elsewhere, names what is missing and stops.
need_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
    fail "these packages are missing, and only root on Debian can install them here: ${missing[*]}"
  say "installing Debian packages: ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Rust with the pinned toolchain and the wasm target, by rustup.
need_rust() {
  if ! command -v cc >/dev/null; then need_packages gcc libc6-dev; fi
  command -v rustup >/dev/null || fail "rustup is missing: install it from https://rustup.rs and run this again"
  if ! rustup target list --installed 2>/dev/null | grep -qx wasm32-wasip2; then
    say "installing the pinned Rust toolchain and the wasm32-wasip2 target"
    rustup toolchain install >/dev/null 2>&1 || true
    rustup target add wasm32-wasip2
  fi
}

# The two components, as Spin's manifest names them.
build_components() {
  say "building the components (api, reconciler) for wasm32-wasip2"
  cargo build --locked --release --target wasm32-wasip2 --package api --package reconciler
}

# The native hosts: devhost runs the components without Spin, localcluster stands in for Kubernetes.
build_hosts() {
  say "building the hosts (devhost, localcluster)"
  cargo build --locked --package devhost --package localcluster
}

# A child of ours goes with its signal and its time to drain, then without asking.
stop() {
  local pid=$1 tries=150
  kill -TERM "$pid" 2>/dev/null || return 0
  while kill -0 "$pid" 2>/dev/null && [ "$tries" -gt 0 ]; do
    sleep 0.1
    tries=$((tries - 1))
  done
  kill -KILL "$pid" 2>/dev/null || true
}
