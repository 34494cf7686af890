//! What a database has beside its tables: owner, grants, settings, comment, connection limit. A clone has none of it, so
//! it is read before the lock closes the database ([`Found`]) and put back by the statements made here.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    connection::Session,
    error::PgError,
    quote::{ident, literal},
};

/// A database on a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// Object id: stays when the database is renamed.
    pub oid: u32,
    /// Name.
    pub name: String,
    /// The role that owns it.
    pub owner: String,
    /// Size in bytes.
    pub size: i64,
    /// Whether anyone may connect.
    pub allow_connections: bool,
    /// The catalog's row, whose columns differ between versions, and `spcname`: its tablespace.
    pub row: Value,
}

impl Database {
    /// The tablespace that it is in, where that is not the server's default.
    pub fn tablespace(&self) -> Option<&str> {
        self.row.get("spcname").and_then(Value::as_str).filter(|name| *name != "pg_default")
    }
}

/// Of the catalog's row, what a database like it is made with elsewhere: not its name, nor where it lies.
pub fn portable(row: &Value) -> Value {
    let kept = ["encoding", "datlocprovider", "datcollate", "datctype", "datlocale", "daticulocale", "daticurules"];
    kept.iter().filter_map(|key| Some(((*key).to_owned(), row.get(key)?.clone()))).collect::<serde_json::Map<_, _>>().into()
}

/// What a database had when it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The role that owns it.
    pub owner: String,
    /// Whether anyone may connect.
    pub allow_connections: bool,
    /// How many may connect; -1 for any number.
    pub connection_limit: i32,
    /// The comment.
    pub comment: Option<String>,
    /// The grants; none means PostgreSQL's default.
    pub grants: Option<Vec<Grant>>,
    /// `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET`.
    pub settings: Vec<RoleSettings>,
}

/// A privilege on a database, or on something in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// To whom; none is PUBLIC.
    pub to: Option<String>,
    /// Of a database: `CONNECT`, `CREATE` or `TEMPORARY`.
    pub privilege: String,
    /// Whether it may be passed on.
    pub grantable: bool,
}

/// Settings of a database, for all or for one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleSettings {
    /// The role; none is everyone.
    pub role: Option<String>,
    /// `name=value`, as the catalog has it.
    pub settings: Vec<String>,
}

/// The server's version, as `server_version_num / 10000`.
pub async fn major(session: &Session) -> Result<u32, PgError> {
    let row = session.one("reading the version", "SELECT current_setting('server_version_num')::int / 10000", &[]).await?;
    Ok(u32::try_from(row.get::<_, i32>(0)).unwrap_or(0))
}

/// What tells two servers apart, whatever their names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The same on a replica.
    system: String,
    /// Whether it is a replica.
    replica: bool,
}

impl Identity {
    /// Asks the session's server.
    pub async fn of(session: &Session) -> Result<Self, PgError> {
        let sql = "SELECT system_identifier::text, pg_is_in_recovery() FROM pg_control_system()";
        let row = session.one("reading the server's identity", sql, &[]).await?;
        Ok(Self { system: row.get(0), replica: row.get(1) })
    }

    /// What tells a database from every other, whatever its server is called: the same on a replica that took over and after a
    /// swap, another on another server or under another name. It says nothing of host, name or role.
    pub fn mark(&self, database: &str) -> String {
        let hash = blake3::hash(format!("{}\0{database}", self.system).as_bytes());
        hash.to_hex().chars().take(32).collect()
    }
}

/// Whether the session's role is a superuser.
pub async fn is_superuser(session: &Session) -> Result<bool, PgError> {
    let sql = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
    Ok(session.one("reading the role", sql, &[]).await?.get(0))
}

