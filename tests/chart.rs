//! Renders the Helm chart and the Kustomize base with the real tools, and holds what comes out to Kubernetes's schemas, to the
//! Pod Security Standard, to each other, and to the real daemon. No cluster is asked: there is none.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use strayd::config::{Config, Sources};
use support::{Acl, Kubernetes, Launch, documented_rights, skip, yaml};

const CHART: &str = "deploy/helm/strayd";
/// The oldest and the newest minor that is supported: Chart.yaml names the first.
const MINORS: [&str; 2] = ["1.30", "1.37"];
const SOON: Duration = Duration::from_secs(30);

fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The values files that are rendered, from the defaults to everything switched on.
fn all_values() -> Vec<String> {
    let entries = fs::read_dir(path(CHART).join("ci")).expect("there are values files");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut files: Vec<String> = names.map(|name| format!("{CHART}/ci/{name}")).collect();
    files.sort();
    assert_eq!(files.len(), 4, "{files:?}");
    files
}

fn render(tools: &Kubernetes, args: &[&str]) -> Vec<Value> {
    let fixed = ["template", "strayd", CHART, "--namespace", "detect", "--kube-version", MINORS[1]];
    yaml(&tools.ask("helm", &[&fixed, args].concat()))
}

/// Everything that is rendered here, by where it comes from.
fn rendered(tools: &Kubernetes) -> Vec<(String, Vec<Value>)> {
    let of_chart = all_values().into_iter().map(|values| {
        let objects = render(tools, &["--values", &values]);
        (values, objects)
    });
    let folders = ["deploy/kustomize/base", "deploy/kustomize/overlays/example"];
    let of_kustomize = folders.map(|folder| (folder.to_owned(), yaml(&tools.ask("kubectl", &["kustomize", folder]))));
    of_chart.chain(of_kustomize).collect()
}

fn is_core(object: &Value) -> bool {
    let group = object["apiVersion"].as_str().expect("an apiVersion").split('/').next().expect("a group");
    !group.contains('.') || group.ends_with(".k8s.io")
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The pods of all workloads and of `helm test`: metadata and spec.
fn pods(objects: &[Value]) -> Vec<&Value> {
    let templates = objects.iter().filter_map(|object| object["spec"].get("template"));
    templates.chain(of_kind(objects, "Pod")).collect()
}

fn workload(objects: &[Value]) -> &Value {
    let found = [of_kind(objects, "Deployment"), of_kind(objects, "StatefulSet")].concat();
    assert_eq!(found.len(), 1, "one workload");
    found[0]
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|one| one.as_str().expect("a text")).collect()
}

#[test]
fn helm_finds_nothing_wrong_and_refuses_what_is() {
    let Some(tools) = Kubernetes::get() else { return };
    for values in all_values() {
        tools.ask("helm", &["lint", "--strict", CHART, "--values", &values]);
    }
    // And what the page shows.
    let guide = read("docs/OPERATING.md");
    let shown = guide.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("values are shown");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("shown.yaml");
    fs::write(&file, shown).expect("written");
    let objects = render(&tools, &["--values", &file.display().to_string()]);
    let (toml, environment) = configuration(&objects, dir.path());
    fs::write(dir.path().join("strayd.toml"), toml).expect("written");
    let sources = Sources { file: Some(dir.path().join("strayd.toml")), environment, overrides: vec![] };
    assert_eq!(Config::load(&sources).map(|config| config.kafka.group.clone()), Ok("pumps".into()));
    let wrong = ["replicaz=1", "replicas=many", "kind=DaemonSet", "config.admin.listen=here", "config.input.topic="];
    for value in wrong {
        let refused = tools.run("helm", ["template", "strayd", CHART, "--set", value]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains("values don't meet"), "{value}: {said}");
    }
    let chart = &yaml(&read(&format!("{CHART}/Chart.yaml")))[0];
    for key in ["version", "appVersion"] {
        assert_eq!(chart[key], env!("CARGO_PKG_VERSION"), "{key}");
    }
    assert_eq!(chart["kubeVersion"], format!(">={}.0-0", MINORS[0]));
}

