//! A part of Elasticsearch's search API, for clients that speak that: what a body of `_search` asks for, and the answer in its shape.
//!
//! | served | of it |
//! |---|---|
//! | queries | `match_all`, `match_none`, `match`, `match_phrase`, `multi_match`, `term`, `terms`, `range`, `exists`, `prefix`, `fuzzy`, `bool`, `constant_score`, `query_string`, `simple_query_string` (both in the language of `docs/search.md`) |
//! | body | `query`, `size`, `from`, `sort` by `@timestamp` or `_score`, `search_after`, `aggs`, `timeout`; `track_total_hits` and `_source` change nothing |
//! | aggregations | `terms`, `date_histogram`, `histogram`, `range`, `min`, `max`, `sum`, `avg`, `stats`, `value_count`, `percentiles`, `cardinality`, one within the other |

mod aggregations;
mod body;
mod query;
mod routes;

pub(crate) use routes::add;

/// Why a body is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub(crate) struct EsError {
    /// Where in the body, as in `query.bool.must[0]`.
    pub(crate) path: String,
    /// What is wrong, and what was expected.
    pub(crate) problem: String,
}

impl EsError {
    pub(crate) fn new(path: &str, problem: impl Into<String>) -> Self {
        Self { path: path.to_owned(), problem: problem.into() }
    }
}
