//! The settings as flags, made from their table; and the settings as they are, from flags, environment and file.

use std::fs;

use chronik_config::{ConfigErrors, Group, Kind, Mode, Setting, Settings, Sources, settings};
use clap::{Arg, ArgMatches, Command};

use crate::SettingArgs;

/// Adds a flag for each setting. `-h` shows those of the node itself, `--help` all.
pub fn add(mut command: Command) -> Command {
    for group in Group::ALL {
        for setting in settings().iter().filter(|setting| setting.group == group) {
            command = command.arg(flag(setting));
        }
    }
    command
}

fn flag(setting: &'static Setting) -> Arg {
    let mut help = setting.doc.to_owned();
    if let Some(range) = setting.kind.range().filter(|_| setting.kind != Kind::Bool) {
        help.push_str(&format!(" Allowed: {range}."));
    }
    if let Some(default) = setting.default {
        help.push_str(&format!(" [default: {default}]"));
    }
    let arg = Arg::new(setting.name).long(setting.flag()).help(help).value_name(value_name(setting));
    let arg = if setting.name == "broker.rack" { arg.visible_alias("rack") } else { arg };
    let arg = match setting.group {
        Group::Node => arg,
        // What makes a cluster is shown among the first.
        Group::Cluster if setting.kind == Kind::List(&[]) => arg,
        group => arg.help_heading(group.title()).hide_short_help(true),
    };
    if setting.kind == Kind::Bool {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        // A number may be negative, such as --log-retention-bytes -1.
        arg.allow_hyphen_values(matches!(setting.kind, Kind::Int { .. } | Kind::Long { .. }))
    }
}

fn value_name(setting: &Setting) -> &'static str {
    match (setting.name, setting.kind) {
        ("listen" | "advertise", _) => "HOST:PORT",
        ("join" | "replication.followers", _) => "HOST:PORT,...",
        ("peers", _) => "ID@HOST:PORT,...",
        ("data.dir", _) => "DIR",
        (_, Kind::Bool) => "BOOL",
        (_, Kind::Int { .. } | Kind::Long { .. } | Kind::Double { .. }) => "N",
        (_, Kind::Text) => "TEXT",
        (_, Kind::Choice(_)) => "WORD",
        (_, Kind::List(_)) => "WORDS",
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read.
    #[error("can't read the configuration file {path}: {source}")]
    File {
        /// Its path.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Something is wrong with them, one line each.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
}

/// The settings as flags, environment and file say.
///
/// With a mode, they must fit it.
pub fn load(mode: Option<Mode>, args: &SettingArgs, matches: &ArgMatches) -> Result<Settings, LoadError> {
    let flags = settings()
        .iter()
        .filter_map(|setting| Some((setting.flag(), matches.get_one::<String>(setting.name)?.clone())))
        .collect();
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let file = match &args.config {
        Some(path) => match fs::read_to_string(path) {
            Ok(text) => Some((path.clone(), text)),
            Err(source) => return Err(LoadError::File { path: path.clone(), source }),
        },
        None => None,
    };
    Ok(Settings::load(&Sources { mode, flags, environment, file })?)
}
