//! Who may change something over HTTP, and who may see what records hold.
//!
//! With a token, whoever has it. Without one, only this machine: the server listens on loopback, and the request names a
//! loopback host and no origin but the console's own, so that another page in somebody's browser can't be made to send it (DNS
//! rebinding, forged requests).

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

/// The answer to who has not the token.
const UNKNOWN: (StatusCode, &str) =
    (StatusCode::UNAUTHORIZED, "send `Authorization: Bearer` with the token of admin.token_file");

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
            Some(_) if self.has_token(headers) => Ok(()),
            Some(_) => Err(UNKNOWN),
            None if !self.is_loopback => Err((
                StatusCode::FORBIDDEN,
                "admin.listen is not a loopback address: set admin.token_file to allow changes",
            )),
            None if !names_loopback(headers) || comes_from_elsewhere(headers) => Err((
                StatusCode::FORBIDDEN,
                "without admin.token_file only requests to localhost, and not from another page, may change something",
            )),
            None => Ok(()),
        }
    }

    /// Lets a request pass that shows what records, models or the configuration hold: on loopback whatever names this machine,
    /// else whoever has the token.
    ///
    /// Errors: the status and what to do.
    pub fn shows(&self, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        match &self.token {
            _ if self.is_loopback && names_loopback(headers) => Ok(()),
            Some(_) if self.has_token(headers) => Ok(()),
            Some(_) => Err(UNKNOWN),
            None => Err((
                StatusCode::FORBIDDEN,
                "without admin.token_file this is shown to this machine alone, on loopback",
            )),
        }
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer "));
        // Digests are compared, so that the time of the comparison says nothing of the token.
        given.is_some_and(|given| Some(<[u8; 32]>::from(Sha256::digest(given.trim()))) == self.token)
    }
}

/// Whether a page that is not the console's own sent the request.
fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    let own = || format!("http://{}", text(header::HOST).unwrap_or_default());
    text(header::ORIGIN).is_some_and(|origin| origin != own())
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
    fn without_a_token_the_console_may_and_no_other_page() {
        let guard = Guard::new(true, None);
        let from = |origin: &'static str| {
            let mut headers = headers("localhost:8790", None);
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            guard.admits(&headers).is_ok()
        };
        assert!(from("http://localhost:8790"));
        for other in ["http://localhost:3000", "http://evil.example", "null", "https://localhost:8790", ""] {
            assert!(!from(other), "{other}");
        }
    }

    #[test]
    fn what_records_hold_is_shown_to_this_machine_or_for_the_token() {
        let status = |guard: &Guard, host, token| guard.shows(&headers(host, token)).map_err(|(status, _)| status);
        for token in [None, Some("s3cret")] {
            let guard = Guard::new(true, token);
            assert_eq!(status(&guard, "localhost:8790", None), Ok(()));
            let refused = if token.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
            assert_eq!(status(&guard, "evil.example", None), Err(refused));
        }
        assert_eq!(status(&Guard::new(false, None), "localhost", None), Err(StatusCode::FORBIDDEN));
        let public = Guard::new(false, Some("s3cret"));
        assert_eq!(status(&public, "localhost", None), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(status(&public, "strayd.example", Some("Bearer s3cret")), Ok(()));
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
