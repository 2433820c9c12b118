//! Why a node doesn't start: one line that says what to do, and an exit code for scripts.

use std::error::Error;
use std::io;

use chronik_broker::BrokerError;
use chronik_log::LayoutError;

/// Why a node doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting can't be used.
    #[error("{0}")]
    Config(String),
    /// Another process listens there.
    #[error("address {address} is in use by {owner}; stop it, or choose another with --listen")]
    AddressInUse {
        /// The address.
        address: String,
        /// The process, or "another process".
        owner: String,
    },
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}; choose an address of this machine with --listen")]
    Listen {
        /// The address.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process holds the data directory.
    #[error("{0}")]
    DirectoryInUse(LayoutError),
    /// A newer version wrote the data directory.
    #[error("{0}")]
    NewerFormat(LayoutError),
    /// The data directory can't be written.
    #[error(
        "the data directory is not writable: {0}; change its owner or mode, or choose another with --data-dir"
    )]
    NotWritable(String),
    /// There is no space left.
    #[error("the disk is full: {0}; free some space, or choose another disk with --data-dir")]
    DiskFull(String),
    /// The process may not open enough files.
    #[error(
        "`ulimit -n` is {limit}, too low: {needed} are needed (max.open.files = {files}, and {SPARE_DESCRIPTORS} for \
         connections and the node itself); raise it, or lower max.open.files"
    )]
    TooFewDescriptors {
        /// The hard limit.
        limit: u64,
        /// What is needed.
        needed: u64,
        /// `max.open.files`.
        files: u64,
    },
    /// What the data directory holds can't be used.
    #[error("{0}")]
    Unusable(String),
    /// Anything else that the operating system refuses.
    #[error("{0}")]
    System(String),
}

/// Descriptors that a node needs beside those of its log.
pub const SPARE_DESCRIPTORS: u64 = 256;

impl StartError {
    /// Every exit code with its meaning, for the documentation.
    pub const EXIT_CODES: [(u8, &'static str); 11] = [
        (0, "the node ended as it was told to"),
        (1, "the operating system refused something else"),
        (2, "a flag or a setting is wrong"),
        (10, "the address is in use"),
        (11, "the address can't be listened on"),
        (12, "the data directory is in use"),
        (13, "the data directory is of a newer version"),
        (14, "the data directory is not writable"),
        (15, "the disk is full"),
        (16, "ulimit -n is too low"),
        (17, "the data directory holds what can't be used"),
    ];

    /// The process's exit code; [`StartError::EXIT_CODES`] lists them all.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::System(_) => 1,
            StartError::Config(_) => 2,
            StartError::AddressInUse { .. } => 10,
            StartError::Listen { .. } => 11,
            StartError::DirectoryInUse(_) => 12,
            StartError::NewerFormat(_) => 13,
            StartError::NotWritable(_) => 14,
            StartError::DiskFull(_) => 15,
            StartError::TooFewDescriptors { .. } => 16,
            StartError::Unusable(_) => 17,
        }
    }

    /// By what the operating system said, if it was asked.
    fn by_cause(error: &(dyn Error + 'static)) -> Option<StartError> {
        let mut cause = Some(error);
        while let Some(error_now) = cause {
            if let Some(io_error) = error_now.downcast_ref::<io::Error>() {
                return match io_error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        Some(StartError::DiskFull(error.to_string()))
                    }
                    io::ErrorKind::PermissionDenied
                    | io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::NotADirectory => Some(StartError::NotWritable(error.to_string())),
                    _ => Some(StartError::System(error.to_string())),
                };
            }
            cause = error_now.source();
        }
        None
    }
}

impl From<LayoutError> for StartError {
    fn from(error: LayoutError) -> Self {
        match error {
            LayoutError::InUse { .. } => StartError::DirectoryInUse(error),
            LayoutError::NewerFormat { .. } => StartError::NewerFormat(error),
            LayoutError::Io { action, path, source } => {
                let text = format!("can't {action} {}: {source}", path.display());
                match StartError::by_cause(&source) {
                    Some(StartError::DiskFull(_)) => StartError::DiskFull(text),
                    Some(StartError::NotWritable(_)) => StartError::NotWritable(text),
                    _ => StartError::System(text),
                }
            }
        }
    }
}

impl From<BrokerError> for StartError {
    fn from(error: BrokerError) -> Self {
        StartError::by_cause(&error).unwrap_or_else(|| StartError::Unusable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn causes_have_their_own_codes() {
        let io = |kind| LayoutError::Io {
            action: "write",
            path: "/data/format".into(),
            source: io::Error::from(kind),
        };
        assert_eq!(StartError::from(io(io::ErrorKind::StorageFull)).exit_code(), 15);
        assert_eq!(StartError::from(io(io::ErrorKind::PermissionDenied)).exit_code(), 14);
        assert_eq!(StartError::from(io(io::ErrorKind::Other)).exit_code(), 1);
        let distinct: HashSet<u8> = StartError::EXIT_CODES.iter().map(|(code, _)| *code).collect();
        assert_eq!(distinct.len(), StartError::EXIT_CODES.len());
    }

    #[test]
    fn one_line_says_what_to_do() {
        let error = StartError::from(LayoutError::Io {
            action: "write",
            path: "/data/format".into(),
            source: io::ErrorKind::StorageFull.into(),
        });
        let text = error.to_string();
        assert!(
            text.contains("/data/format") && text.contains("--data-dir") && !text.contains('\n'),
            "{text}"
        );
    }
}
