//! Metrics as the project tells them: each [`Family`] is declared once, with its name, kind, labels and meaning. A [`Page`] is written
//! from such declarations, and `docs/metrics.md` is made of them, so that neither has what the other lacks.
//!
//! A page is OpenMetrics text; [`to_prometheus`] makes Prometheus' older text format of it.

mod classic;
mod document;
mod family;
mod histogram;
mod page;

pub use classic::to_prometheus;
pub use document::{Section, render_markdown};
pub use family::{Family, Kind};
pub use histogram::Histogram;
pub use page::Page;
