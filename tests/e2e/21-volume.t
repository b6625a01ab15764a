#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Volumes: what is made of the flags, who may have one, what is left when, and their commands, by the names of Apple's tests
# (TestCLIVolumes, TestCLIVolumesSerial, TestCLIAnonymousVolumes).
. "$(dirname "$0")/../lib/system.sh"
ready_system
SMALL='-c 1 -m 256m --network none'
VOLUMES=$CONTAINER_APP_ROOT/volumes
create() # flags…: a container that is not started
{
	"$C" create $SMALL "$@" demo true
}
mounts_of() # container, jq filter
{
	"$C" inspect "$1" | jq -c "[.[0].configuration.mounts[] | $2]"
}
anonymous()
{
	"$C" volume list --format json | jq -r '.[] | select(.configuration.labels | has("com.apple.container.resource.anonymous")).id'
}

# ---- the commands ----
is 'nothing at first' "$("$C" volume list)" 'NAME  TYPE  DRIVER  OPTIONS'
is 'quietly' "$("$C" volume list -q)" ''
run_ok 'testVolumePruneNoVolumes' "$C" volume prune
is 'prints nothing' "$out" ''
is 'reclaims nothing' "$err" 'Reclaimed Zero KB in disk space'
run_ok 'testVolumeBasicOperations: create' "$C" volume create --label a=b --label c -s 20m data
is 'prints the name' "$out" data
run_rc 1 'once' "$C" volume create data
is 'says so' "$err" 'Error: exists: "volume already exists: data"'
is 'list' "$("$C" v ls | tail -n +2 | tr -s ' ')" 'data named local size=20m'
run_ok 'inspect' "$C" volume inspect data
is 'what it says' "$(jq -c '.[0] | [.id, (.configuration | .name, .driver, .format, .labels, .options, .sizeInBytes)]' <<<"$out")" \
	'["data","data","local","ext4",{"a":"b","c":""},{"size":"20m"},20971520]'
is 'testAnonymousVolumeMetadata: creationDate, and no createdAt' "$(jq -c '.[0].configuration | [(.creationDate | length), has("createdAt")]' <<<"$out")" '[20,false]'
is 'its source is a file of that size, on the host hardly anything' "$(stat -c '%s %a' "$(jq -r '.[0].configuration.source' <<<"$out")")" '20971520 600'
is 'a template' "$("$C" volume inspect -f '{{.Name}} {{.Type}} {{.Labels}}' data)" 'data named a=b,c='
run_rc 1 'testVolumeInspectMissingFails' "$C" volume inspect data nothing
is 'with the name' "$err" 'Error: notFound: "volume not found: nothing"'
run_rc 1 'testVolumeDeleteNoArgs' "$C" volume delete
run_rc 1 'testVolumeDeleteExplicitNamesConflictWithAll' "$C" volume delete --all data
like 'says so' "$err" 'conflict with the --all flag'
run_rc 1 'delete goes on' "$C" volume rm nothing data data
is 'and prints what it deleted' "$out $err" 'data Error: notFound: "volume not found: nothing"'
is 'testVolumeBasicOperations: deleted' "$("$C" volume list -q; ls -A "$VOLUMES" | grep -v '^\.del')" ''
for bad in '' -x .x x/y ../x 'x y' "$(printf %256s | tr ' ' x)"; do
	run_rc 1 "a volume named '${bad:0:9}'" "$C" volume create -- "$bad"
done
run_rc 1 'less than a MiB' "$C" volume create -s 1000k small
like 'says so' "$err" 'invalidArgument: "a volume has between 1 MiB and 16 TiB"'
run_rc 1 'an unknown option' "$C" volume create --opt colour=red red
run_rc 1 'another driver' "$C" volume create --driver nfs red
run_rc 1 'a label that is none' "$C" volume create --label -x=y red
run_ok 'testVolumeCreateWithJournalOrdered' "$C" volume create --opt journal=ordered journal1
run_ok 'testVolumeCreateWithJournalAndSize' "$C" volume create --opt journal=writeback:64m -s 1g journal2
is 'options are told' "$("$C" volume list --format json | jq -c '[.[].configuration | [.options, .sizeInBytes]]')" \
	'[[{"journal":"ordered"},549755813888],[{"journal":"writeback:64m","size":"1g"},1073741824]]'
