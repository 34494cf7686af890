//! What a DownAlignment has of its own. Everything else it shares with a Promotion: slot, lock, page, checks, rollback.
//!
//! 1. **Scheduled**, **Validated**: both sides' consent is looked up: the target's `alignsFrom`, the source's `grants` with the
//!    hash of a MaskingPolicy, and that neither side is asked for what it never gives. The source's release is captured as a
//!    Promotion captures it. Nobody approves: what each side allows stands in its Environment.
//! 2. **Snapshotting**: preflight again; then a Job in the *source's* namespace, with the source's credentials and key, masks the
//!    data into the exchange, and one in the target's opens it there. Users of the target still work.
//! 3. **Locked**: as a Promotion, up to the fence.
//! 4. **Loading**: a Job in the *target's* namespace, with the target's credentials, loads the masked data beside the live database
//!    and compares it; then both change names in one transaction. What was live is the undo point. Configuration and images
//!    follow.
//! 5. **Verifying**, **RollingBack**: as a Promotion.
//!
//! Files of a volume go along where the policy lists patterns of their paths and the grant covers the volume; they are not masked,
//! and no other file leaves. From the snapshot on its own list of volumes counts: a rollback asks neither policy nor grant.
//!
//! Neither side's Jobs ever see the other's Secrets: each mounts its own, and the exchange by its own claim.

use std::{collections::BTreeSet, time::Duration};

use kube::ResourceExt;
use serde_json::json;

use super::{
    Decision, Effect, Progress, Resource, forward, graph,
    jobs::{JobProgress, look},
    lock,
    opening::{NotYet, Opening},
    preflight,
    prepare::{self, Plan, no_environment, policies_message},
    promotion::{ATTEMPTS, advance, owner, stalled},
    release::{self, Content, Reading},
    restore, steps, volumes,
    world::World,
};
use crate::{
    api::{
        API_VERSION, Data, DataGrant, DownAlignment, DownAlignmentSpec, Environment, EnvironmentSpec, Exchange, Grant, LocalRef,
        Module, Period, Phase, Release, RunStatus, SnapshotStatus, Step, Tier, Timestamp, labels, reasons,
    },
    data::mask::files,
    manifest::{
        Owner, job, masking,
        task::{Task, Verb},
        volume,
    },
};

/// How long masking may take.
const DEADLINE: Duration = Duration::from_secs(6 * 3600);

/// How long a look into the exchange may take, its volume's way to the node included.
const LOOK: Duration = Duration::from_secs(600);

/// What to do next, before the start.
pub fn plan(world: &World<'_>, mut status: RunStatus, now: Timestamp) -> Decision<RunStatus> {
    let Some(spec) = world.run.alignment() else { return Decision::Wait(None) };
    if !world.missing_policies.is_empty() {
        return stalled(world, "PoliciesMissing", &policies_message(world.missing_policies), now);
    }
    let invalid = |message: &str| stalled(world, reasons::INVALID, message, now);
    let Some(target) = world.target else {
        return invalid(&no_environment(world.run.environment(), world.run.namespace()));
    };
    if let Some(message) = graph::target_problem(world, target) {
        return invalid(&message);
    }
    if let Err(message) = consent(world) {
        return invalid(&message);
    }
    let Some(source) = world.source else { return Decision::Wait(None) };
    status.grant.get_or_insert(if world.requester_may_promote { Grant::ByName } else { Grant::ByGroup });
    if status.release.is_none() {
        let modules = match shared(spec, &source.spec, &target.spec) {
            Ok(modules) => modules,
            Err(message) => return invalid(&message),
        };
        let side = world.source_side;
        let release = match release::read(&spec.from.namespace, &source.spec, side, &modules, &[&target.spec], Reading::Exact) {
            Ok(release) => release,
            Err(message) => return stalled(world, "SourceNotReady", &message, now),
        };
        if let Some(message) = unlisted(world, &modules, &source.spec, &target.spec) {
            return invalid(&message);
        }
        if let Some(effect) = prepare::copy_configuration(world, owner(world), &modules) {
            return Decision::Perform(effect);
        }
        if let Err(message) = prepare::copies_agree(world, owner(world), &release) {
            return stalled(world, "SourceChanging", &message, now);
        }
        status.release = Some(release);
        status.preflight.clear();
        status.preflight_at = None;
        return advance(world, status, now);
    }
    let plan = match todays_plan(world, spec, target, &status) {
        Ok(plan) => plan,
        Err(message) => return invalid(&message),
    };
    if status.plan_hash.as_deref() != Some(&plan.hash) {
        let captured = status.release.clone().unwrap_or_default();
        let run = owner(world);
        let fresh = |_: &str, name: &str| prepare::copied(world, run, prepare::RELEASE, name).unwrap_or_default();
        let old = |module: &str, name: &str| {
            let keep = release::kept_keys(module, name, &[&target.spec, &source.spec]);
            world.target_side.config_map(name).map(|c| Content::of(c, &keep)).unwrap_or_default()
        };
        prepare::renew(&mut status, &plan, release::changelog(&captured, &plan.prior, &fresh, &old));
    }
    prepare::admit(world, status, &plan, now)
}

