#!/usr/bin/env bash
# `npm pack`, an install of the tarball in an empty folder, and the command that comes of it doing the main job:
# dist/ must work from under node_modules, where Node refuses to strip types.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$root"
npm pack --silent --ignore-scripts --pack-destination "$dir" >/dev/null
cd "$dir"
printf '{"private":true}\n' >package.json
npm install --no-audit --no-fund --loglevel=error ./narswarm-*.tgz
# Without the checkout's node_modules/.bin: the launcher must find its own Node.
PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -v node_modules | paste -sd:)
export PATH
./node_modules/.bin/narswarm version
./node_modules/.bin/narswarm demo
