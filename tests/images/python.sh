#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# python.sh <outdir>: <outdir>/python.oci, an OCI layout with the tags 1 to 5: Debian 12, Python and what scientists add to it, from the
# distribution's packages, in seven layers and about 400 MB; the tags differ in their top layer only. A few minutes, once.
set -euo pipefail
out=$1
top=$(cd "$(dirname "$0")" && pwd)
self=$(cat "$0" "$top/debian.sh" | sha256sum | cut -c1-16)
[ "$(cat "$out/python.stamp" 2>/dev/null)" = "$self" ] && exit 0
mkdir -p "$out"
exec 9>"$out/python.lock" # two at a time make one
flock -w 900 9
[ "$(cat "$out/python.stamp" 2>/dev/null)" = "$self" ] && exit 0
"$top/debian.sh" "$out"
w=$(mktemp -d)
trap 'rm -rf "$w"' EXIT
chmod 755 "$w"

# What each layer installs, dependencies that the layers below lack spelled out.
layers=(
	'libpython3.11-minimal python3.11-minimal python3-minimal libexpat1 media-types libsqlite3-0 libreadline8 readline-common libncursesw6
		libpython3.11-stdlib python3.11 libpython3-stdlib python3 openssl'
	'libblas3 liblapack3 libopenblas0-pthread libgfortran5 libquadmath0 python3-pkg-resources python3-numpy'
	'python3-decorator python3-scipy'
	'python3-dateutil python3-tz python3-six python3-pandas-lib python3-pandas'
	'git git-man perl perl-modules-5.36 libperl5.36 libcurl3-gnutls libgdbm6 libdb5.3'
)
skopeo --tmpdir "$w" --insecure-policy copy -q "oci-archive:$out/debian.oci.tar" "oci:$w/oci:base"
i=0
for packages in "${layers[@]}"; do
	mkdir -p "$w/debs$i" "$w/root$i"
	# shellcheck disable=SC2086
	(cd "$w/debs$i" && apt-get -q -o APT::Sandbox::User=root -o Acquire::Retries=3 download $packages >/dev/null)
	for deb in "$w/debs$i"/*.deb; do
		dpkg-deb -x "$deb" "$w/root$i"
	done
	# /lib and the like are links in the base; a package that still says /lib goes where the link leads.
	for d in bin sbin lib lib64; do
		[ ! -d "$w/root$i/$d" ] || { mkdir -p "$w/root$i/usr/$d"; cp -a "$w/root$i/$d/." "$w/root$i/usr/$d/"; rm -r "${w:?}/root$i/$d"; }
	done
	tar --sort=name --owner=0 --group=0 --numeric-owner --format=pax -C "$w/root$i" -cf "$w/layer.tar" .
	umoci raw add-layer --image "$w/oci:base" "$w/layer.tar"
	rm -rf "$w/debs$i" "$w/root$i"
	i=$((i + 1))
done
umoci config --image "$w/oci:base" --config.cmd python3
for tag in 1 2 3 4 5; do
	mkdir -p "$w/app/app"
	for n in 1 2 3 4 5 6 7 8; do
		echo "print('module $n of application $tag')" >"$w/app/app/m$n.py"
	done
	tar --sort=name --mtime=@1700000000 --owner=0 --group=0 --numeric-owner -C "$w/app" -cf "$w/layer.tar" app
	umoci raw add-layer --image "$w/oci:base" --tag "$tag" "$w/layer.tar"
done
umoci rm --image "$w/oci:base"
umoci gc --layout "$w/oci"
rm -rf "$out/python.oci"
mv "$w/oci" "$out/python.oci"
echo "$self" >"$out/python.stamp"
