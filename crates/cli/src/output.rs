//! What people and programs read: tables, JSON, and errors of one line.

use std::io::Write;

use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

/// Prints an error on standard error, each line of it as one of its own.
pub fn error(text: &str) {
    let mut stderr = std::io::stderr().lock();
    for line in text.lines() {
        let _ = writeln!(stderr, "error: {line}");
    }
}

/// Prints a line. That nobody reads it (a closed pipe) is no error.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a value as JSON.
pub fn json<T: Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(&text),
        Err(problem) => error(&problem.to_string()),
    }
}

/// Prints a table without borders, so that it can be cut and grepped too.
pub fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    print(&table_text(head, rows));
}

/// Prints text that ends its lines itself. That nobody reads it is no error.
pub fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// The lines of a table.
pub fn table_text<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|text| format!("{}\n", text.trim_end())).collect()
}
