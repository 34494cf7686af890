//! What can go wrong with PostgreSQL, in sentences without passwords and rows.
//!
//! Servers quote rows in DETAIL, CONTEXT and HINT, and for some errors in the message itself. Only the message is ever
//! shown, and only for the classes of SQLSTATE whose messages name objects and not values.

use tokio_postgres::error::{DbError, SqlState};

use crate::data::stop::Stopped;

/// An error of PostgreSQL or its client programs.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// A Secret does not say what is needed.
    #[error("Secret {secret}: {problem}")]
    Secret {
        /// `data NAME, connection` or `data NAME, admin`.
        secret: String,
        /// What is wrong, without the value.
        problem: String,
    },
    /// No connection.
    #[error("{server}: cannot connect as role {role} to database {database}: {cause}")]
    Connect {
        /// Host and port.
        server: String,
        /// The role.
        role: String,
        /// The database.
        database: String,
        /// What the server or the network said.
        cause: String,
        /// The SQLSTATE, where the server answered.
        code: Option<String>,
    },
    /// Something between here and the server hands sessions on to others, or keeps back what they are to begin with.
    #[error(
        "{server}: a pooler is in between: {cause}. Locks, snapshots and settings belong to one session of the server, and a pooler \
         shares them out. Let the Secret of role {role} name host and port of the PostgreSQL server itself"
    )]
    Pooled {
        /// Host and port.
        server: String,
        /// The role.
        role: String,
        /// How it was noticed.
        cause: String,
    },
    /// A statement failed.
    #[error("{server}: {doing}: {cause}")]
    Statement {
        /// Host and port.
        server: String,
        /// What was being done.
        doing: String,
        /// What the server said, as far as it may be shown.
        cause: String,
        /// The SQLSTATE, where the server answered.
        code: Option<String>,
    },
    /// A client program failed.
    #[error("{doing}: {tool}: {cause}")]
    Tool {
        /// Its name.
        tool: String,
        /// What was being done.
        doing: String,
        /// Its errors, as far as they may be shown.
        cause: String,
    },
    /// A client program is missing or too old.
    #[error("{0}")]
    ToolMissing(String),
    /// A database that should be there is not.
    #[error("{server}: database {database} does not exist; correct dbname in the Secret of data {data}, or create it")]
    DatabaseMissing {
        /// Host and port.
        server: String,
        /// The database.
        database: String,
        /// The data.
        data: String,
    },
    /// A lock was waited for in vain.
    #[error("{server}: {doing}: waited {seconds} s in vain for {who}. Let that end, or end it, and try again")]
    LockWait {
        /// Host and port.
        server: String,
        /// What was being done.
        doing: String,
        /// How long.
        seconds: u64,
        /// On what, and whose.
        who: String,
    },
    /// Sessions could not be ended in time.
    #[error("{server}: database {database} still has sessions after {seconds} s: {who}. End them, then try again")]
    SessionsLeft {
        /// Host and port.
        server: String,
        /// The database.
        database: String,
        /// How long it was tried.
        seconds: u64,
        /// Roles and applications.
        who: String,
    },
    /// Another session is at work on a scratch database.
    #[error(
        "{server}: scratch database {database} is being worked on already, by {who}. It is left alone, and tried again; if nobody \
         works there any more, end that session"
    )]
    Claimed {
        /// Host and port.
        server: String,
        /// The database.
        database: String,
        /// Whose session it is.
        who: String,
    },
    /// The control database holds something that this program did not write.
    #[error("{server}: control database: {problem}")]
    Control {
        /// Host and port.
        server: String,
        /// What.
        problem: String,
    },
    /// It was asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl PgError {
    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Secret { .. } => "SecretInvalid",
            Self::Connect { .. } => "ServerUnreachable",
            Self::Pooled { .. } => "PoolerInBetween",
            Self::Statement { code, .. } if code.as_deref() == Some("42501") => "RightMissing",
            Self::Statement { .. } | Self::Tool { .. } if self.is_server_full() => "ServerDiskFull",
            Self::Statement { .. } => "StatementFailed",
            Self::Tool { .. } => "ToolFailed",
            Self::ToolMissing(_) => "ToolMissing",
            Self::DatabaseMissing { .. } => "DatabaseMissing",
            Self::LockWait { .. } => "LockWait",
            Self::SessionsLeft { .. } => "SessionsLeft",
            Self::Claimed { .. } => "ScratchInUse",
            Self::Control { .. } => "ControlDatabaseInvalid",
            Self::Stopped(_) => "Stopped",
        }
    }

    /// Whether trying again is of no use.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Secret { .. }
            | Self::Pooled { .. }
            | Self::ToolMissing(_)
            | Self::DatabaseMissing { .. }
            | Self::Control { .. } => true,
            // Each further attempt would fill it to the brim again, for whoever else has data there.
            _ if self.is_server_full() => true,
            Self::Statement { code, .. } => code.as_deref().is_some_and(|c| matches!(&c[..2], "42" | "0A" | "22" | "23")),
            Self::Connect { .. }
            | Self::Tool { .. }
            | Self::LockWait { .. }
            | Self::SessionsLeft { .. }
            | Self::Claimed { .. }
            | Self::Stopped(_) => false,
        }
    }

    /// The SQLSTATE of a statement or a connection.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Statement { code, .. } | Self::Connect { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    /// Whether the server went away, or is not back yet: what was asked may be asked again once it is.
    pub fn is_away(&self) -> bool {
        matches!(self.code(), Some(CONNECTION_LOST | "57P01" | "57P02" | "57P03"))
    }

    /// Whether the server has no space left.
    pub fn is_server_full(&self) -> bool {
        match self {
            Self::Tool { cause, .. } => cause.contains(SERVER_FULL),
            _ => self.code() == Some(SqlState::DISK_FULL.code()),
        }
    }

    /// Whether someone else is connected to a database that must have no sessions.
    pub fn is_in_use(&self) -> bool {
        self.code() == Some(SqlState::OBJECT_IN_USE.code())
    }
}

