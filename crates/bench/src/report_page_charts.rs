//! The charts of a report's sections.

use crate::compare_runs::{FIGURES, Spread, spread};
use crate::histogram::Latencies;
use crate::report_page_data::{Layout, Results, Section, Side};
use crate::report_page_text::{Block, owned, stream_names, suffix};
use crate::result::RunResult;
use chronik_charts::{Axis, Bars, Chart, Series, svg};

/// What is drawn of each section.
const DRAWN: [(&str, &str); 2] = [("msg/s", "messages a second"), ("p99.9 ms", "p99.9, ms")];

/// Charts of one section: lines where its rows stand on an axis, bars otherwise; latency over load where there was a search for
/// saturation.
pub fn pictures(section: &Section, layout: &Layout, results: &Results) -> Vec<Block> {
    let mut out = Vec::new();
    let name = file_name(&section.title);
    if let Some(x_title) = &section.x_title {
        let charts =
            DRAWN.map(|(figure, y_title)| lines(section, layout, results, figure, (x_title, y_title)));
        let charts: Vec<Chart> = charts.into_iter().filter(|chart| !chart.series.is_empty()).collect();
        out.extend(picture(&name, &section.title, &charts));
    } else {
        for (figure, y_title) in DRAWN {
            let bars = bars(section, layout, results, figure, y_title);
            if !bars.groups.is_empty() {
                let what = if figure == "msg/s" { "rate" } else { "latency" };
                out.push(Block::Picture {
                    name: format!("{name}-{what}.svg"),
                    title: format!("{}: {y_title}", section.title),
                    svg: bars.svg(),
                });
            }
        }
    }
    out.extend(picture(
        &format!("{name}-saturation"),
        &format!("{}: latency over load", section.title),
        &saturations(section, layout, results),
    ));
    out.extend(picture(
        &format!("{name}-distribution"),
        &format!("{}: how many messages took how long", section.title),
        &distributions(section, layout, results),
    ));
    out.extend(picture(
        &format!("{name}-time"),
        &format!("{}: over time", section.title),
        &times(section, layout, results),
    ));
    out
}

fn picture(name: &str, title: &str, charts: &[Chart]) -> Option<Block> {
    (!charts.is_empty()).then(|| Block::Picture {
        name: format!("{name}.svg"),
        title: title.to_owned(),
        svg: svg(charts),
    })
}

/// A title as a file's name.
fn file_name(title: &str) -> String {
    let plain: String =
        title.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let parts: Vec<&str> = plain.split('-').filter(|part| !part.is_empty()).collect();
    format!("benchmark-{}", parts.join("-"))
}

/// One figure of a row on one side: of the stream that has it first.
fn value(section: &Section, row: usize, side: &Side, results: &Results, figure: &str) -> Option<Spread> {
    let figure = FIGURES.iter().find(|known| known.name == figure)?;
    let runs = owned(results, section.rows.get(row)?, side);
    stream_names(&runs).iter().find_map(|stream| spread(&runs, stream, figure))
}

fn lines(
    section: &Section,
    layout: &Layout,
    results: &Results,
    figure: &str,
    (x_title, y_title): (&str, &str),
) -> Chart {
    let series = layout.sides.iter().map(|side| Series {
        name: side.title.clone(),
        points: (0..section.rows.len())
            .filter_map(|row| {
                let x = section.rows.get(row)?.x?;
                Some((x, value(section, row, side, results, figure)?.median))
            })
            .collect(),
    });
    Chart {
        title: section.title.clone(),
        x_title: x_title.to_owned(),
        y_title: y_title.to_owned(),
        x_axis: Axis::Logarithmic,
        series: series.filter(|series| !series.points.is_empty()).collect(),
    }
}

fn bars(section: &Section, layout: &Layout, results: &Results, figure: &str, y_title: &str) -> Bars {
    let measured = |side: &&Side| {
        (0..section.rows.len()).any(|row| value(section, row, side, results, figure).is_some())
    };
    let sides: Vec<&Side> = layout.sides.iter().filter(measured).collect();
    let mut groups = Vec::new();
    for (index, row) in section.rows.iter().enumerate() {
        let values: Vec<Option<f64>> = sides
            .iter()
            .map(|side| value(section, index, side, results, figure).map(|found| found.median))
            .collect();
        if values.iter().any(Option::is_some) {
            groups.push((row.title.clone(), values));
        }
    }
    Bars {
        title: section.title.clone(),
        y_title: y_title.to_owned(),
        names: sides.iter().map(|side| side.title.clone()).collect(),
        groups,
    }
}

