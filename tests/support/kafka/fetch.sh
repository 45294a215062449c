#!/bin/sh
# Fetches the jars of pom.xml into the cache, once, and prints the folder that holds them.
#
# The folder appears whole or not at all: Maven fills a folder beside it, which is then renamed. A lock lets several
# test binaries ask at the same time. STRAYD_KAFKA_CACHE names another folder than the usual one.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml")
cache=${STRAYD_KAFKA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/strayd/kafka-$version}

# The cache is good when it was filled from this very pom.xml.
filled() { cmp -s "$here/pom.xml" "$cache/pom.xml"; }

if ! filled; then
    command -v mvn >/dev/null || { echo "mvn is not installed and $cache is not filled" >&2; exit 1; }
    mkdir -p "$(dirname "$cache")"
    exec 9>"$cache.lock"
    flock -w 600 9 || { echo "another fetch has held $cache.lock for 600 s" >&2; exit 1; }
    if ! filled; then
        fresh=$(mktemp -d "$cache.XXXXXX")
        trap 'rm -rf "$fresh"' EXIT
        timeout 600 mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies \
            -DincludeScope=runtime -DoutputDirectory="$fresh/libs" >&2 9>&-
        cp "$here/pom.xml" "$fresh/pom.xml"
        rm -rf "$cache"
        mv -T "$fresh" "$cache"
    fi
fi
echo "$cache/libs"
