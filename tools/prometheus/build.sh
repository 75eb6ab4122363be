#!/usr/bin/env bash
# Builds the real Prometheus server and promtool, of the version that the root
# module uses as a library, into a directory:
#
#   tools/prometheus/build.sh DIR
#
# remove_all_sd leaves out the service discoveries of the clouds (and two thirds
# of the compile time); static, file and http discovery stay. The binaries carry
# no web assets: wait for them on /-/ready.
set -euo pipefail

if [ $# -ne 1 ]; then
	echo "usage: $0 DIR" >&2
	exit 2
fi
mkdir -p "$1"
dir=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"
go build -tags remove_all_sd -o "$dir/" \
	github.com/prometheus/prometheus/cmd/prometheus \
	github.com/prometheus/prometheus/cmd/promtool
