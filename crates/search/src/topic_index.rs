//! The index of one topic: opened and checked, or made anew; written, committed, and shown to readers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_config::SearchSchema;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::{Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, Searcher, TantivyError};

use crate::directory::IndexDirectory;
use crate::fields::{Fields, tokenizers};
use crate::state::State;

/// Segments of about the same size that are merged into one.
const MERGED_AT_ONCE: usize = 8;
/// Segments below this number of records are taken for being of the same size.
const SMALL_SEGMENT: u32 = 20_000;
/// Segments beyond this number of records are not merged any more.
const MERGED_MAX: usize = 20_000_000;
/// A segment of which this part was deleted is merged to get rid of it.
const DELETED_RATIO: f32 = 0.3;

/// Why an index can't be used as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// Its files are not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It was written by another version, or for another `search.schema`.
    #[error("it is {0}")]
    Other(&'static str),
    /// It can't be read or written now.
    #[error(transparent)]
    Tantivy(#[from] TantivyError),
    /// Its directory can't be made.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
}

/// What readers see: documents, and how far they go.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) searcher: Searcher,
    pub(crate) state: Arc<State>,
}

/// The index of a topic.
pub(crate) struct TopicIndex {
    pub(crate) schema: SearchSchema,
    index: Index,
    reader: IndexReader,
    writer: Option<IndexWriter>,
    /// How far the documents go that were given to the writer.
    pub(crate) state: State,
    /// Documents and deletions since the last commit.
    pub(crate) uncommitted: u64,
}

impl TopicIndex {
    /// Opens the index in `dir`, or makes one. An index that can't be used is removed; the reason why is given with the new one.
    pub(crate) fn open(
        dir: &Path,
        schema_text: &str,
        fields: &Fields,
    ) -> Result<(Self, Option<IndexError>), IndexError> {
        // It was checked when it was set.
        let schema = SearchSchema::parse(schema_text).unwrap_or_default();
        if !dir.exists() {
            return Ok((Self::create(dir, schema, schema_text, fields)?, None));
        }
        match Self::open_whole(dir, schema.clone(), schema_text, fields) {
            Ok(index) => Ok((index, None)),
            Err(why) => {
                remove(dir)?;
                Ok((Self::create(dir, schema, schema_text, fields)?, Some(why)))
            }
        }
    }

    fn open_whole(
        dir: &Path,
        schema: SearchSchema,
        schema_text: &str,
        fields: &Fields,
    ) -> Result<Self, IndexError> {
        let directory = IndexDirectory::open(dir).map_err(TantivyError::from)?;
        let mut index = Index::open(directory).map_err(|error| IndexError::Damaged(error.to_string()))?;
        if index.schema() != fields.schema {
            return Err(IndexError::Other("of another version"));
        }
        let damaged = index.validate_checksum().map_err(|error| IndexError::Damaged(error.to_string()))?;
        if let Some(path) = damaged.iter().next() {
            return Err(IndexError::Damaged(format!("the checksum of {} does not match", path.display())));
        }
        let meta = index.load_metas().map_err(|error| IndexError::Damaged(error.to_string()))?;
        let state = State::read(meta.payload.as_deref()).ok_or(IndexError::Other("of another version"))?;
        if state.schema != schema_text {
            return Err(IndexError::Other("made by another search.schema"));
        }
        index.set_tokenizers(tokenizers());
        let reader = reader(&index)?;
        Ok(Self { schema, index, reader, writer: None, state, uncommitted: 0 })
    }

    fn create(
        dir: &Path,
        schema: SearchSchema,
        schema_text: &str,
        fields: &Fields,
    ) -> Result<Self, IndexError> {
        let directory = IndexDirectory::open(dir).map_err(TantivyError::from)?;
        let mut index = Index::create(directory, fields.schema.clone(), IndexSettings::default())?;
        index.set_tokenizers(tokenizers());
        let reader = reader(&index)?;
        let state = State::new(schema_text);
        Ok(Self { schema, index, reader, writer: None, state, uncommitted: 0 })
    }

    /// What readers see as of the last commit.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, IndexError> {
        self.reader.reload()?;
        Ok(Snapshot { searcher: self.reader.searcher(), state: Arc::new(self.state.clone()) })
    }

    /// True while memory and threads are held for writing.
    pub(crate) fn is_writing(&self) -> bool {
        self.writer.is_some()
    }

    /// The writer, which is opened with `memory` bytes if it is not open.
    pub(crate) fn writer(&mut self, memory: usize) -> Result<&mut IndexWriter, IndexError> {
        if self.writer.is_none() {
            let options = IndexWriterOptions::builder()
                .memory_budget_per_thread(memory)
                .num_worker_threads(1)
                .num_merge_threads(1)
                .build();
            let writer: IndexWriter = self.index.writer_with_options(options)?;
            let mut policy = LogMergePolicy::default();
            policy.set_min_num_segments(MERGED_AT_ONCE);
            policy.set_min_layer_size(SMALL_SEGMENT);
            policy.set_max_docs_before_merge(MERGED_MAX);
            policy.set_del_docs_ratio_before_merge(DELETED_RATIO);
            writer.set_merge_policy(Box::new(policy));
            self.writer = Some(writer);
        }
        self.writer.as_mut().ok_or(IndexError::Other("closed"))
    }

    /// Makes what was written one with how far it goes, and gives what readers see from then on.
    pub(crate) fn commit(&mut self) -> Result<Snapshot, IndexError> {
        if let Some(writer) = &mut self.writer {
            let mut prepared = writer.prepare_commit()?;
            prepared.set_payload(&self.state.write());
            prepared.commit()?;
        }
        self.uncommitted = 0;
        self.snapshot()
    }

    /// Gives back the writer's memory and threads, when merges that run have ended. What is not committed is forgotten.
    pub(crate) fn close_writer(&mut self) -> Result<(), IndexError> {
        match self.writer.take() {
            Some(writer) => Ok(writer.wait_merging_threads()?),
            None => Ok(()),
        }
    }

    /// Bytes of the index's files.
    pub(crate) fn bytes(&self) -> u64 {
        self.reader.searcher().space_usage().map_or(0, |usage| usage.total().get_bytes())
    }
}

fn reader(index: &Index) -> Result<IndexReader, TantivyError> {
    index
        .reader_builder()
        .reload_policy(ReloadPolicy::Manual)
        // Nothing is stored.
        .doc_store_cache_num_blocks(0)
        .try_into()
}

/// Removes an index.
pub(crate) fn remove(dir: &Path) -> Result<(), IndexError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(IndexError::Io { path: dir.to_owned(), error })
        }
        _ => Ok(()),
    }
}
