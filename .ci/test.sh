#!/usr/bin/env bash
# Runs `cargo test`, shows its output as it comes, and ends with one line: N passed, N failed, N skipped.
#
# Skipped is what a test says with `SKIPPED <test name>: why` on standard error, and what is marked #[ignore]. With
# CI=true a skip that isn't on the list .ci/allowed-skips is a failure. Arguments go to `cargo test`. STRAYD_COUNTS names the
# file for the counts.
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Two BLAS threads are slower than one for our sizes, and the tests share the cores.
export OPENBLAS_NUM_THREADS=1
# The tests run the kernels that strayd picks: where OpenBLAS doesn't know the processor, its own pick rounds otherwise.
profile=()
[[ " $* " != *" --release "* ]] || profile=(--release)
if [[ -z ${OPENBLAS_CORETYPE:-} ]]; then
    kernels=$(cargo run --locked --quiet "${profile[@]}" -- --version | sed -n 's/.* \([A-Za-z0-9_]*\), librdkafka.*/\1/p' || true)
    [[ -z $kernels ]] || export OPENBLAS_CORETYPE=$kernels
fi
status=0
cargo test --locked --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?

# sum WORD: adds up `3 WORD;` over the lines `test result: ok. 3 passed; 0 failed; 1 ignored; …` of all test binaries.
sum() { sed -n "s/.*test result: .* \([0-9]*\) $1;.*/\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'; }
said=$(sed -n 's/.*SKIPPED \([^ ]*\): .*/\1/p' "$log" | sort -u)
ignored=$(sed -n 's/^test \(.*\) \.\.\. ignored.*/\1/p' "$log" | sort -u)
n_said=$(grep -c . <<<"$said" || true)
passed=$(($(sum passed) - n_said))
failed=$(sum failed)
skipped=$((n_said + $(sum ignored)))

echo
sed -n 's/.*\(SKIPPED [^ ]*: .*\)/\1/p' "$log" | sort -u
if ((status != 0 && failed == 0)); then
    echo "cargo test ended with $status before every test had run"
    failed=1
fi
if [[ ${CI:-} == true ]]; then
    allowed=$(sed 's/[[:space:]]*#.*//; /^$/d' .ci/allowed-skips)
    while IFS= read -r name; do
        [[ -z $name ]] || grep -qxF -- "$name" <<<"$allowed" || {
            echo "skipped, but not on the list .ci/allowed-skips: $name"
            status=1
        }
    done <<<"$said"$'\n'"$ignored"
fi
counts="$passed passed, $failed failed, $skipped skipped"
mkdir -p target && echo "$counts" >"${STRAYD_COUNTS:-target/test-counts}"
echo "$counts"
exit "$status"
