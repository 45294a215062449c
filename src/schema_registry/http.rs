//! A schema registry with Confluent's HTTP API
//! (<https://docs.confluent.io/platform/current/schema-registry/develop/api.html>).
//!
//! Secrets are read from their files for every request, so that a changed one needs no restart: requests are few.

use std::collections::HashSet;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Response;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, RequestBuilder};

use super::{Config, SchemaError, SchemaRegistry};
use crate::decode::{Written, WrittenIn};

/// What schemas are sent as.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// A schema is a few kilobytes; what is larger isn't one.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Schemas that one may refer to, all told.
const REFERENCES_MAX: usize = 100;

/// What is not unreserved by RFC 3986, section 2.3.
const NOT_UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A schema registry over HTTP.
pub struct HttpRegistry {
    config: Config,
    url: String,
}

/// A schema in the registry's words.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    schema: String,
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i64,
}

impl HttpRegistry {
    /// The registry of `config`, or none where it names none.
    pub fn new(config: &Config) -> Option<Self> {
        let url = config.url.as_ref()?.trim_end_matches('/').to_owned();
        Some(Self { config: config.clone(), url })
    }

    fn agent(&self) -> Result<Agent, SchemaError> {
        let roots = match &self.config.ca_file {
            None => RootCerts::PlatformVerifier,
            Some(path) => {
                let pem = read("ca_file", path)?;
                let items = parse_pem(pem.as_bytes());
                let certificates = items.filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                });
                let certificates: Vec<Certificate<'static>> = certificates.collect();
                if certificates.is_empty() {
                    let path = path.display();
                    return Err(unreachable(format!("schema_registry.ca_file = {path}: it holds no certificate")));
                }
                RootCerts::new_with_certs(&certificates)
            }
        };
        let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(roots).build();
        let agent = Agent::config_builder();
        let agent = agent.timeout_global(Some(self.config.timeout)).http_status_as_error(false).tls_config(tls);
        // Redirections could lead the credentials elsewhere.
        Ok(agent.max_redirects(0).build().into())
    }

    /// The value of the header `Authorization`.
    fn authorization(&self) -> Result<Option<String>, SchemaError> {
        if let Some(path) = &self.config.token_file {
            return Ok(Some(format!("Bearer {}", read("token_file", path)?)));
        }
        let (Some(user), Some(path)) = (&self.config.username, &self.config.password_file) else { return Ok(None) };
        Ok(Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", read("password_file", path)?)))))
    }

    /// Gets what is at `path`.
    fn ask(&self, path: &str) -> Result<Value, SchemaError> {
        self.send(path, self.agent()?.get(self.at(path)), RequestBuilder::call)
    }

    /// Posts `body` to `path`.
    fn tell(&self, path: &str, body: &Value) -> Result<Value, SchemaError> {
        let request = self.agent()?.post(self.at(path)).header("Content-Type", MEDIA_TYPE);
        self.send(path, request, |request| request.send(body.to_string()))
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn send<B>(
        &self,
        path: &str,
        request: RequestBuilder<B>,
        send: impl FnOnce(RequestBuilder<B>) -> Result<Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value, SchemaError> {
        let mut request = request.header("Accept", MEDIA_TYPE);
        if let Some(value) = self.authorization()? {
            request = request.header("Authorization", value);
        }
        let answer = send(request).map_err(|error| unreachable(format!("schema registry {}: {error}", self.url)))?;
        self.understood(path, answer)
    }

    fn understood(&self, path: &str, mut answer: Response<ureq::Body>) -> Result<Value, SchemaError> {
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| unreachable(format!("schema registry {}: {error}", self.url)))?;
        let document: Option<Value> = serde_json::from_str(&text).ok();
        let said = document.as_ref().and_then(|document| document["message"].as_str()).unwrap_or(text.trim());
        let said: String = said.chars().take(200).collect();
        match (status, document) {
            (200..=299, Some(document)) => Ok(document),
            (400 | 404 | 409 | 422, _) => Err(SchemaError::Unknown(format!("the registry answers {status}: {said}"))),
            _ => Err(unreachable(format!("schema registry {}: {path} is answered by {status}: {said}", self.url))),
        }
    }

    fn answer(&self, path: &str) -> Result<Answer, SchemaError> {
        let document = self.ask(path)?;
        serde_json::from_value(document)
            .map_err(|error| SchemaError::Unknown(format!("the registry's answer is no schema: {error}")))
    }

    /// Adds what `answer` refers to, and before each what that refers to.
    fn follow(
        &self,
        answer: &Answer,
        met: &mut HashSet<String>,
        found: &mut Vec<(String, String)>,
    ) -> Result<(), SchemaError> {
        for Reference { name, subject, version } in &answer.references {
            if !met.insert(name.clone()) {
                continue;
            }
            if met.len() > REFERENCES_MAX {
                return Err(SchemaError::Unknown(format!("it refers to more than {REFERENCES_MAX} others")));
            }
            let inner = self.answer(&format!("/subjects/{}/versions/{version}", escaped(subject)))?;
            self.follow(&inner, met, found)?;
            found.push((name.clone(), inner.schema));
        }
        Ok(())
    }
}

impl SchemaRegistry for HttpRegistry {
    fn schema(&self, id: u32) -> Result<Written, SchemaError> {
        let answer = self.answer(&format!("/schemas/ids/{id}"))?;
        let kind = match answer.schema_type.as_deref() {
            None | Some("AVRO") => WrittenIn::Avro,
            Some("PROTOBUF") => WrittenIn::Protobuf,
            Some("JSON") => WrittenIn::Json,
            Some(other) => return Err(SchemaError::Unknown(format!("it is a schema of the type `{other}`"))),
        };
        let mut references = Vec::new();
        self.follow(&answer, &mut HashSet::new(), &mut references)?;
        Ok(Written { kind, text: answer.schema, references })
    }

    fn register(&self, subject: &str, schema: &Written) -> Result<u32, SchemaError> {
        let mut body = json!({ "schema": schema.text });
        // Registries older than Protobuf know no other type than Avro, and no word for it.
        match schema.kind {
            WrittenIn::Avro => {}
            WrittenIn::Protobuf => body["schemaType"] = "PROTOBUF".into(),
            WrittenIn::Json => body["schemaType"] = "JSON".into(),
        }
        let path = format!("/subjects/{}", escaped(subject));
        // To look it up wants fewer rights: somebody else may have registered it.
        let answer = match self.tell(&path, &body) {
            Err(SchemaError::Unknown(_)) => self.tell(&format!("{path}/versions"), &body)?,
            found => found?,
        };
        let id = answer["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| SchemaError::Unknown("the registry's answer holds no id".to_owned()))
    }

    fn ping(&self) -> Result<(), SchemaError> {
        match self.ask("/schemas/types") {
            // A registry without this page answers all the same.
            Ok(_) | Err(SchemaError::Unknown(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn unreachable(reason: String) -> SchemaError {
    SchemaError::Unreachable(reason)
}

/// Reads the file of `schema_registry.<key>`.
fn read(key: &str, path: &Path) -> Result<String, SchemaError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| unreachable(format!("schema_registry.{key} = {}: {error}", path.display())))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// A name as a part of a path.
fn escaped(name: &str) -> String {
    utf8_percent_encode(name, NOT_UNRESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_the_rfc_says() {
        assert_eq!(escaped("a b/é-value"), "a%20b%2F%C3%A9-value");
    }
}
