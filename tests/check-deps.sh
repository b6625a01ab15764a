#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# check-deps.sh: holds the arrows of ARCHITECTURE.md: cmd → {vmm, oci, net} → core; the three in the middle never include each other,
# vmm/guest includes only itself, vmm/agent.h and core.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=0
n=0
allow()
{
	case $1 in
	main.c) echo cmd ;;
	cmd/*) echo cmd vmm oci net core ;;
	vmm/guest/*) echo vmm/guest vmm/agent.h core ;;
	vmm/*) echo vmm core ;;
	oci/*) echo oci core ;;
	net/*) echo net core ;;
	core/*) echo core ;;
	esac
}
while read -r f; do
	n=$((n + 1))
	while read -r inc; do
		ok=0
		for a in $(allow "$f"); do
			case $inc in "$a" | "$a"/*) ok=1 ;; esac
		done
		case $f:$inc in
		vmm/guest/*) ;;
		vmm/*:vmm/guest/*) ok=0 ;;
		cmd/*:vmm/guest/*) ok=0 ;;
		esac
		if [ $ok = 0 ]; then
			echo "$f includes \"$inc\", which ARCHITECTURE.md does not allow"
			bad=$((bad + 1))
		fi
	done < <(sed -n 's/^[ \t]*#[ \t]*include[ \t]*"\([^"]*\)".*/\1/p' "$f")
done < <(find main.c cmd core vmm oci net -name '*.[ch]' | LC_ALL=C sort)
[ $bad = 0 ] && echo "check-deps: $n files, every include follows the arrows"
[ $bad = 0 ]
