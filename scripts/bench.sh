#!/bin/sh
# bench.sh FILE: measures everything, each figure beside a peer or a floor; prints one table and
# writes its rows to FILE as JSON. Run it on a machine that does nothing else.
set -eu
out=$1
rows=$(mktemp -d)
trap 'rm -rf "$rows"' EXIT
go=${GO:-go}
failed=

part() { # NAME VARIABLE PACKAGE [TEST]
	log=$rows/$1.log
	if ! env "$2=$rows/$1.json" "$go" test -count=1 -timeout 30m -run "^${4:-TestBench}\$" -v "$3" >"$log" 2>&1; then
		cat "$log" >&2
		failed="$failed $1"
	fi
}
part 1-rack SLIPWAY_BENCH ./e2e/rack
part 2-scheduler SLIPWAY_BENCH_SCHEDULER ./scheduler
part 3-state SLIPWAY_BENCH_STATE ./server
part 4-sim SLIPWAY_BENCH_SIM ./e2e/sim
part 5-raft SLIPWAY_BENCH_RAFT ./raftstore
part 6-network SLIPWAY_BENCH_NET ./agent/network
part 7-leader SLIPWAY_BENCH_LEADER ./e2e/chaos TestBenchLeaderLoss
part 8-writes SLIPWAY_BENCH_WRITES ./e2e/chaos TestBenchWrites
part 9-nodes SLIPWAY_BENCH_NODES ./e2e/fleet TestBenchNodes
part 9-nodes10k SLIPWAY_BENCH_NODES10K ./e2e/fleet TestBenchNodes10k
part 9-million SLIPWAY_BENCH_MILLION ./e2e/fleet TestBenchMillion

jq -s add "$rows"/*.json >"$out"
jq -r '["name","value","unit","against","value","ratio","note"],
	(.[] | [.name, .value, .unit, .against, .against_value, .ratio, .note]) | @tsv' "$out" |
	awk -F'\t' '
		NR == 1 { printf "%-32s %14s %-8s %-36s %14s %9s  %s\n", $1, $2, $3, $4, $5, $6, $7; next }
		{ printf "%-32s %14.3f %-8s %-36s %14.3f %9.2f  %s\n", $1, $2, $3, $4, $5, $6, $7 }'
if [ -n "$failed" ]; then
	echo "no rows of:$failed" >&2
	exit 1
fi
