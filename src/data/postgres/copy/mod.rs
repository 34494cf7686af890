//! The copy engine: the rows of a database into a snapshot of a repository, and back into a database beside it.
//!
//! Out:
//! 1. [`View::open`]: every table is locked against being changed in shape, then one transaction exports its snapshot.
//! 2. [`define`]: pg_dump writes the definitions as of that snapshot.
//! 3. [`export`]: tables are cut into ranges of pages; several connections
//!    read them by COPY, all in the same snapshot, and pass each block through the table's [`super::transform::Transform`],
//!    where there is one. Blocks become files of the snapshot, in the order of their parts.
//!
//! In ([`import`]): definitions, rows on several connections, sequences, large objects; then indexes, constraints and
//! triggers, several at a time. No trigger or foreign key sees a row come in, because none is there yet.
//!
//! [`sums`] reads a database's tables once more in the same way, to compare.
//!
//! Memory is bounded: a lane holds one block and what waits for its turn. A row that is larger than a block goes from file to
//! file, and is held whole only where a transform wants it; then one lane at a time has such a row. What a snapshot holds below
//! its prefix, in the order in which it is written: `data/<schema>.<table>/<part>-<piece>.copy` (COPY's text format),
//! `large-objects/*.sql`, `load.sql`, `manifest.json` (the caller's), `post-data.sql`, `pre-data.sql`, `schema.dump`.

mod export;
mod import;
mod lanes;
mod large;
mod parts;
mod rows;
mod view;

use std::{num::NonZeroUsize, sync::Arc};

use serde::{Deserialize, Serialize};

pub use export::{Defined, Export, define, export};
pub use import::{Import, import};
pub use lanes::{LARGEST, sums, too_large};
pub use rows::Sum;
pub use view::View;

use super::{
    PgError,
    quote::{ident, literal},
    transform::TransformError,
};
use crate::data::{repository::RepositoryError, stop::Stopped};

/// A block, which is a file of the snapshot, ends at the first end of a row after so many bytes, or before. With what a transform
/// adds at once it is shorter than any chunk that the repository would cut.
const PIECE: usize = 3 << 20;
/// A block that no row has ended by so many bytes ends within one.
const MOST: usize = PIECE + (1 << 20);

/// How much is done, and how much there is. Bytes are those that the tables take on the server's disk where it is read, and those
/// of the rows' text where it is written: each what is known before it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes done.
    pub bytes: u64,
    /// All bytes.
    pub of_bytes: Option<u64>,
    /// Rows done.
    pub rows: u64,
    /// All rows: by the server's own estimate where they were not counted before. `None`: it has none.
    pub of_rows: Option<u64>,
}

/// Told how much is done, now and then.
pub type Report = Arc<dyn Fn(Amount) + Send + Sync>;

/// What was written of a database, beside its definitions. The caller keeps it in the snapshot's manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// The encoding of the files, by PostgreSQL's name.
    pub encoding: String,
    /// The tables with rows of their own, whether any left or not.
    pub tables: Vec<Moved>,
    /// Where the sequences stood.
    pub sequences: Vec<SequenceValue>,
    /// Files of large objects, in the order in which they are run.
    pub large_objects: Vec<String>,
}

/// A table's rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The columns of the files, in their order.
    pub columns: Vec<String>,
    /// Of a table that an extension made: which rows are not the extension's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// All its rows.
    pub sum: Sum,
    /// Its files.
    pub files: Vec<FileOf>,
}

/// A file of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileOf {
    /// Its path below the prefix.
    pub path: String,
    /// Its bytes, and the rows that end in it.
    pub sum: Sum,
    /// Its last row is so large that it goes on in the next file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goes_on: bool,
}

/// A sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SequenceValue {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its last value.
    pub value: i64,
    /// Whether that value was given out.
    pub called: bool,
    /// Whether it may begin anew.
    pub cycles: bool,
}

/// Why rows could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] PgError),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A row may not leave as it is.
    #[error(transparent)]
    Transform(#[from] TransformError),
    /// What must not leave is in the definitions.
    #[error("{0}")]
    Refused(String),
    /// A file beside the rows.
    #[error("{doing}: {cause}")]
    Files {
        /// What was being done.
        doing: String,
        /// The cause.
        cause: String,
    },
    /// The repository takes no more files: [`crate::data::repository::Writer::end`] says why.
    #[error("the repository does not take more files")]
    Ended,
}

impl From<Stopped> for CopyError {
    fn from(stopped: Stopped) -> Self {
        Self::Postgres(stopped.into())
    }
}

impl From<crate::data::repository::Ended> for CopyError {
    fn from(_: crate::data::repository::Ended) -> Self {
        Self::Ended
    }
}

