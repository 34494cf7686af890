//! Who owns what in a database, and who else may use it.
//!
//! A restore makes everything as the database's owner, which always works, and gives owners and grants afterwards, one by one:
//! an owner that cannot be given (a superuser's table, a role that is gone) is a sentence then, and not the end of the restore.
//! All grants are made by the owner of the object, whoever had made them: who may do what is the same.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{catalog::Grant, connection::Session, error::PgError, quote::ident};

/// So many statements at once.
const AT_ONCE: usize = 200;
/// What only superusers may own, at times.
const SUPERUSERS: [&str; 3] = ["EVENT TRIGGER ", "FOREIGN DATA WRAPPER ", "PUBLICATION "];
/// The one schema that every database has.
pub const PUBLIC: &str = "SCHEMA public";
/// Who owns it from PostgreSQL 15 on: whoever owns the database.
const OF_THE_DATABASE: &str = "pg_database_owner";

/// Owners and grants of a database's objects, as far as they are not those of an object that the database's owner has just made.
/// Objects are named as statements name them: `TABLE public.orders`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Given {
    /// The owners, where that is not the database's.
    pub owners: BTreeMap<String, String>,
    /// The grants, where anyone granted or revoked something.
    pub grants: BTreeMap<String, Grants>,
    /// What is granted on objects that are made later.
    pub defaults: Vec<Later>,
}

/// All grants on an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grants {
    /// Its owner, whose own rights are among the grants.
    pub owner: String,
    /// The grants; a privilege on a column names it: `SELECT (mail)`.
    pub grants: BTreeSet<Grant>,
}

/// Default privileges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Later {
    /// Of what this role makes.
    pub role: String,
    /// In this schema alone.
    pub schema: Option<String>,
    /// `TABLES`, `SEQUENCES`, `FUNCTIONS`, `TYPES`, `SCHEMAS` or `LARGE OBJECTS`.
    pub on: String,
    /// What is granted beyond PostgreSQL's own default.
    pub given: BTreeSet<Grant>,
    /// What of that default is revoked.
    pub taken: BTreeSet<Grant>,
}

/// An object as it is.
struct Object {
    /// Its owner.
    owner: String,
    /// Whether its owner can be changed: not where it follows a table or belongs to an extension.
    own: bool,
    grants: BTreeSet<Grant>,
}