run_rc 1 'testVolumeCreateWithInvalidJournalModeErrors' "$C" volume create --opt journal=fast x
like 'says so' "$err" "invalid journal mode 'fast'"
run_rc 1 'a journal larger than half of it' "$C" volume create --opt journal=ordered:1g -s 1g x
is '-s wins over --opt size=' "$("$C" volume create --opt size=3g -s 2m two-mib; "$C" volume inspect -f '{{.Size}}' two-mib)" 'two-mib
2097152'
is 'filters' "$("$C" volume list -q -f name=journal -f label=x; "$C" volume list -q -f name=two)" two-mib
run_ok 'testVolumePruneUnusedVolumes' "$C" volume prune
is 'prints their names' "$(sort <<<"$out" | paste -sd' ')" 'journal1 journal2 two-mib'
like 'and what it got' "$err" '^Reclaimed [0-9.]+ [KM]B in disk space$'

# ---- what create does ----
run_ok 'testImplicitNamedVolumeCreation' "$C" create $SMALL --name held -v data:/data demo true
is 'a warning' "$err" 'Warning: there was no volume data: it has been created'
is 'only the id' "$out" held
is 'the mount as it is told' "$(mounts_of held '[.type.volume.name, .type.volume.format, .destination, .options, (.source | sub(".*/app/"; ""))]')" \
	'[["data","ext4","/data",[],"volumes/data/volume.img"]]'
run_ok 'testImplicitNamedVolumeReuse' "$C" create $SMALL --name held2 -v data:/data demo true
is 'without a warning' "$err" ''
is 'a filter of list' "$("$C" list -aq --filter volume=data | sort | paste -sd' ')" 'held held2'
run_ok 'testVolumeDeleteProtectionWithCreatedContainer' "$C" delete held2
run_rc 1 'it is held' "$C" volume delete data
is 'by whom' "$err" 'Error: invalidState: "volume data is in use by container held and cannot be deleted"'
run_ok 'testVolumePruneSkipsVolumeAttachedToStoppedContainer' "$C" volume prune
is 'skipped' "$out $("$C" volume list -q)" ' data'
run_rc 1 'a name that is taken: no container' "$C" create $SMALL --name held -v /anon -v fresh:/f demo true
is 'and no volume' "$("$C" volume list -q)" data
run_rc 1 'a directory that is not there' "$C" create $SMALL -v ./nothing:/x demo true
like 'says so' "$err" "notFound: \"invalid mount './nothing:/x': path './nothing': No such file or directory\""
run_rc 1 'more than a container may have' "$C" create $SMALL $(seq -f '-v /v%g' 33) demo true
is 'nothing is left' "$("$C" volume list -q)" data
run_rc 64 'no name at all' "$C" volume create
run_ok 'testMultipleAnonymousVolumes' "$C" create $SMALL --name two -v /a -v /b demo true
is 'two' "$(mounts_of two .type.volume.name | jq 'unique | length') $(anonymous | wc -l)" '2 2'
"$C" delete two >/dev/null
is 'prune takes them too' "$("$C" volume prune 2>/dev/null | wc -l) $("$C" volume list -q)" '2 data'

# ---- in a container ----
"$C" volume create -s 16m read >/dev/null
"$C" volume create --opt journal=journal:4m -s 32m journal >/dev/null
# As many as a machine without a network has room for on either engine.
is 'testAnonymousMountSyntax, testAnonymousVolumeMixedWithNamedVolume' "$("$C" run -d $SMALL --name box --tmpfs /data/deep/tmp --mount type=volume,target=/data/deep -v data:/again:ro -v data:/data \
	--mount type=volume,source=read,target=/read,readonly -v journal:/journal demo sleep 600)" box
deep=$(mounts_of box 'select(.destination == "/data/deep").type.volume.name' | jq -r '.[0]')
box()
{
	"$C" exec box sh -c "$1" 2>&1
}
is 'testAnonymousVolumeUUIDFormat' "$(anonymous | grep -cE '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$')" 1
is 'testAnonymousVolumeListDisplay' "$("$C" volume list | tr -s ' ' | grep " anonymous ")" "$(anonymous | sed 's/$/ anonymous local /')"
is 'empty, root'\''s' "$(box 'ls -A /journal /read /data/deep | grep -v ^$; stat -c "%u %g %a" /journal')" '/data/deep:
tmp
/journal:
/read:
0 0 755'
is 'each is where it was asked for, what is below after what is above' "$(box 'grep -E "/(data|again|read|journal)" /proc/mounts | cut -d" " -f2,3 | sort' | paste -sd' ')" \
	'/again ext4 /data ext4 /data/deep ext4 /data/deep/tmp tmpfs /journal ext4 /read ext4'
