//! Boots a Debian with systemd as PID 1, installs the package there and takes the unit through its life, with the real daemon
//! on the real Kafka of this machine; then upgrades, removes and purges the package. Run by `make test-ops`; needs root and systemd-nspawn, and says SKIPPED elsewhere.
//!
//! The machine is booted once; each test looks at its own line of the report that tests/systemd/inside.sh writes. What
//! the container can't show: memory and task limits (no cgroup controllers there), and IPAddressDeny (no BPF).

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use support::{Broker, Outgoing, Topics, fetched, free_port, skip};

/// What one boot has shown: a line a check, or why there was none.
type Report = Result<String, String>;

/// Longest time that a boot with all checks may take, seconds; it takes about thirty.
const BOOT_SECONDS_MAX: &str = "300";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A copy of the cached machine, to which everything of the package is added.
fn machine(dir: &Path) -> Result<PathBuf, String> {
    let cached = fetched("tests/systemd/fetch.sh", &[]).map_err(|why| format!("no machine to boot: {why}"))?;
    let machine = dir.join("machine");
    let copied = Command::new("cp").args(["-a", "--reflink=auto"]).args([&cached, &machine]).status();
    assert!(copied.expect("there is cp").success(), "the machine can be copied");
    Ok(machine)
}

/// Makes the Debian package of the program under test, as this version; returns its path.
fn package(dir: &Path, version: &str) -> PathBuf {
    let mut build = Command::new(root().join("deploy/debian/build.sh"));
    build.arg(env!("CARGO_BIN_EXE_strayd")).arg(dir).arg(version).env("DEB_COMPRESSION", "none");
    let built = build.output().expect("the script can be run");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    String::from_utf8(built.stdout).expect("UTF-8").trim().into()
}

/// Lays ready the package in two versions, what docs/OPERATING.md says to write beside it, and the script with its checks.
fn prepare(machine: &Path, broker: &Broker, topics: &Topics) {
    let put = |from: PathBuf, to: &str, mode: u32| {
        let to = machine.join(to);
        fs::create_dir_all(to.parent().expect("it is in a folder")).expect("the machine can be written");
        fs::copy(&from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).expect("the machine can be written");
    };
    let write = |to: &str, text: &str, mode: u32| {
        let file = machine.join("tmp/written");
        fs::write(&file, text).expect("the machine can be written");
        put(file, to, mode);
    };
    let packages = machine.parent().expect("it is in a folder").join("packages");
    put(package(&packages, "0.1.0"), "packages/old.deb", 0o644);
    put(package(&packages, "0.1.1"), "packages/new.deb", 0o644);
    let drop_in = "etc/systemd/system/strayd.service.d";
    // The page says to leave out what isn't used: this broker asks for no password.
    let credentials = fs::read_to_string(root().join("systemd/credentials.conf")).expect("it is shipped");
    let used = |line: &&str| !line.contains("kafka-password");
    let credentials: Vec<&str> = credentials.lines().filter(used).collect();
    write(&format!("{drop_in}/credentials.conf"), &(credentials.join("\n") + "\n"), 0o644);
    put(root().join("tests/systemd/inside.sh"), "usr/local/bin/inside", 0o755);
    write("configuration/admin-token", "token-of-the-test\n", 0o600);
    // The unit's own 30 s would only make the test longer.
    write(&format!("{drop_in}/test.conf"), "[Service]\nWatchdogSec=3s\nTimeoutAbortSec=2s\nRestartSec=1s\n", 0o644);
    let port = free_port();
    let config = |group: &str, port: u16| {
        format!(
            "[kafka]\nbrokers = '{}'\ngroup = '{group}'\ninstance = 'machine'\nsession_timeout = '6s'\n[input]\ntopic = '{}'\n\
             [output]\nanomalies = '{}'\ndead_letters = '{}'\n[admin]\nlisten = '127.0.0.1:{port}'\n",
            broker.brokers(),
            topics.features,
            topics.anomalies,
            topics.dead_letters
        )
    };
    write("configuration/strayd.toml", &config(&topics.group, port), 0o644);
    write("configuration/second.toml", &config(&format!("{}-2", topics.group), free_port()), 0o644);
    let checks = format!(
        "[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\nEnvironment=ADMIN_PORT={port}\nExecStart=/usr/local/bin/inside\n\
         StandardOutput=journal\nTimeoutStartSec={BOOT_SECONDS_MAX}\n"
    );
    write("etc/systemd/system/inside.service", &checks, 0o644);
    // Nothing else in the machine needs the network, and nothing there brings one up.
    let wants = machine.join("etc/systemd/system/default.target.wants");
    fs::create_dir_all(&wants).expect("the machine can be written");
    std::os::unix::fs::symlink("/etc/systemd/system/inside.service", wants.join("inside.service")).expect("as above");
}

