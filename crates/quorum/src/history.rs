//! The last commands that were applied, for observers that are not far behind: they get these instead of the whole image.

use std::collections::VecDeque;

use bytes::Bytes;
use chronik_meta::{Command, MetaOffset};

/// The last commands in their encoded form, bounded by their bytes.
#[derive(Debug)]
pub(crate) struct History {
    /// The offset of the first command that is kept; the next one's if none is.
    first: MetaOffset,
    commands: VecDeque<Bytes>,
    bytes: usize,
    limit: usize,
}

/// What a command costs beside its bytes, about.
const OVERHEAD: usize = 64;

impl History {
    /// A history after the command `applied`, which keeps about `limit` bytes.
    pub(crate) fn new(applied: MetaOffset, limit: usize) -> Self {
        Self { first: applied + 1, commands: VecDeque::new(), bytes: 0, limit }
    }

    /// Adds the commands whose last one has the number `after`. If they don't continue what is there (a snapshot was taken in), the
    /// history begins anew behind them.
    pub(crate) fn push(&mut self, before: MetaOffset, after: MetaOffset, commands: &[Command]) {
        let next = self.first + self.commands.len() as u64;
        if before + 1 != next || before + commands.len() as u64 != after {
            self.restart(after);
            return;
        }
        for command in commands {
            let encoded = Bytes::from(command.encode());
            self.bytes += encoded.len() + OVERHEAD;
            self.commands.push_back(encoded);
        }
        while self.bytes > self.limit
            && let Some(oldest) = self.commands.pop_front()
        {
            self.bytes -= oldest.len() + OVERHEAD;
            self.first += 1;
        }
    }

    /// Forgets all of it: the image is after the command `applied` now.
    pub(crate) fn restart(&mut self, applied: MetaOffset) {
        *self = Self::new(applied, self.limit);
    }

    /// The commands after `offset`, of about `max_bytes` (one at least); `None` if the next one is not here any more, or not yet known.
    pub(crate) fn after(&self, offset: MetaOffset, max_bytes: usize) -> Option<Vec<Bytes>> {
        let skip = usize::try_from((offset + 1).checked_sub(self.first)?).ok()?;
        if skip > self.commands.len() {
            return None;
        }
        let mut taken = 0;
        let fits = |command: &&Bytes| {
            let first = taken == 0;
            taken += command.len() + OVERHEAD;
            first || taken <= max_bytes
        };
        Some(self.commands.iter().skip(skip).take_while(fits).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(count: u32) -> Command {
        Command::AllocateProducerIds { count }
    }

    #[test]
    fn keeps_the_last_ones_and_says_what_is_gone() {
        let mut history = History::new(10, 10 * (OVERHEAD + 4));
        assert_eq!(history.after(10, 1000), Some(Vec::new()));
        assert_eq!(history.after(9, 1000), None);
        assert_eq!(history.after(11, 1000), None);
        for offset in 10..40 {
            history.push(offset, offset + 1, &[command(1)]);
        }
        assert_eq!(history.after(12, 1000), None);
        let all = history.after(38, 1000).unwrap();
        assert_eq!(all, vec![Bytes::from(command(1).encode()); 2]);
        assert_eq!(history.after(35, 1).unwrap().len(), 1);
        assert!(history.bytes <= history.limit);
    }

    #[test]
    fn begins_anew_after_a_snapshot() {
        let mut history = History::new(0, 1 << 20);
        history.push(0, 2, &[command(1), command(2)]);
        history.push(7, 8, &[command(3)]);
        assert_eq!(history.after(1, 1000), None);
        assert_eq!(history.after(8, 1000), Some(Vec::new()));
        history.push(8, 20, &[]);
        assert_eq!(history.after(20, 1000), Some(Vec::new()));
    }
}
