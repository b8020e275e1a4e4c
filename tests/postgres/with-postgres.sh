#!/usr/bin/env bash
# Runs a command with a private PostgreSQL of Debian's (package postgresql, 14 or later), whose URL is in EXECUTOR_TEST_POSTGRES.
# It is in a temporary folder, listens on a free port of 127.0.0.1, and is gone with the command, however that ends.
# The command may kill it, by EXECUTOR_TEST_POSTGRES_PID_FILE (the server's own; the first line counts), and start it again where
# it was, by running EXECUTOR_TEST_POSTGRES_START, which lasts as long as the server does.
# With --standby there is a second one, whose URL is in EXECUTOR_TEST_POSTGRES_STANDBY: it follows the first, which answers no commit
# that the second does not have, and takes over when it is told to (`SELECT pg_promote()`).
# usage: with-postgres.sh [--standby] COMMAND [ARGUMENT...]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../private-server.sh"

with_standby=no
if [ "${1:-}" = --standby ]; then
  with_standby=yes
  shift
fi
[ $# -gt 0 ] || fail "which command? usage: with-postgres.sh [--standby] COMMAND [ARGUMENT...]"

# The newest that is installed.
bin=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] && [ -x "$bin/initdb" ] || fail "there is no /usr/lib/postgresql/*/bin/initdb: install Debian's package postgresql"

# PostgreSQL does not run as root: there it runs as Debian's user postgres.
as_user=()
if [ "$(id -u)" = 0 ]; then
  id postgres >/dev/null 2>&1 || fail "there is no user postgres"
  as_user=(setpriv --reuid postgres --regid postgres --clear-groups env -u HOME)
fi

# The process id of the server that runs in $folder/$1, whoever started it. One that is gone may have left its id to a stranger.
running() {
  local pid
  pid=$(head -n 1 "$folder/$1/postmaster.pid" 2>/dev/null) && [ -n "$pid" ] &&
    tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "-D $folder/$1 " && printf '%s' "$pid"
}
# The standby first: the other would wait until it has everything.
end_servers() {
  local data pid
  for data in standby data; do
    # INT is PostgreSQL's fast shutdown: it ends connections and stops.
    if pid=$(running "$data") && kill -INT "$pid" 2>/dev/null; then
      for _ in $(seq 300); do
        running "$data" >/dev/null || break
        sleep 0.1
      done
    fi
  done
}

# Starts what is in $folder/$1, by a script that is left there.
start_in() {
  # What is written here is thrown away, so no disk is waited for; but figures are of commits that are kept.
  {
    printf '#!/usr/bin/env bash\nexec'
    printf ' %q' "${as_user[@]}" "$bin/postgres" -D "$folder/$1" -c listen_addresses=127.0.0.1 -c port="$port" \
      -c unix_socket_directories= -c fsync="${EXECUTOR_TEST_POSTGRES_FSYNC:-off}" -c max_connections=200
    printf ' >>%q 2>&1\n' "$folder/$1.log"
  } >"$folder/start-$1"
  chmod 755 "$folder/start-$1"
  "$folder/start-$1" &
  server=$!
}
start_data() { start_in data; }
start_standby() { start_in standby; }
answers_data() { "$bin/pg_isready" -q -h 127.0.0.1 -p "$port" -U executor -d postgres; }
answers_standby() { answers_data; }

make_folder postgres
chmod 711 "$folder"
mkdir "$folder/data"
if [ "$(id -u)" = 0 ]; then chown postgres: "$folder" "$folder/data"; fi
# Where its user may be.
cd "$folder"
"${as_user[@]}" "$bin/initdb" --pgdata "$folder/data" --username executor --auth trust \
  --encoding UTF8 --locale C.UTF-8 --no-sync >"$folder/initdb.log" 2>&1 ||
  { cat "$folder/initdb.log" >&2; fail "initdb failed"; }
# Everybody is let in, but whoever is called `sealed` has to show a password.
printf '%s\n' 'host all sealed 127.0.0.1/32 scram-sha-256' 'host all all 127.0.0.1/32 trust' \
  'host replication all 127.0.0.1/32 trust' >"$folder/data/pg_hba.conf"
start_server data
url="postgres://executor@127.0.0.1:$port/postgres"

if [ "$with_standby" = yes ]; then
  "${as_user[@]}" "$bin/pg_basebackup" --pgdata "$folder/standby" --dbname "$url" --write-recovery-conf --checkpoint fast --no-sync \
    >"$folder/basebackup.log" 2>&1 || { cat "$folder/basebackup.log" >&2; fail "pg_basebackup failed"; }
  start_server standby
  export EXECUTOR_TEST_POSTGRES_STANDBY="postgres://executor@127.0.0.1:$port/postgres"
  # Of the first alone: when the second has taken over, nobody follows it.
  asked=("$bin/psql" --no-psqlrc --quiet --tuples-only --no-align --dbname "$url" --command)
  "${asked[@]}" "ALTER SYSTEM SET synchronous_standby_names = '*'"
  "${asked[@]}" 'SELECT pg_reload_conf()' >/dev/null
  for _ in $(seq 300); do
    following=$("${asked[@]}" "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")
    [ "$following" = 0 ] || break
    sleep 0.1
  done
  [ "$following" = 1 ] || { cat "$folder/standby.log" >&2; fail "the standby does not follow"; }
fi

cd "$OLDPWD"
export EXECUTOR_TEST_POSTGRES=$url
export EXECUTOR_TEST_POSTGRES_PID_FILE="$folder/data/postmaster.pid" EXECUTOR_TEST_POSTGRES_START="$folder/start-data"
run_command "$@"
