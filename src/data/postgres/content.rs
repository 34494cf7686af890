//! The content of a database as numbers that can be compared: rows and an order-independent checksum for each table,
//! sequences, large objects, and a list of the objects. Two databases with the same content give the same, whatever their
//! physical layout.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    connection::Session,
    error::PgError,
    quote::{ident, literal},
};

/// One table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// `schema.name`.
    pub name: String,
    /// How many rows.
    pub rows: i64,
    /// The sum of a 64-bit hash of each row's text, as COPY writes it.
    pub checksum: String,
}

/// One sequence. While users work it moves, so a backup knows only between which values it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sequence {
    /// `schema.name`.
    pub name: String,
    /// Its value before the dump.
    pub before: i64,
    /// Its value after the dump.
    pub after: i64,
    /// Whether it may begin anew.
    pub cycles: bool,
}

/// What is in a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// Its tables.
    pub tables: Vec<Table>,
    /// Its sequences.
    pub sequences: Vec<Sequence>,
    /// Its objects, each with a word or a hash for what it is.
    pub objects: BTreeMap<String, String>,
}

impl Content {
    /// Rows in all tables.
    pub fn rows(&self) -> i64 {
        self.tables.iter().map(|t| t.rows).sum()
    }

    /// What differs in `other`, in words that name objects and no values.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut list = Vec::new();
        let theirs: BTreeMap<&str, &Table> = other.tables.iter().map(|t| (t.name.as_str(), t)).collect();
        for table in &self.tables {
            match theirs.get(table.name.as_str()) {
                None => list.push(format!("table {} is missing", table.name)),
                Some(t) if t.rows != table.rows => {
                    list.push(format!("table {} has {} rows instead of {}", table.name, t.rows, table.rows));
                }
                Some(t) if t.checksum != table.checksum => list.push(format!("table {} has other values", table.name)),
                Some(_) => {}
            }
        }
        let ours: BTreeMap<&str, ()> = self.tables.iter().map(|t| (t.name.as_str(), ())).collect();
        list.extend(
            other.tables.iter().filter(|t| !ours.contains_key(t.name.as_str())).map(|t| format!("table {} is new", t.name)),
        );
        let theirs: BTreeMap<&str, &Sequence> = other.sequences.iter().map(|s| (s.name.as_str(), s)).collect();
        for sequence in &self.sequences {
            let (low, high) = (sequence.before.min(sequence.after), sequence.before.max(sequence.after));
            match theirs.get(sequence.name.as_str()) {
                None => list.push(format!("sequence {} is missing", sequence.name)),
                Some(s) if !sequence.cycles && !(low..=high).contains(&s.before) => {
                    list.push(format!("sequence {} stands elsewhere", sequence.name));
                }
                Some(_) => {}
            }
        }
        for (object, what) in &self.objects {
            match other.objects.get(object) {
                None => list.push(format!("{object} is missing")),
                Some(w) if w != what => list.push(format!("{object} is defined otherwise")),
                Some(_) => {}
            }
        }
        list.extend(other.objects.keys().filter(|o| !self.objects.contains_key(*o)).map(|o| format!("{o} is new")));
        list
    }
}

/// The sequences; of those that an extension made, the ones whose state it says is the user's.
pub(super) const SEQUENCES: &str = "SELECT n.nspname::text, c.relname::text, s.seqcycle, \
    EXISTS (SELECT 1 FROM pg_extension e WHERE c.oid = ANY (e.extconfig)) \
    FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't' \
    AND (EXISTS (SELECT 1 FROM pg_extension e WHERE c.oid = ANY (e.extconfig)) \
      OR NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')) \
    ORDER BY 1, 2";

/// Objects by name. Texts of expressions are not compared: PostgreSQL reads some back in another spelling than it wrote.
const OBJECTS: &str = r"
WITH ours AS (
  SELECT n.nspname || '.' || c.relname AS name, c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
SELECT 'schema ' || n.nspname, '' FROM pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL SELECT 'extension ' || extname, '' FROM pg_extension
UNION ALL SELECT 'relation ' || name, relkind::text || relpersistence::text || relrowsecurity::text || relforcerowsecurity::text
  || coalesce((SELECT string_agg(o, ',' ORDER BY o) FROM unnest(reloptions) o), '') FROM ours WHERE relkind IN ('r','p','v','m','S','f')
UNION ALL SELECT 'column ' || o.name || '.' || a.attname, format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull::text
  || a.attidentity::text || a.attgenerated::text || a.atthasdef::text || a.attcollation::regcollation::text
  FROM ours o JOIN pg_attribute a ON a.attrelid = o.oid WHERE o.relkind IN ('r','p','v','m','f') AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT 'constraint ' || o.name || '.' || k.conname, k.contype::text || k.convalidated::text || k.condeferrable::text
  || k.condeferred::text FROM ours o JOIN pg_constraint k ON k.conrelid = o.oid WHERE k.contype NOT IN ('t', 'n')
UNION ALL SELECT 'index ' || o.name || '.' || c.relname, i.indisunique::text || i.indisprimary::text || i.indisvalid::text || m.amname
  FROM ours o JOIN pg_index i ON i.indrelid = o.oid JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
UNION ALL SELECT 'trigger ' || o.name || '.' || t.tgname, t.tgenabled::text || t.tgtype::text FROM ours o JOIN pg_trigger t ON t.tgrelid = o.oid
  WHERE NOT t.tgisinternal
UNION ALL SELECT 'policy ' || o.name || '.' || p.polname, p.polcmd::text || p.polpermissive::text FROM ours o JOIN pg_policy p ON p.polrelid = o.oid
UNION ALL SELECT 'function ' || n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
  md5(p.prosrc) || p.prokind::text || p.provolatile::text || p.prosecdef::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
UNION ALL SELECT 'type ' || n.nspname || '.' || t.typname, t.typtype::text || md5(coalesce((SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder)
  FROM pg_enum e WHERE e.enumtypid = t.oid), '')) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND t.typtype IN ('e','d','r','m') AND t.typname !~ '^pg_temp'
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
UNION ALL SELECT 'publication ' || pubname, '' FROM pg_publication";

