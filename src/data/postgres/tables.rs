//! The tables of a database as the catalog has them: what the copy engine moves, and what a masking policy must name.
//!
//! Read in the session's transaction, so that rows and definitions are of one view. Identifiers are as the catalog stores
//! them, never quoted: [`super::quote::ident`] does that where a statement is made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{connection::Session, error::PgError};

/// A table, ordinary, partitioned or foreign. Tables of extensions are not among them: they come with their extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// Object id in this database.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What holds its rows.
    pub kind: TableKind,
    /// Pages of 8 KiB in its main fork, as the file system has them.
    pub pages: i64,
    /// The tables it is a partition or a child of.
    pub parents: Vec<u32>,
    /// Its columns in their order.
    pub columns: Vec<Column>,
    /// The columns of each unique index, the primary key's first. Indexes over expressions or parts of the rows are not here.
    pub unique: Vec<Vec<String>>,
    /// The columns of each unique index over expressions or parts of the rows, as far as it speaks of any.
    #[serde(default)]
    pub unique_partly: Vec<Vec<String>>,
    /// What its columns refer to.
    pub foreign_keys: Vec<ForeignKey>,
    /// The names of the columns that CHECK constraints speak of, each with the constraint's expression as PostgreSQL prints it.
    pub checks: Vec<Check>,
    /// What else is made of values of columns, and may not take others.
    #[serde(default)]
    pub made_of: Vec<MadeOf>,
}

/// What holds a table's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableKind {
    /// The table itself.
    Ordinary,
    /// The table itself, and a crash empties it.
    Unlogged,
    /// Its partitions.
    Partitioned,
    /// Another server.
    Foreign,
}

impl TableKind {
    /// Whether the table itself has rows that are moved.
    pub fn has_rows(self) -> bool {
        matches!(self, Self::Ordinary | Self::Unlogged)
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as PostgreSQL prints it: `character varying(255)`.
    pub type_name: String,
    /// The type beneath all domains, without length: `varchar`, `text`, `int4`, `jsonb`, `_text` for an array of texts.
    pub base_type: String,
    /// The type's category in pg_type: `S` text, `N` number, `D` time, `B` boolean, `A` array, `E` enum, `U` other, …
    pub category: char,
    /// How many characters it takes, where its type or a domain of it says so.
    pub max_length: Option<i32>,
    /// Whether it takes no NULL.
    pub not_null: bool,
    /// Whether it is computed from others; such a column is never written.
    pub generated: bool,
    /// Whether it is an identity, and takes values only with OVERRIDING SYSTEM VALUE (COPY always may).
    pub identity: bool,
    /// The labels of an enum.
    pub labels: Vec<String>,
    /// Its comment; people often say there what is in a column.
    pub comment: Option<String>,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForeignKey {
    /// Name of the constraint.
    pub name: String,
    /// The columns that refer.
    pub columns: Vec<String>,
    /// Schema of the table that they refer to.
    pub schema: String,
    /// That table.
    pub table: String,
    /// Its columns, in the order of [`Self::columns`].
    pub references: Vec<String>,
    /// Whether all of its columns are NULL or none is (MATCH FULL).
    #[serde(default)]
    pub full: bool,
}

/// A CHECK constraint, of the table or of a column's domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Its name.
    pub name: String,
    /// The columns it speaks of.
    pub columns: Vec<String>,
    /// Its expression.
    pub expression: String,
}

/// Something that is made of values of columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MadeOf {
    /// What it is.
    pub what: MadeKind,
    /// Its name: of a constraint, an index, a column.
    pub name: String,
    /// The columns that it is made of.
    pub columns: Vec<String>,
    /// Its definition, as PostgreSQL prints it.
    pub definition: String,
}

/// What is made of values of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MadeKind {
    /// The key by which rows go into partitions.
    PartitionKey,
    /// An exclusion constraint.
    Exclusion,
    /// An index over expressions or a part of the rows.
    Index,
    /// A column that the database computes.
    Column,
}

impl Table {
    /// `schema.name`, for people and in policies.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The columns whose values are moved: all but generated ones.
    pub fn written(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|c| !c.generated)
    }
}

const TABLES: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, \
    CASE WHEN c.relkind IN ('r') THEN pg_relation_size(c.oid) / 8192 ELSE 0 END, \
    coalesce((SELECT array_agg(i.inhparent ORDER BY i.inhseqno) FROM pg_inherits i WHERE i.inhrelid = c.oid), '{}') \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
    ORDER BY 2, 3";