/// Boots the machine, once for all tests, and returns its report.
fn report() -> &'static Report {
    static REPORT: OnceLock<Report> = OnceLock::new();
    REPORT.get_or_init(|| {
        let broker = Broker::get().ok_or("there is no Kafka")?;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let machine = machine(dir.path())?;
        let topics = Topics::new(broker, 1);
        broker.produce(&topics.features, (0..3000).map(row));
        prepare(&machine, broker, &topics);
        // `script` is the terminal without which the console of the machine blocks.
        let boot = format!(
            "systemd-nspawn --quiet --register=no --keep-unit --machine=strayd-test --directory={} --boot",
            machine.display()
        );
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", BOOT_SECONDS_MAX, "script", "-qfc", &boot, "/dev/null"]);
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1").stdin(Stdio::null());
        let console = command.output().expect("there is timeout");
        let Ok(report) = fs::read_to_string(machine.join("report")) else {
            let console = String::from_utf8_lossy(&console.stdout);
            let last = console.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing was said");
            return Err(format!("systemd can't be booted in a container here: {last}"));
        };
        let journal = fs::read_to_string(machine.join("journal")).unwrap_or_default();
        Ok(format!("{report}\n{journal}"))
    })
}

fn row(i: i64) -> Outgoing {
    let (a, b) = ((i as f64 / 7.3).sin(), (i as f64 / 31.7).sin());
    Outgoing::value(format!("[{a:.4}, {b:.4}, {:.4}]", a + b + 0.05 * (i as f64 / 0.618).sin()))
}

#[track_caller]
fn assert_ok(name: &str) {
    match report() {
        Err(why) => skip(why),
        Ok(report) => assert!(report.lines().any(|line| line == format!("ok {name}")), "{name}\n{report}"),
    }
}

/// One test a check of tests/systemd/inside.sh.
macro_rules! checks {
    ($($name:ident $line:literal;)*) => {
        $(#[test]
        fn $name() {
            assert_ok($line);
        })*

        #[test]
        fn systemd_every_check_is_a_test() {
            let known = [$($line),*];
            let script = fs::read_to_string(root().join("tests/systemd/inside.sh")).expect("it is there");
            let named = script.lines().filter_map(|line| line.strip_prefix("check ")?.split(' ').next());
            assert_eq!(named.collect::<Vec<_>>(), known);
        }
    };
}

checks! {
    package_is_installed_and_starts_nothing "package_installs";
    systemd_start_waits_until_ready "start_waits_until_ready";
    systemd_status_line_says_scoring "status_line_says_scoring";
    systemd_runs_it_in_its_sandbox "runs_in_its_sandbox";
    systemd_exposure_is_low "exposure_is_at_most_1.5";
    systemd_keeps_models_in_the_state_directory "models_are_in_the_state_directory";
    systemd_hands_over_credentials "credential_is_readable";
    systemd_reload_is_taken_up "reload_is_taken_up";
    systemd_wrong_file_is_not_reloaded "wrong_file_is_not_reloaded";
    systemd_missed_watchdog_restarts "missed_watchdog_restarts";
    systemd_stop_drains_in_time "stop_drains_in_time";
    systemd_wrong_file_is_not_started "wrong_file_is_not_started";
    systemd_template_runs_another_detector "template_runs_another_detector";
    package_upgrade_restarts_and_keeps_the_configuration "package_upgrades";
    package_removal_stops_and_keeps_models_and_configuration "package_is_removed";
    package_purge_leaves_nothing "package_is_purged";
}
