#!/usr/bin/env bash
# A fleet on one machine, to try it: PostgreSQL, Redis, two Celery workers, Dagster's daemon and web server, all on
# 127.0.0.1 and below ./.celery. Ctrl-C ends the script and all of them. Needs Debian's postgresql and redis-server.
#
#   deploy/celery/try.sh            your KSQLDB_URL, or without it the embedded server with the sample
#   WEB_PORT, REDIS_PORT, POSTGRES_PORT: other ports than 3000, 6399, 5499
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
project="$(cd "$here/../.." && pwd)"
state="${CELERY_TRY_FOLDER:-$PWD/.celery}"
web_port="${WEB_PORT:-3000}" redis_port="${REDIS_PORT:-6399}" postgres_port="${POSTGRES_PORT:-5499}"
bin="$(dirname "$(command -v ksql-lake || echo "$project/.venv/bin/ksql-lake")")"
postgres_bin="$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -1 || true)"

fail() { echo "try.sh: $*" >&2; exit 2; }
[ -x "$bin/celery" ] || fail "no Celery beside $bin: pip install 'ksql-lake[celery]' (or make install)"
[ -n "$postgres_bin" ] || fail "no PostgreSQL: apt-get install postgresql"
command -v redis-server >/dev/null || fail "no Redis: apt-get install redis-server"

# PostgreSQL refuses to run as root.
as_postgres=()
if [ "$(id -u)" -eq 0 ]; then as_postgres=(setpriv --reuid=postgres --regid=postgres --clear-groups); fi

pids=()
stop() {
  trap - EXIT
  trap '' INT TERM # a second Ctrl-C must not leave processes running
  # In reverse order, one by one: workers can finish their steps while their servers still answer.
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill -TERM "${pids[i]}" 2>/dev/null || true
    for _ in $(seq 100); do kill -0 "${pids[i]}" 2>/dev/null || break; sleep 0.1; done
    # Also the whole session that start() made, in case a process in it ignored the signal.
    kill -KILL -- "-${pids[i]}" 2>/dev/null || true
  done
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start() { # NAME COMMAND...: in the background, in a new session, with its output in NAME.log and its pid in NAME.pid
  local name="$1"; shift
  setsid "$@" >"$state/log/$name.log" 2>&1 </dev/null &
  pids+=("$!")
  echo "$!" >"$state/$name.pid"
}
until_true() { # WHAT COMMAND...
  local what="$1"; shift
  for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done
  fail "$what did not start; see $state/log"
}

mkdir -p "$state/log" "$state/home"
if [ ! -s "$state/secret" ]; then (umask 077; head -c 18 /dev/urandom | base64 | tr '+/' '-_' >"$state/secret"); fi
secret="$(cat "$state/secret")"
cp "$here/dagster.yaml" "$state/home/dagster.yaml"

export DAGSTER_HOME="$state/home"
export KSQL_LAKE_EXECUTOR=celery
export KSQL_LAKE_CELERY_BROKER="redis://:$secret@127.0.0.1:$redis_port/0"
export KSQL_LAKE_DAGSTER_POSTGRES="postgresql://dagster:$secret@127.0.0.1:$postgres_port/dagster"
export KSQL_LAKE_DAGSTER_URL="http://127.0.0.1:$web_port"
export KSQL_LAKE_ROOT="${KSQL_LAKE_ROOT:-$PWD/data_lake}" KSQL_LAKE_FEEDS="${KSQL_LAKE_FEEDS:-$project/feeds}"

if [ ! -d "$state/postgres" ]; then
  install -d -m 700 "$state/postgres"
  (umask 077; cp "$state/secret" "$state/postgres/.password")
  if [ "$(id -u)" -eq 0 ]; then chown -R postgres: "$state/postgres"; fi
  mv "$state/postgres/.password" "$state/password" # initdb needs an empty folder
  "${as_postgres[@]}" "$postgres_bin/initdb" --pgdata "$state/postgres" --username dagster \
    --auth scram-sha-256 --encoding UTF8 --pwfile "$state/password" >"$state/log/initdb.log" 2>&1 \
    || fail "initdb failed; see $state/log/initdb.log"
  rm "$state/password"
fi
start postgres "${as_postgres[@]}" "$postgres_bin/postgres" -D "$state/postgres" -p "$postgres_port" \
  -c listen_addresses=127.0.0.1 -c unix_socket_directories=
psql() { PGPASSWORD="$secret" "$postgres_bin/psql" -h 127.0.0.1 -p "$postgres_port" -U dagster "$@"; }
until_true PostgreSQL psql -d postgres -c 'select 1'
psql -d postgres -tAc "select 1 from pg_database where datname = 'dagster'" | grep -q 1 \
  || psql -q -d postgres -c 'create database dagster'

mkdir -p "$state/redis"
# Waiting steps must survive a restart of the broker, hence the append-only file. The password is in a private
# file, because other users of the machine can see arguments in the list of processes.
(umask 077; printf 'bind 127.0.0.1\nport %s\ndir %s\nappendonly yes\nsave ""\nrequirepass %s\nmaxmemory-policy noeviction\n' \
  "$redis_port" "$state/redis" "$secret" >"$state/redis/redis.conf")
start redis redis-server "$state/redis/redis.conf"
until_true Redis env REDISCLI_AUTH="$secret" redis-cli -h 127.0.0.1 -p "$redis_port" ping

if [ -z "${KSQLDB_URL:-}" ]; then
  rm -f "$state/devserver.url"
  start devserver "$bin/ksql-lake" devserver --sample --port 0 --ready-file "$state/devserver.url"
  until_true "the embedded server" test -s "$state/devserver.url"
  KSQLDB_URL="$(cat "$state/devserver.url")"
  export KSQLDB_URL
fi

cd "$project"
# One process creates Dagster's tables; several at once would each write the schema version.
"$bin/dagster" instance migrate >"$state/log/migrate.log" 2>&1 || fail "see $state/log/migrate.log"
for number in 1 2; do
  start "worker$number" "$bin/celery" -A ksql_lake.orchestration.celery_worker worker \
    --concurrency 2 --hostname "worker$number@%h" --loglevel INFO
done
start daemon "$bin/dagster-daemon" run -w workspace.yaml
start web "$bin/dagster-webserver" -w workspace.yaml -h 127.0.0.1 -p "$web_port"
until_true "the web server" curl -fsS "http://127.0.0.1:$web_port/server_info"
echo "Dagster is on http://127.0.0.1:$web_port, with two workers. Logs: $state/log. Ctrl-C ends everything."
# The fleet survives the end of a worker, but the script ends with the web server.
wait "${pids[-1]}" || true
fail "the web server ended by itself; see $state/log/web.log"
