#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Guest kernels: what is one, what is none, and what a container says without one.
. "$(dirname "$0")/../lib/system.sh"
demo_images
start_system
run "$C" image load -i "$IMAGES/demo.oci.tar"

run_rc 1 'no kernel yet: run fails' "$C" run --rm demo true
like 'and names the remedy' "$err" 'container system kernel set'
is 'the container is not left behind' "$("$C" list -aq)" ''

head -c 100000 /dev/urandom >"$T/noise"
run_rc 1 'noise is no kernel' "$C" system kernel set --binary "$T/noise"
like 'it says so' "$err" 'kernel'
: >"$T/nothing"
run_rc 1 'an empty file is no kernel' "$C" system kernel set --binary "$T/nothing"
run_rc 1 'a missing file' "$C" system kernel set --binary "$T/missing"
like 'names the file' "$err" 'missing'
run_rc 1 'a program is no kernel' "$C" system kernel set --binary "$C"
read -r k m < <("$TOP/third_party/distro-kernel.sh" "$BUILD/kernel/distro")
head -c 1000000 "$k" >"$T/half"
run_rc 1 'half a kernel is no kernel' "$C" system kernel set --binary "$T/half" --modules "$m"
run "$C" system kernel set
ok 'neither --binary nor --recommended is an error' [ "$rc" != 0 ]
run_rc 1 'still no kernel after all that' "$C" run --rm demo true

