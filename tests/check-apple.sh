#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# check-apple.sh: holds tests/APPLE.md to the scripts: each name is in the script that is said to have it, each name a script has is on the page,
# and what is quoted of a test is in it. PARITY.md has each command and flag of apple-cli.tsv, and the scripts that it names are there. Every link
# between our pages leads somewhere.
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

# PARITY.md beside apple-cli.tsv: nothing of Apple's is missing, what is called ours is, and nothing else is said to be Apple's. A line with — that
# is later, or not on Linux, covers all that is below the command. Groups are on the page when what is below them is.
pairs=0
while IFS= read -r what; do
	case $what in
	[0-9]*) pairs=$what ;;
	*) complain "PARITY.md: $what" ;;
	esac
done < <(awk -F'[|]' '
	function covered(cmd, state, c) {
		for (c = cmd; c != ""; c = c ~ / / ? substr(c, 1, match(c, / [^ ]*$/) - 1) : "")
			if (c in whole)
				return 1
		return 0
	}
	# whether each name of the first is one of the second
	function within(apple, page, n, i, a) {
		sub(/ <.*/, "", page)
		n = split(apple, a, ", ")
		for (i = 1; i <= n; i++)
			if (index(", " page ", ", ", " a[i] ", ") == 0)
				return 0
		return 1
	}
	FILENAME == "PARITY.md" && /^`--debug`.* are the same with every command/ {
		s = $0; sub(/ are the same.*/, "", s); n = split(s, w, "`")
		for (i = 2; i <= n; i += 2) common[w[i]] = 1
	}
	FILENAME == "PARITY.md" { n = split($0, w, "`"); for (i = 2; i <= n; i += 2) if (sub(/^container /, "", w[i]) && sub(/ <.*/, "", w[i])) prose[w[i]] = 1 }
	FILENAME == "PARITY.md" && $2 ~ /^ `/ && NF == 5 {
		n = split($2, c, "`"); m = split($3, f, "`"); state = $4; gsub(/^ +| +$/, "", state)
		for (i = 2; i <= n; i += 2) {
			if (state !~ /^ours/) { line[c[i]] = 1; for (g = c[i]; sub(/ [^ ]*$/, "", g);) group[g] = 1 }
			if ($3 ~ /—/ && state ~ /^(later|not on Linux)/) whole[c[i]] = 1
			if ($3 !~ /[—…]/) for (j = 2; j <= m; j += 2) { page[c[i], ++flags[c[i]]] = f[j]; said[c[i], f[j]] = state }
		}
	}
	FILENAME != "PARITY.md" && !/^#/ {
		split($0, p, "\t"); cmd = p[1]; flag = p[2]; pairs++
		if (flag == "—") {
			if (!(cmd in line) && !(cmd in group) && !(cmd in prose) && !covered(cmd)) print "no " cmd
			next
		}
		if (flag in common) next
		found = covered(cmd)
		for (i = 1; i <= flags[cmd]; i++)
			if (within(flag, page[cmd, i])) {
				theirs[cmd, page[cmd, i]] = found = 1
				if (said[cmd, page[cmd, i]] ~ /^ours/) print cmd " " flag " is said to be ours"
			}
		if (!found) print "no " cmd " " flag
	}
	END {
		for (k in said) {
			split(k, p, SUBSEP)
			if (said[k] !~ /^ours/ && !(k in theirs)) print p[1] " " p[2] " is none of Apple\047s"
		}
		print pairs
	}' PARITY.md tests/apple-cli.tsv)
[ "$pairs" -gt 400 ] || complain "apple-cli.tsv: only $pairs lines were read"

[ $bad = 0 ] && echo "check-apple: $names tests of Apple's in our scripts, $quotes quotations, $links links, $pairs commands and flags on PARITY.md"
[ $bad = 0 ]
