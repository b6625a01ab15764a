#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Attack class K: pulls, with a password at hand, from a registry that misbehaves in every way of tests/lib/hostile_registry.pl. What is said,
# in which time and memory, who gets to see the password, and what is left. No guest runs.
. "$(dirname "$0")/../lib/system.sh"
mkdir -p "$T/state" "$T/out"
make_certificate
free_port
port=$T_PORT
free_port
other=$T_PORT
free_port
tls=$T_PORT
perl "$TOP/tests/lib/hostile_registry.pl" "$T/state" $port $other 2>"$T/hostile.err" &
socat OPENSSL-LISTEN:$tls,bind=127.0.0.1,cert="$T/cert.pem",key="$T/key.pem",verify=0,fork,reuseaddr TCP:127.0.0.1:$port 2>/dev/null &
wait_until 20 curl -fs "http://127.0.0.1:$port/v2/" || bail "the hostile registry runs: $(cat "$T/hostile.err")"
wait_until 20 curl -fsk "https://127.0.0.1:$tls/v2/" || bail 'so does its TLS front'
jq -n --arg ca "$T/cert.pem" '{registry: {ca: $ca, timeout: 3}, log: {level: "debug"}}' >"$CONTAINER_CONFIG"
start_system
images=$(service_pid container.images)
export CONTAINER_REGISTRY_USER=tester CONTAINER_REGISTRY_TOKEN=s3cret-word

