//! A repository on S3, as the Jobs of a run see it: no volume, a Secret as files, and nothing secret in the task.

use std::{collections::BTreeMap, time::Duration};

use lockkeeper::{
    api::{Environment, Phase, Release},
    manifest::{
        Owner, job,
        task::{S3Task, Task, Verb},
    },
    plan::{Decision, Effect, backup, environment, release::hash_of_plan, world::Settings},
};
use serde_json::{Value, json};

use super::{
    fixture::{NAMESPACE, Seen, of, production},
    volumes::jobs_of,
};

fn on_s3(prefix: Option<&str>) -> Environment {
    let mut environment = serde_json::to_value(production()).unwrap();
    environment["spec"]["backups"]["repository"] = json!({"s3": {
        "endpoint": "https://s3.example.org", "bucket": "backups", "prefix": prefix, "credentialsSecret": {"name": "s3-key"},
    }});
    of(environment)
}

fn made(environment: &Environment) -> Value {
    made_for(environment, Verb::Backup, false)
}

fn made_for(environment: &Environment, verb: Verb, proof: bool) -> Value {
    let settings = Settings { agent_image: "image".into(), namespace: "o".into(), service_account: "s".into() };
    let owner = Owner { kind: "Promotion", name: "r", uid: "76b55e57-723f-6659-995e-a92631015128", namespace: "shop" };
    let mut task = Task::new(verb, owner, ("uid".into(), "production"));
    (task.proof, task.data) = (proof, Task::data_of(&environment.spec.data));
    let backups = environment.spec.backups.as_ref();
    match job::agent(owner, &settings, ("lk-backup", "backup"), &task, (&[], backups), &[], Duration::from_secs(60)) {
        Effect::Create { manifest, .. } => manifest["spec"]["template"]["spec"].clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_job_on_s3_mounts_the_credentials_as_files_and_no_volume() {
    let pod = made(&on_s3(Some("shop/production")));
    let volumes = pod["volumes"].as_array().unwrap();
    assert!(volumes.iter().all(|v| v["persistentVolumeClaim"].is_null()), "{volumes:?}");
    let secret = |name: &str| volumes.iter().find(|v| v["name"] == name).unwrap()["secret"]["secretName"].clone();
    assert_eq!((secret("repository-credentials"), secret("repository-password")), (json!("s3-key"), json!("key")));
    let container = &pod["containers"][0];
    let mounts = container["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|m| m["name"] == "repository-credentials").unwrap();
    assert_eq!(
        mount,
        &json!({"name": "repository-credentials", "mountPath": "/lockkeeper/repository-credentials", "readOnly": true})
    );
    assert_eq!(mounts.len(), 3, "scratch, password and credentials: {mounts:?}");
    let task: Task = serde_json::from_str(container["env"][0]["value"].as_str().unwrap()).unwrap();
    let place = S3Task {
        endpoint: "https://s3.example.org".into(),
        region: "us-east-1".into(),
        bucket: "backups".into(),
        prefix: "shop/production".into(),
    };
    assert_eq!(task.s3, Some(place));
    assert!(container["env"].as_array().unwrap().iter().all(|e| e["valueFrom"].is_null()), "{container}");

    let pod = made(&production());
    assert!(pod["volumes"].as_array().unwrap().iter().any(|v| v["persistentVolumeClaim"]["claimName"] == "backups"));
    assert!(!pod.to_string().contains("repository-credentials") && !pod.to_string().contains("s3"), "{pod}");
}

#[test]
fn approvals_are_for_the_place_that_was_shown() {
    let hash = |environment: Environment| hash_of_plan(json!({}), &Release::default(), &[], &environment.spec, &[]);
    let (volume, one, another) = (hash(production()), hash(on_s3(None)), hash(on_s3(Some("elsewhere"))));
    assert!(volume != one && one != another && volume != another);
}

#[test]
fn the_secret_of_a_server_for_proofs_is_mounted_where_something_is_proven_and_nowhere_else() {
    let task = |pod: &Value| -> Task { serde_json::from_str(pod["containers"][0]["env"][0]["value"].as_str().unwrap()).unwrap() };
    let secret = |pod: &Value| {
        let volumes = pod["volumes"].as_array().unwrap();
        volumes.iter().find(|v| v["name"] == "proof").map(|v| v["secret"]["secretName"].clone())
    };
    let mut environment = production();
    let pod = made_for(&environment, Verb::Prove, true);
    assert_eq!((secret(&pod), task(&pod).proof), (None, false), "on the data's own server");
    let proof = json!({"connectionSecret": {"name": "prover"}});
    environment.spec.backups.as_mut().unwrap().proof = serde_json::from_value(proof).unwrap();
    let pod = made_for(&environment, Verb::Prove, true);
    assert_eq!((secret(&pod), task(&pod).proof), (Some(json!("prover")), true));
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|m| m["name"] == "proof").unwrap();
    assert_eq!(mount, &json!({"name": "proof", "mountPath": "/lockkeeper/proof", "readOnly": true}));
    for verb in [Verb::Backup, Verb::Fence, Verb::Prune] {
        let pod = made_for(&environment, verb, false);
        assert_eq!((secret(&pod), task(&pod).proof), (None, false), "{verb:?}");
    }
    // With the Environment goes what a proof left there; its repository stays, and nothing that is gone keeps it.
    let pod = made_for(&environment, Verb::Forget, true);
    assert_eq!((secret(&pod), task(&pod).proof, task(&pod).s3), (Some(json!("prover")), true, None));
    let volumes = pod["volumes"].as_array().unwrap();
    assert_eq!(volumes.iter().find(|v| v["name"] == "proof").unwrap()["secret"]["optional"], true);
    assert!(volumes.iter().all(|v| !v["name"].as_str().unwrap().starts_with("repository")), "{volumes:?}");
    environment.spec.data.clear();
    assert_eq!(secret(&made_for(&environment, Verb::Prove, true)), None, "nothing of it goes to a server");
}

#[test]
fn the_job_of_an_environment_that_goes_may_enter_the_server_for_proofs() {
    let seen = Seen::new();
    let mut environment: Environment = production();
    let proof = json!({"connectionSecret": {"name": "prover"}});
    environment.spec.backups.as_mut().unwrap().proof = serde_json::from_value(proof).unwrap();
    environment.metadata.finalizers = Some(vec![lockkeeper::api::ENVIRONMENT_FINALIZER.into()]);
    environment.metadata.deletion_timestamp = of(json!("2026-11-22T18:00:00Z"));
    let (jobs, none) = (BTreeMap::new(), Vec::new());
    let world = environment::World {
        settings: &seen.settings,
        environment: &environment,
        others: &none,
        side: &seen.target_side,
        jobs: &jobs,
        runs: &none,
        made: &[],
        backups: &[],
        restores: &[],
        policies: &[],
        copies: &[],
        records: &[],
        missing_policies: &none,
        refused: None,
        terminating: false,
    };
    let Decision::Perform(Effect::Create { manifest, .. }) = environment::plan(&world, seen.now) else { panic!("no Job") };
    assert!(manifest.to_string().contains("\"prover\"") && !manifest.to_string().contains("repository-password"), "{manifest}");
}

#[test]
fn a_promotions_preflight_and_the_proof_of_a_backup_go_to_the_server_for_proofs_and_no_other_job_does() {
    let mut seen = Seen::new();
    let proof = json!({"connectionSecret": {"name": "prover"}});
    seen.target.as_mut().unwrap().spec.backups.as_mut().unwrap().proof = serde_json::from_value(proof).unwrap();
    let goes_there = |job: &Value| job.to_string().contains("\"prover\"");
    let jobs = jobs_of(&mut seen, |_| {});
    assert_eq!(seen.status().phase, Phase::Completed, "{:?}", seen.status());
    let steps: Vec<&str> = jobs.iter().filter(|(_, job)| goes_there(job)).map(|(step, _)| step.as_str()).collect();
    assert_eq!(steps, ["preflight", "preflight-early"]);

    for (phase, there) in [("Running", false), ("Proving", true)] {
        let backup = of(json!({
            "metadata": {"name": "b", "namespace": NAMESPACE, "uid": "uid-b", "finalizers": ["lockkeeper.dev/run"]},
            "spec": {"environment": {"name": "production"}, "data": {"all": {}}, "reason": "", "keep": false},
            "status": {"phase": phase, "snapshot": "aa"},
        }));
        let mut environment = seen.target.clone().unwrap();
        environment.status = None;
        let world = backup::World {
            settings: &seen.settings,
            backup: &backup,
            environment: Some(&environment),
            jobs: &BTreeMap::new(),
            side: &seen.target_side,
            missing_policies: &[],
            refused: None,
        };
        let Decision::Perform(Effect::Create { manifest, .. }) = backup::plan(&world, seen.now) else { panic!("{phase}") };
        assert_eq!(goes_there(&manifest), there, "{phase}");
    }
}
