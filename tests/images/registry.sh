#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# registry.sh <dir> <port> [user password]: Debian's docker-registry on 127.0.0.1:<port>, data below <dir>, in the foreground; with a
# user, only for that one. Run it in a network namespace.
set -euo pipefail
dir=$1
port=$2
top=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$dir/data"
bin=$(command -v docker-registry || true)
if [ -z "$bin" ]; then
	"$top/third_party/fetch-deb.sh" docker-registry "$top/build/tools"
	bin=$top/build/tools/usr/bin/docker-registry
fi
cat >"$dir/config.yml" <<X
version: 0.1
log: {level: warn, accesslog: {disabled: false}}
storage: {filesystem: {rootdirectory: $dir/data}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$port", secret: test}
X
if [ $# -ge 4 ]; then
	perl -e 'print "$ARGV[0]:", crypt($ARGV[1], q($2b$05$saltsaltsaltsaltsaltsu)), "\n"' "$3" "$4" >"$dir/htpasswd"
	echo "auth: {htpasswd: {realm: test, path: $dir/htpasswd}}" >>"$dir/config.yml"
fi
exec "$bin" serve "$dir/config.yml"
