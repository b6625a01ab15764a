#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Images of another architecture: run by the host's qemu-user in the guest, or refused with the name of what is missing.
. "$(dirname "$0")/../lib/system.sh"
[ -e "$BUILD/images/arm64.oci.tar" ] || skip_all 'the arm64 image is not made (tests/images/arm64.sh needs the network)'
ready_system
run_ok 'load' "$C" image load -i "$IMAGES/arm64.oci.tar"
run_rc 1 'without an emulator' "$C" run --rm --network none -m 256m --platform linux/arm64 arm64demo uname -m
like 'the error names the package' "$err" 'qemu-user-static'
is 'nothing is left of it' "$("$C" list -aq)" ''
run_rc 1 'for this architecture there is none' "$C" run --rm --network none --pull never --platform linux/amd64 arm64demo true

# The emulator is found where the configuration says.
stop_system
mkdir "$T/emulators" && cp "$IMAGES/qemu-aarch64-static" "$T/emulators/"
echo '{"emulator.dir": "'"$T/emulators"'"}' >"$CONTAINER_CONFIG"
start_system
run_ok 'testRunCommandPlatform' "$C" run -d --name arm --network none -m 256m --platform linux/arm64 arm64demo sh -c 'echo "up $(uname -sm)"; sleep 600'
ok 'uname of that architecture' wait_until 60 bash -c '[ "$("$1" logs arm)" = "up Linux aarch64" ]' - "$C"
is 'exec' "$("$C" exec arm uname -m)" aarch64
is 'a script' "$("$C" exec arm script x)" 'script /bin/script x'
is 'argv[0] is what it was called by' "$("$C" exec arm sh -c 'exec -a sh-name /bin/busybox 2>&1 | head -1; true' | grep -c 'not found\|BusyBox')" 1
is 'another user' "$("$C" exec -u 1000:1000 arm id -u)" 1000
is 'nothing of the emulator is to be seen' "$("$C" exec arm ls / | tr '\n' ' ')" 'bin dev etc proc sys tmp '
run_ok 'copy' "$C" cp arm:/etc/passwd "$T/pw"
run_ok 'stop' "$C" stop -t 0 arm
run_ok 'testRunCommandOSArch, --rosetta' "$C" run --rm --network none -m 256m --os linux --arch arm64 --rosetta arm64demo uname -m
is 'it, too' "$out" aarch64
stop_system
done_testing