/// A database by name.
pub async fn database(session: &Session, name: &str) -> Result<Option<Database>, PgError> {
    let row = session
        .maybe(
            "reading the database",
            "SELECT d.oid, r.rolname::text, d.datallowconn, to_jsonb(d) - 'datacl' \
             || jsonb_build_object('spcname', (SELECT spcname FROM pg_tablespace t WHERE t.oid = d.dattablespace)) FROM pg_database d \
             JOIN pg_roles r ON r.oid = d.datdba WHERE d.datname = $1",
            &[&name],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let oid: u32 = row.get(0);
    let size = session.one("reading the database's size", "SELECT pg_database_size($1::oid)", &[&oid]).await?.get(0);
    Ok(Some(Database { oid, name: name.to_owned(), owner: row.get(1), size, allow_connections: row.get(2), row: row.get(3) }))
}

/// Whether a database is there.
pub async fn exists(session: &Session, name: &str) -> Result<bool, PgError> {
    let row = session.maybe("reading the database", "SELECT 1 FROM pg_database WHERE datname = $1", &[&name]).await?;
    Ok(row.is_some())
}

/// What a database has beside its tables.
pub async fn found(session: &Session, name: &str) -> Result<Option<Found>, PgError> {
    let doing = "reading owner, grants and settings of the database";
    let row = session
        .maybe(
            doing,
            "SELECT d.oid, r.rolname::text, d.datallowconn, d.datconnlimit, shobj_description(d.oid, 'pg_database'), \
                    d.datacl IS NOT NULL FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE d.datname = $1",
            &[&name],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let oid: u32 = row.get(0);
    let grants = if row.get(5) {
        let rows = session
            .query(
                doing,
                "SELECT r.rolname::text, a.privilege_type, a.is_grantable FROM pg_database d, aclexplode(d.datacl) a \
                 LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE d.oid = $1 AND (a.grantee = 0 OR r.oid IS NOT NULL) \
                 ORDER BY 1 NULLS FIRST, 2",
                &[&oid],
            )
            .await?;
        Some(rows.iter().map(|g| Grant { to: g.get(0), privilege: g.get(1), grantable: g.get(2) }).collect())
    } else {
        None
    };
    let rows = session
        .query(
            doing,
            "SELECT r.rolname::text, s.setconfig FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole \
             WHERE s.setdatabase = $1 ORDER BY 1 NULLS FIRST",
            &[&oid],
        )
        .await?;
    let settings = rows.iter().map(|s| RoleSettings { role: s.get(0), settings: s.get(1) }).collect();
    Ok(Some(Found {
        owner: row.get(1),
        allow_connections: row.get(2),
        connection_limit: row.get(3),
        comment: row.get(4),
        grants,
        settings,
    }))
}

/// The roles of the server, to leave out what would go to a role that is gone.
pub async fn roles(session: &Session) -> Result<BTreeSet<String>, PgError> {
    let rows = session.query("reading the roles", "SELECT rolname::text FROM pg_roles", &[]).await?;
    Ok(rows.iter().map(|r| r.get(0)).collect())
}

impl Found {
    /// Takes every privilege on the database away: from PUBLIC, from the owner, from who has one now.
    pub fn revoke_all(&self, name: &str, owner: &str) -> String {
        let mut sql = format!("REVOKE ALL ON DATABASE {} FROM PUBLIC CASCADE;\n", ident(name));
        let now: BTreeSet<&str> = self.grants.iter().flatten().filter_map(|g| g.to.as_deref()).chain([owner]).collect();
        for role in now {
            sql += &format!("REVOKE ALL ON DATABASE {} FROM {} CASCADE;\n", ident(name), ident(role));
        }
        sql
    }

    /// Leaves CONNECT to the owner and to the application's role alone: without its role the new release could not start.
    /// `self` is what the database has now.
    pub fn close_to_others(&self, name: &str, application: &str) -> String {
        self.leave_connect_to(name, &[&self.owner, application])
    }

    /// Leaves CONNECT to these roles alone; the owner too loses it where he is none of them. `self` is what the database has
    /// now.
    pub fn leave_connect_to(&self, name: &str, roles: &[&str]) -> String {
        let mut sql = format!("REVOKE CONNECT ON DATABASE {} FROM PUBLIC CASCADE;\n", ident(name));
        let now = self.grants.iter().flatten().filter_map(|g| g.to.as_deref()).chain([self.owner.as_str()]);
        for role in now.collect::<BTreeSet<_>>() {
            sql += &format!("REVOKE CONNECT ON DATABASE {} FROM {} CASCADE;\n", ident(name), ident(role));
        }
        for role in roles.iter().collect::<BTreeSet<_>>() {
            sql += &format!("GRANT CONNECT ON DATABASE {} TO {};\n", ident(name), ident(role));
        }
        sql
    }

    /// Puts the grants of `self` on a database that has those of `now`.
    pub fn restore_grants(&self, name: &str, now: &Self, roles: &BTreeSet<String>) -> String {
        let mut sql = now.revoke_all(name, &self.owner);
        match &self.grants {
            None => {
                sql += &format!("GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC;\n", ident(name));
                sql += &format!("GRANT ALL ON DATABASE {} TO {};\n", ident(name), ident(&self.owner));
            }
            Some(grants) => {
                for Grant { to, privilege, grantable } in grants {
                    if to.as_ref().is_some_and(|role| !roles.contains(role)) {
                        continue;
                    }
                    let to = to.as_ref().map_or("PUBLIC".to_owned(), |role| ident(role));
                    let option = if *grantable { " WITH GRANT OPTION" } else { "" };
                    sql += &format!("GRANT {privilege} ON DATABASE {} TO {to}{option};\n", ident(name));
                }
            }
        }
        sql
    }

    /// Puts settings, comment and connection limit on a database that has none.
    pub fn restore_rest(&self, name: &str, roles: &BTreeSet<String>) -> String {
        let mut sql = String::new();
        for RoleSettings { role, settings } in &self.settings {
            if role.as_ref().is_some_and(|role| !roles.contains(role)) {
                continue;
            }
            for setting in settings {
                sql += &set_statement(name, role.as_deref(), setting);
            }
        }
        let comment = self.comment.as_ref().map_or("NULL".to_owned(), |c| literal(c));
        sql += &format!("COMMENT ON DATABASE {} IS {comment};\n", ident(name));
        sql + &format!("ALTER DATABASE {} CONNECTION LIMIT {};\n", ident(name), self.connection_limit)
    }
}

/// The statement that makes a setting of `name=value`. A role's settings are made as that role, which needs no right over
/// roles.
pub fn set_statement(database: &str, role: Option<&str>, setting: &str) -> String {
    let (parameter, value) = setting.split_once('=').unwrap_or((setting, ""));
    let parameter = parameter.split('.').map(ident).collect::<Vec<_>>().join(".");
    let value = if is_list(setting.split('=').next().unwrap_or_default()) {
        let parts = list(value);
        if parts.is_empty() { "''".to_owned() } else { parts.iter().map(|p| literal(p)).collect::<Vec<_>>().join(", ") }
    } else {
        literal(value)
    };
    match role {
        None => format!("ALTER DATABASE {} SET {parameter} TO {value};\n", ident(database)),
        Some(role) => format!(
            "SET LOCAL ROLE {0};\nALTER ROLE {0} IN DATABASE {1} SET {parameter} TO {value};\nSET LOCAL ROLE NONE;\n",
            ident(role),
            ident(database)
        ),
    }
}

/// Parameters whose values are lists of quoted names: a single literal would be one name.
fn is_list(parameter: &str) -> bool {
    ["search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"]
        .iter()
        .any(|list| parameter.eq_ignore_ascii_case(list))
}

fn list(value: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut characters = value.chars().peekable();
    let (mut part, mut quoted, mut any) = (String::new(), false, false);
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                part.push('"');
                characters.next();
            }
            '"' => (quoted, any) = (!quoted, true),
            ',' if !quoted => {
                parts.push(std::mem::take(&mut part));
                any = true;
            }
            c if c.is_whitespace() && !quoted => {}
            c => {
                part.push(c);
                any = true;
            }
        }
    }
    if any {
        parts.push(part);
    }
    parts
}

