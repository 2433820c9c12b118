//! Charts as SVG, and a page of them on which series can be switched on and off, for the project's reports.
//!
//! Nothing here does I/O: figures in, text out. A chart is readable on light and dark pages, and by itself.

mod bars;
mod frame;
mod lines;
mod page;

pub use bars::Bars;
pub use lines::{Axis, Chart, Series, svg};
pub use page::{Page, Part};

/// A number as a person writes it on an axis: `950`, `1.5k`, `12M`.
pub fn short(value: f64) -> String {
    let trimmed = |value: f64, unit: &str| {
        let text = format!("{value:.1}");
        format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
    };
    match value {
        v if v >= 1e6 => trimmed(v / 1e6, "M"),
        v if v >= 1e3 => trimmed(v / 1e3, "k"),
        v if v != 0.0 && v < 0.1 => format!("{v:.3}"),
        v => trimmed(v, ""),
    }
}

/// Text as it stands in XML and HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
