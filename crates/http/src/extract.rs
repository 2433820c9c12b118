//! What a request carries, taken out of it: axum's extractors, which refuse in the one shape of errors.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// A body of JSON, asked or answered. One that is asked must say that it is JSON: no page of another site can make a browser send that
/// unasked.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

/// The parameters of the query.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

/// The parameters of the path.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

/// Where what is served is described.
pub(crate) const SEE: &str = "what is served is described at /v1/openapi.json";

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match axum::Json::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(bad_body(&rejection)),
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let found: Result<_, QueryRejection> = axum::extract::Query::from_request_parts(parts, state).await;
        found.map(|axum::extract::Query(value)| Self(value)).map_err(|rejection| {
            ApiError::new(StatusCode::BAD_REQUEST, "bad_parameter", rejection.body_text()).hint(SEE)
        })
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let found: Result<_, PathRejection> = axum::extract::Path::from_request_parts(parts, state).await;
        found.map(|axum::extract::Path(value)| Self(value)).map_err(|rejection| {
            ApiError::new(rejection.status(), "bad_path", rejection.body_text()).hint(SEE)
        })
    }
}

/// JSON that can't be read is the client's mistake in whichever way: 400 for its form and its content alike.
fn bad_body(rejection: &JsonRejection) -> ApiError {
    let text = rejection.body_text();
    match rejection.status() {
        status @ StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(status, "body_too_large", text).hint("send less at once")
        }
        status @ StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ApiError::new(status, "not_json", text).hint("send the header `content-type: application/json`")
        }
        _ => ApiError::new(StatusCode::BAD_REQUEST, "bad_body", text).hint(SEE),
    }
}
