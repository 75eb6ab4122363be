#!/usr/bin/env bash
# Builds server and load generator, starts the server on an empty data
# directory, sends the load W1 (100k series x 100 rounds, 2000 samples a request,
# 4 connections, maximum rate) and prints the report. Other loads by environment:
#
#   SERIES=1000000 ROUNDS=10   W2
#   RATE=50000                 W3: latency at a fixed rate
#   PROTOCOL=2.0               remote write 2.0
#   SYSTEM=prometheus          the real Prometheus instead, of tools/prometheus
#                              or as built before in PROMETHEUS=FILE
#   PROFILE=cpu.pprof          a CPU profile of the steady phase
#   DATA=DIR                   where the data directory is made (TMPDIR or /tmp)
#   PORT=19240                 HTTP; the profiles' listener takes the next port
#
# Further arguments go to the load generator: benchmarks/run-w1.sh --json
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

port=${PORT:-19240}
http=127.0.0.1:$port
admin=127.0.0.1:$((port + 1))
tmp=$(mktemp -d "${DATA:-${TMPDIR:-/tmp}}/quorate-w1.XXXXXX")
server=''
measure=()
trap stop_hard EXIT
trap explain ERR

stop_hard() {
	if [ -n "$server" ]; then
		kill -KILL "$server" 2>/dev/null || true
	fi
	rm -rf "$tmp"
}

explain() {
	if [ -s "$tmp/server.log" ]; then
		echo "--- the server's log" >&2
		cat "$tmp/server.log" >&2
	fi
}

start_quorate() {
	go build -o "$tmp/" ./cmd/quorate
	"$tmp/quorate" --data.dir "$tmp/data" --log.level warn \
		--http.listen "$http" --admin.listen "$admin" >"$tmp/server.log" 2>&1 &
	server=$!
	measure=(--metrics "http://$http/metrics" --log-bytes-metric quorate_raft_entry_bytes_total)
}

start_prometheus() {
	if [ -z "${PROMETHEUS:-}" ]; then
		tools/prometheus/build.sh "$tmp"
	fi
	admin=$http # one listener serves all
	echo 'global: {}' >"$tmp/prometheus.yml"
	"${PROMETHEUS:-$tmp/prometheus}" --config.file="$tmp/prometheus.yml" --storage.tsdb.path="$tmp/data" \
		--web.enable-remote-write-receiver --web.enable-admin-api --web.listen-address="$http" \
		--storage.tsdb.retention.time=30d --log.level=warn >"$tmp/server.log" 2>&1 &
	server=$!
}

case ${SYSTEM:=quorate} in
quorate | prometheus) "start_$SYSTEM" ;;
*)
	echo "SYSTEM=$SYSTEM: want quorate or prometheus" >&2
	exit 2
	;;
esac
go build -o "$tmp/" ./benchmarks/loadgen

if [ -n "${PROFILE:-}" ]; then
	measure+=(--profile "http://$admin/debug/pprof/profile" --profile-out "$PROFILE")
fi
"$tmp/loadgen" \
	--url "http://$http/api/v1/write" \
	--ready "http://$http/-/ready" \
	--read-back "http://$http/api/v1/query" \
	--series "${SERIES:-100000}" --rounds "${ROUNDS:-100}" --rate "${RATE:-0}" \
	--protocol "${PROTOCOL:-1.0}" --pid "$server" \
	${measure[@]+"${measure[@]}"} "$@"
echo "data directory: $(du -sk "$tmp/data" | cut -f1) KiB"

# A drained stop is part of what is run: the server must exit with 0.
kill -TERM "$server"
wait "$server"
server=''
