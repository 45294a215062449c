//! `POST /api/commands`: hands an operator's order to the trainer, which stores it for all replicas and carries it out.
//!
//! Each order is told in the log with whom it came from, and refusals are, so that it can be seen who changes what, or tries
//! to. What came instead of a token is never told.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::Admin;
use super::serving::Peer;
use crate::journal::Order;
use crate::telemetry::now_ms;

/// Refusals are told once in so long, with how many there were: whoever tries tokens must not fill the log.
const REFUSALS_MS: i64 = 10_000;

/// Takes an order: 202 when it was handed over, 400 when it is none, 401 or 403 when it is not allowed, 503 when too many
/// wait.
pub async fn command(
    State(admin): State<Admin>,
    Extension(Peer(from)): Extension<Peer>,
    headers: HeaderMap,
    order: Result<Json<Order>, JsonRejection>,
) -> Response {
    if let Err((status, cure)) = admin.guard.admits(&headers) {
        if let Some(n_refused) = to_tell(now_ms()) {
            tracing::warn!(%from, status = status.as_u16(), n_refused, cure = cure.trim_end(), "command refused over HTTP");
        }
        let mut response = (status, cure).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        return response;
    }
    let order = match order {
        Ok(Json(order)) => order,
        // Well-formed JSON that is no order.
        Err(error @ JsonRejection::JsonDataError(_)) => {
            return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response();
        }
        Err(rejection) => return (rejection.status(), format!("{rejection}\n")).into_response(),
    };
    let said = serde_json::to_string(&order).expect("plain values are always JSON");
    if !admin.desk.hand_in(order) {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many commands wait; try again\n").into_response();
    }
    tracing::info!(command = said, %from, "command taken over HTTP");
    (StatusCode::ACCEPTED, "taken; the log says what became of it\n").into_response()
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