/// The plan from what was captured, what the grant says and what the target is now. `Err`: in words, why there is none.
pub fn todays_plan(
    world: &World<'_>,
    spec: &DownAlignmentSpec,
    target: &Environment,
    status: &RunStatus,
) -> Result<Plan, String> {
    let captured = status.release.as_ref().ok_or("the release is not captured yet")?;
    let chosen: Vec<&Module> =
        target.spec.modules.iter().filter(|m| captured.modules.iter().any(|r| r.name == *m.name)).collect();
    let prior = release::read(world.run.namespace(), &target.spec, world.target_side, &chosen, &[], Reading::Loose)?;
    let data = restore::data(world, &target.spec);
    let steps = steps::aligning(&target.spec, captured, !data.is_empty());
    let mut what = json!({
        "from": spec.from, "include": spec.include, "release": captured.hash, "schedule": spec.schedule,
        "maskingPolicy": world.policy.map(|p| &p.hash), "exchange": target.spec.exchange,
    });
    let files: Vec<&str> = data.iter().filter(|d| d.volume.is_some()).map(|d| &*d.name).collect();
    if !files.is_empty() {
        what["volumes"] = json!(files);
    }
    let hash = release::hash_of_plan(what, &prior, &steps, &target.spec, &chosen);
    Ok(Plan { hash, prior, steps })
}

/// The modules that come, as the source has them: those that both sides have.
fn shared<'a>(
    spec: &DownAlignmentSpec,
    source: &'a EnvironmentSpec,
    target: &EnvironmentSpec,
) -> Result<Vec<&'a Module>, String> {
    if !spec.include.configuration {
        return Ok(Vec::new());
    }
    let mut modules = Vec::new();
    for (to, from) in target.modules.iter().filter_map(|m| Some((m, source.module(&m.name)?))) {
        release::fits(from, to)?;
        modules.push(from);
    }
    if modules.is_empty() {
        return Err("source and target have no module in common: name them alike, or set include.configuration to false".into());
    }
    Ok(modules)
}

