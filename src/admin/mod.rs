//! The admin server: health, metrics and version over HTTP.
//!
//! It has a thread and a runtime of its own, so that it answers while every lane is busy. It reads shared state and
//! hands orders over; it never asks a broker.

mod guard;
mod orders;
mod serving;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
pub use guard::Guard;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::journal::Desk;
use crate::telemetry::health::Health;
use crate::telemetry::{Metrics, now_ms};

/// The pages that the server has.
pub const PAGES: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/version"];
/// Where commands are sent.
pub const COMMANDS: &str = "/api/commands";

/// Where the admin server listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port; port 0 takes a free one. Default `127.0.0.1:8790`.
    pub listen: SocketAddr,
    /// File that holds the token of requests that change something. Default none: only this machine may, over loopback.
    pub token_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8790)), token_file: None }
    }
}

/// What the server shows.
#[derive(Clone)]
pub struct Admin {
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Health.
    pub health: Health,
    /// Answer of `/version`.
    pub version: Arc<serde_json::Value>,
    /// Who may change something.
    pub guard: Guard,
    /// Where orders go.
    pub desk: Desk,
}

/// Answers requests on `listener` until `end` is done.
pub async fn serve(listener: TcpListener, admin: Admin, end: impl Future<Output = ()>) {
    let [health, ready, metric, build] = PAGES;
    let router = Router::new()
        .route(health, get(healthz))
        .route(ready, get(readyz))
        .route(metric, get(metrics))
        .route(build, get(version))
        .route(COMMANDS, post(orders::command))
        .with_state(admin);
    serving::serve(listener, router, end).await;
}

async fn healthz(State(admin): State<Admin>) -> Response {
    match admin.health.liveness(now_ms()) {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let readiness = admin.health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let page = admin.metrics.encode(now_ms(), &admin.health);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

async fn version(State(admin): State<Admin>) -> Response {
    Json(admin.version.as_ref()).into_response()
}
