//! The numbers of a page of metrics.

use std::collections::HashMap;

/// A number and its labels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

/// Every line of a page, by its name. What is no line of metrics is left out.
pub(crate) fn read(page: &str) -> HashMap<String, Vec<Reading>> {
    let mut readings: HashMap<String, Vec<Reading>> = HashMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, reading)) = read_line(line) {
            readings.entry(name.to_owned()).or_default().push(reading);
        }
    }
    readings
}

fn read_line(line: &str) -> Option<(&str, Reading)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, value) = rest.split_once("=\"")?;
            let (value, after) = read_value(value)?;
            labels.push((label.to_owned(), value));
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = rest.strip_prefix('}')?;
    }
    Some((name, Reading { labels, value: rest.trim().parse().ok()? }))
}

/// A label's value up to its closing quotation mark, and what follows that.
fn read_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whatever_their_labels_hold() {
        let page =
            "# HELP a A.\n# TYPE a gauge\na 1.5\nb_total{x=\"p,q=\\\"}\\n\",y=\"\"} 7\nbroken{x=\"\n# EOF\n";
        let readings = read(page);
        assert_eq!(readings["a"], [Reading { labels: vec![], value: 1.5 }]);
        let labels = vec![("x".to_owned(), "p,q=\"}\n".to_owned()), ("y".to_owned(), String::new())];
        assert_eq!(readings["b_total"], [Reading { labels, value: 7.0 }]);
        assert_eq!(readings.len(), 2);
    }
}