/// Both sides' consent, and that there is a way: `Err` says whose word is missing, and what he writes. Nothing to ask of a run
/// of another kind.
pub fn consent(world: &World<'_>) -> Result<(), String> {
    let (Some(spec), Some(target)) = (world.run.alignment(), world.target) else { return Ok(()) };
    let (namespace, name) = (world.run.namespace(), target.name_any());
    let from = format!("{}/{}", spec.from.namespace, spec.from.name);
    if target.spec.is_protected() {
        return Err(format!(
            "Environment {namespace}/{name} is protected: no other environment's data is ever put here. Align a lower environment"
        ));
    }
    if *spec.from.namespace == *namespace {
        return Err("the source is the environment itself: name another under spec.from".into());
    }
    if !target.spec.aligns_from.contains(&spec.from) {
        return Err(format!(
            "Environment {namespace}/{name} is not aligned with {from}: its owner adds {{namespace: {}, name: {}}} to spec.alignsFrom",
            spec.from.namespace, spec.from.name
        ));
    }
    let Some(source) = world.source else {
        return Err(format!("the source Environment {from} does not exist: apply it, or make another DownAlignment"));
    };
    if source.metadata.deletion_timestamp.is_some() {
        return Err(format!("the source Environment {from} is being deleted: apply it again once it is gone"));
    }
    if graph::is_above(target.spec.tier, source.spec.tier) {
        return Err(format!(
            "Environment {namespace}/{name} is of tier {:?} and {from} of tier {:?}: data and releases of a lower tier do not go up by an \
             alignment. Promote instead",
            target.spec.tier, source.spec.tier
        ));
    }
    if let Some(named) = spec.include.data.names.iter().flatten().find(|n| !target.spec.data.iter().any(|d| d.name == **n)) {
        return Err(format!("data {named} is not in Environment {namespace}/{name}: correct include.data.names"));
    }
    let data = asked(spec, target);
    if data.is_empty() {
        return Ok(());
    }
    for wanted in target.spec.data.iter().filter(|d| spec.include.data.takes(&d.name)) {
        let there = source.spec.data.iter().find(|s| s.name == wanted.name);
        let kind = |d: &Data| if d.volume.is_some() { "a volume" } else { "a database" };
        match there {
            Some(there) if kind(there) != kind(wanted) => {
                return Err(format!(
                    "data {} is {} in Environment {from} and {} in {namespace}/{name}: name it otherwise on one side, or leave it out under \
                     include.data",
                    wanted.name,
                    kind(there),
                    kind(wanted)
                ));
            }
            None if data.iter().any(|d| d.name == wanted.name) => {
                return Err(format!(
                    "data {} is not in the source Environment {from}: name it alike on both sides, or leave it out under include.data",
                    wanted.name
                ));
            }
            _ => {}
        }
    }
    if data.iter().all(|d| d.volume.is_some()) {
        let databases: Vec<&str> = target.spec.data.iter().filter(|d| d.postgres.is_some()).map(|d| &*d.name).collect();
        return Err(format!(
            "a volume is put in place together with a database, whose epoch guards it: name one of {} too under include.data.names",
            databases.join(", ")
        ));
    }
    let grant =
        grant((namespace, world.run.environment()), source, &data).map_err(|what| format!("Environment {from} {what}"))?;
    let wanted = &grant.masking_policy;
    let Some(policy) = world.policy.filter(|p| p.name == *wanted.name) else {
        return Err(format!(
            "MaskingPolicy {}/{}, which the grant of Environment {from} names, does not exist: apply it, or correct the grant",
            spec.from.namespace, wanted.name
        ));
    };
    if policy.hash != wanted.hash {
        return Err(format!(
            "MaskingPolicy {}/{} has changed since Environment {from} granted it: nothing leaves by it until the grant names its hash of \
             today, maskingPolicy: {{name: {}, hash: \"{}\"}}",
            spec.from.namespace, wanted.name, wanted.name, policy.hash
        ));
    }
    let taken = restore::data(world, &target.spec);
    if let Some(kept) = data.iter().find(|d| !taken.iter().any(|t| t.name == d.name)) {
        return Err(format!(
            "data {} is a volume, and MaskingPolicy {}/{} lists none of its files: nothing of it leaves until it says which may, {}, and the \
             grant names the policy's new hash; or leave it out of include.data.names",
            kept.name,
            spec.from.namespace,
            policy.name,
            files::suggested(&kept.name)
        ));
    }
    for (side, environment, whose) in [("source", source, &*spec.from.namespace), ("target", target, namespace)] {
        if environment.spec.exchange.is_none() {
            return Err(format!(
                "Environment {whose}/{}, the {side}, names no exchange, where masked data is handed over: add spec.exchange with S3, or a volume \
                 that is bound on both sides",
                environment.name_any()
            ));
        }
    }
    Ok(())
}

