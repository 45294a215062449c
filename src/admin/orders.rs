//! `POST /api/v1/commands` and `/api/v1/feedback`: hand an operator's order, or an opinion on an anomaly, to the trainer, which stores
//! it for all replicas and carries it out.
//!
//! Each is told in the log with whom it came from, and refusals are, so that it can be seen who changes what, or tries
//! to. What came instead of a token is never told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::json;

use super::Admin;
use super::api::{Refusal, no_such};
use super::serving::Peer;
use crate::journal::{Feedback, Order};
use crate::telemetry::now_ms;

/// Refusals are told once in so long, with how many there were: whoever tries tokens must not fill the log.
const REFUSALS_MS: i64 = 10_000;

/// Whoever may change something.
pub struct Changer(SocketAddr);

impl FromRequestParts<Admin> for Changer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Refusal> {
        let Ok(Extension(Peer(from))) = Extension::<Peer>::from_request_parts(parts, admin).await else {
            return Err(Refusal(StatusCode::FORBIDDEN, "nobody knows whom this comes from".to_owned()));
        };
        admin.guard.admits(&parts.headers).map(|()| Self(from)).map_err(|(status, cure)| {
            if let Some(n_refused) = to_tell(now_ms()) {
                tracing::warn!(%from, status = status.as_u16(), n_refused, cure, "command refused over HTTP");
            }
            Refusal(status, cure.to_owned())
        })
    }
}

/// Takes an order: 202 when it was handed over, 400 when it is none, 401 or 403 when it is not allowed, 404 when it names a
/// version that is not there, 429 when too many wait.
pub async fn command(
    Changer(from): Changer,
    State(admin): State<Admin>,
    order: Result<Json<Order>, JsonRejection>,
) -> Result<Response, Refusal> {
    let order = read(order)?;
    order.check().map_err(|wrong| Refusal(StatusCode::BAD_REQUEST, wrong))?;
    if let Some(version) = order.version().filter(|version| !admin.shelf.has(*version)) {
        return Err(no_such(version));
    }
    taken(from, &order, admin.desk.hand_in(order.clone()))
}

/// Takes an opinion, as [`command`] takes an order.
pub async fn feedback(
    Changer(from): Changer,
    State(admin): State<Admin>,
    opinion: Result<Json<Feedback>, JsonRejection>,
) -> Result<Response, Refusal> {
    let opinion = read(opinion)?;
    if let Err(wrong) = Feedback::parse(&opinion.entry(now_ms())) {
        return Err(Refusal(StatusCode::BAD_REQUEST, wrong));
    }
    taken(from, &opinion, admin.desk.hand_in_opinion(opinion.clone()))
}

fn read<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Refusal> {
    match body {
        Ok(Json(read)) => Ok(read),
        // Well-formed JSON that is not what is wanted.
        Err(error @ JsonRejection::JsonDataError(_)) => Err(Refusal(StatusCode::BAD_REQUEST, error.body_text())),
        Err(rejection) => Err(Refusal(rejection.status(), rejection.body_text())),
    }
}

fn taken(from: SocketAddr, what: &impl Serialize, has_room: bool) -> Result<Response, Refusal> {
    if !has_room {
        return Err(Refusal(StatusCode::TOO_MANY_REQUESTS, "too many commands wait; try again".to_owned()));
    }
    let said = serde_json::to_string(what).expect("plain values are always JSON");
    tracing::info!(command = said, %from, "command taken over HTTP");
    let answer = json!({"taken": what, "note": "the log says what became of it"});
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

/// Refusals that have not been told yet, this one included, where it is time to tell them.
fn to_tell(now_ms: i64) -> Option<u64> {
    static UNTOLD: AtomicU64 = AtomicU64::new(0);
    static LAST_MS: AtomicI64 = AtomicI64::new(i64::MIN);
    UNTOLD.fetch_add(1, Ordering::Relaxed);
    let last_ms = LAST_MS.load(Ordering::Relaxed);
    let is_due = now_ms.saturating_sub(last_ms) >= REFUSALS_MS;
    (is_due && LAST_MS.compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok())
        .then(|| UNTOLD.swap(0, Ordering::Relaxed))
}
