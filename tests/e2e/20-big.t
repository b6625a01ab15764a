#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# M: a large file and a large tree are loaded, pushed, pulled and read without anything being held whole: the image helper stays below
# 64 MiB. BIG_MIB=n (90) of bytes that do not compress in one file, MANY=n (60000) files in a second layer, few with a byte;
# `make big` takes 4500 and 4180000, beyond 32 bits of size and near the most entries that an image may have (oci/tree.h).
. "$(dirname "$0")/../lib/system.sh"
BIG_MIB=${BIG_MIB:-90} MANY=${MANY:-60000}
T_LIMIT=${BIG_LIMIT:-120}
ready_system
start_registry
per=1000 # files in a directory
L=$T/layout
mkdir -p "$L"
tar -C "$L" -xf "$IMAGES/demo.oci.tar"

put() # type: standard input becomes a blob; prints its descriptor
{
	local tmp d
	tmp=$(mktemp "$L/new.XXXX")
	d=$(tee "$tmp" | sha256sum | cut -d' ' -f1)
	mv "$tmp" "$L/blobs/sha256/$d"
	printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$1" "$d" "$(stat -c %s "$L/blobs/sha256/$d")"
}
blob() # descriptor
{
	cat "$L/blobs/sha256/$(jq -r .digest <<<"$1" | cut -d: -f2)"
}
noise()
{
	openssl enc -aes-128-ctr -pass pass:big -nosalt -pbkdf2 -in /dev/zero 2>/dev/null | head -c "$((BIG_MIB << 20))"
}
# One file; of what GNU tar writes for sizes above 8 GiB nothing is needed here.
big_tar()
{
	perl -e 'my $h = pack("a100a8a8a8a12a12a8aa100a6a2a247", "big", "0000644", "0000000", "0000000", sprintf("%011o", $ARGV[0]),
			"00000000000", " " x 8, "0", "", "ustar", "00", ""); substr($h, 148, 8, sprintf("%06o\0 ", unpack("%32C*", $h))); print $h' $((BIG_MIB << 20))
	noise
	head -c 1024 /dev/zero
}
many_tar()
{
	perl -e 'sub h { my ($n, $t, $s) = @_; my $h = pack("a100a8a8a8a12a12a8aa100a6a2a247", $n, "0000755", "0000000", "0000000",
			sprintf("%011o", $s), "00000000000", " " x 8, $t, "", "ustar", "00", "");
			substr($h, 148, 8, sprintf("%06o\0 ", unpack("%32C*", $h))); $h }
		my ($n, $per) = @ARGV;
		for (my $i = 0; $i < $n; $i++) {
			print h("many/" . $i / $per, "5", 0) if $i % $per == 0;
			my $name = sprintf "many/%d/%d", $i / $per, $i % $per;
			print $i % 64 == 0 || $i == $n - 1 ? h($name, "0", 1) . chr(97 + $i % 26) . "\0" x 511 : h($name, "0", 0);
		}
		print "\0" x 1024' "$MANY" $per
}
layer() # command: a layer of what it writes; its descriptor and diff id in $desc and $diff
{
	$1 | tee >(sha256sum | cut -d' ' -f1 >"$T/diff") | zstd -1 -q | put application/vnd.oci.image.layer.v1.tar+zstd >"$T/desc"
	wait_until 60 test -s "$T/diff"
	desc=$(cat "$T/desc") diff=sha256:$(cat "$T/diff")
	rm "$T/diff"
}
helper_kib()
{
	awk '$1 == "VmHWM:" { print $2 }' "/proc/$(service_pid container.images)/status"
}

old=$(jq -c '.manifests[0]' "$L/index.json")
manifest=$(blob "$old")
config=$(blob "$(jq -c .config <<<"$manifest")")
for made in big_tar many_tar; do
	layer $made
	manifest=$(jq -c --argjson d "$desc" '.layers += [$d]' <<<"$manifest")
	config=$(jq -c --arg d "$diff" '.rootfs.diff_ids += [$d] | del(.history)' <<<"$config")
done
desc=$(printf %s "$config" | put application/vnd.oci.image.config.v1+json)
desc=$(jq -c --argjson d "$desc" '.config = $d' <<<"$manifest" | tr -d '\n' | put application/vnd.oci.image.manifest.v1+json)
jq -nc --argjson d "$desc" --arg n "$REGISTRY/big:1" '{schemaVersion: 2, manifests: [$d + {annotations: {"org.opencontainers.image.ref.name": $n}}]}' >"$L/index.json"
id=$(jq -r .digest <<<"$desc" | cut -d: -f2)