/// The source's grant for this target and this data. `Err`: what the source does not do.
fn grant<'a>((namespace, name): (&str, &str), source: &'a Environment, data: &[&Data]) -> Result<&'a DataGrant, String> {
    let to_us: Vec<&DataGrant> =
        source.spec.grants.iter().filter(|g| *g.to.namespace == *namespace && *g.to.name == *name).collect();
    let covers = |g: &&&DataGrant| data.iter().all(|d| g.data.names.as_ref().is_none_or(|names| names.contains(&d.name)));
    if let Some(found) = to_us.iter().find(covers) {
        return Ok(found);
    }
    let names: Vec<&str> = data.iter().map(|d| -> &str { &d.name }).collect();
    Err(format!(
        "lets {namespace}/{name} take {}: its owner adds {{to: {{namespace: {namespace}, name: {name}}}, data: {{names: [{}]}}, \
         maskingPolicy: {{name: …, hash: …}}}} to spec.grants",
        if to_us.is_empty() { "nothing from it".to_owned() } else { "other data, not all of this".to_owned() },
        names.join(", ")
    ))
}

/// What a run asks for in so many words: a volume that nobody named stays where it is if nothing of it may leave.
fn asked<'a>(spec: &DownAlignmentSpec, target: &'a Environment) -> Vec<&'a Data> {
    let include = &spec.include.data;
    let named = |d: &Data| include.names.iter().flatten().any(|n| *n == d.name);
    target.spec.data.iter().filter(|d| include.takes(&d.name) && (d.volume.is_none() || named(d))).collect()
}

/// The name of the MaskingPolicy by which the source lets this run take what it asks for, where it does.
pub fn policy_name(run: &DownAlignment, source: &Environment, target: &Environment) -> Option<String> {
    let to = (run.metadata.namespace.as_deref().unwrap_or_default(), &*run.spec.environment.name);
    grant(to, source, &asked(&run.spec, target)).ok().map(|g| g.masking_policy.name.to_string())
}

/// Whether data that an alignment includes goes along: of a volume, whether files of it may leave. What a snapshot holds is told
/// by it: what becomes of policy and grant while locked changes nothing.
pub fn goes(world: &World<'_>, data: &Data) -> bool {
    if data.volume.is_none() {
        return true;
    }
    if let Some(snapshot) = world.status().snapshot {
        return snapshot.volumes.iter().any(|v| *v == *data.name);
    }
    let (Some(spec), Some(target), Some(source), Some(policy)) =
        (world.run.alignment(), world.target, world.source, world.policy)
    else {
        return false;
    };
    let Ok(grant) = grant((world.run.namespace(), world.run.environment()), source, &asked(spec, target)) else { return false };
    *grant.masking_policy.name == *policy.name
        && grant.data.names.as_ref().is_none_or(|names| names.contains(&data.name))
        && source.spec.data.iter().any(|s| s.name == data.name && s.volume.is_some())
        && policy.spec.data.iter().any(|d| d.name == data.name && d.files.is_some())
}

/// The first key of the source's configuration that the target neither has nor keeps as its own, in words. Nobody has said what
/// it means in a lower environment.
fn unlisted(world: &World<'_>, modules: &[&Module], source: &EnvironmentSpec, target: &EnvironmentSpec) -> Option<String> {
    for module in modules {
        for entry in &module.configuration {
            let name = &*entry.config_map.name;
            let keep = release::kept_keys(&module.name, name, &[source, target]);
            let keys = |content: Content| -> BTreeSet<String> {
                content.data.into_keys().chain(content.binary_data.into_keys()).collect()
            };
            let theirs = world.source_side.config_map(name).map(|c| keys(Content::of(c, &keep))).unwrap_or_default();
            let ours = world.target_side.config_map(name).map(|c| keys(Content::of(c, &keep))).unwrap_or_default();
            let strange: Vec<&String> = theirs.difference(&ours).take(16).collect();
            if let Some(first) = strange.first() {
                let all = strange.iter().map(|k| k.as_str()).collect::<Vec<_>>().join(", ");
                return Some(format!(
                    "ConfigMap {name} of the source has keys that the target does not know: {all}. Add {first} to the target's ConfigMap \
                     if the source's value may come, or to `keep` of module {} if it may not",
                    module.name
                ));
            }
        }
    }
    None
}

