//! What is on disk is what was committed: after a restart, a snapshot, a torn write; and damage is never taken for it.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use chronik_base::Uuid;
use chronik_meta::{Command, Image, MetaError, MetaHandle, MetaStore, Reply, StoreOptions};
use common::commands;
use proptest::prelude::*;

const QUICK: StoreOptions = StoreOptions { flush: false, existing: false, snapshot_after_bytes: u64::MAX };

fn open(directory: &Path) -> (MetaStore, chronik_meta::Recovery) {
    MetaStore::open(directory, QUICK).unwrap()
}

fn log_of(directory: &Path) -> Vec<u8> {
    fs::read(directory.join("metadata.log")).unwrap()
}

fn one_more() -> [Command; 1] {
    [Command::AllocateProducerIds { count: 1 }]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restart_gives_the_same_image(commands in commands(60), sizes in prop::collection::vec(1usize..9, 1..20), snapshots in any::<u32>()) {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, _) = open(directory.path());
        let mut model = Image::default();
        let mut rest = commands.as_slice();
        for (step, size) in sizes.iter().cycle().enumerate() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*size).min(rest.len()));
            rest = later;
            for (command, result) in now.iter().zip(store.commit(now)) {
                let expected = model.check(command).map(|()| model.apply(command));
                prop_assert_eq!(result, expected);
            }
            if snapshots >> (step % 32) & 1 == 1 && step % 5 == 0 {
                store.snapshot().unwrap();
            }
            if step % 7 == 3 {
                store = open(directory.path()).0;
            }
        }
        prop_assert_eq!(&**store.image(), &model);
        drop(store);
        let (store, recovery) = open(directory.path());
        prop_assert_eq!(&**store.image(), &model);
        prop_assert_eq!(recovery.cut, None);
        prop_assert_eq!(recovery.snapshot_offset + recovery.replayed as u64, model.offset());
    }

    #[test]
    fn a_log_in_front_of_its_snapshot_is_skipped(commands in commands(30)) {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, _) = open(directory.path());
        store.commit(&commands);
        let log = log_of(directory.path());
        store.snapshot().unwrap();
        let image = Arc::clone(store.image());
        drop(store);
        // The crash between the rename of the snapshot and that of the new log.
        fs::write(directory.path().join("metadata.log"), log).unwrap();
        let (mut store, recovery) = open(directory.path());
        prop_assert_eq!(store.image(), &image);
        prop_assert_eq!(recovery.replayed, 0);
        prop_assert_eq!(store.commit(&one_more())[0].is_ok(), true);
        prop_assert_eq!(&open(directory.path()).0.image().clone(), store.image());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_cut_at_any_byte_is_a_prefix(commands in commands(6)) {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, _) = open(directory.path());
        let mut images = vec![((**store.image()).clone(), 0)];
        for command in &commands {
            store.commit(std::slice::from_ref(command));
            images.push(((**store.image()).clone(), log_of(directory.path()).len()));
        }
        drop(store);
        let log = log_of(directory.path());
        for cut in images[0].1..=log.len() {
            fs::write(directory.path().join("metadata.log"), &log[..cut]).unwrap();
            let (mut store, recovery) = open(directory.path());
            let (expected, length) = images.iter().rfind(|(_, length)| *length <= cut).unwrap();
            prop_assert_eq!(&**store.image(), expected);
            // A head without a frame stays; less than a head does not.
            let kept = if cut < 12 { 0 } else { (*length).max(12) };
            prop_assert_eq!(recovery.cut.map_or(0, |cut| cut.bytes as usize), cut - kept);
            // And the log goes on from there.
            prop_assert_eq!(store.commit(&one_more())[0].is_ok(), true);
            prop_assert_eq!(&open(directory.path()).0.image().clone(), store.image());
        }
    }

    #[test]
    fn a_flipped_byte_is_refused_or_cuts_the_last_frame(commands in commands(12), seed in any::<u64>()) {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, _) = open(directory.path());
        let mut lengths = Vec::new();
        for command in &commands {
            store.commit(std::slice::from_ref(command));
            lengths.push(log_of(directory.path()).len());
        }
        let last = lengths.iter().rev().find(|length| **length < lengths[lengths.len() - 1]).copied().unwrap_or(12);
        let log = log_of(directory.path());
        for step in 0..40u64 {
            let at = (seed.wrapping_add(step.wrapping_mul(0x9E37_79B9_7F4A_7C15)) % log.len() as u64) as usize;
            let mut damaged = log.clone();
            damaged[at] ^= 1 << (step % 8);
            fs::write(directory.path().join("metadata.log"), &damaged).unwrap();
            match MetaStore::open(directory.path(), QUICK) {
                Err(error) => prop_assert!(at < last && error.to_string().contains("metadata.log"), "{at}: {error}"),
                Ok((_, recovery)) => prop_assert!(at >= last && recovery.cut.is_some(), "{at}"),
            }
        }
    }
}

