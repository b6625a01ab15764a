#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# curl.sh <outdir>: <outdir>/lib/libcurl.a and <outdir>/include/curl from the distribution's source package of curl.
#
# Debian's own libcurl.a pulls in Kerberos, LDAP, SSH and more, none of which exists as a static library. This one speaks HTTP and
# HTTPS only, resolves by c-ares (a static glibc has no NSS) and has HTTP/2. Built once: the result is kept with the recipe's hash.
set -euo pipefail
out=${1:?usage: curl.sh <outdir>}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)
stamp=$out/curl.stamp
recipe=$(cat "$here/curl.sh" "$here/source.sh" | sha256sum | cut -d' ' -f1)

exec 9>"$out/curl.lock"
flock -w 600 9
if [ -s "$out/lib/libcurl.a" ] && [ -d "$out/include/curl" ] && [ "$(cut -d' ' -f1 "$stamp" 2>/dev/null)" = "$recipe" ]; then
	touch "$out/lib/libcurl.a"
	exit 0
fi

for h in openssl/ssl.h ares.h nghttp2/nghttp2.h; do
	echo "#include <$h>" | gcc -E -x c - >/dev/null 2>&1 ||
		{ echo "curl.sh: <$h> is missing: run third_party/deps.sh build" >&2; exit 1; }
done
work=$out/curl-build
mkdir -p "$work"
echo "curl.sh: fetching the source package" >&2
tree=$(bash "$here/source.sh" curl "$work" 2>"$work/source.log") || { cat "$work/source.log" >&2; exit 1; }
echo "curl.sh: building ${tree##*/} (about 40 s)" >&2
cd "$tree"
# The distribution's patches touch configure.ac, so make would want autotools: the shipped configure is new enough for our choice.
# Programs named ":" keep it from trying.
quiet=(ACLOCAL=: AUTOCONF=: AUTOHEADER=: AUTOMAKE=:)
if ! {
	CFLAGS='-O2 -g0 -fPIE -fstack-protector-strong -ffunction-sections -fdata-sections' CPPFLAGS='-D_FORTIFY_SOURCE=2' \
		./configure --prefix="$out" --disable-shared --enable-static --disable-debug --disable-dependency-tracking \
		--with-openssl --enable-ares --with-nghttp2 --without-zlib --without-zstd --without-brotli --without-libidn2 \
		--without-libpsl --without-libssh2 --without-librtmp --without-gssapi --without-ngtcp2 --without-nghttp3 \
		--without-ca-bundle --without-ca-path --enable-http --disable-ftp --disable-file --disable-ldap --disable-ldaps \
		--disable-rtsp --disable-dict --disable-telnet --disable-tftp --disable-pop3 --disable-imap --disable-smb \
		--disable-smtp --disable-gopher --disable-mqtt --disable-manual --disable-unix-sockets --disable-ntlm \
		--disable-ntlm-wb --disable-tls-srp --disable-alt-svc --disable-hsts --disable-doh --disable-netrc \
		--disable-libcurl-option "${quiet[@]}" &&
		make -j"$(nproc)" -C lib "${quiet[@]}" V=0 && make -C lib install "${quiet[@]}" && make -C include install "${quiet[@]}"
} >"$work/build.log" 2>&1; then
	tail -40 "$work/build.log" >&2
	echo "curl.sh: build failed, the whole log is $work/build.log" >&2
	exit 1
fi
strip --strip-debug "$out/lib/libcurl.a"
echo "$recipe ${tree##*/}" >"$stamp"
cd "$out" && rm -rf "$work/src"
echo "curl.sh: $out/lib/libcurl.a is ready" >&2
