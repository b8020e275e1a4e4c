# What with-postgres.sh and with-libsql.sh have in common: servers in a temporary folder for one command, gone with it however
# it ends. Sourced, never run; expects `set -euo pipefail`, and a function `end_servers` of whoever sources it.
# shellcheck shell=bash

fail() {
  printf 'error: %s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

command_pid=''
clean_up() {
  local code=$?
  trap - EXIT
  trap '' INT TERM
  if [ -n "$command_pid" ]; then kill -TERM "$command_pid" 2>/dev/null || true; fi
  end_servers
  rm -rf "$folder"
  exit "$code"
}

# Makes $folder, with $1 in its name. From now on all is cleared away at the end.
make_folder() {
  folder=$(mktemp -d "${TMPDIR:-/tmp}/executor-$1.XXXXXX")
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# Starts the server $1: the function start_$1 starts it in the background on $port, with its id in $server, and answers_$1 tells
# whether it is there; what it says is in $folder/$1.log. A port that is free now may be taken a moment later; then another is tried.
start_server() {
  local try
  for try in 1 2 3 4 5; do
    port=$((20000 + RANDOM % 12000))
    "start_$1"
    for _ in $(seq 300); do
      kill -0 "$server" 2>/dev/null || break
      if "answers_$1"; then return; fi
      sleep 0.1
    done
    # There is nothing in it yet that would have to end well.
    kill -KILL "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=''
  done
  cat "$folder/$1.log" >&2
  fail "the server ($1) did not start, on $try ports"
}

# Runs the command and ends as it does.
run_command() {
  local code=0
  "$@" &
  command_pid=$!
  wait "$command_pid" || code=$?
  command_pid=''
  exit "$code"
}
