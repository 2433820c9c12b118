//! The page of metrics, in the format that is asked for.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use chronik_metrics::to_prometheus;

use crate::error::ApiError;
use crate::node::{Node, on_own_thread};

/// OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) async fn metrics(State(node): State<Node>, headers: HeaderMap) -> Result<Response, ApiError> {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let open = wants_open_metrics(accepted);
    let text = on_own_thread(node, move |node| {
        let page = node.metrics();
        if open { page } else { to_prometheus(&page) }
    });
    let media_type = if open { OPEN_METRICS } else { PROMETHEUS };
    Ok(([(header::CONTENT_TYPE, media_type), (header::VARY, "accept")], text.await?).into_response())
}

/// Whether the Accept headers prefer OpenMetrics to plain text. Only who names it gets it.
fn wants_open_metrics<'a>(accepted: impl Iterator<Item = &'a str>) -> bool {
    let (mut open, mut plain) = (0.0f32, 0.0f32);
    for range in accepted.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let quality: f32 = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        if media_type.eq_ignore_ascii_case("application/openmetrics-text") {
            open = quality.max(open);
        } else if media_type.eq_ignore_ascii_case("text/plain") {
            plain = quality.max(plain);
        }
    }
    open > 0.0 && open >= plain
}

#[cfg(test)]
mod tests {
    use super::wants_open_metrics;

    #[test]
    fn the_format_is_the_one_that_is_preferred() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accepted, open) in [
            (&[prometheus][..], true),
            (&[], false),
            (&["*/*"], false),
            (&["text/plain"], false),
            (&["text/plain;q=0.9, application/openmetrics-text; q=0.8"], false),
            (&["text/plain;q=0.5", "application/openmetrics-text"], true),
            (&["application/openmetrics-text;q=0"], false),
        ] {
            assert_eq!(wants_open_metrics(accepted.iter().copied()), open, "{accepted:?}");
        }
    }
}
