#!/usr/bin/env bash
# Builds the server and runs it through the scenarios of benchmarks/scenarios,
# those named or all: restart rollover idle history cluster-write cluster-idle.
# "history" needs the real Prometheus, of tools/prometheus or as built before in
# PROMETHEUS=FILE.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tmp=$(mktemp -d "${TMPDIR:-/tmp}/quorate-scenarios.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
go build -o "$tmp/" ./cmd/quorate ./benchmarks/scenarios
for name in "${@:-restart rollover idle history cluster-write cluster-idle}"; do
	for scenario in $name; do
		printf '## %s\n\n' "$scenario"
		more=()
		if [ "$scenario" = history ]; then
			if [ -z "${PROMETHEUS:-}" ]; then
				tools/prometheus/build.sh "$tmp"
				PROMETHEUS=$tmp/prometheus
			fi
			more=(--prometheus "$PROMETHEUS")
		fi
		"$tmp/scenarios" --quorate "$tmp/quorate" --dir "$tmp" "$scenario" ${more[@]+"${more[@]}"}
		echo
	done
done
