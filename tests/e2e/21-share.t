#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Directories and files of the host in a container (-v, --mount type=bind|virtiofs): what can be done there, what cannot, who serves them and
# what becomes of it all. Letter N: attack class "shared directories".
. "$(dirname "$0")/../lib/system.sh"
. "$(dirname "$0")/../lib/leaks.sh"
T_LIMIT=$([ -n "${LAB:-}" ] && echo 500 || echo 180) # for very many questions at once
ready_system
gcc -O2 -static -o "$T/fileuse" "$TOP/tests/lib/fileuse.c" || bail 'fileuse compiles'
unset CDPATH

H=$T/h # what the host shares
mkdir -p "$H"/{rw/sub,ro/sub,rel,deep} "$H/with space"
echo hello >"$H/rw/file"
echo read only >"$H/ro/file"
echo relative >"$H/rel/file"
echo deep >"$H/deep/file"
echo single >"$H/single.txt"
echo space >"$H/with space/file"
echo secret >"$T/secret"
ln -s "$T/secret" "$H/rw/out"       # leads out on the host
ln -s ../../secret "$H/rw/up"       # the same
ln -s /etc/motd "$H/rw/motd"        # there in the guest only
ln -s file "$H/rw/in"
chown 1234:2345 "$H/rw/sub"
chmod 2750 "$H/rw/sub"
mknod "$H/rw/null" c 1 3
chmod 666 "$H/rw/null"
mkfifo "$H/rw/fifo"
# A guest in an emulated machine takes minutes for so much.
mib=$([ -n "${LAB:-}" ] && echo 2 || echo 64)
many=$([ -n "${LAB:-}" ] && echo 200 || echo 3000)
head -c "${mib}M" /dev/urandom >"$H/rw/big"
head -c 100000 /dev/urandom >"$H/rw/mapped"
cp "$H/rw/mapped" "$T/was-mapped"
big=$(sha256sum <"$H/rw/big")
# Where a position in a directory is a count of entries, as in ramfs: who removes while he reads must not miss any.
mkdir "$H/ram"
mount -t ramfs ram "$H/ram" || bail 'ramfs'
mkdir "$H/ram/many"
for ((i = 0; i < 700; i++)); do : >"$H/ram/many/file$i"; done

# ---- what is refused before anything starts ----
run_rc 1 'create: a source that is not there' "$C" create --name none -v "$H/nowhere:/data" demo true
like 'is named' "$err" "$H/nowhere'?: No such file or directory"
ok 'and no container is left' gone none
run_rc 1 'run --mount: the same' "$C" run --name none --mount "type=bind,source=$H/nowhere,target=/data" demo true
like 'is named' "$err" "$H/nowhere'?: No such file or directory"
run_rc 1 'a source that is a device' "$C" run --name none -v /dev/null:/data demo true
like 'is neither of both' "$err" 'neither a directory nor a regular file'
"$C" delete none >/dev/null 2>&1
# The network's bridge stays from here on.
ok 'nothing of it runs' wait_until 20 quiet 0
held >"$T/before"

# ---- one container, all kinds of mounts ----
cd "$H" || exit 1
run_ok 'a container (testRunCommandVolume, testRunCommandMount)' "$C" run -d --name one -m 400m \
	-v "$H/deep:/data/sub/deep" -v "$H/rw:/data" -v ./rel:/srv/not/there/rel:rw --mount "type=virtiofs,source=$H/ro,target=/ro,readonly" \
	--mount "type=bind,src=$H/single.txt,dst=/etc/single.txt" -v "$H/single.txt:/etc/motd:ro" -v "$H/with space:/space" \
	-v "$T/fileuse:/fileuse:ro" -v "$H/ram:/ram" --tmpfs /data/sub/tmp demo sh -c 'trap "exit 0" TERM; while :; do sleep 0.2; done'
