//! That a database belongs to one Environment. Two that name it, perhaps by different names of one server, would lock out
//! each other's users and undo each other's data.
//!
//! Each Environment says on its control database, in the comment, which databases are its data: the server is the one place
//! that both see, whatever they call it. Who comes first has the claim; who comes second is refused and claims nothing. A
//! claim counts where the role that made it has power over the database, so that nobody stands in the way of others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Checks;
use crate::{
    agent::{
        Context,
        error::{AgentError, OfData},
    },
    data::postgres::{
        Access, Pace, Session,
        control::Control,
        quote::{control_database, ident, literal},
    },
};

/// Control databases of other Environments whose role has power over a database.
const OTHERS: &str = "SELECT c.datname::text, shobj_description(c.oid, 'pg_database') FROM pg_database c, pg_database d \
    WHERE starts_with(c.datname, 'lockkeeper_') AND c.datname <> $1 AND d.datname = $2 \
    AND pg_has_role(c.datdba, d.datdba, 'MEMBER') ORDER BY 1";

/// What a control database says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    /// Namespace and name of the Environment.
    environment: String,
    /// By name of the data: its database.
    data: BTreeMap<String, String>,
}

pub async fn check(context: &Context<'_>, access: &Access, control: &Control, checks: &mut Checks<'_>) -> Result<(), AgentError> {
    let (data, database) = (&*access.data, access.database());
    let own = control_database(&context.task.environment);
    let rows = control.session.query("reading what other Environments claim", OTHERS, &[&own, &database]).await.of(data)?;
    for row in rows {
        let (place, text): (String, Option<String>) = (row.get(0), row.get(1));
        let claim: Claim = text.and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default();
        let Some((theirs, _)) = claim.data.iter().find(|(_, name)| *name == database) else { continue };
        let (server, named) = (access.admin.server(), &claim.environment);
        if *named != context.task.environment_name {
            checks.fail(
                "database",
                format!(
                    "{server}: database {database} is data {theirs} of Environment {named}: two Environments on one database would lock \
                     out each other's users, so name another database in the Secret of one of the two. If that Environment is gone: \
                     DROP DATABASE {};",
                    ident(&place)
                ),
            );
            return Ok(());
        }
        if let Some(state) = held(context, access, &place, theirs).await {
            checks.fail(
                "database",
                format!(
                    "{server}: Environment {named} was made again while a run held its database {database} ({state} in {place}): put the \
                     database back (README.md, \"Going on by hand\"), then DROP DATABASE {};",
                    ident(&place)
                ),
            );
            return Ok(());
        }
    }
    say(context, data, database, control).await
}

/// The state of a data in an earlier life of this Environment, where a run left it held.
async fn held(context: &Context<'_>, access: &Access, place: &str, data: &str) -> Option<String> {
    let session = Session::open(&access.admin, place, Pace::Short, &context.stop).await.ok()?;
    let sql = "SELECT state FROM public.fence WHERE data = $1 AND holder IS NOT NULL";
    let row = session.maybe("reading an earlier life's row", sql, &[&data]).await.ok()??;
    Some(row.get(0))
}

/// Writes the claim where it is not there yet.
async fn say(context: &Context<'_>, data: &str, database: &str, control: &Control) -> Result<(), AgentError> {
    let sql = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()";
    let text: Option<String> = control.session.one("reading the claim", sql, &[]).await.of(data)?.get(0);
    let known: Claim = text.and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default();
    let mut wanted = Claim { environment: context.task.environment_name.clone(), data: known.data.clone() };
    wanted.data.retain(|name, _| context.task.data.iter().any(|d| d.name == *name));
    wanted.data.insert(data.to_owned(), database.to_owned());
    if wanted == known {
        return Ok(());
    }
    let text = serde_json::to_string(&wanted).unwrap_or_default();
    let own = ident(&control_database(&context.task.environment));
    control.session.run("writing the claim", &format!("COMMENT ON DATABASE {own} IS {}", literal(&text))).await.of(data)
}
