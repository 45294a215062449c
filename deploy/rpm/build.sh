#!/bin/sh
# Makes an RPM package of a built strayd: deploy/rpm/build.sh BINARY FOLDER [VERSION]. Prints the package's path.
#
# The package needs the libraries that this very binary was linked with, as rpmbuild finds them.
# `make rpm` builds the binary first. RPM_PAYLOAD names another compression, as in w1.gzdio.
set -eu

binary=${1:?usage: deploy/rpm/build.sh BINARY FOLDER [VERSION]}
out=${2:?usage: deploy/rpm/build.sh BINARY FOLDER [VERSION]}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
version=${3:-$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)}
command -v rpmbuild >/dev/null || { echo "rpmbuild is not installed: apt-get install rpm, or dnf install rpm-build" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
package=$work/package
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
for license in LICENSE-MIT LICENSE-APACHE; do put 644 "$root/$license" "usr/share/licenses/strayd/$license"; done

# One that stands in the folder where this was called has no slash.
case $binary in */*) ;; *) binary=./$binary ;; esac
"$binary" man --out "$package/usr/share/man/man1"
gzip -9n "$package/usr/share/man/man1/"*
complete() {
    mkdir -p "$package/$2"
    "$binary" completions "$1" >"$package/$2/$3"
}
complete bash usr/share/bash-completion/completions strayd
complete zsh usr/share/zsh/site-functions _strayd
complete fish usr/share/fish/vendor_completions.d strayd.fish
chmod -R u+rwX,go+rX,go-w "$package"

# Nothing is compiled or stripped here, and the folder is the caller's: rpmbuild only packs.
rpmbuild -bb --quiet --buildroot "$work/root" \
    --define "_topdir $work" --define "_dbpath $work/db" --define "_rpmdir $work/out" \
    --define "_binary_payload ${RPM_PAYLOAD:-w19.zstdio}" --define "_build_id_links none" \
    --define "source_date_epoch_from_changelog 0" --define "__os_install_post %{nil}" --define "debug_package %{nil}" \
    --define "strayd_version $version" --define "strayd_files $package" "$here/strayd.spec" >&2

mkdir -p "$out"
for rpm in "$work"/out/*/*.rpm; do
    cp "$rpm" "$out/"
    echo "$out/$(basename "$rpm")"
done
