#!/bin/sh
# Installs the programs named on the command line, where Debian's packages have them.
set -eu

package() {
	case $1 in
	nft) echo nftables ;;
	ip) echo iproute2 ;;
	busybox) echo busybox-static ;;
	tini-static) echo tini ;;
	protoc) echo protobuf-compiler ;;
	gcc) echo gcc libc6-dev ;;
	*) echo "$1" ;;
	esac
}

missing=
for program; do
	PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null 2>&1 || missing="$missing $(package "$program")"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
	echo "please install:$missing" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "please run as root, or install: apt-get install$missing" >&2
	exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# A service that a package starts is none of ours: slipwayd starts its own.
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
