//! Bars in groups, for things that have names and no order.

use std::fmt::Write;

use crate::frame::{BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, colour, head, picture, round_up, text, y_of};
use crate::{escape, short};

/// A chart of groups of bars. Where there is no value, no bar stands.
#[derive(Clone, Debug, Default)]
pub struct Bars {
    /// What it shows.
    pub title: String,
    /// What the height is, with its unit.
    pub y_title: String,
    /// Whose bars they are, in the order within each group.
    pub names: Vec<String>,
    /// The groups: a name, and a value for each of `names`.
    pub groups: Vec<(String, Vec<Option<f64>>)>,
}

/// Width of a group at least, so that its name fits below it.
const GROUP: f64 = 96.0;

impl Bars {
    /// As a picture of its own.
    pub fn svg(&self) -> String {
        let width = (LEFT + RIGHT + GROUP * self.groups.len() as f64).max(WIDTH);
        let values = self.groups.iter().flat_map(|(_, values)| values).flatten();
        let y_high = round_up(values.copied().fold(0.0, f64::max));
        let mut out = String::new();
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        head(&mut out, width, (&self.title, &self.y_title), y_high, &names);
        let group = (width - LEFT - RIGHT) / self.groups.len().max(1) as f64;
        let bar = group * 0.8 / self.names.len().max(1) as f64;
        for (index, (name, values)) in self.groups.iter().enumerate() {
            let start = LEFT + group * (index as f64 + 0.1);
            text(&mut out, start + group * 0.4, HEIGHT - BOTTOM + 16.0, "middle", name);
            for (place, (value, whose)) in values.iter().zip(&self.names).enumerate() {
                let Some(value) = value else { continue };
                let top = y_of(*value, y_high);
                // Writing to a string cannot fail.
                let _ = writeln!(
                    out,
                    "<rect data-series=\"{}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\">\
                     <title>{}, {}: {}</title></rect>",
                    escape(whose),
                    start + bar * place as f64,
                    bar * 0.92,
                    y_of(0.0, y_high) - top,
                    colour(place),
                    escape(name),
                    escape(whose),
                    short(*value)
                );
            }
        }
        picture(width, HEIGHT, &out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_has_no_bar() {
        let bars = Bars {
            names: vec!["a".to_owned(), "b".to_owned()],
            groups: vec![
                ("x".to_owned(), vec![Some(1.0), None]),
                ("y".to_owned(), vec![Some(2.0), Some(4.0)]),
            ],
            ..Bars::default()
        };
        assert_eq!(bars.svg().matches("<rect data-series").count(), 3);
    }

    #[test]
    fn an_empty_chart_is_still_one() {
        let picture = Bars::default().svg();
        assert!(picture.ends_with("</svg>\n") && !picture.contains("NaN"));
    }
}
