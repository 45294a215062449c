//! A schema registry with Confluent's HTTP API
//! (<https://docs.confluent.io/platform/current/schema-registry/develop/api.html>).
//!
//! Secrets are read from their files for every request, so that a changed one needs no restart: requests are few.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::{Config, SchemaError, SchemaRegistry};
use crate::decode::{Written, WrittenIn};

/// What schemas are sent as.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// A schema is a few kilobytes; what is larger isn't one.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Schemas that one may refer to, all told.
const REFERENCES_MAX: usize = 100;

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
        Ok(Some(format!("Basic {}", base64(format!("{user}:{}", read("password_file", path)?).as_bytes()))))
    }

    fn ask(&self, path: &str, body: Option<&Value>) -> Result<Value, SchemaError> {
        let (agent, url) = (self.agent()?, format!("{}{path}", self.url));
        let failed = |error: ureq::Error| unreachable(format!("schema registry {}: {error}", self.url));
        let authorization = self.authorization()?;
        let answer = match body {
            None => {
                let request = agent.get(&url).header("Accept", MEDIA_TYPE);
                match authorization {
                    Some(value) => request.header("Authorization", value).call(),
                    None => request.call(),
                }
            }
            Some(body) => {
                let request = agent.post(&url).header("Accept", MEDIA_TYPE).header("Content-Type", MEDIA_TYPE);
                match authorization {
                    Some(value) => request.header("Authorization", value).send(body.to_string()),
                    None => request.send(body.to_string()),
                }
            }
        };
        self.understood(path, answer.map_err(failed)?)
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
        let document = self.ask(path, None)?;
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
        let kind = match schema.kind {
            WrittenIn::Avro => "AVRO",
            WrittenIn::Protobuf => "PROTOBUF",
            WrittenIn::Json => "JSON",
        };
        let body = json!({"schema": schema.text, "schemaType": kind});
        let answer = self.ask(&format!("/subjects/{}/versions", escaped(subject)), Some(&body))?;
        let id = answer["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| SchemaError::Unknown(format!("the registry's answer holds no id: {answer}")))
    }

    fn ping(&self) -> Result<(), SchemaError> {
        match self.ask("/schemas/types", None) {
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
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(escape).collect()
}

/// RFC 4648, section 4: three bytes are four letters.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let bits = chunk.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        let letter = |i: usize| if i <= chunk.len() { LETTERS[(bits >> (18 - 6 * i)) as usize & 63] } else { b'=' };
        [0, 1, 2, 3].map(|i| char::from(letter(i)))
    };
    bytes.chunks(3).flat_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_credentials_are_written_as_the_rfcs_say() {
        assert_eq!(escaped("a b/é-value"), "a%20b%2F%C3%A9-value");
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (text, letters) in vectors {
            assert_eq!(base64(text.as_bytes()), letters);
        }
    }
}
