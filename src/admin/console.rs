//! The console: a few files inside the program, which show in a browser what the API tells.
//!
//! The page loads nothing from elsewhere, and its policy lets it run no script but its own file: what records hold is text to it.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

/// What the page may do: load its own files, and speak to this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the console.
pub struct File {
    /// Where it is found.
    pub path: &'static str,
    kind: &'static str,
    text: &'static str,
}

/// All of them.
pub static FILES: [File; 9] = [
    File { path: "/", kind: "text/html; charset=utf-8", text: include_str!("console/index.html") },
    File { path: "/console/style.css", kind: "text/css; charset=utf-8", text: include_str!("console/style.css") },
    File { path: "/console/icon.svg", kind: "image/svg+xml", text: include_str!("console/icon.svg") },
    File { path: "/console/app.js", kind: SCRIPT, text: include_str!("console/app.js") },
    File { path: "/console/api.js", kind: SCRIPT, text: include_str!("console/api.js") },
    File { path: "/console/chart.js", kind: SCRIPT, text: include_str!("console/chart.js") },
    File { path: "/console/dom.js", kind: SCRIPT, text: include_str!("console/dom.js") },
    File { path: "/console/orders.js", kind: SCRIPT, text: include_str!("console/orders.js") },
    File { path: "/console/views.js", kind: SCRIPT, text: include_str!("console/views.js") },
];

impl File {
    /// The answer to who asks for it.
    pub fn answer(&self) -> Response {
        let policy = (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        ([(header::CONTENT_TYPE, HeaderValue::from_static(self.kind)), policy], self.text).into_response()
    }
}
