//! Metrics as OpenMetrics text, family by family.

use std::fmt::{Display, Write};

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::{Family, Histogram, Kind};

/// A text that grows by families. Each may be written once.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// An empty page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a family of one metric without labels.
    pub fn value(&mut self, family: &Family, value: impl Display) {
        self.head(family);
        // Writing to a string can't fail, here and below.
        let _ = writeln!(self.text, "{} {value}", family.line_name());
    }

    /// Writes a family with one metric for each of `lines`: the values of the labels, in the family's order, and the number. A family
    /// without lines is left out.
    pub fn lines<const N: usize, S: AsRef<str>>(
        &mut self,
        family: &Family,
        lines: impl IntoIterator<Item = ([S; N], f64)>,
    ) {
        debug_assert_eq!(family.labels.len(), N, "{}", family.name);
        let mut lines = lines.into_iter().peekable();
        if lines.peek().is_none() {
            return;
        }
        self.head(family);
        let name = family.line_name();
        for (values, number) in lines {
            self.text.push_str(&name);
            self.labels(family, &values);
            let _ = writeln!(self.text, " {number}");
        }
    }

    /// Writes a family of histograms, as [`Page::lines`] does.
    pub fn histograms<'a, const N: usize, S: AsRef<str>>(
        &mut self,
        family: &Family,
        lines: impl IntoIterator<Item = ([S; N], &'a Histogram)>,
    ) {
        debug_assert_eq!(family.labels.len(), N, "{}", family.name);
        let mut lines = lines.into_iter().peekable();
        if lines.peek().is_none() {
            return;
        }
        self.head(family);
        for (values, histogram) in lines {
            let mut count = 0;
            for (bound, up_to) in histogram.buckets() {
                let _ = write!(self.text, "{}_bucket{{", family.name);
                for (label, value) in family.labels.iter().zip(&values) {
                    self.label(label, value.as_ref());
                    self.text.push(',');
                }
                let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
                let _ = writeln!(self.text, "le=\"{bound}\"}} {up_to}");
                count = up_to;
            }
            for (suffix, value) in [("_sum", histogram.sum()), ("_count", count as f64)] {
                let _ = write!(self.text, "{}{suffix}", family.name);
                self.labels(family, &values);
                let _ = writeln!(self.text, " {value}");
            }
        }
    }

    /// Writes a family that `metric`, a handle of the library's, holds.
    pub fn metric(&mut self, family: &Family, metric: impl Metric) {
        let mut registry = Registry::default();
        match family.unit() {
            Some(unit) => {
                let stem = family.name.strip_suffix(unit).and_then(|stem| stem.strip_suffix('_'));
                let unit = if unit == "bytes" { Unit::Bytes } else { Unit::Seconds };
                registry.register_with_unit(stem.unwrap_or(family.name), family.help, unit, metric);
            }
            None => registry.register(family.name, family.help, metric),
        }
        let _ = encode_registry(&mut self.text, &registry);
    }

    /// The whole text, with the line that ends it.
    pub fn finish(mut self) -> String {
        self.text.push_str("# EOF\n");
        self.text
    }

    fn head(&mut self, family: &Family) {
        let Family { name, kind, help, .. } = family;
        let _ = writeln!(self.text, "# HELP {name} {help}.\n# TYPE {name} {}", kind.word());
        if let Some(unit) = family.unit() {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        debug_assert!(*kind != Kind::Counter || !name.ends_with("_total"), "{name}");
    }

    fn labels<S: AsRef<str>>(&mut self, family: &Family, values: &[S]) {
        if values.is_empty() {
            return;
        }
        self.text.push('{');
        for (at, (label, value)) in family.labels.iter().zip(values).enumerate() {
            if at > 0 {
                self.text.push(',');
            }
            self.label(label, value.as_ref());
        }
        self.text.push('}');
    }

    /// Groups, for one, may be called anything.
    fn label(&mut self, label: &str, value: &str) {
        let _ = write!(self.text, "{label}=\"");
        for character in value.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
        self.text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn families_are_written_whole() {
        let mut page = Page::new();
        page.value(&Family::gauge("a", "A", &[]), 3);
        page.lines(&Family::counter("b_bytes", "B", &["who", "what"]), [(["x\"\\\n", "y"], 1.5)]);
        page.lines(&Family::gauge("c", "C", &["who"]), std::iter::empty::<([&str; 1], f64)>());
        assert_eq!(
            page.finish(),
            "# HELP a A.\n# TYPE a gauge\na 3\n# HELP b_bytes B.\n# TYPE b_bytes counter\n# UNIT b_bytes bytes\n\
             b_bytes_total{who=\"x\\\"\\\\\\n\",what=\"y\"} 1.5\n# EOF\n"
        );
    }

    #[test]
    fn handles_of_the_library_look_the_same() {
        let family = Family::counter("d_bytes", "D", &[]);
        let (mut ours, mut theirs) = (Page::new(), Page::new());
        let counter: Counter = Counter::default();
        counter.inc_by(7);
        ours.value(&family, 7);
        theirs.metric(&family, counter);
        assert_eq!(ours.finish(), theirs.finish());
    }

    #[test]
    fn histograms_add_up() {
        let histogram = Histogram::default();
        histogram.observe_us(200);
        histogram.observe_us(60_000_000);
        let mut page = Page::new();
        page.histograms(&Family::histogram("e_seconds", "E", &["api"]), [(["Fetch"], &histogram)]);
        let text = page.finish();
        for line in [
            "e_seconds_bucket{api=\"Fetch\",le=\"0.000128\"} 0",
            "e_seconds_bucket{api=\"Fetch\",le=\"0.000256\"} 1",
            "e_seconds_bucket{api=\"Fetch\",le=\"+Inf\"} 2",
            "e_seconds_sum{api=\"Fetch\"} 60.0002",
            "e_seconds_count{api=\"Fetch\"} 2",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line} in {text}");
        }
    }
}
