//! Tables: data that is a volume. As whom and where Jobs mount it, what is refused, what is waited for.

use std::collections::BTreeMap;

use lockkeeper::{
    api::{EnvironmentBackup, EnvironmentRestore, Phase},
    manifest::task::Task,
    plan::{
        Decision, Effect, Progress, Resource, backup, restore,
        volumes::{problems, read_for_another, unused},
        world::{JobState, JobView, Run, World},
    },
};
use serde_json::{Value, json};

use super::{
    fixture::{NAMESPACE, Seen, of},
    walk::Change,
};

const CONTEXT: [&str; 4] = ["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"];

fn claim(modes: Value, more: Value) -> Value {
    let mut claim = json!({"metadata": {"name": "uploads"}, "spec": {"accessModes": modes, "volumeMode": "Filesystem"}});
    for (key, value) in more.as_object().unwrap() {
        claim["spec"][key] = value.clone();
    }
    claim
}

fn mounting(pod: &mut Value, context: &Value) {
    pod["volumes"] = json!([{"name": "u", "persistentVolumeClaim": {"claimName": "uploads"}}]);
    pod["containers"][0]["volumeMounts"] = json!([{"name": "u", "mountPath": "/u"}]);
    pod["containers"][0]["securityContext"] = json!({"runAsUser": 1000, "readOnlyRootFilesystem": true});
    pod["securityContext"] = context.clone();
}

/// The pods of web run on a node, and mount what its Deployment says.
fn pods_mount(seen: &mut Seen) {
    for pod in seen.target_side.pods.iter_mut().filter(|p| p.spec.is_none()) {
        if pod.metadata.labels.as_ref().is_some_and(|l| l.get("app").is_some_and(|app| app == "web")) {
            let tolerations = json!([{"key": "t", "operator": "Exists"}]);
            let mut value = serde_json::to_value(&*pod).unwrap();
            value["spec"] = json!({"nodeName": "node-1", "containers": [{"name": "web"}], "tolerations": tolerations});
            mounting(&mut value["spec"], &json!({}));
            *pod = of(value);
        }
    }
}

/// Both environments at rest; the target has a volume, which the Deployment web mounts.
pub fn with_files(context: &Value) -> Seen {
    let mut seen = Seen::new();
    let mut target = serde_json::to_value(seen.target.take().unwrap()).unwrap();
    target["spec"]["data"].as_array_mut().unwrap().push(json!({"name": "uploads", "volume": {"claim": {"name": "uploads"}}}));
    seen.target = Some(of(target));
    seen.target_side.volumes = vec![of(claim(json!(["ReadWriteOnce"]), json!({})))];
    let mut web = serde_json::to_value(&seen.target_side.deployments[0]).unwrap();
    mounting(&mut web["spec"]["template"]["spec"], context);
    seen.target_side.deployments[0] = of(web);
    pods_mount(&mut seen);
    seen
}

/// Carries a run to its end, all going well; gives its Jobs by step.
pub fn jobs_of(seen: &mut Seen, mut meanwhile: impl FnMut(&mut Seen)) -> BTreeMap<String, Value> {
    let mut jobs = BTreeMap::new();
    for _ in 0..60 {
        for _ in 0..200 {
            let decision = seen.plan();
            if let Decision::Perform(Effect::Create { resource: Resource::Job, manifest }) = &decision {
                let step = manifest["metadata"]["labels"]["lockkeeper.dev/step"].as_str().unwrap().to_owned();
                jobs.insert(step, (**manifest).clone());
            }
            if !seen.carry_out(&decision) {
                break;
            }
        }
        Change::Approve { who: "bob", today: true }.happen(seen);
        Change::Good.happen(seen);
        pods_mount(seen);
        meanwhile(seen);
    }
    jobs
}

pub fn task(job: &Value) -> Task {
    let text = job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"].as_str().unwrap();
    serde_json::from_str(text).unwrap()
}