impl CopyError {
    /// Of several that came of one cause: whether this one says more of it. That the repository or a stop ended something says
    /// least; that the server cut a connection, only that something had happened to another.
    fn says_more_than(&self, other: &Self) -> bool {
        let says = |error: &Self| match error {
            Self::Ended | Self::Postgres(PgError::Stopped(_)) => 0,
            Self::Postgres(error) if error.is_away() => 1,
            _ => 2,
        };
        says(self) > says(other)
    }

    fn files(doing: &str) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.to_owned();
        move |error| Self::Files { doing, cause: error.kind().to_string() }
    }
}

impl Exported {
    /// All rows.
    pub fn sum(&self) -> Sum {
        self.tables.iter().fold(Sum::default(), |mut all, table| {
            all.add(table.sum);
            all
        })
    }

    /// What psql runs to load rows and sequences, from the directory that holds `data`.
    fn script(&self) -> String {
        let mut sql = String::from("\\set ON_ERROR_STOP on\n");
        for table in &self.tables {
            for files in table.whole_rows() {
                let paths: Vec<String> = files.iter().map(|f| f.path.replace('\'', "''")).collect();
                // The paths have no character that means something to a shell.
                let from = match paths.as_slice() {
                    [path] => format!("'{path}'"),
                    several => format!("PROGRAM 'cat {}'", several.join(" ")),
                };
                sql += &format!("\\copy {} FROM {from} WITH (ENCODING '{}')\n", table.target(), self.encoding);
            }
        }
        for sequence in &self.sequences {
            sql += &sequence.statement();
        }
        sql
    }
}

impl Moved {
    /// `schema.name`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The files, with those together that a row goes through.
    fn whole_rows(&self) -> impl Iterator<Item = &[FileOf]> {
        self.files.split_inclusive(|file| !file.goes_on)
    }

    /// The table with its columns, as COPY … FROM wants them.
    fn target(&self) -> String {
        let table = format!("{}.{}", ident(&self.schema), ident(&self.name));
        // COPY takes no empty list; without one it takes all columns, of which there are none.
        if self.columns.is_empty() { table } else { format!("{table} ({})", self.list()) }
    }

    fn list(&self) -> String {
        self.columns.iter().map(|c| ident(c)).collect::<Vec<_>>().join(", ")
    }

    /// The statement that reads the rows for which all conditions hold.
    fn reading(&self, conditions: &[String], encoding: &str) -> String {
        let conditions = match conditions {
            [] => String::new(),
            some => format!(" WHERE {}", some.join(" AND ")),
        };
        format!(
            "COPY (SELECT {} FROM ONLY {}.{}{conditions}) TO STDOUT (FORMAT text, ENCODING {})",
            self.list(),
            ident(&self.schema),
            ident(&self.name),
            literal(encoding)
        )
    }
}

impl SequenceValue {
    fn statement(&self) -> String {
        let name = format!("{}.{}", ident(&self.schema), ident(&self.name));
        format!("SELECT pg_catalog.setval({}, {}, {});\n", literal(&name), self.value, self.called)
    }
}

/// How many connections copy at once: as many as processors, two at least and four at most.
pub fn connections() -> usize {
    std::thread::available_parallelism().map_or(2, NonZeroUsize::get).clamp(2, 4)
}

/// Reports no more often than people read.
struct Pacer {
    report: Report,
    amount: Amount,
    said: std::time::Instant,
}

impl Pacer {
    fn new(report: Report, bytes: u64, rows: Option<u64>) -> Self {
        let amount = Amount { of_bytes: Some(bytes), of_rows: rows, ..Amount::default() };
        report(amount);
        Self { report, amount, said: std::time::Instant::now() }
    }

    fn add(&mut self, bytes: u64, rows: u64) {
        let Amount { bytes: done, of_bytes, rows: counted, of_rows } = &mut self.amount;
        *done = done.saturating_add(bytes).min(of_bytes.unwrap_or(u64::MAX));
        *counted += rows;
        // An estimate that was too low is no bound.
        *of_rows = of_rows.map(|of| of.max(*counted));
        if self.said.elapsed().as_millis() >= 500 {
            self.said = std::time::Instant::now();
            (self.report)(self.amount);
        }
    }

    fn end(self) {
        let Amount { of_bytes, rows, .. } = self.amount;
        (self.report)(Amount { bytes: of_bytes.unwrap_or(0), of_bytes, rows, of_rows: Some(rows) });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn an_estimate_that_was_too_low_grows_and_the_end_says_what_was_counted() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let to = said.clone();
        let mut pacer = Pacer::new(Arc::new(move |amount| to.lock().unwrap().push(amount)), 100, Some(3));
        pacer.said -= std::time::Duration::from_secs(1);
        pacer.add(120, 5);
        pacer.end();
        let told: Vec<_> = said.lock().unwrap().iter().map(|a: &Amount| (a.bytes, a.of_bytes, a.rows, a.of_rows)).collect();
        assert_eq!(told, [(0, Some(100), 0, Some(3)), (100, Some(100), 5, Some(5)), (100, Some(100), 5, Some(5))]);
    }
}
