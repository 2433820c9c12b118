//! Values: reading them from text, writing them back in Kafka's form, turning them into typed fields.

use std::fmt;

use crate::setting::{Kind, Unit};

/// A value that fits the type and range of its setting.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a [`Kind::Bool`].
    Bool(bool),
    /// Of a [`Kind::Int`] or [`Kind::Long`], in the setting's unit.
    Int(i64),
    /// Of a [`Kind::Double`].
    Double(f64),
    /// Of a [`Kind::Text`] or [`Kind::Choice`].
    Text(String),
    /// Of a [`Kind::List`].
    List(Vec<String>),
}

impl fmt::Display for Value {
    /// Kafka's form: plain numbers, lists with commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Double(value) if value.fract() == 0.0 => write!(f, "{value:.1}"),
            Value::Double(value) => write!(f, "{value}"),
            Value::Text(value) => f.write_str(value),
            Value::List(values) => f.write_str(&values.join(",")),
        }
    }
}

/// How liberal to be in reading a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Plain numbers only: what Kafka's protocol carries.
    Kafka,
    /// `64MiB`, `5s`, `1_000` too: what people write.
    Human,
}

/// Reads `text` as a value of `kind`. The error is Kafka's wording of what is wrong with it.
pub(crate) fn parse(kind: Kind, unit: Unit, text: &str, style: Style) -> Result<Value, String> {
    let text = text.trim();
    match kind {
        Kind::Bool if text.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
        Kind::Bool if text.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
        Kind::Bool => Err("Expected value to be either true or false".to_owned()),
        Kind::Int { min, max } | Kind::Long { min, max } => {
            let number = match style {
                Style::Kafka => text.strip_prefix('+').unwrap_or(text).parse().ok(),
                Style::Human => human_number(unit, text),
            };
            let number = number.ok_or_else(|| format!("Not a number of type {}", kind.kafka_name()))?;
            if number < min {
                return Err(format!("Value must be at least {min}"));
            }
            if number > max {
                return Err(format!("Value must be no more than {max}"));
            }
            Ok(Value::Int(number))
        }
        Kind::Double { min, max } => {
            let number: f64 = text.parse().map_err(|_| "Not a number of type DOUBLE".to_owned())?;
            if number.is_nan() || number < min {
                return Err(format!("Value must be at least {min}"));
            }
            if number > max {
                return Err(format!("Value must be no more than {max}"));
            }
            Ok(Value::Double(number))
        }
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Choice(words) => match words.iter().find(|word| **word == text) {
            Some(word) => Ok(Value::Text((*word).to_owned())),
            None => Err(format!("String must be one of: {}", words.join(", "))),
        },
        Kind::List(words) => {
            let mut parts: Vec<String> = Vec::new();
            for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                if !words.is_empty() && !words.contains(&part) {
                    return Err(format!("String must be one of: {}", words.join(", ")));
                }
                if !parts.iter().any(|seen| seen == part) {
                    parts.push(part.to_owned());
                }
            }
            Ok(Value::List(parts))
        }
    }
}

/// Reads a whole number with an optional unit behind it, and converts it to `unit`. `None` if it is not one, does not
/// fit 64 bits, or is not a whole number of the target unit.
fn human_number(unit: Unit, text: &str) -> Option<i64> {
    let compact: String = text.chars().filter(|c| *c != '_').collect();
    let split = compact.find(|c: char| !c.is_ascii_digit() && c != '-' && c != '+').unwrap_or(compact.len());
    let (digits, suffix) = compact.split_at(split);
    let number: i64 = digits.strip_prefix('+').unwrap_or(digits).parse().ok()?;
    let suffix = suffix.trim();
    if suffix.is_empty() {
        return Some(number);
    }
    if unit == Unit::Bytes {
        return number.checked_mul(byte_factor(suffix)?);
    }
    let total = number.checked_mul(millis_factor(suffix)?)?;
    let target = unit.millis()?;
    (total % target == 0).then_some(total / target)
}

fn byte_factor(suffix: &str) -> Option<i64> {
    Some(match suffix.to_ascii_lowercase().as_str() {
        "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    })
}

fn millis_factor(suffix: &str) -> Option<i64> {
    Some(match suffix.to_ascii_lowercase().as_str() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    })
}

/// A type of a field that a setting's value fills. `None` in means: the setting is absent.
pub(crate) trait FromValue: Sized {
    /// The typed value, or `None` if the setting's kind does not fit the field's type (the tables' own test looks).
    fn from_value(value: Option<&Value>) -> Option<Self>;
}

macro_rules! from_int {
    ($($ty:ty),*) => {$(
        impl FromValue for $ty {
            fn from_value(value: Option<&Value>) -> Option<Self> {
                match value {
                    Some(Value::Int(number)) => <$ty>::try_from(*number).ok(),
                    _ => None,
                }
            }
        }
    )*};
}
from_int!(i16, i32, i64, u32, u64, usize);

impl FromValue for bool {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        match value {
            Some(Value::Bool(value)) => Some(*value),
            _ => None,
        }
    }
}

impl FromValue for f64 {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        match value {
            Some(Value::Double(value)) => Some(*value),
            _ => None,
        }
    }
}

impl FromValue for String {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        match value {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }
}

