//! What is decided for a MaskingPolicy, one thing after the other.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use lockkeeper::{
    api::{Environment, MaskingPolicy, conditions},
    data::mask,
    manifest::task::{Outcome, Task, Verb},
    plan::{
        Decision, Effect, Resource,
        masking::{World, plan},
        world::{JobState, JobView, Settings},
    },
};
use serde_json::{Value, json};

use super::fixture::of;

struct Seen {
    policy: MaskingPolicy,
    environment: Option<Environment>,
    jobs: BTreeMap<String, JobView>,
    copies: Vec<ConfigMap>,
    now: Timestamp,
}

impl Seen {
    fn new() -> Self {
        let policy = json!({
            "metadata": {"name": "shop", "namespace": "n", "uid": "aaaaaaaa-bbbb", "generation": 1},
            "spec": {"data": [{"name": "db", "tables": [{"table": "public.users", "columns": {"id": {"keep": {}}}}]}]},
        });
        let environment = json!({
            "metadata": {"name": "production", "namespace": "n", "uid": "eeee"},
            "spec": {
                "tier": "Production", "modules": [{"name": "a", "workloads": [{"kind": "Deployment", "name": "a"}]}],
                "data": [{"name": "db", "postgres": {"connectionSecret": {"name": "db"}}}],
            },
        });
        let (jobs, copies) = (BTreeMap::new(), Vec::new());
        Self {
            policy: of(policy),
            environment: Some(of(environment)),
            jobs,
            copies,
            now: Timestamp::from_second(7_000_000).unwrap(),
        }
    }

    fn decide(&self) -> Decision<lockkeeper::api::MaskingPolicyStatus> {
        let settings = Settings { agent_image: "image".into(), namespace: "o".into(), service_account: "s".into() };
        let world = World {
            settings: &settings,
            policy: &self.policy,
            environment: self.environment.as_ref(),
            jobs: &self.jobs,
            copies: &self.copies,
            missing_policies: &[],
            refused: None,
        };
        plan(&world, self.now)
    }

    /// Writes statuses until something else is decided.
    fn settle(&mut self) -> Decision<lockkeeper::api::MaskingPolicyStatus> {
        for _ in 0..10 {
            match self.decide() {
                Decision::Advance(status) => self.policy.status = Some(*status),
                other => return other,
            }
        }
        panic!("it writes without end");
    }

    fn made(&mut self, resource: Resource) -> Value {
        let Decision::Perform(Effect::Create { resource: made, manifest }) = self.settle() else { panic!("nothing is made") };
        assert_eq!(made, resource);
        *manifest
    }

