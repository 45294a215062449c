//! The admin server: health, metrics and version, the API and the console over HTTP.
//!
//! It has a thread and a runtime of its own, so that it answers while every lane is busy. It reads shared state and files of
//! models, and hands orders over; it never asks a broker.

mod api;
mod console;
mod events;
mod guard;
mod openapi;
mod orders;
mod pulse;
mod serving;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};
pub use guard::Guard;
pub use pulse::Pulse;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::journal::Desk;
use crate::model::ModelCell;
use crate::registry::Shelf;
use crate::telemetry::health::Health;
use crate::telemetry::view::View;
use crate::telemetry::{Metrics, now_ms};

/// The pages that the server has for probes and Prometheus.
pub const PAGES: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/version"];
/// Where commands are sent.
pub const COMMANDS: &str = "/api/v1/commands";
/// Where opinions on anomalies are sent.
pub const FEEDBACK: &str = "/api/v1/feedback";

/// Where the admin server listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port of `/healthz` `/readyz` `/metrics` `/version`, the API under `/api/v1/`, and the console at
    /// `/`; port 0 takes a free one.
    pub listen: SocketAddr,
    /// File with the token of requests that change something, and on other than loopback addresses of those that show
    /// what records hold; none: only this machine may, over loopback.
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
    /// Name of the detector.
    pub detector: Arc<str>,
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
    /// The latest anomalies, partitions, the configuration.
    pub view: View,
    /// The model that scores.
    pub cell: Arc<ModelCell>,
    /// The files of all models.
    pub shelf: Arc<Shelf>,
    /// Records scored since the start.
    pub n_scored: Arc<AtomicU64>,
    /// Anomalous records since the start, published or not.
    pub n_alerts: Arc<AtomicU64>,
    /// The last minutes, second by second.
    pub pulse: Pulse,
}

/// Every page with what answers it, except the console's.
fn routes() -> Vec<(&'static str, MethodRouter<Admin>)> {
    let [health, ready, metric, build] = PAGES;
    vec![
        (health, get(healthz)),
        (ready, get(readyz)),
        (metric, get(metrics)),
        (build, get(version)),
        ("/api/v1/openapi.json", get(openapi::document)),
        ("/api/v1/status", get(api::status)),
        ("/api/v1/samples", get(api::samples)),
        ("/api/v1/anomalies", get(api::anomalies)),
        ("/api/v1/anomalies/{id}", get(api::anomaly)),
        ("/api/v1/models", get(api::models)),
        ("/api/v1/models/{version}", get(api::model)),
        ("/api/v1/partitions", get(api::partitions)),
        ("/api/v1/config", get(api::config)),
        ("/api/v1/events", get(events::events)),
        (COMMANDS, post(orders::command)),
        (FEEDBACK, post(orders::feedback)),
    ]
}

/// Answers requests on `listener` until `end` is done.
pub async fn serve(listener: TcpListener, admin: Admin, end: impl Future<Output = ()>) {
    let router = routes().into_iter().fold(Router::new(), |router, (path, answer)| router.route(path, answer));
    let router =
        console::FILES.iter().fold(router, |router, file| router.route(file.path, get(|| async { file.answer() })));
    let beats = tokio::spawn(pulse::beat(admin.clone()));
    serving::serve(listener, router.with_state(admin), end).await;
    beats.abort();
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
