#!/bin/sh
# Starts a rack on this machine in the background and deploys examples/hello. SLIPWAYD_FLAGS
# holds further flags of "slipwayd dev", such as other ports.
set -eu
dir=$1
cd "$(dirname "$0")/.."
export PATH="$PWD/bin:$PATH:/usr/sbin:/sbin"

started=
if [ -f "$dir/ready" ] && slipway -r dev rack >/dev/null 2>&1; then
	:
else
	mkdir -p "$dir"
	rm -f "$dir/ready"
	# shellcheck disable=SC2086
	setsid slipwayd dev ${SLIPWAYD_FLAGS:-} --dir "$dir" --log "$dir/slipwayd.log" >"$dir/slipwayd.out" 2>&1 </dev/null &
	i=0
	while [ ! -f "$dir/ready" ]; do
		i=$((i + 1))
		if [ $i -gt 300 ]; then
			echo "the rack does not start:" >&2
			cat "$dir/slipwayd.out" >&2
			tail -n 20 "$dir/slipwayd.log" >&2
			exit 1
		fi
		sleep 0.1
	done
	slipway login "$(jq -r .addr "$dir/ready")" --ca "$(jq -r .ca "$dir/ready")" --name dev <"$(jq -r .token "$dir/ready")" >/dev/null
	started=yes
fi
answers() { curl -fsSk --max-time 5 "$1"; }
url() { slipway -r dev services -a hello --json 2>/dev/null | jq -r '.[0].url // empty' 2>/dev/null || true; }
if [ -z "$started" ] && [ -n "$(url)" ] && answers "$(url)" >/dev/null 2>&1; then
	echo "The rack is running already and hello answers at $(url). Nothing was changed."
	exit 0
fi
if [ -z "$(url)" ]; then
	slipwayd image push --dir "$dir" busybox >/dev/null
	slipway -r dev deploy examples/hello -a hello
fi
i=0
until [ -n "$(url)" ] && answers "$(url)" >/dev/null 2>&1; do
	i=$((i + 1))
	if [ $i -gt 60 ]; then
		echo "hello does not answer at $(url); see: bin/slipway why web -a hello" >&2
		exit 1
	fi
	sleep 0.5
done
cat <<TXT

hello answers at $(url)

Try next:
  curl -k $(url)
  bin/slipway scale web --count 3 -a hello && bin/slipway ps -a hello
  bin/slipway env set GREETING=hi --promote -a hello && bin/slipway why web -a hello
TXT
