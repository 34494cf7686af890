//! The client programs: pg_dump, pg_restore and psql. Passwords go by environment, never by argument; what they print on
//! stderr is filtered before anyone sees it.

mod definitions;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};

pub use definitions::{Definitions, Rights, Section};

use super::{
    error::{PgError, tool_errors},
    secret::Endpoint,
};
use crate::data::stop::{Stop, Stopped};

/// Overrides where the client programs are looked for.
pub const BIN_ENV: &str = "LOCKKEEPER_PG_BIN";
/// The key under which dumps are made, so that equal schemas give equal text.
pub const RESTRICT_KEY: &str = "lockkeeper";
const STDERR_LIMIT: u64 = 64 * 1024;
const GRACE: Duration = Duration::from_secs(3);

/// The client programs of one major version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    directory: PathBuf,
    /// Their major version.
    pub major: u32,
    /// Whether pg_dump takes `--restrict-key`.
    restrict_key: bool,
}

impl Tools {
    /// The programs that fit a server: of its own major version, else the nearest newer one.
    pub async fn find(server_major: u32) -> Result<Self, PgError> {
        let mut found: Vec<Self> = Vec::new();
        for directory in directories() {
            if let Some(tools) = Self::inspect(&directory).await {
                found.push(tools);
            }
        }
        let best = found.iter().filter(|t| t.major >= server_major).min_by_key(|t| t.major).cloned();
        best.ok_or_else(|| {
            let have = match found.iter().map(|t| t.major).max() {
                Some(major) => format!("the newest here is of version {major}"),
                None => "none is here".to_owned(),
            };
            PgError::ToolMissing(format!(
                "pg_dump of version {server_major} or newer is needed for a server of version {server_major}; {have}. \
                 Use an image of Lockkeeper with newer PostgreSQL clients"
            ))
        })
    }

    async fn inspect(directory: &Path) -> Option<Self> {
        let pg_dump = directory.join("pg_dump");
        let version = Command::new(&pg_dump).arg("--version").stdin(Stdio::null()).output().await.ok()?;
        let help = Command::new(&pg_dump).arg("--help").stdin(Stdio::null()).output().await.ok()?;
        let text = String::from_utf8_lossy(&version.stdout).into_owned();
        let major = text.split_whitespace().find_map(|word| word.split('.').next()?.parse().ok())?;
        let restrict_key = String::from_utf8_lossy(&help.stdout).contains("--restrict-key");
        Some(Self { directory: directory.to_owned(), major, restrict_key })
    }

    /// The hash of the schema's text, without owners and grants.
    pub async fn schema_hash(
        &self,
        at: &Endpoint,
        database: &str,
        snapshot: Option<&str>,
        stop: &Stop,
    ) -> Result<String, PgError> {
        let mut command = self.command("pg_dump", at, database);
        command.args(["--schema-only", "--no-owner", "--no-acl", "--no-password", "--lock-wait-timeout=30s"]);
        if self.restrict_key {
            command.arg(format!("--restrict-key={RESTRICT_KEY}"));
        }
        if let Some(snapshot) = snapshot {
            command.arg(format!("--snapshot={snapshot}"));
        }
        let doing = format!("reading the schema of database {database}");
        command.stdout(Stdio::piped());
        let mut child = spawn(command, "pg_dump", &doing)?;
        let stdout = child.stdout.take();
        let hash = tokio::spawn(async move {
            let mut hash = Sha256::new();
            if let Some(stdout) = stdout {
                let mut lines = BufReader::new(stdout).split(b'\n');
                while let Some(line) = lines.next_segment().await? {
                    // The two lines that name the versions of server and client are no part of the schema.
                    if !line.starts_with(b"-- Dumped ") {
                        hash.update(&line);
                        hash.update(b"\n");
                    }
                }
            }
            Ok::<_, std::io::Error>(hex::encode(hash.finalize()))
        });
        wait(child, "pg_dump", &doing, stop).await?;
        match hash.await {
            Ok(Ok(hash)) => Ok(hash),
            _ => Err(PgError::Tool { tool: "pg_dump".into(), doing, cause: "its output could not be read".into() }),
        }
    }

