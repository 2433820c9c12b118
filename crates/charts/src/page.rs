//! One HTML page that holds everything it needs: style, pictures, and a script that switches series.

use std::fmt::Write;

use crate::escape;

/// A page of charts and tables.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Its title.
    pub title: String,
    /// Series that can be switched off and on, by the names that the charts give them.
    pub series: Vec<String>,
    /// What stands on it, in order.
    pub parts: Vec<Part>,
}

/// A part of a page. Text is plain; it is escaped here.
#[derive(Clone, Debug)]
pub enum Part {
    /// A heading.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// A list of sentences.
    List(Vec<String>),
    /// A picture as SVG, as this crate makes it.
    Picture(String),
    /// A table.
    Table {
        /// Names of the columns.
        columns: Vec<String>,
        /// Rows: the series that a row belongs to, or an empty name, and its cells.
        rows: Vec<(String, Vec<String>)>,
    },
}

const STYLE: &str = "body{font-family:sans-serif;max-width:72rem;margin:1rem auto;padding:0 1rem;color:#222;background:#fff}\
table{border-collapse:collapse;margin:.6rem 0;font-size:.85rem}th,td{border:1px solid #ccc;padding:.2rem .5rem;text-align:right}\
th:first-child,td:first-child,td:nth-child(2){text-align:left}svg{max-width:100%;height:auto;margin:.4rem 0}\
nav{position:sticky;top:0;background:#f3f5f6;padding:.5rem;border-bottom:1px solid #ccc}nav label{margin-right:1rem}\
.off{display:none}";

/// Hides and shows what carries a series' name, alone or before a comma: a side's streams go with it.
const SCRIPT: &str = "for(const box of document.querySelectorAll('nav input'))box.addEventListener('change',()=>{\
for(const part of document.querySelectorAll('[data-series]'))\
if((part.dataset.series+',').startsWith(box.value+','))part.classList.toggle('off',!box.checked)});";

impl Page {
    /// The page's text.
    pub fn html(&self) -> String {
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{0}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <h1>{0}</h1>\n",
            escape(&self.title)
        );
        if !self.series.is_empty() {
            out.push_str("<nav>Show: ");
            for name in &self.series {
                let name = escape(name);
                // Writing to a string cannot fail.
                let _ =
                    write!(out, "<label><input type=\"checkbox\" value=\"{name}\" checked> {name}</label>");
            }
            out.push_str("</nav>\n");
        }
        self.parts.iter().for_each(|part| part.write(&mut out));
        let _ = write!(out, "<script>{SCRIPT}</script>\n</body>\n</html>\n");
        out
    }
}

impl Part {
    fn write(&self, out: &mut String) {
        let _ = match self {
            Part::Heading(text) => writeln!(out, "<h2>{}</h2>", escape(text)),
            Part::Text(text) => writeln!(out, "<p>{}</p>", escape(text)),
            Part::List(items) => {
                out.push_str("<ul>\n");
                for item in items {
                    let _ = writeln!(out, "<li>{}</li>", escape(item));
                }
                writeln!(out, "</ul>")
            }
            Part::Picture(svg) => writeln!(out, "<div>{svg}</div>"),
            Part::Table { columns, rows } => {
                out.push_str("<table>\n<tr>");
                for column in columns {
                    let _ = write!(out, "<th>{}</th>", escape(column));
                }
                out.push_str("</tr>\n");
                for (series, cells) in rows {
                    let _ = match series.is_empty() {
                        true => write!(out, "<tr>"),
                        false => write!(out, "<tr data-series=\"{}\">", escape(series)),
                    };
                    for cell in cells {
                        let _ = write!(out, "<td>{}</td>", escape(cell));
                    }
                    out.push_str("</tr>\n");
                }
                writeln!(out, "</table>")
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_needs_nothing_from_elsewhere_and_escapes_what_it_is_given() {
        let page = Page {
            title: "a & b".to_owned(),
            series: vec!["Chronik".to_owned()],
            parts: vec![
                Part::Text("<script>".to_owned()),
                Part::Table {
                    columns: vec!["row".to_owned()],
                    rows: vec![("Chronik".to_owned(), vec!["\"1\"".to_owned()])],
                },
            ],
        };
        let html = page.html();
        assert!(html.contains("<title>a &amp; b</title>") && html.contains("<p>&lt;script&gt;</p>"));
        assert!(html.contains("<tr data-series=\"Chronik\"><td>&quot;1&quot;</td>"));
        assert!(!html.contains("http:") && !html.contains("https:") && !html.contains(" src="));
    }
}
