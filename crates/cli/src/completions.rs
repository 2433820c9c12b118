//! `chronik completions`: the completions of a shell.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

/// Shown after the help.
pub const EXAMPLES: &str = "\
Examples:
  chronik completions bash > ~/.local/share/bash-completion/completions/chronik
  chronik completions zsh > ~/.zfunc/_chronik
  chronik completions fish > ~/.config/fish/completions/chronik.fish";

/// Arguments of `chronik completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the completions.
pub fn run(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::command(), "chronik", &mut script);
    // Nobody reads it if that fails.
    let _ = std::io::stdout().write_all(&script);
    ExitCode::SUCCESS
}
