//! Files of a volume on their way to another environment: what a policy lists arrives as it was, and of nothing else is there a
//! byte or a name anywhere.

use std::{
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, PermissionsExt, symlink},
    },
    path::Path,
    process::Command,
};

use lockkeeper::{
    data::repository::Repository,
    manifest::task::{Task, exit},
};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use serde_json::{Value, json};

use super::{
    OTHER_RUN,
    alignments::Pair,
    failed,
    postgres::{RUN, World},
    volumes::{as_user, chmod, listing, nasty},
};

fn uploads(world: &World) -> std::path::PathBuf {
    world.paths.volumes.join("uploads")
}

/// Files that may leave beside files that may not, and all that could take one for the other.
fn secrets(root: &Path) {
    nasty(root);
    for directory in ["public/deep/er", "public/canary-in-public", "private/canary-jane"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for (path, content) in [
        ("private/canary-jane/canary-passport.txt", "canary-content"),
        ("private/a.css", "canary-css"),
        ("public/canary.txt", "canary-content"),
        ("public/canary-in-public/canary.html", "canary-content"),
        ("public/canary.css.bak", "canary-content"),
        ("public/a.css", "a {}"),
        ("public/deep/er/b.css", "b {}"),
        ("public/one.css", "of two names"),
        ("private/canary-twin", "whose own path may leave"),
    ] {
        fs::write(root.join(path), content).unwrap();
    }
    fs::write(root.join("public").join(std::ffi::OsStr::from_bytes(b"\xff.css")), "no text").unwrap();
    let sparse = File::create(root.join("public/sparse.css")).unwrap();
    sparse.write_all_at(b"end", 64 << 20).unwrap();
    fs::hard_link(root.join("public/one.css"), root.join("public/deep/two.css")).unwrap();
    fs::hard_link(root.join("private/canary-twin"), root.join("public/twin.css")).unwrap();
    symlink("a.css", root.join("public/link.css")).unwrap();
    symlink("../private/canary-jane/canary-passport.txt", root.join("public/leak.css")).unwrap();
    symlink("/srv/canary/a.css", root.join("public/absolute.css")).unwrap();
    rustix::fs::mknodat(CWD, root.join("public/pipe.css"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    for path in ["public/a.css", "public", "private"] {
        rustix::fs::setxattr(root.join(path), "user.tag", b"canary-attribute", XattrFlags::empty()).unwrap();
    }
    fs::set_permissions(root.join("public/a.css"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(root.join("public/deep"), fs::Permissions::from_mode(0o2770)).unwrap();
}

fn lists(patterns: Value) -> impl Fn(&mut Value) {
    move |policy| {
        policy["data"].as_array_mut().unwrap().push(json!({"name": "uploads", "files": {"include": patterns}}));
    }
}

fn masking(pair: &Pair, hash: &str) -> Task {
    let more = json!({"maskingPolicyHash": hash, "policy": "copy", "volumes": [{"name": "uploads"}]});
    pair.production.task_with("snapshot", more)
}

async fn pair(name: &str) -> Pair {
    let pair = Pair::new(name).await;
    fs::create_dir_all(uploads(&pair.production)).unwrap();
    secrets(&uploads(&pair.production));
    let below = &pair.development;
    fs::create_dir_all(uploads(below).join("public/mine")).unwrap();
    fs::write(uploads(below).join("public/mine/file"), "of Development").unwrap();
    fs::write(uploads(below).join("public/a.css"), "another").unwrap();
    fs::create_dir_all(below.paths.own.join("repository")).unwrap();
    fs::create_dir_all(below.paths.own.join("repository-password")).unwrap();
    fs::write(below.paths.own.join("repository-password/password"), "Development's own\n").unwrap();
    pair
}

/// What of a listing leaves, as it is told elsewhere.
fn of_public(listing: &[String]) -> Vec<String> {
    let leaves = |line: &&String| {
        let path = line.split(" mode=").next().unwrap();
        let css = path.starts_with("public/") && path.ends_with(".css");
        let directory = ["public", "public/deep", "public/deep/er"].contains(&path);
        (css && !path.contains("leak") && !path.contains("absolute")) || directory
    };
    let told = |line: &String| {
        let line = line.replace(" user.tag=canary-attribute", "");
        if line.starts_with("public/twin.css") { line.replace("links=2", "links=1") } else { line }
    };
    listing.iter().filter(leaves).map(told).collect()
}

#[tokio::test]
async fn what_a_policy_lists_arrives_as_it_was_and_of_nothing_else_is_there_a_byte_or_a_name() {
    let mut pair = pair("leaving").await;
    let hash = pair.policy(lists(json!(["public/**/*.css"])));
    // As a process: what it prints is looked at too.
    let task = masking(&pair, &hash);
    let printed = pair.production.agent_with(&task).output().unwrap();
    let said = [printed.stdout, printed.stderr, fs::read(&pair.production.paths.result).unwrap()].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(printed.status.success(), "{said}");
    assert!(!said.contains("canary"), "{said}");
    assert!(said.contains("uploads: 2 symbolic links stay behind, because what they name does not leave"), "{said}");
    let masked = pair.production.done(&task).await.backup.unwrap();
    let content = masked.contents.iter().find(|c| c.data == "uploads").unwrap();
    assert_eq!(content.files, Some(7), "{content:?}");

    // The exchange, decrypted: every name, every byte, and what is told of each entry.
    let place = tempfile::tempdir().unwrap();
    let paths = &pair.production.paths;
    let repository = Repository::open(&paths.repository, &paths.repository_password, &pair.production.environment).unwrap();
    repository.restore(&masked.snapshot, place.path()).unwrap();
    let mut seen = 0;
    let mut directories = vec![place.path().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let mut bytes = entry.file_name().as_bytes().to_vec();
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_symlink() {
                bytes.extend(fs::read_link(&path).unwrap().as_os_str().as_bytes());
            } else if kind.is_file() {
                bytes.extend(fs::read(&path).unwrap());
            }
            assert!(!String::from_utf8_lossy(&bytes).contains("canary"), "{}", entry.path().display());
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen}");
    let reader = repository.reader(&masked.snapshot).unwrap();
    let own = reader.directory(Path::new("volumes/uploads")).unwrap();
    for node in reader.below(&own).unwrap().map(|entry| entry.unwrap().1).chain([own.clone()]) {
        assert!(node.meta.extended_attributes.is_empty() && node.meta.links <= 2, "{node:?}");
    }

    // Into the lower environment, whose own files are the undo point.
    let development = &pair.development;
    let before = listing(&uploads(development));
    let of_snapshot =
        json!({"snapshot": masked.snapshot, "origin": pair.production.environment, "volumes": [{"name": "uploads"}]});
    let with = |verb: &str, more: Value| {
        let mut all = of_snapshot.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        development.task_with(verb, all)
    };
    let checks = development.done(&with("preflight", json!({"data": []}))).await;
    assert_eq!(failed(&checks), []);
    let names: Vec<&str> = checks.checks.iter().map(|c| c.name.as_str()).filter(|n| n.starts_with("uploads")).collect();
    assert_eq!(names, ["uploads: space", "uploads: owners"]);
    development.ok("fence", 1).await;
    let load = with("restore", json!({"epoch": 1, "own": {}}));
    let loaded = development.done(&load).await;
    assert_eq!(listing(&uploads(development)), of_public(&listing(&uploads(&pair.production))), "{loaded:?}");
    let kept = loaded.aside.iter().find(|a| a.data == "uploads").unwrap();
    assert!(kept.snapshot.is_some() && kept.snapshot.as_ref() != Some(&masked.snapshot), "{loaded:?}");
    assert_eq!(development.done(&load).await.aside.iter().find(|a| a.data == "uploads"), Some(kept), "done again, it is done");

    // Put back from its own repository, which is all that a rollback is given.
    let mut back = development.task_with("rollback", json!({"epoch": 1, "volumes": [{"name": "uploads"}]}));
    let mut paths = development.paths.clone();
    paths.repository = paths.own.join("repository");
    paths.repository_password = paths.own.join("repository-password");
    back.repository = true;
    let (code, rolled) = lockkeeper::agent::perform(&back, &paths, lockkeeper::data::stop::Stop::never()).await;
    assert_eq!((code, listing(&uploads(development))), (exit::DONE, before), "{rolled:?}");
    development.ok("release", 1).await;
}

#[tokio::test]
async fn files_whose_owners_are_nobody_here_are_named_before_anyone_is_locked_out() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can make files that belong to others
    }
    let mut pair = pair("strangers").await;
    let hash = pair.policy(lists(json!(["public/**/*.css"])));
    let give = |place: &Path, user: &str| {
        assert!(Command::new("chown").args(["-R", "-h", user]).arg(place).status().unwrap().success());
    };
    let (development, from) = (&pair.development, &pair.production);
    let owners = async |run: &str| {
        let mut task = masking(&pair, &hash);
        task.run = run.into();
        let masked = from.done(&task).await.backup.unwrap();
        // One volume for both: the pod down there reads what the one up here wrote.
        give(&from.paths.repository, "4242:4242");
        chmod(from.directory.path(), 0o755);
        let of_snapshot =
            json!({"snapshot": masked.snapshot, "origin": from.environment, "volumes": [{"name": "uploads"}], "data": []});
        let outcome = as_user(development, 4242, &development.task_with("preflight", of_snapshot));
        outcome.checks.into_iter().find(|c| c.name == "uploads: owners").unwrap()
    };
    let check = owners(RUN).await;
    for part in
        ["public/a.css of 0:0", "belong to others there and cannot be given to them here", "run as user 4242", "runAsUser"]
    {
        assert!(check.message.contains(part), "{part}: {}", check.message);
    }
    assert!(!check.passed && !check.message.contains("private"), "{check:?}");
    give(&uploads(&pair.production), "4242:4242");
    let check = owners(OTHER_RUN).await;
    assert!(check.passed, "{check:?}");
}

#[tokio::test]
async fn what_holds_other_volumes_than_are_asked_for_does_not_serve_again() {
    let mut pair = pair("volumes_again").await;
    let hash = pair.policy(lists(json!(["public/**/*.css"])));
    let runs = std::cell::Cell::new(0);
    let asks = async |volumes: Value| {
        runs.set(runs.get() + 1);
        let task = pair.production.task_with(
            "snapshot",
            json!({
                "maskingPolicyHash": hash, "policy": "copy", "run": format!("{:08}-aaaa-4bbb-8ccc-dddddddddddd", runs.get()),
                "release": "r1", "reuseWithinSeconds": 3600, "volumes": volumes,
            }),
        );
        pair.production.done(&task).await.backup.unwrap().snapshot
    };
    let files = json!([{"name": "uploads"}]);
    let with = asks(files.clone()).await;
    let without = asks(json!([])).await;
    assert_ne!(with, without, "files that nobody asked for are not handed over");
    // The newest lacks the files; the one before has them.
    assert_eq!((asks(files).await, asks(json!([])).await), (with, without));
}

#[tokio::test]
async fn without_a_pattern_or_with_one_that_was_not_granted_nothing_leaves() {
    let mut pair = pair("unlisted").await;
    let none = pair.policy(|_| {});
    let said = pair.production.refused(&masking(&pair, &none), exit::PERMANENT, "Refused").await.error.unwrap().message;
    assert!(said.contains("lists no files of data uploads") && said.contains("files: {include:"), "{said}");
    let bad = pair.policy(lists(json!(["public/**", "[!p]*"])));
    let said = pair.production.refused(&masking(&pair, &bad), exit::PERMANENT, "Refused").await.error.unwrap().message;
    assert!(said.contains("nothing has left") && said.contains("sets of characters"), "{said}");
    let granted = pair.policy(lists(json!(["public/**/*.css"])));
    pair.policy(lists(json!(["public/**/*.css", "private/**"])));
    let said = pair.production.refused(&masking(&pair, &granted), exit::PERMANENT, "Refused").await.error.unwrap().message;
    assert!(said.contains("nothing leaves by another policy"), "{said}");
    assert_eq!(granted, pair.policy(lists(json!(["public/**/*.css"]))), "the same patterns, the same hash");

    // What cannot be read where something might be that leaves: its name is in no sentence.
    let mut deep = uploads(&pair.production).join("public");
    for _ in 0..401 {
        deep.push("canary");
    }
    assert!(Command::new("mkdir").arg("-p").arg(&deep).status().unwrap().success());
    let refused = pair.production.refused(&masking(&pair, &granted), exit::PERMANENT, "FilesFailed").await;
    let said = serde_json::to_string(&refused).unwrap();
    assert!(said.contains("one in the other") && !said.contains("canary"), "{said}");
    let paths = &pair.production.paths;
    let repository = Repository::open(&paths.repository, &paths.repository_password, &pair.production.environment).unwrap();
    assert_eq!(repository.of_run(RUN).unwrap(), None);
}