impl FromValue for Vec<String> {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        match value {
            Some(Value::List(parts)) => Some(parts.clone()),
            _ => None,
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        match value {
            None => Some(None),
            some => T::from_value(some).map(Some),
        }
    }
}

/// When `acks=all` counts as durable (setting `flush`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Flush {
    /// After a flush to disk: it survives a power loss.
    #[default]
    Disk,
    /// When the operating system has it, as Kafka does: it survives a kill of the process, not a power loss.
    Os,
}

/// Who sets a record's timestamp (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer.
    #[default]
    CreateTime,
    /// The broker, when it appends.
    LogAppendTime,
}

/// How records are stored (`compression.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CompressionType {
    /// As the producer sent them.
    #[default]
    Producer,
    /// Not compressed.
    Uncompressed,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// What happens to old records (`cleanup.policy`). Kafka allows neither: then everything is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CleanupPolicy {
    /// Segments past the retention limits are deleted.
    pub delete: bool,
    /// All but the last record of each key are removed.
    pub compact: bool,
}

/// Whether HTTP requests may change state (`http.writes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HttpWrites {
    /// Where the listener is loopback, so that only this machine reaches it.
    #[default]
    Local,
    /// Wherever the listener is.
    On,
    /// Never.
    Off,
}

/// Which replica a consumer reads from (`replica.selector.class`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplicaSelector {
    /// An in-sync one in the consumer's rack, else the leader (KIP-392).
    #[default]
    Rack,
    /// The leader.
    Leader,
}

impl ReplicaSelector {
    /// The words of the setting: ours, then the names of Kafka's classes that do the same.
    pub const WORDS: &'static [&'static str] = &[
        "rack",
        "leader",
        "org.apache.kafka.common.replica.RackAwareReplicaSelector",
        "org.apache.kafka.common.replica.LeaderSelector",
    ];
}

impl FromValue for ReplicaSelector {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        let Some(Value::Text(text)) = value else { return None };
        match text.rsplit('.').next()? {
            "rack" | "RackAwareReplicaSelector" => Some(Self::Rack),
            "leader" | "LeaderSelector" => Some(Self::Leader),
            _ => None,
        }
    }
}

macro_rules! from_choice {
    ($ty:ident { $($word:literal => $variant:ident),* $(,)? }) => {
        impl FromValue for $ty {
            fn from_value(value: Option<&Value>) -> Option<Self> {
                match value {
                    Some(Value::Text(text)) => match text.as_str() {
                        $($word => Some($ty::$variant),)*
                        _ => None,
                    },
                    _ => None,
                }
            }
        }

        impl $ty {
            /// The words of the setting.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word that the setting has for it.
            pub fn word(self) -> &'static str {
                match self {
                    $($ty::$variant => $word,)*
                }
            }
        }
    };
}

from_choice!(HttpWrites { "local" => Local, "on" => On, "off" => Off });
from_choice!(Flush { "disk" => Disk, "os" => Os });
from_choice!(TimestampType { "CreateTime" => CreateTime, "LogAppendTime" => LogAppendTime });
from_choice!(CompressionType {
    "producer" => Producer,
    "uncompressed" => Uncompressed,
    "gzip" => Gzip,
    "snappy" => Snappy,
    "lz4" => Lz4,
    "zstd" => Zstd,
});

impl FromValue for CleanupPolicy {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        match value {
            Some(Value::List(parts)) => Some(Self {
                delete: parts.iter().any(|part| part == "delete"),
                compact: parts.iter().any(|part| part == "compact"),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_units() {
        let size = |text| parse(Kind::long_from(0), Unit::Bytes, text, Style::Human);
        assert_eq!(size("64MiB"), Ok(Value::Int(64 << 20)));
        assert_eq!(size("1 kB"), Ok(Value::Int(1_000)));
        assert_eq!(size("1_000"), Ok(Value::Int(1_000)));
        assert!(size("9999999999999 TiB").is_err());
        assert!(size("5s").is_err());
        let hours = |text| parse(Kind::int_from(-1), Unit::Hours, text, Style::Human);
        assert_eq!(hours("7d"), Ok(Value::Int(168)));
        assert_eq!(hours("-1"), Ok(Value::Int(-1)));
        assert!(hours("90m").is_err());
        assert!(parse(Kind::long_from(0), Unit::Bytes, "64MiB", Style::Kafka).is_err());
        assert!(parse(Kind::long_from(0), Unit::None, "5s", Style::Human).is_err());
    }

    #[test]
    fn errors_are_in_kafkas_words() {
        let error = |kind, text| parse(kind, Unit::None, text, Style::Kafka).unwrap_err();
        assert_eq!(error(Kind::long_from(-1), "x"), "Not a number of type LONG");
        assert_eq!(error(Kind::long_from(-1), "-2"), "Value must be at least -1");
        assert_eq!(error(Kind::Bool, "yes"), "Expected value to be either true or false");
        assert_eq!(error(Kind::List(&["a", "b"]), "a,c"), "String must be one of: a, b");
        assert_eq!(error(Kind::Double { min: 0.0, max: 1.0 }, "1.5"), "Value must be no more than 1");
    }

    #[test]
    fn numbers_with_a_fraction_print_as_javas() {
        assert_eq!(Value::Double(0.5).to_string(), "0.5");
        assert_eq!(Value::Double(1.0).to_string(), "1.0");
    }
}
