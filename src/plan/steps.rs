//! The steps of a promotion, in order: their names, and the phase in which each is done.

use super::{maintenance, millis, modules, world::Run};
use crate::api::{EnvironmentRef, EnvironmentSpec, Module, Phase, Release, Step, StepState, Timestamp, WorkloadKind};

/// Names of steps. Steps of a module or a check carry its name after a slash.
pub mod name {
    /// The environment becomes a mirror of another, by a DownAlignment.
    pub const ALIGN: &str = "align";
    /// Everything is checked once more.
    pub const PREFLIGHT: &str = "preflight";
    /// A backup, and its proof.
    pub const BACKUP: &str = "backup";
    /// A DownAlignment: the source's data goes into the exchange, masked.
    pub const SNAPSHOT: &str = "snapshot";
    /// A DownAlignment: the target's side can open what was handed over.
    pub const RECEIVE: &str = "receive";
    /// The maintenance page's pod starts; nobody is led to it yet.
    pub const PAGE: &str = "page";
    /// The lock is taken.
    pub const LOCK: &str = "lock";
    /// What a rollback needs is recorded.
    pub const RECORD: &str = "record";
    /// Integrations stand still.
    pub const PAUSE: &str = "pause";
    /// Services lead to the page.
    pub const CLOSE: &str = "close";
    /// Workloads stop.
    pub const STOP: &str = "stop";
    /// The databases are closed.
    pub const FENCE: &str = "fence";
    /// The undo points are made.
    pub const UNDO: &str = "undo";
    /// A restore or a DownAlignment: the data is loaded beside the live database, compared, and swapped in.
    pub const LOAD: &str = "load";
    /// A module's configuration is delivered.
    pub const CONFIGURATION: &str = "configuration";
    /// A module's migration runs.
    pub const MIGRATION: &str = "migration";
    /// Migrations with a role of their own are over: the application's role may connect again, before its workloads start.
    pub const ADMIT: &str = "admit";
    /// A module's workloads are delivered and start.
    pub const WORKLOADS: &str = "workloads";
    /// Workloads that went down but belong to no promoted module start again.
    pub const OTHERS: &str = "others";
    /// A check of the environment.
    pub const VERIFY: &str = "verify";
    /// The databases are given back.
    pub const RELEASE: &str = "release-data";
    /// Services lead to the workloads again.
    pub const OPEN: &str = "open";
    /// Integrations and CronJobs go on as they were found.
    pub const RESUME: &str = "resume";
    /// The lock is given back.
    pub const UNLOCK: &str = "unlock";
    /// The page and all that was made for the run go.
    pub const TIDY: &str = "tidy";
    /// Rollback: the workloads stop.
    pub const BACK_STOP: &str = "rollback-stop";
    /// Rollback: the undo points are swapped in.
    pub const BACK_DATA: &str = "rollback-data";
    /// Rollback: configuration is put back.
    pub const BACK_CONFIGURATION: &str = "rollback-configuration";
    /// Rollback: the earlier workloads start.
    pub const BACK_WORKLOADS: &str = "rollback-workloads";
    /// Rollback: the databases are given back.
    pub const BACK_RELEASE: &str = "rollback-release-data";
    /// Rollback: Services lead to the workloads again.
    pub const BACK_OPEN: &str = "rollback-open";
    /// Rollback: integrations and CronJobs go on as they were found.
    pub const BACK_RESUME: &str = "rollback-resume";
    /// Rollback: the lock is given back.
    pub const BACK_UNLOCK: &str = "rollback-unlock";
    /// Rollback: all that was made for the run goes.
    pub const BACK_TIDY: &str = "rollback-tidy";
    /// Giving up: Jobs of the run that still work are ended.
    pub const GIVE_UP_JOBS: &str = "give-up-jobs";
    /// Giving up: Services lead to the workloads again.
    pub const GIVE_UP_OPEN: &str = "give-up-open";
    /// Giving up: the lock is given back.
    pub const GIVE_UP_UNLOCK: &str = "give-up-unlock";
    /// Giving up: the page goes, and all that was made for the run but the copies of the earlier configuration.
    pub const GIVE_UP_TIDY: &str = "give-up-tidy";
}

/// The step's kind: what stands before the slash.
pub fn kind(step: &str) -> &str {
    step.split('/').next().unwrap_or(step)
}

