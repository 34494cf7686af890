//! The judge of what must not leave: values like no others, planted in Production, looked for wherever an alignment could have
//! let them. It reads what is there by itself, not what the operator says of it: the lower server's files and dump, the exchange
//! decrypted, each line of each pod, and etcd's own files, in which every object is that ever was, events and status too.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use lockkeeper::data::repository::Repository;
use memchr::memmem;
use tempfile::TempDir;

use super::{
    cluster::{self, kubectl, state},
    database::Database,
};

/// All files below a directory. What goes meanwhile is passed over.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => out.extend(below(&entry.path())),
            Ok(kind) if kind.is_file() => out.push(entry.path()),
            _ => {}
        }
    }
    out
}

/// Values of which none may be found, by what each has in it.
pub struct Canaries {
    words: Vec<String>,
    logs: Logs,
}

impl Canaries {
    /// Watches the pods of these namespaces, and of the operator, from now on.
    pub fn of(words: &[&str], namespaces: &[&str]) -> Self {
        // As text is, and as it is where somebody has written it in capitals.
        let words = words.iter().flat_map(|w| [(*w).to_owned(), w.to_uppercase()]).collect::<BTreeSet<_>>();
        let namespaces = namespaces.iter().copied().chain([cluster::OPERATOR_NAMESPACE]).map(str::to_owned).collect();
        Self { words: words.into_iter().collect(), logs: Logs::follow(namespaces) }
    }

    /// How many different ones there are in a text. The values end with their number.
    pub fn count(&self, text: &str) -> usize {
        let of = |word: &String| {
            let rests = text.match_indices(word.as_str()).map(|(at, _)| {
                let rest = &text[at + word.len()..];
                &rest[..rest.bytes().take_while(u8::is_ascii_digit).count()]
            });
            rests.collect::<BTreeSet<_>>().len()
        };
        self.words.iter().map(of).sum()
    }

    fn are_in(&self, bytes: &[u8]) -> bool {
        self.words.iter().any(|word| memmem::find(bytes, word.as_bytes()).is_some())
    }

    /// That none is in a text.
    pub fn not_in(&self, what: &str, text: &str) {
        assert!(!self.are_in(text.as_bytes()), "a value of Production is in {what}");
    }

    /// That none is in any file below a directory. `known`: what must be in one of them, or the wrong place was looked at.
    pub fn not_below(&self, what: &str, directory: &Path, known: &str) {
        let (mut seen, mut bytes) = (false, 0);
        for file in below(directory) {
            let Ok(content) = fs::read(&file) else { continue };
            assert!(!self.are_in(&content), "{what}: a value of Production is in {}", file.display());
            seen |= memmem::find(&content, known.as_bytes()).is_some();
            bytes += content.len();
        }
        assert!(seen, "{what}: nothing there speaks of {known}; {} has {bytes} bytes", directory.display());
        println!("{what}: none in {bytes} bytes");
    }

    /// That none is in any database of a server, as a dump of all shows it, nor in the server's own log.
    pub fn not_on_server(&self, namespace: &str, known: &str) {
        let server = Database::of(namespace);
        let dump = server.sh("pg_dumpall -h /tmp -U postgres").expect("the server is dumped");
        assert!(dump.contains(known), "the dump of {namespace} does not speak of {known}");
        self.not_in(&format!("a database of {namespace}"), &dump);
        // Rows that no database has any more are in its files, and in its journal, for a while.
        let words: Vec<String> = self.words.iter().map(|word| format!("-e {word}")).collect();
        let search = |words: &str| server.sh(&format!("grep -rslaF {words} /data/pgdata || true")).expect("files are read");
        assert!(!search(known).trim().is_empty(), "no file of the server of {namespace} speaks of {known}");
        let found = search(&words.join(" "));
        assert!(found.trim().is_empty(), "a value of Production is in files of the server of {namespace}: {found}");
        println!("server of {namespace}: none in a dump of {} bytes, none in its files", dump.len());
    }

