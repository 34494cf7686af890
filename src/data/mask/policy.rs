//! A policy held against the catalog: what of each table leaves, or every reason why nothing does.
//!
//! Fails closed: a table or a column that is not named is a [`Problem`], and with one problem there is no masking. Partitions
//! and children of a table follow it, unless they are named themselves.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    Key,
    codec::{self, Row, Unended},
    compile::{self, Built},
    condition, keys,
    kinds::{Op, Scratch},
    personal,
};
use crate::{
    api::{Coverage, Locale, Mask, MaskingData, MaskingPolicySpec, MaskingTable},
    data::postgres::{
        tables::{Column, Table, TableKind},
        transform::{Leaving, Transform, TransformError, Transforms},
    },
};

/// Why a policy lets nothing out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The data.
    pub data: String,
    /// `schema.table`.
    pub table: String,
    /// The column, where it is about one.
    pub column: Option<String>,
    /// What is wrong, and what to do. No value of a row.
    pub why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data, table, column, why } = self;
        write!(f, "data {data}, table {table}")?;
        if let Some(column) = column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {why}")
    }
}

/// The hash of a policy: `sha256:` and 64 hexadecimal digits. The same for every order of data, tables, columns and patterns.
pub fn hash(spec: &MaskingPolicySpec) -> String {
    use sha2::{Digest, Sha256};
    let mut spec = spec.clone();
    spec.data.sort_by(|a, b| a.name.cmp(&b.name));
    for data in &mut spec.data {
        data.tables.sort_by(|a, b| a.table.cmp(&b.table));
        if let Some(files) = &mut data.files {
            files.include.sort();
        }
    }
    let text = serde_json::to_vec(&spec).unwrap_or_default();
    format!("sha256:{}", hex::encode(Sha256::digest(&text)))
}

/// Whether rows of a table could leave, and so whether its columns must be named.
fn has_to_be_named(table: &Table) -> bool {
    table.kind != TableKind::Foreign
}

/// What a policy says of the tables of a data.
pub(super) struct Named<'a> {
    tables: &'a [Table],
    entries: BTreeMap<&'a str, &'a MaskingTable>,
    by_oid: BTreeMap<u32, &'a Table>,
}

impl<'a> Named<'a> {
    fn new(data: &'a MaskingData, tables: &'a [Table]) -> Self {
        let entries = data.tables.iter().map(|t| (&*t.table.0, t)).collect();
        Self { tables, entries, by_oid: tables.iter().map(|t| (t.oid, t)).collect() }
    }

    /// What is said of a table: by its own name, or by that of one that it is a part of; and that one.
    fn entry(&self, table: &'a Table) -> Option<(&'a MaskingTable, &'a Table)> {
        if let Some(entry) = self.entries.get(table.full_name().as_str()) {
            return Some((entry, table));
        }
        table.parents.iter().filter_map(|oid| self.by_oid.get(oid)).find_map(|parent| self.entry(parent))
    }

    /// Whether a table has an entry of its own.
    pub(super) fn is_named_itself(&self, table: &Table) -> bool {
        self.entries.contains_key(table.full_name().as_str())
    }

    /// Whether the policy lets only some rows of a table leave, by a condition.
    pub(super) fn has_condition(&self, table: &'a Table) -> bool {
        self.entry(table).and_then(|(entry, _)| entry.rows.as_ref()).is_some_and(|rows| rows.condition.is_some())
    }

    /// The tables that a table is a part of, the nearest first.
    pub(super) fn above(&self, table: &Table) -> Vec<&'a Table> {
        let mut out: Vec<&'a Table> = Vec::new();
        let mut next = table.parents.clone();
        while let Some(oid) = next.pop() {
            let Some(parent) = self.by_oid.get(&oid).filter(|t| !out.iter().any(|o| o.oid == t.oid)) else { continue };
            out.push(parent);
            next.extend(&parent.parents);
        }
        out
    }

    /// The table of that schema and name.
    pub(super) fn table(&self, schema: &str, name: &str) -> Option<&'a Table> {
        self.tables.iter().find(|t| t.schema == schema && t.name == name)
    }
}

fn leaves_nothing(entry: &MaskingTable) -> bool {
    entry.rows.as_ref().is_some_and(|r| r.none.is_some())
}

