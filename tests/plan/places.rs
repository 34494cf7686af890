//! A repository on S3, as the Jobs of a run see it: no volume, a Secret as files, and nothing secret in the task.

use std::time::Duration;

use lockkeeper::{
    api::{Environment, Release},
    manifest::{
        Owner, job,
        task::{S3Task, Task, Verb},
    },
    plan::{Effect, release::hash_of_plan, world::Settings},
};
use serde_json::{Value, json};

use super::fixture::{of, production};

fn on_s3(prefix: Option<&str>) -> Environment {
    let mut environment = serde_json::to_value(production()).unwrap();
    environment["spec"]["backups"]["repository"] = json!({"s3": {
        "endpoint": "https://s3.example.org", "bucket": "backups", "prefix": prefix, "credentialsSecret": {"name": "s3-key"},
    }});
    of(environment)
}

fn made(environment: &Environment) -> Value {
    let settings = Settings { agent_image: "image".into(), namespace: "o".into(), service_account: "s".into() };
    let owner = Owner { kind: "Promotion", name: "r", uid: "76b55e57-723f-6659-995e-a92631015128", namespace: "shop" };
    let task = Task::new(Verb::Backup, owner, ("uid".into(), "production"));
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