/// How a Job mounts the claim. None: not at all.
fn mount(job: &Value) -> Option<(Value, bool)> {
    let pod = &job["spec"]["template"]["spec"];
    // A migration has what its workload has.
    job.pointer("/spec/template/metadata/labels/lockkeeper.dev~1agent")?;
    let volume = pod["volumes"].as_array().unwrap().iter().find(|v| v["persistentVolumeClaim"]["claimName"] == "uploads")?;
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|m| m["name"] == volume["name"]).unwrap();
    assert_eq!(mount["mountPath"], "/lockkeeper/volumes/uploads");
    Some((pod.clone(), mount["readOnly"] == true))
}

#[test]
fn jobs_that_work_on_files_mount_the_claim_as_the_workloads_user_and_others_do_not() {
    let mut seen = with_files(&json!({"runAsUser": 7, "runAsGroup": 2000, "fsGroup": 3000, "supplementalGroups": [4000]}));
    let jobs = jobs_of(&mut seen, |_| {});
    assert_eq!(seen.status().phase, Phase::Completed, "{:?}", seen.status());
    let steps: Vec<&str> = jobs.iter().filter(|(_, job)| mount(job).is_some()).map(|(step, _)| step.as_str()).collect();
    assert_eq!(steps, ["preflight", "preflight-early", "undo"]);
    for step in steps {
        let (pod, reads) = mount(&jobs[step]).unwrap();
        assert!(reads, "{step} writes no file");
        let context: Vec<&Value> = CONTEXT.iter().map(|f| &pod["securityContext"][f]).collect();
        assert_eq!(
            context,
            [&json!(1000), &json!(2000), &json!(null), &json!([4000, 3000, 65532])],
            "the container's word counts"
        );
        assert_eq!(pod["securityContext"].get("fsGroup"), None, "{step}: the kubelet gives no file to anybody");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert!(pod["volumes"].as_array().unwrap().iter().any(|v| v["name"] == "repository"), "{step}");
        assert_eq!(task(&jobs[step]).volumes.len(), 1);
        let node = pod
            .pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0");
        if step == "undo" {
            assert_eq!((node, pod.get("tolerations")), (None, None), "no pod uses it any more");
        } else {
            assert_eq!(node.unwrap()["values"], json!(["node-1"]), "only pods of one node mount it at once");
            assert_eq!(pod["tolerations"], json!([{"key": "t", "operator": "Exists"}]));
        }
    }
    let fence = task(&jobs["fence"]);
    assert!(
        fence.volumes.len() == 1 && !fence.repository,
        "it knows that there are files, and leaves them to a pod that has them"
    );
}

#[test]
fn what_no_workload_says_of_its_user_is_ours_and_everyone_in_the_pod_reads_its_secrets() {
    for (context, container, wanted) in [
        (json!({}), json!({}), [json!(65532), json!(65532), Value::Null, json!([65532])]),
        // Root is nobody that a pod of ours may be.
        (json!({"runAsUser": 0}), json!({}), [json!(65532), json!(65532), Value::Null, json!([65532])]),
        (json!({"runAsUser": 5}), json!({}), [json!(5), Value::Null, Value::Null, json!([65532])]),
        (json!({"fsGroup": 9}), json!({"runAsUser": 6, "runAsGroup": 8}), [json!(6), json!(8), Value::Null, json!([9, 65532])]),
    ] {
        let mut seen = with_files(&context);
        let mut web = serde_json::to_value(&seen.target_side.deployments[0]).unwrap();
        web["spec"]["template"]["spec"]["containers"][0]["securityContext"] = container;
        seen.target_side.deployments[0] = of(web);
        let jobs = jobs_of(&mut seen, |_| {});
        let (pod, _) = mount(&jobs["undo"]).unwrap();
        let got = CONTEXT.map(|f| pod["securityContext"].get(f).cloned().unwrap_or_default());
        assert_eq!(got, wanted, "{context}");
        let secret = pod["volumes"].as_array().unwrap().iter().find(|v| v["name"] == "repository-password").unwrap();
        assert_eq!(secret["secret"]["defaultMode"], json!(0o444), "{context}");
    }
}

