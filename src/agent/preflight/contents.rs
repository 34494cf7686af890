//! Whether the backup can be proven: every table can be read, and everything can be made again by the owner's role.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checks, Subject};
use crate::{
    agent::outcome,
    data::postgres::{PgError, Session, quote::ident, rights},
};

/// So many objects are named.
const NAMED: usize = 5;

/// Tables and sequences that the admin role may not read.
const UNREADABLE: &str = "SELECT n.nspname || '.' || c.relname, r.rolname::text FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.oid = c.relowner \
    WHERE c.relkind IN ('r', 'S', 'p', 'm') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    AND NOT (has_schema_privilege(n.oid, 'USAGE') AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT') \
      ELSE has_table_privilege(c.oid, 'SELECT') END) ORDER BY 1";

/// Tables with row security that also binds the admin role.
const HIDDEN: &str = "SELECT n.nspname || '.' || c.relname, r.rolname::text FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.oid = c.relowner \
    WHERE c.relkind IN ('r', 'p') AND row_security_active(c.oid) ORDER BY 1";

/// Objects that only a superuser can make. What belongs to an extension comes with it.
const SUPERUSERS: &str = r"
WITH member AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e')
SELECT 'extension ' || e.extname FROM pg_extension e
  LEFT JOIN pg_available_extension_versions v ON v.name = e.extname AND v.version = e.extversion
  WHERE e.extname <> 'plpgsql' AND (v.name IS NULL OR (v.superuser AND NOT v.trusted))
UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger t
  WHERE NOT EXISTS (SELECT 1 FROM member m WHERE m.classid = 'pg_event_trigger'::regclass AND m.objid = t.oid)
UNION ALL SELECT 'publication ' || pubname || ' (FOR ALL TABLES)' FROM pg_publication WHERE puballtables
UNION ALL SELECT 'function ' || p.oid::regprocedure::text || ' (language ' || l.lanname || ')' FROM pg_proc p
  JOIN pg_language l ON l.oid = p.prolang JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE NOT l.lanpltrusted AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT 1 FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)
UNION ALL SELECT 'function ' || p.oid::regprocedure::text || ' (LEAKPROOF)' FROM pg_proc p
  JOIN pg_language l ON l.oid = p.prolang JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE l.lanpltrusted AND p.proleakproof AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT 1 FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)
UNION ALL SELECT 'type ' || t.oid::regtype::text FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
  WHERE t.typtype = 'b' AND t.typelem = 0 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT 1 FROM member m WHERE m.classid = 'pg_type'::regclass AND m.objid = t.oid)
UNION ALL SELECT 'operator class ' || o.opcname FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace
  WHERE n.nspname !~ '^pg_' AND NOT EXISTS (SELECT 1 FROM member m WHERE m.classid = 'pg_opclass'::regclass AND m.objid = o.oid)
UNION ALL SELECT 'foreign data wrapper ' || fdwname FROM pg_foreign_data_wrapper f
  WHERE NOT EXISTS (SELECT 1 FROM member m WHERE m.classid = 'pg_foreign_data_wrapper'::regclass AND m.objid = f.oid)
UNION ALL SELECT 'language ' || lanname FROM pg_language l WHERE lanispl AND NOT lanpltrusted
  AND NOT EXISTS (SELECT 1 FROM member m WHERE m.classid = 'pg_language'::regclass AND m.objid = l.oid)
ORDER BY 1";

/// Publications of whole schemas, which servers from 15 on have.
const SCHEMA_PUBLICATIONS: &str = "SELECT DISTINCT 'publication ' || p.pubname || ' (FOR TABLES IN SCHEMA)' FROM pg_publication_namespace s \
     JOIN pg_publication p ON p.oid = s.pnpubid ORDER BY 1";

/// How many tables are read at once, as pg_dump does, and how many locks there is room for. The server keeps a place for so many
/// of each session that it may have, background ones too; a tenth more fits in what else it keeps.
const LOCKS: &str = "SELECT (SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relpersistence <> 't' AND oid >= 16384), \
    (SELECT setting::bigint FROM pg_settings WHERE name = 'max_locks_per_transaction'), \
    (SELECT sum(setting::bigint)::bigint FROM pg_settings WHERE name IN ('max_connections', 'max_prepared_transactions', \
      'autovacuum_max_workers', 'autovacuum_worker_slots', 'max_worker_processes', 'max_wal_senders'))";

