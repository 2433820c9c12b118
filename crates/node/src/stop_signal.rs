//! What tells a node to stop: SIGTERM, SIGINT, and, if asked for, the end of standard input.

use std::io::{self, Read};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Why a node is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// Standard input was closed.
    StdinClosed,
}

impl StopReason {
    /// The exit code of a process that ends at once because of it.
    pub fn exit_code(self) -> u8 {
        match self {
            StopReason::Terminate => 128 + 15,
            StopReason::Interrupt => 128 + 2,
            StopReason::StdinClosed => 0,
        }
    }
}

/// Waits for what tells a node to stop.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    stdin: Option<oneshot::Receiver<()>>,
}

impl StopSignals {
    /// From now on the signals no longer end the process.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn install(until_stdin_closes: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            stdin: until_stdin_closes.then(watch_stdin).transpose()?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> StopReason {
        let stdin = async {
            match &mut self.stdin {
                Some(closed) => {
                    let _ = closed.await;
                }
                None => std::future::pending().await,
            }
        };
        let reason = tokio::select! {
            _ = self.terminate.recv() => StopReason::Terminate,
            _ = self.interrupt.recv() => StopReason::Interrupt,
            () = stdin => StopReason::StdinClosed,
        };
        if reason == StopReason::StdinClosed {
            self.stdin = None;
        }
        reason
    }
}

/// Reads standard input on a thread of its own: the read can't be cancelled, and must not keep the runtime from ending.
fn watch_stdin() -> io::Result<oneshot::Receiver<()>> {
    let (closed, wait) = oneshot::channel();
    std::thread::Builder::new().name("chronik-stdin".to_owned()).spawn(move || {
        let mut bytes = [0; 4096];
        let mut stdin = io::stdin();
        loop {
            match stdin.read(&mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let _ = closed.send(());
    })?;
    Ok(wait)
}
