#!/usr/bin/env bash
# Counts the instructions of each stage and compares them with benches/instructions.tsv; with `record` writes that file.
#
# Our own code is optimised as in a release; what it depends on is taken from the tests' build, which is there already.
# So it costs a minute and a half on two cores, and one more of counting. A profile of its own would build librdkafka and
# all else again, four minutes more.
set -euo pipefail
cd "$(dirname "$0")/.."

of=profile.dev.package.strayd
export CARGO_INCREMENTAL=0
exec cargo bench --locked --quiet --profile dev --bench instructions --config "$of.opt-level=3" \
    --config "$of.codegen-units=16" --config "$of.debug-assertions=false" --config "$of.overflow-checks=false" \
    -- "${1:-guard}"
