//! Masks data into the exchange, in the namespace that owns it. As [`super::backup`], with a policy between the rows and the
//! repository: nothing is written before the policy has been held against the whole catalog. Where the owner of the data lets a
//! young one serve again, no row is read.

use std::{fs, time::Duration};

use super::{
    Context,
    backup::{self, Manifest, Masked, blocking},
    error::{AgentError, OfData},
    masking,
};
use crate::{
    api::{Coverage, MaskingPolicySpec, Timestamp},
    data::{
        mask::{self, Files, Key, Masking, files, screen as definitions},
        postgres::{
            Access, Pace, Session,
            catalog::Found,
            copy::{Defined, View},
            quote::ident,
            tables::Table,
        },
        repository::Repository,
    },
    manifest::task::Outcome,
    plan::retention::{self, Known},
};

/// So many reasons are named.
const NAMED: usize = 6;
/// So many masked snapshots are looked into for one that serves again.
const LOOKED_INTO: usize = 16;

/// A policy with its key.
pub struct Policy {
    spec: MaskingPolicySpec,
    key: Key,
}

impl Policy {
    /// The one that is mounted, if it is the one that was granted.
    fn read(context: &Context<'_>) -> Result<Self, AgentError> {
        let spec = masking::policy(context)?;
        let (hash, granted) = (mask::hash(&spec), context.task.masking_policy_hash.clone().unwrap_or_default());
        if hash != granted {
            return Err(AgentError::Refused(format!(
                "the masking policy that is mounted has the hash {hash}, and {granted} was granted: nothing leaves by another policy"
            )));
        }
        let key = match &spec.key_secret {
            None => Key::random(),
            Some(secret) => match fs::read(context.paths.masking_key.join("key")) {
                Ok(bytes) => Key::from_secret(&bytes).map_err(|why| format!("Secret {}: {why}", secret.name)),
                Err(_) => Err(format!("Secret {} has no key `key`: put the masking key there", secret.name)),
            },
        };
        Ok(Self { spec, key: key.map_err(AgentError::Refused)? })
    }

    /// What it makes of the rows of one data. All that is wrong with it is said before anything leaves.
    pub fn of(&self, data: &str, tables: &[Table]) -> Result<Masking, AgentError> {
        let Some(said) = self.spec.data.iter().find(|d| *d.name == *data) else {
            return Err(AgentError::Refused(format!(
                "the masking policy says nothing of data {data}: add it under spec.data (kubectl lockkeeper masking draft proposes it)"
            )));
        };
        if said.files.is_some() {
            return Err(AgentError::Refused(format!(
                "data {data} is a database, and the masking policy lists files of it: list its tables"
            )));
        }
        mask::compile(said, tables, &self.key).map_err(|problems| {
            let mut named: Vec<String> = problems.iter().take(NAMED).map(ToString::to_string).collect();
            if problems.len() > NAMED {
                named.push(format!("… and {} more (kubectl lockkeeper masking check lists them)", problems.len() - NAMED));
            }
            AgentError::Refused(format!("nothing has left. {}", named.join("; ")))
        })
    }
}

impl Policy {
    /// How much of a data's tables it names.
    pub fn coverage(&self, data: &str, tables: &[Table]) -> Option<Coverage> {
        self.spec.data.iter().find(|d| *d.name == *data).map(|said| mask::coverage(said, tables))
    }

    /// Which files of a volume it lets out.
    pub fn files(&self, data: &str) -> Result<Files, AgentError> {
        let said = self.spec.data.iter().find(|d| *d.name == *data).and_then(|d| d.files.as_ref());
        let Some(said) = said else {
            return Err(AgentError::Refused(format!(
                "nothing has left. The masking policy lists no files of data {data}; add {} to its spec",
                files::suggested(data)
            )));
        };
        let wrong =
            |problems: Vec<String>| AgentError::Refused(format!("nothing has left. data {data}: {}", problems.join("; ")));
        Files::new(said).map_err(wrong)
    }
}

pub async fn run(context: &Context<'_>, outcome: &mut Outcome) -> Result<(), AgentError> {
    let policy = Policy::read(context)?;
    for data in context.volumes() {
        policy.files(&data)?;
    }
    if serves_again(context, &policy, outcome).await? {
        return Ok(());
    }
    let Some(repository) = backup::once(context, Some(&policy), outcome).await? else { return Ok(()) };
    // What is too old goes; that it could not is no reason to give up what was written.
    if let Err(error) = forget_the_old(context, repository).await {
        outcome.notes.push(format!("masked snapshots that are too old could not be removed: {error}"));
    }
    Ok(())
}

