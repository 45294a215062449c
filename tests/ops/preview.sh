#!/usr/bin/env bash
# Draws every panel of the dashboards as they look after three minutes of a plant with faults, rounds, a backlog, a model
# that is rejected and rolled back, feedback and a rule: `tests/ops/preview.sh [FOLDER]`, target/preview by default.
#
# A real Prometheus scrapes the real daemon on a real Kafka; what draws is not Grafana. Look at the pictures: no test can.
set -euo pipefail
cd "$(dirname "$0")/../.."
for program in chromium prometheus python3 npm; do
    command -v "$program" >/dev/null || { echo "SKIPPED preview: $program is not installed"; exit 0; }
done
STRAYD_PREVIEW=$(realpath -m "${1:-target/preview}") cargo test --locked --test preview -- --nocapture