run_ok 'the distribution kernel' "$C" system kernel set --binary "$k" --modules "$m"
rel=${k##*/vmlinuz-}
like 'status shows its release' "$("$C" system status)" "$rel"
is 'fromLocalDisk: uname in a container is that release' "$(timeout "$T_LIMIT" "$C" run --rm demo uname -r)" "$rel"
if [ -s "$BUILD/kernel/vmlinux" ] || ls /boot/vmlinuz-*cloud* >/dev/null 2>&1; then
	run_ok 'kernel set --recommended' "$C" system kernel set --recommended
	like 'status shows a kernel' "$("$C" system status)" 'kernel'
else
	skip 'kernel set --recommended' 'no kernel of our own is built, no cloud kernel is installed in /boot'
fi
# kernel.path is what is recommended then; the services read it when they start.
stop_system
jq -n --arg k "$T/noise" '{"kernel.path": $k}' >"$CONTAINER_CONFIG"
start_system
run_rc 1 'kernel.path that is no kernel' "$C" system kernel set --recommended
like 'is named' "$err" "$T/noise"
jq -n --arg k "$k" '{"kernel.path": $k}' >"$CONTAINER_CONFIG"
stop_system
start_system
run_ok 'kernel set --recommended takes kernel.path' "$C" system kernel set --recommended
is 'that file' "$(jq -r .source "$CONTAINER_APP_ROOT/kernels/default/kernel.json")" "$k"

# Kernels from archives: local ones and from a URL, by what leads to them too. Apple's names of tests.
mkdir -p "$T/arch/boot/sub" "$T/www"
cp "$k" "$T/arch/boot/vmlinuz-$rel"
ln -s "../vmlinuz-$rel" "$T/arch/boot/sub/vmlinuz"
ln -s sub/vmlinuz "$T/arch/boot/current"
ln -s ../../outside "$T/arch/boot/away"
ln -s loop "$T/arch/boot/loop"
tar -C "$T/arch" -cJf "$T/k.tar.xz" ./boot
tar -C "$T/arch" -cf - boot | zstd -1 -q >"$T/www/k.tar.zst"
tar -C "$T/arch" -czf "$T/k.tar.gz" boot
digest=sha256:$(sha256sum "$T/www/k.tar.zst" | cut -d' ' -f1)
source_of() { jq -r .source "$CONTAINER_APP_ROOT/kernels/default/kernel.json"; }
run_ok 'fromLocalTar: a member of an archive' "$C" system kernel set --tar "$T/k.tar.xz" --binary "boot/vmlinuz-$rel" --modules "$m" --name xz
is 'is the default now' "$(source_of)" "$T/k.tar.xz#boot/vmlinuz-$rel"
is 'its bytes are the kernel'"'"'s' "$(jq -r .sha256 "$CONTAINER_APP_ROOT/kernels/xz/kernel.json")" "$(jq -r .sha256 "$CONTAINER_APP_ROOT/kernels/$rel/kernel.json")"
free_port
busybox httpd -f -p "127.0.0.1:$T_PORT" -h "$T/www" &
url=http://127.0.0.1:$T_PORT/k.tar.zst
wait_until 20 curl -fs -o /dev/null "$url" || bail 'the archive is served'
run_ok 'fromRemoteTarSymlink: a symlink in an archive at a URL' "$C" system kernel set --tar "$url" --digest "$digest" --binary boot/current --modules "$m" --name remote
is 'it is what the links lead to' "$(source_of)" "$url#boot/vmlinuz-$rel"
mkdir -p "$T/cwd/$url"
run_ok 'remoteTarCannotBeShadowedByLocalPath' bash -c 'cd "$1" && shift && exec "$@"' - "$T/cwd" "$C" system kernel set --tar "$url" --digest "$digest" \
	--binary "boot/vmlinuz-$rel" --modules "$m" --name remote
is 'uname in a container of such a kernel' "$(timeout "$T_LIMIT" "$C" run --rm demo uname -r)" "$rel"
run_rc 1 'another digest' "$C" system kernel set --tar "$url" --digest "sha256:$(printf '%064d' 1)" --binary boot/current
like 'says so' "$err" 'digest'
run_rc 1 'of a local archive too' "$C" system kernel set --tar "$T/k.tar.gz" --digest "$digest" --binary boot/current
run_rc 1 'what is not in the archive' "$C" system kernel set --tar "$T/k.tar.gz" --binary boot/nothing
like 'is named' "$err" 'boot/nothing is not in the archive'
run_rc 1 'a link out of the archive' "$C" system kernel set --tar "$T/k.tar.gz" --binary boot/away
like 'is not followed' "$err" 'leads out of the archive'
run_rc 1 'links in a circle' "$C" system kernel set --tar "$T/k.tar.gz" --binary boot/loop
like 'end somewhere' "$err" 'too many links'
run_rc 1 'a directory' "$C" system kernel set --tar "$T/k.tar.gz" --binary boot
like 'is no file' "$err" 'boot is no file'
run_rc 1 'an archive that is none' "$C" system kernel set --tar "$T/noise" --binary boot/current
run_rc 1 'one that is missing' "$C" system kernel set --tar "$T/missing.tar" --binary boot/current
like 'is named' "$err" 'missing.tar'
run_rc 1 'a URL where nothing is' "$C" system kernel set --tar "${url%k.tar.zst}none.tar" --digest "$digest" --binary boot/current
run_rc 64 'a URL without a digest' "$C" system kernel set --tar "$url" --binary boot/current
run_rc 64 'a digest without an archive' "$C" system kernel set --digest "$digest" --binary "$k"
run_rc 64 'an archive without the kernel'"'"'s path' "$C" system kernel set --tar "$T/k.tar.gz"
run_rc 1 'a kernel of another architecture' "$C" system kernel set --arch arm64 --binary "$k"
is 'what failed changed nothing' "$(source_of)" "$url#boot/vmlinuz-$rel"
is 'and left nothing in the store' "$(ls "$CONTAINER_APP_ROOT/content/ingest")" ''
cp "$CONTAINER_APP_ROOT/kernels/remote/vmlinux" "$T/other"
run_ok 'the same kernel again' "$C" system kernel set --binary "$T/other" --modules "$m" --name remote
printf x >>"$T/other"
run_rc 1 'another kernel under a name that is taken' "$C" system kernel set --binary "$T/other" --modules "$m" --name remote
like 'wants --force' "$err" '--force'
run_ok 'and is there with it' "$C" system kernel set --binary "$T/other" --modules "$m" --name remote --force
is 'with its own bytes' "$(jq -r .sha256 "$CONTAINER_APP_ROOT/kernels/remote/kernel.json")" "$(sha256sum "$T/other" | cut -d' ' -f1)"
set_kernel
run_rc 1 'run -k with no kernel' "$C" run --rm -k "$T/noise" demo true
is 'run -k with a kernel' "$(timeout "$T_LIMIT" "$C" run --rm -k "$k" demo uname -r)" "$rel"
stop_system
done_testing