/// Objects with owner and grants. `$1`: also those on which nobody granted or revoked anything.
const OBJECTS: &str = r#"
WITH made(class, id, owner, acl, kind, follows) AS (
  SELECT 'pg_class'::regclass, c.oid, relowner, relacl, CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relkind = 'S' AND EXISTS
    (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))
    FROM pg_class c WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'
  UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner, nspacl, 'n', false FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)'
  UNION ALL SELECT 'pg_proc'::regclass, oid, proowner, proacl, 'f', false FROM pg_proc
  UNION ALL SELECT 'pg_type'::regclass, oid, typowner, typacl, 'T', false FROM pg_type t
    WHERE (typtype IN ('b', 'd', 'e', 'r') AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid))
    OR (typtype = 'c' AND EXISTS (SELECT FROM pg_class c WHERE c.oid = typrelid AND c.relkind = 'c'))
  UNION ALL SELECT 'pg_language'::regclass, oid, lanowner, lanacl, 'l', false FROM pg_language
  UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, fdwowner, fdwacl, 'F', false FROM pg_foreign_data_wrapper
  UNION ALL SELECT 'pg_foreign_server'::regclass, oid, srvowner, srvacl, 'S', false FROM pg_foreign_server
  UNION ALL SELECT 'pg_collation'::regclass, oid, collowner, NULL, NULL, false FROM pg_collation
  UNION ALL SELECT 'pg_conversion'::regclass, oid, conowner, NULL, NULL, false FROM pg_conversion
  UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner, NULL, NULL, false FROM pg_operator
  UNION ALL SELECT 'pg_opclass'::regclass, oid, opcowner, NULL, NULL, false FROM pg_opclass
  UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfowner, NULL, NULL, false FROM pg_opfamily
  UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxowner, NULL, NULL, false FROM pg_statistic_ext
  UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictowner, NULL, NULL, false FROM pg_ts_dict
  UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgowner, NULL, NULL, false FROM pg_ts_config
  UNION ALL SELECT 'pg_publication'::regclass, oid, pubowner, NULL, NULL, false FROM pg_publication
  UNION ALL SELECT 'pg_event_trigger'::regclass, oid, evtowner, NULL, NULL, false FROM pg_event_trigger
), known AS (
  SELECT m.*, class = 'pg_namespace'::regclass AND id = to_regnamespace('public') AS public,
    id >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = class AND d.objid = id AND d.deptype = 'e') AS own,
    acl IS NOT NULL AND acl IS DISTINCT FROM
      (SELECT initprivs FROM pg_init_privs p WHERE p.classoid = class AND p.objoid = id AND p.objsubid = 0) AS changed
  FROM made m
), told AS (
  SELECT *, changed OR coalesce(public, false) OR class = 'pg_class'::regclass AND id >= 16384
    AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = id AND a.attacl IS NOT NULL AND NOT a.attisdropped) AS granted
  FROM known WHERE own OR public OR changed
)
SELECT CASE WHEN i.type IN ('view', 'materialized view', 'foreign table') THEN 'TABLE' WHEN i.type IN ('function', 'procedure', 'aggregate') THEN 'ROUTINE'
    WHEN i.type = 'statistics object' THEN 'STATISTICS' WHEN i.type = 'foreign-data wrapper' THEN 'FOREIGN DATA WRAPPER'
    WHEN i.type = 'server' THEN 'FOREIGN SERVER' ELSE upper(i.type) END || ' ' || i.identity,
  r.rolname::text, (own OR coalesce(public, false)) AND NOT follows, granted,
  CASE WHEN granted OR $1 THEN (SELECT jsonb_agg(jsonb_build_object('to', g.rolname, 'privilege', a.privilege_type || a.of, 'grantable', a.is_grantable))
    FROM (SELECT '' AS of, x.* FROM aclexplode(coalesce(acl, acldefault(kind, owner))) x
      UNION ALL SELECT ' (' || quote_ident(t.attname) || ')', x.* FROM pg_attribute t, aclexplode(t.attacl) x
        WHERE class = 'pg_class'::regclass AND t.attrelid = id AND NOT t.attisdropped) a
    LEFT JOIN pg_roles g ON g.oid = a.grantee WHERE a.grantee = 0 OR g.oid IS NOT NULL) END
FROM told, pg_identify_object(class, id, 0) i, pg_roles r
WHERE r.oid = owner AND coalesce(i.schema, '') !~ '^pg_(toast|temp)' ORDER BY 1"#;

/// Default privileges, as differences from PostgreSQL's own. Those of one schema only add.
const DEFAULTS: &str = r#"
WITH d AS (SELECT d.oid, r.rolname::text AS role, n.nspname::text AS schema, defaclobjtype AS kind, defaclacl AS acl,
    CASE WHEN defaclnamespace = 0 THEN acldefault(CASE defaclobjtype WHEN 'S' THEN 's' ELSE defaclobjtype END, defaclrole) END AS base
  FROM pg_default_acl d JOIN pg_roles r ON r.oid = d.defaclrole LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace),
listed AS (SELECT d.oid, true AS given, g.rolname, x.privilege_type, x.is_grantable FROM d, aclexplode(acl) x LEFT JOIN pg_roles g ON g.oid = x.grantee
    WHERE NOT EXISTS (SELECT FROM aclexplode(base) b WHERE (b.grantee, b.privilege_type, b.is_grantable) = (x.grantee, x.privilege_type, x.is_grantable))
  UNION ALL SELECT d.oid, false, g.rolname, x.privilege_type, x.is_grantable FROM d, aclexplode(base) x LEFT JOIN pg_roles g ON g.oid = x.grantee
    WHERE NOT EXISTS (SELECT FROM aclexplode(acl) a WHERE (a.grantee, a.privilege_type, a.is_grantable) = (x.grantee, x.privilege_type, x.is_grantable)))
SELECT role, schema, CASE kind WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES'
    WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END,
  (SELECT jsonb_agg(jsonb_build_object('to', rolname, 'privilege', privilege_type, 'grantable', is_grantable)) FROM listed l WHERE l.oid = d.oid AND given),
  (SELECT jsonb_agg(jsonb_build_object('to', rolname, 'privilege', privilege_type, 'grantable', is_grantable)) FROM listed l WHERE l.oid = d.oid AND NOT given)
FROM d ORDER BY 1, 2 NULLS FIRST, 3"#;