    /// That none is in any snapshot of a repository on a volume.
    pub fn not_in_repository(&self, directory: &Path, password: &str, environment: &str, known: &str) {
        let secret = tempfile::tempdir().expect("a directory");
        fs::write(secret.path().join("password"), password).expect("a password");
        let repository = Repository::open_to_read(directory, secret.path(), environment).expect("the exchange opens");
        let snapshots = repository.known().expect("snapshots are listed");
        assert!(!snapshots.is_empty(), "the exchange is empty");
        for (snapshot, _) in snapshots {
            let place = tempfile::tempdir().expect("a directory");
            repository.restore(&snapshot, place.path()).expect("a snapshot comes out");
            self.not_below("the exchange, decrypted", place.path(), known);
        }
    }

    /// That none is in what the cluster keeps, by kubectl and by its files, nor in any line that a pod has written.
    pub fn not_in_cluster(&self, namespaces: &[&str], known: &str, steps: &[&str]) {
        for namespace in namespaces {
            let kinds = "events,jobs,pods,configmaps,downalignments,maskingpolicies,environments,promotions,environmentbackups";
            let seen = kubectl(&["-n", namespace, "get", kinds, "-o", "yaml"]).expect("it can be read");
            self.not_in(&format!("what is kept of {namespace}"), &seen);
        }
        self.not_below("etcd", &state().join("etcd"), known);
        let logs = self.logs.all();
        for step in steps {
            let said = logs.iter().any(|(name, text)| name.contains(step) && !text.is_empty());
            let names: Vec<&String> = logs.iter().map(|(name, _)| name).collect();
            assert!(said, "no pod of {step} has said a word: {names:?}");
        }
        for (name, text) in &logs {
            assert!(!self.are_in(text), "a value of Production is in the log of {name}");
        }
        println!("logs: none in {} files of {} bytes", logs.len(), logs.iter().map(|(_, text)| text.len()).sum::<usize>());
    }
}

/// What pods write, kept when they go: each file of the node gets a second name as soon as it is there.
struct Logs {
    kept: Arc<Mutex<BTreeMap<u64, (String, PathBuf)>>>,
    done: Arc<AtomicBool>,
    follower: Option<JoinHandle<()>>,
    _directory: TempDir,
}

impl Logs {
    fn follow(namespaces: Vec<String>) -> Self {
        let state = state();
        let directory = tempfile::tempdir_in(&state).expect("a directory beside the logs, where links may lead");
        let (kept, done) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(AtomicBool::new(false)));
        let (into, stop, at) = (kept.clone(), done.clone(), directory.path().to_owned());
        let follower = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                keep(&state.join("pod-logs"), &namespaces, &at, &into);
                thread::sleep(Duration::from_millis(100));
            }
        });
        Self { kept, done, follower: Some(follower), _directory: directory }
    }

    fn all(&self) -> Vec<(String, Vec<u8>)> {
        let kept = self.kept.lock().expect("the list");
        kept.values().map(|(name, path)| (name.clone(), fs::read(path).expect("a log"))).collect()
    }
}

fn keep(from: &Path, namespaces: &[String], to: &Path, kept: &Mutex<BTreeMap<u64, (String, PathBuf)>>) {
    for pod in fs::read_dir(from).into_iter().flatten().flatten() {
        let name = pod.file_name().to_string_lossy().into_owned();
        if !namespaces.iter().any(|namespace| name.starts_with(&format!("{namespace}_"))) {
            continue;
        }
        for file in below(&pod.path()) {
            let Ok(inode) = fs::metadata(&file).map(|m| m.ino()) else { continue };
            let mut kept = kept.lock().expect("the list");
            let second = to.join(inode.to_string());
            if !kept.contains_key(&inode) && fs::hard_link(&file, &second).is_ok() {
                kept.insert(inode, (name.clone(), second));
            }
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(follower) = self.follower.take() {
            let _ = follower.join();
        }
    }
}
