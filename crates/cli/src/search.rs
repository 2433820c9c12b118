//! `chronik search`: finds records of a topic that is searched.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use chronik_client::{HttpError, post_json};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::connect::{self, ConnectArgs};
use crate::output;

const EXAMPLES: &str = "\
The topic needs search.enabled=true (`chronik topic create --search`, or `chronik topic alter TOPIC --set search.enabled=true`).
The newest records come first; with --follow, what is there comes in order, then new records as they are found.

Queries:
  level:error AND user.id:42        fields of JSON values
  \"connection reset\"                words one after the other, anywhere in the value
  latency:>250  code:[500 TO 599]   ranges
  key:order-*  headers.trace:abc    the key, a header; a prefix
  nmae~                             a word that is spelled nearly so
  NOT level:debug  (a OR b) c       all of these together

Examples:
  chronik search logs 'level:error AND user.id:42' --since 1h
  chronik search logs 'level:error' --follow
  chronik search logs --histogram 1m --since 1h -n 0
  chronik search logs 'level:error' --terms service,host -n 0 --json";

/// Records asked for at a time.
const PAGE: u64 = 500;
/// How often it is looked for new records.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);

/// Arguments of `chronik search`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct SearchArgs {
    /// The topic
    topic: String,
    /// The query; without one, every record
    #[arg(default_value = "")]
    query: String,
    #[command(flatten)]
    cluster: ConnectArgs,
    /// No record that is older: a length of time such as 15m, 1h or 7d, a time, or a date
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// No record that is newer
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The order of records
    #[arg(long, value_enum, default_value_t = Order::Newest, conflicts_with = "follow")]
    sort: Order,
    /// Records at most; without this, 20, or with --follow all
    #[arg(long, short = 'n', value_name = "N")]
    max: Option<u64>,
    /// Go on with new records as they are found
    #[arg(long, short, conflicts_with_all = ["histogram", "terms"])]
    follow: bool,
    /// Only this partition
    #[arg(long, short, value_name = "N")]
    partition: Option<u32>,
    /// Show where each record is, and its key, before its value
    #[arg(long)]
    keys: bool,
    /// Count records by time, in steps such as 1m
    #[arg(long, value_name = "STEP")]
    histogram: Option<String>,
    /// Count records by the values of these fields
    #[arg(long, value_name = "FIELD[,...]", value_delimiter = ',')]
    terms: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    Newest,
    Oldest,
    Score,
}

