//! Checks the dashboards against Grafana's own types; run by `make test-ops`, as it fetches them from npm.

mod support;

use std::process::Command;

use support::{shipped, skip};

#[test]
fn the_dashboards_have_grafanas_types_and_what_has_not_is_found() {
    let out = Command::new(shipped("tests/ops/dashboards.sh")).output().expect("it can be run");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    if said.starts_with("SKIPPED") {
        return skip(said.trim());
    }
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("objects have Grafana's types"), "{said}");
}
