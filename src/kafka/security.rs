//! Encryption and authentication: the keys of `[kafka.security]`, what they must satisfy together, and what librdkafka is told.
//!
//! Secrets come from files that are read when a client is made. They are never part of the configuration, so that no
//! page, log line or error can show one.

use std::fmt;
use std::path::{Path, PathBuf};

use rdkafka::config::ClientConfig;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The mechanisms that are built in; GSSAPI is not.
const MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", OAUTHBEARER];
/// The mechanism that takes tokens.
pub(super) const OAUTHBEARER: &str = "OAUTHBEARER";

/// Encryption and authentication. Secrets come from files, and are never printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// Encryption and authentication.
    pub protocol: Protocol,
    /// SASL mechanism: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`.
    pub sasl_mechanism: Option<String>,
    /// SASL user.
    pub username: Option<String>,
    /// File with the SASL password; a trailing line break is dropped.
    pub password_file: Option<PathBuf>,
    /// File with the trusted authorities, PEM; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate, PEM.
    pub certificate_file: Option<PathBuf>,
    /// Private key of that certificate, PEM.
    pub key_file: Option<PathBuf>,
    /// File with the pass phrase of the private key.
    pub key_password_file: Option<PathBuf>,
    /// Whether a broker's certificate must name the host that was asked for.
    pub verify_hostname: bool,
    /// OAUTHBEARER: where tokens are fetched (client credentials, RFC 6749 section 4.4), `https://`; `http://` for this
    /// machine only.
    pub oauth_token_url: Option<String>,
    /// OAUTHBEARER: the client's id there.
    pub oauth_client_id: Option<String>,
    /// OAUTHBEARER: file with the client's secret there; read again for each token.
    pub oauth_client_secret_file: Option<PathBuf>,
    /// OAUTHBEARER: the scope that is asked for.
    pub oauth_scope: Option<String>,
    /// OAUTHBEARER: file with a token that something else renews, instead of the url; read again every minute.
    pub oauth_token_file: Option<PathBuf>,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            sasl_mechanism: None,
            username: None,
            password_file: None,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            key_password_file: None,
            verify_hostname: true,
            oauth_token_url: None,
            oauth_client_id: None,
            oauth_client_secret_file: None,
            oauth_scope: None,
            oauth_token_file: None,
        }
    }
}

/// Transport and authentication, in Kafka's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// No encryption, no authentication.
    #[default]
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL without encryption.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        })
    }
}

impl Protocol {
    fn is_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

/// A secret's file that can't be read, or holds nothing.
#[derive(Debug, Error)]
#[error("{key} = {path}: {error}")]
pub struct SecretError {
    key: &'static str,
    path: PathBuf,
    error: std::io::Error,
}

impl Security {
    /// Tells a client how to encrypt and who it is.
    ///
    /// Errors: a secret can't be read.
    pub(super) fn apply(&self, client: &mut ClientConfig) -> Result<(), SecretError> {
        client.set("security.protocol", self.protocol.to_string());
        let texts = [("sasl.mechanism", &self.sasl_mechanism), ("sasl.username", &self.username)];
        for (key, value) in texts {
            if let Some(value) = value {
                client.set(key, value);
            }
        }
        let files = [
            ("ssl.ca.location", &self.ca_file),
            ("ssl.certificate.location", &self.certificate_file),
            ("ssl.key.location", &self.key_file),
        ];
        for (key, path) in files {
            if let Some(path) = path {
                client.set(key, path.to_string_lossy());
            }
        }
        let secrets = [
            ("sasl.password", "kafka.security.password_file", &self.password_file),
            ("ssl.key.password", "kafka.security.key_password_file", &self.key_password_file),
        ];
        for (setting, key, path) in secrets {
            if let Some(path) = path {
                client.set(setting, read_secret(key, path)?);
            }
        }
        if self.protocol.is_tls() {
            client.set("ssl.endpoint.identification.algorithm", if self.verify_hostname { "https" } else { "none" });
        }
        Ok(())
    }

    /// Whether the client holds a secret that a core dump would show.
    pub fn holds_secrets(&self) -> bool {
        self.secrets().iter().any(|(_, path)| path.is_some()) || self.key_file.is_some()
    }

    /// As whom the brokers know the client, in Kafka's words; in angle brackets where only the broker can tell.
    pub fn principal(&self) -> String {
        match (self.is_oauth(), &self.username, &self.certificate_file) {
            (true, ..) => "User:<the token's subject>".into(),
            (false, Some(name), _) if self.protocol.is_sasl() => format!("User:{name}"),
            (false, _, Some(_)) => "User:<the subject of kafka.security.certificate_file>".into(),
            _ => "User:ANONYMOUS".into(),
        }
    }

    fn is_oauth(&self) -> bool {
        self.sasl_mechanism.as_deref() == Some(OAUTHBEARER)
    }

    fn secrets(&self) -> [(&'static str, &Option<PathBuf>); 4] {
        [
            ("kafka.security.password_file", &self.password_file),
            ("kafka.security.key_password_file", &self.key_password_file),
            ("kafka.security.oauth_client_secret_file", &self.oauth_client_secret_file),
            ("kafka.security.oauth_token_file", &self.oauth_token_file),
        ]
    }

    /// Everything in which the keys contradict each other or the file system: key path, and what is wrong.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        self.unreadable(&mut found);
        self.contradictions(&mut found);
        self.oauth_problems(&mut found);
        // One problem a key, the first: a file that can't be read needn't also be in the wrong place.
        let mut keys = std::collections::BTreeSet::new();
        found.retain(|(key, _)| keys.insert(*key));
        found
    }