/// What is given in a database of that owner, read within the session's transaction.
pub async fn read(session: &Session, owner: &str) -> Result<Given, PgError> {
    let mut given = Given::default();
    for (name, object, granted) in objects(session, false).await? {
        if object.own && object.owner != owner && object.owner != OF_THE_DATABASE {
            given.owners.insert(name.clone(), object.owner.clone());
        }
        if granted {
            given.grants.insert(name, Grants { owner: object.owner, grants: object.grants });
        }
    }
    for row in session.query("reading default privileges", DEFAULTS, &[]).await? {
        let (role, schema, on) = (row.get(0), row.get(1), row.get(2));
        given.defaults.push(Later { role, schema, on, given: grants(row.get(3)), taken: grants(row.get(4)) });
    }
    Ok(given)
}

async fn objects(session: &Session, all: bool) -> Result<Vec<(String, Object, bool)>, PgError> {
    let rows = session.query("reading owners and grants", OBJECTS, &[&all]).await?;
    let object = |row: &tokio_postgres::Row| Object { owner: row.get(1), own: row.get(2), grants: grants(row.get(4)) };
    Ok(rows.iter().map(|row| (row.get(0), object(row), row.get(3))).collect())
}

fn grants(list: Option<serde_json::Value>) -> BTreeSet<Grant> {
    list.and_then(|list| serde_json::from_value(list).ok()).unwrap_or_default()
}

async fn state(session: &Session) -> Result<BTreeMap<String, Object>, PgError> {
    Ok(objects(session, true).await?.into_iter().map(|(name, object, _)| (name, object)).collect())
}

/// Gives owners and grants to a database that was just restored, and whose objects are the database's owner's. Tells the
/// statements that did not come to be.
pub async fn give(session: &Session, wanted: &Given) -> Result<Vec<String>, PgError> {
    if *wanted == Given::default() {
        return Ok(Vec::new());
    }
    let roles = roles(session).await?;
    // Who is to own a table must be able to make one in its schema.
    for schemas in [true, false] {
        let of = |object: &str| object.starts_with("SCHEMA ") == schemas;
        attempt(session, wanted.owners(&state(session).await?, of)).await?;
        attempt(session, wanted.granting(&state(session).await?, &roles, of)).await?;
    }
    let mut left = attempt(session, wanted.defaults().collect()).await?;
    // A server says no with a warning too.
    let now = state(session).await?;
    // That a superuser had schema public is how servers were set up once, and of no use to anyone.
    let of = |object: &str| object != PUBLIC || wanted.owners.get(object).and_then(|o| roles.get(o)) != Some(&true);
    left.extend(wanted.owners(&now, of));
    left.extend(wanted.granting(&now, &roles, |_| true));
    Ok(left)
}

/// Grants once more what was granted in the database whose place this one takes, to roles and on objects that are there. Nothing is
/// revoked, and `owner` needs nothing. Tells how many grants.
pub async fn grant_again(session: &Session, wanted: &Given, owner: &str) -> Result<usize, PgError> {
    let (now, roles) = (state(session).await?, roles(session).await?);
    let may = |grant: &Grant| grant.to.as_ref().is_none_or(|to| to != owner && roles.get(to) == Some(&false));
    let mut statements: Vec<String> = Vec::new();
    for (object, known) in &wanted.grants {
        let Some(there) = now.get(object) else { continue };
        statements.extend(known.grants.difference(&there.grants).filter(|g| may(g)).map(|grant| granted(object, grant)));
    }
    statements.extend(wanted.defaults());
    let all = statements.len();
    Ok(all - attempt(session, statements).await?.len())
}

/// Makes the database's owner the owner of what this session's role made, but for what only superusers may own.
pub async fn hand_over(session: &Session, owner: &str) -> Result<(), PgError> {
    let me: String = session.one("reading the role", "SELECT current_user::text", &[]).await?.get(0);
    let mine = state(session).await?.into_iter().filter(|(_, object)| object.own && object.owner == me);
    let (theirs, rest): (Vec<String>, Vec<String>) =
        mine.map(|(name, _)| owning(&name, owner)).partition(|s| SUPERUSERS.iter().any(|kind| s[6..].starts_with(kind)));
    for some in rest.chunks(AT_ONCE) {
        session.run("making the owner of the database the owner of what is in it", &some.join(";\n")).await?;
    }
    attempt(session, theirs).await.map(drop)
}