// Domains may stand on domains: the walk ends at the type beneath, and the first length that is met is the one that binds.
const COLUMNS: &str = "WITH RECURSIVE walk AS ( \
      SELECT t.oid AS start, t.oid, t.typtype, t.typbasetype, t.typtypmod, -1 AS found, t.typnotnull AS filled FROM pg_type t \
      UNION ALL SELECT w.start, b.oid, b.typtype, b.typbasetype, b.typtypmod, greatest(w.found, w.typtypmod), w.filled OR b.typnotnull \
      FROM walk w JOIN pg_type b ON b.oid = w.typbasetype WHERE w.typtype = 'd'), \
    base AS (SELECT start, oid, found, filled FROM walk WHERE typtype <> 'd') \
    SELECT a.attrelid, a.attname::text, format_type(a.atttypid, a.atttypmod), t.typname::text, t.typcategory::text, \
    CASE WHEN t.typname IN ('varchar', 'bpchar') AND greatest(a.atttypmod, b.found) > 4 THEN greatest(a.atttypmod, b.found) - 4 END, \
    a.attnotnull OR b.filled, a.attgenerated <> '', a.attidentity <> '', \
    coalesce((SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid), '{}'), \
    col_description(a.attrelid, a.attnum) \
    FROM pg_attribute a JOIN base b ON b.start = a.atttypid JOIN pg_type t ON t.oid = b.oid \
    WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum";

const UNIQUE: &str = "SELECT i.indrelid, (SELECT array_agg(a.attname::text ORDER BY k.at) \
      FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, at) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
      WHERE k.at <= i.indnkeyatts) \
    FROM pg_index i WHERE i.indrelid = ANY($1) AND i.indisunique AND i.indexprs IS NULL AND i.indpred IS NULL \
    ORDER BY i.indrelid, i.indisprimary DESC, i.indexrelid";

// What an index depends on: the columns of its expressions and of its condition among them.
const UNIQUE_PARTLY: &str = "SELECT i.indrelid, (SELECT array_agg(DISTINCT a.attname::text) FROM pg_attribute a WHERE a.attrelid = i.indrelid \
      AND (a.attnum = ANY(i.indkey::int2[]) OR EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass \
        AND d.objid = i.indexrelid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum)) \
      AND a.attnum > 0) \
    FROM pg_index i WHERE i.indrelid = ANY($1) AND i.indisunique AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) \
    ORDER BY i.indrelid, i.indexrelid";

const FOREIGN_KEYS: &str = "SELECT k.conrelid, k.conname::text, \
    (SELECT array_agg(a.attname::text ORDER BY u.at) FROM unnest(k.conkey) WITH ORDINALITY AS u(attnum, at) \
      JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum), \
    n.nspname::text, r.relname::text, \
    (SELECT array_agg(a.attname::text ORDER BY u.at) FROM unnest(k.confkey) WITH ORDINALITY AS u(attnum, at) \
      JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum), k.confmatchtype = 'f' \
    FROM pg_constraint k JOIN pg_class r ON r.oid = k.confrelid JOIN pg_namespace n ON n.oid = r.relnamespace \
    WHERE k.contype = 'f' AND k.conrelid = ANY($1) ORDER BY k.conrelid, k.conname";

const CHECKS: &str = "WITH RECURSIVE walk AS (SELECT t.oid AS start, t.oid FROM pg_type t WHERE t.typtype = 'd' \
      UNION ALL SELECT w.start, t.typbasetype FROM walk w JOIN pg_type t ON t.oid = w.oid WHERE t.typtype = 'd') \
    SELECT k.conrelid, k.conname::text, \
    coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = ANY(k.conkey)), '{}'), \
    pg_get_constraintdef(k.oid) FROM pg_constraint k WHERE k.contype = 'c' AND k.conrelid = ANY($1) \
    UNION ALL SELECT a.attrelid, k.conname::text, ARRAY[a.attname::text], pg_get_constraintdef(k.oid) \
    FROM pg_attribute a JOIN walk w ON w.start = a.atttypid JOIN pg_constraint k ON k.contypid = w.oid AND k.contype = 'c' \
    WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, 2";