    fn unreadable(&self, found: &mut Vec<(&'static str, String)>) {
        for (key, path) in self.secrets() {
            if let Some(Err(SecretError { path, error, .. })) = path.as_deref().map(|path| read_secret(key, path)) {
                found.push((key, format!("{}: {error}", path.display())));
            }
        }
        let files = [
            ("kafka.security.ca_file", &self.ca_file),
            ("kafka.security.certificate_file", &self.certificate_file),
            ("kafka.security.key_file", &self.key_file),
        ];
        for (key, path) in files {
            if let Some((path, Err(error))) = path.as_deref().map(|path| (path, std::fs::read(path))) {
                found.push((key, format!("{}: {error}", path.display())));
            }
        }
    }

    fn contradictions(&self, found: &mut Vec<(&'static str, String)>) {
        let mut need = |holds: bool, key: &'static str, message: String| {
            if !holds {
                found.push((key, message));
            }
        };
        let (protocol, sasl, tls) = (self.protocol, self.protocol.is_sasl(), self.protocol.is_tls());
        let known = MECHANISMS.join(", ");
        match self.sasl_mechanism.as_deref() {
            None => need(
                !sasl,
                "kafka.security.sasl_mechanism",
                format!("it is not set; kafka.security.protocol = {protocol} wants one of {known}"),
            ),
            Some(named) => {
                need(
                    MECHANISMS.contains(&named),
                    "kafka.security.sasl_mechanism",
                    format!("`{named}` is not one of {known}"),
                );
                need(
                    sasl,
                    "kafka.security.sasl_mechanism",
                    format!("kafka.security.protocol = {protocol} knows no SASL; make it sasl_ssl, or leave this out"),
                );
            }
        }
        let by_password = sasl && !self.is_oauth();
        for (key, is_set) in [
            ("kafka.security.username", self.username.is_some()),
            ("kafka.security.password_file", self.password_file.is_some()),
        ] {
            need(!by_password || is_set, key, "it is not set; kafka.security.sasl_mechanism needs it".into());
            need(
                by_password || !is_set,
                key,
                "it would not be used; make kafka.security.protocol sasl_ssl with PLAIN or SCRAM, or leave it out"
                    .into(),
            );
        }
        for (key, is_set) in [
            ("kafka.security.ca_file", self.ca_file.is_some()),
            ("kafka.security.certificate_file", self.certificate_file.is_some()),
            ("kafka.security.key_file", self.key_file.is_some()),
            ("kafka.security.key_password_file", self.key_password_file.is_some()),
        ] {
            need(
                tls || !is_set,
                key,
                format!("kafka.security.protocol = {protocol} knows no TLS; make it ssl or sasl_ssl"),
            );
        }
        let (certificate, key) = (self.certificate_file.is_some(), self.key_file.is_some());
        need(
            certificate || !key,
            "kafka.security.certificate_file",
            "it is not set; key_file needs its certificate".into(),
        );
        need(key || !certificate, "kafka.security.key_file", "it is not set; certificate_file needs its key".into());
        need(
            key || self.key_password_file.is_none(),
            "kafka.security.key_password_file",
            "there is no kafka.security.key_file that it opens".into(),
        );
    }

    fn oauth_problems(&self, found: &mut Vec<(&'static str, String)>) {
        let keys = [
            ("kafka.security.oauth_token_url", self.oauth_token_url.is_some()),
            ("kafka.security.oauth_client_id", self.oauth_client_id.is_some()),
            ("kafka.security.oauth_client_secret_file", self.oauth_client_secret_file.is_some()),
            ("kafka.security.oauth_scope", self.oauth_scope.is_some()),
            ("kafka.security.oauth_token_file", self.oauth_token_file.is_some()),
        ];
        let [url, id, secret, scope, file] = keys;
        if !self.is_oauth() {
            let used = keys.into_iter().filter(|(_, is_set)| *is_set);
            found.extend(used.map(|(key, _)| (key, "it is for kafka.security.sasl_mechanism = OAUTHBEARER".into())));
            return;
        }
        if file.1 {
            let used = [url, id, secret, scope].into_iter().filter(|(_, is_set)| *is_set);
            found.extend(used.map(|(key, _)| (key, "kafka.security.oauth_token_file has the token already".into())));
            return;
        }
        let missing = [url, id, secret].into_iter().filter(|(_, is_set)| !*is_set);
        found.extend(missing.map(|(key, _)| {
            (
                key,
                "it is not set; OAUTHBEARER needs url, client id and secret, or kafka.security.oauth_token_file".into(),
            )
        }));
        if self.oauth_token_url.as_deref().is_some_and(|url| !is_safe(url)) {
            found.push((
                url.0,
                "it must begin with https://; http:// is for this machine: it carries the secret".into(),
            ));
        }
    }
}

/// Whether a secret may be sent to this address: over TLS, or to this machine.
fn is_safe(url: &str) -> bool {
    let host = url.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or_default());
    let local = |host: &str| {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        matches!(name, "localhost" | "127.0.0.1" | "[::1]")
    };
    url.starts_with("https://") || host.is_some_and(local)
}

/// Reads a secret without the line break at its end.
pub(super) fn read_secret(key: &'static str, path: &Path) -> Result<String, SecretError> {
    let failed = |error| SecretError { key, path: path.to_owned(), error };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() || secret.contains('\0') {
        return Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidData, "it holds no secret")));
    }
    Ok(secret.to_owned())
}

#[cfg(test)]
#[path = "security_tests.rs"]
mod tests;
