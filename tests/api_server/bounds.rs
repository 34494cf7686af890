//! What the operator itself may make and change in an environment. Its manifests come from the code that makes them, so
//! that a new kind of Job which the policy does not know turns a test red.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Pod, rbac::v1::RoleBinding};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use lockkeeper::{
    api::{Backups, Environment, EnvironmentSpec},
    manifest::{
        Owner, job, page,
        task::{MigrationTask, Task, Verb},
        volume::{self, Mounts},
    },
    plan::{Effect, Progress, Resource, jobs::JobProgress, opening::Opening, workload::Workload, world::Settings},
};
use serde_json::{Value, json};

use super::{
    server::{OPERATOR, World, api, eventually},
    support,
};

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The image that the rendered chart gives the agent.
fn agent_image() -> String {
    let chart = support::rendered("charts/lockkeeper", OPERATOR.1, OPERATOR.0, &[]);
    let line = chart.lines().find(|l| l.trim_start().contains("LOCKKEEPER_IMAGE")).unwrap();
    let value = line.split_once("value: ").unwrap().1;
    value.trim_end_matches('}').trim().trim_matches('"').to_owned()
}

/// A namespace with an Environment, in which the operator may work.
async fn world(name: &str) -> (World, EnvironmentSpec) {
    let world = World::new(name).await;
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "lockkeeper"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "lockkeeper-environment"},
        "subjects": [{"kind": "ServiceAccount", "namespace": OPERATOR.0, "name": OPERATOR.1}],
    }))
    .unwrap();
    Api::namespaced(world.admin(), &world.production).create(&PostParams::default(), &binding).await.unwrap();
    let target = api(&world.admin(), &world.production, "Environment");
    let mut flags = target.get("production").await.unwrap().data["spec"]["modules"][0].clone();
    flags["migration"] = json!({"command": ["migrate"], "connectionSecret": {"name": "migrator"}});
    let other = json!({"name": "other", "workloads": [{"kind": "Deployment", "name": "other"}], "migration": {"command": ["m"]}});
    let more = json!({"spec": {
        "modules": [flags, other],
        "data": [
            {"name": "flags-db", "postgres": {"connectionSecret": {"name": "unleash-db"}, "adminSecret": {"name": "admin"}}},
            {"name": "uploads", "volume": {"claim": {"name": "uploads"}}},
        ],
        "verification": [{"name": "login", "job": {"template": {"spec": {"containers": [{"name": "c", "image": "checks:1"}]}}}}],
    }});
    target.patch("production", &PatchParams::default(), &Patch::Merge(more)).await.unwrap();
    let environment: Environment = target.get("production").await.unwrap().try_parse().unwrap();
    let operator = world.operator_name();
    eventually(async || {
        let may = world.may(&operator, &world.production, "batch", "jobs", "create").await;
        may.then_some(()).ok_or("the rights are not there yet")
    })
    .await;
    (world, environment.spec)
}

fn settings() -> Settings {
    Settings { agent_image: agent_image(), namespace: OPERATOR.0.into(), service_account: OPERATOR.1.into() }
}

fn manifest(effect: Effect) -> Value {
    match effect {
        Effect::Create { manifest, .. } => *manifest,
        other => panic!("it makes nothing: {other:?}"),
    }
}

fn owner(namespace: &str) -> Owner<'_> {
    Owner { kind: "Promotion", name: "p", uid: "76b55e57-723f-6659-995e-a92631015128", namespace }
}

/// The Job of a verb on all data.
fn agents(spec: &EnvironmentSpec, namespace: &str, gated: bool) -> Value {
    let owner = owner(namespace);
    let mut task = Task::new(Verb::Fence, owner, ("e".into(), "production"));
    task.gated = gated;
    task.data = Task::data_of(&spec.data);
    task.data[0].migrations = vec![MigrationTask { secret: "migrator".into(), keys: Vec::new() }];
    let data: Vec<_> = spec.data.iter().collect();
    let made = job::agent(
        owner,
        &settings(),
        ("lk-fence", "fence"),
        &task,
        (&data, spec.backups.as_ref()),
        &[],
        Duration::from_secs(60),
    );
    manifest(made)
}

