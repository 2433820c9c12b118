//! Work on many partitions that mostly waits for the disk.

use crate::error::LogError;

/// Fewer are not worth a thread.
const SHARE_MIN: usize = 8;

/// Does `work` with each of up to `threads` shares of `all` on a thread of its own; gives what came of each, in order. For flushes: the file
/// system takes those that come together for one.
pub(crate) fn in_shares<T: Sync, R: Send>(
    all: &[T],
    threads: usize,
    work: impl Fn(&[T]) -> Result<R, LogError> + Sync,
) -> Result<Vec<R>, LogError> {
    let share = all.len().div_ceil(threads.max(1)).max(SHARE_MIN);
    std::thread::scope(|scope| {
        let helpers: Vec<_> = all.chunks(share).map(|some| scope.spawn(|| work(some))).collect();
        let ended = || LogError::Refused("a thread that flushed segments ended early".to_owned());
        helpers.into_iter().map(|helper| helper.join().unwrap_or_else(|_| Err(ended()))).collect()
    })
}