#[test]
fn a_rollback_writes_the_files_and_its_pod_is_never_taken_for_gone() {
    let mut seen = with_files(&json!({}));
    let mut cancelled = false;
    let jobs = jobs_of(&mut seen, |seen| {
        let locked = seen.status().step.is_some_and(|s| s.starts_with("workloads"));
        if locked && !cancelled {
            cancelled = true;
            Change::Cancel.happen(seen);
        }
    });
    assert!(cancelled);
    assert_eq!(seen.status().phase, Phase::RolledBack, "{:?}", seen.status());
    let steps: Vec<&String> = jobs.keys().collect();
    let (pod, reads) = jobs.get("rollback-data").and_then(mount).unwrap_or_else(|| panic!("it mounts the claim: {steps:?}"));
    assert!(!reads && pod["volumes"].as_array().unwrap().iter().any(|v| v["name"] == "repository"));
    let volumes = task(&jobs["rollback-data"]).volumes;
    assert_eq!(volumes[0].undo, Some("b2".repeat(32)), "it is told what to put back, wherever the repository is by then");
    assert!(mount(&jobs["rollback-release-data"]).is_none());
}

#[test]
fn before_the_undo_point_stands_in_the_status_a_rollback_needs_neither_claim_nor_repository() {
    for (step, method, repository) in
        [("fence", "Auto", false), ("undo", "Auto", false), ("undo", "Clone", false), ("undo", "Backup", true)]
    {
        let mut seen = with_files(&json!({}));
        seen.target.as_mut().unwrap().spec.data[0].undo.method = of(json!(method));
        let mut cancelled = false;
        let jobs = jobs_of(&mut seen, |seen| {
            if seen.status().step.as_deref() == Some(step) && !cancelled {
                cancelled = true;
                // What the fence's pod cloned it says; of a database that is not cloned it says nothing.
                if method == "Backup" {
                    seen.jobs.values_mut().filter(|j| j.step == "fence").for_each(|j| j.outcome = Some(Default::default()));
                }
                Change::Cancel.happen(seen);
            }
        });
        assert!(cancelled, "{step}");
        assert_eq!(seen.status().phase, Phase::RolledBack, "{step} {method}: {:?}", seen.status());
        let job = &jobs["rollback-data"];
        assert!(mount(job).is_none() && task(job).volumes.is_empty(), "{step} {method}: no file was changed");
        let mounted = job["spec"]["template"]["spec"]["volumes"].as_array().unwrap().iter().any(|v| v["name"] == "repository");
        assert_eq!((mounted, task(job).repository), (repository, repository), "{step} {method}");
    }
}

#[test]
fn data_that_is_taken_out_of_the_spec_is_not_left_out_of_the_rollback() {
    let mut seen = with_files(&json!({}));
    let whole = seen.target.clone().unwrap().spec.data;
    let mut taken = false;
    let jobs = jobs_of(&mut seen, |seen| {
        if seen.status().step.is_some_and(|s| s.starts_with("workloads")) && !taken {
            taken = true;
            seen.target.as_mut().unwrap().spec.data.retain(|d| d.volume.is_none());
            Change::Cancel.happen(seen);
        }
    });
    let status = seen.status();
    assert_eq!(status.phase, Phase::NeedsHuman, "{status:?}");
    assert!(!jobs.contains_key("rollback-data"), "nothing is put back by halves");
    let next = status.next.unwrap();
    assert!(next.contains("data uploads was taken out of") && next.contains("add data uploads again"), "{next}");
    seen.target.as_mut().unwrap().spec.data = whole;
    let jobs = jobs_of(&mut seen, |seen| seen.now += jiff::SignedDuration::from_secs(60));
    assert_eq!(seen.status().phase, Phase::RolledBack, "{:?}", seen.status());
    assert!(mount(&jobs["rollback-data"]).is_some());
}

/// What keeps its volumes from being mounted, in words.
fn wrong(seen: &Seen) -> String {
    let spec = &seen.target.as_ref().unwrap().spec;
    problems(spec, &spec.data.iter().collect::<Vec<_>>(), &seen.target_side).join("; ")
}