/// That a Staging does not say whether it becomes a mirror of another before a promotion, in words.
pub fn unsaid(target: &Environment) -> Option<String> {
    (target.spec.tier == Tier::Staging && target.spec.align_before_promotion.is_none()).then(|| {
        format!(
            "Environment {}/{} is of tier Staging and does not say what it is aligned with before a promotion: add \
             alignBeforePromotion: {{from: {{namespace: …, name: …}}}}, or {{disabled: {{reason: …}}}}",
            target.namespace().unwrap_or_default(),
            target.name_any()
        )
    })
}

/// Name of the DownAlignment made for a Promotion.
pub fn child_name(owner: Owner<'_>, attempt: i32) -> String {
    let base = forward::child_name(owner);
    if attempt == 0 { format!("{base}-align") } else { format!("{base}-align-{attempt}") }
}

/// The step of a Promotion that makes its environment a mirror of another first, by a DownAlignment within the same turn.
pub fn before_promotion(world: &World<'_>, target: &EnvironmentSpec, owner: Owner<'_>, step: &Step) -> Progress {
    let name = child_name(owner, step.attempt);
    let known = world.child.filter(|c| c.name_any() == name);
    // Names can be guessed; the mark is the operator's alone.
    if known.is_some_and(|c| !is_of(c, owner.uid)) {
        return Progress::failed(
            "AlignmentFailed",
            format!(
                "DownAlignment {name} was made by somebody else under the name that this run needs: delete it, and make the Promotion again"
            ),
        );
    }
    let Some(child) = known else {
        let Some(from) = steps::aligned_from(target) else { return Progress::Done(None) };
        let manifest = json!({
            "apiVersion": API_VERSION, "kind": "DownAlignment", "metadata": owner.metadata(&name, steps::name::ALIGN),
            "spec": {
                "environment": {"name": world.run.environment()}, "from": from,
                // What keeps it from starting keeps the environment's turn: not for ever.
                "schedule": {"startDeadline": "1h"},
                "requestedBy": {"username": world.run.requester()},
            },
        });
        return Progress::Do(Effect::Create { resource: Resource::DownAlignment, manifest: Box::new(manifest) });
    };
    let status = child.status.clone().unwrap_or_default();
    let said = status.failure.as_ref().map(|f| format!(": {}: {}", f.step, f.message));
    match status.phase {
        Phase::Completed => {
            let snapshot = status.snapshot.map(|s| format!(", {} masked rows", s.rows.unwrap_or_default()));
            Progress::Done(Some(format!("DownAlignment {name}{}", snapshot.unwrap_or_default())))
        }
        phase if phase.is_terminal() => {
            Progress::failed("AlignmentFailed", format!("DownAlignment {name} is {phase}{}", said.unwrap_or_default()))
        }
        phase => {
            let next = status.next.map(|n| format!(" ({n})")).unwrap_or_default();
            Progress::waiting(format!("DownAlignment {name}: {phase}{next}"))
        }
    }
}

/// Whether a DownAlignment was made for the run with this UID.
fn is_of(child: &DownAlignment, uid: &str) -> bool {
    child.labels().get(labels::RUN).is_some_and(|of| of == uid)
}

/// What the alignment leaves in the Promotion's status: what is there now is what a rollback brings back.
pub fn aligned(world: &World<'_>, owner: Owner<'_>, status: &mut RunStatus, step: &Step) {
    status.alignment = Some(LocalRef { name: child_name(owner, step.attempt).into() });
    match prepare::todays_plan(world, status) {
        Ok(today) => status.prior = Some(today.prior),
        // The door will not find there what is written here.
        Err(_) => status.prior = None,
    }
}