/// What kubernetes-validate says of objects, nothing when they are right.
fn refused(tools: &Kubernetes, minor: &str, objects: &[&Value]) -> Option<String> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("objects.yaml");
    let documents: Vec<String> = objects.iter().map(|object| object.to_string()).collect();
    fs::write(&file, documents.join("\n---\n")).expect("written");
    let file = file.display().to_string();
    let output = tools.run("kubernetes-validate", ["--kubernetes-version", minor, "--strict", "--quiet", &file]);
    let said = [output.stdout, output.stderr].concat();
    // A kind that it doesn't know is only a warning to it.
    let is_right = output.status.success() && said.is_empty();
    (!is_right).then(|| String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn objects_fit_the_oldest_and_the_newest_kubernetes() {
    let Some(tools) = Kubernetes::get() else { return };
    for (source, objects) in rendered(&tools) {
        let core: Vec<&Value> = objects.iter().filter(|object| is_core(object)).collect();
        assert!(core.len() >= 5, "{source}: {} objects", core.len());
        for minor in MINORS {
            assert_eq!(refused(&tools, minor, &core), None, "{source} on {minor}");
        }
        let mut broken = workload(&objects).clone();
        broken["spec"]["template"]["spec"]["containers"][0]["readinessprobe"] = json!({});
        assert!(refused(&tools, MINORS[0], &[&broken]).is_some_and(|said| said.contains("readinessprobe")));
    }
}

/// The schemas of custom resources: `apiVersion kind`, and a schema to which unknown fields are errors.
fn definitions(folder: &Path) -> Vec<(String, Value)> {
    let files = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path());
    let texts = files.map(|file| fs::read_to_string(file).expect("it can be read"));
    let definitions = texts.flat_map(|text| yaml(&text));
    definitions
        .flat_map(|crd| {
            let (group, kind) = (crd["spec"]["group"].clone(), crd["spec"]["names"]["kind"].clone());
            let versions = crd["spec"]["versions"].as_array().cloned().unwrap_or_default().into_iter();
            versions.map(move |version| {
                let mut schema = version["schema"]["openAPIV3Schema"].clone();
                close(&mut schema);
                schema["properties"]["metadata"] = json!({"type": "object"});
                let name = [&group, &version["name"], &kind].map(|text| text.as_str().expect("a text"));
                (format!("{}/{} {}", name[0], name[1], name[2]), schema)
            })
        })
        .collect()
}

/// Makes unknown fields errors, and says numbers or texts the way JSON Schema does.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(table) => {
            let open = ["additionalProperties", "x-kubernetes-preserve-unknown-fields"];
            if table.get("properties").is_some_and(Value::is_object) && !open.iter().any(|key| table.contains_key(*key))
            {
                table.insert("additionalProperties".into(), false.into());
            }
            if table.remove("x-kubernetes-int-or-string").is_some() {
                table.remove("anyOf");
                table.insert("type".into(), json!(["integer", "string"]));
            }
            table.values_mut().for_each(close);
        }
        Value::Array(list) => list.iter_mut().for_each(close),
        _ => {}
    }
}

#[test]
fn custom_resources_fit_their_definitions() {
    let Some(tools) = Kubernetes::get() else { return };
    let fixtures = std::env::var_os("STRAYD_FIXTURES").map_or_else(|| path("../shared/reference"), PathBuf::from);
    let definitions = definitions(&fixtures.join("../ops/crds"));
    if definitions.is_empty() {
        return skip("no CRDs in ../ops/crds beside the fixtures; set STRAYD_FIXTURES");
    }
    let mut kinds = BTreeSet::new();
    for (source, objects) in rendered(&tools) {
        for object in objects.iter().filter(|object| !is_core(object)) {
            let name = [&object["apiVersion"], &object["kind"]].map(|text| text.as_str().expect("a text")).join(" ");
            let found = definitions.iter().find(|(known, _)| *known == name);
            let (_, schema) = found.unwrap_or_else(|| panic!("{source}: nobody defines {name}"));
            let validator = jsonschema::validator_for(schema).expect("a schema");
            let wrong: Vec<String> =
                validator.iter_errors(object).map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(wrong.is_empty(), "{source}: {name}: {wrong:?}");
            let mut broken = object.clone();
            broken["spec"]["unknown"] = json!(1);
            assert!(!validator.is_valid(&broken), "{name}: an unknown field passes");
            kinds.insert(name);
        }
    }
    assert_eq!(kinds.len(), 5, "{kinds:?}");
}