#[test]
fn what_would_stay_and_what_cannot_be_mounted_is_refused_by_name() {
    type Spoil = fn(&mut Seen);
    let table: [(&str, Spoil); 7] = [
        ("PersistentVolumeClaim uploads does not exist", |s| s.target_side.volumes.clear()),
        ("is ReadWriteOncePod", |s| s.target_side.volumes[0] = of(claim(json!(["ReadWriteOncePod"]), json!({})))),
        ("cannot be written", |s| s.target_side.volumes[0] = of(claim(json!(["ReadOnlyMany"]), json!({})))),
        ("is a block device", |s| {
            s.target_side.volumes[0] = of(claim(json!(["ReadWriteOnce"]), json!({"volumeMode": "Block"})));
        }),
        ("Deployment web mounts it and stays up while locked", |s| {
            s.target.as_mut().unwrap().spec.maintenance.exclude = vec![of(json!({"kind": "Deployment", "name": "web"}))];
        }),
        ("pod stranger mounts it and stays up while locked", |s| {
            let mut pod = s.target_side.pods[0].clone();
            (pod.metadata.name, pod.metadata.owner_references) = (Some("stranger".into()), None);
            s.target_side.pods.push(pod);
        }),
        ("Deployment copier mounts it", |s| {
            let mut other = s.target_side.deployments[0].clone();
            other.metadata.name = Some("copier".into());
            s.target_side.deployments.push(other);
        }),
    ];
    let fine = with_files(&json!({}));
    assert_eq!(wrong(&fine), "");
    for (words, spoil) in table {
        let mut seen = with_files(&json!({}));
        spoil(&mut seen);
        let found = wrong(&seen);
        assert!(found.contains(words), "{words}: {found}");
        if words.starts_with("pod stranger") {
            continue; // the fixture's pods are those of its workloads
        }
        let jobs = jobs_of(&mut seen, |_| {});
        assert!(!jobs.contains_key("fence"), "{words}: nobody is locked out");
        let check = seen.status().preflight.iter().find(|c| c.name == "volumes").cloned().unwrap();
        assert!(!check.passed && check.message.contains(words), "{check:?}");
    }
    // What is over, and what of ours reads it, is in nobody's way.
    let mut seen = with_files(&json!({}));
    let mut over = seen.target_side.pods[0].clone();
    (over.metadata.name, over.metadata.owner_references) = (Some("over".into()), None);
    over.status.as_mut().unwrap().phase = Some("Succeeded".into());
    let mut ours = seen.target_side.pods[0].clone();
    (ours.metadata.name, ours.metadata.owner_references) = (Some("ours".into()), None);
    ours.metadata.labels = Some([("lockkeeper.dev/agent".to_owned(), "backup".to_owned())].into());
    seen.target_side.pods.extend([over, ours]);
    assert_eq!(wrong(&seen), "");
    // But the lock waits for one that reads it for a backup: what it reads would be half of the one and half of the other.
    let spec = seen.target.clone().unwrap().spec;
    let data: Vec<_> = spec.data.iter().collect();
    assert_eq!(read_for_another(&data, &seen.target_side, "uid-of-a-run").as_deref(), Some("pod ours"));
    let ours = seen.target_side.pods.last().cloned().unwrap();
    let jobs = jobs_of(&mut seen, |seen| seen.target_side.pods.push(ours.clone()));
    assert_eq!(seen.status().next.as_deref(), Some("pod ours, which reads a volume for a backup"));
    assert!(!jobs.contains_key("undo"));
    seen.target_side.pods.retain(|p| p.metadata.name.as_deref() != Some("ours"));
    // A Job is there a while before its pod is.
    let mut job = json!({
        "metadata": {"name": "backup-1", "labels": {"lockkeeper.dev/run": "uid-b"}},
        "spec": {"template": {"spec": {"containers": [{"name": "agent"}]}}},
    });
    mounting(&mut job["spec"]["template"]["spec"], &json!({}));
    seen.target_side.starting = vec![of(job.clone())];
    let jobs = jobs_of(&mut seen, |_| {});
    assert_eq!(seen.status().next.as_deref(), Some("Job backup-1, which reads a volume for a backup"));
    assert!(!jobs.contains_key("undo"));
    job["spec"]["template"]["spec"]["volumes"] = json!([]);
    seen.target_side.starting = vec![of(job)];
    assert!(jobs_of(&mut seen, |_| {}).contains_key("undo"), "one that mounts nothing is in nobody's way");
}

