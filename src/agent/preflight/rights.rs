//! What the admin role must be allowed to do, with the SQL that allows it.

use super::{Checks, Subject};
use crate::data::postgres::{PgError, catalog, quote::ident};

/// Checks the rights. Whether the role is a member of the owner, without which nothing further can be looked at.
pub async fn check(subject: &Subject<'_>, checks: &mut Checks<'_>) -> Result<bool, PgError> {
    let member = roles(subject, checks).await?;
    if member {
        settings(subject, checks).await?;
    }
    Ok(member)
}

async fn roles(subject: &Subject<'_>, checks: &mut Checks<'_>) -> Result<bool, PgError> {
    let (admin, owner) = (&subject.access.admin.user, &subject.database.owner);
    // Before 16, who is a member may also become the role.
    let become_it = if subject.major >= 16 { "SET" } else { "MEMBER" };
    let row = subject
        .session
        .one(
            "reading the rights of the admin role",
            "SELECT rolcreatedb OR rolsuper, pg_has_role(current_user, $1::oid, 'USAGE'), pg_has_role(current_user, $1::oid, $2), \
                    pg_has_role(current_user, 'pg_signal_backend', 'USAGE'), pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') \
             FROM pg_roles WHERE rolname = current_user",
            &[&owner_oid(subject).await?, &become_it],
        )
        .await?;
    let (createdb, inherits, becomes, signals, sees): (bool, bool, bool, bool, bool) =
        (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
    let mut wrong = Vec::new();
    if !inherits || !becomes {
        let options = if subject.major >= 16 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
        let inherit = if subject.major >= 16 { String::new() } else { format!(" ALTER ROLE {} INHERIT;", ident(admin)) };
        wrong.push(format!(
            "role {admin} is no member of the owner {owner}: GRANT {} TO {}{options};{inherit}",
            ident(owner),
            ident(admin)
        ));
    }
    if !createdb {
        wrong.push(format!("role {admin} may not make databases: ALTER ROLE {} CREATEDB;", ident(admin)));
    }
    for (has, right, what) in [
        (signals, "pg_signal_backend", "may not end sessions of other roles"),
        (sees, "pg_read_all_stats", "does not see sessions of other roles"),
    ] {
        if !has {
            wrong.push(format!("role {admin} {what}: GRANT {right} TO {};", ident(admin)));
        }
    }
    if let Some(space) = subject.database.tablespace() {
        let sql = "SELECT has_tablespace_privilege($1, 'CREATE')";
        if !subject.session.one("reading the rights on the tablespace", sql, &[&space]).await?.get::<_, bool>(0) {
            wrong.push(format!(
                "role {admin} may not make databases in tablespace {space}, where database {} is: GRANT CREATE ON TABLESPACE {} TO {};",
                subject.database.name,
                ident(space),
                ident(admin)
            ));
        }
    }
    checks.judge("rights", wrong, &format!("role {admin} may fence, clone and swap"));
    Ok(inherits && becomes)
}

async fn owner_oid(subject: &Subject<'_>) -> Result<u32, PgError> {
    let sql = "SELECT datdba FROM pg_database WHERE oid = $1";
    Ok(subject.session.one("reading the owner", sql, &[&subject.database.oid]).await?.get(0))
}

/// Tries each setting of the database in a transaction that is given up: the one honest way to know whether the role could
/// put it back.
async fn settings(subject: &Subject<'_>, checks: &mut Checks<'_>) -> Result<(), PgError> {
    let (name, admin) = (&subject.database.name, &subject.access.admin.user);
    let Some(found) = catalog::found(&subject.session, name).await? else { return Ok(()) };
    let mut wrong = Vec::new();
    for of_role in &found.settings {
        for setting in &of_role.settings {
            let parameter = setting.split('=').next().unwrap_or_default();
            let statement = catalog::set_statement(name, of_role.role.as_deref(), setting);
            subject.session.run("trying a setting", "BEGIN").await?;
            let tried = subject.session.run("trying a setting", &statement).await;
            subject.session.run("trying a setting", "ROLLBACK").await?;
            match (tried, &of_role.role) {
                (Ok(()), _) => {}
                (Err(PgError::Stopped(stopped)), _) => return Err(stopped.into()),
                (Err(error), None) => wrong.push(format!(
                    "setting {parameter} of the database cannot be put back by role {admin} (SQLSTATE {}): {} or ALTER DATABASE {} RESET {parameter};",
                    error.code().unwrap_or("unknown"),
                    grant_set(subject.major, parameter, admin),
                    ident(name),
                )),
                // What makes a role's objects the owner's, as a migration's: anyone may set it so who can be that role.
                (Err(_), Some(role)) if parameter == "role" => wrong.push(format!(
                    "setting role of role {role} in the database cannot be put back by role {admin}: GRANT {} TO {};",
                    ident(role),
                    ident(admin)
                )),
                (Err(error), Some(role)) => wrong.push(format!(
                    "setting {parameter} of role {role} in the database cannot be put back by role {admin} (SQLSTATE {}): \
                     GRANT {} TO {}; {} or ALTER ROLE {} IN DATABASE {} RESET {parameter};",
                    error.code().unwrap_or("unknown"),
                    ident(role),
                    ident(admin),
                    grant_set(subject.major, parameter, role),
                    ident(role),
                    ident(name),
                )),
            }
        }
    }
    checks.judge("settings", wrong, "every setting of the database can be put back");
    Ok(())
}

/// Servers from 15 on can allow a role one parameter.
fn grant_set(major: u32, parameter: &str, role: &str) -> String {
    if major >= 15 {
        format!("GRANT SET ON PARAMETER {parameter} TO {};", ident(role))
    } else {
        "make it a superuser's role;".into()
    }
}