/// How much of a data's tables a policy names. Parts of a table that follow it are not counted.
pub fn coverage(data: &MaskingData, tables: &[Table]) -> Coverage {
    const NAMED: usize = 32;
    let named = Named::new(data, tables);
    let mut out = Coverage { data: data.name.to_string(), ..Coverage::default() };
    for table in tables.iter().filter(|t| has_to_be_named(t)) {
        let entry = named.entry(table);
        let follows = entry.is_some_and(|(_, of)| of.oid != table.oid);
        for column in table.written() {
            let known = entry.is_some_and(|(e, _)| leaves_nothing(e) || e.columns.contains_key(&column.name));
            if follows && known {
                continue;
            }
            out.columns += 1;
            if known {
                out.classified += 1;
            } else if out.unknown.len() < NAMED {
                out.unknown.push(format!("{}.{}", table.full_name(), column.name));
            }
        }
    }
    out
}

/// Holds what a policy says of one data against its tables.
///
/// # Errors
/// Every reason why nothing may leave, ordered by table and column.
pub fn compile(data: &MaskingData, tables: &[Table], key: &Key) -> Result<Masking, Vec<Problem>> {
    let named = Named::new(data, tables);
    let mut problems = unknown_tables(data, &named);
    let rooms = compile::Rooms::of(tables.iter().filter_map(|t| Some((t, named.entry(t)?.0))));
    let mut built: BTreeMap<u32, Arc<Built>> = BTreeMap::new();
    for table in tables.iter().filter(|t| has_to_be_named(t)) {
        match one(data, table, &named, (&rooms, key)) {
            Ok(one) => drop(built.insert(table.oid, Arc::new(one))),
            Err(more) => problems.extend(more),
        }
    }
    for table in tables {
        let Some(one) = built.get(&table.oid) else { continue };
        let found = keys::problems(&named, table, one, &built);
        problems.extend(found.into_iter().map(|(column, why)| problem(data, table, column, why)));
    }
    if problems.is_empty() {
        Ok(Masking { tables: built })
    } else {
        problems.sort();
        problems.dedup();
        Err(problems)
    }
}

fn problem(data: &MaskingData, table: &Table, column: Option<&str>, why: String) -> Problem {
    Problem { data: data.name.to_string(), table: table.full_name(), column: column.map(str::to_owned), why }
}

fn unknown_tables(data: &MaskingData, named: &Named<'_>) -> Vec<Problem> {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    named.tables.iter().for_each(|t| *names.entry(t.full_name()).or_default() += 1);
    let said = data.tables.iter().filter_map(|entry| {
        let why = match names.get(&*entry.table.0) {
            None => "there is no such table; correct its name (schema.table, as the catalog spells both), or remove it from the policy",
            Some(2..) => "two tables are spelled so; rename one, because a policy cannot tell them apart",
            Some(_) => return None,
        };
        Some(Problem { data: data.name.to_string(), table: entry.table.to_string(), column: None, why: why.into() })
    });
    said.collect()
}

/// Holds one table against what is said of it.
fn one(
    data: &MaskingData,
    table: &Table,
    named: &Named<'_>,
    (rooms, key): (&compile::Rooms, &Key),
) -> Result<Built, Vec<Problem>> {
    let Some((entry, of)) = named.entry(table) else {
        let columns: Vec<String> = table.written().map(|c| suggested(table, c)).collect();
        let name = personal::scalar(&table.full_name());
        let add =
            format!("not named. Add under data {}, tables: {{table: {name}, columns: {{{}}}}}", data.name, columns.join(", "));
        return Err(vec![problem(data, table, None, add)]);
    };
    let mut problems = Vec::new();
    let mut say = |column: Option<&str>, why: String| problems.push(problem(data, table, column, why));
    if of.oid == table.oid {
        // A table that inherits follows, and may have columns of its own.
        let has = |name: &String| {
            let of = |t: &&Table| t.columns.iter().any(|c| c.name == *name);
            of(&table) || named.tables.iter().filter(of).any(|t| named.entry(t).is_some_and(|(_, of)| of.oid == table.oid))
        };
        for name in entry.columns.keys().filter(|name| !has(name)) {
            say(Some(name), "the table has no such column; correct its name, or remove it from the policy".into());
        }
        if let Some(Err(why)) = entry.rows.as_ref().and_then(|r| r.condition.as_ref()).map(|c| condition::check(c)) {
            say(None, format!("rows: {why}"));
        }
        if entry.rows.as_ref().is_some_and(|r| r.none.is_some() == r.condition.is_some()) {
            say(None, "rows: exactly one of: none, where".into());
        }
    }
    let nothing = leaves_nothing(entry);
    let mut columns = Vec::new();
    for column in table.written() {
        match entry.columns.get(&column.name) {
            _ if nothing => {}
            Some(mask) => match compile::column((table, of), column, mask, &entry.columns, (rooms, key)) {
                Ok(op) => columns.push((column.clone(), mask.clone(), op)),
                Err(why) => say(Some(&column.name), why),
            },
            None => say(
                Some(&column.name),
                format!(
                    "not named. Add under data {}, tables, {}, columns: {}",
                    data.name,
                    of.full_name(),
                    suggested(table, column)
                ),
            ),
        }
    }
    let computed = table.columns.iter().filter(|c| c.generated);
    for column in computed.filter(|c| entry.columns.get(&c.name).is_some_and(|m| m.keep.is_none())) {
        say(Some(&column.name), "computed by the database from other columns; leave it out of the policy, and mask those".into());
    }
    let condition = entry.rows.as_ref().and_then(|r| r.condition.as_ref()).map(ToString::to_string);
    if problems.is_empty() { Ok(Built { table: table.full_name(), nothing, condition, columns }) } else { Err(problems) }
}