/// That what runs in an environment is not what its alignment left there, in words: somebody has changed it since.
pub fn changed_since(status: &RunStatus, today: &Release) -> Option<String> {
    status.alignment.as_ref()?;
    let said = |release: &Release| -> Vec<String> {
        let of = |m: &crate::api::ReleaseModule| {
            let images = m.workloads.iter().flat_map(|w| &w.containers).map(|c| c.image.clone());
            images.chain(m.configuration.iter().map(|c| c.hash.clone())).collect::<Vec<_>>()
        };
        release.modules.iter().flat_map(of).collect()
    };
    let same = status.prior.as_ref().is_some_and(|prior| said(prior) == said(today));
    (!same).then(|| "what runs in the target has changed since it was aligned: make the Promotion again".to_owned())
}

/// A Promotion that ends before it has changed anything takes its DownAlignment along: what is needed for that, or `None` where there
/// is none under way.
pub fn call_off(world: &World<'_>) -> Option<Progress> {
    let child = world.child.filter(|c| is_of(c, world.run.uid()) && !c.status.as_ref().is_some_and(|s| s.phase.is_terminal()))?;
    let name = child.name_any();
    if child.metadata.deletion_timestamp.is_some() {
        return Some(Progress::waiting(format!("DownAlignment {name} to put everything back")));
    }
    let uid = child.uid().unwrap_or_default();
    Some(Progress::Do(Effect::Delete { resource: Resource::DownAlignment, name, uid, grace: None }))
}

/// The run as owner of what is made in the source's namespace.
fn there<'a>(world: &World<'a>, owner: Owner<'a>) -> Owner<'a> {
    let namespace = world.run.alignment().map_or(owner.namespace, |a| &*a.from.namespace);
    Owner { namespace, ..owner }
}

/// The step that masks the source's data into the exchange.
pub fn snapshot(world: &World<'_>, owner: Owner<'_>, step: &Step, now: Timestamp) -> Progress {
    let there = there(world, owner);
    // Data leaves under a grant that stands when the step begins, not under one that stood when it was asked for.
    if let Err(message) = consent(world) {
        return Progress::failed("GrantRevoked", message);
    }
    let (Some(source), Some(target), Some(policy), Some(made)) = (world.source, world.target, world.policy, world.elsewhere)
    else {
        return Progress::waiting("the source Environment");
    };
    // What stands half changed over there may be put back in a moment, and then it never was.
    if let Some(holder) = lock::status(source).lock.and_then(|l| l.holder) {
        return Progress::waiting(format!("{} {}, which holds the lock of the source", holder.kind, holder.name));
    }
    if let Some(moved) = moved_on(world, source, target) {
        return Progress::failed("SourceChanged", moved);
    }
    let Some(place) = source.spec.exchange.as_ref().map(Exchange::place) else {
        return Progress::failed("GrantRevoked", "the source names no exchange any more");
    };
    let at_home = |effect| Progress::Do(Effect::In { namespace: there.namespace.to_owned(), effect: Box::new(effect) });
    let copy = masking::name(there, &policy.hash);
    if !made.config_maps.iter().any(|c| c.name_any() == copy) {
        return match masking::config_map(there, &copy, &policy.spec) {
            Ok(effect) => at_home(effect),
            Err(why) => Progress::failed("PolicyTooLarge", format!("MaskingPolicy {}/{}: {why}", there.namespace, policy.name)),
        };
    }
    let name = owner.object_name(&step.name, step.attempt);
    let wanted: Vec<&Data> = {
        let names: Vec<&str> = restore::data(world, &target.spec).iter().map(|d| -> &str { &d.name }).collect();
        source.spec.data.iter().filter(|d| names.contains(&&*d.name)).collect()
    };
    if let Some(missing) = volumes::missing(&wanted, world.source_side).into_iter().next() {
        return Progress::failed("ClaimMissing", format!("the source Environment: {missing}"));
    }
    let mut task = Task::new(Verb::Snapshot, there, (source.uid().unwrap_or_default(), &source.name_any()));
    task.run_name = format!("{} {}/{}", owner.kind, owner.namespace, owner.name);
    task.data = Task::data_of(wanted.iter().copied());
    task.volumes = Task::volumes_of(wanted.iter().copied());
    task.repository = true;
    task.masking_policy_hash = Some(policy.hash.clone());
    task.policy = Some(copy);
    task.retention = place.retention.clone();
    if let Some(within) = source.spec.exchange.as_ref().and_then(|e| e.reuse_within.as_ref()).and_then(Period::get) {
        task.reuse_within_seconds = Some(within.as_secs());
    }
    task.release = running(world, source);
    let mounts = volumes::mounts(&source.spec, &wanted, world.source_side, false);
    let opening = Opening { owner: there, settings: world.settings, jobs: &made.jobs, step: (&step.name, step.attempt) };
    match opening.first(&task, Some(&place), &mounts, now) {
        Ok(()) => {}
        Err(NotYet::Going(Progress::Do(effect))) => return at_home(effect),
        Err(NotYet::Going(progress)) => return progress,
        Err(NotYet::Failed(failure)) => return failure.into_progress(step.attempt, ATTEMPTS),
    }
    let make = || {
        let job = job::snapshot(
            there,
            world.settings,
            (&name, &step.name),
            &task,
            (&wanted, &place),
            (&policy.name, policy.key_secret()),
            DEADLINE,
        );
        volume::mount(job, &mounts)
    };
    match look(&made.jobs, &name, true, now, make) {
        JobProgress::Going(Progress::Do(effect)) => at_home(effect),
        JobProgress::Going(progress) => progress,
        JobProgress::Succeeded(outcome) => match outcome.and_then(|o| Some((o.backup?, o.notes))) {
            Some((done, notes)) => {
                let mut said = vec![format!("{} rows, masked by policy {} ({})", done.rows, policy.name, short(&policy.hash))];
                let files = done.contents.iter().filter_map(|c| Some((&c.data, c.files?)));
                said.extend(files.map(|(data, files)| format!("{data}: {files} files that it lets out, as they are")));
                said.extend(notes);
                Progress::Done(Some(said.join("; ")))
            }
            None => Progress::failed("OutcomeLost", "the Job that masks the data said nothing of what it wrote"),
        },
        JobProgress::Failed(failure) => failure.into_progress(step.attempt, ATTEMPTS),
    }
}

