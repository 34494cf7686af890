//! A repository in a directory.

use super::*;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("password")).unwrap();
        fs::write(directory.path().join("password/password"), "correct horse\n").unwrap();
        fs::create_dir_all(directory.path().join("in/store/dump")).unwrap();
        fs::write(directory.path().join("in/store/manifest.json"), "{}").unwrap();
        fs::write(directory.path().join("in/store/dump/1.dat"), "row".repeat(100_000)).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn open(&self, environment: &str) -> Result<Repository, RepositoryError> {
        Repository::open(&self.path("repository"), &self.path("password"), environment)
    }
}

#[test]
fn what_is_stored_comes_back_under_relative_names_and_is_found_by_its_run() {
    let place = Place::new();
    let repository = place.open("env-a").unwrap();
    assert_eq!(repository.of_run("run-1").unwrap(), None);
    let stored = repository.store(&place.path("in"), "run-1", "ns/env", Some("before flags-7-4")).unwrap();
    assert!(stored.bytes > 300_000 && stored.stored_bytes < stored.bytes, "{stored:?}");
    assert_eq!(place.open("env-a").unwrap().of_run("run-1").unwrap(), Some(stored.clone()));
    repository.restore(&stored.snapshot, &place.path("out")).unwrap();
    assert_eq!(fs::read_to_string(place.path("out/store/dump/1.dat")).unwrap(), "row".repeat(100_000));
    assert!(place.path("out/store/manifest.json").is_file());
    let again = repository.store(&place.path("in"), "run-2", "ns/env", None).unwrap();
    assert!(again.stored_bytes < 10_000, "{again:?}");

    let missing = repository.restore(&"0".repeat(64), &place.path("out2")).unwrap_err();
    assert_eq!(missing.reason(), "SnapshotMissing");
    assert_eq!(place.open("env-b").err().unwrap().reason(), "RepositoryForeign");
    fs::write(place.path("password/password"), "wrong").unwrap();
    assert_eq!(place.open("env-a").err().unwrap().reason(), "RepositoryPasswordWrong");
    fs::write(place.path("password/password"), "\n").unwrap();
    assert_eq!(place.open("env-a").err().unwrap().reason(), "RepositoryPasswordMissing");
}

#[test]
fn of_many_that_open_a_new_repository_at_once_one_makes_it() {
    let place = Place::new();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| place.open("env-a").map(drop))).collect();
        for one in all {
            one.join().unwrap().unwrap();
        }
    });
    let stored = place.open("env-a").unwrap().store(&place.path("in"), "run-1", "ns/env", None).unwrap();
    place.open("env-a").unwrap().restore(&stored.snapshot, &place.path("out")).unwrap();
}

#[test]
fn a_flipped_bit_is_noticed_and_a_half_made_repository_is_made_again() {
    let place = Place::new();
    fs::create_dir_all(place.path("repository/keys")).unwrap();
    fs::write(place.path("repository/keys/00"), "{}").unwrap();
    let repository = place.open("env-a").unwrap();
    let stored = repository.store(&place.path("in"), "run-1", "ns/env", None).unwrap();
    let packs = fs::read_dir(place.path("repository/data")).unwrap().flatten();
    for pack in packs.flat_map(|d| fs::read_dir(d.path()).unwrap().flatten()) {
        let mut bytes = fs::read(pack.path()).unwrap();
        bytes[20] ^= 1;
        fs::set_permissions(pack.path(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(pack.path(), bytes).unwrap();
    }
    let error = repository.restore(&stored.snapshot, &place.path("out")).unwrap_err();
    assert_eq!((error.reason(), error.is_permanent()), ("RepositoryDamaged", true), "{error}");
}