/// The SQLSTATE of a connection that is cut, or that nobody takes: there the server gives none.
pub(super) const CONNECTION_LOST: &str = "08006";

/// The SQLSTATE of an error.
pub fn code(error: &tokio_postgres::Error) -> Option<String> {
    let lost = || {
        let cause = std::error::Error::source(error).and_then(|e| e.downcast_ref::<std::io::Error>());
        (error.is_closed() || cause.is_some()).then(|| CONNECTION_LOST.to_owned())
    };
    error.code().map(|c| c.code().to_owned()).or_else(lost)
}

/// What of the driver's error may be shown.
pub fn shown(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => shown_db(db),
        None => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(inner) = source {
                let inner_text = inner.to_string();
                if !text.contains(&inner_text) {
                    text = format!("{text}: {inner_text}");
                }
                source = inner.source();
            }
            one_line(&text)
        }
    }
}

fn shown_db(error: &DbError) -> String {
    let code = error.code().code();
    match &code[..2] {
        "08" | "0A" | "25" | "26" | "28" | "2B" | "3D" | "3F" | "40" | "42" | "53" | "54" | "55" | "57" | "58" | "F0" | "XX" => {
            let full = if code == SqlState::DISK_FULL.code() { SERVER_FULL } else { "" };
            format!("{} (SQLSTATE {code}){full}", with_remedy(one_line(error.message())))
        }
        "23" => match error.constraint() {
            Some(name) => format!("constraint {name} is violated (SQLSTATE {code})"),
            None => format!("a constraint is violated (SQLSTATE {code})"),
        },
        _ => format!("SQLSTATE {code}; the message may quote a value and is left out"),
    }
}

/// Text on one line, without control characters, of at most 400 characters.
pub fn one_line(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > 400 {
        line = line.chars().take(400).collect::<String>() + "…";
    }
    line
}

/// Beginnings of server messages that name objects, never values.
const HARMLESS: &[&str] = &[
    "permission denied",
    "must be ",
    "relation ",
    "schema ",
    "type ",
    "function ",
    "extension ",
    "role ",
    "database ",
    "language ",
    "operator ",
    "collation ",
    "publication ",
    "could not ",
    "unrecognized configuration parameter",
    "canceling ",
    "terminating ",
    "out of ",
    "no space",
    "duplicate key value violates unique constraint",
    "insert or update on table",
    "there is no unique constraint",
    "cannot ",
    "constraint ",
    "large object",
    "parameter ",
    "not enough ",
    "remaining connection slots",
    "sorry, too many",
    "password authentication failed",
    "no pg_hba.conf entry",
    "connection ",
    "server ",
    "index ",
    "trigger ",
    "event trigger",
    "column \"",
    "tablespace ",
    "deadlock detected",
    "cache lookup failed",
    "snapshot ",
    "invalid snapshot",
    "the database system",
];