    /// A program that works on files alone.
    fn local(&self, tool: &str) -> Command {
        let mut command = Command::new(self.directory.join(tool));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin")))
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    fn command(&self, tool: &str, at: &Endpoint, database: &str) -> Command {
        let mut command = self.local(tool);
        command
            .env("PGHOST", &at.host)
            .env("PGPORT", at.port.to_string())
            .env("PGUSER", &at.user)
            .env("PGPASSWORD", &at.password)
            .env("PGDATABASE", database)
            .env("PGSSLMODE", at.ssl.as_str())
            .env("PGCONNECT_TIMEOUT", "10")
            .env("PGAPPNAME", super::connection::APPLICATION)
            .env(
                "PGOPTIONS",
                "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 -c role=none \
                 -c default_transaction_read_only=off",
            );
        if let Some(ca) = &at.ca {
            command.env("PGSSLROOTCERT", ca);
        }
        command
    }
}

fn directories() -> Vec<PathBuf> {
    if let Some(directory) = std::env::var_os(BIN_ENV) {
        return vec![directory.into()];
    }
    let mut directories: Vec<PathBuf> = Vec::new();
    for root in ["/usr/lib/postgresql", "/usr/libexec", "/usr"] {
        if let Ok(entries) = std::fs::read_dir(root) {
            directories.extend(entries.flatten().map(|e| e.path().join("bin")).filter(|d| d.join("pg_dump").exists()));
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    directories.extend(std::env::split_paths(&path).filter(|d| d.join("pg_dump").exists()));
    directories
}

fn spawn(mut command: Command, tool: &str, doing: &str) -> Result<Child, PgError> {
    command.spawn().map_err(|error| PgError::Tool {
        tool: tool.into(),
        doing: doing.into(),
        cause: format!("cannot be started: {}", error.kind()),
    })
}

async fn finish(command: Command, tool: &str, doing: &str, stop: &Stop) -> Result<(), PgError> {
    wait(spawn(command, tool, doing)?, tool, doing, stop).await
}

/// What a program writes to its output.
async fn output(mut command: Command, tool: &str, doing: &str, stop: &Stop) -> Result<Vec<u8>, PgError> {
    command.stdout(Stdio::piped());
    let mut child = spawn(command, tool, doing)?;
    let stdout = child.stdout.take();
    let read = async {
        let mut text = Vec::new();
        if let Some(mut stdout) = stdout {
            stdout.read_to_end(&mut text).await?;
        }
        Ok::<_, std::io::Error>(text)
    };
    let (text, ended) = tokio::join!(read, wait(child, tool, doing, stop));
    ended?;
    text.map_err(|_| PgError::Tool { tool: tool.into(), doing: doing.into(), cause: "its output could not be read".into() })
}

async fn wait(child: Child, tool: &str, doing: &str, stop: &Stop) -> Result<(), PgError> {
    let (status, text) = ended(child, tool, doing, stop).await?;
    if status.success() { Ok(()) } else { Err(failure(status, &String::from_utf8_lossy(&text), tool, doing)) }
}

fn failure(status: ExitStatus, text: &str, tool: &str, doing: &str) -> PgError {
    let cause = match status.code() {
        None => "it was killed, perhaps because its node had no memory left; see what else runs there if this repeats".into(),
        Some(_) => tool_errors(text),
    };
    PgError::Tool { tool: tool.into(), doing: doing.into(), cause }
}

/// Waits for a program's end: its status, and its errors.
async fn ended(mut child: Child, tool: &str, doing: &str, stop: &Stop) -> Result<(ExitStatus, Vec<u8>), PgError> {
    let stderr = child.stderr.take();
    let errors = tokio::spawn(async move {
        let (mut text, Some(mut stderr)) = (Vec::new(), stderr) else { return Vec::new() };
        let _ = (&mut stderr).take(STDERR_LIMIT).read_to_end(&mut text).await;
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
        text
    });
    let status = tokio::select! {
        status = child.wait() => status,
        () = stop.asked() => {
            terminate(&child);
            if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
            return Err(Stopped.into());
        }
    };
    let status = status.map_err(|error| PgError::Tool {
        tool: tool.into(),
        doing: doing.into(),
        cause: format!("cannot be waited for: {}", error.kind()),
    })?;
    Ok((status, errors.await.unwrap_or_default()))
}

/// Asks it to end: pg_dump then cancels its statements on the server.
fn terminate(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}
