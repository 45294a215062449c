#!/bin/sh
# Makes a small Debian with systemd in the cache, once, and prints its folder: the machine of tests/ops_systemd.rs.
#
# It is of this system's release, so that the strayd that was built here runs there. The folder appears whole or not at all.
# STRAYD_SYSTEMD_CACHE names another folder than the usual one.
set -eu

cache=${STRAYD_SYSTEMD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/strayd/systemd-root}
# The libraries that the package depends on, the kill of ExecReload, and what systemd needs to boot.
packages=systemd,systemd-sysv,dbus,procps,libopenblas0,libssl3,zlib1g,ca-certificates

[ "$(uname -s)" = Linux ] || { echo "this is not Linux" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || { echo "only root can boot a container" >&2; exit 1; }
for tool in systemd-nspawn script; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done
# shellcheck source=/dev/null
. /etc/os-release
[ "${ID:-}" = debian ] || { echo "this is not Debian, so a Debian inside can't run what was built here" >&2; exit 1; }

# What is there is good when it was made of these packages, which is written last.
filled() { [ "$(cat "$cache/etc/strayd-packages" 2>/dev/null)" = "$packages" ]; }

if ! filled; then
    command -v mmdebstrap >/dev/null || { echo "mmdebstrap is not installed and $cache is not filled" >&2; exit 1; }
    mkdir -p "$(dirname "$cache")"
    exec 9>"$cache.lock"
    flock -w 600 9 || { echo "another fetch has held $cache.lock for 600 s" >&2; exit 1; }
    if ! filled; then
        rm -rf "$cache.part" "$cache"
        timeout 600 mmdebstrap --quiet --variant=minbase --include="$packages" "$VERSION_CODENAME" "$cache.part" >&2 9>&-
        echo "$packages" >"$cache.part/etc/strayd-packages"
        mv "$cache.part" "$cache"
    fi
fi
echo "$cache"
