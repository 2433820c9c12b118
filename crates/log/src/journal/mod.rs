//! The journal: what makes appends of every partition durable with one write and one flush.

pub(crate) mod entry;
pub(crate) mod flusher;
pub(crate) mod queue;
pub(crate) mod replay;
pub(crate) mod writer;
