#!/bin/sh
# Stops the rack of a directory. Its data stays.
set -eu
dir=$1
cd "$(dirname "$0")/.."
if [ ! -d "$dir" ]; then
	echo "no rack in $dir"
	exit 0
fi
[ -x bin/slipwayd ] || make build
PATH="$PATH:/usr/sbin:/sbin" bin/slipwayd down --dir "$dir"
echo "The rack in $dir is down; its data stays until: make clean"
