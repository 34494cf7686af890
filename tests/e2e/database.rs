//! A story's database server, asked by its superuser inside its own pod: what is in it, and what its log says.

use std::collections::BTreeSet;

use super::cluster::{kubectl, kubectl_with};

/// The server of a namespace.
#[derive(Clone)]
pub struct Database {
    namespace: String,
}

/// Everything of a database but the table that the writer fills: two of these are equal, or something was not put back.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Roles, their settings and memberships.
    roles: String,
    /// The database itself with owner, grants, settings, comment and connection limit; the schema with its grants.
    schema: String,
    /// Rows of all other tables, sorted.
    rows: Vec<String>,
    /// What no dump shows: whether anyone may connect.
    catalog: String,
}

impl Database {
    /// The server of that namespace.
    pub fn of(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned() }
    }

    /// What a shell beside the server answers.
    pub fn sh(&self, script: &str) -> Result<String, String> {
        kubectl(&["-n", &self.namespace, "exec", "deployment/postgres", "--", "sh", "-ec", script])
    }

    /// What a query answers, unaligned.
    pub fn query(&self, database: &str, sql: &str) -> Result<String, String> {
        let arguments =
            ["exec", "deployment/postgres", "--", "psql", "-h", "/tmp", "-U", "postgres", "-d", database, "-XAtqc", sql];
        kubectl(&[&["-n", &self.namespace][..], &arguments].concat())
    }

    /// Runs a script of SQL, such as a dump.
    pub fn load(&self, database: &str, sql: &str) -> Result<(), String> {
        let arguments = ["-d", database, "-v", "ON_ERROR_STOP=1"];
        let psql =
            ["-n", &self.namespace, "exec", "-i", "deployment/postgres", "--", "psql", "-h", "/tmp", "-U", "postgres", "-XAtq"];
        kubectl_with(&[&psql[..], &arguments].concat(), sql).map(drop)
    }

    /// All but the writes.
    pub fn shape(&self) -> Shape {
        let text = self
            .sh("export PGHOST=/tmp PGUSER=postgres
                 pg_dumpall --globals-only --restrict-key=stories; echo =====
                 pg_dump --create --schema-only --restrict-key=stories tiny; echo =====
                 pg_dump --data-only --inserts --exclude-table=public.writes --restrict-key=stories tiny; echo =====
                 psql -XAtqc \"SELECT pg_get_userbyid(datdba), datallowconn, datconnlimit, datacl, datistemplate FROM pg_database WHERE datname = 'tiny'\" postgres")
            .expect("the database is dumped");
        let parts: Vec<&str> = text.split("=====\n").collect();
        let [roles, schema, rows, catalog] = parts[..] else { panic!("four parts, not {}", parts.len()) };
        let mut rows: Vec<String> = rows.lines().map(str::to_owned).collect();
        rows.sort();
        Shape { roles: roles.to_owned(), schema: schema.to_owned(), rows, catalog: catalog.to_owned() }
    }

    /// Every written row up to a number, in order, whatever columns there are.
    pub fn written_up_to(&self, last: i64) -> String {
        self.query("tiny", &format!("SELECT * FROM writes WHERE n <= {last} ORDER BY n")).expect("the writes are read")
    }

    /// Every number that was written.
    pub fn numbers(&self) -> BTreeSet<i64> {
        let text = self.query("tiny", "SELECT n FROM writes").expect("the numbers are read");
        text.lines().map(|line| line.parse().expect("a number")).collect()
    }

    /// Names of the databases that a run made beside the application's.
    pub fn made(&self) -> BTreeSet<String> {
        let sql = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname NOT IN ('postgres', 'tiny') AND datname !~ '^lockkeeper_[0-9a-f]+$'";
        self.query("postgres", sql).expect("databases are listed").lines().map(str::to_owned).collect()
    }

    /// Of each data in the operator's control databases: how far it is, and who holds it.
    pub fn holders(&self) -> Vec<String> {
        let sql = "SELECT datname FROM pg_database WHERE datname ~ '^lockkeeper_[0-9a-f]+$'";
        let databases = self.query("postgres", sql).expect("databases are listed");
        let rows = |name: &str| self.query(name, "SELECT state, holder FROM public.fence").expect("a control database");
        databases.lines().flat_map(|name| rows(name).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// What the server logged of changes to definitions.
    pub fn log(&self) -> Log {
        Log(kubectl(&["-n", &self.namespace, "logs", "deployment/postgres"]).expect("the server's log"))
    }
}

/// The server's log: each change of a definition, by `role@database`, in the order in which the server did it.
pub struct Log(String);

impl Log {
    fn position(&self, what: &str, from: usize, is: impl Fn(&str) -> bool) -> usize {
        let found = self.0.lines().enumerate().skip(from).find(|(_, line)| is(line));
        found.unwrap_or_else(|| panic!("the server never saw this, or not in this order: {what}; its log:\n{}", self.0)).0
    }

    /// That this role in this database, as the log names them, made a statement with these words.
    pub fn assert_said(&self, who: &str, words: &str) {
        assert!(self.0.lines().any(|l| l.contains(who) && l.contains(words)), "{who} never said {words}; the log:\n{}", self.0);
    }

    /// That the run with this UID did, in this order: prove the backup, close the door, clone, and only then let the first
    /// statement of the migration through.
    pub fn assert_order(&self, uid: &str, migration: &str) {
        let run: String = uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let (proof, undo) = (format!("tiny__proof_{run}"), format!("tiny__undo_{run}"));
        let has = |line: &str, words: &[&str]| words.iter().all(|word| line.contains(word));
        // The run's backup is a run of its own, which proves under its own name.
        let restored =
            self.0.lines().position(|line| line.contains("@tiny__proof_") && line.contains("CREATE TABLE public.writes"));
        let restored =
            restored.unwrap_or_else(|| panic!("no backup was restored to prove it ({proof} or its like):\n{}", self.0));
        let closed = self.position("the database is closed, after the proof", restored, |line| {
            has(line, &["ALTER DATABASE \"tiny\" ALLOW_CONNECTIONS false"])
        });
        let cloned = self.position("the undo point is cloned, after the fence", closed, |line| {
            has(line, &["CREATE DATABASE", &undo, "TEMPLATE \"tiny\""])
        });
        let changed = self.position("the migration, after the undo point", 0, |line| has(line, &["tiny@tiny ", migration]));
        assert!(changed > cloned, "the migration changed the database before there was an undo point:\n{}", self.0);
        let early = self.0.lines().take(closed).any(|line| has(line, &["CREATE DATABASE", &undo]));
        assert!(!early, "an undo point was cloned before the database was closed:\n{}", self.0);
    }
}

impl Shape {
    /// The lines in which another differs.
    pub fn difference(&self, other: &Self) -> String {
        let text =
            |shape: &Self| [&shape.roles, &shape.schema, &shape.rows.join("\n"), &shape.catalog].map(String::clone).join("\n");
        let (here, there) = (text(self), text(other));
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let (here, there) = (lines(&here), lines(&there));
        let gone = here.difference(&there).map(|line| format!("- {line}"));
        gone.chain(there.difference(&here).map(|line| format!("+ {line}"))).collect::<Vec<_>>().join("\n")
    }
}
