//! The client programs: pg_dump, pg_restore and psql. Passwords go by environment, never by argument; what they print on
//! stderr is filtered before anyone sees it.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::mpsc::{Receiver, Sender},
};

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
/// The settings at the start of a script end before so many bytes.
const HEAD: usize = 4096;
const GRACE: Duration = Duration::from_secs(3);

/// What a restore does with owners and grants of tables and other objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// They come back as they were.
    Kept,
    /// Everything belongs to the role that restores.
    LeftOut,
}

impl Rights {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Kept => &[],
            Self::LeftOut => &["--no-owner", "--no-acl"],
        }
    }
}

/// Which definitions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definitions {
    /// All that the role sees.
    All,
    /// Without owners and grants, and without what may carry data: comments, publications, subscriptions, security labels.
    Bare,
}

/// A section of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What rows need.
    PreData,
    /// What comes after rows.
    PostData,
}

impl Section {
    fn as_str(self) -> &'static str {
        match self {
            Self::PreData => "pre-data",
            Self::PostData => "post-data",
        }
    }
}

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

    /// Writes a database's definitions, as of an exported snapshot, into an archive for [`Self::section`] and
    /// [`Self::restore`].
    pub async fn definitions(
        &self,
        at: &Endpoint,
        database: &str,
        snapshot: &str,
        which: Definitions,
        to: &Path,
        stop: &Stop,
    ) -> Result<(), PgError> {
        let mut command = self.command("pg_dump", at, database);
        // Sections and not --schema-only, which leaves out that materialized views are to be refreshed.
        command.args(["--format=custom", "--section=pre-data", "--section=post-data", "-B"]);
        command.args(["--no-password", "--lock-wait-timeout=30s"]);
        if which == Definitions::Bare {
            command.args(["--no-owner", "--no-acl", "--no-comments", "--no-publications", "--no-subscriptions"]);
            command.arg("--no-security-labels");
        }
        command.arg(format!("--snapshot={snapshot}")).arg("--file").arg(to);
        finish(command, "pg_dump", &format!("reading the definitions of database {database}"), stop).await
    }

    /// The text of a section of an archive, for any server that this program's own archives suit.
    pub async fn section(&self, archive: &Path, section: Section, stop: &Stop) -> Result<Vec<u8>, PgError> {
        let mut command = self.local("pg_restore");
        command.arg("--file=-").arg(format!("--section={}", section.as_str()));
        if self.restrict_key {
            command.arg(format!("--restrict-key={RESTRICT_KEY}"));
        }
        command.arg(archive);
        let text = output(command, "pg_restore", "writing the definitions as text", stop).await?;
        // It stands before the first object, and servers before 17 do not know it.
        let line = b"SET transaction_timeout = 0;\n".as_slice();
        match text.windows(line.len()).position(|w| w == line) {
            Some(at) if at < HEAD => Ok([&text[..at], &text[at + line.len()..]].concat()),
            _ => Ok(text),
        }
    }

    /// Gives the large objects of a database, as statements without owners and grants, in blocks of about `size` bytes that
    /// end where a line does. `head` comes first.
    pub async fn large_objects(
        &self,
        (at, database): (&Endpoint, &str),
        snapshot: &str,
        (head, size): (String, usize),
        blocks: Sender<Vec<u8>>,
        stop: &Stop,
    ) -> Result<(), PgError> {
        let doing = format!("reading the large objects of database {database}");
        let mut command = self.command("pg_dump", at, database);
        // With its schema's pattern: a table that is not on the search path is not meant by `*` alone.
        command.args(["--section=data", "-b", "--exclude-table=*.*", "--no-owner", "--no-acl", "--no-password"]);
        if self.restrict_key {
            command.arg(format!("--restrict-key={RESTRICT_KEY}"));
        }
        command.arg(format!("--snapshot={snapshot}")).stdout(Stdio::piped());
        let mut child = spawn(command, "pg_dump", &doing)?;
        let stdout = child.stdout.take();
        let read = async move {
            let mut block = head.into_bytes();
            if let Some(stdout) = stdout {
                let mut lines = BufReader::with_capacity(1 << 16, stdout);
                while lines.read_until(b'\n', &mut block).await? > 0 {
                    if block.len() >= size && blocks.send(std::mem::take(&mut block)).await.is_err() {
                        break;
                    }
                }
            }
            let _ = blocks.send(block).await;
            Ok::<_, std::io::Error>(())
        };
        let (read, ended) = tokio::join!(read, wait(child, "pg_dump", &doing, stop));
        ended?;
        read.map_err(|_| PgError::Tool { tool: "pg_dump".into(), doing, cause: "its output could not be read".into() })
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

    /// Puts the definitions that rows need into an empty database, as another role where one is given. Grants come with
    /// [`Self::complete`]: an owner may have taken his own right to write away.
    pub async fn prepare(
        &self,
        (at, server_major): (&Endpoint, u32),
        database: &str,
        (owner, rights): (Option<&str>, Rights),
        archive: &Path,
        stop: &Stop,
    ) -> Result<(), PgError> {
        let mut command = self.restoring(at, database, owner, rights);
        command.args(["--section=pre-data", "--no-acl"]).arg(archive);
        self.restored(command, &format!("preparing database {database}"), server_major, stop).await
    }

    /// Puts the rest of the definitions where rows are: indexes, constraints and triggers, several at a time, then grants, then
    /// what materialized views show. `scratch` takes a list.
    pub async fn complete(
        &self,
        (at, server_major): (&Endpoint, u32),
        database: &str,
        (owner, rights): (Option<&str>, Rights),
        (archive, scratch): (&Path, &Path),
        jobs: usize,
        stop: &Stop,
    ) -> Result<(), PgError> {
        let doing = format!("completing database {database}");
        let mut command = self.local("pg_restore");
        command.args(["--list", "--section=pre-data", "--no-acl"]).arg(archive);
        let prepared = output(command, "pg_restore", &doing, stop).await?;
        let mut command = self.local("pg_restore");
        command.arg("--list").arg(archive);
        let all = output(command, "pg_restore", &doing, stop).await?;
        let entries = |text: &[u8]| -> Vec<String> {
            String::from_utf8_lossy(text)
                .lines()
                .filter(|l| l.starts_with(|c: char| c.is_ascii_digit()))
                .map(str::to_owned)
                .collect()
        };
        // By number: a name may hold an end of line.
        let number = |line: &String| line.split(';').next().unwrap_or_default().to_owned();
        let done: BTreeSet<String> = entries(&prepared).iter().map(number).collect();
        let rest: Vec<String> =
            entries(&all).iter().map(number).filter(|n| !done.contains(n)).map(|n| format!("{n};\n")).collect();
        let list = scratch.join("rest.list");
        let failed = |error: std::io::Error| PgError::Tool {
            tool: "pg_restore".into(),
            doing: doing.clone(),
            cause: format!("its list cannot be written: {}", error.kind()),
        };
        tokio::fs::write(&list, rest.concat()).await.map_err(failed)?;
        let mut command = self.restoring(at, database, owner, rights);
        command.arg(format!("--jobs={jobs}")).arg("--use-list").arg(&list).arg(archive);
        self.restored(command, &doing, server_major, stop).await
    }

    fn restoring(&self, at: &Endpoint, database: &str, owner: Option<&str>, rights: Rights) -> Command {
        let mut command = self.command("pg_restore", at, database);
        command.arg("--no-password").args(rights.flags()).args(owner.map(|owner| format!("--role={owner}")));
        command.arg(format!("--dbname={}", conninfo(database)));
        command
    }

    /// Runs a restore that ends with its first error.
    ///
    /// Newer programs set a parameter in each of their sessions that servers before 17 do not know, so for those the restore
    /// goes on after errors, and every error must be this one.
    async fn restored(&self, mut command: Command, doing: &str, server_major: u32, stop: &Stop) -> Result<(), PgError> {
        if self.major < 17 || server_major >= 17 {
            command.arg("--exit-on-error");
            return finish(command, "pg_restore", doing, stop).await;
        }
        let child = spawn(command, "pg_restore", doing)?;
        let (status, text) = ended(child, "pg_restore", doing, stop).await?;
        let text = String::from_utf8_lossy(&text);
        let ours = text.lines().filter(|l| *l == "Command was: SET transaction_timeout = 0;").count();
        let ignored = text.lines().rev().find_map(|l| l.strip_prefix("pg_restore: warning: errors ignored on restore: "));
        let only = ignored.and_then(|n| n.trim().parse().ok()) == Some(ours);
        if status.success() || status.code() == Some(1) && only {
            return Ok(());
        }
        let rest: Vec<&str> = text.lines().filter(|l| !l.contains("\"transaction_timeout\"")).collect();
        Err(failure(status, &rest.join("\n"), "pg_restore", doing))
    }

    /// Runs a script, as another role where one is given. The first error ends it.
    pub async fn script(
        &self,
        at: &Endpoint,
        database: &str,
        owner: Option<&str>,
        mut pieces: Receiver<Vec<u8>>,
        stop: &Stop,
    ) -> Result<(), PgError> {
        let doing = format!("running statements in database {database}");
        let mut command = self.command("psql", at, database);
        command.args(["--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]);
        command.stdin(Stdio::piped());
        let mut child = spawn(command, "psql", &doing)?;
        let input = child.stdin.take();
        let first = owner.map(|owner| format!("SET ROLE {};\n", super::quote::ident(owner))).unwrap_or_default();
        let pump = async {
            let Some(mut input) = input else { return Ok(()) };
            input.write_all(first.as_bytes()).await?;
            while let Some(piece) = pieces.recv().await {
                input.write_all(&piece).await?;
            }
            input.shutdown().await
        };
        let (pumped, ended) = tokio::join!(pump, wait(child, "psql", &doing, stop));
        ended?;
        pumped.map_err(|_| PgError::Tool { tool: "psql".into(), doing, cause: "it did not take all statements".into() })
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
                "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c role=none -c default_transaction_read_only=off",
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

/// A connection string that names the database alone, whatever characters it has.
fn conninfo(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
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
        None => "it was killed, perhaps for want of memory; raise the Job's memory limit if this repeats".into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_s_name_never_becomes_a_connection_string() {
        assert_eq!(conninfo("host=evil user='x'"), "dbname='host=evil user=\\'x\\''");
    }
}
