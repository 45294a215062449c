//! What the API shows: `GET /api/v1/…`. Described for machines in `openapi.json`.
//!
//! Everything comes from memory or from the files of models; nothing here changes anything.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::{Admin, pulse};
use crate::model::document;
use crate::registry::RegistryError;
use crate::telemetry::view::{ANOMALIES_MAX, Published};

/// Anomalies of a list where nobody says how many.
const LIMIT_DEFAULT: usize = 50;

/// An answer that is not what was asked for: `{"error": "…"}`.
#[derive(Debug)]
pub struct Refusal(pub StatusCode, pub String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.0, Json(json!({"error": self.1}))).into_response();
        if self.0 == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<(StatusCode, &str)> for Refusal {
    fn from((status, why): (StatusCode, &str)) -> Self {
        Self(status, why.to_owned())
    }
}

/// Proof that whoever asks may see what records hold.
pub struct Seer;

impl FromRequestParts<Admin> for Seer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Refusal> {
        admin.guard.shows(&parts.headers).map(|()| Self).map_err(Refusal::from)
    }
}

/// How many are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    limit: Option<usize>,
}

/// `GET /api/v1/status`: phase and readiness, rate, lag, model, threshold, alerts against their target.
pub async fn status(_: Seer, State(admin): State<Admin>) -> Response {
    Json(pulse::status(&admin)).into_response()
}

/// `GET /api/v1/samples`: the last five minutes, second by second.
pub async fn samples(_: Seer, State(admin): State<Admin>) -> Response {
    Json(admin.pulse.beats()).into_response()
}

/// `GET /api/v1/anomalies?limit=50`: the latest that this replica has published, the newest first.
pub async fn anomalies(
    _: Seer,
    State(admin): State<Admin>,
    limit: Result<Query<Limit>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(Limit { limit }) = limit.map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.body_text()))?;
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=ANOMALIES_MAX).contains(&limit) {
        return Err(Refusal(
            StatusCode::BAD_REQUEST,
            format!("limit is {limit}, it must be from 1 to {ANOMALIES_MAX}"),
        ));
    }
    let newest = admin.view.newest(limit);
    let records: Vec<&RawValue> = newest.iter().filter_map(|one| raw(one)).collect();
    Ok(Json(records).into_response())
}

/// `GET /api/v1/anomalies/{id}`: one of these.
pub async fn anomaly(
    _: Seer,
    State(admin): State<Admin>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let Path(id) = id.map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.body_text()))?;
    let found = admin.view.find(&id);
    let unknown = || format!("it is not among the latest {ANOMALIES_MAX} that this replica has published");
    let found = found.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, unknown()))?;
    Ok(Json(raw(&found)).into_response())
}

/// The record as it was published.
pub fn raw(published: &Published) -> Option<&RawValue> {
    serde_json::from_str(&published.json).ok()
}

/// `GET /api/v1/models`: every version, oldest first.
pub async fn models(_: Seer, State(admin): State<Admin>) -> Result<Response, Refusal> {
    from_files(move || admin.shelf.list()).await
}

/// `GET /api/v1/models/{version}`: one with its lineage, the gate's judgement and its latents.
pub async fn model(
    _: Seer,
    State(admin): State<Admin>,
    version: Result<Path<u64>, PathRejection>,
) -> Result<Response, Refusal> {
    let Path(version) = version.map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.body_text()))?;
    from_files(move || {
        let model = admin.shelf.load(version)?;
        let mut shown = document::document(&model);
        shown["current"] = json!(admin.shelf.current()? == Some(version));
        shown["latents"] = document::latents(&model);
        Ok(shown)
    })
    .await
}

/// Reads files where that keeps no probe waiting.
async fn from_files<T: Serialize + Send + 'static>(
    read: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<Response, Refusal> {
    let read = tokio::task::spawn_blocking(read).await;
    match read.map_err(|error| Refusal(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))? {
        Ok(read) => Ok(Json(read).into_response()),
        Err(RegistryError::Unknown { version, .. }) => Err(no_such(version)),
        Err(error) => Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}

/// The answer to who names a version that is not there.
pub fn no_such(version: u64) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, format!("there is no model version {version}"))
}

/// `GET /api/v1/partitions`: those of this process's lanes.
pub async fn partitions(_: Seer, State(admin): State<Admin>) -> Response {
    Json(admin.view.partitions()).into_response()
}

/// `GET /api/v1/config`: the configuration in force, which holds no secret.
pub async fn config(_: Seer, State(admin): State<Admin>) -> Response {
    let config: Arc<serde_json::Value> = admin.view.config();
    Json(&*config).into_response()
}
