#!/bin/sh
# Installs the npm packages of FOLDER/package.json in the cache, once, and prints where: tests/support/npm.sh FOLDER.
set -eu
wanted=${1:?usage: tests/support/npm.sh FOLDER}/package.json
cache=${XDG_CACHE_HOME:-$HOME/.cache}/strayd/npm-$(cksum <"$wanted" | cut -d' ' -f1)
if [ ! -f "$cache/done" ]; then
    command -v npm >/dev/null || { echo "npm is not installed" >&2; exit 1; }
    mkdir -p "$cache"
    cp "$wanted" "$cache/"
    npm install --prefix "$cache" --no-audit --no-fund --ignore-scripts >&2
    touch "$cache/done"
fi
echo "$cache"
