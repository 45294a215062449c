//! A server of OAuth tokens that nobody signed, which a test broker takes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

/// The life of a token, s.
const LIFE: u64 = 600;

/// A token endpoint (RFC 6749, section 4.4) for one client. It ends with the test binary.
#[derive(Debug)]
pub struct TokenEndpoint {
    url: String,
}

impl TokenEndpoint {
    /// Starts one that gives tokens for the subject `client` to whoever knows the client's secret.
    pub fn start(client: &str, secret: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/token", listener.local_addr().expect("bound"));
        let wanted = format!("authorization: basic {}", basic(&format!("{client}:"), secret)).to_lowercase();
        let client = client.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is none of a test's business.
                let _ = stream.and_then(|stream| answer(stream, &client, &wanted));
            }
        });
        Self { url }
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.url.clone()
    }
}

fn answer(mut stream: TcpStream, client: &str, wanted: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut request, mut part) = (String::new(), [0; 4096]);
    while !request.contains("grant_type=client_credentials") {
        match stream.read(&mut part)? {
            0 => break,
            n => request.push_str(&String::from_utf8_lossy(&part[..n])),
        }
    }
    let is_known = request.to_lowercase().contains(wanted);
    let (status, body) = if is_known {
        let token = unsigned_token(client);
        ("200 OK", format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{LIFE}}}"#))
    } else {
        ("401 Unauthorized", r#"{"error":"invalid_client"}"#.to_owned())
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// A token for `subject` that nobody signed.
pub fn unsigned_token(subject: &str) -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let claims = format!(r#"{{"sub":"{subject}","iat":{now},"exp":{}}}"#, now + LIFE);
    let [head, claims] = [r#"{"alg":"none"}"#, &claims].map(|text| BASE64_URL_SAFE_NO_PAD.encode(text));
    format!("{head}.{claims}.")
}

/// A name and a password, `name:pass` and `word`, as HTTP's Basic sends them.
pub fn basic(beginning: &str, end: &str) -> String {
    BASE64_STANDARD.encode(format!("{beginning}{end}"))
}
