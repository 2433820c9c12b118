//! Line charts as SVG, two panels in a row, the x axis logarithmic.

use std::fmt::Write;

/// One panel.
pub struct Chart {
    pub title: String,
    pub x_title: String,
    pub y_title: String,
    pub series: Vec<Series>,
}

/// Points in the order of x; x is above 0.
pub struct Series {
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 46.0;
const COLUMNS: usize = 2;
const COLOURS: [&str; 3] = ["#1f6f8b", "#c25b2a", "#5b8c3a"];

/// A picture of all panels, readable on light and dark pages.
pub fn svg(charts: &[Chart]) -> String {
    let rows = charts.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * rows as f64);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (index, chart) in charts.iter().enumerate() {
        let x = (index % COLUMNS) as f64 * WIDTH;
        let y = (index / COLUMNS) as f64 * HEIGHT;
        // Writing to a string cannot fail.
        let _ = writeln!(out, "<g transform=\"translate({x} {y})\">\n{}</g>", panel(chart));
    }
    out.push_str("</svg>\n");
    out
}

fn panel(chart: &Chart) -> String {
    let mut out = String::new();
    let all = || chart.series.iter().flat_map(|series| &series.points);
    let x_low = all().map(|p| p.0).fold(f64::INFINITY, f64::min).max(1.0);
    let x_high = all().map(|p| p.0).fold(x_low * 10.0, f64::max);
    let y_high = round_up(all().map(|p| p.1).fold(0.0, f64::max));
    let (plot_width, plot_height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let x_of = |x: f64| LEFT + (x.max(x_low) / x_low).log10() / (x_high / x_low).log10() * plot_width;
    let y_of = |y: f64| TOP + plot_height - y / y_high * plot_height;
    let mut text = |x: f64, y: f64, anchor: &str, content: &str| {
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#333333\">{}</text>",
            escape(content)
        );
    };
    text(LEFT, 16.0, "start", &chart.title);
    text(LEFT, 29.0, "start", &chart.y_title);
    text(LEFT + plot_width / 2.0, HEIGHT - 8.0, "middle", &chart.x_title);
    for step in 0..=4 {
        let value = y_high * f64::from(step) / 4.0;
        text(LEFT - 6.0, y_of(value) + 4.0, "end", &short(value));
    }
    for point in chart.series.first().map_or(&[][..], |series| &series.points) {
        text(x_of(point.0), HEIGHT - BOTTOM + 16.0, "middle", &short(point.0));
    }
    for step in 0..=4 {
        let y = y_of(y_high * f64::from(step) / 4.0);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>",
            LEFT + plot_width
        );
    }
    for (series, colour) in chart.series.iter().zip(COLOURS.iter().cycle()) {
        let path: Vec<String> =
            series.points.iter().map(|p| format!("{:.1},{:.1}", x_of(p.0), y_of(p.1))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for p in &series.points {
            let _ = writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"><title>{}: {}</title></circle>",
                x_of(p.0),
                y_of(p.1),
                short(p.0),
                short(p.1)
            );
        }
    }
    out
}

/// The next 1, 2, 4 or 8 times a power of ten: quarters of it are round numbers.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 8.0, 10.0].iter().map(|step| step * power).find(|top| *top >= value).unwrap_or(value)
}

fn short(value: f64) -> String {
    let trimmed = |value: f64, unit: &str| {
        let text = format!("{value:.1}");
        format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
    };
    match value {
        v if v >= 1e6 => trimmed(v / 1e6, "M"),
        v if v >= 1e3 => trimmed(v / 1e3, "k"),
        v => trimmed(v, ""),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
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
    }

    #[test]
    fn every_point_is_drawn_inside_its_panel() {
        let points = vec![(1.0, 5.0), (10.0, 8.0), (2000.0, 7.5)];
        let picture = svg(&[Chart {
            title: "a < b".to_owned(),
            x_title: "x".to_owned(),
            y_title: "y".to_owned(),
            series: vec![Series { points }],
        }]);
        assert_eq!(picture.matches("<circle").count(), 3);
        assert!(picture.contains("a &lt; b"));
        let xs = picture
            .split("cx=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse::<f64>().unwrap());
        assert!(xs.into_iter().all(|x| (LEFT..=WIDTH - RIGHT).contains(&x)));
    }
}
