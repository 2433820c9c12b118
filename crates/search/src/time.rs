//! Times as people write them.

use tantivy::time::format_description::well_known::Rfc3339;
use tantivy::time::{Date, Month, OffsetDateTime};

/// What a time can be, in words.
pub(crate) const EXPECTED: &str =
    "a time such as 2026-11-25T12:00:00Z, a day such as 2026-11-25, milliseconds since 1970, now, or now-15m";

/// A span of time: one millisecond, or the day that was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time {
    /// Its first millisecond since the Unix epoch.
    pub(crate) start_ms: i64,
    /// Its last one.
    pub(crate) end_ms: i64,
}

/// Reads a time; `now` is what `now_ms` says.
pub(crate) fn parse(text: &str, now_ms: i64) -> Option<Time> {
    let moment = |millis| Time { start_ms: millis, end_ms: millis };
    if let Some(rest) = text.strip_prefix("now") {
        return match rest.chars().next() {
            None => Some(moment(now_ms)),
            Some(sign @ ('-' | '+')) => {
                let span = span(rest.get(1..)?)?;
                let millis = if sign == '-' { now_ms.checked_sub(span) } else { now_ms.checked_add(span) };
                in_range(millis?).map(moment)
            }
            Some(_) => None,
        };
    }
    if let Ok(millis) = text.parse::<i64>() {
        return in_range(millis).map(moment);
    }
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        let millis = i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()?;
        return in_range(millis).map(moment);
    }
    let start_ms = day(text)?.midnight().assume_utc().unix_timestamp().checked_mul(1000)?;
    in_range(start_ms).map(|start_ms| Time { start_ms, end_ms: start_ms + 86_399_999 })
}

/// What nanoseconds of 64 bits can say.
fn in_range(millis: i64) -> Option<i64> {
    (millis.abs() <= i64::MAX / 1_000_000 - 86_400_000).then_some(millis)
}

fn day(text: &str) -> Option<Date> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if year.len() != 4 {
        return None;
    }
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()
}

/// A length of time such as `15m`, in milliseconds.
pub(crate) fn span(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let at = |text| parse(text, 1_000_000).map(|time| (time.start_ms, time.end_ms));
        assert_eq!(at("now"), Some((1_000_000, 1_000_000)));
        assert_eq!(at("now-15m"), Some((100_000, 100_000)));
        assert_eq!(at("1970-01-02"), Some((86_400_000, 172_799_999)));
        assert_eq!(at("1970-01-01T00:00:01.5Z"), Some((1500, 1500)));
        assert_eq!(at("12"), Some((12, 12)));
        for wrong in
            ["", "yesterday", "now-", "now-5", "1970-13-01", "99999999999999999999", "9223372036854775807"]
        {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
