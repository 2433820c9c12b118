//! Queries that end in time: what was found until then is the answer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tantivy::query::{EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::{COLLECT_BLOCK_BUFFER_LEN, DocId, DocSet, Score, SegmentReader, TERMINATED};

/// How often the clock is looked at, in documents.
const LOOK_EVERY: u32 = 1024;

/// When a query ends, and whether it had to.
#[derive(Debug)]
pub(crate) struct Cut {
    at: Instant,
    cut: AtomicBool,
}

impl Cut {
    pub(crate) fn new(at: Instant) -> Arc<Self> {
        Arc::new(Self { at, cut: AtomicBool::new(false) })
    }

    /// True, from then on, once the time is over.
    pub(crate) fn is_over(&self) -> bool {
        if self.was_cut() {
            return true;
        }
        let over = Instant::now() >= self.at;
        if over {
            self.cut.store(true, Ordering::Relaxed);
        }
        over
    }

    /// True if the query was cut off.
    pub(crate) fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

/// A query that finds nothing more once its time is over.
#[derive(Clone)]
pub(crate) struct Limited {
    pub(crate) query: Arc<dyn Query>,
    pub(crate) cut: Arc<Cut>,
}

impl fmt::Debug for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.query.fmt(f)
    }
}

impl Query for Limited {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(LimitedWeight { weight: self.query.weight(scoring)?, cut: self.cut.clone() }))
    }
}

struct LimitedWeight {
    weight: Box<dyn Weight>,
    cut: Arc<Cut>,
}

impl Weight for LimitedWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        if self.cut.is_over() {
            return Ok(Box::new(EmptyScorer));
        }
        let scorer = self.weight.scorer(reader, boost)?;
        Ok(Box::new(LimitedScorer { scorer, cut: self.cut.clone(), seen: 0, over: false }))
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        self.weight.explain(reader, doc)
    }
}

struct LimitedScorer {
    scorer: Box<dyn Scorer>,
    cut: Arc<Cut>,
    seen: u32,
    over: bool,
}

impl LimitedScorer {
    /// Counts documents, and looks at the clock now and then.
    fn count(&mut self, documents: u32) -> bool {
        self.seen += documents;
        if self.seen >= LOOK_EVERY {
            self.seen = 0;
            self.over |= self.cut.is_over();
        }
        self.over
    }
}

impl DocSet for LimitedScorer {
    fn advance(&mut self) -> DocId {
        if self.count(1) { TERMINATED } else { self.scorer.advance() }
    }

    fn seek(&mut self, target: DocId) -> DocId {
        if self.count(1) { TERMINATED } else { self.scorer.seek(target) }
    }

    fn fill_buffer(&mut self, buffer: &mut [DocId; COLLECT_BLOCK_BUFFER_LEN]) -> usize {
        if self.count(64) { 0 } else { self.scorer.fill_buffer(buffer) }
    }

    fn doc(&self) -> DocId {
        if self.over { TERMINATED } else { self.scorer.doc() }
    }

    fn size_hint(&self) -> u32 {
        self.scorer.size_hint()
    }
}

impl Scorer for LimitedScorer {
    fn score(&mut self) -> Score {
        self.scorer.score()
    }
}