serials=${deep:0:20}readdatajournal0100
[ "$CONTAINER_ENGINE" = kvm ] || serials=${deep:0:20}readvolumes010 # two share the last disk there is room for
is 'serial numbers are their names' "$(box 'cat /sys/block/vd[c-f]/serial; cat /sys/block/vd[c-f]/ro | tr -d "\n"')" "$serials"
is 'written at one place, read at the other' "$(box 'echo one >/data/f && cat /again/f; echo x >/again/g')" "one
sh: can't create /again/g: Read-only file system"
is 'read-only' "$(box 'echo x >/read/f')" "sh: can't create /read/f: Read-only file system"
is 'full' "$(box 'dd if=/dev/zero of=/journal/f bs=1M count=64 2>&1 | grep -c "No space left"; rm /journal/f; echo kept >/journal/kept; echo a >/data/deep/f; chown 33 /data/deep; sync')" 1
is 'the image'\''s files are behind it, and come with what is exported, alone' "$(box 'ls /data/kept 2>&1 | grep -c "No such"') $("$C" export box | tar -t | grep -c '^data/kept/file$')" '1 1'
is 'not in what is exported' "$("$C" export box | tar -t | grep -cE '(data|again|deep|journal|read)/(f|g|kept)$')" 0
is 'copied as any file' "$("$C" copy box:/data/f "$T/f" >/dev/null && cat "$T/f")" one
given_back()
{
	box sync
	[ "$(stat -c %b "$VOLUMES/journal/volume.img")" -lt 20000 ]
}
ok 'what is deleted goes back to the host' wait_until 60 given_back
run_rc 1 'testVolumeDeleteProtectionWhileInUse' "$C" volume delete journal
run_ok 'testVolumePruneSkipsVolumeInUse' "$C" volume prune
is 'skipped' "$out" ''
is 'system df' "$("$C" system df --format json | jq -c '.volumes | [.total, .active, .reclaimable > 0]')" '[4,4,false]'
run_rc 1 'testVolumeSharedAccessConflict' "$C" run --rm $SMALL -v /new -v data:/data demo true
like 'says so' "$err" 'invalidState: .*volume data.*in use by another running container'
run_ok 'testAnonymousVolumeCreationAndPersistence; two that read one' "$C" run --rm $SMALL --read-only -v read:/read:ro -v /mine demo sh -c 'ls -A /read; echo z >/mine/f; cat /mine/f'
is 'ran' "$out" z
is 'it is left by --rm; what failed to start has left none' "$(anonymous | wc -l)" 2

# ---- ends ----
kill -9 "$(service_pid container.runtime.box)"
ok 'the machine is gone' wait_until 30 in_state box stopped
run_ok 'to read what a crash left as it was' "$C" run --rm $SMALL -v journal:/j:ro demo cat /j/kept
is 'what was on the disk' "$out" kept
run_ok 'start' "$C" start box
is 'testVolumeDataPersistenceAcrossContainers, testJournaledVolumeDataPersistence: after a crash' "$(box 'cat /data/f /journal/kept /data/deep/f; stat -c %u /data/deep' | paste -sd' ')" 'one kept a 33'
box 'echo last >/data/late; for i in 1 2 3 4; do head -c 500000 /dev/urandom; done >/data/random; sha256sum </data/random >/data/sum' >/dev/null
run_ok 'stop' "$C" stop -t 5 box
run_ok 'delete the container' "$C" delete box
run_ok 'testAnonymousVolumePersistenceWithoutRm: by its id' "$C" run $SMALL --rm -v "$deep:/a" -v data:/d:ro demo sh -c 'cat /a/f /d/f /d/late; sha256sum </d/random | cmp - /d/sum && cat /sys/block/vdd/ro'
is 'testVolumeDataPersistenceAcrossContainers' "$(paste -sd' ' <<<"$out")" 'a one last 1'
is 'testAnonymousVolumeDetachedMode' "$("$C" run -d --rm $SMALL --name short -v /x demo true >/dev/null; wait_until 30 gone short; anonymous | wc -l)" 3
run_ok 'testAnonymousVolumeManualDeletion' "$C" volume delete "$deep"
is 'is gone' "$(anonymous | wc -l)" 2
# Bit 2 of s_feature_incompat: the journal has something to play back.
is 'all were closed' "$(for i in "$VOLUMES"/*/volume.img; do echo $(($(od -An -tu1 -j1120 -N1 "$i") & 4)); done | sort -u)" 0
if command -v e2fsck >/dev/null; then
	is 'all file systems are clean' "$(for i in "$VOLUMES"/*/volume.img; do e2fsck -fn "$i" >"$T/fsck" 2>&1 || cat "$T/fsck"; done)" ''