/// Latency over load, of the last round of each side.
fn saturations(section: &Section, layout: &Layout, results: &Results) -> Vec<Chart> {
    let mut charts = Vec::new();
    for row in &section.rows {
        let series: Vec<Series> = layout
            .sides
            .iter()
            .filter_map(|side| {
                let runs = results.runs(&row.name, &side.name);
                let saturation = runs.iter().rev().find_map(|run| run.saturation.as_ref())?;
                let mut points: Vec<(f64, f64)> = saturation
                    .steps
                    .iter()
                    // A step far beyond the limit would hide all the others.
                    .filter(|step| step.p99_ms <= saturation.p99_limit_ms * 5.0)
                    .map(|step| (step.messages_per_second, step.p99_ms))
                    .collect();
                points.sort_by(|one, other| one.0.total_cmp(&other.0));
                (!points.is_empty()).then(|| Series { name: side.title.clone(), points })
            })
            .collect();
        if !series.is_empty() {
            charts.push(Chart {
                title: row.title.clone(),
                x_title: "messages a second".to_owned(),
                y_title: "p99, ms".to_owned(),
                x_axis: Axis::Linear,
                series,
            });
        }
    }
    charts
}

/// One in so many messages took longer: of all rounds together, where rows are no points of a line.
fn distributions(section: &Section, layout: &Layout, results: &Results) -> Vec<Chart> {
    if section.x_title.is_some() {
        return Vec::new();
    }
    let mut charts = Vec::new();
    for row in &section.rows {
        let mut series = Vec::new();
        for side in &layout.sides {
            let runs = owned(results, row, side);
            for stream in stream_names(&runs) {
                if let Some(points) = distribution(&runs, &stream) {
                    series.push(Series { name: format!("{}{}", side.title, suffix(&runs, &stream)), points });
                }
            }
        }
        if !series.is_empty() {
            charts.push(Chart {
                title: row.title.clone(),
                x_title: "one message in so many took longer".to_owned(),
                y_title: "ms".to_owned(),
                x_axis: Axis::Logarithmic,
                series,
            });
        }
    }
    charts
}

fn distribution(runs: &[RunResult], stream: &str) -> Option<Vec<(f64, f64)>> {
    // What is read from a file does not grow; a new one does.
    let mut all = Latencies::new().ok()?;
    for found in runs.iter().flat_map(|run| &run.streams).filter(|found| found.name == stream) {
        // A histogram that can't be read is left out; the percentiles stand in the table all the same.
        let Ok(latencies) = Latencies::decode(&found.latency.as_ref()?.histogram) else { continue };
        all.merge(&latencies).ok()?;
    }
    if all.count() == 0 {
        return None;
    }
    let count = all.count() as f64;
    let steps = [2.0, 4.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 1e5, 1e6];
    let points = steps.iter().filter(|in_so_many| **in_so_many <= count);
    Some(points.map(|in_so_many| (*in_so_many, all.quantile_ms(1.0 - 1.0 / in_so_many))).collect())
}

/// Throughput second by second, for rows in which something happens on the way.
fn times(section: &Section, layout: &Layout, results: &Results) -> Vec<Chart> {
    let mut charts = Vec::new();
    for row in section.rows.iter().filter(|row| row.over_time) {
        for (index, y_title) in ["messages a second", "longest latency, ms"].iter().enumerate() {
            let mut series = Vec::new();
            for side in &layout.sides {
                let runs = owned(results, row, side);
                let Some(run) = runs.last() else { continue };
                for stream in &run.streams {
                    let points: Vec<(f64, f64)> = stream
                        .series
                        .iter()
                        .filter(|second| second.second >= 0)
                        .map(|second| {
                            let y = if index == 0 { second.messages as f64 } else { second.max_ms };
                            (second.second as f64, y)
                        })
                        .collect();
                    if points.iter().any(|point| point.1 > 0.0) {
                        series.push(Series {
                            name: format!("{}{}", side.title, suffix(&runs, &stream.name)),
                            points,
                        });
                    }
                }
            }
            if !series.is_empty() {
                charts.push(Chart {
                    title: row.title.clone(),
                    x_title: "seconds".to_owned(),
                    y_title: (*y_title).to_owned(),
                    x_axis: Axis::Linear,
                    series,
                });
            }
        }
    }
    charts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_of_all_rounds_together() {
        let run = |ms: u64| {
            let mut latencies = Latencies::new().unwrap();
            (0..10).for_each(|_| latencies.record(ms * 1_000_000));
            let mut run = crate::report_page_text::tests::run(1.0, 1.0);
            run.streams[0].latency = Some(latencies.describe().unwrap());
            run
        };
        let points = distribution(&[run(1), run(9)], "produce").unwrap();
        assert_eq!(points.iter().map(|point| point.0).collect::<Vec<_>>(), [2.0, 4.0, 10.0, 20.0]);
        assert!((points[0].1 - 1.0).abs() < 0.01 && (points[3].1 - 9.0).abs() < 0.01, "{points:?}");
        assert!(distribution(&[run(1)], "other").is_none());
    }

    #[test]
    fn titles_become_names_of_files() {
        assert_eq!(file_name("Three nodes, acks=all"), "benchmark-three-nodes-acks-all");
    }
}