cd / || exit 1
h=$(service_pid container.runtime.one)
srv=$(pgrep -P "$h" -f '^container-share-linux ')
# Questions are put to the container in one exec; what answers() finds is asserted then. On an emulated CPU each exec costs as much as ten
# of them.
q_kind=() q_name=() q_want=() q_shell=()
says() # name want shell: it says that, and succeeds
{
	q_kind+=(says) q_name+=("$1") q_want+=("$2") q_shell+=("$3")
}
fails() # name regex shell: it fails, and says something like that
{
	q_kind+=(fails) q_name+=("$1") q_want+=("$2") q_shell+=("$3")
}
answers() # id
{
	local i s='' got=() line n=-1
	for i in "${!q_shell[@]}"; do
		s+="echo @@@"$'\n'"( ${q_shell[i]}"$'\n'") 2>&1 </dev/null; echo \"@@ \$?\""$'\n'
	done
	run "$C" exec "$1" sh -c "$s"
	[ -z "$err" ] || diag "$err"
	while IFS= read -r line; do
		if [ "$line" = @@@ ]; then n=$((n + 1)) got[n]=''; else got[n]+=$line$'\n'; fi
	done <<<"$out"
	for i in "${!q_shell[@]}"; do
		local text=${got[i]-no answer} status
		status=${text##*@@ } text=${text%@@ *}
		status=${status%$'\n'} text=${text%$'\n'}
		if [ "${q_kind[i]}" = says ]; then
			[ "$status" = 0 ] || text="exit status $status: $text"
			is "${q_name[i]}" "$text" "${q_want[i]}"
		else
			[ "$status" != 0 ] || text='it worked'
			like "${q_name[i]}" "$text" "${q_want[i]}"
		fi
	done
	q_kind=() q_name=() q_want=() q_shell=()
}
says 'what is there is read' 'hello' 'cat /data/file'
says 'a directory below another mount, whatever the order they were given in' 'deep' 'cat /data/sub/deep/file'
says 'a tmpfs in a share' 'tmpfs' 'awk "\$2 == \"/data/sub/tmp\" {print \$3}" /proc/mounts'
says 'a relative source; a destination whose directories did not exist' 'relative' 'cat /srv/not/there/rel/file'
says 'a single file' 'single' 'cat /etc/single.txt'
says 'a file over a file of the image' 'single' 'cat /etc/motd'
says 'a name with a space' 'space' 'cat /space/file'
says 'the mounts' $'/data rw,nodev\n/etc/single.txt rw,nodev\n/ro ro,nodev' \
	'sed -nE "s,^container (/data|/ro|/etc/single.txt) virtiofs (r[ow])\,nodev.*,\1 \2\,nodev,p" /proc/mounts | sort'
says 'nothing else of the shares is to be seen' '' 'ls -d /shares /root/shares 2>/dev/null; find / -xdev -name fileuse ! -path /fileuse ! -path "/proc/*"'
# Both ways.
says 'written in the container' '' 'echo from the container >/data/new && mkdir -p /data/d/e && mv /data/new /data/d/e/renamed && echo x >/data/gone && rm /data/gone'
says 'append, truncate, seek' 'ab__ef' 'printf abcd >/data/t; printf ef >>/data/t; printf __ | dd of=/data/t bs=1 seek=2 conv=notrunc 2>/dev/null; cat /data/t'
says 'a hard link' 2 'ln /data/t /data/t2 && stat -c %h /data/t2'
says 'a link across mounts is refused' 'refused' 'ln /data/t /tmp/t 2>/dev/null || echo refused'
says "size and bytes of $mib MiB" "$big"$'\n'$((mib << 20)) 'sha256sum </data/big; stat -c %s /data/big'
says "$mib MiB there" '' "head -c $((mib << 20)) /dev/urandom >/data/back && sha256sum </data/back >/data/back.sum"
says 'a file is mapped and changed, has attributes, is copied' '' '/fileuse /data/mapped && cmp /data/mapped /data/mapped.copy'
says 'a program is run from there' 'ran' 'mkdir /data/bin && cp /bin/busybox /data/bin && /data/bin/busybox echo ran'
says "$many files" "$many" 'mkdir /data/many && cd /data/many && i=0 && while [ $i -lt '"$many"' ]; do echo $i >f$i; i=$((i + 1)); done; ls | wc -l'
says 'what is read and removed at once is removed, all of it' '' 'rm -r /ram/many && ls /ram'
says 'how full it is' 1 'df -k /data | tail -1 | awk "{print (\$2 > 0)}"'
# Owners: as root of the host there is nobody else than who there is.
says 'owner and mode' '1234:2345 2750' 'stat -c "%u:%g %a" /data/sub'
says 'are set' '77:88 640' 'touch /data/o && chown 77:88 /data/o && chmod 640 /data/o && stat -c "%u:%g %a" /data/o'
# The host's clock dates the files of a share, the guest's its own: what is made later is younger (make counts on it).
says 'what is made later, elsewhere, is younger' 'younger' 'touch /data/first; sleep 0.3; touch /tmp/later; [ "$(stat -c %y /data/first)" "<" "$(stat -c %y /tmp/later)" ] && echo younger'
says 'times are set' '1000000000' 'touch -d @1000000000 /data/o && stat -c %Y /data/o'
# N: what must not be.
says 'N: a symlink that leads out on the host is resolved in the container' 'not here' "cat /data/out 2>/dev/null || echo not here"
says 'N: by dots, too' 'not here' 'cat /data/up 2>/dev/null || echo not here'
says 'N: one to a file of the container leads there' 'single' 'cat /data/motd'
says 'N: one inside' 'hello' 'cat /data/in'
says 'N: one that the container makes' 'single' 'ln -s /etc/motd /data/mine && cat /data/mine'
fails 'N: a device of the host opens nothing' '[Pp]ermission denied' 'cat /data/null'
fails 'N: nor can one be made' '(Operation not permitted|Permission denied)' 'mknod /data/vda b 254 0'
says 'N: a FIFO is the container'"'s" 'through' 'echo through >/data/fifo & cat /data/fifo'
fails 'N: read-only: a file is not written' 'Read-only file system' 'echo x >/ro/file'
fails 'N: nor made' 'Read-only file system' 'echo x >/ro/new'
fails 'N: nor removed' 'Read-only file system' 'rm /ro/file'
fails 'N: nor renamed' 'Read-only file system' 'mv /ro/file /ro/other'
fails 'N: nor changed' 'Read-only file system' 'chmod 777 /ro/file'
fails 'N: nor a file over a file' 'Read-only file system' 'echo x >/etc/motd'
answers one
is 'what was written is on the host' "$(cat "$H/rw/d/e/renamed")" 'from the container'
ok 'and what was removed is not' test ! -e "$H/rw/gone" -a ! -e "$H/rw/new"
is 'a hard link, too' "$(stat -c %h "$H/rw/t")" 2
is 'the bytes are the same here' "$(sha256sum <"$H/rw/back")" "$(cat "$H/rw/back.sum")"
perl -e 'local $/; open(F, "<", $ARGV[0]); print ~<F>' "$T/was-mapped" >"$T/complement"
ok 'what was written through a mapping, too' cmp -s "$T/complement" "$H/rw/mapped"
is 'so are the files' "$(find "$H/rw/many" -type f | wc -l) $(cat "$H/rw/many/f$((many - 1))")" "$many $((many - 1))"
is 'owner and mode' "$(stat -c '%u:%g %a' "$H/rw/o")" '77:88 640'
is 'N: a link of the container is a link for the host' "$(readlink "$H/rw/mine")" /etc/motd
is 'N: what is read-only is as it was' "$(cat "$H/ro/file"; ls "$H/ro")" $'read only\nfile\nsub'
ok 'N: where links lead to is untouched' [ "$(cat "$T/secret")" = secret ]

echo changed on the host >"$H/rw/file"
echo fresh >"$H/rw/fresh"
rm "$H/rw/t2"
chmod 777 "$H/rw"
# The container itself looks at what there is ten times a second, so that it is the share's time that is measured.
says 'changes of the host are seen within 2 s' 'changed on the host fresh 1' \
	'i=0; while [ $i -lt 20 ]; do [ ! -e /data/t2 ] && [ -e /data/fresh ] && grep -q changed /data/file && break; sleep 0.1; i=$((i + 1)); done
	echo $(cat /data/file /data/fresh) $(stat -c %h /data/t)'
says 'all of them are removed' 0 'cd /data && rm -r many && ls -d many 2>/dev/null | wc -l'
answers one
run_ok 'another user of the container' "$C" exec -u 4321:4321 one sh -c 'echo x >/data/theirs; ls /data/sub 2>&1 || echo no'
is 'owns what it makes' "$(stat -c '%u:%g' "$H/rw/theirs")" '4321:4321'
like 'and reads no directory that is not its own' "$out" 'Permission denied.*no$'

# ---- the server ----
field() # name
{
	sed -n "s/^$1:[[:space:]]*//p" "/proc/$srv/status"
}
is 'N: the server has six capabilities' "$(field CapEff) $(field CapPrm)" '00000000000000db 00000000000000db'
is 'N: and can get no others' "$(field CapBnd) $(field CapInh) $(field CapAmb) $(field NoNewPrivs)" '0000000000000000 0000000000000000 0000000000000000 1'
is 'N: every thread has a filter' "$(sed -n 's/^Seccomp:\t//p' /proc/"$srv"/task/*/status | sort | uniq -c | tr -s ' ')" ' 6 2'
for n in net ipc uts mnt; do
	ok "N: $n namespace of its own" [ "$(readlink "/proc/$srv/ns/$n")" != "$(readlink "/proc/$h/ns/$n")" -a "$(readlink "/proc/$srv/ns/$n")" != "$(readlink "/proc/self/ns/$n")" ]
done
is 'N: nothing is mounted but its root' "$(cut -d' ' -f1-3 "/proc/$srv/mounts")" 'jail / tmpfs'
is 'N: which holds nothing' "$(find "/proc/$srv/root/" -mindepth 1 ! -path '*/proc' ! -path '*/proc/self' ! -path '*/proc/self/fd')" ''
is 'N: it is not dumpable' "$(stat -c %u "/proc/$srv/fd")" 0
unlike 'N: it never saw the guest'"'s memory" "$(cat "/proc/$srv/maps"; ls -l "/proc/$srv/fd")" 'guest-memory'
unlike 'N: the helper sees no file of the shares' "$(ls -l "/proc/$h/fd")" "$H"
is 'N: and has no directory open' "$(find -L "/proc/$h/fd" -maxdepth 1 -mindepth 1 -type d 2>/dev/null)" ''
group=$(sed -n 's/^0:://p' "/proc/$h/cgroup")
is 'N: it is in the helper'"'s cgroup" "$(sed -n 's/^0:://p' "/proc/$srv/cgroup")" "$group"

# ---- everything else a container is asked ----
run_ok 'list --filter volume=' "$C" list -q --filter "volume=$H/rw"
is 'finds it' "$out" one
is 'by the place in the container, too' "$("$C" list -q --filter volume=/data)" one
is 'inspect shows the mounts' "$("$C" inspect one | jq -c '.[0].configuration.mounts[] | select(.destination == "/ro")')" \
	"{\"destination\":\"/ro\",\"options\":[\"ro\"],\"source\":\"$H/ro\",\"type\":{\"virtiofs\":{}}}"
run_ok 'export' bash -c "'$C' export one | tar -t >'$T/names'"
unlike 'has nothing of the shares' "$(cat "$T/names")" '(file|big|mapped|single)$'
like 'but their places' "$(cat "$T/names")" 'srv/not/there/rel/'
unlike 'diff has not either' "$("$C" diff one)" '(/data/|/ro/|rel/file)'
if [ -z "${LAB:-}" ]; then
	run_ok 'commit' "$C" commit one shared:1
	run_ok 'its image' "$C" run --rm shared:1 sh -c 'ls -A /data /ro /srv/not/there/rel; cat /etc/motd'
	unlike 'nor the image of a commit' "$out" '(big|mapped|single|read only)'
fi
run_ok 'update' "$C" update --cpus 1 one
run_ok 'pause' "$C" pause one
echo while it slept >"$H/rw/file"
run_ok 'unpause' "$C" unpause one
says 'they are there' 'while it slept' 'sleep 1.5; cat /data/file'
answers one
run_ok 'restart' "$C" restart -t 20 one
says 'and after a restart' 'while it slept' 'cat /data/file'
answers one
is 'with another server' "$(pgrep -fc '^container-share-linux ')" 1
ok 'not the old one' test ! -d "/proc/$srv"

# The apiserver may go and come.
kill -KILL "$(service_pid container.apiserver)"
sleep 0.5
run_ok 'another apiserver' "$C" system start
says 'changes nothing' 'while it slept' 'cat /data/file'
answers one

# ---- the server goes: every access fails from then on, nothing hangs, the container lives ----
srv=$(pgrep -f '^container-share-linux ')
kill -KILL "$srv"
fails 'without its server a share fails' '(I/O error|Input/output error)' 'cat /data/big'
fails 'and does not hang' '(I/O error|Input/output error)' 'echo x >/data/x'
says 'the container lives' 'alive' 'echo alive'
answers one
like 'the log says so' "$(cat "$CONTAINER_LOG_ROOT/container.runtime.one.log")" 'their server has ended'
run_ok 'stop' "$C" stop -t 20 one

if [ -n "${LAB:-}" ]; then
	run_ok 'delete' "$C" delete -f one
	ok 'nothing is left' wait_until 20 held_as "$T/before"
	skip 'starts that fail, read-only roots, links in images, users without rights' 'the same on either engine, and each another start of a machine'
	done_testing
	exit
fi
# ---- at start a source is looked for again ----
mv "$H/rel" "$H/away"
run_rc 1 'start: a source that is gone' "$C" start one
like 'is named' "$err" "mount source $H/rel: No such file or directory"
ok 'nothing of it runs' wait_until 20 in_state one stopped
mv "$H/away" "$H/rel"
run_ok 'start: it is back' "$C" start one
says 'and works' 'relative' 'cat /srv/not/there/rel/file'
answers one
# Its helper is killed: the server goes with it.
kill -KILL "$(service_pid container.runtime.one)"
ok 'the server goes with its helper' wait_until 10 bash -c '! pgrep -f "^container-share-linux "'
ok 'the container ended' wait_until 20 in_state one stopped
run_ok 'delete' "$C" delete -f one

# ---- a read-only root; nothing but a share that is writable ----
run_ok 'run --read-only' "$C" run --rm --read-only -v "$H/rw:/mnt" demo sh -c 'echo x >/mnt/readonly-root && ! echo x >/x 2>/dev/null && cat /mnt/file'
is 'reads' "$out" 'while it slept'
ok 'and writes' test -s "$H/rw/readonly-root"
# N: a link in the image where a mount goes is followed in the container only.
mkdir "$H/trap"
run_ok 'a container with links' "$C" run --name trap demo ln -s ../../../../../../../../tmp /linked
run_ok 'its image' "$C" commit trap trap:1
run_ok 'N: a link on the way to a mount' "$C" run --rm -v "$H/trap:/linked/inner" trap:1 sh -c 'echo x >/tmp/inner/trapped'
ok 'N: stays in the container' test -s "$H/trap/trapped"
run_ok 'delete' "$C" delete trap

"$C" image delete -f trap:1 shared:1 >/dev/null 2>&1
ok 'nothing is left' wait_until 20 held_as "$T/before"
[ $T_FAILED = 0 ] || diff "$T/before" "$T/now" >&2

# ---- a user without rights: what is theirs is root's in there, the rest is nobody's ----
stop_system
make_world # for passt, which wants a way out
uid=12345
user_files
mkdir "$T/u/mine"
echo mine >"$T/u/mine/file"
echo kept >"$T/u/mine/kept"
chmod 444 "$T/u/mine/kept"
chown -R $uid:$uid "$T/u"
echo of root >"$T/u/mine/roots"
chmod 600 "$T/u/mine/roots"
use_roots "$T/u/s"
chown -R $uid:$uid "$T/u/s"
C="$T/u/container"
as_user=(setpriv --reuid $uid --regid $uid --clear-groups --no-new-privs env HOME="$T/u")
if ! command -v passt >/dev/null; then
	skip 'a user without rights' 'passt is not installed'
	done_testing
	exit
fi
run_ok 'user: system start' "${as_user[@]}" "$C" system start
run_ok 'user: kernel' "${as_user[@]}" "$C" system kernel set --binary "${kernel[@]}"
run_ok 'user: image' "${as_user[@]}" "$C" image load -i "$T/u/demo.oci.tar"
run_ok 'user: a container' "${as_user[@]}" "$C" run --name theirs -v "$T/u/mine:/data" demo sh -c '
	cat /data/file; stat -c "%n %u:%g" /data/file /data/roots
	echo new >/data/new && stat -c "new %u:%g" /data/new; chown 0:0 /data/new && echo same owner; chown 5:5 /data/new 2>/dev/null || echo other owner refused
	cat /data/roots 2>/dev/null || echo of root: refused; echo x 2>/dev/null >/data/kept || echo mode 444: refused; chmod 600 /data/new && echo chmod'
is 'user: sees their own as root'"'s, others' as nobody's" "$out" "mine
/data/file 0:0
/data/roots 65534:65534
new 0:0
same owner
other owner refused
of root: refused
mode 444: refused
chmod"
is 'user: what is made is theirs' "$(stat -c '%u:%g %a' "$T/u/mine/new")" "$uid:$uid 600"
is 'user: and what was not theirs is as it was' "$(cat "$T/u/mine/kept" "$T/u/mine/roots")" $'kept\nof root'
like 'user: the server is theirs' "$(cat "$CONTAINER_LOG_ROOT/container.runtime.theirs.log")" "their server: user $uid, stages 0x6f"
done_testing