pub async fn check(subject: &Subject<'_>, inside: &Session, checks: &mut Checks<'_>) -> Result<(), PgError> {
    let admin = &subject.access.admin.user;
    let mut wrong = Vec::new();
    for (sql, problem) in [(UNREADABLE, "cannot be read"), (HIDDEN, "hides rows by row security")] {
        let rows = inside.query("looking for what cannot be read", sql, &[]).await?;
        let mut names: Vec<String> = Vec::new();
        for row in &rows {
            let (name, owner): (String, String) = (row.get(0), row.get(1));
            names.push(format!("{name} {problem} for role {admin}: GRANT {} TO {};", ident(&owner), ident(admin)));
        }
        wrong.extend(named(names));
    }
    checks.judge("reading", wrong, &format!("role {admin} can read every table"));
    let row = inside.one("reading how many tables can be locked", LOCKS, &[]).await?;
    let (tables, each, sessions): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    let room = each.saturating_mul(sessions);
    if tables > room.saturating_add(room / 10) {
        let wanted = (tables / sessions.max(1) + 1).max(each).saturating_mul(2);
        checks.fail(
            "locks",
            format!(
                "{tables} tables are read at once, and the server has room for {room} locks: set max_locks_per_transaction (now {each}) \
                 to {wanted}, and start it anew"
            ),
        );
    }
    let left = not_given(subject, inside).await?;
    if left.is_empty() {
        checks.pass("owners", "a restore gives every owner back");
    } else {
        // No reason to stop: a restore says the same, and everyone may do with them what he could.
        let (owner, mends) = (&subject.database.owner, named(left).join(" "));
        checks
            .pass("owners", format!("a restore would make {owner} the owner of some objects, because nobody else may: {mends}"));
    }
    if subject.superuser {
        checks.pass("restoring", "a superuser can make everything again");
        return Ok(());
    }
    let names = superusers(subject.major, inside).await?;
    if names.is_empty() {
        checks.pass("restoring", format!("role {} can make everything again", subject.database.owner));
    } else {
        checks.fail(
            "restoring",
            format!(
                "only a superuser can make these again, so a backup could not be proven: {}. Drop them, or name a superuser in adminSecret",
                named(names).join(", ")
            ),
        );
    }
    Ok(())
}

/// The statements that mend it, where the owners of objects could not be given back.
async fn not_given(subject: &Subject<'_>, inside: &Session) -> Result<Vec<String>, PgError> {
    let owners = rights::read(inside, &subject.database.owner).await?.owners;
    let roles: Vec<&String> = owners.values().collect::<BTreeSet<_>>().into_iter().collect();
    let how = if subject.major >= 16 { "SET" } else { "MEMBER" };
    let sql = "SELECT rolname::text, rolsuper FROM pg_roles WHERE rolname = ANY($1) AND NOT pg_has_role(current_user, oid, $2)";
    let rows = inside.query("reading who can be made an owner", sql, &[&roles, &how]).await?;
    let out: BTreeMap<String, bool> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let admin = ident(&subject.access.admin.user);
    let mut mends: BTreeSet<String> = BTreeSet::new();
    for (object, role) in owners {
        match out.get(&role) {
            Some(true) if object != rights::PUBLIC => {
                mends.insert(format!("{};", rights::owning(&object, &subject.database.owner)))
            }
            Some(false) => mends.insert(format!("GRANT {} TO {admin};", ident(&role))),
            _ => continue,
        };
    }
    Ok(mends.into_iter().collect())
}

/// What only a superuser can make again.
pub async fn superusers(major: u32, inside: &Session) -> Result<Vec<String>, PgError> {
    let doing = "looking for what only a superuser can make";
    let mut names: Vec<String> = inside.query(doing, SUPERUSERS, &[]).await?.iter().map(|row| row.get(0)).collect();
    if major >= 15 {
        names.extend(inside.query(doing, SCHEMA_PUBLICATIONS, &[]).await?.iter().map(|row| row.get::<_, String>(0)));
    }
    Ok(names)
}

/// The first few.
pub(super) fn named(names: Vec<String>) -> Vec<String> {
    outcome::named(names, NAMED)
}