#[test]
fn under_the_lock_a_pod_that_holds_on_to_the_claim_is_waited_for_and_then_named() {
    let mut seen = with_files(&json!({}));
    let spec = seen.target.clone().unwrap().spec;
    let data: Vec<_> = spec.data.iter().collect();
    let at = |seconds: i64| seen.now + jiff::SignedDuration::from_secs(seconds);
    let (begun, soon, late) = (at(0), at(10), at(61));
    let Progress::Waiting { what, until: Some(_) } = unused(&data, &seen.target_side, begun, soon) else { panic!("it waits") };
    assert_eq!(what, "pod web-1 to let go of claim uploads");
    let Progress::Failed { reason, message } = unused(&data, &seen.target_side, begun, late) else { panic!("it fails") };
    assert!(reason == "VolumeInUse" && message.contains("pod web-1 mounts claim uploads"), "{message}");
    seen.target_side.pods.clear();
    assert_eq!(unused(&data, &seen.target_side, begun, late), Progress::Done(None));
}

#[test]
fn a_backup_reads_the_volume_where_it_is_used_and_its_proof_does_without() {
    let seen = with_files(&json!({"fsGroup": 3000}));
    let backup: EnvironmentBackup = of(json!({
        "metadata": {"name": "b", "namespace": NAMESPACE, "uid": "uid-b", "finalizers": ["lockkeeper.dev/run"]},
        "spec": {"environment": {"name": "production"}, "data": {"all": {}}, "reason": "", "keep": false},
    }));
    let decide = |status: Value, side: &lockkeeper::plan::world::Side, jobs: &BTreeMap<String, JobView>| {
        let mut backup = backup.clone();
        backup.status = Some(of(status));
        let world = backup::World {
            settings: &seen.settings,
            backup: &backup,
            environment: seen.target.as_ref(),
            jobs,
            side,
            missing_policies: &[],
            refused: None,
        };
        backup::plan(&world, seen.now)
    };
    let made = |decision| match decision {
        Decision::Perform(Effect::Create { manifest, .. }) => *manifest,
        other => panic!("{other:?}"),
    };
    let none = BTreeMap::new();
    let opens = made(decide(json!({"phase": "Running"}), &seen.target_side, &none));
    opens_the_repository(&opens, "backup-open");
    let name = opens["metadata"]["name"].as_str().unwrap();
    let opening = |state| BTreeMap::from([(name.to_owned(), job_view(name, "backup-open", state))]);
    let waits = decide(json!({"phase": "Running"}), &seen.target_side, &opening(JobState::Running));
    assert!(!matches!(waits, Decision::Perform(_)), "{waits:?}");
    let reads = made(decide(json!({"phase": "Running"}), &seen.target_side, &opening(JobState::Succeeded)));
    let (pod, read_only) = mount(&reads).unwrap();
    assert!(read_only && pod["affinity"].is_object() && pod["securityContext"].get("fsGroup").is_none());
    let mut closed = opening(JobState::Succeeded);
    closed.values_mut().for_each(|j| {
        j.outcome = Some(of(json!({"checks": [{"name": "repository", "passed": false, "message": "it is not to be written"}]})));
    });
    let Decision::Advance(status) = decide(json!({"phase": "Running"}), &seen.target_side, &closed) else { panic!("it ends") };
    let failure = status.failure.unwrap();
    assert_eq!((failure.reason.as_str(), failure.message.as_str()), ("RepositoryClosed", "it is not to be written"));
    let proves = made(decide(json!({"phase": "Proving", "snapshot": "aa"}), &seen.target_side, &none));
    assert!(mount(&proves).is_none() && task(&proves).volumes.len() == 1, "what is proven is what the repository holds");
    let mut without = seen.target_side.clone();
    without.volumes.clear();
    let Decision::Advance(status) = decide(json!({"phase": "Pending"}), &without, &none) else {
        panic!("it says what is missing")
    };
    assert!(status.conditions.iter().any(|c| c.type_ == "Stalled" && c.message.contains("uploads does not exist: make it")));
}

#[test]
fn a_backup_that_is_tried_again_waits_for_the_lock_of_another_run_as_its_first_attempt_did() {
    waits_for_the_lock(Seen::new(), None);
    waits_for_the_lock(with_files(&json!({})), Some("backup-open"));
}