/// The Job of a verb that writes the files of a claim.
fn on_files(spec: &EnvironmentSpec, namespace: &str, claim: &str) -> Value {
    let made = Effect::Create { resource: Resource::Job, manifest: Box::new(agents(spec, namespace, false)) };
    let claims = vec![("uploads".to_owned(), claim.to_owned())];
    let node = Some(("node-1".to_owned(), Vec::new()));
    manifest(volume::mount(made, &Mounts { claims, writable: true, node, ..Mounts::default() }))
}

/// The Job that opens a repository before one mounts it beside files.
fn opens(place: &Backups, namespace: &str, step: &str) -> Value {
    let (owner, settings) = (owner(namespace), settings());
    let task = Task::new(Verb::Preflight, owner, ("e".into(), "production"));
    let mounts = Mounts { claims: vec![("uploads".into(), "uploads".into())], ..Mounts::default() };
    let opening = Opening { owner, settings: &settings, jobs: &BTreeMap::new(), step: (step, 0) };
    match opening.first(&task, Some(place), &mounts, lockkeeper::api::Timestamp::now()) {
        Some(JobProgress::Going(Progress::Do(effect))) => manifest(effect),
        other => panic!("it opens nothing: {other:?}"),
    }
}

fn workload(image: &str) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "unleash"},
        "spec": {
            "selector": {"matchLabels": {"app": "unleash"}},
            "template": {
                "metadata": {"labels": {"app": "unleash"}},
                "spec": {"containers": [{
                    "name": "unleash", "image": image,
                    "env": [{"name": "URL", "valueFrom": {"secretKeyRef": {"name": "unleash-db", "key": "uri"}}}],
                }]},
            },
        },
    }))
    .unwrap()
}

fn migration(namespace: &str, image: &str) -> Value {
    migration_as(namespace, image, ("migration/flags", None))
}

/// The migration of a module, perhaps with a role of its own.
fn migration_as(namespace: &str, image: &str, (step, secret): (&str, Option<&str>)) -> Value {
    let like = workload("unleash:1");
    let command = ["migrate".to_owned()];
    let names = ("lk-migration", step);
    let connection = secret.map(|s| ("unleash-db", s));
    manifest(
        job::migration(
            owner(namespace),
            names,
            Workload::Deployment(&like),
            ("unleash", image),
            &command,
            connection,
            Duration::from_secs(60),
        )
        .unwrap(),
    )
}

async fn make(world: &World, manifest: &Value) -> Result<(), String> {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let (client, namespace) = (world.operator(), &world.production);
    let said = if manifest["kind"] == "Job" {
        let made: Job = serde_json::from_value(manifest.clone()).unwrap();
        Api::namespaced(client, namespace).create(&dry, &made).await.map(drop)
    } else {
        let made: Deployment = serde_json::from_value(manifest.clone()).unwrap();
        Api::namespaced(client, namespace).create(&dry, &made).await.map(drop)
    };
    said.map_err(|error| error.to_string())
}

