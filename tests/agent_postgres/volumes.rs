//! Data that is a volume, beside a database: a tree of everything that is easily lost, backed up, changed, put back.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileExt, MetadataExt, PermissionsExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use lockkeeper::{
    data::{
        repository::Repository,
        stop::{self, Stop},
        volume::{restore, shown, tree::Root},
    },
    manifest::task::{Outcome, exit},
};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT, XattrFlags};
use serde_json::json;

use super::{
    OTHER_RUN, failed,
    postgres::{RUN, World},
};

/// One that works after the others.
const THIRD_RUN: &str = "33333333-aaaa-4bbb-8ccc-dddddddddddd";

/// The environment's volume.
fn files(world: &World) -> PathBuf {
    world.paths.volumes.join("uploads")
}

fn task(world: &World, verb: &str, more: serde_json::Value) -> lockkeeper::manifest::task::Task {
    let mut all = json!({"volumes": [{"name": "uploads"}]});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.task_with(verb, all)
}

fn touch(path: &Path, seconds: i64, nanos: i64) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Names that are no text, 255 bytes long, or look like something else.
fn odd(bytes: &[u8]) -> std::ffi::OsString {
    std::ffi::OsString::from_vec(bytes.to_vec())
}

/// Everything that is easily lost.
pub fn nasty(root: &Path) {
    fs::create_dir_all(root.join("a/deep/er")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::create_dir_all(root.join("a-b")).unwrap();
    fs::write(root.join("a/plain"), "plain\n").unwrap();
    fs::write(root.join("a/zero"), "").unwrap();
    fs::write(root.join("a/deep/er/none"), "nobody reads it").unwrap();
    fs::write(root.join("a-b/set"), "#!/bin/sh\n").unwrap();
    for name in [b"\xff\xfe latin".as_slice(), b"new\nline \"quoted\" \\u00e9", "ünï".as_bytes(), b"-rf", &[b'x'; 255]] {
        fs::write(root.join("a").join(odd(name)), name).unwrap();
    }
    // Longer than what is read at once, and longer than one piece of the repository.
    let long: Vec<u8> = (0..9_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(root.join("long"), &long).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"begin", 0).unwrap();
    sparse.write_all_at(b"end", 256 << 20).unwrap();
    fs::hard_link(root.join("a/plain"), root.join("a/deep/linked")).unwrap();
    fs::hard_link(root.join("a/plain"), root.join("z-linked")).unwrap();
    symlink("/etc/passwd", root.join("outside")).unwrap();
    symlink("../../..", root.join("a/up")).unwrap();
    symlink(odd(b"to\xff"), root.join("a/dangling")).unwrap();
    rustix::fs::mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    rustix::fs::setxattr(root.join("long"), "user.tag", b"a\0b", XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(root.join("empty"), "user.of-a-directory", b"", XattrFlags::empty()).unwrap();
    chmod(&root.join("a/deep/er/none"), 0o000);
    chmod(&root.join("a-b/set"), 0o4755);
    chmod(&root.join("a-b"), 0o2770);
    chmod(&root.join("empty"), 0o1777);
    rustix::fs::chownat(CWD, root.join("a/zero"), Some(rustix::fs::Uid::from_raw(4242)), None, AtFlags::empty()).unwrap();
    touch(&root.join("a/zero"), 1, 999_999_999);
    touch(&root.join("outside"), 1_234_567_890, 5);
    touch(&root.join("a-b/set"), -5, 250_000_000);
    touch(&root.join("a/deep"), 1_000_000_000, 123_456_789);
}

/// All there is to say of a tree, a line an entry: names, kinds, modes, owners, times, links, attributes, contents.
pub fn listing(root: &Path) -> Vec<String> {
    fn below(root: &Path, dir: &Path, out: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let (path, meta) = (entry.path(), entry.path().symlink_metadata().unwrap());
            let kind = meta.file_type();
            let mut line = format!(
                "{} mode={:o} owner={}:{} time={}.{} links={}",
                path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii(),
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
                meta.mtime_nsec(),
                if kind.is_dir() { 0 } else { meta.nlink() },
            );
            if kind.is_symlink() {
                line += &format!(" to={}", fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii());
            } else {
                let mut value = [0_u8; 64];
                for name in ["user.tag", "user.of-a-directory", "user.came"] {
                    if let Ok(length) = rustix::fs::lgetxattr(&path, name, &mut value[..]) {
                        line += &format!(" {name}={}", value[..length].escape_ascii());
                    }
                }
            }
            if kind.is_file() {
                line += &format!(" size={} hash={}", meta.len(), blake3::hash(&fs::read(&path).unwrap()).to_hex());
            }
            out.push(line);
            if kind.is_dir() {
                below(root, &path, out);
            }
        }
    }
    let mut out = Vec::new();
    below(root, root, &mut out);
    out.sort();
    out
}

/// What a release that goes wrong may do to files.
fn havoc(root: &Path) {
    fs::remove_file(root.join("a/deep/er/none")).unwrap();
    fs::remove_file(root.join("outside")).unwrap();
    fs::write(root.join("outside"), "a file where a link was").unwrap();
    // Same size, same time: only its content tells.
    let meta = fs::metadata(root.join("long")).unwrap();
    File::options().write(true).open(root.join("long")).unwrap().write_all_at(b"!", 4_000_000).unwrap();
    touch(&root.join("long"), meta.mtime(), meta.mtime_nsec());
    rustix::fs::setxattr(root.join("long"), "user.came", b"1", XattrFlags::empty()).unwrap();
    fs::remove_dir(root.join("empty")).unwrap();
    fs::write(root.join("empty"), "a file where a directory was").unwrap();
    fs::remove_file(root.join("pipe")).unwrap();
    fs::create_dir_all(root.join("pipe/with/more")).unwrap();
    symlink("/etc", root.join("pipe/with/etc")).unwrap();
    // The link is broken: one name has a content of its own.
    fs::remove_file(root.join("z-linked")).unwrap();
    fs::write(root.join("z-linked"), "plain\n").unwrap();
    // Two that were apart are one, with the right content.
    fs::write(root.join("a-b/twin"), "#!/bin/sh\n").unwrap();
    fs::remove_file(root.join("a-b/set")).unwrap();
    fs::hard_link(root.join("a-b/twin"), root.join("a-b/set")).unwrap();
    chmod(&root.join("a/deep"), 0o000);
    fs::create_dir_all(root.join("new/dir")).unwrap();
    File::create(root.join("new/dir/file")).unwrap().write_all(&[7; 100_000]).unwrap();
    fs::write(root.join("a").join(odd(b"\xfe")), "came since").unwrap();
    fs::rename(root.join("a").join(odd(&[b'x'; 255])), root.join("a/short")).unwrap();
    File::options().write(true).open(root.join("sparse")).unwrap().set_len(10).unwrap();
}

async fn world(name: &str) -> (World, Vec<String>) {
    let world = World::new(name).await;
    fs::create_dir_all(files(&world)).unwrap();
    nasty(&files(&world));
    let listing = listing(&files(&world));
    (world, listing)
}

fn named(outcome: &Outcome) -> String {
    let of = |a: &lockkeeper::manifest::task::Aside| {
        format!("{}={}{}", a.data, a.method, if a.snapshot.is_some() { " in the repository" } else { "" })
    };
    let mut all: Vec<String> = outcome.aside.iter().map(of).collect();
    all.sort();
    all.join(", ")
}

#[tokio::test]
async fn files_are_backed_up_with_the_database_and_a_rollback_brings_every_one_back_as_it_was() {
    let (world, before) = world("files").await;
    let backup = world.done(&task(&world, "backup", json!({"run": OTHER_RUN}))).await.backup.unwrap();
    let content = backup.contents.iter().find(|c| c.data == "uploads").unwrap();
    assert_eq!((content.files, content.rows), (Some(13), 0), "{content:?}");
    assert!(backup.contents.iter().any(|c| c.data == "store" && c.rows > 0), "one snapshot of both: {backup:?}");
    let proof = world.done(&task(&world, "prove", json!({"snapshot": backup.snapshot}))).await;
    assert!(proof.notes.iter().any(|n| n.contains("uploads: read back and compared 13 files")), "{proof:?}");

    world.done(&task(&world, "fence", json!({"epoch": 1, "repository": false, "then": "undo"}))).await;
    assert_eq!(world.state().await.0, "undone", "the clone is made; nothing opens before the files have their undo point");
    let undo = world.done(&task(&world, "undo", json!({"epoch": 1}))).await;
    assert_eq!(named(&undo), "store=Clone, uploads=Backup in the repository");
    let said = undo.notes.iter().find(|n| n.starts_with("uploads: backed up")).unwrap();
    assert!(said.contains(", 0 MiB of it new"), "what the first backup brought is there already: {said}");
    assert_eq!(world.state().await.0, "open");
    assert_eq!(listing(&files(&world)), before, "so far nothing was touched");
    let again = world.done(&task(&world, "undo", json!({"epoch": 1}))).await;
    assert_eq!(again.aside.iter().find(|a| a.data == "uploads"), undo.aside.iter().find(|a| a.data == "uploads"));

    havoc(&files(&world));
    world.as_app().await.batch_execute("DELETE FROM orders WHERE id % 2 = 0").await.unwrap();
    assert_ne!(listing(&files(&world)), before);
    let rolled = world.done(&task(&world, "rollback", json!({"epoch": 1}))).await;
    assert_eq!(listing(&files(&world)), before, "{rolled:?}");
    assert_eq!(world.rows().await, 2000, "and the database with them");
    let blocks = fs::metadata(files(&world).join("sparse")).unwrap().blocks();
    assert!(blocks < 1000, "holes are holes again: {blocks} blocks");
    // Its outcome was lost: done again, it finds nothing to do.
    let again = world.done(&task(&world, "rollback", json!({"epoch": 1}))).await;
    assert!(again.notes.iter().any(|n| n.contains("uploads: 0 files written, 0 entries removed")), "{again:?}");
    assert_eq!(listing(&files(&world)), before);
    world.done(&task(&world, "release", json!({"epoch": 1}))).await;
    // What comes late from this run finds the row given back, and touches no file.
    fs::write(files(&world).join("a/zero"), "users are back").unwrap();
    world.refused(&task(&world, "rollback", json!({"epoch": 1})), exit::FENCED, "Fenced").await;
    assert_eq!(fs::read_to_string(files(&world).join("a/zero")).unwrap(), "users are back");
}

#[tokio::test]
async fn before_there_is_an_undo_point_a_rollback_leaves_files_as_they_are() {
    let (world, before) = world("early").await;
    world.done(&task(&world, "preflight", json!({}))).await;
    world.done(&task(&world, "fence", json!({"epoch": 1, "repository": false}))).await;
    let outcome = world.done(&task(&world, "rollback", json!({"epoch": 1}))).await;
    assert!(outcome.notes.iter().any(|n| n.contains("uploads: nothing was changed yet")), "{outcome:?}");
    assert_eq!(listing(&files(&world)), before);
}

#[tokio::test]
async fn a_rollback_that_does_not_find_its_undo_point_changes_nothing_and_makes_no_repository_in_its_place() {
    let (world, before) = world("moved").await;
    for verb in ["fence", "undo"] {
        world.done(&task(&world, verb, json!({"epoch": 1}))).await;
    }
    let repository = Repository::open(&world.paths.repository, &world.paths.repository_password, &world.environment).unwrap();
    let snapshot = repository.of_run(RUN).unwrap().unwrap().snapshot;
    let rollback =
        |snapshot: &str| task(&world, "rollback", json!({"epoch": 1, "volumes": [{"name": "uploads", "undo": snapshot}]}));
    havoc(&files(&world));
    world.as_app().await.batch_execute("DELETE FROM orders WHERE id % 2 = 0").await.unwrap();
    let after = listing(&files(&world));

    let removed = "0".repeat(64);
    let refused = world.refused(&rollback(&removed), exit::PERMANENT, "UndoPointMissing").await.error.unwrap();
    assert!(refused.message.contains("data uploads") && refused.message.contains(&removed), "{refused:?}");

    // The Environment names another claim by now, which is empty.
    let elsewhere = world.directory.path().join("elsewhere");
    fs::rename(&world.paths.repository, &elsewhere).unwrap();
    fs::create_dir(&world.paths.repository).unwrap();
    let refused = world.refused(&rollback(&snapshot), exit::PERMANENT, "UndoPointMissing").await.error.unwrap();
    assert!(refused.message.contains("data uploads") && refused.message.contains(&snapshot), "{refused:?}");
    // What load would have made is looked up by the run; where there is no repository nobody knows.
    world.refused(&task(&world, "rollback", json!({"epoch": 1})), exit::PERMANENT, "RepositoryMissing").await;
    assert_eq!(fs::read_dir(&world.paths.repository).unwrap().count(), 0, "none was made");
    assert_eq!((listing(&files(&world)), world.state().await.0, world.rows().await), (after, "open".to_owned(), 1000));

    fs::remove_dir(&world.paths.repository).unwrap();
    fs::rename(&elsewhere, &world.paths.repository).unwrap();
    world.done(&rollback(&snapshot)).await;
    assert_eq!((listing(&files(&world)), world.rows().await), (before, 2000));
}

/// Flips a bit in each file of the repository that holds data.
fn flip(world: &World) {
    for pack in super::files_below(&world.paths.repository.join("data")) {
        let mut bytes = fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        chmod(&pack, 0o600);
        fs::write(pack, bytes).unwrap();
    }
}

#[tokio::test]
async fn a_flipped_bit_is_found_before_a_file_is_touched() {
    let (world, _) = world("flipped").await;
    let backup = world.done(&task(&world, "backup", json!({"run": OTHER_RUN}))).await.backup.unwrap();
    for verb in ["fence", "undo"] {
        world.done(&task(&world, verb, json!({"epoch": 1}))).await;
    }
    havoc(&files(&world));
    let after = listing(&files(&world));
    flip(&world);
    let proof =
        world.refused(&task(&world, "prove", json!({"snapshot": backup.snapshot})), exit::PERMANENT, "RepositoryDamaged").await;
    assert!(proof.error.unwrap().message.contains("damaged"));
    world.refused(&task(&world, "rollback", json!({"epoch": 1})), exit::PERMANENT, "RepositoryDamaged").await;
    assert_eq!(listing(&files(&world)), after, "nothing was overwritten, and nothing removed");
    assert_eq!(world.state().await.0, "rolling-back", "and the run knows that it is not done");
}

#[tokio::test]
async fn an_undo_point_that_cannot_be_read_back_is_found_before_a_file_is_replaced_and_nothing_is_left_to_undo() {
    let (world, _) = world("unsound").await;
    let backup = world.done(&task(&world, "backup", json!({"run": OTHER_RUN}))).await.backup.unwrap();
    // Only what the undo point has of its own is damaged: what comes back is sound.
    let sound: std::collections::BTreeSet<_> = super::files_below(&world.paths.repository.join("data")).into_iter().collect();
    havoc(&files(&world));
    fs::write(files(&world).join("today"), vec![9; 100_000]).unwrap();
    let today = listing(&files(&world));
    // An earlier run has stored the same, and its packs went bad since: what the undo point refers to is not what was written.
    world.done(&task(&world, "backup", json!({"run": THIRD_RUN}))).await;
    world.done(&task(&world, "fence", json!({"epoch": 1}))).await;
    let other = world.task_with("restore", json!({"epoch": 1, "snapshot": backup.snapshot, "volumes": [{"name": "uploads"}]}));
    let spoiling = || {
        for pack in super::files_below(&world.paths.repository.join("data")) {
            if !sound.contains(&pack) {
                let bytes: Vec<u8> = fs::read(&pack).unwrap().into_iter().map(|byte| byte ^ 1).collect();
                chmod(&pack, 0o600);
                fs::write(pack, bytes).unwrap();
            }
        }
    };
    spoiling();
    let refused = world.refused(&other, exit::PERMANENT, "UndoPointUnsound").await.error.unwrap();
    assert!(refused.message.contains("uploads") && refused.message.contains("no file was touched"), "{refused:?}");
    assert_eq!(listing(&files(&world)), today, "nothing was overwritten, and nothing removed");
    let rolled = world.done(&task(&world, "rollback", json!({"epoch": 1}))).await;
    assert!(rolled.notes.iter().any(|n| n.contains("uploads: nothing was changed yet")), "{rolled:?}");
    assert_eq!((listing(&files(&world)), world.state().await.0), (today, "rolled-back".to_owned()));
    world.done(&task(&world, "release", json!({"epoch": 1}))).await;
}

/// A world whose repository holds an undo point of the run, as an attempt leaves it that is killed before it has read it back.
/// Gives the snapshot before it, what the files are today, and what damages the undo point.
async fn written_and_not_proven(name: &str) -> (World, String, Vec<String>, impl Fn(&World)) {
    let (world, _) = world(name).await;
    let backup = world.done(&task(&world, "backup", json!({"run": OTHER_RUN}))).await.backup.unwrap();
    let sound: std::collections::BTreeSet<_> = super::files_below(&world.paths.repository).into_iter().collect();
    havoc(&files(&world));
    fs::write(files(&world).join("today"), vec![9; 100_000]).unwrap();
    let today = listing(&files(&world));
    world.done(&task(&world, "backup", json!({}))).await;
    let damage = move |world: &World| {
        for file in super::files_below(&world.paths.repository.join("data")).into_iter().filter(|f| !sound.contains(f)) {
            let bytes: Vec<u8> = fs::read(&file).unwrap().into_iter().map(|byte| byte ^ 1).collect();
            chmod(&file, 0o600);
            fs::write(file, bytes).unwrap();
        }
    };
    (world, backup.snapshot, today, damage)
}

#[tokio::test]
async fn an_undo_point_that_nobody_has_read_back_yet_is_in_nobodys_way_when_it_is_damaged() {
    let (world, snapshot, today, damage) = written_and_not_proven("unproven").await;
    let load = task(&world, "restore", json!({"epoch": 2, "snapshot": snapshot}));
    damage(&world);
    for (epoch, attempt) in [(1, false), (2, true)] {
        world.done(&task(&world, "fence", json!({"epoch": epoch}))).await;
        // Tried again or not: no file was touched, so the rollback looks at nothing that is damaged.
        if attempt {
            world.refused(&load, exit::PERMANENT, "UndoPointUnsound").await;
        }
        let rolled = world.done(&task(&world, "rollback", json!({"epoch": epoch}))).await;
        assert!(rolled.notes.iter().any(|n| n.contains("uploads: nothing was changed yet")), "{rolled:?}");
        assert_eq!((listing(&files(&world)), world.state().await.0), (today.clone(), "rolled-back".to_owned()));
        world.done(&task(&world, "release", json!({"epoch": epoch}))).await;
    }
}

#[tokio::test]
async fn once_files_may_be_others_an_undo_point_that_was_not_told_is_put_back() {
    let (world, snapshot, today, _) = written_and_not_proven("halfway").await;
    world.done(&task(&world, "fence", json!({"epoch": 1}))).await;
    world.done(&task(&world, "restore", json!({"epoch": 1, "snapshot": snapshot}))).await;
    assert_ne!(listing(&files(&world)), today);
    // As it is when load is killed between the last file and the swap.
    let boss = world.server.boss(&world.control()).await;
    let changed: String = boss.query_one("SELECT files FROM fence", &[]).await.unwrap().get(0);
    assert_eq!(changed, "changed");
    // A table of an earlier version has no such column; then it is as if they may be.
    boss.batch_execute("ALTER TABLE fence DROP COLUMN files").await.unwrap();
    world.done(&task(&world, "rollback", json!({"epoch": 1}))).await;
    assert_eq!(listing(&files(&world)), today);
    world.done(&task(&world, "release", json!({"epoch": 1}))).await;
}

#[tokio::test]
async fn a_promotions_undo_point_is_read_back_before_anything_opens() {
    let (world, _, today, damage) = written_and_not_proven("before-migration").await;
    damage(&world);
    for (epoch, method, state) in [(1, "Auto", "undone"), (2, "Backup", "fenced")] {
        let of = |verb: &str| task(&world, verb, json!({"epoch": epoch, "data": [{"name": "store", "undo": method}]}));
        world.done(&of("fence")).await;
        let refused = world.refused(&of("undo"), exit::PERMANENT, "UndoPointUnsound").await.error.unwrap();
        assert!(refused.message.contains("uploads") && refused.message.contains("no file was touched"), "{refused:?}");
        assert_eq!(world.state().await.0, state, "{method}: no migration may begin");
        world.done(&of("rollback")).await;
        assert_eq!((listing(&files(&world)), world.state().await.0), (today.clone(), "rolled-back".to_owned()));
        world.done(&of("release")).await;
        assert_eq!((world.rows().await, world.databases().await.len()), (2000, 1));
    }
}

#[tokio::test]
async fn a_backup_that_lost_a_file_on_its_way_is_not_proven() {
    let (world, _) = world("lost").await;
    let backup = world.done(&task(&world, "backup", json!({}))).await.backup.unwrap();
    // Another total than the files come to: as if one had not come through.
    let repository = Repository::open(&world.paths.repository, &world.paths.repository_password, &world.environment).unwrap();
    let reader = repository.reader(&backup.snapshot).unwrap();
    let whole = restore::total(&reader, Path::new("volumes/uploads"), &Stop::never(), &|_| {}).unwrap();
    let fewer = lockkeeper::data::volume::Total { files: whole.files - 1, ..whole.clone() };
    let target = world.directory.path().join("elsewhere");
    fs::create_dir_all(&target).unwrap();
    fs::write(target.join("here"), "stays").unwrap();
    let put = |total| restore::put_back(&target, (&reader, Path::new("volumes/uploads")), total, &Stop::never(), &|_, _| {});
    let refused = put(&fewer).unwrap_err().to_string();
    assert!(refused.contains("nothing was changed"), "{refused}");
    assert_eq!(listing(&target).len(), 1);
    put(&whole).unwrap();
    assert_eq!(listing(&target), listing(&files(&world)), "into an empty place, too");
    assert_eq!(restore::in_place(&Root::open(&target).unwrap(), &Stop::never(), &|_| {}).unwrap(), whole);
}

#[tokio::test]
async fn a_database_whose_data_is_called_volumes_is_proven_and_restored_like_any_other() {
    let world = World::new("called").await;
    symlink(world.paths.secrets.join("store"), world.paths.secrets.join("volumes")).unwrap();
    let task = |verb: &str, more: serde_json::Value| {
        let mut all = json!({"data": [{"name": "volumes", "undo": "Backup"}]});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.task_with(verb, all)
    };
    let backup = world.done(&task("backup", json!({"run": OTHER_RUN}))).await.backup.unwrap();
    world.done(&task("prove", json!({"snapshot": backup.snapshot}))).await;
    for verb in ["fence", "undo"] {
        world.done(&task(verb, json!({"epoch": 1}))).await;
    }
    world.as_app().await.batch_execute("DELETE FROM orders WHERE id % 2 = 0").await.unwrap();
    world.done(&task("rollback", json!({"epoch": 1}))).await;
    assert_eq!(world.rows().await, 2000);
}

#[tokio::test]
async fn a_restore_brings_files_back_and_keeps_todays_for_its_undo() {
    let (world, before) = world("back").await;
    let backup = world.done(&task(&world, "backup", json!({"run": OTHER_RUN}))).await.backup.unwrap();
    havoc(&files(&world));
    let today = listing(&files(&world));
    let from = json!({"epoch": 1, "snapshot": backup.snapshot});
    let checks = world.done(&task(&world, "preflight", json!({"snapshot": &backup.snapshot[..12]}))).await;
    assert_eq!(failed(&checks), []);
    assert!(checks.checks.iter().any(|c| c.name == "uploads: space"), "{checks:?}");
    world.done(&task(&world, "fence", json!({"epoch": 1}))).await;
    let outcome = world.done(&task(&world, "restore", from.clone())).await;
    assert_eq!(listing(&files(&world)), before);
    assert_eq!(named(&outcome), "store=Swap, uploads=Backup in the repository");
    assert!(outcome.notes.iter().any(|n| n.starts_with("uploads: read the undo point back, ")), "{outcome:?}");
    // Done again after its outcome was lost, it leaves what new workloads may have written since.
    fs::write(files(&world).join("fresh"), "new").unwrap();
    let again = world.done(&task(&world, "restore", from)).await;
    assert_eq!(named(&again), named(&outcome));
    assert!(files(&world).join("fresh").exists());
    world.done(&task(&world, "rollback", json!({"epoch": 1}))).await;
    assert_eq!(listing(&files(&world)), today, "a restore that is undone leaves what was there");

    let other = task(
        &world,
        "restore",
        json!({"epoch": 2, "run": THIRD_RUN, "snapshot": backup.snapshot, "volumes": [{"name": "elsewhere"}]}),
    );
    world.done(&task(&world, "release", json!({"epoch": 1}))).await;
    fs::create_dir_all(world.paths.volumes.join("elsewhere")).unwrap();
    world.done(&world.task_with("fence", json!({"epoch": 2, "run": THIRD_RUN}))).await;
    let refused = world.refused(&other, exit::PERMANENT, "Refused").await;
    assert!(refused.error.unwrap().message.contains("does not hold this volume"), "its name decides");
}

#[tokio::test]
async fn what_is_killed_anywhere_is_finished_by_the_next() {
    let (world, before) = world("killed").await;
    for verb in ["fence", "undo"] {
        world.done(&task(&world, verb, json!({"epoch": 1}))).await;
    }
    havoc(&files(&world));
    let repository = Repository::open(&world.paths.repository, &world.paths.repository_password, &world.environment).unwrap();
    let snapshot = repository.of_run(RUN).unwrap().unwrap().snapshot;
    let reader = repository.reader(&snapshot).unwrap();
    let whole = restore::total(&reader, Path::new("volumes/uploads"), &Stop::never(), &|_| {}).unwrap();
    // It sees the wish to stop between any two entries: as many entries, as many places to die.
    for entries in [1_usize, 20, 40, 60, 80, 100] {
        let (stopper, stop) = stop::channel();
        let seen = std::sync::atomic::AtomicUsize::new(0);
        let report = |_: restore::Work, _: u64| {
            if seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 >= entries {
                stopper.stop();
            }
        };
        let _ = restore::put_back(&files(&world), (&reader, Path::new("volumes/uploads")), &whole, &stop, &report);
    }
    world.done(&task(&world, "rollback", json!({"epoch": 1}))).await;
    assert_eq!(listing(&files(&world)), before);
}

#[tokio::test]
async fn twenty_thousand_small_files_come_back_within_seconds() {
    let world = World::new("many").await;
    let root = files(&world);
    for directory in 0..100 {
        fs::create_dir_all(root.join(format!("{directory:02}"))).unwrap();
        for file in 0..200 {
            fs::write(root.join(format!("{directory:02}/{file}")), format!("{directory} {file}")).unwrap();
        }
    }
    let before = listing(&root);
    let began = Instant::now();
    for verb in ["fence", "undo"] {
        world.done(&task(&world, verb, json!({"epoch": 1}))).await;
    }
    let stored = began.elapsed();
    for directory in 0..50 {
        fs::remove_dir_all(root.join(format!("{directory:02}"))).unwrap();
    }
    let began = Instant::now();
    world.done(&task(&world, "rollback", json!({"epoch": 1}))).await;
    println!("20,000 files: stored in {stored:.1?}, half of them put back in {:.1?}", began.elapsed());
    assert_eq!(listing(&root), before);
}

/// The agent as a user without rights of its own, as its pods run.
pub fn as_user(world: &World, user: u32, task: &lockkeeper::manifest::task::Task) -> Outcome {
    let path = world.directory.path();
    for directory in [path, &world.paths.repository, &world.paths.volumes, &world.paths.scratch] {
        chmod(directory, 0o777);
    }
    fs::write(&world.paths.result, "").unwrap();
    chmod(&world.paths.result, 0o666);
    let status = world.agent_with(task).uid(user).gid(user).status().unwrap();
    let outcome: Outcome = serde_json::from_str(&fs::read_to_string(&world.paths.result).unwrap()).unwrap();
    assert!(status.success() || outcome.error.is_some(), "{status}");
    outcome
}

#[tokio::test]
async fn preflight_names_files_that_could_not_be_read_or_given_back() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can make files that belong to others
    }
    let (world, _) = world("owners").await;
    let root = files(&world);
    let check = task(&world, "preflight", json!({}));
    let outcome = as_user(&world, 4242, &check);
    let message = outcome.checks.iter().find(|c| c.name == "uploads: files" && !c.passed).unwrap().message.clone();
    for part in ["a/deep/er/none", "cannot be read", "belong to others", "a of 0:0", "run as user 4242", "runAsUser"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let give = Command::new("chown").args(["-R", "-h", "4242:4242"]).arg(&root).status().unwrap();
    assert!(give.success());
    chmod(&root.join("a/deep/er/none"), 0o600);
    let outcome = as_user(&world, 4242, &check);
    let all: Vec<_> = outcome.checks.iter().filter(|c| c.name.starts_with("uploads")).collect();
    assert!(all.iter().all(|c| c.passed) && all.len() == 2, "{all:?}");
    assert!(
        all.iter().any(|c| c.name == "uploads: undo point" && c.message.contains("a second backup under the lock")),
        "{all:?}"
    );

    // And that user brings all of it back.
    let before = listing(&root);
    for verb in ["fence", "undo"] {
        let outcome = as_user(&world, 4242, &task(&world, verb, json!({"epoch": 1})));
        assert_eq!(outcome.error, None);
    }
    havoc(&root);
    assert!(Command::new("chown").args(["-R", "-h", "4242:4242"]).arg(&root).status().unwrap().success());
    let outcome = as_user(&world, 4242, &task(&world, "rollback", json!({"epoch": 1})));
    assert_eq!(outcome.error, None);
    assert_eq!(listing(&root), before);
    assert_eq!(shown(Path::new("")), "the volume's own directory");

    // A volume that nobody has mounted yet belongs to root.
    let backup = as_user(&world, 4242, &task(&world, "backup", json!({"run": OTHER_RUN}))).backup.unwrap();
    fs::remove_dir_all(&root).unwrap();
    fs::create_dir(&root).unwrap();
    fs::create_dir(root.join("lost+found")).unwrap();
    let back = task(&world, "preflight", json!({"snapshot": backup.snapshot}));
    let outcome = as_user(&world, 4242, &back);
    let message = outcome.checks.iter().find(|c| c.name == "uploads: files" && !c.passed).map(|c| c.message.clone());
    assert!(message.as_ref().is_some_and(|m| m.contains("start the workload that mounts the claim once")), "{outcome:?}");
    assert!(Command::new("chown").args(["0:4242"]).arg(&root).status().unwrap().success());
    chmod(&root, 0o2775);
    let outcome = as_user(&world, 4242, &back);
    assert!(!outcome.checks.iter().any(|c| c.name == "uploads: files" && !c.passed), "{outcome:?}");
}