/// `opens`: what is done before it reads.
fn waits_for_the_lock(mut seen: Seen, opens: Option<&str>) {
    let backup: EnvironmentBackup = of(json!({
        "metadata": {"name": "b", "namespace": NAMESPACE, "uid": "uid-b", "finalizers": ["lockkeeper.dev/run"]},
        "spec": {"environment": {"name": "production"}, "data": {"all": {}}, "reason": "", "keep": false},
        "status": {"phase": "Running"},
    }));
    let decide = |seen: &Seen, jobs: &BTreeMap<String, JobView>| {
        let world = backup::World {
            settings: &seen.settings,
            backup: &backup,
            environment: seen.target.as_ref(),
            jobs,
            side: &seen.target_side,
            missing_policies: &[],
            refused: None,
        };
        backup::plan(&world, seen.now)
    };
    let made = |decision| match decision {
        Decision::Perform(Effect::Create { manifest, .. }) => manifest["metadata"]["name"].as_str().unwrap().to_owned(),
        other => panic!("{other:?}"),
    };
    let mut jobs = BTreeMap::new();
    let mut name = made(decide(&seen, &jobs));
    let holder = of(json!({"epoch": 3, "holder": {"kind": "Promotion", "name": "r-9", "uid": "other"}}));
    if let Some(opens) = opens {
        jobs.insert(name.clone(), job_view(&name, opens, JobState::Succeeded));
        seen.target.as_mut().unwrap().status.get_or_insert_default().lock = Some(Clone::clone(&holder));
        let Decision::Advance(status) = decide(&seen, &jobs) else { panic!("it waits") };
        assert!(status.conditions.iter().any(|c| c.reason == "Locked"), "who has opened the repository has read no file");
        seen.target.as_mut().unwrap().status = None;
        name = made(decide(&seen, &jobs));
    }
    let first = JobView { disruption: Some("evicted".into()), ..job_view(&name, "backup", JobState::Running) };
    jobs.insert(name.clone(), first);
    seen.target.as_mut().unwrap().status.get_or_insert_default().lock = Some(holder);
    assert_eq!(decide(&seen, &jobs), Decision::Wait(None), "the lock was taken while it read; it goes on");
    jobs.get_mut(&name).unwrap().state = JobState::Failed("BackoffLimitExceeded".into());
    let Decision::Advance(status) = decide(&seen, &jobs) else { panic!("it waits and says why") };
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled").unwrap();
    assert!(stalled.reason == "Locked" && stalled.message.contains("Promotion r-9"), "{stalled:?}");
    seen.target.as_mut().unwrap().status = None;
    let second = made(decide(&seen, &jobs));
    assert_ne!(second, name, "and is tried again once the lock is free");
}

#[test]
fn a_volume_is_restored_only_with_a_database_whose_epoch_guards_it() {
    let seen = with_files(&json!({}));
    let restore: EnvironmentRestore = of(json!({
        "metadata": {"name": "back", "namespace": NAMESPACE, "uid": "uid-back", "generation": 1, "finalizers": ["lockkeeper.dev/run"]},
        "spec": {
            "environment": {"name": "production"}, "from": {"snapshot": {"id": "0123456789abcdef"}}, "data": {"names": ["uploads"]},
            "requestedBy": {"username": "olga"},
        },
    }));
    let world = World { run: Run::Restore(&restore), ..seen.world() };
    let Decision::Advance(status) = restore::plan(&world, Default::default(), seen.now) else { panic!("it says why") };
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled").unwrap();
    assert!(
        stalled.message.contains("goes back together with a database") && stalled.message.contains("db"),
        "{}",
        stalled.message
    );
}

