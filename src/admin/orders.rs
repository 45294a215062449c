//! `POST /api/commands`: hands an operator's order to the trainer, which stores it for all replicas and carries it out.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Admin;
use crate::journal::Order;

/// Takes an order: 202 when it was handed over, 400 when it is none, 401 or 403 when it is not allowed, 503 when too many
/// wait.
pub async fn command(
    State(admin): State<Admin>,
    headers: HeaderMap,
    order: Result<Json<Order>, JsonRejection>,
) -> Response {
    if let Err(refused) = admin.guard.admits(&headers) {
        return refused.into_response();
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
    tracing::info!(command = said, "command taken over HTTP");
    (StatusCode::ACCEPTED, "taken; the log says what became of it\n").into_response()
}
