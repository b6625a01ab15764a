#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# source.sh <package> <dir>: unpacks the distribution's source package into <dir>, a directory <package>-<version>.
#
# The distribution's own archives are asked, by the machine's own apt configuration (one-line and deb822 entries) with `deb` turned into
# `deb-src` in a private configuration: nothing in /etc/apt or /var/lib/apt changes. apt checks the Release file's signature and from
# there every hash down to the files of the package. Prints the unpacked directory on standard output, progress on standard error.
set -euo pipefail
pkg=$1
dir=$2
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
apt=$dir/apt
mkdir -p "$apt"/{lists/partial,archives/partial,sources.d}

# The sites that offer the package's binaries; entries of other sites are left out.
probe=${SOURCE_PROBE:-$pkg}
sites=$(apt-cache madison "$probe" | awk -F'|' '{split($3, f, " "); sub("/$", "", f[1]); print f[1]}' | sort -u | tr '\n' ' ')
if [ -z "$sites" ]; then
	echo "source.sh: no package list offers $probe: run apt-get update first" >&2
	exit 1
fi

rm -f "$apt"/sources.d/* "$apt/sources.list"
: >"$apt/sources.list"
eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
shopt -s nullglob
for f in "$list" "$parts"/*.list; do
	[ -r "$f" ] || continue
	awk -v sites="$sites" '
		BEGIN { n = split(sites, s, " "); for (i = 1; i <= n; i++) ok[s[i]] = 1 }
		$1 == "deb" {
			for (i = 2; i <= NF; i++) { u = $i; sub("/$", "", u); if (u in ok) { sub("deb", "deb-src"); print; next } }
		}' "$f" >>"$apt/sources.list"
done
for f in "$parts"/*.sources; do
	# A stanza is a paragraph; comments go, since a comment inside a stanza would hide the rest of a joined line.
	sed '/^#/d' "$f" | awk -v sites="$sites" '
		BEGIN { RS = ""; FS = "\n"; n = split(sites, s, " "); for (i = 1; i <= n; i++) ok[s[i]] = 1 }
		{
			keep = 0; on = 1; uris = 0
			for (i = 1; i <= NF; i++) {
				if ($i ~ /^[^ \t]/) uris = tolower($i) ~ /^uris:/
				if (tolower($i) ~ /^enabled:[ \t]*(no|false|0|off)/) on = 0
				if (uris) { m = split($i, w, /[ \t]+/); for (j = 1; j <= m; j++) { sub("/$", "", w[j]); if (w[j] in ok) keep = 1 } }
			}
			if (!keep || !on) next
			for (i = 1; i <= NF; i++) print (tolower($i) ~ /^types:/ ? "Types: deb-src" : $i)
			print ""
		}' >"$apt/sources.d/$(basename "$f")"
done

opts=(-q -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts="$apt/sources.d"
	-o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt" -o Dir::Cache::archives="$apt/archives"
	-o APT::Sandbox::User=root -o APT::Get::List-Cleanup=false -o Acquire::Languages=none -o Acquire::Retries=3
	-o APT::Update::Post-Invoke-Success=true -o APT::Get::AllowUnauthenticated=false)
apt-get "${opts[@]}" update >&2
rm -rf "$dir/$pkg"-*/ "$dir/src"
mkdir "$dir/src"
(cd "$dir/src" && apt-get "${opts[@]}" source "$pkg" >&2)
tree=$(find "$dir/src" -mindepth 1 -maxdepth 1 -type d | head -1)
[ -n "$tree" ] || { echo "source.sh: $pkg unpacked to nothing" >&2; exit 1; }
echo "$tree"
