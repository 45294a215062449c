//! Tokens for SASL OAUTHBEARER: fetched with the client's credentials (RFC 6749, sections 2.3.1 and 4.4), or read from a
//! file that something else renews.
//!
//! librdkafka asks for the next one after four fifths of a token's life, on the thread that polls the client, and ten
//! seconds after a failure. So a fetch has a deadline, and neither a token nor the secret is ever part of an error.

use std::error::Error;
use std::io::Read;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rdkafka::client::OAuthToken;
use serde::Deserialize;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use super::security::{Security, read_secret};

/// What the form leaves as it is: `*`, `-`, `.`, `_`, letters and digits.
const NOT_PLAIN_IN_FORMS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_');
/// How long a fetch may take: the thread that polls waits for it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer, bytes. A token has a few thousand.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// The life of a token whose answer names none. RFC 6749 leaves it to the server; an hour is usual, this is careful.
const LIFE_UNNAMED: Duration = Duration::from_secs(300);
/// After this a file is read again; librdkafka asks at four fifths.
const FILE_LIFE: Duration = Duration::from_secs(75);

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

/// The token that the brokers are shown next.
///
/// Errors: what is wrong with the endpoint, the file or the answer, in words for the user, without a secret.
pub(super) fn token(security: &Security) -> Result<OAuthToken, Box<dyn Error>> {
    let (token, life) = match &security.oauth_token_file {
        Some(path) => (read_secret("kafka.security.oauth_token_file", path)?.trim().to_owned(), FILE_LIFE),
        None => fetch(security)?,
    };
    let expires = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? + life;
    let principal_name = security.oauth_client_id.clone().unwrap_or_else(|| "strayd".into());
    Ok(OAuthToken { token, principal_name, lifetime_ms: i64::try_from(expires.as_millis())? })
}

fn fetch(security: &Security) -> Result<(String, Duration), Box<dyn Error>> {
    let (Some(url), Some(id), Some(path)) =
        (&security.oauth_token_url, &security.oauth_client_id, &security.oauth_client_secret_file)
    else {
        return Err("kafka.security.oauth_token_url, oauth_client_id or oauth_client_secret_file is not set".into());
    };
    // Read each time: a secret that was exchanged is taken up.
    let secret = read_secret("kafka.security.oauth_client_secret_file", path)?;
    let basic = BASE64_STANDARD.encode(format!("{}:{}", form_encoded(id), form_encoded(&secret)));
    let mut form = vec![("grant_type", "client_credentials")];
    form.extend(security.oauth_scope.as_deref().map(|scope| ("scope", scope)));
    let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(RootCerts::PlatformVerifier).build();
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(FETCH_TIMEOUT))
        .http_status_as_error(false)
        .max_redirects(0) // the credentials are for this address alone
        .tls_config(tls)
        .build()
        .into();
    let failed = |what: String| format!("kafka.security.oauth_token_url = {url}: {what}");
    let sent = agent.post(url).header("authorization", format!("Basic {basic}")).send_form(form);
    let mut response = sent.map_err(|error| failed(error.to_string()))?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    response.body_mut().as_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut body)?;
    if status != 200 {
        return Err(failed(format!("it answers {status}: {}", refusal(&body))).into());
    }
    let answer: Answer =
        serde_json::from_slice(&body).map_err(|_| failed("its answer holds no access_token".into()))?;
    Ok((answer.access_token, answer.expires_in.map_or(LIFE_UNNAMED, Duration::from_secs)))
}

/// The code of an error in the words of RFC 6749, section 5.2. Nothing else of an answer is shown: it may repeat what was sent.
fn refusal(body: &[u8]) -> &'static str {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    const CODES: [&str; 6] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    ];
    let code = serde_json::from_slice::<Refusal>(body).map(|refusal| refusal.error).unwrap_or_default();
    CODES.into_iter().find(|known| *known == code).unwrap_or("no reason that RFC 6749 knows")
}

/// As `application/x-www-form-urlencoded` has it, which RFC 6749 wants before the encoding of Basic.
fn form_encoded(text: &str) -> String {
    utf8_percent_encode(text, NOT_PLAIN_IN_FORMS).to_string().replace("%20", "+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_encoded_before_they_are_joined() {
        assert_eq!(form_encoded("a b:c/ä~"), "a+b%3Ac%2F%C3%A4%7E");
    }

    #[test]
    fn of_a_refusal_only_the_known_code_is_shown() {
        assert_eq!(
            refusal(br#"{"error":"invalid_client","error_description":"bad secret hunter2"}"#),
            "invalid_client"
        );
        assert_eq!(refusal(br#"{"error":"hunter2"}"#), "no reason that RFC 6749 knows");
    }

    #[test]
    fn a_token_file_is_read_each_time() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("token");
        let security = Security { oauth_token_file: Some(path.clone()), ..Security::default() };
        for text in ["one", "two\n"] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(token(&security).expect("a token").token, text.trim());
        }
        std::fs::remove_file(&path).expect("removed");
        let error = token(&security).err().expect("no token").to_string();
        assert!(error.starts_with("kafka.security.oauth_token_file = "), "{error}");
    }
}