/// The hash of all that the source runs now: by it one that was masked earlier is known to fit. None: that cannot be said.
fn running(world: &World<'_>, source: &Environment) -> Option<String> {
    let modules: Vec<&Module> = source.spec.modules.iter().collect();
    let namespace = &world.run.alignment()?.from.namespace;
    let release = release::read(namespace, &source.spec, world.source_side, &modules, &[], Reading::Exact).ok()?;
    Some(release.hash)
}

fn short(hash: &str) -> String {
    hash.chars().take("sha256:".len() + 12).collect()
}

/// That the source runs another release by now than was captured, in words: its data would not fit.
fn moved_on(world: &World<'_>, source: &Environment, target: &Environment) -> Option<String> {
    let captured = world.run.status()?.release.as_ref().filter(|r| !r.modules.is_empty())?;
    let chosen: Vec<&Module> =
        source.spec.modules.iter().filter(|m| captured.modules.iter().any(|r| r.name == *m.name)).collect();
    let (namespace, side) = (&world.run.alignment()?.from.namespace, world.source_side);
    let today = release::read(namespace, &source.spec, side, &chosen, &[&target.spec], Reading::Loose).ok()?;
    let named = |release: &Release| {
        let containers = release.modules.iter().flat_map(|m| &m.workloads).flat_map(|w| &w.containers);
        let mut images: Vec<String> = containers.map(|c| c.image.clone()).collect();
        images.sort();
        images
    };
    (named(captured) != named(&today)).then(|| {
        "the source runs another release by now than when this was asked for, and its data may not fit the captured one: make the \
         DownAlignment again"
            .to_owned()
    })
}

