//! What a producer sent and what became of it.

/// What is known about one record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Handed to the client, no answer yet.
    Sent,
    /// The client gave up: it may be there or not.
    Failed,
    /// Acknowledged; the offset where the answer named one.
    Acknowledged(Option<i64>),
}

/// One producer's records: for each target, in the order of their sequence numbers.
pub struct Ledger {
    fates: Vec<Vec<Fate>>,
    unsettled: u64,
    acknowledged: u64,
}

impl Ledger {
    pub fn new(targets: usize) -> Self {
        Self { fates: vec![Vec::new(); targets], unsettled: 0, acknowledged: 0 }
    }

    /// The sequence number that the next record of this target gets.
    pub fn next(&self, target: usize) -> u64 {
        self.fates.get(target).map_or(0, |fates| fates.len() as u64)
    }

    /// Enters the next record of a target.
    pub fn sent(&mut self, target: usize) {
        if let Some(fates) = self.fates.get_mut(target) {
            fates.push(Fate::Sent);
            self.unsettled += 1;
        }
    }

    /// Takes the last record back: the client did not accept it.
    pub fn not_sent(&mut self, target: usize) {
        if self.fates.get_mut(target).and_then(Vec::pop).is_some() {
            self.unsettled -= 1;
        }
    }

    /// Notes the answer to a record.
    pub fn settled(&mut self, target: usize, sequence: u64, fate: Fate) {
        let slot = self.fates.get_mut(target).and_then(|fates| fates.get_mut(sequence as usize));
        if let Some(slot @ Fate::Sent) = slot {
            *slot = fate;
            self.unsettled -= 1;
            self.acknowledged += u64::from(matches!(fate, Fate::Acknowledged(_)));
        }
    }

    pub fn fate(&self, target: usize, sequence: u64) -> Option<Fate> {
        self.fates.get(target)?.get(usize::try_from(sequence).ok()?).copied()
    }

    /// Records acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Records without an answer.
    pub fn unsettled(&self) -> u64 {
        self.unsettled
    }
}
