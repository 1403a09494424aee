#!/bin/sh
# Starts three servers and three nodes on this machine, each in a host of its own (network, mounts,
# processes), and deploys examples/hello with six copies. "cluster.sh down DIR" ends all of it.
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go}
if [ "$1" = down ]; then
	exec "$GO" run ./e2e/cluster/run down "$2"
fi
dir=$1
export PATH="$PWD/bin:$PATH:/usr/sbin:/sbin"
mkdir -p "$dir"
"$GO" run ./e2e/cluster/run up "$dir" bin
ready=$dir/ready
slipway login "$(jq -r .addr "$ready")" --ca "$(jq -r .ca "$ready")" --name cluster <"$(jq -r .token "$ready")" >/dev/null
slipwayd image push --dir "$dir" busybox >/dev/null
slipway -r cluster deploy examples/hello -a hello
slipway -r cluster scale web --count 6 -a hello
i=0
until [ "$(slipway -r cluster ps -a hello --json | jq '[.[] | select(.service == "web" and .ready)] | length')" = 6 ]; do
	i=$((i + 1))
	if [ $i -gt 120 ]; then
		echo "the six copies do not become ready; see: bin/slipway -r cluster why web -a hello" >&2
		exit 1
	fi
	sleep 0.5
done
echo
slipway -r cluster rack servers
echo
echo "hello runs on:"
slipway -r cluster ps -a hello --json | jq -r '.[] | [.id, .node, .addr] | @tsv'
echo
echo "Every router leads to every copy:"
slipway -r cluster nodes --json | jq -r '.[].addr' | sort | while read -r addr; do
	echo "  curl -k --resolve hello.cluster.test:443:$addr https://hello.cluster.test/cgi-bin/hello"
	curl -fsSk --max-time 5 --resolve "hello.cluster.test:443:$addr" https://hello.cluster.test/cgi-bin/hello
done
cat <<TXT

Try next:
  bin/slipway -r cluster nodes drain node1
  bin/slipway -r cluster nodes uncordon node1
The end of it: make cluster-down
TXT