/// What the Pod Security Standard `restricted` asks of a pod, and a read-only root and no token beside it.
fn unrestricted(pod: &Value) -> Vec<String> {
    let spec = &pod["spec"];
    let mut wrong = Vec::new();
    let mut need = |holds: bool, what: &str| wrong.extend((!holds).then(|| what.to_owned()));
    let of_pod = &spec["securityContext"];
    need(of_pod["runAsNonRoot"] == true && of_pod["runAsUser"] == 65532, "runAsNonRoot, runAsUser");
    need(of_pod["seccompProfile"]["type"] == "RuntimeDefault", "seccompProfile");
    need(spec["automountServiceAccountToken"] == false, "automountServiceAccountToken");
    let host = ["hostNetwork", "hostPID", "hostIPC"].iter().all(|key| spec[*key].is_null());
    need(host && of_pod["sysctls"].is_null(), "host namespaces or sysctls");
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let kinds = ["configMap", "emptyDir", "secret", "projected", "persistentVolumeClaim", "downwardAPI", "csi"];
        need(kinds.iter().any(|kind| volume.get(*kind).is_some()), "volumes");
    }
    for container in spec["containers"].as_array().expect("containers") {
        let context = &container["securityContext"];
        need(context["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
        need(context["capabilities"]["drop"] == json!(["ALL"]), "capabilities.drop");
        need(context["capabilities"]["add"].is_null() && context["privileged"] != true, "capabilities.add, privileged");
        need(context["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem");
        let ports = container["ports"].as_array().into_iter().flatten();
        need(ports.clone().all(|port| port["hostPort"].is_null()), "hostPort");
    }
    wrong
}

#[test]
fn pods_are_restricted() {
    let Some(tools) = Kubernetes::get() else { return };
    for (source, objects) in rendered(&tools) {
        let pods = pods(&objects);
        assert!(!pods.is_empty(), "{source}");
        for pod in pods {
            assert_eq!(unrestricted(pod), [""; 0], "{source}");
        }
        let workload = workload(&objects);
        let (selector, labels) =
            (&workload["spec"]["selector"]["matchLabels"], &workload["spec"]["template"]["metadata"]);
        let matches = |labels: &Value| selector.as_object().expect("labels").iter().all(|(k, v)| labels[k] == *v);
        assert!(matches(&labels["labels"]), "{source}");
        let others = of_kind(&objects, "Pod");
        assert!(others.iter().all(|pod| !matches(&pod["metadata"]["labels"])), "{source}: its test is no replica");
    }
}

/// The configuration that a pod of these objects runs with: the file's text, and the environment with secrets in `dir`.
fn configuration(objects: &[Value], dir: &Path) -> (String, Vec<(String, String)>) {
    let spec = &workload(objects)["spec"]["template"]["spec"];
    let volumes = spec["volumes"].as_array().expect("volumes");
    let config = volumes.iter().find(|volume| volume["name"] == "config").expect("a volume of the configuration");
    let maps = of_kind(objects, "ConfigMap");
    let map = maps.iter().find(|map| map["metadata"]["name"] == config["configMap"]["name"]).expect("its ConfigMap");
    let toml = map["data"]["strayd.toml"].as_str().expect("the file that the arguments name").to_owned();
    let container = &spec["containers"][0];
    assert_eq!(texts(&container["args"]), ["run", "--config", "/etc/strayd/strayd.toml"]);
    let variables = container["env"].as_array().expect("a list").iter().map(|one| {
        let value = one["value"].as_str().unwrap_or("the-name-of-the-pod");
        let value = value.replace("/run/secrets/strayd", &dir.display().to_string());
        if let Some(name) = value.strip_prefix(&format!("{}/", dir.display())) {
            fs::write(dir.join(name), "secret").expect("written");
        }
        (one["name"].as_str().expect("a name").to_owned(), value)
    });
    (toml, variables.collect())
}

#[test]
fn strayd_accepts_the_rendered_configuration() {
    let Some(tools) = Kubernetes::get() else { return };
    for (source, objects) in rendered(&tools) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (toml, environment) = configuration(&objects, dir.path());
        let file = dir.path().join("strayd.toml");
        fs::write(&file, toml).expect("written");
        let mut check = Command::new(env!("CARGO_BIN_EXE_strayd"));
        let output =
            check.args(["check", "--config"]).arg(&file).envs(environment.clone()).output().expect("it starts");
        assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));

        let config =
            Config::load(&Sources { file: Some(file), environment, overrides: vec![] }).expect("just accepted");
        let pod = &workload(&objects)["spec"]["template"]["spec"];
        assert!(!config.admin.listen.ip().is_loopback(), "{source}: probes come from outside");
        assert_eq!(pod["containers"][0]["ports"][0]["containerPort"], config.admin.listen.port(), "{source}");
        let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().expect("seconds"));
        assert!(grace > config.pipeline.shutdown_timeout + Duration::from_secs(10), "{source}: {grace:?}");
        let mounts = pod["containers"][0]["volumeMounts"].as_array().expect("mounts");
        let mounted = |path: &Path| mounts.iter().any(|mount| path.starts_with(mount["mountPath"].as_str().unwrap()));
        assert!(mounted(&config.registry.path), "{source}: the root is read-only");
        agree(&source, &objects, &config);
    }
}

