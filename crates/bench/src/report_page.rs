//! `chronik-bench report`: Markdown, charts and one HTML page, of result files alone.

use crate::report_page_data::{LAYOUT, Layout, Results};
use crate::report_page_text::{Block, MEANING, blocks};
use anyhow::{Context, Result};
use chronik_charts::{Page, Part};
use clap::Args;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What `report` takes.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    chronik-bench report chronik-bench-results/\n  \
    chronik-bench report results/ --markdown docs/report.md --charts docs/charts --html report.html\n\n\
    Files are called ROW.SIDE.ROUND.json; a layout.json in the folder says what stands where.")]
pub struct ReportArgs {
    /// Folder with result files.
    #[arg(value_name = "DIR")]
    results: PathBuf,
    /// Where the text goes (default: report.md in DIR).
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Where the page goes (default: report.html in DIR).
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Folder for the charts, which the text refers to (default: beside the text).
    #[arg(long, value_name = "DIR")]
    charts: Option<PathBuf>,
}

/// Writes the report.
///
/// # Errors
/// A file is no result, or the disk can't be read or written.
pub fn run(args: &ReportArgs) -> Result<bool> {
    let results = Results::load(&args.results)?;
    let layout = args.results.join(LAYOUT);
    let layout = match std::fs::read_to_string(&layout) {
        Ok(text) => serde_json::from_str::<Layout>(&text)
            .with_context(|| format!("{} is no layout", layout.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => results.layout(),
        Err(error) => return Err(error).with_context(|| format!("reading {}", layout.display())),
    };
    let blocks = blocks(&layout, &results);
    let markdown = args.markdown.clone().unwrap_or(args.results.join("report.md"));
    let html = args.html.clone().unwrap_or(args.results.join("report.html"));
    let beside = markdown.parent().map(Path::to_owned).unwrap_or_default();
    let charts = args.charts.clone().unwrap_or(beside.clone());
    for block in &blocks {
        if let Block::Picture { name, svg, .. } = block {
            write(&charts.join(name), svg)?;
        }
    }
    let prefix = prefix(&beside, &charts);
    write(&markdown, &text(&layout.title, &blocks, &prefix))?;
    write(&html, &page(&layout, &blocks))?;
    eprintln!("{} and {}", markdown.display(), html.display());
    Ok(true)
}

fn write(path: &Path, content: &str) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    std::fs::write(path, content).with_context(|| format!("writing {}", path.display()))
}

/// How the text, in one folder, refers to charts in another.
fn prefix(from: &Path, to: &Path) -> String {
    let relative = to.strip_prefix(from).unwrap_or(to);
    match relative.to_string_lossy() {
        here if here.is_empty() => String::new(),
        below => format!("{}/", below.trim_end_matches('/')),
    }
}

fn text(title: &str, blocks: &[Block], charts: &str) -> String {
    let mut out = format!("# {title}\n");
    for block in blocks {
        // Writing to a string cannot fail.
        let _ = match block {
            Block::Heading(text) => write!(out, "\n## {text}\n"),
            Block::Text(text) => write!(out, "\n{text}\n"),
            Block::Code(text) => write!(out, "\n    {}\n", text.replace('\n', "\n    ")),
            Block::List(items) => write!(out, "\n- {}\n", items.join("\n- ")),
            Block::Picture { name, title, .. } => write!(out, "\n![{title}]({charts}{name})\n"),
            Block::Table { columns, rows } => {
                let is_text =
                    |index: usize| index < 2 || columns.get(index).is_some_and(|name| name == MEANING);
                let rule: Vec<&str> =
                    (0..columns.len()).map(|index| if is_text(index) { "---" } else { "---:" }).collect();
                let _ = write!(out, "\n| {} |\n|{}|\n", columns.join(" | "), rule.join("|"));
                for (_, cells) in rows {
                    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
                    let _ = writeln!(out, "| {} |", cells.join(" | "));
                }
                Ok(())
            }
        };
    }
    out
}

fn page(layout: &Layout, blocks: &[Block]) -> String {
    let parts = blocks
        .iter()
        .map(|block| match block {
            Block::Heading(text) => Part::Heading(text.clone()),
            Block::Text(text) | Block::Code(text) => Part::Text(text.replace('`', "")),
            Block::List(items) => Part::List(items.clone()),
            Block::Picture { svg, .. } => Part::Picture(svg.clone()),
            Block::Table { columns, rows } => Part::Table { columns: columns.clone(), rows: rows.clone() },
        })
        .collect();
    let series: Vec<String> = layout.sides.iter().map(|side| side.title.clone()).collect();
    Page { title: layout.title.clone(), series, parts }.html()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_refers_to_charts_from_where_it_lies() {
        assert_eq!(prefix(Path::new("docs"), Path::new("docs")), "");
        assert_eq!(prefix(Path::new("docs"), Path::new("docs/charts")), "charts/");
    }

    #[test]
    fn a_report_is_made_of_files_alone() {
        let dir = std::env::temp_dir().join(format!("chronik-bench-report-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let run = crate::report_page_text::tests::run(1000.0, 5.0);
        for round in 1..=3 {
            std::fs::write(dir.join(format!("a.chronik.{round}.json")), serde_json::to_string(&run).unwrap())
                .unwrap();
        }
        let args = ReportArgs { results: dir.clone(), markdown: None, html: None, charts: None };
        let made = super::run(&args).unwrap();
        let markdown = std::fs::read_to_string(dir.join("report.md")).unwrap();
        let html = std::fs::read_to_string(dir.join("report.html")).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(made && markdown.contains("| a | chronik | 1,000"), "{markdown}");
        assert!(html.contains("data-series=\"chronik\"") && html.contains("<svg"));
    }
}
