#!/bin/sh
# Lays out what every package of strayd holds: deploy/package/stage.sh BINARY FOLDER ZSH, where ZSH is the distribution's folder of
# completions for zsh. Licences and what a package says of itself are its own matter.
set -eu

usage="usage: deploy/package/stage.sh BINARY FOLDER ZSH"
binary=${1:?$usage}
package=${2:?$usage}
zsh=${3:?$usage}
root=$(cd "$(dirname "$0")/../.." && pwd)
put() { install -D -m "$1" "$2" "$package/$3"; }

put 755 "$binary" usr/bin/strayd
put 644 "$root/systemd/strayd.service" usr/lib/systemd/system/strayd.service
put 644 "$root/systemd/strayd@.service" usr/lib/systemd/system/strayd@.service
put 644 "$root/systemd/strayd.default" etc/default/strayd
put 644 "$root/config/strayd.toml" etc/strayd/strayd.toml
documents=usr/share/doc/strayd
for document in README.md CHANGELOG.md; do put 644 "$root/$document" "$documents/$document"; done
cp -R "$root/docs/." "$package/$documents/"
put 644 "$root/systemd/credentials.conf" "$documents/examples/credentials.conf"

# One that stands in the folder where this was called has no slash.
case $binary in */*) ;; *) binary=./$binary ;; esac
"$binary" man --out "$package/usr/share/man/man1"
gzip -9n "$package/usr/share/man/man1/"*
complete() {
    mkdir -p "$package/$2"
    "$binary" completions "$1" >"$package/$2/$3"
}
complete bash usr/share/bash-completion/completions strayd
complete zsh "$zsh" _strayd
complete fish usr/share/fish/vendor_completions.d strayd.fish
chmod -R u+rwX,go+rX,go-w "$package"
