//! The page that describes the families, made of their declarations.

use std::fmt::Write;

use crate::Family;

/// Families that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// What they are about.
    pub title: &'static str,
    /// What holds for all of them, as Markdown; may be empty.
    pub about: &'static str,
    /// In the order of the page.
    pub families: &'static [&'static Family],
}

/// The sections as Markdown, a table each.
pub fn render_markdown(sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        // Writing to a string can't fail.
        let _ = writeln!(text, "\n## {}", section.title);
        if !section.about.is_empty() {
            let _ = writeln!(text, "{}\n", section.about);
        }
        text.push_str("| name | kind | labels | meaning |\n|---|---|---|---|\n");
        for family in section.families {
            let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind) = (family.line_name(), family.kind.word());
            let _ = writeln!(text, "| `{name}` | {kind} | {} | {} |", labels.join(", "), family.help);
        }
    }
    text
}
