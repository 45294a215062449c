//! The RPM package: what is in it, what an upgrade leaves alone, what its scripts do. Run by `make test-ops`.
//!
//! It is made and looked at by the tools of RPM on this machine; there is no Fedora to install it on. The Debian package
//! goes through its life in tests/ops_systemd.rs. The scripts are executed here with a `systemctl` that writes down what it is told.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use support::skip;

/// What a command prints.
#[track_caller]
fn said(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The package of the program under test, made once, or nothing, and then the skip has been reported.
fn package() -> Option<&'static Path> {
    static MADE: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        if Command::new("rpmbuild").arg("--version").output().is_err() {
            skip("rpmbuild is not installed");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rpm/build.sh");
        let mut build = Command::new(script);
        build.arg(env!("CARGO_BIN_EXE_strayd")).arg(dir.path()).arg("0.1.7").env("RPM_PAYLOAD", "w1.gzdio");
        let path = PathBuf::from(said(&mut build).trim());
        Some((dir, path))
    });
    made.as_ref().map(|(_, path)| path.as_path())
}

/// What `rpm` says of it.
fn asked(package: &Path, options: &[&str]) -> String {
    said(Command::new("rpm").arg("-qp").args(options).arg(package))
}

fn lines(text: &str) -> BTreeSet<&str> {
    text.lines().collect()
}

#[test]
fn the_package_holds_what_the_page_says() {
    let Some(package) = package() else { return };
    assert_eq!(asked(package, &["--qf", "%{NAME} %{VERSION} %{LICENSE}"]), "strayd 0.1.7 MIT OR Apache-2.0");
    let listed = asked(package, &["-l"]);
    let listed = lines(&listed);
    for file in [
        "/usr/bin/strayd",
        "/usr/lib/systemd/system/strayd.service",
        "/usr/lib/systemd/system/strayd@.service",
        "/usr/share/man/man1/strayd-run.1.gz",
        "/usr/share/bash-completion/completions/strayd",
        "/usr/share/zsh/site-functions/_strayd",
        "/usr/share/fish/vendor_completions.d/strayd.fish",
        "/usr/share/licenses/strayd/LICENSE-MIT",
        "/usr/share/doc/strayd/OPERATING.md",
        "/usr/share/doc/strayd/schema/anomaly.json",
    ] {
        assert!(listed.contains(file), "{file} is not in it");
    }
    let owned = |line: &&str| line.split_whitespace().skip(2).take(2).eq(["root", "root"]);
    let long = asked(package, &["-l", "-v"]);
    assert!(long.lines().filter(|line| !line.is_empty()).all(|line| owned(&line)), "{long}");
    assert!(long.lines().any(|line| line.starts_with("-rwxr-xr-x ") && line.ends_with("/usr/bin/strayd")), "{long}");
}

#[test]
fn an_upgrade_leaves_the_configuration_alone() {
    let Some(package) = package() else { return };
    let flags = asked(package, &["--qf", "[%{FILEFLAGS:fflags} %{FILENAMES}\n]"]);
    let kept: BTreeSet<&str> = flags.lines().filter_map(|line| line.strip_prefix("cn ")).collect();
    assert_eq!(kept, BTreeSet::from(["/etc/default/strayd", "/etc/strayd/strayd.toml"]), "noreplace");
}

#[test]
fn it_needs_the_libraries_that_the_program_loads() {
    let Some(package) = package() else { return };
    let needed = asked(package, &["--requires"]);
    for library in ["libopenblas.so.0", "libssl.so.3", "libz.so.1", "libc.so.6"] {
        assert!(needed.lines().any(|line| line.starts_with(&format!("{library}("))), "{library}: {needed}");
    }
}

/// What a script of the package tells `systemctl` when RPM calls it with this number of packages left.
fn told(package: &Path, script: &str, left: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let tool = dir.path().join("systemctl");
    fs::write(&tool, "#!/bin/sh\necho \"$*\" >>\"$TOLD\"\n").expect("written");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("it may be run");
    let body = asked(package, &["--qf", &format!("%{{{script}}}")]);
    // As if systemd ran, whatever runs here.
    let body = body.replace("/run/systemd/system", &dir.path().display().to_string());
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let log = dir.path().join("told");
    said(Command::new("/bin/sh").args(["-e", "-c", &body, "script", left]).env("PATH", path).env("TOLD", &log));
    fs::read_to_string(log).unwrap_or_default()
}

#[test]
fn scripts_start_nothing_restart_what_ran_and_stop_what_goes() {
    let Some(package) = package() else { return };
    assert_eq!(told(package, "POSTIN", "1"), "daemon-reload\n", "an installation");
    let restart = "daemon-reload\n--no-block try-restart strayd.service strayd@*.service\n";
    assert_eq!(told(package, "POSTIN", "2"), restart, "an upgrade");
    assert_eq!(told(package, "PREUN", "1"), "", "the old package of an upgrade");
    let stop = "stop strayd.service strayd@*.service\ndisable --quiet strayd.service\n";
    assert_eq!(told(package, "PREUN", "0"), stop, "a removal");
    assert_eq!(told(package, "POSTUN", "0"), "daemon-reload\n", "a removal");
}