#[test]
fn volumes_of_different_users_are_refused_and_of_different_groups_one_job_is_in_all() {
    let mut seen = with_files(&json!({"fsGroup": 1000, "supplementalGroups": [7, 2000]}));
    let mut target = serde_json::to_value(seen.target.take().unwrap()).unwrap();
    target["spec"]["data"].as_array_mut().unwrap().push(json!({"name": "media", "volume": {"claim": {"name": "media"}}}));
    seen.target = Some(of(target));
    let mut media = claim(json!(["ReadWriteOnce"]), json!({}));
    media["metadata"]["name"] = json!("media");
    seen.target_side.volumes.push(of(media));
    let mut other = serde_json::to_value(&seen.target_side.deployments[0]).unwrap();
    other["metadata"]["name"] = json!("media");
    let pod = &mut other["spec"]["template"]["spec"];
    pod["volumes"][0]["persistentVolumeClaim"]["claimName"] = json!("media");
    pod["securityContext"]["fsGroup"] = json!(2000);
    seen.target_side.deployments.push(of(Clone::clone(&other)));
    let spec = seen.target.as_ref().unwrap().spec.clone();
    let groups = |names: &[&str]| {
        let data: Vec<_> = spec.data.iter().filter(|d| names.contains(&&*d.name)).collect();
        lockkeeper::plan::volumes::mounts(&spec, &data, &seen.target_side, false).groups
    };
    assert_eq!((groups(&["uploads"]), groups(&["media"])), (vec![7, 2000, 1000], vec![7, 2000]));
    assert_eq!(groups(&["uploads", "media"]), [7, 2000, 1000], "each once");
    let said = wrong(&seen);
    assert!(!said.contains("one Job works on the files of both"), "{said}");
    other["spec"]["template"]["spec"]["containers"][0]["securityContext"]["runAsUser"] = json!(1001);
    *seen.target_side.deployments.last_mut().unwrap() = of(other);
    let said = wrong(&seen);
    assert!(said.contains("data uploads and data media") && said.contains("one says runAsUser 1000, the other 1001"), "{said}");
}

fn job_view(name: &str, step: &str, state: JobState) -> JobView {
    JobView {
        name: name.into(),
        uid: "j".into(),
        step: step.into(),
        outcome: (state == JobState::Succeeded).then(Default::default),
        state,
        created_at: Some("2026-11-22T20:00:10Z".parse().unwrap()),
        deleting: false,
        exit_code: None,
        exit_reason: None,
        disruption: None,
        progress: None,
        trouble: None,
        gate: None,
        pulled: BTreeMap::new(),
        log_tail: None,
    }
}

/// A Job whose pod mounts the repository, to be given to our group, and no data.
pub fn opens_the_repository(job: &Value, step: &str) {
    assert_eq!(job["metadata"]["labels"]["lockkeeper.dev/step"], step);
    let pod = &job["spec"]["template"]["spec"];
    let volumes = pod["volumes"].as_array().unwrap();
    assert!(mount(job).is_none() && volumes.iter().any(|v| v["name"] == "repository"), "{volumes:?}");
    assert_eq!(pod["securityContext"]["fsGroup"], 65532, "{step}");
    let task = task(job);
    assert!(task.repository && task.data.is_empty() && task.volumes.is_empty(), "{task:?}");
}

/// The first Jobs of a run, each ended well before the next is made.
fn first_jobs(seen: &mut Seen, count: usize) -> Vec<Value> {
    let mut jobs = Vec::new();
    for _ in 0..200 {
        let decision = seen.plan();
        if let Decision::Perform(Effect::Create { resource: Resource::Job, manifest }) = &decision {
            jobs.push((**manifest).clone());
        }
        if jobs.len() == count {
            return jobs;
        }
        if !seen.carry_out(&decision) {
            Change::Good.happen(seen);
            pods_mount(seen);
        }
    }
    panic!("no {count} Jobs: {jobs:?}");
}