/// Encoding and collation of the catalog's row of a database, for messages.
pub fn locale(row: &Value) -> String {
    let text = |key: &str| row.get(key).and_then(Value::as_str);
    let mut said =
        format!("collation {} and character type {}", text("datcollate").unwrap_or("?"), text("datctype").unwrap_or("?"));
    let provider = match text("datlocprovider") {
        Some("i") => "ICU",
        Some("b") => "builtin",
        _ => return said,
    };
    if let Some(locale) = text("datlocale").or(text("daticulocale")) {
        said += &format!(", {provider} locale {locale}");
    }
    said
}

/// The statement that makes an empty database with encoding and collation of another, on a server of that major version.
pub fn create_like(name: &str, owner: &str, like: &Value, major: u32) -> String {
    let text = |key: &str| like.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut sql = format!("CREATE DATABASE {} TEMPLATE template0 OWNER {}", ident(name), ident(owner));
    if let Some(encoding) = like.get("encoding").and_then(Value::as_i64) {
        sql += &format!(" ENCODING {encoding}");
    }
    for (key, option) in [("datcollate", "LC_COLLATE"), ("datctype", "LC_CTYPE")] {
        if let Some(value) = text(key) {
            sql += &format!(" {option} {}", literal(&value));
        }
    }
    let locale = text("datlocale").or(text("daticulocale"));
    match (text("datlocprovider").as_deref(), locale) {
        (Some("i"), Some(locale)) => {
            sql += &format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", literal(&locale));
            if let Some(rules) = text("daticurules") {
                sql += &format!(" ICU_RULES {}", literal(&rules));
            }
        }
        (Some("b"), Some(locale)) => sql += &format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", literal(&locale)),
        // Said, because a server may have been set up with another one for new databases.
        (None | Some("c"), _) if major >= 15 => sql += " LOCALE_PROVIDER libc",
        _ => {}
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_made_again_as_they_were() {
        assert_eq!(set_statement("d", None, "a.b=x'y"), "ALTER DATABASE \"d\" SET \"a\".\"b\" TO 'x''y';\n");
        assert_eq!(
            set_statement("d", None, "search_path=\"$user\", public, \"a,\"\"b\""),
            "ALTER DATABASE \"d\" SET \"search_path\" TO '$user', 'public', 'a,\"b';\n"
        );
        assert!(set_statement("d", None, "search_path=").contains("TO '';"));
        assert!(set_statement("d", None, "search_path=\"\"").contains("TO '';"));
        assert!(
            set_statement("d", Some("R"), "work_mem=4MB").contains("SET LOCAL ROLE \"R\";\nALTER ROLE \"R\" IN DATABASE \"d\"")
        );
    }

    #[test]
    fn an_empty_copy_has_the_same_collation_on_each_version() {
        let pg18 = serde_json::json!({"encoding": 6, "datlocprovider": "i", "datcollate": "C", "datctype": "C",
            "datlocale": "de-DE", "daticurules": null});
        assert_eq!(
            create_like("n", "o", &pg18, 18),
            "CREATE DATABASE \"n\" TEMPLATE template0 OWNER \"o\" ENCODING 6 LC_COLLATE 'C' LC_CTYPE 'C' \
             LOCALE_PROVIDER icu ICU_LOCALE 'de-DE'"
        );
        let pg14 = serde_json::json!({"encoding": 6, "datcollate": "C", "datctype": "C"});
        assert!(!create_like("n", "o", &pg14, 14).contains("PROVIDER"));
        let libc = serde_json::json!({"encoding": 6, "datlocprovider": "c", "datcollate": "C", "datctype": "C", "datname": "n", "spcname": "s"});
        for (row, major) in [(&libc, 17), (&pg14, 18)] {
            assert!(create_like("n", "o", row, major).ends_with(" LC_CTYPE 'C' LOCALE_PROVIDER libc"));
        }
        let portable = portable(&libc);
        assert_eq!(create_like("n", "o", &portable, 17), create_like("n", "o", &libc, 17));
        assert!(portable.get("datname").is_none() && portable.get("spcname").is_none());
    }
}
