#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fetch-deb.sh <package> <dir>: unpacks a binary package of the distribution into <dir> without installing it.
# For what must not be installed on a developer's host for our sake: kernels, and services that would start.
set -euo pipefail
pkg=$1
dir=$2
[ -e "$dir/.fetched-$pkg" ] && exit 0
mkdir -p "$dir"
exec 8>"$dir/.lock-$pkg" # two at a time make one
flock -w 600 8
[ -e "$dir/.fetched-$pkg" ] && exit 0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp"
cd "$tmp"
apt-get -q -o APT::Sandbox::User=root -o Acquire::Retries=3 download "$pkg" >&2 || {
	apt-get -q -o DPkg::Lock::Timeout=300 update >&2
	apt-get -q -o APT::Sandbox::User=root -o Acquire::Retries=3 download "$pkg" >&2
}
cd - >/dev/null
dpkg-deb -x "$tmp"/*.deb "$dir"
touch "$dir/.fetched-$pkg"