/// `name: {mask}` as it can be put into a policy.
fn suggested(table: &Table, column: &Column) -> String {
    let (mut mask, _): (Mask, String) = personal::propose(table, column, Locale::En);
    if let Some(keep) = &mut mask.keep {
        keep.reason = None;
    }
    format!("{}: {}", personal::scalar(&column.name), personal::yaml(&mask))
}

/// A policy that holds for the tables it was compiled for.
pub struct Masking {
    tables: BTreeMap<u32, Arc<Built>>,
}

impl fmt::Debug for Masking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masking").field("tables", &self.tables.len()).finish()
    }
}

impl Transforms for Masking {
    fn of(&self, table: &Table) -> Result<Leaving, TransformError> {
        if !has_to_be_named(table) {
            return Ok(Leaving::Nothing);
        }
        let changed = || TransformError {
            table: table.full_name(),
            why: "its columns have changed since the masking policy was held against them; run again".into(),
        };
        let built = self.tables.get(&table.oid).filter(|b| b.table == table.full_name()).ok_or_else(changed)?;
        if built.nothing {
            return Ok(Leaving::Nothing);
        }
        if !table.written().eq(built.columns.iter().map(|(c, ..)| c)) {
            return Err(changed());
        }
        let ops: Vec<(usize, Op)> = built
            .columns
            .iter()
            .enumerate()
            .filter(|(_, (.., op))| !matches!(op, Op::Keep))
            .map(|(at, (.., op))| (at, op.clone()))
            .collect();
        let condition = built.condition.clone();
        if ops.is_empty() {
            return Ok(Leaving::Rows { condition, change: None });
        }
        let (built, ops) = (built.clone(), Arc::new(ops));
        let change = move || -> Box<dyn Transform> {
            Box::new(Masker { built: built.clone(), ops: ops.clone(), scratch: Scratch::default(), ends: Vec::new() })
        };
        Ok(Leaving::Rows { condition, change: Some(Box::new(change)) })
    }
}

/// Masks the rows of one stream.
struct Masker {
    built: Arc<Built>,
    ops: Arc<Vec<(usize, Op)>>,
    scratch: Scratch,
    ends: Vec<usize>,
}

/// Why a row cannot be masked: the field, where it is about one.
struct Bad(Option<usize>, &'static str);

impl From<Unended> for Bad {
    fn from(_: Unended) -> Self {
        Self(None, "the last row has no end")
    }
}

impl Transform for Masker {
    fn rows(&mut self, rows: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError> {
        let Self { built, ops, scratch, ends } = self;
        let fields = built.columns.len();
        out.reserve(rows.len() + rows.len() / 4);
        let masked = codec::rows(rows, ends, |line, ends| {
            if ends.len() != fields {
                return Err(Bad(None, "a row has another number of fields than the table has columns"));
            }
            let row = Row { line, ends };
            let mut copied = 0;
            for (at, op) in ops.iter() {
                let start = row.start(*at);
                out.extend_from_slice(&line[copied..start]);
                op.write(row, *at, scratch, out).map_err(|why| Bad(Some(*at), why))?;
                copied = ends[*at];
            }
            out.extend_from_slice(&line[copied..]);
            Ok(())
        });
        masked.map_err(|Bad(at, why)| TransformError {
            table: built.table.clone(),
            why: match at.and_then(|at| built.columns.get(at)) {
                Some((column, ..)) => format!("column {}: {why}; choose another mask for it", column.name),
                None => why.into(),
            },
        })
    }
}
