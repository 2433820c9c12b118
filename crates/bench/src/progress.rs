//! What a terminal shows while a run goes on; silence when the output goes elsewhere.

use crate::tally::Gathered;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// A bar of `length` steps on standard error, hidden unless that is a terminal.
pub fn bar(length: u64, template: &str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// The live display of a load: progress, throughput, p99 and errors of the last second.
pub struct Live {
    bar: ProgressBar,
    title: String,
    failed: u64,
}

impl Live {
    /// For a load that lasts so long.
    pub fn new(title: &str, length: Duration) -> Self {
        let bar = bar(length.as_secs(), "{prefix} {wide_bar} {pos}/{len} s  {msg}");
        bar.set_prefix(title.to_owned());
        Self { bar, title: title.to_owned(), failed: 0 }
    }

    /// Shows the last second of every stream.
    pub fn show(&mut self, streams: &[Gathered], warming_up: bool) {
        let last = || streams.iter().filter_map(|stream| stream.series.last());
        self.failed += last().map(|second| second.failed).sum::<u64>();
        let rates: Vec<String> = last().map(|second| second.messages.to_string()).collect();
        let p99 = last().map(|second| second.p99_ms).fold(0.0, f64::max);
        self.bar.set_prefix(if warming_up {
            format!("{} (warm-up)", self.title)
        } else {
            self.title.clone()
        });
        self.bar.inc(1);
        self.bar.set_message(format!("{} msg/s  p99 {p99:.2} ms  {} errors", rates.join(" + "), self.failed));
    }

    /// Clears the line.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.finish();
    }
}