    /// Up to the Job that has ended with an outcome.
    fn classified(&mut self, outcome: Outcome) {
        let copy = self.made(Resource::ConfigMap);
        self.copies.push(of(copy.clone()));
        let job = self.made(Resource::Job);
        let task: Task =
            serde_json::from_str(job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"].as_str().unwrap()).unwrap();
        assert_eq!((task.verb, task.policy.as_deref()), (Verb::Classify, copy["metadata"]["name"].as_str()));
        let name = job["metadata"]["name"].as_str().unwrap().to_owned();
        let view = JobView {
            name: name.clone(),
            uid: "j".into(),
            step: "classify".into(),
            state: JobState::Succeeded,
            created_at: Some(self.now),
            deleting: false,
            exit_code: None,
            exit_reason: None,
            disruption: None,
            outcome: Some(outcome),
            progress: None,
            trouble: None,
            gate: None,
            pulled: BTreeMap::new(),
            log_tail: None,
        };
        self.jobs.insert(name, view);
    }

    fn said(&self) -> (bool, String) {
        let list = &self.policy.status.as_ref().unwrap().conditions;
        let ready = list.iter().find(|c| c.type_ == conditions::READY).unwrap();
        (ready.status == "True", ready.message.clone())
    }
}

#[test]
fn a_policy_gets_its_hash_then_its_coverage_then_what_was_made_for_it_goes() {
    let mut seen = Seen::new();
    let Decision::Advance(first) = seen.decide() else { panic!("no status") };
    assert_eq!(first.hash.as_deref(), Some(&*mask::hash(&seen.policy.spec)));
    let coverage = of(json!([{"data": "db", "columns": 2, "classified": 1, "unknown": ["public.users.mail"]}]));
    seen.classified(Outcome { coverage, notes: vec!["column mail: not named".into()], ..Outcome::default() });
    let Decision::Perform(Effect::Delete { resource: Resource::Job, .. }) = seen.settle() else { panic!("the Job stays") };
    assert_eq!(seen.said(), (false, "column mail: not named".into()));
    assert_eq!(seen.policy.status.as_ref().unwrap().coverage[0].unknown, ["public.users.mail"]);
    seen.jobs.clear();
    let Decision::Perform(Effect::Delete { resource: Resource::ConfigMap, .. }) = seen.settle() else { panic!("its copy stays") };
    seen.copies.clear();
    let Decision::Wait(Some(next)) = seen.settle() else { panic!("it is not looked at again") };
    assert_eq!(next.as_second(), 7_000_000 + 86_400);

    // Another spec: another hash, and what was known of the old one goes.
    seen.policy.spec.data[0].tables[0].columns.insert("mail".into(), of(json!({"redact": {}})));
    seen.policy.metadata.generation = Some(2);
    seen.classified(Outcome::default());
    seen.settle();
    assert_eq!(seen.said(), (true, "every column is named".into()));
}

#[test]
fn nothing_is_asked_while_a_run_works_and_after_it_the_catalog_is_looked_at_again() {
    let mut seen = Seen::new();
    seen.classified(Outcome::default());
    seen.settle();
    seen.jobs.clear();
    seen.copies.clear();
    assert!(matches!(seen.settle(), Decision::Wait(Some(_))));
    let run = json!({"kind": "Promotion", "name": "p", "uid": "u"});
    let status =
        |more: Value| Some(of::<Environment>(json!({"metadata": {}, "spec": seen_spec(), "status": more})).status.unwrap());
    seen.environment.as_mut().unwrap().status = status(json!({"active": run}));
    seen.now = Timestamp::from_second(9_000_000).unwrap();
    assert!(matches!(seen.settle(), Decision::Wait(None)), "a day has passed, but a run works here");
    seen.now = Timestamp::from_second(7_000_200).unwrap();
    let ended = json!({"kind": "Promotion", "name": "p", "specHash": "x", "at": "1970-03-23T00:28:20Z", "phase": "Completed"});
    seen.environment.as_mut().unwrap().status = status(json!({"finished": [ended]}));
    seen.made(Resource::ConfigMap);
}

fn seen_spec() -> Value {
    serde_json::to_value(Seen::new().environment.unwrap().spec).unwrap()
}

#[test]
fn what_it_cannot_look_at_is_said_and_tried_again_with_the_hour() {
    let mut seen = Seen::new();
    seen.environment = None;
    assert!(matches!(seen.settle(), Decision::Wait(None)));
    assert!(seen.said().1.contains("has no Environment"));

    let mut seen = Seen::new();
    seen.policy.spec.data[0].name = "other".into();
    seen.settle();
    assert!(seen.said().1.contains("data other is not in Environment production"));

    let mut seen = Seen::new();
    seen.classified(Outcome::default());
    for job in seen.jobs.values_mut() {
        (job.state, job.outcome) = (JobState::Failed("PodFailed".into()), None);
    }
    let Decision::Wait(Some(again)) = seen.settle() else { panic!("it does not wait") };
    assert_eq!(again.as_second() % 3600, 0);
    assert!(!seen.said().0 && !seen.said().1.is_empty());
    seen.now = again;
    let Decision::Perform(Effect::Delete { resource: Resource::Job, .. }) = seen.settle() else { panic!("the old Job stays") };
    seen.jobs.clear();
    assert_eq!(seen.made(Resource::Job)["kind"], "Job");
    assert_eq!(seen.copies[0].name_any(), seen.copies.last().unwrap().name_any());
}

#[test]
fn of_a_volume_the_policy_lists_patterns_and_what_it_says_of_files_is_told_beside_the_columns() {
    let with = |entry: Value| {
        let mut seen = Seen::new();
        let environment = seen.environment.as_mut().unwrap();
        environment.spec.data.push(of(json!({"name": "uploads", "volume": {"claim": {"name": "uploads"}}})));
        if !entry.is_null() {
            seen.policy.spec.data.push(of(entry));
        }
        seen
    };
    for (entry, sentence) in [
        (json!({"name": "uploads"}), "say which of its files may leave, files: {include:"),
        (
            json!({"name": "uploads", "files": {"include": ["/a"]}}),
            "data uploads: files.include \"/a\": paths begin below the volume",
        ),
        (json!({"name": "uploads", "files": {"include": ["{a"]}}), "correct it"),
    ] {
        let mut seen = with(entry);
        assert!(matches!(seen.settle(), Decision::Wait(_)));
        let (ready, said) = seen.said();
        assert!(!ready && said.contains(sentence), "{sentence:?} is not in {said:?}");
    }
    let mut seen = Seen::new();
    seen.policy.spec.data[0] = of(json!({"name": "db", "files": {"include": ["a"]}}));
    seen.settle();
    assert!(seen.said().1.contains("data db is a database, and has no files; list its tables"), "{:?}", seen.said());

    for (entry, sentence) in [
        (Value::Null, "every column is named; data uploads: no file of this volume leaves, because no pattern is listed"),
        (
            json!({"name": "uploads", "files": {"include": ["a", "b/**"]}}),
            "data uploads: files that match one of 2 patterns leave",
        ),
    ] {
        let mut seen = with(entry);
        seen.classified(Outcome::default());
        seen.settle();
        assert!(seen.said().0 && seen.said().1.contains(sentence), "{:?}", seen.said());
    }
}
