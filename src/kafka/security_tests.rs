//! What the keys of `[kafka.security]` must satisfy, one broken configuration at a time.

use super::*;
use crate::kafka::Config;

fn problems(toml: &str) -> Vec<String> {
    let security: Security = toml::from_str(toml).expect("the keys are known");
    security.problems().into_iter().map(|(key, message)| format!("{key}: {message}")).collect()
}

#[test]
fn each_contradiction_names_its_key_and_the_cure() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let [file, empty] = ["some", "empty"].map(|name| dir.path().join(name));
    std::fs::write(&file, "x").expect("written");
    std::fs::write(&empty, "\n").expect("written");
    let (file, empty) = (file.display(), empty.display());
    let scram = "protocol = 'sasl_ssl'\nsasl_mechanism = 'SCRAM-SHA-256'\n";
    let oauth = "protocol = 'sasl_ssl'\nsasl_mechanism = 'OAUTHBEARER'\n";
    let client = "oauth_client_id = 'me'\n";
    for (toml, key, says) in [
        ("protocol = 'sasl_ssl'".to_owned(), "sasl_mechanism", "SCRAM-SHA-512"),
        ("sasl_mechanism = 'PLAIN'".into(), "sasl_mechanism", "make it sasl_ssl"),
        (format!("{scram}username = 'me'"), "password_file", "needs it"),
        (format!("{scram}password_file = '{file}'"), "username", "needs it"),
        (format!("{scram}username = 'me'\npassword_file = '{empty}'"), "password_file", "no secret"),
        (format!("{scram}username = 'me'\npassword_file = '/no/such'"), "password_file", "/no/such: No such file"),
        (format!("password_file = '{file}'"), "password_file", "would not be used"),
        ("protocol = 'sasl_ssl'\nsasl_mechanism = 'GSSAPI'\n".into(), "sasl_mechanism", "`GSSAPI` is not one of"),
        (format!("ca_file = '{file}'"), "ca_file", "make it ssl"),
        ("protocol = 'ssl'\nca_file = '/no/such'".into(), "ca_file", "No such file"),
        (format!("protocol = 'ssl'\ncertificate_file = '{file}'"), "key_file", "certificate_file needs its key"),
        (format!("protocol = 'ssl'\nkey_file = '{file}'"), "certificate_file", "needs its certificate"),
        (format!("protocol = 'ssl'\nkey_password_file = '{file}'"), "key_password_file", "no kafka.security.key_file"),
        (format!("{oauth}username = 'me'\noauth_token_file = '{file}'"), "username", "would not be used"),
        (format!("{oauth}{client}oauth_client_secret_file = '{file}'"), "oauth_token_url", "not set"),
        (format!("{oauth}{client}oauth_token_file = '{file}'"), "oauth_client_id", "has the token already"),
        (format!("{scram}username = 'me'\npassword_file = '{file}'\noauth_scope = 'k'"), "oauth_scope", "OAUTHBEARER"),
        (
            format!("{oauth}{client}oauth_client_secret_file = '{file}'\noauth_token_url = 'http://sso.example/token'"),
            "oauth_token_url",
            "https://",
        ),
    ] {
        let found = problems(&toml);
        let named = found.iter().find(|problem| problem.starts_with(&format!("kafka.security.{key}: ")));
        assert!(named.is_some_and(|problem| problem.contains(says)), "{toml}: {found:?}");
    }
}

#[test]
fn what_fits_together_is_no_problem() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("some");
    std::fs::write(&file, "x").expect("written");
    let file = file.display();
    let oauth = "protocol = 'sasl_ssl'\nsasl_mechanism = 'OAUTHBEARER'\n";
    for toml in [
        String::new(),
        "protocol = 'ssl'".into(),
        format!(
            "protocol = 'ssl'\nca_file = '{file}'\ncertificate_file = '{file}'\nkey_file = '{file}'\nkey_password_file = '{file}'"
        ),
        format!("protocol = 'sasl_ssl'\nsasl_mechanism = 'SCRAM-SHA-512'\nusername = 'me'\npassword_file = '{file}'"),
        format!("{oauth}oauth_token_file = '{file}'"),
        format!(
            "{oauth}oauth_token_url = 'http://127.0.0.1:1/t'\noauth_client_id = 'me'\noauth_client_secret_file = '{file}'"
        ),
    ] {
        assert_eq!(problems(&toml), Vec::<String>::new(), "{toml}");
    }
}

#[test]
fn a_secret_goes_to_this_machine_or_over_tls() {
    for safe in ["https://sso.example/token", "http://localhost/t", "http://127.0.0.1:8080/t", "http://[::1]:80/t"] {
        assert!(is_safe(safe), "{safe}");
    }
    for unsafe_one in
        ["http://sso.example/", "http://localhost.evil.example/", "http://127.0.0.1@evil.example/", "ftp://x"]
    {
        assert!(!is_safe(unsafe_one), "{unsafe_one}");
    }
}

#[test]
fn secrets_are_read_from_their_files_and_never_printed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let [password, phrase] = ["password", "phrase"].map(|name| dir.path().join(name));
    std::fs::write(&password, "hunter2\n").expect("written");
    std::fs::write(&phrase, "hunter3").expect("written");
    let security = Security {
        password_file: Some(password),
        key_password_file: Some(phrase),
        protocol: Protocol::SaslSsl,
        ..Security::default()
    };
    let config = Config { security, ..Config::default() };
    let client = config.client("c").expect("readable");
    assert_eq!(client.get("sasl.password"), Some("hunter2"));
    assert_eq!(client.get("ssl.key.password"), Some("hunter3"));
    assert_eq!(client.get("ssl.endpoint.identification.algorithm"), Some("https"));
    let shown = format!("{config:?}{client:?}{}", toml::to_string(&config).expect("TOML"));
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn an_unreadable_password_file_is_named() {
    let security = Security { password_file: Some("/no/such/file".into()), ..Security::default() };
    let error = Config { security, ..Config::default() }.client("c").expect_err("unreadable");
    assert!(error.to_string().starts_with("kafka.security.password_file = /no/such/file: "), "{error}");
}