/// Takes the newest masked snapshot that is young enough, and is what this task would write but for its age. What cannot be
/// read, or says less of itself, does not count. Whether there is one.
async fn serves_again(context: &Context<'_>, policy: &Policy, outcome: &mut Outcome) -> Result<bool, AgentError> {
    let task = context.task;
    let (Some(within), Some(wanted)) = (task.reuse_within_seconds, Masked::of(task)) else { return Ok(false) };
    // What nobody has classified by now stops the run as always, although nothing of it would leave.
    for access in context.accesses()? {
        let view = View::open(&access.admin, access.database(), &context.stop).await.of(&access.data)?;
        policy.of(&access.data, &view.tables)?;
    }
    let oldest = Timestamp::now().checked_sub(Duration::from_secs(within)).unwrap_or(Timestamp::MIN);
    let mut names: Vec<&str> = task.data.iter().map(|d| d.name.as_str()).collect();
    names.sort_unstable();
    let wanted_volumes = context.volumes();
    let fits = |m: &Manifest| {
        let same =
            |masked: &Masked| masked.policy == wanted.policy && masked.release.is_some() && masked.release == wanted.release;
        m.head.environment == task.environment && m.head.taken_at >= oldest && m.masked.as_ref().is_some_and(same)
    };
    let repository = backup::open(context).await?;
    let (repository, known) = blocking(move || {
        let known = repository.known()?;
        Ok((repository, known))
    })
    .await?;
    // Written after it was read, and so never older than what it holds.
    for (id, _) in known.into_iter().rev().filter(|(_, at)| *at >= oldest).take(LOOKED_INTO) {
        let Ok(found) = backup::found(repository.clone(), id).await else { continue };
        let here: Vec<&str> = found.manifests.iter().map(|m| m.head.data.as_str()).collect();
        let volumes: Vec<&str> = found.volumes.iter().map(|m| m.head.data.as_str()).collect();
        let young = found.volumes.iter().all(|m| m.head.environment == task.environment && m.head.taken_at >= oldest);
        if here != names || volumes != wanted_volumes || !young || !found.manifests.iter().all(fits) {
            continue;
        }
        let first = found.manifests.first().and_then(|m| Some((m.head.taken_at, m.masked.as_ref()?.made_for.clone())));
        if let Some((at, made_for)) = first {
            outcome.notes.push(format!("made for {made_for} of the data at {at}, and handed over again to {}", task.run_name));
        }
        outcome.backup = Some(backup::told(found));
        return Ok(true);
    }
    Ok(false)
}

async fn forget_the_old(context: &Context<'_>, repository: Repository) -> Result<(), AgentError> {
    let Some(policy) = context.task.retention.clone() else { return Ok(()) };
    let now = Timestamp::now();
    blocking(move || {
        let known = repository.known()?.into_iter().map(|(id, at)| Known { id, at, kept: false }).collect::<Vec<_>>();
        let gone = retention::beyond(&known, &policy, now);
        if gone.is_empty() { Ok(()) } else { repository.remove(&gone) }
    })
    .await
}

/// What of the definitions' text must not leave, in words. Nothing of what was found is in them.
pub fn found_in(defined: &Defined) -> Vec<String> {
    let of = |sql: &[u8]| definitions::findings(&String::from_utf8_lossy(sql));
    of(&defined.before).into_iter().chain(of(&defined.after)).map(|f| format!("{}: {}", f.statement, f.why)).collect()
}

/// That nothing must not leave.
pub fn screen(defined: &Defined) -> Result<(), String> {
    let found = found_in(defined);
    let named = found.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    if found.is_empty() { Ok(()) } else { Err(format!("nothing has left. In the definitions: {named}")) }
}

/// Whether an object of the definitions leaves with masked data.
pub fn leaves(object: &str) -> bool {
    !object.starts_with("publication ") && !object.ends_with(" large objects")
}

/// What is told of a database whose owner, grants and settings are nobody's business elsewhere.
pub fn nothing_found() -> Found {
    Found {
        owner: String::new(),
        allow_connections: true,
        connection_limit: -1,
        comment: None,
        grants: None,
        settings: Vec::new(),
    }
}

/// Lets the role of the application use what was loaded as the owner's. Where it is the owner, or a member of it, that says
/// nothing new.
pub async fn let_the_application_in(context: &Context<'_>, access: &Access, database: &str) -> Result<(), AgentError> {
    let data = &access.data;
    let session = Session::open(&access.admin, database, Pace::Long, &context.stop).await.of(data)?;
    let role = ident(&access.connection.user);
    let owner =
        "SELECT r.rolname::text FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE d.datname = current_database()";
    let owner: String = session.one("reading the owner", owner, &[]).await.of(data)?.get(0);
    if owner == access.connection.user {
        return Ok(());
    }
    let doing = "letting the application's role in";
    session.run(doing, &format!("SET ROLE {}", ident(&owner))).await.of(data)?;
    // What an extension made belongs to others, and is for everyone anyway.
    let ours = "SELECT format('GRANT USAGE, CREATE ON SCHEMA %I TO ', nspname) FROM pg_namespace \
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND pg_has_role(current_user, nspowner, 'USAGE') \
        UNION ALL SELECT format('GRANT ALL ON %s %I.%I TO ', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, n.nspname, c.relname) \
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
        AND pg_has_role(current_user, c.relowner, 'USAGE')";
    let grants: Vec<String> =
        session.query("reading what there is", ours, &[]).await.of(data)?.iter().map(|r| r.get::<_, String>(0) + &role).collect();
    for some in grants.chunks(200) {
        session.run(doing, &some.join("; ")).await.of(data)?;
    }
    // What a migration makes later is for the application too.
    for what in ["USAGE, CREATE ON SCHEMAS", "ALL ON TABLES", "ALL ON SEQUENCES"] {
        session.run(doing, &format!("ALTER DEFAULT PRIVILEGES GRANT {what} TO {role}")).await.of(data)?;
    }
    Ok(())
}
