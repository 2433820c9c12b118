//! Numbers as people read them.

/// A number of things with the things' name: `1 partition`, `1,200 partitions`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in its largest sensible unit, cut, not rounded: `350 ms`, `12 s`, `5 min`, `3 h`, `2 d`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// A size in its largest sensible unit: `512 B`, `1.5 MiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(size, _)| number >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", number as f64 / *size as f64),
        None => format!("{number} B"),
    }
}

/// The first few names, and how many there are beside them: `a, b, c and 4 more`.
pub(crate) fn names(all: &[String], more: u64) -> String {
    const SHOWN: usize = 4;
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(SHOWN) as u64 + more {
        0 => shown,
        rest => format!("{shown} and {} more", grouped(rest)),
    }
}

/// `node 1`, `nodes 1 and 2`, `nodes 1, 2 and 3`.
pub(crate) fn nodes(ids: &[i32]) -> String {
    let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    match texts.split_last() {
        None => "no node".to_owned(),
        Some((last, [])) => format!("node {last}"),
        Some((last, rest)) => format!("nodes {} and {last}", rest.join(", ")),
    }
}

/// Parts what a node says of a peer (`nobody listens at A (connection refused): start the node there`) into what is wrong and
/// what to do, where it says that.
pub(crate) fn advice(problem: &str) -> (&str, Option<&str>) {
    const BEGINNINGS: [&str; 7] =
        ["start ", "correct ", "check ", "leave ", "give ", "upgrade ", "is the process "];
    let separators = problem.char_indices().filter(|(_, c)| matches!(c, ':' | ';'));
    for (at, _) in separators {
        let (what, rest) = problem.split_at(at);
        let rest = rest.get(1..).unwrap_or_default();
        if rest
            .strip_prefix(' ')
            .is_some_and(|rest| BEGINNINGS.iter().any(|beginning| rest.starts_with(beginning)))
        {
            return (what, Some(rest.trim_start()));
        }
    }
    (problem, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_parted_from_what_is_wrong() {
        assert_eq!(
            advice(
                "nobody listens at a:1 (connection refused): start the node there, or correct the address"
            ),
            (
                "nobody listens at a:1 (connection refused)",
                Some("start the node there, or correct the address")
            )
        );
        assert_eq!(
            advice("what listens at [::1]:1 is not a Chronik node: it answers HTTP; correct the address"),
            ("what listens at [::1]:1 is not a Chronik node: it answers HTTP", Some("correct the address"))
        );
        assert_eq!(
            advice("the node at a:1 declined: it is full"),
            ("the node at a:1 declined: it is full", None)
        );
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(1, "partition", "partitions"), "1 partition");
        assert_eq!(count(1_234_567, "record", "records"), "1,234,567 records");
        assert_eq!(
            [999, 1_999, 119_999, 120_000, 7_200_000, 172_800_000].map(duration),
            ["999 ms", "1 s", "119 s", "2 min", "2 h", "2 d"]
        );
        assert_eq!([0, 1023, 1024, 1_572_864].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"]);
        assert_eq!(nodes(&[1, 2, 3]), "nodes 1, 2 and 3");
        let all: Vec<String> = (0..6).map(|n| format!("t-{n}")).collect();
        assert_eq!(names(&all, 10), "t-0, t-1, t-2, t-3 and 12 more");
        assert_eq!(names(&all[..2], 0), "t-0, t-1");
    }
}
