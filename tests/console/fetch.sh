#!/bin/sh
# Prints the folder of the npm packages of package.json, which it installs there when they aren't yet.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/strayd/playwright-$(cksum <"$here/package.json" | cut -d' ' -f1)
if [ ! -f "$cache/done" ]; then
    command -v npm >/dev/null || { echo "npm is not installed" >&2; exit 1; }
    mkdir -p "$cache"
    cp "$here/package.json" "$cache/"
    npm install --prefix "$cache" --no-audit --no-fund --ignore-scripts >&2
    touch "$cache/done"
fi
echo "$cache"
