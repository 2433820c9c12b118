//! `chronik config`: every setting, its effective value, and where that comes from.

use std::process::ExitCode;

use chronik_config::Settings;
use clap::{ArgMatches, Args};
use serde::Serialize;

use crate::{SettingArgs, output, setting_flags};

/// Shown after the help.
pub const EXAMPLES: &str = "\
Takes the same flags, environment and file as `chronik standalone`; --help shows them all.

Examples:
  chronik config
  chronik config --config chronik.toml --changed
  CHRONIK_FLUSH=os chronik config --json";

/// Arguments of `chronik config`.
#[derive(Args)]
pub struct ConfigArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Only settings that are not at their default
    #[arg(long)]
    changed: bool,
    #[command(flatten)]
    settings: SettingArgs,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    value: Option<String>,
    source: String,
    default: Option<&'static str>,
    flag: String,
    variable: String,
}

/// Prints the settings.
pub fn run(args: &ConfigArgs, matches: &ArgMatches) -> ExitCode {
    match setting_flags::load(None, &args.settings, matches) {
        Ok(settings) => {
            print(args, &settings);
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::error(&error.to_string());
            ExitCode::from(2)
        }
    }
}

fn print(args: &ConfigArgs, settings: &Settings) {
    let rows: Vec<Row> = settings
        .effective()
        .map(|(setting, value, source)| Row {
            name: setting.name,
            value: value.map(ToString::to_string),
            source: source.to_string(),
            default: setting.default,
            flag: format!("--{}", setting.flag()),
            variable: setting.variable(),
        })
        .filter(|row| !args.changed || row.source != "default")
        .collect();
    if args.json {
        output::json(&rows);
    } else {
        let lines =
            rows.into_iter().map(|row| [row.name.to_owned(), row.value.unwrap_or_default(), row.source]);
        output::table(["SETTING", "VALUE", "SOURCE"], lines);
    }
}