# mode ; exit status ; what is said ; seconds at most
cases()
{
	cat <<'X'
good;0;;20
barrier;0;;40
wrongbyte;1;digest mismatch;20
wrongmanifest;1;digest mismatch;20
shortbody;1;size mismatch: 5 bytes;20
longbody;1;more than the [0-9]+ bytes announced;20
emptybody;1;size mismatch: 0 bytes;20
endlessblob;1;more than the [0-9]+ bytes announced;20
endlessmanifest;1;answer is larger than 4 MiB;20
endlessconfig;1;more than the [0-9]+ bytes announced;20
endlessheaders;1;[Hh]eader;40
endlessline;1;[Hh]eader;40
endless100;1;.;40
hugelength;1;bytes remaining;40
lengthwrap;1;size mismatch;40
twolengths;1;size mismatch;40
chunklie;1;[Cc]hunk;40
chunkshort;1;.;40
chunkjunk;1;chunk;40
nohttp;1;.;40
silence;1;in time;60
stall;1;in time;60
loris;1;in time;60
lorishead;1;in time;60
cut;0;;40
cutoften;1;bytes remaining;40
rangeignored;0;;40
rangelies;1;starts at another byte;40
rangejunk;1;starts at another byte;40
range416;0;;40
later;0;;40
laterdate;0;;40
never;1;refuses more requests for the next 3600 s \(429\): come back tomorrow;20
once500;0;;60
always500;1;answered 500;40
talk;1;read  \[31m this long;20
warning;1;The registry says: no  \[31msoup;20
redirloop;1;more than 5 redirects;20
redirfile;1;not plain http or https;20
redirodd;1;redirected to an invalid URL;20
redirnowhere;1;redirected to nowhere;20
redirauth;0;;20
rediruser;1;redirected to an invalid URL;20
nosy;1;kind of authentication;20
downgrade;1;redirect from https to http refused;20
realmdown;1;token service: refused to go from https to http;20
realmodd;1;token service;20
auth;0;;20
expires;0;;20
tokenendless;1;answer is larger than 1 MiB;20
tokenhuge;1;answer is larger than 1 MiB;20
tokenlines;1;no usable token;20
tokennever;1;refuses these credentials;20
kinds;1;an index and a manifest at once;20
kind2;1;has the members of a manifest;20
schema1;1;schema 1;20
artifact;1;not a container image: its configuration is of type "application/x-helm-chart";20
manylayers;1;at most [0-9]+;20
manyentries;1;larger than 4 MiB|at most [0-9]+;20
itself;1;digest mismatch;20
hugemanifest;1;answer is larger than 4 MiB;20
deepjson;1;manifest;20
html;1;manifest;20
foreign;1;foreign layers;20
urls;0;;20
sizebig;1;size;20
sizeneg;1;size;20
configbig;1;size|larger than 8 MiB;20
digestpath;1;digest;20
digest512;1;digest;20
digestcase;1;digest;20
missing;1;not found;20
X
}

pull() # mode
{
	local at=$port scheme=auto t0=${EPOCHREALTIME/./} rc=0
	case $1 in downgrade | realmdown) at=$tls scheme=https ;; esac
	CONTAINER_REGISTRY_HOST=127.0.0.1:$at timeout -k 5 90 "$C" --debug pull --scheme $scheme "127.0.0.1:$at/$1/img$([ $1 = wrongmanifest ] && echo "@sha256:$ZEROS" || echo :1)" \
		>"$T/out/$1.out" 2>"$T/out/$1.err" </dev/null || rc=$?
	echo "$rc $(((${EPOCHREALTIME/./} - t0) / 1000000))" >"$T/out/$1.rc"
}
ZEROS=$(printf %064d 0)
# Many at a time: most of them wait.
for mode in $(perl "$TOP/tests/lib/hostile_registry.pl" list); do
	while [ "$(jobs -rp | wc -l)" -ge 12 ]; do wait -n; done
	pull "$mode" &
done
while [ "$(jobs -rp | wc -l)" -gt 2 ]; do wait -n; done
# What was taken although the registry tried.
want=$(cases | while IFS=';' read -r mode code _; do [ "$code" != 0 ] || echo "$mode"; done | sort)
n=0
while IFS=';' read -r mode code said most; do
	n=$((n + 1))
	read -r rc seconds <"$T/out/$mode.rc" || rc=none seconds=0
	err=$(cat "$T/out/$mode.err")
	out=$(cat "$T/out/$mode.out")
	is "K: $mode: exit status" "$rc" "$code" || t_said
	like "K: $mode: what is said" "$err" "$said"
	ok "K: $mode: in time ($seconds s)" test "$seconds" -le "$most"
	unlike "K: $mode: no control characters" "$err" $'[\001-\010\013-\037\177]'
	ok "K: $mode: said briefly" test ${#err} -lt 8000
done < <(cases)
is 'every mode has a case' "$n" "$(perl "$TOP/tests/lib/hostile_registry.pl" list | wc -w)"

# Who was told what.
log=$T/state/log
ok 'the registry wrote a log' test -s "$log"
is 'K: no other host ever heard who we are' "$(grep '^other' "$log" | cut -f2 | sort -u)" ''
ok 'K: though other hosts were asked' grep -q '^other GET /v2/redirauth/img/blobs/' "$log"
is 'K: urls in a manifest are not followed' "$(grep -c '^other GET /layer' "$log")" 0
is 'K: nor is the token service that another host names' "$(grep '^other' "$log" | grep -c /token)" 0
is 'K: one token does for all of a pull' "$(grep -c '^registry GET /token/auth?' "$log")" 1
is 'K: one that expired is renewed once' "$(grep -c '^registry GET /token/expires?' "$log")" 2
is 'K: a token service that endlessly talks is asked once' "$(grep -c '^registry GET /token/tokenendless?' "$log")" 1
is 'K: a broken transfer goes on where it broke' "$(grep '/v2/cut/' "$log" | cut -f3 | grep -c 'bytes=[1-9]')" 2
is 'K: who should come much later does not come again' "$(grep -c '/v2/never/' "$log")" 1
is 'K: 429 was heeded twice' "$(grep -c '/v2/later/img/manifests' "$log")" 3
is 'K: an error is tried four times' "$(grep -c '/v2/always500/img/manifests' "$log")" 4
for word in s3cret-word "$(printf tester:s3cret-word | base64)" tok-VERY-s3cret; do
	is "K: $word is in no log, nor on disk" "$(grep -rlF -- "$word" "$T/out" "$CONTAINER_APP_ROOT" "$CONTAINER_RUN_ROOT" "$CONTAINER_LOG_ROOT")" ''
done
ok 'K: and the logs are detailed' grep -rq "GET .*/v2/redirauth/img/manifests/1: 200" "$CONTAINER_LOG_ROOT"

# What is left.
is 'K: only what was whole has a name' "$("$C" image list -q | sed 's,^[^/]*/\([^/]*\)/.*,\1,' | sort)" "$want"
is 'K: the same process lives' "$(service_pid container.images)" "$images"
kib=$(awk '$1 == "VmHWM:" {print $2}' "/proc/$images/status")
ok "K: in less than 96 MiB, with ten pulls at a time ($kib KiB)" test "$kib" -lt 98304
is 'K: no temporary file' "$(ls "$CONTAINER_APP_ROOT/content/ingest")" ''
is 'K: every blob is what its name says' "$(cd "$CONTAINER_APP_ROOT/content/blobs/sha256" && sha256sum * | awk '$1 != $2')" ''
"$C" image delete --all >/dev/null 2>&1
run_ok 'prune' "$C" image prune
is 'K: nothing stays' "$(ls "$CONTAINER_APP_ROOT/content/blobs/sha256" "$CONTAINER_APP_ROOT/layers" "$CONTAINER_APP_ROOT/rootfs" | grep -c '^[0-9a-f]\{64\}$')" 0
run_ok 'K: and an honest pull works as ever' "$C" pull "127.0.0.1:$port/good/img:1"

# "barrier" answers no layer before all three are asked for: it served those that download several at a time, above.
barrier()
{
	"$C" image delete --all >/dev/null 2>&1
	rm -f "$T/state"/n-barrier-*
	run "$C" pull --max-concurrent-downloads "$1" "127.0.0.1:$port/barrier/img:1"
	asked=$(ls "$T/state" | grep -c '^n-barrier-')
}
for n in 1 2; do
	barrier $n
	is "$n at a time do not get by" "$rc $asked" "1 $n" || t_said
done
barrier 3
is 'three do' "$rc $asked" '0 3' || t_said

stop_system
done_testing
