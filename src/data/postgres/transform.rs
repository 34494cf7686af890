//! What may happen to rows on their way out of a database. The copy engine calls it; masking is one.

use super::tables::Table;

/// Changes the rows of one table. One is made for each stream, so it may keep scratch space, but nothing that makes one row
/// depend on another: rows of a table come in several streams and in any order.
pub trait Transform: Send {
    /// `rows` are whole rows of COPY's text format in UTF-8, each ended by a newline, with the columns in the order that was
    /// asked for. Appends what leaves to `out`; a row may be left out.
    ///
    /// # Errors
    /// Where a row is not what the table's columns promise. Nothing of a row is in the error.
    fn rows(&mut self, rows: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError>;
}

/// Gives the transform of each table.
pub trait Transforms: Send + Sync {
    /// How a table leaves.
    fn of(&self, table: &Table) -> Result<Leaving, TransformError>;
}

/// How a table leaves.
pub enum Leaving {
    /// No row of it does.
    Nothing,
    /// Rows for which this SQL condition holds, or all, each changed by a transform, or as it is.
    Rows {
        /// A condition over the table's columns, put between parentheses after WHERE.
        condition: Option<String>,
        /// What changes them. Called once for each stream.
        change: Option<Box<dyn Fn() -> Box<dyn Transform> + Send + Sync>>,
    },
}

/// Why rows cannot leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table {table}: {why}")]
pub struct TransformError {
    /// `schema.name`.
    pub table: String,
    /// What is wrong and what to do. No value of a row.
    pub why: String,
}
