//! Line charts, two panels in a row.

use std::fmt::Write;

use crate::frame::{BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, colour, head, picture, round_up, text, y_of};
use crate::{escape, short};

/// One panel.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What x is, with its unit.
    pub x_title: String,
    /// What y is, with its unit.
    pub y_title: String,
    /// How x is divided.
    pub x_axis: Axis,
    /// The lines, in the order of the legend.
    pub series: Vec<Series>,
}

/// How an axis is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Axis {
    /// Each factor takes the same length; values below 1 stand at its start.
    #[default]
    Logarithmic,
    /// Each difference takes the same length.
    Linear,
}

/// One line.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Whose it is; empty where there is only one.
    pub name: String,
    /// Points in the order of x.
    pub points: Vec<(f64, f64)>,
}

const COLUMNS: usize = 2;
/// More marks than this would run into each other.
const MARKS_MAX: usize = 8;
/// Lines of more points are drawn without a dot on each.
const DOTS_MAX: usize = 24;

/// A picture of all panels.
pub fn svg(charts: &[Chart]) -> String {
    let (rows, columns) = (charts.len().div_ceil(COLUMNS), charts.len().clamp(1, COLUMNS));
    let mut panels = String::new();
    for (index, chart) in charts.iter().enumerate() {
        let x = (index % COLUMNS) as f64 * WIDTH;
        let y = (index / COLUMNS) as f64 * HEIGHT;
        // Writing to a string cannot fail.
        let _ = writeln!(panels, "<g transform=\"translate({x} {y})\">\n{}</g>", panel(chart));
    }
    picture(WIDTH * columns as f64, HEIGHT * rows as f64, &panels)
}

/// From the values of x to places in the panel.
struct Scale {
    axis: Axis,
    low: f64,
    high: f64,
}

impl Scale {
    fn of(chart: &Chart) -> Self {
        let all = || chart.series.iter().flat_map(|series| &series.points).map(|point| point.0);
        match chart.x_axis {
            Axis::Logarithmic => {
                let low = all().fold(f64::INFINITY, f64::min).max(1.0);
                let low = if low.is_finite() { low } else { 1.0 };
                // One point alone still needs an axis.
                let high = all().fold(low, f64::max);
                Self { axis: chart.x_axis, low, high: if high > low { high } else { low * 10.0 } }
            }
            Axis::Linear => {
                let low = all().fold(0.0, f64::min);
                let high = all().fold(low, f64::max);
                Self { axis: chart.x_axis, low, high: if high > low { high } else { low + 1.0 } }
            }
        }
    }

    fn place(&self, x: f64) -> f64 {
        let part = match self.axis {
            Axis::Logarithmic => (x.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
            Axis::Linear => (x - self.low) / (self.high - self.low),
        };
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    /// Where numbers stand on the axis.
    fn marks(&self, chart: &Chart) -> Vec<f64> {
        let mut marks: Vec<f64> =
            chart.series.iter().flat_map(|series| &series.points).map(|point| point.0).collect();
        marks.sort_by(f64::total_cmp);
        marks.dedup();
        if marks.len() > MARKS_MAX || self.axis == Axis::Linear {
            let steps = 4;
            marks = match self.axis {
                Axis::Linear => (0..=steps)
                    .map(|step| self.low + (self.high - self.low) * f64::from(step) / f64::from(steps))
                    .collect(),
                Axis::Logarithmic => (0..=steps)
                    .map(|step| self.low * (self.high / self.low).powf(f64::from(step) / f64::from(steps)))
                    .collect(),
            };
        }
        marks
    }
}

fn panel(chart: &Chart) -> String {
    let mut out = String::new();
    let scale = Scale::of(chart);
    let points = chart.series.iter().flat_map(|series| &series.points);
    let y_high = round_up(points.map(|point| point.1).fold(0.0, f64::max));
    let names: Vec<&str> = chart.series.iter().map(|series| series.name.as_str()).collect();
    head(&mut out, WIDTH, (&chart.title, &chart.y_title), y_high, &names);
    text(&mut out, LEFT + (WIDTH - LEFT - RIGHT) / 2.0, HEIGHT - 8.0, "middle", &chart.x_title);
    for mark in scale.marks(chart) {
        text(&mut out, scale.place(mark), HEIGHT - BOTTOM + 16.0, "middle", &short(mark));
    }
    for (index, series) in chart.series.iter().enumerate() {
        let path: Vec<String> = series
            .points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", scale.place(*x), y_of(*y, y_high)))
            .collect();
        let colour = colour(index);
        let _ = writeln!(
            out,
            "<g data-series=\"{}\">\n<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            escape(&series.name),
            path.join(" ")
        );
        for (x, y) in series.points.iter().take(if series.points.len() > DOTS_MAX { 0 } else { DOTS_MAX }) {
            let _ = writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"><title>{} {}: {}</title></circle>",
                scale.place(*x),
                y_of(*y, y_high),
                escape(&series.name),
                short(*x),
                short(*y)
            );
        }
        out.push_str("</g>\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_drawn_inside_its_panel() {
        for x_axis in [Axis::Logarithmic, Axis::Linear] {
            let points = vec![(1.0, 5.0), (10.0, 8.0), (2000.0, 7.5)];
            let picture = svg(&[Chart {
                title: "a < b".to_owned(),
                x_axis,
                series: vec![Series { name: "one".to_owned(), points }],
                ..Chart::default()
            }]);
            assert_eq!(picture.matches("<circle").count(), 3);
            assert!(picture.contains("a &lt; b") && picture.contains("data-series=\"one\""));
            let xs = picture.split("cx=\"").skip(1).filter_map(|rest| rest.split('"').next());
            let xs: Vec<f64> = xs.filter_map(|x| x.parse().ok()).collect();
            assert_eq!(xs.len(), 3);
            assert!(xs.iter().all(|x| (LEFT..=WIDTH - RIGHT).contains(x)), "{xs:?}");
        }
    }

    #[test]
    fn a_chart_without_points_has_an_axis_all_the_same() {
        for x_axis in [Axis::Logarithmic, Axis::Linear] {
            let picture = svg(&[Chart { x_axis, series: vec![Series::default()], ..Chart::default() }]);
            assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        }
    }
}
