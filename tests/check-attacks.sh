#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# check-attacks.sh [PAGE]: holds the tables of attack classes in tests/README.md to the tests. Each test, script, target and case that is named
# is there, and is run; each case has a test that is named, of A to F and S one that bears a letter; each test that bears a letter is in its
# class's table.
set -euo pipefail
cd "$(dirname "$0")/.."
page=${1:-tests/README.md}
bad=0 rows=0 names=0
declare -A runs said # program/test: it is run; letter/program/test: the page has it
complain()
{
	echo "$page: $1"
	bad=$((bad + 1))
}

# All that are defined are run: the compiler refuses a static function that nobody uses.
while IFS=: read -r file name; do
	file=${file##*/test_}
	runs[${file%.c}/$name]=1
done < <(grep -oHE '^static void [A-Za-z0-9_]+\(void \*\*' tests/unit/test_*.c | sed -E 's/:static void ([A-Za-z0-9_]+).*/:\1/')
[ ${#runs[@]} -gt 300 ] || complain "only ${#runs[@]} tests were found in tests/unit"

letters() # name: what it bears, without a sign that it bears any: nothing
{
	[[ $1 =~ ^test_([A-S]+|k)_ ]] && echo "${BASH_REMATCH[1]^^}"
}
unit() # letter program name: one test, or those that a pattern fits
{
	local key hit=0
	for key in "${!runs[@]}"; do
		# shellcheck disable=SC2053
		[[ $key == "$2"/$3 ]] || continue
		hit=1
		said[$1/$key]=1
	done
	[ $hit = 1 ] || complain "$1: tests/unit/test_$2.c runs no $3"
	case $1/$2 in
	[A-FS]/cli_publish) ;;
	[A-FS]/*) [ -n "$(letters "$3")" ] || complain "$1: $3 of $2 bears no letter" ;;
	esac
}
script() # letter number-name|number
{
	local found
	found=$(compgen -G "tests/e2e/$2.t" || compgen -G "tests/e2e/$2-*.t") || true
	case $2 in
	[0-9][0-9]) [ -n "$found" ] && return ;;
	*) [ -f "tests/e2e/$2.t" ] && return ;;
	esac
	complain "$1: no tests/e2e/$2.t"
}
# One way of several in a cell: "program: test, test (a word)", "program", "e2e script: a word, e2e script", "fuzz target a word", "guest: case, case"
part() # letter text
{
	local text=${2%% (*} item s
	names=$((names + 1))
	case $text in
	'fuzz '*)
		item=${text#fuzz }
		[ -f "tests/fuzz/fuzz_${item%% *}.c" ] || complain "$1: no target ${item%% *}"
		;;
	'e2e '*)
		while read -r s; do
			script "$1" "$s"
		done < <(grep -oE '\be2e [0-9][0-9][a-z0-9-]*' <<<"$text" | cut -d' ' -f2)
		;;
	'guest: '*)
		while read -r item; do
			grep -qsF -- "\"$item\"" tests/guest/*.[ch] || complain "$1: tests/guest has no case \"$item\""
		done < <(sed 's/, /\n/g' <<<"${text#guest: }")
		;;
	*': '*)
		while read -r item; do
			[ "$item" = all ] && item='*'
			unit "$1" "${text%%: *}" "$item"
		done < <(sed 's/, /\n/g' <<<"${text#*: }")
		;;
	*) unit "$1" "$text" '*' ;;
	esac
}

class=
while IFS= read -r line; do
	if [[ $line =~ ^###\ ([A-S]):.*$ ]]; then
		class=${BASH_REMATCH[1]}
		for t in $(grep -oE '\(fuzz [a-z_, ]+' <<<"$line" | sed 's/(fuzz//; s/,//g'); do
			[ -f "tests/fuzz/fuzz_$t.c" ] || complain "$class: no target $t"
		done
	elif [[ $line == '## '* ]]; then
		class=
	elif [[ -n $class && $line =~ ^\|\ (.*[^ ])\ *\|\ (.*)\ \|$ && ${BASH_REMATCH[1]} != case ]]; then
		rows=$((rows + 1))
		what=${BASH_REMATCH[1]} cell=${BASH_REMATCH[2]}
		[ -n "${cell// /}" ] || complain "$class: no test of: $what"
		while read -r p; do
			part "$class" "$p"
		done < <(sed 's/ · /\n/g' <<<"$cell")
	fi
done <"$page"
[ $rows -gt 100 ] || complain "only $rows cases were read"
for l in A B C D E F S; do
	grep -q "^### $l:" "$page" || complain "no class $l"
done

# The other way: a test that bears a letter, or several, is in the table of each.
lettered=0
for key in "${!runs[@]}"; do
	own=$(letters "${key#*/}") || continue
	lettered=$((lettered + 1))
	[ "${key#*/}" = test_ABCDEF_suite ] && continue # every case of it is one of the guest's
	for ((i = 0; i < ${#own}; i++)); do
		[ -n "${said[${own:i:1}/$key]:-}" ] || complain "${own:i:1}: ${key#*/} of tests/unit/test_${key%/*}.c is in no row"
	done
done
[ $lettered -gt 100 ] || complain "only $lettered tests bear a letter"

[ $bad = 0 ] && echo "check-attacks: $rows cases, $names ways to show them, $lettered tests that bear a letter"
[ $bad = 0 ]