#[test]
fn a_repository_on_a_claim_is_opened_by_a_pod_of_our_group_before_one_mounts_it_beside_data() {
    let mut seen = with_files(&json!({"fsGroup": 3000}));
    let jobs = first_jobs(&mut seen, 2);
    opens_the_repository(&jobs[0], "preflight-early-open");
    let (pod, _) = mount(&jobs[1]).unwrap();
    assert!(pod["volumes"].as_array().unwrap().iter().any(|v| v["name"] == "repository"));

    let mut bucket = with_files(&json!({}));
    let mut target = serde_json::to_value(bucket.target.take().unwrap()).unwrap();
    target["spec"]["backups"]["repository"] =
        json!({"s3": {"endpoint": "https://s3.example.org", "bucket": "b", "credentialsSecret": {"name": "s3-key"}}});
    bucket.target = Some(of(target));
    assert!(mount(&first_jobs(&mut bucket, 1)[0]).is_some(), "a bucket belongs to no group");
    let opened = Seen::new().target_side.volumes.is_empty().then(|| first_jobs(&mut Seen::new(), 1)).unwrap();
    assert_eq!(opened[0]["metadata"]["labels"]["lockkeeper.dev/step"], "preflight-early", "nor is there need without volumes");

    // What does not open is said before a file is looked at.
    let mut closed = with_files(&json!({}));
    let jobs = jobs_of(&mut closed, |seen| {
        for job in seen.jobs.values_mut().filter(|j| j.step.ends_with("-open")) {
            job.outcome = Some(of(json!({"checks": [{"name": "repository", "passed": false, "message": "it is another's"}]})));
        }
    });
    let check = closed.status().preflight.iter().find(|c| !c.passed).cloned().unwrap();
    assert_eq!((check.name.as_str(), check.message.as_str()), ("repository", "it is another's"));
    assert!(!jobs.contains_key("preflight-early") && !jobs.contains_key("fence"), "{:?}", jobs.keys());
}

/// Carries a Promotion to a step, edits the Environment there, and goes on as long as there is something to do.
fn edited_at(step: &str, edit: impl Fn(&mut Value)) -> (Seen, BTreeMap<String, Value>) {
    let mut seen = with_files(&json!({}));
    let mut edited = false;
    let jobs = jobs_of(&mut seen, |seen| {
        if seen.status().step.is_some_and(|s| s.starts_with(step)) && !edited {
            edited = true;
            let mut target = serde_json::to_value(seen.target.take().unwrap()).unwrap();
            edit(&mut target["spec"]["data"]);
            seen.target = Some(of(target));
        }
    });
    assert!(edited, "{step}");
    (seen, jobs)
}

#[test]
fn a_run_works_on_the_claims_and_connections_that_it_has_locked_and_on_no_others() {
    type Edit = fn(&mut Value);
    let table: [(&str, Edit, &str); 4] = [
        ("undo", |data| data[1]["volume"]["claim"]["name"] = json!("fresh"), "claim fresh by now"),
        ("workloads", |data| data[1]["volume"]["claim"]["name"] = json!("fresh"), "name claim uploads again"),
        ("workloads", |data| data[0]["postgres"]["connectionSecret"]["name"] = json!("b"), "name connectionSecret db again"),
        (
            "undo",
            |data| data[0]["postgres"]["adminSecret"] = json!({"name": "c"}),
            "connectionSecret db and adminSecret c by now",
        ),
    ];
    for (step, edit, words) in table {
        let (mut seen, jobs) = edited_at(step, edit);
        let status = seen.status();
        let of_data = words.contains("Secret") || step == "workloads";
        let why = status.failure.clone().unwrap();
        assert!(why.reason == "DataMoved" && why.message.contains(words), "{step}: {why:?}");
        let named = |job: &Value| ["\"fresh\"", "\"b\"", "\"c\""].iter().any(|name| job.to_string().contains(name));
        assert!(!jobs.values().any(named), "{step}: no Job mounts what was never locked");
        if !of_data {
            assert_eq!(status.phase, Phase::RolledBack, "no file was changed yet");
            continue;
        }
        assert_eq!(status.phase, Phase::NeedsHuman, "{step}: {status:?}");
        assert!(!jobs.contains_key("rollback-data") && status.next.unwrap().contains(words));
        // The earlier one is named again: what was done there is undone there.
        seen.target.as_mut().unwrap().spec.data = with_files(&json!({})).target.unwrap().spec.data;
        let jobs = jobs_of(&mut seen, |seen| seen.now += jiff::SignedDuration::from_secs(60));
        assert_eq!(seen.status().phase, Phase::RolledBack, "{step}: {:?}", seen.status());
        assert!(jobs["rollback-data"].to_string().contains("\"db\""));
    }
    // Once users have their data back, an edit is the next run's.
    let (seen, _) = edited_at("release-data", |data| data[1]["volume"]["claim"]["name"] = json!("fresh"));
    assert_eq!(seen.status().phase, Phase::Completed, "{:?}", seen.status());
    let told = &seen.status().data;
    assert_eq!((told[0].connection_secret.as_deref(), told[1].claim.as_deref()), (Some("db"), Some("uploads")));
}
