//! What is asked of the data for a masking policy: whether it names all columns, and what it could say of them.

use std::{collections::BTreeMap, fs};

use super::{
    Context,
    error::{AgentError, OfData, files},
    scratch::Scratch,
    snapshot::found_in,
    wide,
};
use crate::{
    api::{MaskingPolicySpec, Timestamp},
    data::{
        mask::{self, draft, draft::Samples},
        postgres::{
            Access, Pace, PgError, Session,
            catalog::major,
            copy,
            quote::ident,
            tables::{self, Table},
            tools::{Definitions, Tools},
        },
        stop::Stopped,
    },
    manifest::task::{Outcome, POLICY_FILE},
};

/// What goes before each line that is meant for a person, so that it is told from the log.
pub const SAID: &str = "| ";
/// So many problems are in the outcome; all are in the log.
const NAMED: usize = 8;
/// So many rows of a table are looked at.
const SAMPLE: usize = 200;

fn say(text: &str) {
    use std::io::Write;
    for line in text.lines() {
        let _ = writeln!(std::io::stdout(), "{SAID}{line}");
    }
}

/// The policy that is mounted.
pub fn policy(context: &Context<'_>) -> Result<MaskingPolicySpec, AgentError> {
    let path = context.paths.policy.join(POLICY_FILE);
    let doing = format!("reading the masking policy at {}", path.display());
    let text = fs::read_to_string(&path).map_err(files(&doing))?;
    serde_json::from_str(&text).map_err(|error| AgentError::Task(format!("{doing}: {error}")))
}

async fn catalog(context: &Context<'_>, access: &Access) -> Result<(Session, Vec<Table>), AgentError> {
    let session = Session::open(&access.admin, access.database(), Pace::Short, &context.stop).await.of(&access.data)?;
    let tables = tables::read(&session).await.of(&access.data)?;
    Ok((session, tables))
}

/// Holds the policy against the catalog of each data of the task that it names, and looks through its definitions as each run does.
pub async fn classify(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    let policy = policy(context)?;
    // Which substitutes there will be does not matter here; that they fit does.
    let key = mask::Key::random().map_err(AgentError::Refused)?;
    let scratch = Scratch::new(&context.paths.scratch, "classify")?;
    for access in context.accesses()? {
        let Some(data) = policy.data.iter().find(|d| *d.name == *access.data) else { continue };
        let (session, tables) = catalog(context, &access).await?;
        let coverage = mask::coverage(data, &tables);
        let mut problems: Vec<String> = match mask::compile(data, &tables, &key) {
            Ok(masking) => wide::rows(context, &access, &tables, &masking).await?,
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        };
        // What the definitions say leaves too.
        let tools = Tools::find(major(&session).await.of(&access.data)?).await.of(&access.data)?;
        let (place, archive) = ((&access.admin, access.database(), None), scratch.path().join(format!("{}.dump", access.data)));
        let defined = copy::define(&tools, place, Definitions::Bare, archive, &context.stop).await.of(&access.data)?;
        problems.extend(found_in(&defined).into_iter().map(|found| format!("data {}, definitions: {found}", access.data)));
        say(&format!("data {}: {} of {} columns are named", coverage.data, coverage.classified, coverage.columns));
        for problem in &problems {
            say(problem);
        }
        outcome.coverage.push(coverage);
        outcome.notes.extend(problems.iter().take(NAMED).cloned());
        if problems.len() > NAMED {
            outcome.notes.push(format!("data {}: … and {} more; see the log of the Job", access.data, problems.len() - NAMED));
        }
    }
    Ok(())
}

/// Proposes a policy for the data of the task, on stdout.
pub async fn draft(context: &Context<'_>) -> Result<(), AgentError> {
    let locale = context.task.locale.unwrap_or_default();
    let (namespace, name) = context.task.environment_name.split_once('/').unwrap_or_default();
    say(&draft::head(namespace, name, &Timestamp::now().strftime("%Y-%m-%d").to_string()));
    for access in context.accesses()? {
        let (session, tables) = catalog(context, &access).await?;
        let labels = labels(&session).await.of(&access.data)?;
        let mut samples = Samples::new();
        for table in tables.iter().filter(|t| t.kind.has_rows()) {
            if context.stop.is_asked() {
                return Err(AgentError::Stopped(Stopped));
            }
            // A table that cannot be read, or is locked for long, is drafted by its names alone.
            match sample(&session, table).await {
                Ok(seen) => samples.extend(seen),
                Err(error) => tracing::warn!(table = table.full_name(), %error, "no sample"),
            }
        }
        say(&draft::data(&access.data, &tables, &samples, &labels, locale));
    }
    Ok(())
}

/// The rules of PostgreSQL Anonymizer, where the database has any: by table and column.
async fn labels(session: &Session) -> Result<BTreeMap<(u32, String), String>, PgError> {
    let sql = "SELECT s.objoid, a.attname::text, s.label FROM pg_seclabel s \
        JOIN pg_attribute a ON a.attrelid = s.objoid AND a.attnum = s.objsubid \
        WHERE s.classoid = 'pg_class'::regclass AND s.provider = 'anon'";
    let rows = session.query("reading security labels", sql, &[]).await?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
}

/// Values of a table's columns. They are looked at, and never written anywhere.
async fn sample(session: &Session, table: &Table) -> Result<Samples, PgError> {
    let columns: Vec<_> = table.columns.iter().filter(|c| draft::is_sampled(c)).collect();
    if columns.is_empty() {
        return Ok(Samples::new());
    }
    // Large values are cut: what they are shows at their beginning. JSON is not, or it would be none.
    let list: Vec<String> = columns
        .iter()
        .map(|c| {
            let name = ident(&c.name);
            if matches!(c.base_type.as_str(), "json" | "jsonb") {
                format!("CASE WHEN octet_length({name}::text) <= 16384 THEN {name}::text END")
            } else {
                format!("left({name}::text, 200)")
            }
        })
        .collect();
    let sql = format!("SELECT {} FROM ONLY {}.{} LIMIT {SAMPLE}", list.join(", "), ident(&table.schema), ident(&table.name));
    let rows = session.query("reading a sample of a table", &sql, &[]).await?;
    let mut out = Samples::new();
    for (at, column) in columns.iter().enumerate() {
        let values = rows.iter().filter_map(|row| row.get::<_, Option<String>>(at)).filter(|v| !v.is_empty()).collect();
        out.insert((table.oid, column.name.clone()), values);
    }
    Ok(out)
}
