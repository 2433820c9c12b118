//! The library's own tests for storage.

use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::{LogStore, StorageOptions, open};
use crate::machine::Machine;
use crate::types::{StorageError, TypeConfig};

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError> {
        let directory = TempDir::new().expect("a temporary directory");
        let options =
            StorageOptions { directory: directory.path().join("raft"), durable: false, segment_bytes: 256 };
        let opened = open(&options).expect("an empty directory opens");
        let (machine, _) =
            Machine::start(opened.snapshot_file, opened.log.clone(), Box::new(|_| {})).expect("a thread");
        Ok((directory, opened.log, machine))
    }
}

#[test]
fn the_librarys_suite_passes() {
    Suite::test_all(OnDisk).expect("every test of the suite passes");
}
