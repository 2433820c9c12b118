//! Writes the first inputs of the targets into `fuzz/corpus` (those of `groups` are the fuzzer's own):
//! `cargo run -p chronik-fuzz-targets --example seeds`.

use std::fs;
use std::io;
use std::path::Path;

use chronik_fuzz_targets::seeds;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (target, name, bytes) in seeds() {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