fn some_commands() -> Vec<Command> {
    let broker = Command::RegisterBroker {
        id: 1,
        rack: None,
        endpoints: Vec::new(),
        incarnation: Uuid([1; 16]),
        directory: Uuid::ZERO,
    };
    vec![broker, topic(1), topic(2)]
}

fn topic(number: u32) -> Command {
    let mut id = [0x40; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Command::CreateTopic {
        name: format!("t{number}"),
        id: Uuid(id),
        created: 0,
        assignments: vec![vec![1]],
        configs: Default::default(),
    }
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = open(directory.path());
    store.commit(&some_commands());
    store.snapshot().unwrap();
    drop(store);
    let path = directory.path().join("metadata.snapshot");
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        let error = MetaStore::open(directory.path(), QUICK).unwrap_err().to_string();
        assert!(error.contains("metadata.snapshot"), "{at}: {error}");
    }
    for end in 0..good.len() {
        fs::write(&path, &good[..end]).unwrap();
        assert!(MetaStore::open(directory.path(), QUICK).is_err(), "{end}");
    }
    fs::write(&path, &good).unwrap();
    fs::remove_file(directory.path().join("metadata.log")).unwrap();
    let error = MetaStore::open(directory.path(), QUICK).unwrap_err().to_string();
    assert!(error.contains("metadata.log is missing"), "{error}");
}

#[test]
fn an_empty_log_is_a_beginning_only_in_a_new_directory() {
    for blank in [vec![], vec![0; 5], vec![0; 700], b"CHRON".to_vec()] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("metadata.log"), blank).unwrap();
        let existing = StoreOptions { existing: true, ..QUICK };
        assert!(
            MetaStore::open(directory.path(), existing).unwrap_err().to_string().contains("missing or empty")
        );
        let (mut store, _) = open(directory.path());
        assert!(store.commit(&some_commands()).iter().all(Result::is_ok));
        assert_eq!(MetaStore::open(directory.path(), existing).unwrap().0.image(), store.image());
    }
}

#[test]
fn a_full_disk_refuses_and_a_later_commit_goes_through() {
    // A directory in the place of the file that a snapshot is written to is the nearest thing to a full disk that needs no mount.
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = open(directory.path());
    fs::create_dir(directory.path().join("metadata.snapshot.new")).unwrap();
    store.commit(&some_commands());
    assert!(store.snapshot().is_err());
    assert!(store.commit(&[topic(3)])[0].is_ok());
    assert_eq!(open(directory.path()).0.image(), store.image());
}

#[test]
fn an_empty_store_opens_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let begun = std::time::Instant::now();
    let (store, recovery) = MetaStore::open(&directory.path().join("meta"), StoreOptions::default()).unwrap();
    println!("opened an empty store in {:?}", begun.elapsed());
    assert_eq!((store.image().offset(), recovery), (0, Default::default()));
}

