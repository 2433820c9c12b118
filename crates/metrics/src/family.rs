//! What a metric is called and what it means.

/// What the numbers of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process runs.
    Counter,
    /// As it is now.
    Gauge,
    /// Durations, counted in buckets.
    Histogram,
}

impl Kind {
    /// The word that both formats have for it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Metrics of one name, which differ in the values of their labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// `chronik_` and what it is, with the unit (`seconds`, `bytes`) as the last word; a counter's without the `_total` that its lines have.
    pub name: &'static str,
    /// What the numbers are.
    pub kind: Kind,
    /// What is counted or measured: one sentence without its full stop.
    pub help: &'static str,
    /// The names of the labels.
    pub labels: &'static [&'static str],
}

impl Family {
    /// A family of counters.
    pub const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, kind: Kind::Counter, help, labels }
    }

    /// A family of gauges.
    pub const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, kind: Kind::Gauge, help, labels }
    }

    /// A family of histograms.
    pub const fn histogram(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, kind: Kind::Histogram, help, labels }
    }

    /// The unit, where the name says one.
    pub fn unit(&self) -> Option<&'static str> {
        let word = self.name.rsplit('_').next()?;
        ["seconds", "bytes"].into_iter().find(|unit| *unit == word)
    }

    /// The name of its lines, as queries have it.
    pub fn line_name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge | Kind::Histogram => self.name.to_owned(),
        }
    }
}
