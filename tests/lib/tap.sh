# SPDX-License-Identifier: Apache-2.0
# tap.sh - the Test Anything Protocol for shell scripts. Sourced. A script ends with done_testing.
#
#   run CMD…            runs with a time limit (T_LIMIT seconds); leaves rc, out, err
#   run_ok NAME CMD…    run, and assert that rc is 0         run_rc N NAME CMD…   the same with rc N
#   is NAME GOT WANT    like NAME GOT REGEX   unlike NAME GOT REGEX   ok NAME CMD…   skip NAME REASON
# Regexes are bash's (extended). What a failed assertion saw goes to standard error as comments.

. "$(dirname "${BASH_SOURCE[0]}")/evidence.sh"
T_COUNT=0
T_FAILED=0
T_LIMIT=${T_LIMIT:-$([ -n "${LAB:-}" ] && echo 180 || echo 100)} # below the 120 s after which a guest that hangs is killed: then it can be looked at
T_OUT=$(mktemp /tmp/tap.XXXXXX)
T_ERR=$(mktemp /tmp/tap.XXXXXX)
rc=0 out='' err=''

diag()
{
	printf '%s\n' "$*" | sed 's/^/# /' >&2
}

t_result() # ok? name
{
	T_COUNT=$((T_COUNT + 1))
	if [ "$1" = 0 ]; then
		echo "ok $T_COUNT - $2"
	else
		T_FAILED=$((T_FAILED + 1))
		echo "not ok $T_COUNT - $2"
	fi
	return "$1"
}

run()
{
	local began=$SECONDS
	rc=0
	timeout --foreground -k 5 "$T_LIMIT" "$@" >"$T_OUT" 2>"$T_ERR" </dev/null || rc=$?
	t_take $((SECONDS - began))
}

# As run, with standard input as it is.
run_stdin()
{
	local began=$SECONDS
	rc=0
	timeout --foreground -k 5 "$T_LIMIT" "$@" >"$T_OUT" 2>"$T_ERR" || rc=$?
	t_take $((SECONDS - began))
}

t_take() # seconds it took
{
	out=$(tr -d '\0' <"$T_OUT")
	err=$(tr -d '\0' <"$T_ERR")
	# 137: it did not heed SIGTERM either.
	if [[ $rc = 124 || $rc = 137 && $1 -ge $T_LIMIT ]]; then
		err="$err
(no end after $T_LIMIT s)"
		t_evidence
	fi
}

t_said()
{
	diag "exit status $rc"
	[ -z "$out" ] || diag "stdout: ${out:0:2000}"
	[ -z "$err" ] || diag "stderr: ${err:0:2000}"
}

run_rc() # want name cmd…
{
	local want=$1 name=$2
	shift 2
	run "$@"
	if [ "$rc" = "$want" ]; then
		t_result 0 "$name"
	else
		t_result 1 "$name"
		diag "wanted exit status $want of: $*"
		t_said
		return 1
	fi
}

run_ok()
{
	run_rc 0 "$@"
}

ok() # name cmd…
{
	local name=$1
	shift
	if "$@"; then
		t_result 0 "$name"
	else
		t_result 1 "$name"
		diag "failed: $*"
		return 1
	fi
}

is() # name got want
{
	if [ "$2" = "$3" ]; then
		t_result 0 "$1"
	else
		t_result 1 "$1"
		diag "got:    ${2:0:1500}"
		diag "wanted: ${3:0:1500}"
		return 1
	fi
}

like() # name got regex
{
	if [[ $2 =~ $3 ]]; then
		t_result 0 "$1"
	else
		t_result 1 "$1"
		diag "got:         ${2:0:2000}"
		diag "wanted like: $3"
		return 1
	fi
}

unlike() # name got regex
{
	if [[ $2 =~ $3 ]]; then
		t_result 1 "$1"
		diag "got:             ${2:0:2000}"
		diag "wanted not like: $3"
		return 1
	else
		t_result 0 "$1"
	fi
}

skip() # name reason
{
	T_COUNT=$((T_COUNT + 1))
	echo "ok $T_COUNT - $1 # SKIP $2"
}

skip_all() # reason
{
	echo "1..0 # SKIP $1"
	exit 0
}

bail() # what every further assertion would need
{
	t_result 1 "$1" || true
	t_said
	done_testing
	exit 1
}

# Polls, boundedly: for what the product has no call to wait for (another process's log, a closed port). The bound is for what never comes and
# measures nothing: a host that has much else to do takes ten times as long, so it is a minute at the least.
wait_until() # seconds cmd…
{
	local end=$((SECONDS + ($1 > 60 ? $1 : 60)))
	shift
	while ! "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

done_testing()
{
	echo "1..$T_COUNT"
	[ $T_FAILED = 0 ]
}