/// What the finished snapshot leaves in the status.
pub fn snapshotted(world: &World<'_>, owner: Owner<'_>, status: &mut RunStatus, step: &Step) {
    let job = world.elsewhere.and_then(|e| e.jobs.get(&owner.object_name(&step.name, step.attempt)));
    let Some(done) = job.and_then(|j| j.outcome.clone()).and_then(|o| o.backup) else { return };
    let files: Vec<(&String, i64)> = done.contents.iter().filter_map(|c| Some((&c.data, c.files?))).collect();
    status.snapshot = Some(SnapshotStatus {
        volumes: files.iter().map(|(data, _)| (*data).clone()).collect(),
        files: (!files.is_empty()).then(|| files.iter().map(|(_, n)| n).sum()),
        id: done.snapshot,
        masking_policy_hash: world.policy.map(|p| p.hash.clone()),
        rows: Some(done.rows),
        bytes: Some(done.bytes),
        at: done.taken_at.map(super::millis),
    });
}

/// The step that opens what was handed over from the target's side, before anyone is locked out: another password, a volume that
/// is not the same on both sides, a claim that is not bound.
pub fn receive(world: &World<'_>, target: &EnvironmentSpec, owner: Owner<'_>, step: &Step, now: Timestamp) -> Progress {
    let Some(place) = target.exchange.as_ref().map(Exchange::place) else {
        return Progress::failed("ExchangeMissing", "the target names no exchange any more: add spec.exchange, and ask again");
    };
    let name = owner.object_name(&step.name, step.attempt);
    let mut task = preflight::task(world, owner, Verb::Preflight);
    // Of the databases nothing is asked here.
    task.data = Vec::new();
    let data = restore::data(world, target);
    task.volumes = Task::volumes_of(data.iter().copied());
    let mounts = volumes::mounts(target, &data, world.target_side, false);
    task.repository = true;
    fill(world, &mut task);
    let opening = Opening { owner, settings: world.settings, jobs: world.jobs, step: (&step.name, step.attempt) };
    match opening.first(&task, Some(&place), &mounts, now) {
        Ok(()) => {}
        Err(NotYet::Going(progress)) => return progress,
        Err(NotYet::Failed(failure)) => return failure.into_progress(step.attempt, ATTEMPTS),
    }
    let make = || {
        let job = job::agent(owner, world.settings, (&name, &step.name), &task, (&[], Some(&place)), &[], LOOK);
        volume::mount(job, &mounts)
    };
    match look(world.jobs, &name, true, now, make) {
        JobProgress::Going(progress) => progress,
        JobProgress::Succeeded(outcome) => {
            let outcome = outcome.unwrap_or_default();
            let wrong: Vec<&str> = outcome.checks.iter().filter(|c| !c.passed).map(|c| c.message.as_str()).collect();
            let found = outcome.backup.is_some();
            match wrong.as_slice() {
                [] if found => Progress::Done(None),
                [] => Progress::failed("OutcomeLost", "the Job that opens the exchange said nothing of what is there"),
                wrong => Progress::failed("ExchangeUnreadable", format!("the target's exchange: {}", wrong.join("; "))),
            }
        }
        JobProgress::Failed(failure) => failure.into_progress(step.attempt, ATTEMPTS),
    }
}

/// What is still there of a DownAlignment in the source's namespace, to be deleted.
pub fn left_elsewhere(world: &World<'_>) -> Option<Effect> {
    let (spec, made) = (world.run.alignment()?, world.elsewhere?);
    let job = made.jobs.values().find(|j| !j.deleting).map(|j| (Resource::Job, j.name.clone(), j.uid.clone()));
    let map = || {
        let left = made.config_maps.iter().find(|c| c.metadata.deletion_timestamp.is_none())?;
        Some((Resource::ConfigMap, left.name_any(), left.uid().unwrap_or_default()))
    };
    let (resource, name, uid) = job.or_else(map)?;
    let effect = Effect::Delete { resource, name, uid, grace: None };
    Some(Effect::In { namespace: spec.from.namespace.to_string(), effect: Box::new(effect) })
}

/// What the task of a DownAlignment's load is about: the snapshot, and whose it must be.
pub fn fill(world: &World<'_>, task: &mut Task) {
    if world.run.alignment().is_none() {
        return;
    }
    task.snapshot = world.status().snapshot.map(|s| s.id);
    task.origin = world.source.and_then(|s| s.uid());
}
