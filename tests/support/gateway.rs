//! A real S3 server, versitygw, on files of a directory: a bucket is a directory, an object a file. What harms a file there is
//! what harms an object. `tests/cluster/deps.sh` builds it.

#![allow(dead_code)]

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub const KEY: &str = "lockkeeper-tests";
pub const SECRET: &str = "s3cret/of+the=tests";
pub const BUCKET: &str = "backups.of-shop";

/// A server, ended with this.
pub struct Gateway {
    child: Child,
    directory: tempfile::TempDir,
    address: String,
}

impl Gateway {
    /// On the loopback.
    pub fn start() -> Self {
        Self::start_with("127.0.0.1", &[])
    }

    /// On an address of this machine, with flags of its own. It has one bucket.
    pub fn start_with(host: &str, flags: &[&str]) -> Self {
        let port = TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().port();
        let (directory, address) = (tempfile::tempdir().unwrap(), format!("{host}:{port}"));
        fs::create_dir_all(directory.path().join("buckets").join(BUCKET)).unwrap();
        let child = run(&address, directory.path(), flags);
        let gateway = Self { child, directory, address };
        gateway.wait();
        gateway
    }

    /// Ends it, and starts it again on the same objects.
    pub fn restart(&mut self, flags: &[&str]) {
        self.stop();
        self.child = run(&self.address, self.directory.path(), flags);
        self.wait();
    }

    /// Ends it at once, as a power cut does.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// The URL of a server that speaks no TLS.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where the objects of its bucket lie.
    pub fn bucket(&self) -> PathBuf {
        self.directory.path().join("buckets").join(BUCKET)
    }

    fn wait(&self) {
        let began = Instant::now();
        while TcpStream::connect(&self.address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "versitygw does not answer at {}", self.address);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The files of a mounted Secret.
pub fn credentials(directory: &Path, key: &str, secret: &str) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("accessKeyId"), format!("{key}\n")).unwrap();
    fs::write(directory.join("secretAccessKey"), secret).unwrap();
}

fn run(address: &str, directory: &Path, flags: &[&str]) -> Child {
    let mut command = Command::new(program());
    command.args(["--port", address, "--quiet"]).args(flags).arg("posix").arg(directory.join("buckets"));
    command.env("ROOT_ACCESS_KEY", KEY).env("ROOT_SECRET_KEY", SECRET);
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap()
}

fn program() -> PathBuf {
    let home = || env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache = env::var_os("LOCKKEEPER_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| env::var_os("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from).join("lockkeeper"));
    let built = fs::read_dir(cache.join("tools")).into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("versitygw-"));
    built.filter(ours).max().expect("versitygw is not there: run tests/cluster/deps.sh")
}
