//! Search on one node: the indexing thread, and queries on what it made.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::fields::Fields;
use crate::host::Host;
use crate::indexer::Indexer;
use crate::shared::Shared;

/// What search is run with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where indexes are kept; made when the first one is.
    pub dir: PathBuf,
    /// Bytes of memory (setting `search.memory`).
    pub memory: usize,
    /// A query is cut off after so long, in milliseconds (setting `search.timeout.ms`).
    pub timeout_ms: u64,
    /// How large one batch of records may become when it is decompressed (setting `max.decompressed.bytes`).
    pub max_decompressed: usize,
}

/// The indexes of a node.
pub(crate) struct Engine {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) fields: Fields,
    pub(crate) memory: usize,
    pub(crate) max_decompressed: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Starts the thread that keeps indexes.
    ///
    /// # Errors
    /// The thread can't be made.
    pub(crate) fn start(options: &Options, host: Arc<dyn Host>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let fields = Fields::new();
        let indexer = Indexer {
            host: host.clone(),
            shared: shared.clone(),
            dir: options.dir.clone(),
            fields: fields.clone(),
            memory: options.memory,
            max_decompressed: options.max_decompressed,
            open: HashMap::new(),
        };
        let thread = std::thread::Builder::new().name("search-indexer".to_owned()).spawn(|| indexer.run())?;
        Ok(Self {
            host,
            shared,
            fields,
            memory: options.memory,
            max_decompressed: options.max_decompressed,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Ends the thread: what was indexed is committed first. Waits for that.
    pub(crate) fn stop(&self) {
        self.shared.stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the indexing thread of search had ended before");
        }
    }
}
