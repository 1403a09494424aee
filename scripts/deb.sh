#!/bin/sh
# Makes the Debian package of a version from the binaries of a directory:
#   scripts/deb.sh VERSION BIN OUT
# writes OUT/slipway_<version>_<architecture>.deb and prints its path.
set -eu
version=$1 bin=$2 out=$3
cd "$(dirname "$0")/.."
command -v dpkg-deb >/dev/null || {
	echo "dpkg-deb is not installed: packages are made on Debian or Ubuntu" >&2
	exit 1
}

# A version of git, such as v0.3.1-5-gd8354a0-dirty or d8354a0, as Debian sorts it: after 0.3.1, before
# 0.3.2; one that names no release comes before all.
version=${version#v}
case $version in
[0-9]*.[0-9]*) version=$(echo "$version" | sed "s/-rc/~rc/; s/-/+/; s/-/./g") ;;
*) version="0~$(echo "$version" | tr -c 'A-Za-z0-9.+~\n' .)" ;;
esac
arch=${ARCH:-$(dpkg --print-architecture)}

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
put() { # put MODE FROM… TO, a directory below the root
	mode=$1
	shift
	for to; do :; done
	install -d "$root/$to"
	while [ $# -gt 1 ]; do
		install -m "$mode" "$1" "$root/$to/"
		shift
	done
}
put 0755 "$bin/slipway" "$bin/slipwayd" "$bin/sliplog" usr/bin
put 0644 packaging/systemd/slipway-server.service packaging/systemd/slipway-agent.service lib/systemd/system
put 0644 packaging/etc/server.env packaging/etc/agent.env etc/slipway
put 0644 packaging/prometheus/alerts.yml usr/share/slipway/prometheus
put 0644 packaging/grafana/slipway.json usr/share/slipway/grafana
put 0644 README.md docs/*.md usr/share/doc/slipway
install -m 0644 LICENSE "$root/usr/share/doc/slipway/copyright"
gzip -9n <CHANGELOG.md >"$root/usr/share/doc/slipway/changelog.gz"
chmod 0644 "$root/usr/share/doc/slipway/changelog.gz"
install -d "$root/usr/share/bash-completion/completions"
"$bin/slipway" completion bash >"$root/usr/share/bash-completion/completions/slipway"
chmod 0700 "$root/etc/slipway"

install -d "$root/DEBIAN"
for script in postinst prerm postrm; do
	install -m 0755 "packaging/deb/$script" "$root/DEBIAN/$script"
done
printf '%s\n' /etc/slipway/server.env /etc/slipway/agent.env >"$root/DEBIAN/conffiles"
(cd "$root" && find usr lib etc -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
cat >"$root/DEBIAN/control" <<TXT
Package: slipway
Version: $version
Architecture: $arch
Maintainer: Slipway maintainers <maintainers@slipway.invalid>
Installed-Size: $(du -k -s --apparent-size "$root" | cut -f1)
Depends: containerd (>= 1.6), runc (>= 1.1), nftables, iproute2, util-linux
Recommends: tini, chrony | time-daemon
Section: admin
Priority: optional
Description: self-hosted platform for twelve-factor apps
 Slipway turns Linux machines into a rack that builds and runs apps: servers
 decide, agents run containers, and one command deploys. This package holds the
 daemon, its units and the command line; nothing is started until you say so.
TXT
# The same content makes the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
mkdir -p "$out"
dpkg-deb --root-owner-group -Zgzip -z6 --build "$root" "$out/slipway_${version}_$arch.deb" >/dev/null
echo "$out/slipway_${version}_$arch.deb"
