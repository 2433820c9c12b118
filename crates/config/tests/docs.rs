//! The page that is made from the tables says what the tables say.

use std::path::Path;

#[test]
fn configuration_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let made = chronik_config::render_markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == made,
        "docs/configuration.md is not what the tables say: run `UPDATE_DOCS=1 cargo test -p chronik-config --test docs`"
    );
}
