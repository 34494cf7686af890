//! Definitions and statements, out of a database and into one: what is not rows.

use std::{collections::BTreeSet, path::Path, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    sync::mpsc::{Receiver, Sender},
};

use super::{RESTRICT_KEY, Tools, ended, failure, finish, output, spawn, wait};
use crate::data::{
    postgres::{PgError, connection::NO_TIMEOUTS, quote::ident, secret::Endpoint},
    stop::Stop,
};

/// The settings at the start of a script end before so many bytes.
const HEAD: usize = 4096;

/// What a restore does with owners and grants of tables and other objects. Programs that restore never give them: what a role
/// may not give would end them. [`crate::data::postgres::rights`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// They come back as they were, as far as that can be.
    Kept,
    /// Everything belongs to the database's owner, maybe on another server, which may lack tablespaces.
    Elsewhere,
}

impl Rights {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Kept => &["--no-owner", "--no-acl"],
            Self::Elsewhere => &["--no-owner", "--no-acl", "--no-tablespaces"],
        }
    }
}

/// Which definitions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definitions {
    /// All that the role sees.
    All,
    /// Without grants, and without what may carry data: comments, publications, subscriptions, security labels. Owners are left out
    /// where it becomes text: an archive always names them.
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

impl Tools {
    /// Writes a database's definitions, as of an exported snapshot where there is one, into an archive for [`Self::section`] and
    /// [`Self::restore`].
    pub async fn definitions(
        &self,
        at: &Endpoint,
        database: &str,
        snapshot: Option<&str>,
        which: Definitions,
        to: &Path,
        stop: &Stop,
    ) -> Result<(), PgError> {
        let mut command = self.command("pg_dump", at, database);
        // Sections and not --schema-only, which leaves out that materialized views are to be refreshed.
        command.args(["--format=custom", "--section=pre-data", "--section=post-data", "-B"]);
        command.args(["--no-password", "--lock-wait-timeout=30s"]);
        if which == Definitions::Bare {
            command.args(["--no-acl", "--no-comments", "--no-publications", "--no-subscriptions"]);
            command.arg("--no-security-labels");
        }
        command.args(snapshot.map(|snapshot| format!("--snapshot={snapshot}"))).arg("--file").arg(to);
        finish(command, "pg_dump", &format!("reading the definitions of database {database}"), stop).await
    }

    /// The text of a section of an archive, for any server that this program's own archives suit.
    pub async fn section(&self, archive: &Path, which: Definitions, section: Section, stop: &Stop) -> Result<Vec<u8>, PgError> {
        let mut command = self.local("pg_restore");
        command.arg("--file=-").arg(format!("--section={}", section.as_str()));
        if which == Definitions::Bare {
            command.args(["--no-owner", "--no-acl"]);
        }
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

    /// Puts the definitions that rows need into an empty database, as another role where one is given.
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

    /// Puts the rest of the definitions where rows are: indexes, constraints and triggers, several at a time, then what
    /// materialized views show. `scratch` takes a list.
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
        let first = owner.map(|owner| format!("SET ROLE {};\n", ident(owner))).unwrap_or_default();
        // pg_dump and pg_restore see to that themselves.
        let first = format!("{NO_TIMEOUTS};\n{first}");
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
}

/// A connection string that names the database alone, whatever characters it has.
fn conninfo(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_s_name_never_becomes_a_connection_string() {
        assert_eq!(conninfo("host=evil user='x'"), "dbname='host=evil user=\\'x\\''");
    }
}
