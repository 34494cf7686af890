//! The roles that migrations have of their own: they must get in where everyone else is shut out, and leave behind what the
//! owner can use. Whoever owns the server makes each of them once; what is missing is said with the SQL.

use std::fs;

use super::{super::Context, Checks, Subject};
use crate::{
    data::postgres::{
        Pace, PgError, Session,
        catalog::{self, Found, Identity},
        quote::{ident, literal},
        secret::Endpoint,
    },
    manifest::task::{MIGRATIONS, MigrationTask},
};

/// Of a role and the database: whether it may log in; whether it is a superuser; whether it can become the owner; whether the
/// admin role can become it; who else has what it has.
const RIGHTS: &str = "SELECT r.rolcanlogin, r.rolsuper, pg_has_role(r.oid, d.datdba, $3), pg_has_role(current_user, r.oid, $3), \
    ARRAY(SELECT o.rolname::text FROM pg_roles o WHERE o.rolcanlogin AND NOT o.rolsuper AND o.oid <> r.oid \
      AND o.rolname <> current_user AND pg_has_role(o.oid, r.oid, 'USAGE') ORDER BY 1) \
    FROM pg_roles r, pg_database d WHERE r.rolname = $1 AND d.oid = $2";

pub async fn check(
    context: &Context<'_>,
    subject: &Subject<'_>,
    migrations: &[MigrationTask],
    identity: &Identity,
    checks: &mut Checks<'_>,
) -> Result<(), PgError> {
    let Some(found) = catalog::found(&subject.session, &subject.database.name).await? else { return Ok(()) };
    for migration in migrations {
        let topic = format!("migration role of Secret {}", migration.secret);
        let endpoint = match subject.access.migration(&context.paths.secrets, &migration.secret) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                checks.fail(&topic, error.to_string());
                continue;
            }
        };
        let mut wrong = keys(context, subject, migration);
        wrong.extend(rights(subject, &found, &endpoint).await?);
        if wrong.is_empty() {
            wrong.extend(connects(context, subject, &endpoint, identity).await?);
        }
        checks.judge(&topic, wrong, &format!("role {} works alone in the database while it migrates", endpoint.user));
    }
    Ok(())
}

/// The keys that the migration's pod would not start without.
fn keys(context: &Context<'_>, subject: &Subject<'_>, migration: &MigrationTask) -> Vec<String> {
    let directory = context.paths.secrets.join(&subject.access.data).join(MIGRATIONS).join(&migration.secret);
    let missing = migration.keys.iter().filter(|key| fs::metadata(directory.join(key)).is_err());
    missing.map(|key| format!("Secret {} has no key {key}, which the migration's container reads", migration.secret)).collect()
}

async fn rights(subject: &Subject<'_>, found: &Found, endpoint: &Endpoint) -> Result<Vec<String>, PgError> {
    let (role, owner, admin) = (&endpoint.user, &subject.database.owner, &subject.access.admin.user);
    let name = &subject.database.name;
    if [owner, admin, &subject.access.connection.user].contains(&role) {
        return Ok(vec![format!(
            "role {role} is the application's, the owner's or the admin's, so nobody would be shut out: a migration's role is its own"
        )]);
    }
    if *admin == subject.access.connection.user {
        // The admin role must be able to become the migration's, to put back what that is set to.
        return Ok(vec![format!(
            "role {admin} is the application's and the admin's at once, so it could not be shut out: give the data an adminSecret"
        )]);
    }
    let become_it = if subject.major >= 16 { "SET" } else { "MEMBER" };
    let row = subject.session.maybe("reading the migration's role", RIGHTS, &[role, &subject.database.oid, &become_it]).await?;
    let Some(row) = row else {
        return Ok(vec![format!("role {role} does not exist: CREATE ROLE {} LOGIN PASSWORD '…';", ident(role))]);
    };
    let (logs_in, superuser, owns, ours): (bool, bool, bool, bool) = (row.get(0), row.get(1), row.get(2), row.get(3));
    let others: Vec<String> = row.get(4);
    let mut wrong = Vec::new();
    if !logs_in {
        wrong.push(format!("role {role} cannot log in: ALTER ROLE {} LOGIN;", ident(role)));
    }
    if superuser {
        wrong.push(format!(
            "role {role} is a superuser, whose sessions nobody could end: ALTER ROLE {} NOSUPERUSER;",
            ident(role)
        ));
    }
    if !owns {
        wrong.push(format!("role {role} is no member of the owner {owner}: GRANT {} TO {};", ident(owner), ident(role)));
    }
    if !ours {
        wrong.push(format!(
            "role {admin} could not put back what role {role} is set to in the database: GRANT {} TO {};",
            ident(role),
            ident(admin)
        ));
    }
    let wanted = format!("role={owner}");
    let set = found.settings.iter().filter(|s| s.role.as_ref() == Some(role)).flat_map(|s| &s.settings).any(|s| *s == wanted);
    if !set {
        wrong.push(format!(
            "what role {role} makes would not belong to the owner {owner}: ALTER ROLE {} IN DATABASE {} SET role = {};",
            ident(role),
            ident(name),
            literal(owner)
        ));
    }
    for other in others {
        wrong.push(format!(
            "role {other} has the rights of role {role}, and would not be shut out: REVOKE {} FROM {};",
            ident(role),
            ident(&other)
        ));
    }
    Ok(wrong)
}

/// It must get in where the data is.
async fn connects(
    context: &Context<'_>,
    subject: &Subject<'_>,
    endpoint: &Endpoint,
    identity: &Identity,
) -> Result<Option<String>, PgError> {
    let name = &subject.database.name;
    if endpoint.database != *name {
        return Ok(Some(format!("it names database {}, and the data is in {name}: correct dbname", endpoint.database)));
    }
    match Session::open(endpoint, name, Pace::Short, &context.stop).await {
        Ok(session) if Identity::of(&session).await? == *identity => Ok(None),
        Ok(_) => Ok(Some(format!("it leads to {}, which is another server than the data's", endpoint.server()))),
        Err(PgError::Stopped(stopped)) => Err(stopped.into()),
        Err(error) => Ok(Some(error.to_string())),
    }
}
