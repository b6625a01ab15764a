#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Attack class M: what an image's configuration says of users, directories, signals, volumes, labels, environment and programs.
. "$(dirname "$0")/../lib/system.sh"
ready_system
mkdir -p "$T/img" "$T/wd/real"
tar -C "$T/img" -xf "$IMAGES/demo.docker.tar"
ln -s /data/kept "$T/wd/abs"
ln -s ../../../../../../data/kept "$T/wd/up"
ln -s loop "$T/wd/loop"
ln -s /nowhere/at/all "$T/wd/dangling"
ln -s /etc/passwd "$T/wd/file"
ln -s abs/../../../../../.. "$T/wd/root"
ln -s /proc/1/root/data "$T/wd/proc"
tar -C "$T" --owner=0 --group=0 -cf "$T/img/links.tar" wd
diff=sha256:$(sha256sum <"$T/img/links.tar" | cut -d' ' -f1)
base=$(jq -r '.[0].Config' "$T/img/manifest.json")
image() # name jq-program: the demo image with the links, its configuration changed
{
	rm -rf "$T/one" && mkdir "$T/one"
	jq -c --arg d "$diff" '.rootfs.diff_ids += [$d] | .history += [{created_by: "links"}] | '"$2" "$T/img/$base" >"$T/one/config.json"
	jq -c --arg n "m:$1" '.[0].RepoTags = [$n] | .[0].Config = "config.json" | .[0].Layers += ["links.tar"]' "$T/img/manifest.json" >"$T/one/manifest.json"
	ln "$T/img"/*.tar "$T/one/"
	tar -C "$T/one" -cf "$T/one.tar" .
	run "$C" load -q -i "$T/one.tar"
}
tried=0
try() # jq-program exit-of-create regex: what is said, or of the container that was made "program@directory"
{
	tried=$((tried + 1))
	image "try$tried" "$1"
	[ $rc = 0 ] || { t_result 1 "M: $1 loads"; t_said; return; }
	run_rc "$2" "M: ${1:0:70}" "$C" create --name "try$tried" "m:try$tried"
	[ "$2" != 0 ] || err=$("$C" inspect "try$tried" | jq -r '.[0].configuration | .initProcess | "\(.executable)@\(.workingDirectory)"')
	like 'M: comes to' "$err" "$3"
}
try '.config.WorkingDir = "a/b"' 1 "'a/b' is not an absolute path"
try '.config.WorkingDir = "../x"' 1 'not an absolute path'
try '.config.WorkingDir = "/a\u0000b"' 0 '^sh@/$'
try '.config.WorkingDir = 7' 0 '^sh@/$'
try '.config.Env = [range(100000) | "A\(.)=\(.)"]' 1 'sets 100000 environment variables'
try '.config.Env = {"A": 1}' 0 '^sh@/$'
try '.config.Env = ["A=b\u0000c", 7, null, "NOEQUALS", "=x"]' 0 '^sh@/$'
try '.config.Entrypoint = ["x" * 3000000]' 1 'configuration is too large'
try '.config.Cmd = "sh"' 1 'command'
try '.config.Cmd = [null]' 1 'command'
try '.config.Cmd = []' 1 'command'
try '.config = []' 1 'command'
try '.config = null' 1 'command'
try '.config.Volumes = {"/../../etc": {}, "..": {}, "": {}}' 0 '^sh@/$'
is 'M: no volume comes of it' "$("$C" inspect "try$tried" | jq -c '.[0].configuration.mounts')" '[]'
try '.config.Labels = {"plugin": "builder", "role": "control-plane"}' 0 '^sh@/$'
is "M: an image's labels are no container's" "$("$C" inspect "try$tried" | jq -c '.[0].configuration.labels')" '{}'
try '.config.Labels = 7' 0 '^sh@/$'
try '.config.ExposedPorts = {"99999999/tcp": {}}' 0 '^sh@/$'
is 'M: no port is published' "$("$C" inspect "try$tried" | jq -c '.[0].configuration.publishedPorts')" '[]'
run_ok 'they go' "$C" delete --all

# In the guest: all at once, as a start costs seconds.
image all '.config.WorkingDir = "/wd/up" | .config.StopSignal = "SIGNONSENSE" | .config.Volumes = {"/etc/../data": {}} |
	.config.Env += ["LINES=a\nROOT=evil", "NOEQUALS", "=x"]'
run_ok 'run' "$C" run -d --name all m:all sh -c 'pwd; /bin/pwd; ls; echo "[$ROOT]"; exec sleep 1000'
wait_until 30 bash -c '"$1" logs all | grep -q "^\[.*\]$"' - "$C"
is 'M: WORKDIR that is a link up and out ends in the container' "$("$C" logs all)" $'/data/kept\n/data/kept\nfile\nhardlink\n[]'
while IFS=';' read -r dir code said; do
	run_rc "$code" "M: directory $dir" "$C" exec -w "/wd/$dir" all /bin/pwd
	like 'M: is' "$out$err" "$said"
done <<'X'
abs;0;^/data/kept$
real/new/deep;0;^/wd/real/new/deep$
up/new;0;^/data/kept/new$
root;0;^/$
proc;0;^/(proc/1/root/)?data$
loop;126;[Ss]ymbolic links
loop/x;126;[Ss]ymbolic links
dangling;127;No such file
dangling/x;127;No such file
file;126;Not a directory
file/x;126;Not a directory
X
run "$C" exec all ls -d /nowhere
like 'M: nothing was made behind a dangling link' "$err" 'No such file'
for user in 4294967296 -1 a:b:c 'x y' 0:4294967296 ../root; do
	run "$C" exec -u "$user" all id -u
	ok "M: user $user is refused" test "$rc" != 0
	like 'M: and nothing runs' "$out" '^$'
done
is 'M: a user above 2^31 is that one, not root' "$(timeout 60 "$C" exec -u 2147483648 all id -u)" 2147483648
image user '.config.User = "4294967295"'
run "$C" run --rm m:user id -u
ok "M: USER 4294967295 of an image is refused" test "$rc" != 0
like 'M: with a reason' "$err" 'user|uid'
run_ok 'M: a stop signal that is none is SIGTERM or worse' "$C" stop -t 1 all
stop_system
done_testing
