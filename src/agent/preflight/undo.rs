//! How a failed run would be undone, and what that needs: the same choice that is made under the lock, told before.

use super::{Checks, Subject, mebibytes};
use crate::{
    api::UndoMethod,
    data::postgres::{PgError, quote::ident},
};

/// Roles that own objects of the database and that neither its owner nor the admin role can become: a restore could not give them
/// back.
const FOREIGN_OWNERS: &str = "SELECT DISTINCT r.rolname::text FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid \
    WHERE s.deptype = 'o' AND s.dbid = $1 AND s.refclassid = 'pg_authid'::regclass AND NOT pg_has_role($2::name, r.oid, 'MEMBER') \
    AND NOT pg_has_role(current_user, r.oid, 'MEMBER') \
    AND NOT r.rolsuper ORDER BY 1";

pub async fn check(subject: &Subject<'_>, method: UndoMethod, repository: bool, checks: &mut Checks<'_>) -> Result<(), PgError> {
    let obstacle = obstacle(subject).await?;
    let size = mebibytes(subject.database.size);
    // About what copying took on two cores without a cloning file system, with a margin.
    let seconds = 1 + subject.database.size / (300 << 20);
    match (method, obstacle) {
        (UndoMethod::Clone, Some((why, mend))) => checks.fail("undo point", format!("it cannot be cloned: {why}: {mend}")),
        (UndoMethod::Clone | UndoMethod::Auto, None) => checks.pass(
            "undo point",
            format!(
                "a clone beside the database: {size} MiB more, about {seconds} s while locked. SQL does not show how much is free on \
                 the server's volume: see to it that {size} MiB are, or set undo.method to Backup"
            ),
        ),
        (UndoMethod::Auto, Some((why, mend))) => {
            by_backup(subject, repository, &format!("it cannot be cloned: {why} ({mend})"), checks).await?;
        }
        (UndoMethod::Backup, _) => by_backup(subject, repository, "undo.method says so", checks).await?,
    }
    Ok(())
}

/// Why the server would not clone this database, and what mends it.
async fn obstacle(subject: &Subject<'_>) -> Result<Option<(String, String)>, PgError> {
    let version = subject.database.row.get("datcollversion").and_then(|v| v.as_str()).map(str::to_owned);
    let Some(version) = version else { return Ok(None) };
    let sql = "SELECT pg_database_collation_actual_version($1::oid)";
    let actual: Option<String> =
        subject.session.one("reading the collation's version", sql, &[&subject.database.oid]).await?.get(0);
    let differs = actual.as_ref() != Some(&version);
    Ok(differs.then(|| {
        (
            format!("its collation is of version {version}, the server's is {}", actual.as_deref().unwrap_or("of none")),
            format!(
                "rebuild its indexes on text, then ALTER DATABASE {} REFRESH COLLATION VERSION;",
                ident(&subject.database.name)
            ),
        )
    }))
}

async fn by_backup(subject: &Subject<'_>, repository: bool, why: &str, checks: &mut Checks<'_>) -> Result<(), PgError> {
    if !repository {
        checks.fail("undo point", format!("a second backup, because {why}; that needs a repository: add spec.backups"));
        return Ok(());
    }
    let owner = &subject.database.owner;
    let rows = subject.session.query("reading the owners", FOREIGN_OWNERS, &[&subject.database.oid, owner]).await?;
    let mends: Vec<String> =
        rows.iter().map(|row| format!("GRANT {} TO {};", ident(&row.get::<_, String>(0)), ident(owner))).collect();
    if !mends.is_empty() && !subject.superuser {
        checks.fail(
            "undo point",
            format!(
                "a second backup, because {why}; but objects belong to roles that {owner} cannot become, so they could not be given \
                 back: {}",
                mends.join(" ")
            ),
        );
        return Ok(());
    }
    checks.pass(
        "undo point",
        format!(
            "a second backup under the lock, because {why}: only what changes meanwhile is stored, reading takes as long as the first, \
             and undoing takes a restore"
        ),
    );
    Ok(())
}