/// What stands after the slash: the module or the check.
pub fn subject(step: &str) -> &str {
    step.split_once('/').map_or("", |(_, s)| s)
}

/// The phase in which a step of this run is done. A restore makes no backup: until it locks it is Validated.
pub fn phase_of(run: Run<'_>, step: &str) -> Phase {
    match (run, phase(step)) {
        (Run::Restore(_), Phase::BackingUp) => Phase::Validated,
        (Run::Alignment(_), Phase::BackingUp) => Phase::Snapshotting,
        (Run::Restore(_) | Run::Alignment(_), Phase::Promoting) => Phase::Loading,
        (_, phase) => phase,
    }
}

/// The phase in which a step of a promotion is done.
pub fn phase(step: &str) -> Phase {
    match kind(step) {
        name::ALIGN => Phase::Aligning,
        name::PREFLIGHT | name::BACKUP | name::PAGE => Phase::BackingUp,
        name::SNAPSHOT | name::RECEIVE => Phase::Snapshotting,
        name::LOCK | name::RECORD | name::PAUSE | name::CLOSE | name::STOP | name::FENCE | name::UNDO => Phase::Locked,
        name::CONFIGURATION | name::MIGRATION | name::ADMIT | name::WORKLOADS | name::OTHERS => Phase::Promoting,
        name::LOAD => Phase::Loading,
        name::VERIFY | name::RELEASE | name::OPEN | name::RESUME | name::UNLOCK | name::TIDY => Phase::Verifying,
        name::GIVE_UP_JOBS | name::GIVE_UP_OPEN | name::GIVE_UP_UNLOCK | name::GIVE_UP_TIDY => Phase::NeedsHuman,
        _ => Phase::RollingBack,
    }
}

/// The steps of a promotion of this release into this environment, in order.
pub fn forward(target: &EnvironmentSpec, release: &Release) -> Vec<String> {
    let with_data = !target.data.is_empty();
    let mut out = Vec::new();
    if aligned_from(target).is_some() {
        out.push(name::ALIGN.to_owned());
    }
    out.push(name::PREFLIGHT.to_owned());
    if with_data {
        out.push(name::BACKUP.into());
    }
    out.extend([name::PAGE, name::LOCK].map(String::from));
    let pauses = !target.maintenance.pause.is_empty();
    if pauses {
        out.push(name::PAUSE.into());
    }
    // The record is made while the Services' new endpoints come into use, which takes a second in any case.
    out.extend([name::CLOSE, name::RECORD, name::STOP].map(String::from));
    if with_data {
        out.extend([name::FENCE, name::UNDO].map(String::from));
    }
    // An order that does not exist is refused before a run gets here.
    let modules = modules::in_order(target).unwrap_or_else(|_| target.modules.iter().collect());
    let promoted = |name: &str| release.modules.iter().any(|r| r.name == name);
    let needed = modules::required(target, &promoted);
    for module in modules {
        // One that is not promoted starts again where a promoted one needs it, as it was found.
        if !promoted(&module.name) {
            if needed.contains(&*module.name) {
                out.push(format!("{}/{}", name::WORKLOADS, module.name));
            }
            continue;
        }
        if !module.configuration.is_empty() {
            out.push(format!("{}/{}", name::CONFIGURATION, module.name));
        }
        if module.migration.is_some() {
            out.push(format!("{}/{}", name::MIGRATION, module.name));
        }
        out.push(format!("{}/{}", name::WORKLOADS, module.name));
    }
    if target.modules.iter().any(|m| !promoted(&m.name) && !needed.contains(&*m.name)) {
        out.push(name::OTHERS.into());
    }
    let own_role = |m: &Module| m.migration.as_ref().is_some_and(|m| m.connection_secret.is_some());
    if with_data && target.modules.iter().any(|m| promoted(&m.name) && own_role(m)) {
        let first = out.iter().position(|s| matches!(kind(s), name::WORKLOADS | name::OTHERS)).unwrap_or(out.len());
        out.insert(first, name::ADMIT.into());
    }
    out.extend(target.verification.iter().map(|v| format!("{}/{}", name::VERIFY, v.name)));
    if with_data {
        out.push(name::RELEASE.into());
    }
    out.push(name::OPEN.into());
    if pauses || maintenance::workloads_down(target).iter().any(|w| w.kind == WorkloadKind::CronJob) {
        out.push(name::RESUME.into());
    }
    out.extend([name::UNLOCK, name::TIDY].map(String::from));
    out
}

