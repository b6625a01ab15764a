#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# igzip.sh <outdir>: <outdir>/lib/libigzip.a and <outdir>/include/igzip_lib.h, the inflate of ISA-L, from the distribution's source package.
#
# Layers are gzip, and inflating them is most of what a pull costs: this does it in half the time of zlib. Debian has the library as a
# shared object only. Of the source package only the decoder is built, with the checksum it needs; what the decoder mentions but a gzip
# stream never reaches (zlib's checksum, the default tables of the encoder) is left out.
set -euo pipefail
out=${1:?usage: igzip.sh <outdir>}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)
stamp=$out/igzip.stamp
recipe=$(cat "$here/igzip.sh" "$here/source.sh" | sha256sum | cut -d' ' -f1)

exec 9>"$out/igzip.lock"
flock -w 600 9
if [ -s "$out/lib/libigzip.a" ] && [ "$(cut -d' ' -f1 "$stamp" 2>/dev/null)" = "$recipe" ]; then
	touch "$out/lib/libigzip.a"
	exit 0
fi
command -v nasm >/dev/null || { echo "igzip.sh: nasm is missing: run third_party/deps.sh build" >&2; exit 1; }
work=$out/igzip-build
mkdir -p "$work"
echo "igzip.sh: fetching the source package" >&2
tree=$(SOURCE_PROBE=libisal-dev bash "$here/source.sh" libisal "$work" 2>"$work/source.log") || { cat "$work/source.log" >&2; exit 1; }
cd "$tree"
cat >glue.c <<'C'
#include <string.h>
#include "igzip_lib.h"
#include "crc.h"
#include "igzip_checksums.h"
uint32_t crc32_gzip_refl_by8(uint32_t, const unsigned char *, uint64_t);
struct isal_hufftables hufftables_default;
uint32_t isal_adler32_bam1(uint32_t a, const unsigned char *p, uint64_t n)
{
	__builtin_trap();
}
void isal_gzip_header_init(struct isal_gzip_header *h)
{
	memset(h, 0, sizeof(*h));
}
uint32_t crc32_gzip_refl(uint32_t crc, const unsigned char *p, uint64_t n)
{
	if (__builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1"))
		return crc32_gzip_refl_by8(crc, p, n);
	return crc32_gzip_refl_base(crc, (unsigned char *)p, n);
}
C
if ! (
	for f in igzip/{igzip_decode_block_stateless_01,igzip_decode_block_stateless_04,igzip_inflate_multibinary,rfc1951_lookup} crc/crc32_gzip_refl_by8; do
		nasm -f elf64 -I include/ -I igzip/ -I crc/ -o "$(basename $f).o" $f.asm || exit 1
	done
	for f in igzip/igzip_inflate igzip/igzip_inflate_base igzip/igzip_decode_block_stateless_base crc/crc_base glue; do
		[ -e $f.c ] || continue
		gcc -O2 -g0 -fPIE -fstack-protector-strong -fcf-protection -ffunction-sections -fdata-sections -D_FORTIFY_SOURCE=2 \
			-DNO_STATIC_INFLATE_H -Iinclude -Iigzip -Icrc -c -o "$(basename $f).o" $f.c || exit 1
	done
	mkdir -p "$out/lib" "$out/include" && rm -f "$out/lib/libigzip.a" && ar rcs "$out/lib/libigzip.a" ./*.o &&
		cp include/igzip_lib.h "$out/include/"
) >"$work/build.log" 2>&1; then
	tail -40 "$work/build.log" >&2
	echo "igzip.sh: build failed, the whole log is $work/build.log" >&2
	exit 1
fi
echo "$recipe ${tree##*/}" >"$stamp"
cd "$out" && rm -rf "$work/src"
echo "igzip.sh: $out/lib/libigzip.a is ready" >&2
