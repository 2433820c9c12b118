//! The run as a picture: throughput, replicas that are missing, and the faults.

use super::Event;
use super::watch::Sample;
use std::fmt::Write;
use std::time::Duration;

const LEFT: f64 = 70.0;
const PLOT_WIDTH: f64 = 1100.0;
const STRIP: f64 = 120.0;
const LANE: f64 = 16.0;
const AXIS: f64 = 30.0;

/// An SVG of the whole run.
pub fn svg(samples: &[Sample], events: &[Event], title: &str) -> String {
    let end = samples.last().map_or(Duration::from_secs(1), |sample| sample.at);
    let x = |at: Duration| LEFT + PLOT_WIDTH * at.as_secs_f64() / end.as_secs_f64().max(0.001);
    let mut kinds: Vec<_> = events.iter().map(|event| event.fault.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let lanes = kinds.len() as f64 * LANE;
    let (top, middle) = (AXIS, AXIS + STRIP + 20.0);
    let bottom = middle + STRIP / 2.0 + 20.0;
    let (width, height) = (LEFT + PLOT_WIDTH + 20.0, bottom + lanes + AXIS);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"16\">{title}</text>\n"
    );
    // Writing to a string cannot fail.
    let rates: Vec<(Duration, f64)> = samples.windows(2).filter_map(rate).collect();
    let most = rates.iter().map(|(_, rate)| *rate).fold(1.0, f64::max);
    let points: String = rates
        .iter()
        .map(|(at, rate)| format!("{:.1},{:.1} ", x(*at), top + STRIP * (1.0 - rate / most)))
        .collect();
    let _ = writeln!(out, "<polyline fill=\"none\" stroke=\"#1f77b4\" points=\"{points}\"/>");
    let _ = writeln!(out, "<text x=\"4\" y=\"{}\">{most:.0}/s</text>", top + 10.0);
    let _ = writeln!(out, "<text x=\"4\" y=\"{}\">acked</text>", top + STRIP);

    let missing = |sample: &Sample| sample.under_replicated.unwrap_or(0) as f64;
    let worst = samples.iter().map(missing).fold(1.0, f64::max);
    for pair in samples.windows(2) {
        let [here, next] = pair else { continue };
        let (from, to) = (x(here.at), x(next.at));
        let mut bar = |value: f64, color: &str| {
            let tall = STRIP / 2.0 * (value / worst).min(1.0);
            let y = middle + STRIP / 2.0 - tall;
            let wide = (to - from).max(0.5);
            let _ = writeln!(
                out,
                "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\" fill=\"{color}\"/>"
            );
        };
        match here.under_replicated {
            None => bar(worst, "#dddddd"),
            Some(0) => {}
            Some(_) => bar(missing(here), "#ff9f40"),
        }
        if let Some(offline @ 1..) = here.offline {
            bar(offline as f64, "#d62728");
        }
    }
    let _ = writeln!(out, "<text x=\"4\" y=\"{}\">{worst:.0}</text>", middle + 10.0);
    let _ = writeln!(out, "<text x=\"4\" y=\"{}\">under-rep.</text>", middle + STRIP / 2.0);

    for (lane, kind) in kinds.iter().enumerate() {
        let y = bottom + lane as f64 * LANE;
        let _ = writeln!(out, "<text x=\"4\" y=\"{}\">{}</text>", y + 11.0, kind.name().replace('<', "&lt;"));
        for event in events.iter().filter(|event| event.fault.kind == *kind) {
            let (from, to) = (x(event.from), x(event.to));
            let _ = writeln!(
                out,
                "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{}\" fill=\"#9467bd\"><title>{} at {:.1} s</title></rect>",
                (to - from).max(1.0),
                LANE - 4.0,
                event.fault.describe(),
                event.from.as_secs_f64()
            );
        }
    }
    for tenth in 0..=10u32 {
        let at = end * tenth / 10;
        let _ =
            writeln!(out, "<text x=\"{:.1}\" y=\"{}\">{:.0} s</text>", x(at), height - 8.0, at.as_secs_f64());
    }
    out.push_str("</svg>\n");
    out
}

/// Records a second between two samples.
fn rate(pair: &[Sample]) -> Option<(Duration, f64)> {
    let [before, after] = pair else { return None };
    let seconds = (after.at - before.at).as_secs_f64();
    (seconds > 0.0).then(|| (after.at, (after.acknowledged - before.acknowledged) as f64 / seconds))
}
