#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# diff and commit, of a container that runs and of one that does not.
. "$(dirname "$0")/../lib/system.sh"
ready_system

run_ok 'run' "$C" run -d --name work -c 1 -e MADE=here -l team=a -w /srv demo sh -c '
	mkdir -p /srv/new/deep && echo text >/srv/new/deep/file && ln /srv/new/deep/file /srv/hard && ln -s hard /srv/soft
	echo more >>/etc/passwd; rm /etc/group; chown 33:33 /srv/new; chmod 4755 /srv/hard
	rm -rf /var/www && mkdir /var/www && echo fresh >/var/www/page
	touch /srv/done; while :; do sleep 1; done'
ok 'it has done its work' wait_until 20 "$C" exec work test -e /srv/done
run_ok 'diff' "$C" diff work
like 'added' "$out" $'A /srv/new\nA /srv/new/deep\nA /srv/new/deep/file\n'
like 'changed' "$out" $'C /etc\n'
like 'a file' "$out" 'C /etc/passwd'
like 'deleted' "$out" 'D /etc/group'
unlike 'nothing that every container has' "$out" '/etc/hosts|/proc|/dev'
running=$out
is 'json' "$("$C" diff --format json work | jq -c 'map(select(.path == "/etc/group"))')" '[{"kind":"D","path":"/etc/group"}]'

# What a container of the image is to look at: its own command.
look='cat /srv/hard; stat -c "%u %a %h" /srv/new /srv/hard; readlink /srv/soft; ! ls /etc/group 2>&1; ls -A /var/www; tail -1 /etc/passwd; echo $MORE'
run_ok 'commit' "$C" commit -a 'Jane Doe' -m 'as it was' -c "CMD $(jq -nc --arg s "$look" '["sh", "-ec", $s]')" -c 'ENV MORE="two words" X=1' -c 'EXPOSE 80' -c 'LABEL tier=b' work made:1
like 'prints the digest' "$out" '^sha256:[0-9a-f]{64}$'
run_ok 'it goes on' "$C" exec work true
run_ok 'inspect' "$C" image inspect made:1
is 'author, history' "$(jq -c '.[0].variants[0].config | [.author, .history[-1].comment, .history[-1].author]' <<<"$out")" '["Jane Doe","as it was","Jane Doe"]'
is 'command' "$(jq -c '.[0].variants[0].config.config.Cmd' <<<"$out")" "$(jq -nc --arg s "$look" '["sh", "-ec", $s]')"
is 'environment' "$(jq -c '.[0].variants[0].config.config.Env | map(select(test("^(MADE|MORE|X)=")))' <<<"$out")" '["MADE=here","MORE=two words","X=1"]'
is 'directory, labels' "$(jq -c '.[0].variants[0].config.config | [.WorkingDir, .Labels.team, .Labels.tier]' <<<"$out")" '["/srv","a","b"]'
run_ok 'a container of it' "$C" run --rm -c 1 made:1
like 'runs the new command' "$out" $'^text\n'
like 'owners, modes, links' "$out" $'\n33 755 [0-9]+\n0 4755 2\nhard\n'
like 'what was deleted is not there' "$out" 'No such file'
like 'a directory that was replaced' "$out" $'\npage\n'
like 'what was changed' "$out" $'\nmore\n'
like 'the environment' "$out" 'two words$'
run_rc 1 'a change that is none' "$C" commit -c 'FROM scratch' work bad:1
run_rc 1 'of nobody' "$C" commit nobody bad:1
run_rc 1 'a name that is none' "$C" commit work 'Bad Name'
is 'none of them left an image' "$("$C" image list -q | grep -c bad)" 0

# The same of one that does not run; the host does not read its disk, a machine of its own does.
run_ok 'stop' "$C" stop -t 0 work
run_ok 'diff' "$C" diff work
is 'says the same' "$out" "$running"
run_ok 'commit' "$C" commit work made:2
is 'the command is the container'"'"'s' "$("$C" image inspect made:2 | jq -c '.[0].variants[0].config.config.Cmd[0:2]')" '["sh","-c"]'
is 'logs are still there' "$("$C" logs work 2>&1 | wc -l)" 0
run_ok 'one more layer on top' "$C" run -d --name again -c 1 made:2 sh -c 'cat /srv/new/deep/file; rm /srv/hard; sleep 1000'
ok 'it did' wait_until 20 "$C" exec again sh -c '[ ! -e /srv/hard ]'
ok 'it has the files of its image' wait_until 20 bash -c '[ "$("$1" logs again)" = text ]' - "$C"
is 'diff is against its image' "$("$C" diff again)" $'C /srv\nD /srv/hard'
run_ok 'commit without a name' "$C" commit --no-pause again
like 'prints the digest' "$out" '^sha256:'
like 'is an event' "$("$C" events --since 10m --until "$(date +%s.%N)" -f event=commit)" 'container commit work \([^)]*imageRef=docker.io/library/made:1'
run_ok 'save' "$C" save -o "$T/made.tar" made:1
ok 'its configuration has the port' bash -c 'tar -xOf "$1" --wildcards "blobs/sha256/*" | grep -aq "ExposedPorts.*80/tcp"' - "$T/made.tar"
run_ok 'and load' "$C" load -i "$T/made.tar"
stop_system
done_testing
