//! Prometheus' text format, version 0.0.4, which is older than OpenMetrics and differs from it in few things.

/// Makes Prometheus' text of a page of OpenMetrics: counters are declared by the name of their lines, units are no lines of their own,
/// and nothing ends the text.
pub fn to_prometheus(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    // The help comes before the kind, which decides on the name in both lines.
    let mut help = None;
    for line in page.lines() {
        match line.strip_prefix("# ").and_then(|comment| comment.split_once(' ')) {
            Some(("HELP", rest)) => help = Some(rest),
            Some(("TYPE", rest)) => {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
                let suffix = if kind == "counter" { "_total" } else { "" };
                if let Some((name, help)) = help.take().and_then(|help| help.split_once(' ')) {
                    push(&mut text, &["# HELP ", name, suffix, " ", help]);
                }
                push(&mut text, &["# TYPE ", name, suffix, " ", kind]);
            }
            Some(("UNIT", _)) => {}
            _ if line == "# EOF" => {}
            _ => push(&mut text, &[line]),
        }
    }
    text
}

fn push(text: &mut String, parts: &[&str]) {
    parts.iter().for_each(|part| text.push_str(part));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_called_by_their_lines() {
        let page = "# HELP a_bytes A b.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total{x=\"# TYPE\"} 1\n\
                    # HELP g G.\n# TYPE g gauge\ng 2\n# EOF\n";
        assert_eq!(
            to_prometheus(page),
            "# HELP a_bytes_total A b.\n# TYPE a_bytes_total counter\na_bytes_total{x=\"# TYPE\"} 1\n\
             # HELP g G.\n# TYPE g gauge\ng 2\n"
        );
    }
}
