//! Who may change something over HTTP.
//!
//! With a token, whoever has it. Without one, only this machine: the server listens on loopback, and the request names a
//! loopback host and no origin, so that a page in somebody's browser can't be made to send it (DNS rebinding, forged requests).

use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};

/// The rule of one server.
#[derive(Clone, Debug)]
pub struct Guard {
    /// SHA-256 of the token; none: loopback only.
    token: Option<[u8; 32]>,
    is_loopback: bool,
}

impl Guard {
    /// The rule of a server that listens on loopback or not, with a token or not.
    pub fn new(is_loopback: bool, token: Option<&str>) -> Self {
        Self { token: token.map(|token| Sha256::digest(token.trim()).into()), is_loopback }
    }

    /// Lets a request pass that may change something.
    ///
    /// Errors: the status and what to do.
    pub fn admits(&self, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        match &self.token {
            Some(token) => {
                let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
                let given = given.and_then(|value| value.strip_prefix("Bearer "));
                // Digests are compared, so that the time of the comparison says nothing of the token.
                let admitted = given.is_some_and(|given| <[u8; 32]>::from(Sha256::digest(given.trim())) == *token);
                let refused =
                    (StatusCode::UNAUTHORIZED, "send `Authorization: Bearer` with the token of admin.token_file\n");
                if admitted { Ok(()) } else { Err(refused) }
            }
            None if !self.is_loopback => Err((
                StatusCode::FORBIDDEN,
                "admin.listen is not a loopback address: set admin.token_file to allow changes\n",
            )),
            None if !names_loopback(headers) || headers.contains_key(header::ORIGIN) => Err((
                StatusCode::FORBIDDEN,
                "without admin.token_file only requests to localhost, and not from a browser, may change something\n",
            )),
            None => Ok(()),
        }
    }
}

/// Whether the request's Host is this machine by a name that no other can take.
fn names_loopback(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    matches!(name.map_or(host, |(name, _)| name), "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str, authorization: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn without_a_token_only_this_machine_changes_anything() {
        let guard = Guard::new(true, None);
        for host in ["localhost:8790", "127.0.0.1:8790", "[::1]:8790", "localhost"] {
            assert!(guard.admits(&headers(host, None)).is_ok(), "{host}");
        }
        for host in ["evil.example:8790", "127.0.0.1.evil.example", "10.0.0.7:8790"] {
            assert_eq!(guard.admits(&headers(host, None)).unwrap_err().0, StatusCode::FORBIDDEN, "{host}");
        }
        let public = Guard::new(false, None);
        assert!(public.admits(&headers("localhost", None)).unwrap_err().1.contains("admin.token_file"));
    }

    #[test]
    fn with_a_token_whoever_has_it_and_nobody_else() {
        let guard = Guard::new(false, Some("s3cret\n"));
        assert!(guard.admits(&headers("strayd.example", Some("Bearer s3cret"))).is_ok());
        for given in [None, Some("Bearer s3cre"), Some("s3cret"), Some("Bearer ")] {
            let refused = guard.admits(&headers("localhost", given)).unwrap_err();
            assert_eq!(refused.0, StatusCode::UNAUTHORIZED, "{given:?}");
        }
    }
}
