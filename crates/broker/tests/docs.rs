//! The pages that are made from the code say what the code does.

use std::path::Path;

#[test]
fn compatibility_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
    let made = chronik_broker::compatibility();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == made,
        "docs/compatibility.md is not what the table says: run `UPDATE_DOCS=1 cargo test -p chronik-broker --test docs`"
    );
}
