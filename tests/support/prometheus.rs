//! A real Prometheus that scrapes what a test serves, and `promtool`'s word on a page of metrics.
//!
//! Both come from the system's `prometheus` package; where it is missing the test says `SKIPPED`.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::guard::Guard;
use super::{free_port, holds_within, skip, unique};

/// How long Prometheus may take to start; alone it takes less than a second.
const START_MAX: Duration = Duration::from_secs(30);

/// A Prometheus with an empty store; dropping it ends it and removes the store.
#[derive(Debug)]
pub struct Prometheus {
    url: String,
    guard: Guard,
}

impl Prometheus {
    /// Starts one that scrapes `http://<target>/metrics` five times a second; nothing where it isn't installed.
    ///
    /// `rules` is the text of a rules file, empty for none.
    #[track_caller]
    pub fn start(target: &str, rules: &str) -> Option<Self> {
        if Command::new("prometheus").arg("--version").output().is_err() {
            skip("prometheus is not installed");
            return None;
        }
        let dir = std::env::temp_dir().join(unique("strayd-prometheus"));
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs: [{{job_name: strayd, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        let rules = if rules.is_empty() { "groups: []\n" } else { rules };
        fs::create_dir_all(&dir).expect("the temporary folder can be written");
        fs::write(dir.join("prometheus.yml"), config).expect("the temporary folder can be written");
        fs::write(dir.join("rules.yml"), rules).expect("the temporary folder can be written");
        let address = format!("127.0.0.1:{}", free_port());
        let args = [
            format!("--config.file={}/prometheus.yml", dir.display()),
            format!("--storage.tsdb.path={}/data", dir.display()),
            format!("--web.listen-address={address}"),
        ];
        let guard = Guard::spawn(&dir, "prometheus", args.iter().map(String::as_str));
        let prometheus = Self { url: format!("http://{address}"), guard };
        let ready = holds_within(START_MAX, || prometheus.get("/-/ready", &[]).is_some());
        assert!(ready, "Prometheus didn't start: {}", prometheus.guard.last_words());
        Some(prometheus)
    }

    /// The values of an instant query, one for each series; panics when the expression is refused.
    #[track_caller]
    pub fn query(&self, expression: &str) -> Vec<f64> {
        let answer = self.ask("/api/v1/query", &[("query", expression)]);
        let series = match &answer["data"]["result"] {
            // A scalar is a pair of time and value, a vector a list of series that hold such a pair.
            Value::Array(pair) if answer["data"]["resultType"] == "scalar" => vec![&pair[1]],
            Value::Array(series) => series.iter().map(|one| &one["value"][1]).collect(),
            other => panic!("{expression}: {other}"),
        };
        let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).expect("a value is a number");
        series.into_iter().map(number).collect()
    }

    /// The values that a label has on a series, as Grafana asks for those of a variable.
    #[track_caller]
    pub fn label_values(&self, series: &str, label: &str) -> Vec<String> {
        let answer = self.ask(&format!("/api/v1/label/{label}/values"), &[("match[]", series)]);
        serde_json::from_value(answer["data"].clone()).expect("values are texts")
    }

    /// Address, `http://host:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    #[track_caller]
    fn ask(&self, path: &str, arguments: &[(&str, &str)]) -> Value {
        let answer = self.get(path, arguments).expect("Prometheus answers");
        let answer: Value = serde_json::from_str(&answer).expect("it answers in JSON");
        assert_eq!(answer["status"], "success", "{arguments:?}: {answer}");
        answer
    }

    fn get(&self, path: &str, arguments: &[(&str, &str)]) -> Option<String> {
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5)));
        let agent: ureq::Agent = config.http_status_as_error(path == "/-/ready").build().into();
        let request = agent.get(format!("{}{path}", self.url));
        let request = arguments.iter().fold(request, |request, (key, value)| request.query(*key, *value));
        request.call().ok()?.body_mut().read_to_string().ok()
    }
}

/// What `promtool check metrics` finds wrong with a page: nothing, if all is well; none where it isn't installed.
pub fn promtool_check(page: &str) -> Option<String> {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        skip("promtool is not installed");
        return None;
    };
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    stdin.write_all(page.as_bytes()).expect("promtool reads to the end");
    drop(stdin);
    let out = child.wait_with_output().expect("promtool ends");
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Some(if out.status.success() || !said.is_empty() { said } else { out.status.to_string() })
}
