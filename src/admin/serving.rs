//! Connections of the admin server: how many there are, how large a request is, and how long anything may take.
//!
//! Nobody who is slow, silent or many keeps others from being answered: where there are too many connections the oldest
//! one ends, and each part of a request has its deadline.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Most connections at a time: probes, Prometheus and people need a handful, and each may hold a page of metrics.
const CONNECTIONS_MAX: usize = 64;
/// Longest head of a request, bytes: request line and headers.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// Longest body of a request, bytes: a command has a few hundred.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How long a connection may take for the head of its next request; so also how long it may do nothing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may take from its head to its answer, the body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may live, so that one who doesn't read its answers ends, too.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// How long answers that are under way are waited for at the end.
const END_TIMEOUT: Duration = Duration::from_millis(500);
/// The pause after a connection that could not be taken: the process has no file descriptor left, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every answer tells browsers where it says nothing else: it is data, to be shown in no frame, run as no script and kept
/// nowhere.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// Whom a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Answers by `router` on `listener` until `end` is done. Handlers find their [`Peer`] as an extension.
pub async fn serve(listener: TcpListener, router: Router, end: impl Future<Output = ()>) {
    let router = router
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(in_time))
        .layer(middleware::map_response(with_headers));
    let graceful = GracefulShutdown::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    let mut end = pin!(end);
    loop {
        let accepted = tokio::select! {
            () = &mut end => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection to the admin server could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        while open.len() >= CONNECTIONS_MAX {
            // Whoever is answered at once is gone long before it is the oldest.
            open.pop_front().expect("there are many").abort();
        }
        let router = router.clone().layer(Extension(Peer(peer)));
        open.push_back(tokio::spawn(connection(stream, router, graceful.watcher())).abort_handle());
    }
    // What is not over in time ends with the runtime.
    let _ = tokio::time::timeout(END_TIMEOUT, graceful.shutdown()).await;
}

async fn connection(stream: TcpStream, router: Router, watcher: Watcher) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // How a connection ends is its client's affair.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, watcher.watch(connection)).await;
}

async fn in_time(request: Request, next: Next) -> Response {
    let late = |_| (StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")], "too slow\n").into_response();
    tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await.unwrap_or_else(late)
}

async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}
