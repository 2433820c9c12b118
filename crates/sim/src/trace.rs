//! What happened, line by line: the same for the same seed, to the byte.

use std::fmt::Write as _;

/// The lines of a simulation, if anybody wants them.
#[derive(Debug, Default)]
pub struct Trace {
    on: bool,
    text: String,
}

impl Trace {
    /// A trace that keeps lines if `on`.
    pub fn new(on: bool) -> Self {
        Self { on, text: String::new() }
    }

    /// Notes what happened at `now_us`; `line` is made only if it is kept.
    pub fn line(&mut self, now_us: u64, line: impl FnOnce() -> String) {
        if self.on {
            let _ = writeln!(self.text, "{:>6}.{:03} {}", now_us / 1000, now_us % 1000, line());
        }
    }

    /// All lines.
    pub fn text(&self) -> &str {
        &self.text
    }
}
