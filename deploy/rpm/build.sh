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
"$root/deploy/package/stage.sh" "$binary" "$package" usr/share/zsh/site-functions
for license in LICENSE-MIT LICENSE-APACHE; do install -D -m 644 "$root/$license" "$package/usr/share/licenses/strayd/$license"; done

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
