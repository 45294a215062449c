#!/usr/bin/env bash
# Checks everything that can be checked without running the program. Every check runs; the end tells which failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

failed=()
check() {
    local name=$1
    shift
    printf '== %s\n' "$name"
    "$@" || failed+=("$name")
}
docs() { RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --no-deps --lib --quiet; }

check "cargo fmt" cargo fmt --check
check "cargo clippy" cargo clippy --locked --all-targets --quiet -- -D warnings
# Tests that `cargo test` leaves out are no targets of --all-targets either, not even where they are named beside it.
mapfile -t apart < <(sed -n '/^name = /{s/.*"\(.*\)"/\1/;h}; /^test = false/{x;p}' Cargo.toml)
check "cargo clippy of ${apart[*]}" cargo clippy --locked "${apart[@]/#/--test=}" --quiet -- -D warnings
check "cargo doc" docs
if command -v shellcheck >/dev/null; then
    mapfile -t scripts < <(find . -path ./target -prune -o \( -name '*.sh' -o -path ./.ci/run \) -print)
    check "shellcheck" shellcheck "${scripts[@]}"
else
    echo "== shellcheck is not installed: the shell scripts are not checked"
fi
if command -v cargo-deny >/dev/null; then
    check "cargo deny" cargo deny --locked check
else
    echo "== cargo-deny is not installed: deny.toml is not checked"
fi

if ((${#failed[@]})); then
    printf 'lint: failed: %s\n' "${failed[*]}"
    exit 1
fi
echo "lint: clean"
