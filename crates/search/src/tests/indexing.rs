//! That an index is what the log is, whatever happens to either.

use std::fs;
use std::path::PathBuf;

use super::*;

fn fill(fake: &Fake, from: i64, count: i64) {
    for index in from..from + count {
        let value = json!({"n": index, "word": format!("w{}", index % 10)}).to_string();
        fake.add((index % 2) as i32, Some(&format!("k{index}")), Some(&value), 1000 + index);
    }
}

fn files(node: &Node) -> Vec<PathBuf> {
    let dir = node.dir.path().join("search").join(node.fake.id().to_hex());
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

async fn count(node: &Node, q: &str) -> u64 {
    node.ask(SearchRequest { limit: Some(0), ..query(q) }).await.count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_index_is() {
    let fake = Fake::new(2, "");
    fill(&fake, 0, 100);
    let node = Node::start(&fake);
    assert_eq!(count(&node, "word:w3").await, 10);
    let node = node.restart();
    fill(&fake, 100, 50);
    assert_eq!(count(&node, "word:w3").await, 15);
    assert_eq!(count(&node, "").await, 150);
    let engine = node.search.engine.as_ref().unwrap();
    // Only what came since was read.
    let indexed = engine.shared.counters.indexed.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(indexed, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_missing_files_are_built_anew() {
    let fake = Fake::new(2, "");
    fill(&fake, 0, 60);
    let mut node = Node::start(&fake);
    assert_eq!(count(&node, "").await, 60);
    let names = files(&node);
    assert!(names.len() > 5, "{names:?}");
    for (index, path) in names.iter().enumerate() {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.ends_with(".lock") {
            continue;
        }
        node.search.stop();
        // The files have other names whenever the index was built anew: one of the same kind is taken.
        let kind = path.extension().map(|kind| kind.to_owned());
        let victims = files(&node);
        let Some(victim) = victims.iter().find(|other| match name {
            "meta.json" | ".managed.json" => other.file_name() == path.file_name(),
            _ => other.extension().map(|kind| kind.to_owned()) == kind && !other.ends_with("meta.json"),
        }) else {
            continue;
        };
        let mut bytes = fs::read(victim).unwrap();
        if index % 2 == 0 && !bytes.is_empty() {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            fs::write(victim, bytes).unwrap();
        } else {
            fs::remove_file(victim).unwrap();
        }
        node = Node::start_in(&fake, node.dir.clone());
        assert_eq!(count(&node, "").await, 60, "{name}");
        assert_eq!(count(&node, "word:w3").await, 6, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_schema_makes_another_index() {
    let fake = Fake::new(1, "");
    fake.add(0, None, Some("{\"id\":\"17\",\"name\":\"Ann Lee\",\"secret\":\"x\"}"), 5);
    let node = Node::start(&fake);
    assert_eq!(count(&node, "secret:x").await, 1);
    assert_eq!(count(&node, "id:>9").await, 0);
    fake.change(|topic| topic.schema = "id:long,name:keyword,secret:none".to_owned());
    let found = node.until(&query("id:>9"), |answer| answer.count == 1).await;
    assert_eq!(found.count, 1);
    assert_eq!(count(&node, "secret:x").await, 0);
    assert_eq!(count(&node, "name:ann").await, 0);
    assert_eq!(count(&node, "name:\"ann lee\"").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_lost_is_not_found() {
    let fake = Fake::new(2, "");
    fill(&fake, 0, 40);
    let node = Node::start(&fake);
    assert_eq!(count(&node, "").await, 40);
    // At once, whether or not the index was pruned.
    fake.delete_before(0, 5);
    assert_eq!(count(&node, "").await, 35);
    fake.compact(1, &[0, 3, 4]);
    let left = node.until(&SearchRequest { limit: Some(0), ..query("") }, |answer| answer.count == 32).await;
    assert_eq!(left.count, 32);
    // A log that was cut back and goes on with others.
    fake.truncate(1, 10);
    let cut = node.until(&SearchRequest { limit: Some(0), ..query("") }, |answer| answer.count == 22).await;
    assert_eq!(cut.count, 22);
    let offset = fake.add(1, None, Some("other"), 9);
    assert_eq!(offset, 10);
    assert_eq!(node.find("other").await, [(1, 10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_goes_with_its_topic() {
    let fake = Fake::new(1, "");
    fill(&Fake::new(2, ""), 0, 0);
    fake.add(0, None, Some("a"), 1);
    let node = Node::start(&fake);
    assert_eq!(count(&node, "a").await, 1);
    let dir = node.dir.path().join("search").join(fake.id().to_hex());
    assert!(dir.exists());
    fake.change(|topic| topic.enabled = false);
    let began = Instant::now();
    while dir.exists() && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!dir.exists());
    // And is built from the log when it is wanted again.
    fake.change(|topic| topic.enabled = true);
    assert_eq!(node.until(&query("a"), |answer| answer.count == 1).await.count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_without_number_find_no_end() {
    let fake = Fake::new(1, "");
    for index in 0..400 {
        let value = json!({format!("field{index:03}"): format!("needle{index}")}).to_string();
        fake.add(0, None, Some(&value), index);
    }
    let node = Node::start(&fake);
    assert_eq!(count(&node, "needle7").await, 1);
    // It has no place of its own any more, and is found all the same.
    assert_eq!(count(&node, "needle399").await, 1);
    assert_eq!(count(&node, "field399:needle399").await, 1);
    let known = node.search.engine.as_ref().unwrap().shared.topic(&fake.id()).unwrap();
    assert!(known.snapshot.unwrap().state.paths.len() <= crate::document::PATHS_MAX);
}
