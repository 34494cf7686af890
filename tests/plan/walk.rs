//! Random walks: observations in any order, possible or not, and after each of them what the plan makes of it. Whatever is
//! seen, it never panics, never goes round in circles, and never decides what must not happen.

use kube::ResourceExt;
use lockkeeper::{
    api::{
        BackupPhase, EnvironmentBackupStatus, Lock, Phase, PromotionStatus, RunRef, Step, StepState, annotations::FOUND, labels,
        reasons,
    },
    manifest::{
        job::GATE_VOLUME,
        page,
        task::{Aside, BackupOutcome, Outcome, OutcomeError, exit},
    },
    plan::{
        Decision, Effect, Resource, approval,
        prepare::todays_plan,
        progress::told,
        queue::Waiting,
        steps::{self, name},
        world::JobState,
    },
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    fixture::{Seen, UID, of, pod},
    progress,
};

/// What may be seen next.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Seconds(i64),
    /// Everything goes as it should: Jobs, pods, endpoints, backup.
    Good,
    JobsEnd,
    JobsFail {
        code: i32,
        says: bool,
    },
    JobsLoseTheirOutcome,
    JobsAreDeleted,
    JobsHaveTrouble,
    PodsFollow,
    PodsCrash,
    PodsAreGone,
    EndpointsFollow,
    EndpointsAreEmpty,
    Backup(BackupPhase),
    /// The agents at work say how far they are; whatever that is.
    Told {
        done: u64,
        total: Option<u64>,
        seconds: i64,
    },
    Approve {
        who: &'static str,
        today: bool,
    },
    WithdrawApprovals,
    Cancel,
    Delete,
    Intervene(&'static str),
    Modify(&'static str),
    Ahead(bool),
    SlotOf(Option<&'static str>),
    LockOf(Option<&'static str>),
    Environment(bool),
    Source(bool),
    EditByHand,
    MayPromote(bool),
    Policies(bool),
    Refused(bool),
    Terminating,
    CopiesAreGone,
}

/// A change, more often a good one than any other.
pub fn change() -> impl Strategy<Value = Change> {
    let who = prop::sample::select(vec!["alice", "bob", "eve"]);
    let other = prop::sample::select(vec![None, Some("other"), Some(UID)]);
    prop_oneof![
        30 => Just(Change::Good),
        6 => (0i64..200).prop_map(Change::Seconds),
        6 => Just(Change::Approve { who: "bob", today: true }),
        2 => (who, any::<bool>()).prop_map(|(who, today)| Change::Approve { who, today }),
        2 => prop::sample::select(vec![Change::JobsEnd, Change::JobsLoseTheirOutcome, Change::JobsAreDeleted, Change::JobsHaveTrouble]),
        2 => (prop::sample::select(vec![1, 2, 3, 137]), any::<bool>()).prop_map(|(code, says)| Change::JobsFail { code, says }),
        2 => prop::sample::select(vec![
            Change::PodsFollow, Change::PodsCrash, Change::PodsAreGone, Change::EndpointsFollow, Change::EndpointsAreEmpty,
        ]),
        2 => prop::sample::select(vec![BackupPhase::Running, BackupPhase::Failed, BackupPhase::Completed]).prop_map(Change::Backup),
        4 => (any::<u64>(), any::<Option<u64>>(), -100i64..100).prop_map(|(done, total, seconds)| Change::Told { done, total, seconds }),
        1 => Just(Change::WithdrawApprovals),
        1 => prop::sample::select(vec![Change::Cancel, Change::Delete, Change::Terminating, Change::CopiesAreGone]),
        2 => prop::sample::select(vec!["Resume", "Resume", "Unlock"]).prop_map(Change::Intervene),
        1 => prop::sample::select(vec!["bob", "carol"]).prop_map(Change::Modify),
        1 => any::<bool>().prop_map(Change::Ahead),
        1 => other.clone().prop_map(Change::SlotOf),
        1 => other.prop_map(Change::LockOf),
        2 => any::<bool>().prop_map(Change::Environment),
        1 => any::<bool>().prop_map(Change::Source),
        1 => Just(Change::EditByHand),
        1 => any::<bool>().prop_map(Change::MayPromote),
        2 => any::<bool>().prop_map(Change::Policies),
        2 => any::<bool>().prop_map(Change::Refused),
    ]
}

impl Change {
    pub fn happen(self, seen: &mut Seen) {
        match self {
            Self::Seconds(n) => seen.now += jiff::SignedDuration::from_secs(n),
            Self::Good => {
                seen.now += jiff::SignedDuration::from_secs(2);
                for change in [Self::JobsEnd, Self::PodsFollow, Self::EndpointsFollow, Self::Backup(BackupPhase::Completed)] {
                    change.happen(seen);
                }
            }
            Self::JobsEnd => {
                let data = seen.target.iter().flat_map(|t| &t.spec.data).filter(|d| d.volume.is_some());
                let volumes: Vec<String> = data.map(|d| d.name.to_string()).collect();
                jobs(seen, |job| {
                    job.state = JobState::Succeeded;
                    job.exit_code = Some(exit::DONE);
                    job.pulled.values_mut().for_each(|p| *p = true);
                    let mut aside = vec![Aside {
                        data: "db".into(),
                        database: format!("db_{}", job.step),
                        snapshot: None,
                        method: "Clone".into(),
                    }];
                    // A pod that has the files makes their undo point, in the repository.
                    if ["undo", "load"].contains(&job.step.as_str()) {
                        let of = |data: &String| {
                            let (data, snapshot) = (data.clone(), Some("b2".repeat(32)));
                            Aside { data, database: String::new(), snapshot, method: "Backup".into() }
                        };
                        aside.extend(volumes.iter().map(of));
                    }
                    let written = BackupOutcome {
                        snapshot: "a1".repeat(32),
                        bytes: 9,
                        stored_bytes: 5,
                        rows: 3,
                        contents: Vec::new(),
                        taken_at: None,
                        coverage: Vec::new(),
                    };
                    let backup = (["snapshot", "receive"].contains(&job.step.as_str())).then_some(written);
                    job.outcome = Some(Outcome { aside, backup, control_epoch: Some(3), ..Outcome::default() });
                })
            }
            Self::JobsFail { code, says } => jobs(seen, |job| {
                job.state = JobState::Failed("BackoffLimitExceeded".into());
                job.exit_code = Some(code);
                let error = Some(OutcomeError { reason: "Broken".into(), message: "it broke".into() });
                job.outcome = says.then(|| Outcome { error, ..Outcome::default() });
            }),
            Self::JobsLoseTheirOutcome => jobs(seen, |job| job.state = JobState::Succeeded),
            Self::JobsAreDeleted => seen.jobs.clear(),
            Self::JobsHaveTrouble => jobs(seen, |job| job.trouble = Some("ImagePullBackOff: no such image".into())),
            Self::PodsFollow => pods(seen, true),
            Self::PodsCrash => {
                pods(seen, false);
                for pod in &mut seen.target_side.pods {
                    let status = pod.status.get_or_insert_default();
                    status.container_statuses = Some(vec![of(json!({
                        "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 5,
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    }))]);
                }
            }
            Self::PodsAreGone => seen.target_side.pods.clear(),
            Self::EndpointsFollow => {
                let side = &mut seen.target_side;
                side.endpoints = side
                    .services
                    .iter()
                    .map(|s| {
                        let selector = s.spec.as_ref().and_then(|s| s.selector.clone()).unwrap_or_default();
                        let fits =
                            |p: &&k8s_openapi::api::core::v1::Pod| selector.iter().all(|(k, v)| p.labels().get(k) == Some(v));
                        (s.name_any(), side.pods.iter().filter(fits).map(ResourceExt::name_any).collect())
                    })
                    .collect();
            }
            Self::EndpointsAreEmpty => seen.target_side.endpoints.clear(),
            Self::Backup(phase) => {
                let now = seen.now;
                if let Some(backup) = &mut seen.backup {
                    let proven_at = (phase == BackupPhase::Completed).then_some(now);
                    backup.status = Some(EnvironmentBackupStatus { phase, proven_at, ..EnvironmentBackupStatus::default() });
                }
            }
            Self::Told { done, total, seconds } => {
                let at = seen.now;
                let said = progress::said(done, total, (at - jiff::SignedDuration::from_secs(seconds), at));
                jobs(seen, |job| job.progress = Some(said.clone()));
                if let Some(status) = seen.backup.as_mut().and_then(|b| b.status.as_mut()) {
                    status.progress = told(&said, at);
                }
            }
            Self::Approve { who, today } => {
                let wrong = format!("v1:{}", "0".repeat(64));
                let hash = seen.status().plan_hash.filter(|_| today).unwrap_or(wrong);
                seen.run.spec.approvals.retain(|a| &*a.username != who);
                seen.run.spec.approvals.push(of(json!({"username": who, "planHash": hash})));
            }
            Self::WithdrawApprovals => seen.run.spec.approvals.clear(),
            Self::Cancel => seen.run.spec.cancel = Some(of(json!({"username": "carol", "reason": "no"}))),
            // Admission lets it through only then.
            Self::Intervene(action) if seen.status().phase == Phase::NeedsHuman => {
                let next = seen.run.metadata.generation.unwrap_or(0) + 1;
                seen.run.metadata.generation = Some(next);
                seen.run.spec.intervention = Some(of(json!({"action": action, "username": "olga", "reason": "enough"})));
            }
            Self::Intervene(_) => {}
            Self::Modify(who) if seen.status().phase.is_before_start() => {
                seen.run.spec.modified_by = Some(of(json!({"username": who, "reason": "words"})));
                seen.run.spec.description = Some(who.into());
            }
            Self::Modify(_) => {}
            Self::Ahead(there) => {
                let since = "2026-11-22T19:00:00Z".parse().unwrap();
                let one = Waiting { run: run("earlier"), environment: "production".into(), since };
                seen.queue = there.then_some(one).into_iter().collect();
            }
            Self::Delete => seen.run.metadata.deletion_timestamp = Some(of(json!("2026-11-22T20:30:00Z"))),
            Self::SlotOf(who) => environment(seen, |status| status.active = who.map(run)),
            Self::LockOf(who) => {
                // It is given back to this run only as long as it has not given it up itself.
                let giving_up = |s: &Step| steps::kind(&s.name).ends_with(name::UNLOCK) && s.state != StepState::Pending;
                let status = seen.status();
                let ours = who != Some(UID) || (status.epoch.is_some() && !status.steps.iter().any(giving_up));
                environment(seen, |environment| {
                    let epoch = environment.lock.as_ref().map_or(0, |l| l.epoch);
                    environment.lock = Some(Lock { epoch, holder: who.filter(|_| ours).map(run), since: None });
                });
            }
            Self::Environment(there) => {
                let version = seen.now.as_nanosecond().to_string();
                let fresh = || kube::api::ObjectMeta { resource_version: Some(version), ..super::fixture::production().metadata };
                seen.target = there.then(|| {
                    seen.target.clone().unwrap_or_else(|| {
                        let production = super::fixture::production();
                        lockkeeper::api::Environment { metadata: fresh(), ..production }
                    })
                });
            }
            Self::Source(there) => seen.source = seen.source.clone().or_else(|| Seen::new().source).filter(|_| there),
            Self::EditByHand => {
                let web = seen.target_side.deployments.iter_mut().find(|d| d.name_any() == "web");
                if let Some(spec) = web.and_then(|d| d.spec.as_mut()?.template.spec.as_mut()) {
                    spec.containers[0].image = Some("r.example/web:by-hand".into());
                }
            }
            Self::MayPromote(may) => seen.may_promote = may,
            Self::Policies(there) => seen.missing_policies = if there { Vec::new() } else { vec!["lockkeeper-status".into()] },
            Self::Refused(refused) => seen.refused = refused.then(|| "apply a RoleBinding".to_owned()),
            Self::Terminating => seen.terminating = true,
            Self::CopiesAreGone => seen.target_side.config_maps.retain(|c| !c.labels().contains_key(labels::RUN)),
        }
    }
}

fn run(uid: &str) -> RunRef {
    RunRef { kind: "Promotion".into(), name: uid.into(), uid: uid.into() }
}

fn jobs(seen: &mut Seen, change: impl Fn(&mut lockkeeper::plan::world::JobView)) {
    // One that waits for its turn neither ends nor fails by itself.
    let going =
        |j: &&mut lockkeeper::plan::world::JobView| j.state == JobState::Running && j.gate.as_ref().is_none_or(|g| g.open);
    let all = seen.jobs.values_mut().chain(seen.elsewhere.jobs.values_mut());
    all.filter(going).for_each(change);
}

fn environment(seen: &mut Seen, change: impl FnOnce(&mut lockkeeper::api::EnvironmentStatus)) {
    let version = seen.now.as_nanosecond().to_string();
    if let Some(target) = &mut seen.target {
        change(target.status.get_or_insert_default());
        target.metadata.resource_version =
            Some(format!("{version}-{}", target.metadata.resource_version.clone().unwrap_or_default().len()));
    }
}

/// Every Deployment has the pods that it should have.
fn pods(seen: &mut Seen, ready: bool) {
    let side = &mut seen.target_side;
    side.pods.clear();
    for deployment in &mut side.deployments {
        let name = deployment.name_any();
        let generation = deployment.metadata.generation;
        let Some(spec) = &deployment.spec else { continue };
        let wanted = spec.replicas.unwrap_or(1);
        let image = spec.template.spec.as_ref().and_then(|s| s.containers[0].image.clone()).unwrap_or_default();
        let labels = spec.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
        for i in 0..wanted {
            let mut pod = pod(&format!("{name}-{i}"), &name, &image, ready);
            pod.metadata.labels = Some(labels.clone());
            side.pods.push(pod);
        }
        let status = deployment.status.get_or_insert_default();
        let available = if ready { wanted } else { 0 };
        status.observed_generation = generation;
        (status.replicas, status.updated_replicas, status.available_replicas) = (Some(wanted), Some(wanted), Some(available));
    }
}

/// Carries decisions out until there is something to wait for; each is judged.
pub fn settle(seen: &mut Seen) -> Result<(), TestCaseError> {
    for _ in 0..400 {
        let decision = seen.plan();
        prop_assert_eq!(&decision, &seen.plan(), "the same sight, the same decision");
        judge(seen, &decision)?;
        progress::is_only_words(seen, &decision)?;
        if !seen.carry_out(&decision) {
            return Ok(());
        }
    }
    Err(TestCaseError::fail(format!("it goes round in circles: {:?} {:?}", seen.status().step, seen.plan())))
}

fn judge(seen: &Seen, decision: &Decision<PromotionStatus>) -> Result<(), TestCaseError> {
    let status = seen.status();
    // A DownAlignment has its own tables; what holds for every kind is looked at here.
    if let (Some(_), Decision::Advance(next)) = (&seen.alignment, decision) {
        prop_assert!(status.phase.may_become(next.phase), "S12: {} does not become {}", status.phase, next.phase);
    }
    if seen.alignment.is_some() {
        return Ok(());
    }
    match decision {
        Decision::Wait(until) => wait(seen, &status, *until),
        Decision::Advance(next) => advance(seen, &status, next),
        Decision::Perform(effect) => perform(seen, &status, effect),
    }
}

/// A wait is for a time to come, or for something that is watched and named.
fn wait(seen: &Seen, status: &PromotionStatus, until: Option<jiff::Timestamp>) -> Result<(), TestCaseError> {
    prop_assert!(until.is_none_or(|at| at > seen.now), "it would wake at once, over and over: {:?}", until);
    let gone = seen.run.metadata.deletion_timestamp.is_some() && seen.run.finalizers().is_empty();
    if !status.phase.is_terminal() && !gone {
        let says = status.next.is_some() || status.failure.is_some();
        prop_assert!(until.is_some() || says, "it waits and does not say for what: {:?}", status);
    }
    Ok(())
}

fn advance(seen: &Seen, old: &PromotionStatus, new: &PromotionStatus) -> Result<(), TestCaseError> {
    // A record that comes back is no run: it is at its end at once.
    let comes_back = new.conditions.iter().any(|c| c.reason == reasons::ALREADY_RAN) && old.plan_hash.is_none();
    prop_assert!(comes_back || old.phase.may_become(new.phase), "S12: {} does not become {}", old.phase, new.phase);
    prop_assert!(seen.run.status.as_ref() != Some(new), "what does not change is not written");
    let target = seen.target.as_ref().and_then(|t| t.status.clone()).unwrap_or_default();
    if new.phase == Phase::Locked && old.phase != new.phase {
        let today = todays_plan(&seen.world(), old).map(|p| p.hash);
        prop_assert_eq!(today.ok(), old.plan_hash.clone(), "S8: what locks is today's plan");
        let policy = seen.target.as_ref().map(|t| t.spec.approvals.clone()).unwrap_or_default();
        let hash = old.plan_hash.clone().unwrap_or_default();
        let askers = approval::askers(&seen.run.spec, &old.modifiers);
        let counted = approval::count(&seen.run.spec, &askers, &policy, &hash, &seen.approvers);
        let modified = |who: &str| seen.run.spec.modified_by.as_ref().is_some_and(|m| &*m.username == who);
        prop_assert!(!modified("bob"), "S8: who changed it does not approve it");
        prop_assert!(counted.given.iter().any(|who| who == "bob"), "S8: another than the requester approved: {:?}", counted);
        prop_assert!(seen.missing_policies.is_empty(), "S8: nothing locks without admission policies");
        prop_assert!(done(old, name::BACKUP), "S3: the backup is proven before the lock");
    }
    if new.phase.is_terminal() {
        prop_assert!(target.lock.and_then(|l| l.holder).is_none_or(|h| h.uid != UID), "S4: an ended run holds no lock");
        prop_assert!(target.active.is_none_or(|a| a.uid != UID), "S4: an ended run has no turn");
        let side = &seen.target_side;
        let ours = |m: &kube::api::ObjectMeta| m.labels.as_ref().is_some_and(|l| l.get(labels::RUN).is_some_and(|v| v == UID));
        prop_assert!(!side.deployments.iter().any(|o| ours(&o.metadata)), "S4: no page stays up");
        prop_assert!(!side.services.iter().any(|o| ours(&o.metadata)), "S4: no twin stays");
        let held = |m: &kube::api::ObjectMeta| m.annotations.as_ref().is_some_and(|a| a.contains_key(FOUND));
        prop_assert!(!side.services.iter().any(|o| held(&o.metadata)), "S4: no Service stays closed");
        let stopped = side.deployments.iter().any(|o| held(&o.metadata));
        prop_assert!(!stopped || new.phase == Phase::Abandoned, "S4: no workload stays stopped, but for a run given up");
    }
    if new.phase == Phase::Abandoned && old.phase != new.phase {
        let said = new.intervention.as_ref().is_some_and(|i| !i.left.is_empty());
        prop_assert!(said, "what is left is listed");
    }
    if let Some(first) = &old.failure {
        prop_assert_eq!(Some(first), new.failure.as_ref(), "the first cause is never overwritten");
    }
    Ok(())
}

fn done(status: &PromotionStatus, kind: &str) -> bool {
    status.steps.iter().any(|s| s.name == kind && s.state == StepState::Succeeded)
}

/// Whether a Job's pod waits for its turn.
pub fn waits(job: &Value) -> bool {
    job["spec"]["template"]["spec"]["volumes"].as_array().is_some_and(|v| v.iter().any(|v| v["name"] == GATE_VOLUME))
}

/// A Job's work begins: it was made, or its gate was opened.
fn begins(seen: &Seen, status: &PromotionStatus, step: &str, (ours, back): (bool, bool)) -> Result<(), TestCaseError> {
    let kind = steps::kind(step).split('.').next().unwrap_or_default();
    match kind {
        name::MIGRATION => {
            prop_assert!(ours && !back, "S3: a migration only under the lock, never while putting back");
            prop_assert!(done(status, name::UNDO) && done(status, name::BACKUP), "S2: first the undo point and the proof");
        }
        name::UNDO => prop_assert!(ours && done(status, name::FENCE), "S3: first the fence"),
        name::FENCE => {
            prop_assert!(ours && done(status, name::STOP) && done(status, name::BACKUP), "S3: first the workloads stop");
        }
        name::RELEASE => {
            let checks = seen.target.iter().flat_map(|t| &t.spec.verification).map(|v| format!("{}/{}", name::VERIFY, v.name));
            prop_assert!(ours && !back && checks.into_iter().all(|c| done(status, &c)), "S3: the data is given back last");
        }
        name::BACK_DATA | name::BACK_RELEASE | name::VERIFY => prop_assert!(ours, "S3: {kind} only under the lock"),
        _ => {}
    }
    Ok(())
}

fn perform(seen: &Seen, status: &PromotionStatus, effect: &Effect) -> Result<(), TestCaseError> {
    let target = seen.target.as_ref().and_then(|t| t.status.clone()).unwrap_or_default();
    let lock = target.lock.clone().unwrap_or_default();
    let ours = lock.holder.as_ref().is_some_and(|h| h.uid == UID) && status.epoch.is_none_or(|e| e == lock.epoch);
    let back = matches!(status.phase, Phase::RollingBack | Phase::NeedsHuman);
    match effect {
        Effect::In { .. } => prop_assert!(false, "S9: a Promotion does nothing in its source"),
        Effect::SetEnvironment { status: new, .. } => {
            let (old_holder, new_lock) = (lock.holder.clone(), new.lock.clone().unwrap_or_default());
            prop_assert!(new_lock.epoch >= lock.epoch, "S1: the epoch only grows");
            if old_holder != new_lock.holder {
                match (&old_holder, &new_lock.holder) {
                    (None, Some(new)) => {
                        prop_assert!(
                            new.uid == UID && new_lock.epoch > lock.epoch,
                            "S1, S3: a lock for itself, with a new epoch"
                        );
                        prop_assert!(status.phase == Phase::Locked && done(status, name::BACKUP), "S3: after the proven backup");
                    }
                    (Some(old), None) => {
                        prop_assert_eq!(&old.uid, UID, "S3: only the holder unlocks");
                        prop_assert!(status.step.as_deref().is_some_and(|s| s.ends_with(name::UNLOCK)), "S3: at its step");
                    }
                    other => prop_assert!(false, "S3: the lock does not go from hand to hand: {other:?}"),
                }
            }
            if target.active.is_none() && new.active.is_some() {
                let mine = status.validated_at.unwrap_or(seen.now);
                prop_assert!(seen.queue.iter().all(|w| w.since > mine), "L4: who was validated earlier comes first");
            }
            if let Some(active) = &target.active {
                prop_assert!(active.uid == UID || new.active.as_ref() == Some(active), "S3: another's turn is not taken");
            }
        }
        Effect::Patch { resource: Resource::Pod, name: pod, .. } => {
            let job = seen.jobs.values().find(|j| j.gate.as_ref().is_some_and(|g| g.pod == *pod)).expect("a gate is a Job's");
            begins(seen, status, &job.step, (ours, back))?;
        }
        Effect::Patch { resource, name: object, patch, .. } => {
            prop_assert!(ours, "S3: {resource:?} {object} changes only under this run's lock: {:?}", status.step);
            let images = patch["spec"].get("template").is_some();
            if !back && (images || *resource == Resource::ConfigMap) {
                prop_assert!(done(status, name::UNDO) && done(status, name::BACKUP), "S2: first the undo point and the proof");
            }
        }
        Effect::Create { resource, manifest } => {
            let labels_ = &manifest["metadata"]["labels"];
            let step = labels_[labels::STEP].as_str().unwrap_or_default();
            let made = labels_[labels::RUN] == *UID;
            if !made {
                prop_assert!(ours, "S3: what is not the run's own is made only under its lock");
            }
            match (resource, step) {
                // One that waits at its gate has begun nothing.
                (Resource::Job, _) if waits(manifest) => prop_assert!(done(status, name::BACKUP), "not before it can be of use"),
                (Resource::Job, _) => begins(seen, status, step, (ours, back))?,
                (Resource::Deployment, page::STEP) => prop_assert!(made, "the page is the run's own"),
                _ => {}
            }
        }
        Effect::Delete { resource, name: object, uid, .. } => {
            prop_assert!(!uid.is_empty(), "what is deleted is named by UID");
            let side = &seen.target_side;
            let own = match resource {
                Resource::Deployment => side.deployment(object).map(|o| o.labels().contains_key(labels::RUN)),
                Resource::Service => side.service(object).map(|o| o.labels().contains_key(labels::RUN)),
                Resource::ConfigMap => side.config_map(object).map(|o| o.labels().contains_key(labels::RUN)),
                _ => Some(true),
            };
            prop_assert!(own == Some(true) || (ours && back), "S3: what is not the run's own goes only in a rollback: {object}");
        }
        Effect::AddFinalizer => {}
        Effect::RemoveFinalizer => {
            prop_assert!(status.phase.is_terminal() || seen.terminating, "the finalizer goes last");
        }
    }
    Ok(())
}
