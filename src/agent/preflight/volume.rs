//! Whether a volume can be read, and put back as it is, by the user of this pod; and whether what comes back fits.

use super::{Checks, mebibytes};
use crate::{
    agent::{
        Context, backup,
        error::{AgentError, OfData},
        volumes,
    },
    data::{
        repository,
        volume::survey::{Survey, closed, owners, survey},
    },
    manifest::task::{BackupOutcome, Outcome},
};

/// Checks the task's volumes. Gives their size.
pub async fn check(context: &Context<'_>, outcome: &mut Outcome) -> Result<i64, AgentError> {
    let mut size = 0;
    for data in context.volumes() {
        let mut checks = Checks { data: &data, list: &mut outcome.checks };
        let (root, stop) = (context.paths.volumes.join(&data), context.stop.clone());
        let surveyed = tokio::task::spawn_blocking(move || survey(&root, &stop)).await;
        let Survey { entries, bytes, problems } = match surveyed.map(|s| s.of(&data)) {
            Ok(Ok(survey)) => survey,
            Ok(Err(AgentError::Stopped(stopped))) => return Err(stopped.into()),
            Ok(Err(error)) => {
                checks.fail("files", error.to_string());
                continue;
            }
            Err(_) => {
                checks.fail("files", "looking at them failed; see the log of the Job");
                continue;
            }
        };
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        size += bytes;
        let mib = mebibytes(bytes);
        checks.judge("files", problems, &format!("{entries} entries, {mib} MiB, can be read and put back"));
        checks.pass(
            "undo point",
            format!(
                "a second backup under the lock, because a volume is not cloned: only what changes meanwhile is stored, reading {mib} MiB takes \
                 as long as the first, and undoing puts back what differs"
            ),
        );
    }
    Ok(size)
}

/// Of a restore: whether the files that come back fit into the volume, and may be written there.
pub fn fits(context: &Context<'_>, found: &BackupOutcome, outcome: &mut Outcome) {
    for data in context.volumes() {
        let root = context.paths.volumes.join(&data);
        let Some(content) = found.contents.iter().find(|c| c.data == data) else { continue };
        let mut checks = Checks { data: &data, list: &mut outcome.checks };
        match closed(&root) {
            Ok(None) => {}
            Ok(Some(why)) => checks.fail("files", why),
            Err(error) => checks.fail("files", error.to_string()),
        }
        let Some(whole) = repository::total_bytes(&root).and_then(|b| i64::try_from(b).ok()) else { continue };
        let (needed, there) = (mebibytes(content.bytes), mebibytes(whole));
        if content.bytes > whole {
            let mend = "make its claim larger";
            checks.fail("space", format!("what comes back takes {needed} MiB, and the volume has {there} MiB in all: {mend}"));
        } else {
            checks.pass("space", format!("what comes back takes {needed} MiB of {there} MiB"));
        }
    }
}

/// Of files from another environment: whether this pod's user may give them to whom they belong.
pub async fn can_be_given(context: &Context<'_>, found: &BackupOutcome, outcome: &mut Outcome) -> Result<(), AgentError> {
    if context.task.volumes.is_empty() {
        return Ok(());
    }
    let (repository, id) = (backup::open(context).await?, found.snapshot.clone());
    let reader = backup::blocking(move || repository.reader(&id)).await?;
    for data in context.volumes() {
        let (inner, place, stop) = (reader.clone(), volumes::place(&data), context.stop.clone());
        let problems = volumes::on_files(&data, move || owners(&inner, &place, &stop)).await?;
        let mut checks = Checks { data: &data, list: &mut outcome.checks };
        checks.judge("owners", problems, "the files that come can be given to their owners");
    }
    Ok(())
}