#[test]
fn submissions_share_commits_and_the_broker_hears_first() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = MetaStore::open(directory.path(), StoreOptions::default()).unwrap();
    let commits = Arc::new(AtomicUsize::new(0));
    let applied = Arc::new(AtomicUsize::new(0));
    let (count, seen) = (Arc::clone(&commits), Arc::clone(&applied));
    let handle = MetaHandle::start(store, move |change| {
        count.fetch_add(1, Ordering::SeqCst);
        assert_eq!(change.after.offset() - change.before.offset(), change.commands.len() as u64);
        seen.fetch_add(change.commands.len(), Ordering::SeqCst);
    })
    .unwrap();
    assert!(handle.commit(some_commands()).iter().all(Result::is_ok));
    let all = Arc::new(Barrier::new(2));
    let left = Arc::new(AtomicUsize::new(1000));
    for number in 0..1000 {
        let (all, left, applied) = (Arc::clone(&all), Arc::clone(&left), Arc::clone(&applied));
        handle.submit(vec![topic(100 + number), topic(1)], move |results| {
            assert_eq!(results[0], Ok(Reply::Done));
            assert_eq!(results[1], Err(MetaError::TopicExists("t1".to_owned())));
            assert!(applied.load(Ordering::SeqCst) > 3);
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                all.wait();
            }
        });
    }
    all.wait();
    assert_eq!(handle.image().topic_count(), 1002);
    assert!(
        commits.load(Ordering::SeqCst) < 200,
        "{} commits for 1000 topics",
        commits.load(Ordering::SeqCst)
    );
    handle.close();
    assert_eq!(handle.commit(vec![topic(5)]), vec![Err(MetaError::Closed)]);
    assert_eq!(open(directory.path()).0.image().topic_count(), 1002);
}

#[test]
fn a_grown_log_is_folded_into_a_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions { snapshot_after_bytes: 10_000, ..QUICK };
    let (store, _) = MetaStore::open(directory.path(), options).unwrap();
    let handle = MetaHandle::start(store, |_| {}).unwrap();
    handle.commit(some_commands());
    for number in 10..1000 {
        assert_eq!(handle.commit(vec![topic(number)]), vec![Ok(Reply::Done)]);
    }
    let image = handle.image();
    handle.close();
    assert!(log_of(directory.path()).len() < 100_000);
    let (store, recovery) = open(directory.path());
    assert_eq!(**store.image(), *image);
    assert!(recovery.snapshot_offset > 0);
}

#[test]
fn the_last_handle_may_go_on_the_writers_own_thread() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    let kept: Arc<std::sync::Mutex<Option<Arc<MetaHandle>>>> = Arc::default();
    let last = Arc::clone(&kept);
    let (sender, gone) = std::sync::mpsc::channel();
    let handle = MetaHandle::start(store, move |_| {
        drop(last.lock().unwrap().take());
        sender.send(()).unwrap();
    })
    .unwrap();
    let handle = Arc::new(handle);
    *kept.lock().unwrap() = Some(Arc::clone(&handle));
    handle.submit(some_commands(), |_| {});
    drop(handle);
    gone.recv().unwrap();
}

/// What another node has: an image, and the commands behind it.
fn elsewhere(number: u8) -> Image {
    let mut image = Image::default();
    let id = Uuid([number; 16]);
    for command in some_commands().into_iter().chain([topic(70), topic(71)]) {
        image.apply(&command);
    }
    image.apply(&Command::SetClusterId { id });
    image
}

#[test]
fn commands_from_elsewhere_keep_their_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = open(directory.path());
    let commands = some_commands();
    store.follow(1, &commands).unwrap();
    let count = commands.len() as u64;
    assert_eq!(store.image().offset(), count);
    // Told again, and a bit more: what is known is passed over.
    let more: Vec<Command> = commands.iter().cloned().chain([topic(5), topic(6)]).collect();
    store.follow(1, &more).unwrap();
    store.follow(count, &more[commands.len() - 1..]).unwrap();
    assert_eq!(store.image().offset(), count + 2);
    assert_eq!(
        store.follow(count + 4, &[topic(7)]),
        Err(MetaError::Gap { have: count + 2, first: count + 4 })
    );
    // One that does not fit stops all of them.
    assert!(store.follow(count + 3, &[topic(7), topic(5)]).is_err());
    assert_eq!(store.image().offset(), count + 2);
    let image = store.image().clone();
    drop(store);
    assert_eq!(*open(directory.path()).0.image(), image);
}

