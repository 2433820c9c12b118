//! Runs files through a target, one by one:
//! `CHRONIK_FUZZ_TRACE=1 cargo run -p chronik-fuzz-targets --example replay -- groups FILE…`.

use std::error::Error;

use chronik_fuzz_targets::TARGETS;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let Some((_, target)) = TARGETS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = TARGETS.iter().map(|(known, _)| *known).collect();
        return Err(format!("{name:?} is no fuzz target; there are: {}", known.join(", ")).into());
    };
    for path in arguments {
        println!("{path}");
        target(&std::fs::read(path)?);
    }
    Ok(())
}
