#!/usr/bin/env bash
# Runs a command with a private PostgreSQL of Debian's (package postgresql, 14 or later), whose URL is in EXECUTOR_TEST_POSTGRES.
# It is in a temporary folder, listens on a free port of 127.0.0.1, and is gone with the command, however that ends.
# The command may kill it, by EXECUTOR_TEST_POSTGRES_PID_FILE (the server's own; the first line counts), and start it again where
# it was, by running EXECUTOR_TEST_POSTGRES_START, which lasts as long as the server does.
# usage: with-postgres.sh COMMAND [ARGUMENT...]
set -euo pipefail

fail() {
  printf 'error: with-postgres.sh: %s\n' "$*" >&2
  exit 1
}

[ $# -gt 0 ] || fail "which command? usage: with-postgres.sh COMMAND [ARGUMENT...]"

# The newest that is installed.
bin=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] && [ -x "$bin/initdb" ] || fail "there is no /usr/lib/postgresql/*/bin/initdb: install Debian's package postgresql"

# PostgreSQL does not run as root: there it runs as Debian's user postgres.
as_user=()
if [ "$(id -u)" = 0 ]; then
  id postgres >/dev/null 2>&1 || fail "there is no user postgres"
  as_user=(setpriv --reuid postgres --regid postgres --clear-groups env -u HOME)
fi

folder=$(mktemp -d "${TMPDIR:-/tmp}/executor-postgres.XXXXXX")
chmod 711 "$folder"
server=''
command_pid=''
# The process id of the server that runs in our folder, whoever started it. One that is gone may have left its id to a stranger.
running() {
  local pid
  pid=$(head -n 1 "$folder/data/postmaster.pid" 2>/dev/null) && [ -n "$pid" ] &&
    tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "-D $folder/data " && printf '%s' "$pid"
}
clean_up() {
  local code=$?
  trap - EXIT
  trap '' INT TERM
  if [ -n "$command_pid" ]; then kill -TERM "$command_pid" 2>/dev/null || true; fi
  # INT is PostgreSQL's fast shutdown: it ends connections and stops.
  local pid
  if pid=$(running) && kill -INT "$pid" 2>/dev/null; then
    for _ in $(seq 300); do
      running >/dev/null || break
      sleep 0.1
    done
  fi
  rm -rf "$folder"
  exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir "$folder/data"
if [ "$(id -u)" = 0 ]; then chown postgres: "$folder" "$folder/data"; fi
cd "$folder"
"${as_user[@]}" "$bin/initdb" --pgdata "$folder/data" --username executor --auth trust \
  --encoding UTF8 --locale C.UTF-8 --no-sync >"$folder/initdb.log" 2>&1 ||
  { cat "$folder/initdb.log" >&2; fail "initdb failed"; }
# Everybody is let in, but whoever is called `sealed` has to show a password.
printf '%s\n' 'host all sealed 127.0.0.1/32 scram-sha-256' 'host all all 127.0.0.1/32 trust' >"$folder/data/pg_hba.conf"

# A port that is free now may be taken a moment later; then another is tried.
for try in 1 2 3 4 5; do
  port=$((20000 + RANDOM % 12000))
  # What is written here is thrown away, so no disk is waited for; but figures are of commits that are kept.
  {
    printf '#!/usr/bin/env bash\nexec'
    printf ' %q' "${as_user[@]}" "$bin/postgres" -D "$folder/data" -c listen_addresses=127.0.0.1 -c port="$port" \
      -c unix_socket_directories= -c fsync="${EXECUTOR_TEST_POSTGRES_FSYNC:-off}" -c max_connections=200
    printf ' >>%q 2>&1\n' "$folder/server.log"
  } >"$folder/start"
  chmod 755 "$folder/start"
  "$folder/start" &
  server=$!
  for _ in $(seq 300); do
    kill -0 "$server" 2>/dev/null || break
    if "$bin/pg_isready" -q -h 127.0.0.1 -p "$port" -U executor -d postgres; then break 2; fi
    sleep 0.1
  done
  kill -INT "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  server=''
  [ "$try" -lt 5 ] || { cat "$folder/server.log" >&2; fail "PostgreSQL did not start"; }
done

cd "$OLDPWD"
export EXECUTOR_TEST_POSTGRES="postgres://executor@127.0.0.1:$port/postgres"
export EXECUTOR_TEST_POSTGRES_PID_FILE="$folder/data/postmaster.pid" EXECUTOR_TEST_POSTGRES_START="$folder/start"
"$@" &
command_pid=$!
code=0
wait "$command_pid" || code=$?
command_pid=''
exit "$code"