// The dependencies of each on columns of its own table, but those of a computed column on itself. The columns of a partition key
// depend on the table, not it on them.
const MADE_OF: &str = "WITH made AS ( \
      SELECT 'p' AS what, p.partrelid AS rel, 'pg_class'::regclass AS class, p.partrelid AS oid, '' AS name, p.partattrs::int2[] AS attrs, \
        0 AS own, 'PARTITION BY ' || pg_get_partkeydef(p.partrelid) AS definition FROM pg_partitioned_table p \
      UNION ALL SELECT 'x', k.conrelid, 'pg_class'::regclass, k.conindid, k.conname::text, k.conkey, 0, pg_get_constraintdef(k.oid) \
        FROM pg_constraint k WHERE k.contype = 'x' \
      UNION ALL SELECT 'i', i.indrelid, 'pg_class'::regclass, i.indexrelid, c.relname::text, i.indkey::int2[], 0, pg_get_indexdef(i.indexrelid) \
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
        WHERE (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) AND NOT i.indisexclusion \
      UNION ALL SELECT 'c', d.adrelid, 'pg_attrdef'::regclass, d.oid, a.attname::text, '{}'::int2[], a.attnum, pg_get_expr(d.adbin, d.adrelid) \
        FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE a.attgenerated <> '') \
    SELECT m.rel, m.what, m.name, coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a \
      WHERE a.attrelid = m.rel AND a.attnum > 0 AND a.attnum <> m.own AND (a.attnum = ANY(m.attrs) OR EXISTS (SELECT 1 FROM pg_depend d \
        WHERE d.classid = m.class AND d.objid = m.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = m.rel \
        AND d.refobjsubid = a.attnum) OR m.what = 'p' AND EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = m.class AND d.objid = m.rel \
        AND d.objsubid = a.attnum AND d.refclassid = m.class AND d.refobjid = m.rel AND d.refobjsubid = 0 AND d.deptype = 'i'))), '{}'), \
      m.definition \
    FROM made m WHERE m.rel = ANY($1) ORDER BY 1, 2, 3";

/// The tables that take most space, quoted, the largest first.
pub async fn largest(session: &Session, most: i64) -> Result<Vec<String>, PgError> {
    let sql = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
        ORDER BY pg_total_relation_size(c.oid) DESC LIMIT $1";
    Ok(session.query("reading which tables are large", sql, &[&most]).await?.iter().map(|row| row.get(0)).collect())
}

/// Reads all tables, ordered by schema and name.
///
/// # Errors
/// What the server answered.
pub async fn read(session: &Session) -> Result<Vec<Table>, PgError> {
    let doing = "reading the tables and their columns";
    let mut tables: Vec<Table> = Vec::new();
    for row in session.query(doing, TABLES, &[]).await? {
        let (kind, persistence): (String, String) = (row.get(3), row.get(4));
        let kind = match (kind.as_str(), persistence.as_str()) {
            ("p", _) => TableKind::Partitioned,
            ("f", _) => TableKind::Foreign,
            (_, "u") => TableKind::Unlogged,
            _ => TableKind::Ordinary,
        };
        tables.push(Table {
            oid: row.get(0),
            schema: row.get(1),
            name: row.get(2),
            kind,
            pages: row.get(5),
            parents: row.get(6),
            columns: Vec::new(),
            unique: Vec::new(),
            unique_partly: Vec::new(),
            foreign_keys: Vec::new(),
            checks: Vec::new(),
            made_of: Vec::new(),
        });
    }
    let oids: Vec<u32> = tables.iter().map(|t| t.oid).collect();
    let at: BTreeMap<u32, usize> = oids.iter().enumerate().map(|(at, oid)| (*oid, at)).collect();
    for row in session.query(doing, COLUMNS, &[&oids]).await? {
        let category: String = row.get(4);
        tables[at[&row.get(0)]].columns.push(Column {
            name: row.get(1),
            type_name: row.get(2),
            base_type: row.get(3),
            category: category.chars().next().unwrap_or('U'),
            max_length: row.get(5),
            not_null: row.get(6),
            generated: row.get(7),
            identity: row.get(8),
            labels: row.get(9),
            comment: row.get(10),
        });
    }
    for row in session.query(doing, UNIQUE, &[&oids]).await? {
        tables[at[&row.get(0)]].unique.push(row.get(1));
    }
    for row in session.query(doing, UNIQUE_PARTLY, &[&oids]).await? {
        tables[at[&row.get(0)]].unique_partly.extend(row.get::<_, Option<Vec<String>>>(1));
    }
    for row in session.query(doing, FOREIGN_KEYS, &[&oids]).await? {
        tables[at[&row.get(0)]].foreign_keys.push(ForeignKey {
            name: row.get(1),
            columns: row.get(2),
            schema: row.get(3),
            table: row.get(4),
            references: row.get(5),
            full: row.get(6),
        });
    }
    for row in session.query(doing, CHECKS, &[&oids]).await? {
        tables[at[&row.get(0)]].checks.push(Check { name: row.get(1), columns: row.get(2), expression: row.get(3) });
    }
    for row in session.query(doing, MADE_OF, &[&oids]).await? {
        let what = match row.get::<_, String>(1).as_str() {
            "p" => MadeKind::PartitionKey,
            "x" => MadeKind::Exclusion,
            "i" => MadeKind::Index,
            _ => MadeKind::Column,
        };
        let made = MadeOf { what, name: row.get(2), columns: row.get(3), definition: row.get(4) };
        tables[at[&row.get(0)]].made_of.push(made);
    }
    Ok(tables)
}
