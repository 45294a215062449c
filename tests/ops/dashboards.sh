#!/usr/bin/env bash
# Checks the dashboards against Grafana's own types (@grafana/schema, by tsc), and that the check finds what is wrong:
# a field that Grafana doesn't know and a value that it doesn't take, in each kind of panel. Ends with a count.
set -euo pipefail
cd "$(dirname "$0")/../.."

tools=$(tests/support/npm.sh tests/ops/grafana) || {
    echo "SKIPPED dashboards: no npm, or its packages can't be fetched"
    exit 0
}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
ln -s "$tools/node_modules" "$dir/node_modules"

# typed FILE...: rc of tsc on these dashboards, its words in $dir/said
typed() {
    node tests/ops/grafana/typed.mjs "$@" >"$dir/dashboards.ts"
    (cd "$dir" && node_modules/.bin/tsc --noEmit --strict --skipLibCheck --target es2022 --module nodenext \
        --moduleResolution nodenext dashboards.ts) >"$dir/said" 2>&1
}

typed deploy/grafana/dashboards/*.json || {
    cat "$dir/said"
    echo "1 failed: the dashboards have not Grafana's types"
    exit 1
}
n=$(grep -c '^export const' "$dir/dashboards.ts")

# What must be refused, each as: file, text, and what stands in its place.
breaks=(
    'strayd-overview|"graphTooltip"|"graphTooltips"'
    'strayd-overview|"colorMode": "value"|"colorMode": "vlaue"'
    'strayd-overview|"showHeader"|"showHeaders"'
    'strayd-detection|"drawStyle": "bars"|"drawStyle": "bar"'
    'strayd-detection|"cellGap"|"cellGaps"'
    'strayd-detection|"mode": "markdown"|"mode": "md"'
    'strayd-kafka|"expr"|"expression"'
    'strayd-kafka|"gridPos"|"gridPosition"'
    'strayd-model|"iconColor"|"iconColour"'
    'strayd-model|"refresh": 2|"refresh": "always"'
)
failed=0
for one in "${breaks[@]}"; do
    IFS='|' read -r file old new <<<"$one"
    sed "0,/$old/s//$new/" "deploy/grafana/dashboards/$file.json" >"$dir/$file.json"
    cmp -s "$dir/$file.json" "deploy/grafana/dashboards/$file.json" && { echo "$file has no $old"; failed=$((failed + 1)); continue; }
    if typed "$dir/$file.json"; then
        echo "not found: $new in $file"
        failed=$((failed + 1))
    fi
done
echo "dashboards: $n objects have Grafana's types, ${#breaks[@]} breaks tried, $failed failed"
exit $((failed > 0))