/// Runs the command.
pub fn run(args: &SearchArgs) -> ExitCode {
    connect::run(async {
        if args.follow {
            follow(args).await?
        } else {
            search(args).await?
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// What is searched for, as the request has it.
fn request(args: &SearchArgs) -> Map<String, Value> {
    let mut request = Map::new();
    let mut put = |name: &str, value: Value| {
        request.insert(name.to_owned(), value);
    };
    put("q", json!(args.query));
    for (name, time) in [("since", &args.since), ("until", &args.until)] {
        if let Some(time) = time {
            put(name, json!(ago(time)));
        }
    }
    if let Some(partition) = args.partition {
        put("partitions", json!([partition]));
    }
    request
}

/// `1h` as the server reads it; whatever is no length of time stays as it is.
fn ago(text: &str) -> String {
    let units = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_span = units.len() < text.len() && ["ms", "s", "m", "h", "d", "w"].contains(&units);
    if is_span { format!("now-{text}") } else { text.to_owned() }
}

/// Asks the first server that answers.
async fn ask(args: &SearchArgs, request: &Map<String, Value>) -> anyhow::Result<Value> {
    let path = format!("/v1/search/{}", args.topic);
    let mut problem = None;
    for server in args.cluster.servers()? {
        match post_json::<Value>(&server, &path, request, Duration::from_secs(args.cluster.timeout)).await {
            Ok(answer) => return Ok(answer),
            Err(HttpError::NotFound { .. }) => {
                bail!("there is no topic {} at {server}, or no search: is it a node of Chronik?", args.topic)
            }
            Err(error @ HttpError::Refused { .. }) => return Err(error.into()),
            Err(error) => problem = Some(error),
        }
    }
    match problem {
        Some(problem) => Err(problem.into()),
        None => bail!("no server is named"),
    }
}

async fn search(args: &SearchArgs) -> anyhow::Result<()> {
    let mut request = request(args);
    let sort = match args.sort {
        Order::Newest => "newest",
        Order::Oldest => "oldest",
        Order::Score => "score",
    };
    request.insert("sort".to_owned(), json!(sort));
    if let Some(step) = &args.histogram {
        request.insert("histogram".to_owned(), json!(step));
    }
    if !args.terms.is_empty() {
        request.insert("terms".to_owned(), json!(args.terms));
    }
    let mut left = args.max.unwrap_or(20);
    let mut is_first = true;
    loop {
        request.insert("limit".to_owned(), json!(left.min(PAGE)));
        let answer = ask(args, &request).await?;
        tell_problems(&answer);
        let shown = show(args, &answer)?;
        if is_first {
            show_counts(args, &answer);
            // Counted once; pages that follow only have records.
            request.remove("histogram");
            request.remove("terms");
            is_first = false;
        }
        left = left.saturating_sub(shown.unwrap_or(left));
        match answer.get("next") {
            Some(next) if !next.is_null() && left > 0 => {
                request.insert("cursor".to_owned(), next.clone());
            }
            _ => return Ok(()),
        }
    }
}

/// Each partition is asked from where it ended before, up to where its index is.
async fn follow(args: &SearchArgs) -> anyhow::Result<()> {
    let mut left = args.max.unwrap_or(u64::MAX);
    let mut positions: BTreeMap<u64, i64> = BTreeMap::new();
    let mut told = false;
    while left > 0 {
        let mut look = request(args);
        look.insert("limit".to_owned(), json!(0));
        look.insert("q".to_owned(), json!(""));
        let answer = ask(args, &look).await?;
        if !told {
            tell_problems(&answer);
            told = true;
        }
        let mut came = false;
        for index in answer.get("index").and_then(Value::as_array).into_iter().flatten() {
            let number = |name: &str| index.get(name).and_then(Value::as_i64).unwrap_or(0);
            let partition = u64::try_from(number("partition")).unwrap_or(0);
            let (from, to) = (positions.get(&partition).copied().unwrap_or(0), number("indexed_to"));
            if to <= from {
                continue;
            }
            came = true;
            let mut one = request(args);
            one.insert("partitions".to_owned(), json!([partition]));
            one.insert("from_offset".to_owned(), json!(from));
            one.insert("to_offset".to_owned(), json!(to));
            one.insert("sort".to_owned(), json!("oldest"));
            loop {
                one.insert("limit".to_owned(), json!(left.min(PAGE)));
                let answer = ask(args, &one).await?;
                let Some(shown) = show(args, &answer)? else { return Ok(()) };
                left = left.saturating_sub(shown);
                match answer.get("next") {
                    Some(next) if !next.is_null() && left > 0 => {
                        one.insert("cursor".to_owned(), next.clone());
                    }
                    _ => break,
                }
            }
            positions.insert(partition, to);
        }
        if !came {
            tokio::time::sleep(FOLLOW_EVERY).await;
        }
    }
    Ok(())
}

fn tell_problems(answer: &Value) {
    for problem in answer.get("problems").and_then(Value::as_array).into_iter().flatten() {
        output::error(problem.as_str().unwrap_or_default());
    }
}

/// Prints hits; how many, or `None` if nobody reads them any more.
fn show(args: &SearchArgs, answer: &Value) -> std::io::Result<Option<u64>> {
    let mut out = std::io::stdout().lock();
    let hits = answer.get("hits").and_then(Value::as_array);
    let mut shown = 0;
    for hit in hits.into_iter().flatten() {
        shown += 1;
        let written = writeln!(out, "{}", if args.cluster.json { hit.to_string() } else { line(args, hit) });
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(None),
            other => other?,
        }
    }
    out.flush()?;
    Ok(Some(shown))
}

fn line(args: &SearchArgs, hit: &Value) -> String {
    let text = |name: &str| match hit.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    if args.keys {
        format!("{}-{}\t{}\t{}", text("partition"), text("offset"), text("key"), text("value"))
    } else {
        text("value")
    }
}

fn show_counts(args: &SearchArgs, answer: &Value) {
    let wanted = args.histogram.is_some() || !args.terms.is_empty();
    if !wanted {
        return;
    }
    if args.cluster.json {
        let part = |name: &str| answer.get(name).cloned().unwrap_or(Value::Null);
        let counts = json!({
            "count": part("count"), "histogram": part("histogram"), "terms": part("terms"), "partial": part("partial"),
        });
        return output::line(&counts.to_string());
    }
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    if let Some(buckets) = answer.get("histogram").and_then(Value::as_array) {
        let row = |bucket: &Value| [text(bucket.get("timestamp")), text(bucket.get("count"))];
        output::table(["TIMESTAMP", "RECORDS"], buckets.iter().map(row));
    }
    for (field, terms) in answer.get("terms").and_then(Value::as_object).into_iter().flatten() {
        let values = terms.get("values").and_then(Value::as_array).cloned().unwrap_or_default();
        let row = |bucket: &Value| [text(bucket.get("value")), text(bucket.get("count"))];
        let others = terms.get("others").and_then(Value::as_u64).unwrap_or(0);
        let rest = (others > 0).then(|| ["(others)".to_owned(), others.to_string()]);
        output::table([field.as_str(), "RECORDS"], values.iter().map(row).chain(rest));
    }
    output::line(&format!("{} records", text(answer.get("count"))));
}

#[cfg(test)]
mod tests {
    use super::ago;

    #[test]
    fn lengths_of_time_are_ago() {
        assert_eq!(ago("1h"), "now-1h");
        assert_eq!(ago("15m"), "now-15m");
        for other in ["2026-01-01", "1700000000000", "now-5m", "h"] {
            assert_eq!(ago(other), other);
        }
    }
}