#[test]
fn an_image_from_elsewhere_takes_the_place_of_everything() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = open(directory.path());
    store.commit(&some_commands());
    for number in 0..50 {
        store.commit(&[topic(100 + number)]);
    }
    let image = Arc::new(elsewhere(1));
    assert!(image.offset() < store.image().offset(), "it may be an earlier one");
    store.install(Arc::clone(&image)).unwrap();
    assert_eq!(*store.image(), image);
    assert_eq!(store.commit(&[topic(9)]), [Ok(Reply::Done)]);
    let after = store.image().clone();
    drop(store);
    let (store, recovery) = open(directory.path());
    assert_eq!((*store.image()).clone(), after);
    assert_eq!((recovery.snapshot_offset, recovery.replayed), (image.offset(), 1));
}

#[test]
fn a_crash_while_an_image_is_installed_leaves_the_old_or_the_new() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (mut store, _) = open(directory.path());
    store.commit(&some_commands());
    store.snapshot().unwrap();
    for number in 0..50 {
        store.commit(&[topic(100 + number)]);
    }
    let old = store.image().clone();
    let (old_log, old_snapshot) = (log_of(directory.path()), fs::read(path("metadata.snapshot")).unwrap());
    let new = Arc::new(elsewhere(2));
    store.install(Arc::clone(&new)).unwrap();
    drop(store);
    let (new_log, installed) = (log_of(directory.path()), fs::read(path("metadata.snapshot")).unwrap());
    let crash = |log: &[u8], snapshot: &[u8], install: Option<&[u8]>, half: Option<&[u8]>| {
        fs::write(path("metadata.log"), log).unwrap();
        fs::write(path("metadata.snapshot"), snapshot).unwrap();
        for (name, bytes) in [("metadata.install", install), ("metadata.install.new", half)] {
            match bytes {
                Some(bytes) => fs::write(path(name), bytes).unwrap(),
                None => drop(fs::remove_file(path(name))),
            }
        }
        let (mut store, _) = open(directory.path());
        let image = store.image().clone();
        assert!(store.commit(&one_more())[0].is_ok());
        assert!(!path("metadata.install").exists());
        assert_eq!(*open(directory.path()).0.image(), *store.image());
        image
    };
    // Before the image is there whole, nothing has happened.
    assert_eq!(crash(&old_log, &old_snapshot, None, Some(&installed[..installed.len() / 2])), old);
    assert_eq!(crash(&old_log, &old_snapshot, None, Some(&installed)), old);
    // From then on, everything has.
    assert_eq!(crash(&old_log, &old_snapshot, Some(&installed), None), new);
    assert_eq!(crash(&new_log, &old_snapshot, Some(&installed), None), new);
    assert_eq!(crash(&new_log, &installed, None, None), new);
    // And damage is damage.
    fs::write(path("metadata.install"), &installed[..installed.len() - 1]).unwrap();
    let error = MetaStore::open(directory.path(), QUICK).unwrap_err().to_string();
    assert!(error.contains("metadata.install"), "{error}");
}

#[test]
fn an_installation_that_fails_midway_is_carried_through_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = open(directory.path());
    store.commit(&some_commands());
    let obstacle = directory.path().join("metadata.install.new");
    fs::create_dir(&obstacle).unwrap();
    assert!(store.install(Arc::new(elsewhere(3))).is_err());
    assert!(store.commit(&[topic(9)])[0].is_ok(), "what was there goes on");
    fs::remove_dir(&obstacle).unwrap();
    let obstacle = directory.path().join("metadata.log.new");
    fs::create_dir(&obstacle).unwrap();
    let new = Arc::new(elsewhere(3));
    assert!(store.install(Arc::clone(&new)).is_err());
    assert!(matches!(store.commit(&one_more())[0], Err(MetaError::Storage(_))), "neither here nor there");
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(*open(directory.path()).0.image(), new);
}