else
	skip 'all file systems are clean' 'needs e2fsck'
fi

# ---- what a crash of ours leaves, what others put there ----
mkdir "$VOLUMES/.new-1" "$VOLUMES/.del-1" "$VOLUMES/half" "$VOLUMES/bad name" "$VOLUMES/json"
echo x >"$VOLUMES/.new-1/volume.img"
echo '[' >"$VOLUMES/json/entity.json"
ln -s data "$VOLUMES/link"
before=$("$C" volume list -q)
kill -9 "$(service_pid container.apiserver)"
run_ok 'the next apiserver' "$C" system start
is 'has the same volumes' "$("$C" volume list -q)" "$before"
ok 'and nothing half made' wait_until 20 eval '! ls -A "$VOLUMES" | grep -q "^\.[nd]"'
run_rc 1 'one without its record is none' "$C" run $SMALL -v half:/x demo true
run_rc 1 'inspect says why' "$C" volume inspect json
like 'names it' "$err" 'internalError: "volume json"'
run_rc 1 'a link is none' "$C" run $SMALL -v link:/x demo true
run_rc 1 'nor for inspect' "$C" volume inspect link
like 'says so' "$err" 'notFound: "volume not found: link"'
run_ok 'what has no record can be deleted' "$C" volume delete half json
is 'events tell' "$("$C" events --since 1h --until 0s --filter volume=data --filter volume=half --format '{{.Action}} {{.ID}}' | paste -sd,)" 'create data,destroy data,create data,destroy half'
run_rc 1 'delete --all' "$C" volume delete --all
is 'all but what a container has' "$("$C" volume list -q)" data

# ---- more of them than a machine has room for disks: those at the end share one ----
many=() N=12
for i in $(seq $N); do
	"$C" volume create -s "$((i + 3))m" "many$i" >/dev/null || bail "volume many$i"
	many+=(-v "many$i:/many$i")
done
run_ok 'twelve volumes' "$C" run --rm $SMALL "${many[@]}" demo sh -c 'for i in $(seq 12); do echo mine $i >/many$i/f && sync -f /many$i/f || exit 1; done
	for i in $(seq 12); do set -- $(stat -f -c "%S %b" /many$i); echo $((i < $1 * $2 >> 20 && $1 * $2 >> 20 <= i + 3)); done | sort | uniq -c | xargs'
is 'each is mounted, and has its size' "$out" '12 1'
for i in $(seq $N); do
	e2fsck -fn "$VOLUMES/many$i/volume.img" >"$T/fsck" 2>&1 || bail "many$i: $(cat "$T/fsck")"
done
is 'what was written is on the one that it was written to' "$(for i in $(seq $N); do debugfs -R 'cat /f' "$VOLUMES/many$i/volume.img" 2>/dev/null; done | paste -sd,)" \
	"$(for i in $(seq $N); do echo mine $i; done | paste -sd,)"
many[23]=many12:/many12:ro
before=$(sha256sum <"$VOLUMES/many12/volume.img")
run_ok 'one of them for reading' "$C" run --rm --privileged $SMALL "${many[@]}" demo sh -c 'cat /many12/f; echo no >/many12/f; mount -o remount,rw /many12 2>/dev/null && echo no >/many12/f
	d=$(readlink -f /sys/dev/block/$(grep " /many12 " /proc/self/mountinfo | cut -d" " -f3)/..)
	mknod /tmp/part b $(grep " /many12 " /proc/self/mountinfo | cut -d" " -f3 | tr : " ") && dd if=/dev/urandom of=/tmp/part bs=4k count=64 conv=fsync 2>/dev/null
	mknod /tmp/disk b $(tr : " " <$d/dev) && printf "\001\000\203\000\001\000\001\000\000\000\000\020\000\000" | dd of=/tmp/disk bs=1 seek=446 conv=notrunc 2>/dev/null &&
	printf "\125\252" | dd of=/tmp/disk bs=1 seek=510 conv=notrunc,fsync 2>/dev/null && echo a table is there; true'
is 'is read' "$out" 'mine 12
a table is there'
is 'whatever writes to the device, it is as it was' "$(sha256sum <"$VOLUMES/many12/volume.img")" "$before"
run_ok 'a table that a container wrote there is none' "$C" run --rm $SMALL "${many[@]}" demo sh -c 'cat /many*/f | wc -l'
is 'all are read' "$out" 12
stop_system
done_testing
