//! The configuration file: TOML, in which a setting's name may be written with dots, in quotes, or as nested tables.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::ConfigError;

/// One key of the file.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    /// The setting's name, with dots.
    pub(crate) name: String,
    /// The value as text, or what it is instead of a value.
    pub(crate) text: Result<String, &'static str>,
    /// The line of the value, from 1.
    pub(crate) line: usize,
}

/// Reads the file's keys and values; whether they name settings is not looked at.
pub(crate) fn read(path: &str, text: &str) -> Result<Vec<Entry>, ConfigError> {
    let text = quote_dotted_keys(text);
    let table = DeTable::parse(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(&text, span.start));
        ConfigError::file_syntax(path, line, error.message())
    })?;
    let mut entries = Vec::new();
    flatten(&text, "", table.get_ref(), &mut entries);
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

/// Kafka has settings whose name begins with another one's (`max.connections` and `max.connections.per.ip`), which TOML's dotted keys
/// cannot say. So a dotted key becomes a quoted one. Lines stay where they are.
fn quote_dotted_keys(text: &str) -> String {
    if text.contains("\"\"\"") || text.contains("'''") {
        return text.to_owned();
    }
    let mut result = String::with_capacity(text.len() + 64);
    for line in text.split_inclusive('\n') {
        let key_end = line.find('=').unwrap_or(0);
        let key = line.get(..key_end).unwrap_or("").trim();
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if key.contains('.') && key.chars().all(bare) {
            result.push_str(&format!("\"{key}\" {}", line.get(key_end..).unwrap_or("")));
        } else {
            result.push_str(line);
        }
    }
    result
}

fn flatten(text: &str, prefix: &str, table: &DeTable<'_>, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            flatten(text, &format!("{name}."), inner, entries);
        } else {
            entries.push(Entry { name, text: plain(value), line: line_of(text, value.span().start) });
        }
    }
}

/// The value as the text a flag would have; or the name of what has none.
fn plain(value: &Spanned<DeValue<'_>>) -> Result<String, &'static str> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().replace('_', "")),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|n| n.to_string())
            .map_err(|_| "number of over 64 bits"),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Datetime(_) => Err("date"),
        DeValue::Table(_) => Err("table"),
        DeValue::Array(values) => {
            // An empty or scalar list is the text with commas; where a list does not fit, the parser of the value would not know
            // that it was one.
            let parts: Result<Vec<String>, _> = values.iter().map(plain).collect();
            parts.map_err(|_| "list").and_then(|parts| {
                if values.iter().all(|value| value.get_ref().is_str()) {
                    Ok(parts.join(","))
                } else {
                    Err("list")
                }
            })
        }
    }
}

fn line_of(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String, usize)> {
        let entries = read("f", text).unwrap();
        entries.into_iter().map(|entry| (entry.name, entry.text.unwrap(), entry.line)).collect()
    }

    #[test]
    fn a_name_has_three_spellings() {
        let expected = |line| vec![("log.retention.ms".to_owned(), "5".to_owned(), line)];
        assert_eq!(pairs("log.retention.ms = 5"), expected(1));
        assert_eq!(pairs("\"log.retention.ms\" = 5"), expected(1));
        assert_eq!(pairs("# hello\n[log.retention]\nms = \"5\" # here"), expected(3));
        assert_eq!(pairs("[log]\n\nretention.ms = 0x5"), expected(3));
    }

    #[test]
    fn one_name_may_begin_with_another() {
        assert_eq!(pairs("flush = \"disk\"\nflush.ms = 1_000\n").len(), 2);
        assert_eq!(pairs("a = [\"x\", \"y\"]")[0].1, "x,y");
    }

    #[test]
    fn errors_name_the_line() {
        let error = read("f", "a = 1\nb.c = \n").unwrap_err().to_string();
        assert!(error.starts_with("f:2: not valid TOML"), "{error}");
        assert!(read("f", "a = 1\na = 2\n").unwrap_err().to_string().starts_with("f:2"));
    }
}