/// By name: whether it is a superuser.
async fn roles(session: &Session) -> Result<BTreeMap<String, bool>, PgError> {
    let rows = session.query("reading the roles", "SELECT rolname::text, rolsuper FROM pg_roles", &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Runs what can be run; gives the rest.
async fn attempt(session: &Session, statements: Vec<String>) -> Result<Vec<String>, PgError> {
    let doing = "giving owners and grants";
    let tried = |result: Result<(), PgError>| match result {
        Ok(()) => Ok(true),
        Err(error) if error.is_away() || matches!(error, PgError::Stopped(_)) => Err(error),
        Err(error) => {
            tracing::debug!(%error, "not given");
            Ok(false)
        }
    };
    let mut left = Vec::new();
    for some in statements.chunks(AT_ONCE) {
        // All of them, or none.
        if tried(session.run(doing, &some.join(";\n")).await)? {
            continue;
        }
        for statement in some {
            if !tried(session.run(doing, statement).await)? {
                left.push(statement.clone());
            }
        }
    }
    Ok(left)
}

/// The statement that gives an object to a role.
pub fn owning(object: &str, role: &str) -> String {
    let object = object.strip_prefix("FOREIGN SERVER ").map_or_else(|| object.to_owned(), |name| format!("SERVER {name}"));
    format!("ALTER {object} OWNER TO {}", ident(role))
}

fn to(role: Option<&String>) -> String {
    role.map_or_else(|| "PUBLIC".to_owned(), |role| ident(role))
}

fn granted(on: &str, grant: &Grant) -> String {
    let option = if grant.grantable { " WITH GRANT OPTION" } else { "" };
    format!("GRANT {} ON {on} TO {}{option}", grant.privilege, to(grant.to.as_ref()))
}

fn revoked(on: &str, grant: &Grant) -> String {
    format!("REVOKE {} ON {on} FROM {}", grant.privilege, to(grant.to.as_ref()))
}

impl Given {
    /// The statements that make the owners what they were.
    fn owners(&self, now: &BTreeMap<String, Object>, of: impl Fn(&str) -> bool) -> Vec<String> {
        let wrong = self
            .owners
            .iter()
            .filter(|(object, role)| of(object) && now.get(*object).is_some_and(|there| there.own && there.owner != **role));
        wrong.map(|(object, role)| owning(object, role)).collect()
    }

    /// The statements that make the grants what they were. Whom an object could not be given to gets his rights on it.
    fn granting(&self, now: &BTreeMap<String, Object>, roles: &BTreeMap<String, bool>, of: impl Fn(&str) -> bool) -> Vec<String> {
        let mut statements = Vec::new();
        for (object, there) in now.iter().filter(|(object, _)| of(object)) {
            let known = self.grants.get(object);
            let Some(owner) = known.map(|k| &k.owner).or_else(|| self.owners.get(object)) else { continue };
            let given = *owner == there.owner;
            let superuser = roles.get(owner) == Some(&true);
            let theirs = |grant: &&Grant| grant.to.as_ref() == Some(&there.owner);
            let wanted: BTreeSet<Grant> = match known {
                Some(known) => {
                    known.grants.iter().filter(|g| given || !superuser || g.to.as_ref() != Some(owner)).cloned().collect()
                }
                None if given || superuser || !roles.contains_key(owner) => continue,
                None => there.grants.iter().filter(theirs).map(|g| Grant { to: Some(owner.clone()), ..g.clone() }).collect(),
            };
            if known.is_some() {
                let surplus = there.grants.difference(&wanted).filter(|g| given || !theirs(g));
                statements.extend(surplus.map(|grant| revoked(object, grant)));
            }
            statements.extend(wanted.difference(&there.grants).map(|grant| granted(object, grant)));
        }
        statements
    }

    fn defaults(&self) -> impl Iterator<Item = String> {
        self.defaults.iter().flat_map(|Later { role, schema, on, given, taken }| {
            let schema = schema.as_ref().map(|s| format!(" IN SCHEMA {}", ident(s))).unwrap_or_default();
            let of = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {}{schema} ", ident(role));
            let taken = taken.iter().map(|grant| revoked(on, grant));
            taken.chain(given.iter().map(|grant| granted(on, grant))).map(move |s| format!("{of}{s}")).collect::<Vec<_>>()
        })
    }
}
