//! What every chart has: colours, titles, the scale of the y axis, the legend.

use std::fmt::Write;

use crate::{escape, short};

pub(crate) const WIDTH: f64 = 420.0;
pub(crate) const HEIGHT: f64 = 290.0;
pub(crate) const LEFT: f64 = 70.0;
pub(crate) const RIGHT: f64 = 20.0;
pub(crate) const TOP: f64 = 52.0;
pub(crate) const BOTTOM: f64 = 46.0;
const COLOURS: [&str; 6] = ["#1f6f8b", "#c25b2a", "#5b8c3a", "#7a5195", "#8a6d1d", "#4d4d4d"];
/// Width of a letter of the legend, about.
const LETTER: f64 = 6.0;

pub(crate) fn colour(index: usize) -> &'static str {
    COLOURS.get(index % COLOURS.len()).copied().unwrap_or("#4d4d4d")
}

/// The picture around panels of one size.
pub(crate) fn picture(width: f64, height: f64, content: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{content}</svg>\n"
    )
}

pub(crate) fn text(out: &mut String, x: f64, y: f64, anchor: &str, content: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#333333\">{}</text>",
        escape(content)
    );
}

/// Titles, the lines of the y axis with their numbers, and who is who.
pub(crate) fn head(
    out: &mut String,
    width: f64,
    (title, y_title): (&str, &str),
    y_high: f64,
    names: &[&str],
) {
    text(out, LEFT, 16.0, "start", title);
    text(out, LEFT, 45.0, "start", y_title);
    for step in 0..=4 {
        let value = y_high * f64::from(step) / 4.0;
        let y = y_of(value, y_high);
        text(out, LEFT - 6.0, y + 4.0, "end", &short(value));
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>",
            width - RIGHT
        );
    }
    if names.iter().all(|name| name.is_empty()) {
        return;
    }
    let mut x = LEFT;
    for (index, name) in names.iter().enumerate() {
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"22\" width=\"9\" height=\"9\" fill=\"{}\"/>",
            colour(index)
        );
        text(out, x + 13.0, 31.0, "start", name);
        x += 13.0 + LETTER * name.chars().count() as f64 + 12.0;
    }
}

pub(crate) fn y_of(value: f64, y_high: f64) -> f64 {
    let plot_height = HEIGHT - TOP - BOTTOM;
    TOP + plot_height - value / y_high * plot_height
}

/// The next 1, 2, 4 or 8 times a power of ten: quarters of it are round numbers.
pub(crate) fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 8.0, 10.0].iter().map(|step| step * power).find(|top| *top >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert!((round_up(176_200.0) - 200_000.0).abs() < 1.0);
        assert!((round_up(9.5) - 10.0).abs() < 1e-9);
        assert!((round_up(0.0) - 1.0).abs() < 1e-9);
        assert_eq!(short(2_000.0), "2k");
        assert_eq!(short(1_500_000.0), "1.5M");
        assert_eq!(short(0.05), "0.050");
    }
}