/// How client programs begin the lines of their own errors.
const OWN_ERRORS: &[&str] = &["pg_dump: error: ", "pg_restore: error: ", "psql: error: "];

/// What of a client program's stderr may be shown: its own errors, and the server's where these name objects only.
pub fn tool_errors(stderr: &str) -> String {
    let mut kept: Vec<String> = Vec::new();
    for line in stderr.lines() {
        let own = OWN_ERRORS.iter().find_map(|own| line.strip_prefix(own));
        let Some(rest) = own else {
            // psql prefixes the server's errors with the place in its input, where that has a name. Of all other lines nobody knows
            // what they are: statements and rows are told over several.
            let place = line.strip_prefix("psql:").and_then(|l| l.split_once(": ")).map_or(line, |(_, said)| said);
            if let Some(message) = place.strip_prefix("ERROR:  ").or_else(|| place.strip_prefix("FATAL:  ")) {
                kept.push(harmless(message));
            }
            continue;
        };
        let rest = rest.trim();
        match rest.split_once("ERROR:  ").or_else(|| rest.split_once("FATAL:  ")) {
            Some((before, message)) => {
                let before = if before.contains("COPY") { "copying a table: " } else { before };
                kept.push(format!("{before}{}", harmless(message)));
            }
            None if rest.starts_with("query was") || rest.starts_with("error returned by") => kept.push("a query failed".into()),
            None => kept.push(one_line(rest)),
        }
    }
    if kept.is_empty() {
        return "it gave no reason that may be shown".into();
    }
    let more = kept.len().saturating_sub(3);
    kept.truncate(3);
    let mut text = kept.join("; ");
    if more > 0 {
        text = format!("{text}; … and {more} more");
    }
    text
}

/// Added where the server says that it has no space. Whose disk it is, a message of the system leaves open.
const SERVER_FULL: &str = ": the PostgreSQL server's own disk is full";

/// The server says what to do against this in a HINT, which is not shown.
fn with_remedy(message: String) -> String {
    if message.starts_with("out of shared memory") {
        return format!("{message}: it cannot lock so many tables at once; raise max_locks_per_transaction, and start it anew");
    }
    message
}

fn harmless(message: &str) -> String {
    let message = one_line(message);
    if HARMLESS.iter().any(|start| message.starts_with(start)) {
        let full = if message.ends_with("No space left on device") { SERVER_FULL } else { "" };
        with_remedy(message) + full
    } else {
        "the server refused; its message may quote a value and is left out".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_s_errors_are_shown_without_values_details_and_commands() {
        let stderr = "pg_restore: error: could not execute query: ERROR:  invalid input syntax for type integer: \"s3cret\"\n\
            DETAIL:  Key (mail)=(s3cret) already exists.\nCONTEXT:  COPY t, line 1: \"s3cret\"\n\
            Command was: CREATE FUNCTION s3cret()\nRAISE NOTICE 'parse error: s3cret';\n  pg_dump: error: s3cret\n-- ERROR:  role s3cret\n\
            pg_restore: error: could not execute query: ERROR:  permission denied to create extension \"file_fdw\"\n\
            HINT:  s3cret\n";
        let text = tool_errors(stderr);
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("permission denied to create extension \"file_fdw\""), "{text}");
        let text =
            tool_errors("pg_dump: error: query failed: ERROR:  out of shared memory\nHINT:  You might need to increase it.\n");
        assert!(text.starts_with("query failed: out of shared memory: ") && text.contains("max_locks_per_transaction"), "{text}");
        for stderr in
            ["ERROR:  role \"r\" does not exist\nLINE 1: s3cret\n", "psql:<stdin>:12: ERROR:  role \"r\" does not exist\n"]
        {
            assert_eq!(tool_errors(stderr), "role \"r\" does not exist");
        }
        let text = tool_errors("psql: error: connection to server at \"h\" failed: FATAL:  sorry, too many clients already\n");
        assert!(text.contains("sorry, too many"), "{text}");
        assert_eq!(tool_errors(""), "it gave no reason that may be shown");
    }

    #[test]
    fn a_line_has_no_control_characters_and_an_end() {
        assert_eq!(one_line("a\nb\u{1b}[0m"), "a b [0m");
        assert_eq!(one_line(&"x".repeat(1000)).chars().count(), 401);
    }
}