/// What scales and what makes topics speaks of the same brokers, group and topics as the configuration.
fn agree(source: &str, objects: &[Value], config: &Config) {
    for scaled in of_kind(objects, "ScaledObject") {
        let trigger = &scaled["spec"]["triggers"][0]["metadata"];
        let said = [&trigger["bootstrapServers"], &trigger["consumerGroup"], &trigger["topic"]];
        assert_eq!(said, [&config.kafka.brokers, &config.kafka.group, &config.input.topic.to_string()], "{source}");
        let target = &scaled["spec"]["scaleTargetRef"];
        assert_eq!(
            (&target["kind"], &target["name"]),
            (&workload(objects)["kind"], &workload(objects)["metadata"]["name"])
        );
        assert!(workload(objects)["spec"]["replicas"].is_null(), "{source}: two would set the replicas");
    }
    let (output, journal) = (&config.output, &config.journal);
    let written =
        [Some(&output.anomalies), Some(&output.dead_letters), output.scores.as_ref(), output.incidents.as_ref()];
    let models = config.registry.topic.as_ref();
    let compacted = [journal.commands.as_ref(), journal.feedback.as_ref(), models];
    let topics: BTreeSet<&str> = written.iter().chain(&compacted).flatten().map(|topic| topic.as_str()).collect();
    let made = of_kind(objects, "KafkaTopic");
    for topic in &made {
        let (spec, name) = (&topic["spec"], topic["spec"]["topicName"].as_str());
        let is_compacted = spec["config"]["cleanup.policy"] == "compact" && spec["partitions"] == 1;
        assert_eq!(is_compacted, compacted.iter().any(|one| one.map(String::as_str) == name), "{source}: {name:?}");
    }
    let made: BTreeSet<&str> = made.iter().filter_map(|topic| topic["spec"]["topicName"].as_str()).collect();
    assert!(made.is_empty() || made == topics, "{source}: {made:?} of {topics:?}");
    for user in of_kind(objects, "KafkaUser") {
        let acls = user["spec"]["authorization"]["acls"].as_array().expect("a list");
        let granted: Vec<String> = acls.iter().flat_map(options).collect();
        let unique: BTreeSet<String> = granted.iter().cloned().collect();
        assert_eq!(granted.len(), unique.len(), "{source}: a right is granted twice");
        assert_eq!(unique, least_rights(config), "{source}: not what docs/SECURITY.md lists");
    }
}

