#!/bin/sh
# Makes a Debian package of a built strayd: deploy/debian/build.sh BINARY FOLDER [VERSION]. Prints the package's path.
#
# The package depends on the libraries that this very binary was linked with, as dpkg-shlibdeps finds them.
# `make deb` builds the binary first. DEB_COMPRESSION names another compression than xz.
set -eu

binary=${1:?usage: deploy/debian/build.sh BINARY FOLDER [VERSION]}
out=${2:?usage: deploy/debian/build.sh BINARY FOLDER [VERSION]}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
version=${3:-$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)}
for tool in dpkg-deb dpkg-shlibdeps; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed: apt-get install dpkg-dev" >&2; exit 1; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
package=$work/package
"$root/deploy/package/stage.sh" "$binary" "$package" usr/share/zsh/vendor-completions
cat "$root/LICENSE-MIT" "$root/LICENSE-APACHE" >"$package/usr/share/doc/strayd/copyright"

# dpkg-shlibdeps wants to stand in a source package.
mkdir "$work/debian"
printf 'Source: strayd\n\nPackage: strayd\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O "$package/usr/bin/strayd" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || { echo "dpkg-shlibdeps finds no libraries of $binary" >&2; exit 1; }

architecture=$(dpkg --print-architecture)
mkdir "$package/DEBIAN"
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@DEPENDS@/$depends/" \
    -e "s/@SIZE@/$(du -sk "$package" | cut -f 1)/" "$here/control" >"$package/DEBIAN/control"
for script in postinst prerm postrm; do install -m 755 "$here/$script" "$package/DEBIAN/$script"; done
install -m 644 "$here/conffiles" "$package/DEBIAN/conffiles"
(cd "$package" && find etc usr -type f -exec md5sum {} +) >"$package/DEBIAN/md5sums"
chmod -R u+rwX,go+rX,go-w "$package"

mkdir -p "$out"
deb=$out/strayd_${version}_$architecture.deb
dpkg-deb --root-owner-group -Z"${DEB_COMPRESSION:-xz}" --build "$package" "$deb" >&2
echo "$deb"