t0=$SECONDS
run_ok "load, $(du -sm "$L" | cut -f1) MiB" bash -c 'tar -C "$1" -cf - oci-layout index.json blobs | "$2" image load -q' - "$L" "$C"
diag "load: $((SECONDS - t0)) s"
rm -rf "$L"
is 'is what was made' "$("$C" image inspect "$REGISTRY/big:1" | jq -r '.[0].id')" "$id"
t0=$SECONDS
run_ok 'push' "$C" push -q "$REGISTRY/big:1"
diag "push: $((SECONDS - t0)) s"
run_ok 'forget' "$C" rmi "$REGISTRY/big:1"
# From a registry so slow that the layer's download is there to be seen: a third of it a second, some 30 MiB.
free_port
"$TOP/tests/lib/slow_relay.pl" "$T_PORT" "${REGISTRY##*:}" $((BIG_MIB * 350000)) 2>"$T/relay.log" &
REGISTRY=127.0.0.1:$T_PORT
wait_until 20 curl -fs "http://$REGISTRY/v2/" || { diag "$(cat "$T/relay.log")"; bail 'the slow way to the registry is there'; }
t0=$SECONDS
# On a terminal, which `script` makes: bars that are drawn again in their places.
run_ok 'pull' script -qefc "$C pull $REGISTRY/big:1" "$T/terminal"
diag "pull: $((SECONDS - t0)) s"
like 'a bar for the layer that is fetched' "$(tr '\r\033' '\n~' <"$T/terminal")" "download [a-z]* ?(sha256:)?[0-9a-f]{6,}[^[]*\[=+>?"
like 'and for what is unpacked' "$(tr '\r\033' '\n~' <"$T/terminal")" "unpack layer [0-9a-f:sh]+"
ok 'drawn over the last ones' grep -q $'\033\\[[0-9]*A\033\\[J' "$T/terminal"
is 'and wiped in the end' "$(printf %s "$out" | tr -d '\r' | tail -1 | sed $'s/.*\033\\[J//')" "$REGISTRY/big:1"
is 'is what was pushed' "$("$C" image inspect "$REGISTRY/big:1" | jq -r '.[0].id')" "$id"
kib=$(helper_kib)
ok "the helper needed less than 64 MiB ($kib KiB)" test "$kib" -lt 65536

# In the guest: the whole of a small file, the ends and what is around 4 GiB of a large one.
places=$(awk -v n="$BIG_MIB" 'BEGIN { for (i = 0; i < 8; i++) printf "%d ", i * (n - 1) / 7; if (n > 4100) print 4094, 4095, 4096, 4097 }')
last=$((MANY - 1))
cat >"$T/read.sh" <<'X'
stat -c 'big %s' /big
for i in $PLACES; do
	dd if=/big of=/tmp/p bs=1M skip=$i count=1 2>/dev/null
	echo "$i $(sha256sum </tmp/p | cut -d' ' -f1)"
done
echo "many $(ls /many | wc -l) $(ls /many/$LAST_DIR | wc -l) $(cat /many/$LAST_DIR/$LAST_FILE)"
X
want=$(
	echo "big $((BIG_MIB << 20))"
	# shellcheck disable=SC2086
	noise | perl -MDigest::SHA=sha256_hex -e 'my %want = map { $_ => 1 } @ARGV; my $at = 0;
		while (read(STDIN, my $b, 1 << 20)) { print "$at ", sha256_hex($b), "\n" if $want{$at}; $at++ }' $places
	echo "many $(((MANY + per - 1) / per)) $((last % per + 1)) $(perl -e 'print chr(97 + $ARGV[0] % 26)' $last)"
)
run_ok 'a container reads it' bash -c '"$@" <"$0"' "$T/read.sh" "$C" run --rm -i -e "PLACES=$places" -e "LAST_DIR=$((last / per))" \
	-e "LAST_FILE=$((last % per))" "$REGISTRY/big:1" sh -s
is 'size, bytes and names are right' "$(sort <<<"$out")" "$(sort -u <<<"$want")"
stop_system
done_testing
