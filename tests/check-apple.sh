#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# check-apple.sh: holds tests/APPLE.md to the scripts: each name is in the script that is said to have it, each name a script has is on the page,
# and what is quoted of a test is in it. The scripts that PARITY.md names are there, and every link between our pages leads somewhere.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=0
page=tests/APPLE.md
complain()
{
	echo "$1"
	bad=$((bad + 1))
}

# suite | test | `script` `script`: a word on it
names=0
while IFS='|' read -r _ _ name where _; do
	name=${name// /}
	[[ $where =~ ^\ (later|not\ here):\ .{5} ]] && continue
	scripts=$(grep -o '`[^`]*`' <<<"$where" | tr -d '`') || true
	[ -n "$scripts" ] || complain "$page: $name has no script, and no reason"
	for s in $scripts; do
		names=$((names + 1))
		grep -qsw -- "$name" "tests/e2e/$s.t" || complain "$page: tests/e2e/$s.t has no $name"
	done
done < <(sed '/^## Defects/,$d' "$page" | grep '^| *[A-Z]*[A-Za-z]* | [a-z]' | grep -v '^| suite')
[ $names -gt 150 ] || complain "$page: only $names names were read"

while read -r name; do
	grep -q "| $name |" "$page" || complain "$page: $name is not on it, and a script has it"
done < <(grep -ohE '\btest[A-Z][A-Za-z0-9]+\b[^…]' tests/e2e/*.t | grep -oE '^[A-Za-z0-9]+' | sort -u)

# `path` "words" and "words"
quotes=0
while read -r line; do
	file=
	while read -r word; do
		case $word in
		'`'*) file=${word//\`/} ;;
		*)
			[ -n "$file" ] || continue
			quotes=$((quotes + 1))
			grep -qsF -- "${word//\"/}" "tests/$file" || complain "$page: tests/$file has no $word"
			;;
		esac
	done < <(grep -oE '`(e2e|unit)/[^`]*`|"[^"]*"' <<<"$line")
done < <(sed -n '/^## Defects/,$p' "$page" | grep '^| [0-9]')
[ $quotes -gt 10 ] || complain "$page: only $quotes quotations were read"

links=0
while IFS=: read -r file link; do
	case $link in *://*) continue ;; esac
	links=$((links + 1))
	[ -e "$(dirname "$file")/${link%%#*}" ] || complain "$file: nothing is at $link"
done < <(grep -oHE '\]\([^) ]+\)' ./*.md tests/*.md | sed -E 's/\]\((.*)\)$/\1/')
[ $links -gt 0 ] || complain 'no links were read'

# PARITY.md: the scripts that show how something behaves
while read -r s; do
	[ -e "tests/e2e/$s.t" ] || complain "PARITY.md: no tests/e2e/$s.t"
done < <(sed -n '/^## Behaviour/,$p' PARITY.md | grep '^|' | sed 1,2d | sed -E 's/.*\| ([^|]*) \|$/\1/')

[ $bad = 0 ] && echo "check-apple: $names tests of Apple's in our scripts, $quotes quotations, $links links"
[ $bad = 0 ]