/// The environment that this one becomes a mirror of before each promotion.
pub fn aligned_from(target: &EnvironmentSpec) -> Option<&EnvironmentRef> {
    target.align_before_promotion.as_ref()?.from.as_ref()
}

/// The steps of a restore that brings this release with it (none: no module), in order. There is no undo step: loading swaps
/// today's database aside, whole, and that is the undo point.
pub fn restoring(target: &EnvironmentSpec, release: &Release) -> Vec<String> {
    let all = forward(target, release)
        .into_iter()
        .filter(|step| !matches!(kind(step), name::ALIGN | name::BACKUP | name::MIGRATION | name::ADMIT));
    all.map(|step| if step == name::UNDO { name::LOAD.to_owned() } else { step }).collect()
}

/// The steps of a DownAlignment that brings this release (none: no module), in order. As a restore's; its data comes from the
/// source, masked, while users still work. Without data none is fenced.
pub fn aligning(target: &EnvironmentSpec, release: &Release, with_data: bool) -> Vec<String> {
    let data = [name::LOAD, name::FENCE, name::RELEASE];
    let mut all = restoring(target, release);
    all.retain(|step| with_data || !data.contains(&kind(step)));
    if with_data {
        let after = all.iter().position(|s| s == name::PREFLIGHT).map_or(0, |at| at + 1);
        all.splice(after..after, [name::SNAPSHOT, name::RECEIVE].map(String::from));
    }
    all
}

/// The steps that put back what the steps so far may have changed. A step that never began needs no undoing, and without a
/// lock there is nothing to put back at all.
pub fn backward(steps: &[Step]) -> Vec<String> {
    let began = |kind_: &str| steps.iter().any(|s| kind(&s.name) == kind_ && s.state != StepState::Pending);
    let mut out = Vec::new();
    if began(name::STOP) {
        out.push(name::BACK_STOP);
    }
    if began(name::FENCE) {
        out.push(name::BACK_DATA);
    }
    if began(name::CONFIGURATION) {
        out.push(name::BACK_CONFIGURATION);
    }
    // The database before the workloads: where nothing had to be swapped it is still closed, and they do not start without
    // it. What is in it is final by now, and users still see the page.
    if began(name::FENCE) {
        out.push(name::BACK_RELEASE);
    }
    if began(name::STOP) {
        out.push(name::BACK_WORKLOADS);
    }
    if began(name::CLOSE) {
        out.push(name::BACK_OPEN);
    }
    if steps.iter().any(|s| kind(&s.name) == name::RESUME) && (began(name::PAUSE) || began(name::STOP)) {
        out.push(name::BACK_RESUME);
    }
    out.extend([name::BACK_UNLOCK, name::BACK_TIDY]);
    out.into_iter().map(String::from).collect()
}

/// The steps of giving a rollback up.
pub fn give_up() -> Vec<String> {
    [name::GIVE_UP_JOBS, name::GIVE_UP_OPEN, name::GIVE_UP_UNLOCK, name::GIVE_UP_TIDY].map(String::from).into()
}

/// Steps not begun, from their names.
pub fn pending(names: &[String]) -> Vec<Step> {
    names.iter().map(|n| Step { name: n.clone(), ..Step::default() }).collect()
}

/// The first step that is not over.
pub fn current(steps: &[Step]) -> Option<&Step> {
    steps.iter().find(|s| matches!(s.state, StepState::Pending | StepState::Running))
}

/// Marks a step as begun.
pub fn begin(steps: &mut [Step], name: &str, now: Timestamp) {
    if let Some(step) = steps.iter_mut().find(|s| s.name == name) {
        step.state = StepState::Running;
        step.started_at.get_or_insert(millis(now));
    }
}

/// Marks a step as over.
pub fn end(steps: &mut [Step], name: &str, state: StepState, message: Option<String>, now: Timestamp) {
    if let Some(step) = steps.iter_mut().find(|s| s.name == name) {
        step.state = state;
        step.finished_at = Some(millis(now));
        step.message = message.map(|m| m.chars().take(4000).collect());
    }
}
