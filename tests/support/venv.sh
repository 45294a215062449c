#!/bin/sh
# Makes a Python environment of FOLDER/requirements.txt in the cache, once, and prints the folder of its programs:
# tests/support/venv.sh FOLDER.
#
# It is good when the copy of requirements.txt inside is this one, and that is written last. A lock lets several test
# binaries ask at the same time.
set -eu

wanted=${1:?usage: tests/support/venv.sh FOLDER}/requirements.txt
cache=${XDG_CACHE_HOME:-$HOME/.cache}/strayd/$(basename "$1")

filled() { cmp -s "$wanted" "$cache/requirements.txt" && "$cache/bin/python" -c "" 2>/dev/null; }

if ! filled; then
    command -v python3 >/dev/null || { echo "python3 is not installed and $cache is not filled" >&2; exit 1; }
    mkdir -p "$(dirname "$cache")"
    exec 9>"$cache.lock"
    flock -w 600 9 || { echo "another fetch has held $cache.lock for 600 s" >&2; exit 1; }
    if ! filled; then
        # An environment can't be moved, so it is made in its place.
        rm -rf "$cache"
        python3 -m venv "$cache" >&2
        timeout 600 "$cache/bin/python" -m pip install --quiet --only-binary :all: -r "$wanted" >&2 9>&-
        cp "$wanted" "$cache/requirements.txt"
    fi
fi
echo "$cache/bin"