/// Large objects, summed up in pieces that a server holds at ease; one may be larger than it can hold whole. One of a single
/// piece has the sum of what it holds.
const LARGE_OBJECTS: &str = r#"
WITH RECURSIVE piece (oid, at, sum, length) AS (
  SELECT m.oid, 0::bigint, p.sum, p.length FROM pg_largeobject_metadata m, LATERAL (
    SELECT md5(bytes) AS sum, length(bytes) AS length FROM (SELECT lo_get(m.oid, 0, 16777216) AS bytes OFFSET 0) b OFFSET 0) p
UNION ALL
  SELECT piece.oid, piece.at + 1, p.sum, p.length FROM piece, LATERAL (
    SELECT md5(bytes) AS sum, length(bytes) AS length
    FROM (SELECT lo_get(piece.oid, (piece.at + 1) * 16777216, 16777216) AS bytes OFFSET 0) b OFFSET 0) p
  WHERE piece.length = 16777216)
SELECT count(DISTINCT oid),
  coalesce(sum(hashtextextended(oid::text || CASE at WHEN 0 THEN '' ELSE '+' || at || '+' END || sum COLLATE "C", 0)::numeric), 0)::text
FROM piece"#;

/// Reads the content within the session's transaction, but for the tables, which are the caller's; without large objects where
/// they do not leave.
pub async fn read(session: &Session, tables: Vec<Table>, with_large_objects: bool) -> Result<Content, PgError> {
    let mut content = Content { tables, ..Content::default() };
    if with_large_objects {
        let large = session.one("summing up the large objects", LARGE_OBJECTS, &[]).await?;
        if large.get::<_, i64>(0) > 0 {
            content.objects.insert(format!("{} large objects", large.get::<_, i64>(0)), large.get(1));
        }
    }
    for row in session.query("reading the objects", OBJECTS, &[]).await? {
        content.objects.insert(row.get(0), row.get(1));
    }
    content.sequences = sequences(session).await?;
    Ok(content)
}

/// The sequences as they stand now.
pub async fn sequences(session: &Session) -> Result<Vec<Sequence>, PgError> {
    let names = session.query("reading the sequences", SEQUENCES, &[]).await?;
    let mut list = Vec::with_capacity(names.len());
    for chunk in names.chunks(100) {
        let sql = chunk
            .iter()
            .map(|row| {
                let (schema, name): (String, String) = (row.get(0), row.get(1));
                let full = format!("{schema}.{name}");
                // A sequence that was never used stands one step before its start.
                format!(
                    "SELECT {}::text, CASE WHEN is_called OR last_value < 0 THEN last_value ELSE last_value - 1 END, {} FROM {}.{}",
                    literal(&full),
                    row.get::<_, bool>(2),
                    ident(&schema),
                    ident(&name)
                )
            })
            .collect::<Vec<_>>()
            .join(" UNION ALL ");
        for row in session.query("reading the sequences", &sql, &[]).await? {
            let value = row.get(1);
            list.push(Sequence { name: row.get(0), before: value, after: value, cycles: row.get(2) });
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_tables_sequences_and_objects() {
        let table = |name: &str, rows, checksum: &str| Table { name: name.into(), rows, checksum: checksum.into() };
        let sequence = |value| Sequence { name: "s.q".into(), before: value, after: value + 5, cycles: false };
        let ours = Content {
            tables: vec![table("s.a", 1, "1"), table("s.b", 1, "1"), table("s.c", 1, "1")],
            sequences: vec![sequence(10)],
            objects: [("index s.a.i".to_owned(), "x".to_owned())].into(),
        };
        assert!(ours.differences(&ours).is_empty());
        let theirs = Content {
            tables: vec![table("s.a", 2, "1"), table("s.b", 1, "2"), table("s.d", 0, "0")],
            sequences: vec![sequence(16)],
            objects: BTreeMap::new(),
        };
        assert_eq!(
            ours.differences(&theirs),
            [
                "table s.a has 2 rows instead of 1",
                "table s.b has other values",
                "table s.c is missing",
                "table s.d is new",
                "sequence s.q stands elsewhere",
                "index s.a.i is missing",
            ]
        );
    }
}