/// Strimzi's word for rights as options of `kafka-acls`.
fn options(acl: &Value) -> Vec<String> {
    let resource = &acl["resource"];
    let kind = resource["type"].as_str().expect("a kind").replace("transactionalId", "transactional-id");
    let is_prefix = resource["patternType"] == "prefix";
    let name = resource["name"].as_str().expect("a name").to_owned();
    let operations = acl["operations"].as_array().expect("a list").iter().filter_map(Value::as_str);
    operations
        .map(|operation| {
            let operation = operation.to_owned();
            Acl { operation, kind: kind.clone(), name: name.clone(), is_prefix }.options()
        })
        .collect()
}

/// The rights that docs/SECURITY.md lists for the keys of this configuration, and the one for feedback over HTTP.
fn least_rights(config: &Config) -> BTreeSet<String> {
    let raw = serde_json::to_value(&**config).expect("string keys");
    let said = |key: &str| raw.pointer(&format!("/{}", key.replace('.', "/"))).and_then(Value::as_str);
    let documented = documented_rights();
    let topics: BTreeMap<&str, &str> =
        documented.iter().filter_map(|(key, value, _)| Some((value.as_str(), said(key)?))).collect();
    let is_set = |key: &str, value: &str| said(key).is_some_and(|said| key != "kafka.delivery" || said == value);
    let needed = documented.iter().filter(|(key, value, _)| is_set(key, value)).flat_map(|(_, _, acls)| acls.clone());
    let feedback = said("journal.feedback").map(|_| Acl::parse("--operation Write --topic feedback"));
    let renamed = |mut acl: Acl| {
        acl.name = match &*acl.kind {
            "topic" => topics[acl.name.as_str()].to_owned(),
            _ => acl.name.replacen("strayd", &config.kafka.group, 1),
        };
        acl.options()
    };
    needed.chain(feedback).map(renamed).collect()
}

#[test]
fn replicas_that_share_a_registry_topic_need_no_volume_and_keep_their_places() {
    let Some(tools) = Kubernetes::get() else { return };
    let objects = render(&tools, &["--values", &format!("{CHART}/ci/replicas-values.yaml")]);
    let spec = &workload(&objects)["spec"];
    assert_eq!((&spec["replicas"], &spec["volumeClaimTemplates"]), (&json!(3), &Value::Null));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (_, environment) = configuration(&objects, dir.path());
    assert!(environment.iter().any(|(name, _)| name == "STRAYD__KAFKA__INSTANCE"), "{environment:?}");
    let notes = |more: &str| {
        let values = format!("{CHART}/ci/default-values.yaml");
        tools.ask("helm", &["install", "strayd", CHART, "--dry-run=client", "--values", &values, "--set", more])
    };
    assert!(notes("replicas=2").contains("set config.registry.topic"));
    assert!(!notes("replicas=2,config.registry.topic=models").contains("set config.registry.topic"));
}

#[test]
fn the_daemon_answers_at_every_probe_and_scrape() {
    let Some(tools) = Kubernetes::get() else { return };
    // No broker is needed: alive is about the daemon itself, and what isn't ready says so at the same address.
    let launch = Launch::new("[kafka]\nbrokers = '127.0.0.1:1'\n[input]\ntopic = 't'\n");
    let daemon = launch.start();
    daemon.wait(SOON, "the admin server", || daemon.get("/version").is_some());
    let answer = |page: &Value| daemon.get(page.as_str().expect("a path")).expect("it answers").0;
    for (source, objects) in rendered(&tools) {
        let container = &workload(&objects)["spec"]["template"]["spec"]["containers"][0];
        let port = &container["ports"][0]["name"];
        for (probe, expected) in [("startupProbe", 200), ("livenessProbe", 200), ("readinessProbe", 503)] {
            assert_eq!(container[probe]["httpGet"]["port"], *port, "{source}: {probe}");
            assert_eq!(answer(&container[probe]["httpGet"]["path"]), expected, "{source}: {probe}");
        }
        for monitor in of_kind(&objects, "PodMonitor") {
            let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
            assert_eq!((&endpoint["port"], answer(&endpoint["path"])), (port, 200), "{source}");
            let job = monitor["spec"]["jobLabel"].as_str().expect("a label");
            let labels = &workload(&objects)["spec"]["template"]["metadata"]["labels"];
            assert_eq!(labels[job], "strayd", "{source}: the rules name the job");
        }
    }
    assert_eq!(daemon.get("/no-such-page").expect("it answers").0, 404, "a wrong path is told from a right one");
}