#[tokio::test]
async fn what_the_operator_makes_for_a_run_is_within_its_bounds() {
    let (world, spec) = world("bounds-good").await;
    let namespace = &world.production;
    let (owner, settings) = (owner(namespace), settings());
    let like = workload("unleash:1");
    let images = BTreeMap::from([("image-0".to_owned(), "unleash:1".to_owned())]);
    let template =
        json!({"spec": {"containers": [{"name": "c", "image": "checks:1", "envFrom": [{"secretRef": {"name": "unleash-db"}}]}]}});
    for (what, made) in [
        ("a Job on the data", agents(&spec, namespace, false)),
        ("a Job that waits for its turn", agents(&spec, namespace, true)),
        ("a Job on files", on_files(&spec, namespace, "uploads")),
        ("a Job that opens the repository", opens(spec.backups.as_ref().unwrap(), namespace, "preflight")),
        (
            "the page",
            manifest(page::deployment(
                owner,
                &settings,
                &page::task(Task::new(Verb::Page, owner, ("e".into(), "p"))),
                Some("own"),
            )),
        ),
        ("a migration", migration(namespace, &format!("registry.example/unleash@{DIGEST}"))),
        (
            "a migration with a role of its own",
            migration_as(namespace, &format!("registry.example/unleash@{DIGEST}"), ("migration/flags", Some("migrator"))),
        ),
        (
            "a pull",
            manifest(job::pull(
                owner,
                ("lk-pull", "preflight-pull/x"),
                Workload::Deployment(&like),
                &images,
                Duration::from_secs(60),
            )),
        ),
        ("a check", manifest(job::check(owner, ("lk-v", "verify/login"), &template, &[], Duration::from_secs(60)).unwrap())),
    ] {
        make(&world, &made).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[tokio::test]
async fn a_stolen_token_of_the_operator_reads_no_other_secret_and_runs_no_other_image() {
    let (world, spec) = world("bounds-bad").await;
    let namespace = &world.production;
    let good = format!("registry.example/unleash@{DIGEST}");
    let edited = |mut manifest: Value, pointer: &str, value: Value| {
        *manifest.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is there")) = value;
        manifest
    };
    let pod = "/spec/template/spec";
    let agents = |pointer: &str, value: Value| edited(agents(&spec, namespace, false), &format!("{pod}{pointer}"), value);
    let migration = |pointer: &str, value: Value| edited(migration(namespace, &good), &format!("{pod}{pointer}"), value);
    let named = json!([{"name": "X", "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "k"}}}]);
    let volume = |source: Value| {
        let mut volume = json!({"name": "tmp"});
        volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        volume
    };
    let projected = json!({"projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "tokens"}}]}});
    for (what, made, sentence) in [
        (
            "a Secret",
            agents("/volumes/0", volume(json!({"secret": {"secretName": "tokens"}}))),
            "only Secrets that the Environment names",
        ),
        (
            "a projected one",
            agents("/volumes/0", volume(projected)),
            "nothing of its node|only Secrets that the Environment names",
        ),
        ("one as a variable", agents("/containers/0/env", named), "only Secrets that the Environment names"),
        (
            "all of one as variables",
            agents("/containers/0", {
                let mut container =
                    self::agents(&spec, namespace, false).pointer("/spec/template/spec/containers/0").unwrap().clone();
                container["envFrom"] = json!([{"secretRef": {"name": "tokens"}}]);
                container
            }),
            "only Secrets that the Environment names",
        ),
        ("another's files", on_files(&spec, namespace, "mails"), "only claims that the Environment names"),
        ("the node's disk", agents("/volumes/0", volume(json!({"hostPath": {"path": "/"}}))), "nothing of its node"),
        ("an API token", agents("/automountServiceAccountToken", json!(true)), "no API token"),
        ("another image", agents("/containers/0/image", json!("evil:1")), "runs no other images|only the agent's pods"),
        (
            "the repository's password in a migration",
            migration("/containers/0/env/0/valueFrom/secretKeyRef/name", json!("backup-key")),
            "only the agent's pods",
        ),
        (
            "another migration's connection",
            migration_as(namespace, &good, ("migration/other", Some("migrator"))),
            "read by the migration of the module that names it",
        ),
        ("a migration by a tag", migration("/containers/0/image", json!("registry.example/unleash:2")), "by its digest"),
    ] {
        let said = make(&world, &made).await.expect_err(what);
        // Where two policies refuse, which of them speaks is the API server's choice.
        assert!(sentence.split('|').any(|s| said.contains(s)), "{what}: {said}");
    }
    // An upgrade's policies come before its operator, which ends what it has begun with the image that it knows.
    let repository = agent_image().rsplit_once(':').expect("a tag").0.to_owned();
    for (image, ours) in [
        (format!("{repository}:0.0.9"), true),
        (format!("{repository}@{DIGEST}"), true),
        (format!("{repository}:0.2.0-rc.1@{DIGEST}"), true),
        (format!("{repository}:5000/evil@{DIGEST}"), false),
        (format!("{repository}/evil:1"), false),
        (format!("evil/{repository}:1"), false),
        (format!("{repository}-evil:1"), false),
    ] {
        let answer = make(&world, &agents("/containers/0/image", json!(image))).await;
        assert_eq!(answer.is_ok(), ours, "{image}: {answer:?}");
    }
    let template = json!({"spec": {"containers": [{"name": "c", "image": "evil:1"}]}});
    let check =
        manifest(job::check(owner(namespace), ("lk-v", "verify/login"), &template, &[], Duration::from_secs(60)).unwrap());
    assert!(make(&world, &check).await.unwrap_err().contains("under verification"));
    let mut unlabelled = self::agents(&spec, namespace, false);
    unlabelled["metadata"]["labels"] = json!({"of": "another"});
    assert!(make(&world, &unlabelled).await.unwrap_err().contains("carries its labels"));
    let mut other = self::migration(namespace, &good);
    other["metadata"]["labels"]["lockkeeper.dev/step"] = json!("backup");
    assert!(make(&world, &other).await.unwrap_err().contains("runs no other images"));
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "labels": {"app.kubernetes.io/managed-by": "lockkeeper", "lockkeeper.dev/step": "page"}},
        "spec": workload("evil:1").spec,
    });
    assert!(make(&world, &deployment).await.unwrap_err().contains("no Deployment but"));
}

/// Parameters are looked for before `matchConditions` are: a binding that denied without them would stop the whole cluster.
#[tokio::test]
async fn a_job_that_masks_mounts_the_key_of_a_granted_policy_and_no_other_secret_in_its_place() {
    let (world, _) = world("bounds-masking").await;
    let namespace = &world.production;
    let policy = json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "MaskingPolicy", "metadata": {"name": "shop"},
        "spec": {"keySecret": {"name": "masking-key"}, "data": [{"name": "flags-db"}]},
    });
    let policies = api(&world.admin(), namespace, "MaskingPolicy");
    for (data, sentence) in [
        (json!({"tables": [], "files": {"include": ["a"]}}), "tables are of a database and files of a volume"),
        (json!({"files": {"include": []}}), "should have at least 1 items"),
        (json!({"files": {"include": ["a".repeat(257)]}}), "Too long"),
        (json!({"files": {"include": vec!["a"; 65]}}), "must have at most 64 items"),
        (json!({"files": {"include": ["a\nb"]}}), "should match"),
    ] {
        let mut wrong = policy.clone();
        wrong["spec"]["data"] = json!([data]);
        wrong["spec"]["data"][0]["name"] = json!("uploads");
        let created = policies.create(&PostParams::default(), &serde_json::from_value(wrong).unwrap()).await;
        let said = created.unwrap_err().to_string();
        assert!(said.contains(sentence), "{sentence:?} is not in {said:?}");
    }
    policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    let place = json!({"repository": {"volume": {"claim": {"name": "exchange"}}}, "passwordSecret": {"name": "exchange-key"}});
    let grant = json!({
        "to": {"namespace": "low", "name": "low"}, "maskingPolicy": {"name": "shop", "hash": format!("sha256:{}", "a".repeat(64))},
    });
    let target = api(&world.admin(), namespace, "Environment");
    let change = Patch::Merge(json!({"spec": {"exchange": place, "grants": [grant]}}));
    target.patch("production", &PatchParams::default(), &change).await.unwrap();
    let environment: Environment = target.get("production").await.unwrap().try_parse().unwrap();
    let exchange = environment.spec.exchange.as_ref().unwrap().place();
    let data: Vec<_> = environment.spec.data.iter().collect();
    let masks = |policy: &str, key: &str| {
        let owner = owner(namespace);
        let mut task = Task::new(Verb::Snapshot, owner, ("e".into(), "production"));
        task.data = Task::data_of(&environment.spec.data);
        let names = ("lk-snapshot", "snapshot");
        manifest(job::snapshot(
            owner,
            &settings(),
            names,
            &task,
            (&data, &exchange),
            (policy, Some(key)),
            Duration::from_secs(60),
        ))
    };
    // The API server learns of the policy and of the grant a moment later.
    eventually(async || make(&world, &masks("shop", "masking-key")).await).await;
    make(&world, &opens(&exchange, namespace, "snapshot")).await.unwrap();
    let mut another = exchange.clone();
    another.password_secret = serde_json::from_value(json!({"name": "tokens"})).unwrap();
    let refused = make(&world, &opens(&another, namespace, "receive")).await.unwrap_err();
    assert!(refused.contains("mounts only Secrets that the Environment names"), "{refused}");
    let stolen = make(&world, &masks("shop", "tokens")).await.unwrap_err();
    assert!(stolen.contains("mounts the key of its own MaskingPolicy"), "{stolen}");
    let unknown = make(&world, &masks("other", "tokens")).await.unwrap_err();
    assert!(unknown.contains("mounts only Secrets that the Environment names"), "{unknown}");
}

#[tokio::test]
async fn the_credentials_of_s3_are_read_by_the_agents_pods_alone_and_only_where_the_environment_names_them() {
    let (world, spec) = world("bounds-s3").await;
    let namespace = &world.production;
    let place = |bucket: &str, secret: &str, password: &str| {
        let s3 = json!({"endpoint": "https://s3.example.org", "bucket": bucket, "credentialsSecret": {"name": secret}});
        json!({"repository": {"s3": s3, "volume": null}, "passwordSecret": {"name": password}})
    };
    // The Environment with its volume: nobody asks S3.
    let mut on_s3 = spec.clone();
    on_s3.backups = serde_json::from_value(place("backups", "s3-key", "backup-key")).unwrap();
    let refused = make(&world, &agents(&on_s3, namespace, false)).await.unwrap_err();
    assert!(refused.contains("mounts only Secrets that the Environment names"), "{refused}");

    let change = json!({"spec": {"backups": place("backups", "s3-key", "backup-key"), "exchange": place("exchange", "s3-other", "e-key")}});
    let target = api(&world.admin(), namespace, "Environment");
    target.patch("production", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    eventually(async || make(&world, &agents(&on_s3, namespace, false)).await).await;
    on_s3.backups = serde_json::from_value(place("exchange", "s3-other", "e-key")).unwrap();
    make(&world, &agents(&on_s3, namespace, false)).await.unwrap();
    let image = format!("registry.example/unleash@{DIGEST}");
    for secret in ["s3-key", "s3-other"] {
        let mut migration = migration(namespace, &image);
        migration["spec"]["template"]["spec"]["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]["name"] = json!(secret);
        let refused = make(&world, &migration).await.unwrap_err();
        assert!(refused.contains("only the agent's pods read the credentials of a repository on S3"), "{secret}: {refused}");
    }
}

#[tokio::test]
async fn the_secret_of_a_server_for_proofs_is_mounted_where_the_environment_names_it() {
    let (world, mut spec) = world("bounds-proof").await;
    let namespace = &world.production;
    let proof = json!({"connectionSecret": {"name": "prover"}});
    spec.backups.as_mut().unwrap().proof = serde_json::from_value(proof.clone()).unwrap();
    let data: Vec<_> = spec.data.iter().collect();
    let mut task = Task::new(Verb::Prove, owner(namespace), ("e".into(), "production"));
    (task.data, task.proof) = (Task::data_of(&spec.data), true);
    let names = ("lk-prove", "prove");
    let (backups, patience) = (spec.backups.as_ref(), Duration::from_secs(60));
    let proves = manifest(job::agent(owner(namespace), &settings(), names, &task, (&data, backups), &[], patience));
    let refused = make(&world, &proves).await.unwrap_err();
    assert!(refused.contains("mounts only Secrets that the Environment names"), "{refused}");
    let target = api(&world.admin(), namespace, "Environment");
    let change = Patch::Merge(json!({"spec": {"backups": {"proof": proof}}}));
    target.patch("production", &PatchParams::default(), &change).await.unwrap();
    eventually(async || make(&world, &proves).await).await;
}

#[tokio::test]
async fn where_there_is_no_environment_nobody_is_hindered() {
    let (world, spec) = world("bounds-none").await;
    let target = api(&world.admin(), &world.production, "Environment");
    target.delete("production", &Default::default()).await.unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let plain: Job = serde_json::from_value(agents(&spec, &world.production, false)).unwrap();
    let admin: Api<Job> = Api::namespaced(world.admin(), &world.production);
    for _ in 0..20 {
        admin.create(&dry, &plain).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Api::<Deployment>::namespaced(world.admin(), "default").create(&dry, &workload("unleash:1")).await.unwrap();
}

#[tokio::test]
async fn of_a_workload_the_operator_changes_images_and_counts_alone() {
    let (world, _) = world("bounds-workload").await;
    let namespace = &world.production;
    Api::<Deployment>::namespaced(world.admin(), namespace).create(&PostParams::default(), &workload("unleash:1")).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(world.operator(), namespace);
    let change = async |container: Value, pod: Value| {
        let mut spec = json!({"replicas": 0, "template": {"spec": pod}});
        spec["template"]["spec"]["containers"] = json!([container]);
        let patch = Patch::Strategic(json!({"spec": spec}));
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        deployments.patch("unleash", &dry, &patch).await.map(drop).map_err(|error| error.to_string())
    };
    change(json!({"name": "unleash", "image": "unleash:2"}), json!({})).await.unwrap();
    let evil = json!({"name": "unleash", "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "k"}}}]});
    assert!(change(evil, json!({})).await.unwrap_err().contains("not what they run or read"));
    assert!(
        change(json!({"name": "unleash", "command": ["sh"]}), json!({})).await.unwrap_err().contains("not what they run or read")
    );
    assert!(
        change(json!({"name": "more", "image": "evil:1"}), json!({})).await.unwrap_err().contains("not what they run or read")
    );
    let volumes = json!({"volumes": [{"name": "v", "secret": {"secretName": "tokens"}}]});
    assert!(change(json!({"name": "unleash"}), volumes).await.unwrap_err().contains("not its volumes or its rights"));
    let account = json!({"serviceAccountName": "admin"});
    assert!(change(json!({"name": "unleash"}), account).await.unwrap_err().contains("not its volumes or its rights"));
}

#[tokio::test]
async fn of_a_pod_the_operator_changes_the_gate_alone() {
    let (world, _) = world("bounds-pods").await;
    let admin: Api<Pod> = Api::namespaced(world.admin(), &world.production);
    for (name, labels) in [("ours", json!({"lockkeeper.dev/agent": "fence"})), ("theirs", json!({"app": "unleash"}))] {
        let pod = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "c:1"}]},
        });
        admin.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    }
    let pods: Api<Pod> = Api::namespaced(world.operator(), &world.production);
    let change = async |name: &str, patch: Value| {
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        pods.patch(name, &dry, &Patch::Strategic(patch)).await.map(drop).map_err(|error| error.to_string())
    };
    let gate = json!({"metadata": {"annotations": {"lockkeeper.dev/gate": "7"}}});
    change("ours", gate.clone()).await.unwrap();
    for (name, patch) in [
        ("theirs", gate),
        ("ours", json!({"spec": {"containers": [{"name": "c", "image": "evil:1"}]}})),
        ("ours", json!({"metadata": {"labels": {"app": "unleash"}}})),
        ("ours", json!({"metadata": {"annotations": {"other": "x"}}})),
    ] {
        let said = change(name, patch.clone()).await.expect_err(&patch.to_string());
        assert!(said.contains("changes nothing of a pod but"), "{patch}: {said}");
    }
}
