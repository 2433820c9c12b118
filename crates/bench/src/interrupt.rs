//! Ctrl-C (and SIGTERM): the first ends the run early, with what there is; the second ends the tool at once.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// True once the run is to end.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Listens from now on. Where the signals cannot be caught, they end the tool as usual.
pub fn listen() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let Ok(runtime) = runtime else { return };
    std::thread::spawn(move || {
        runtime.block_on(async {
            let kinds = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            let (Ok(mut interrupt), Ok(mut terminate)) = kinds else { return };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if REQUESTED.swap(true, Ordering::Relaxed) {
                    eprintln!("chronik-bench: stopped at once; the topic of the run may still be there");
                    std::process::exit(130);
                }
            }
        });
    });
}