/// An object without what only one of the two tools writes.
fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    let mut places = vec![object["metadata"].take()];
    if let Some(template) = object["spec"].get_mut("template") {
        let config =
            template["spec"]["volumes"].as_array_mut().into_iter().flatten().find(|one| one["name"] == "config");
        config.expect("a volume")["configMap"]["name"] = "strayd".into();
        places.push(template["metadata"].take());
    }
    for place in &mut places {
        for label in ["app.kubernetes.io/managed-by", "helm.sh/chart"] {
            place["labels"].as_object_mut().expect("labels").remove(label);
        }
        let meta = place.as_object_mut().expect("metadata");
        meta.retain(|key, _| !["annotations", "namespace"].contains(&key.as_str()));
    }
    json!({"object": object, "places": places})
}

#[test]
fn kustomize_renders_what_the_chart_does() {
    let Some(tools) = Kubernetes::get() else { return };
    let kustomize = |folder: &str| yaml(&tools.ask("kubectl", &["kustomize", folder]));
    let by_kind = |objects: Vec<Value>, left_out: &[&str]| {
        let kept = objects.into_iter().filter(|object| !left_out.contains(&object["kind"].as_str().expect("a kind")));
        let mut bare: Vec<String> = kept.map(|object| bare(&object).to_string()).collect();
        bare.sort();
        bare
    };
    let left_out = ["ConfigMap", "Pod"];
    let base = by_kind(kustomize("deploy/kustomize/base"), &left_out);
    assert_eq!(base.len(), 4);
    assert_eq!(base, by_kind(render(&tools, &[]), &left_out));

    let everything = "monitoring.podMonitor.enabled=true,keda.enabled=true,strimzi.enabled=true,image.repository=registry.example/strayd";
    let chart = by_kind(render(&tools, &["--set", everything]), &left_out);
    assert_eq!(by_kind(kustomize("deploy/kustomize/overlays/example"), &left_out), chart);
}

#[test]
fn rules_and_dashboards_are_those_of_deploy() {
    let Some(tools) = Kubernetes::get() else { return };
    let objects = render(&tools, &["--values", &format!("{CHART}/ci/production-values.yaml")]);
    let rules = of_kind(&objects, "PrometheusRule");
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0]["spec"], yaml(&read("deploy/prometheus/strayd.rules.yml"))[0]);
    let maps = of_kind(&objects, "ConfigMap").into_iter();
    let maps = maps.filter(|map| map["metadata"]["labels"]["grafana_dashboard"] == "1");
    let shown: BTreeMap<String, Value> = maps
        .flat_map(|map| map["data"].as_object().expect("data").clone())
        .map(|(name, text)| (name, serde_json::from_str(text.as_str().expect("a text")).expect("JSON")))
        .collect();
    let mut files = Vec::new();
    let mut folders = vec![path("deploy/grafana")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("it can be read").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() { folders.push(entry) } else { files.push(entry) }
        }
    }
    let dashboards = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "json"));
    let expected: BTreeMap<String, Value> = dashboards
        .map(|file| {
            let name = file.file_name().expect("a name").to_string_lossy().into_owned();
            (name, serde_json::from_str(&fs::read_to_string(file).expect("it can be read")).expect("JSON"))
        })
        .collect();
    assert!(!expected.is_empty() && shown == expected);
}
