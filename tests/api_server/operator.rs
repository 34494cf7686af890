//! What is the operator's alone, and what binds it: backups of its own, status, finalizers, owners; and what its charts give it.

use super::*;

#[tokio::test]
async fn a_backup_needs_the_verb_and_the_operator_makes_its_own() {
    let world = World::new("backup").await;
    let backups = |client| api(&client, &world.production, "EnvironmentBackup");
    let sentence =
        format!("{WRITER} may not back up Environment {}/production; ask its owner for the verb backup", world.production);
    refused(backups(world.user(WRITER)).create(&post(), &backup("m", "production")).await, 403, &sentence);
    refused(backups(world.user("alice")).create(&post(), &backup("a", "production")).await, 403, "cannot create resource");
    backups(world.user("olga")).create(&post(), &backup("o", "production")).await.unwrap();
    let mut owned = backup("r", "production");
    owned.metadata.finalizers = Some(vec!["lockkeeper.dev/run".into()]);
    let run = world.planned("p").await;
    owned.metadata.owner_references = Some(vec![
        serde_json::from_value(json!({
            "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion", "name": "p", "uid": run.uid().unwrap()
        }))
        .unwrap(),
    ]);
    backups(world.operator()).create(&post(), &owned).await.unwrap();
}

#[tokio::test]
async fn status_is_the_operators_alone() {
    let world = World::new("status").await;
    world.planned("p").await;
    api(&world.admin(), &world.production, "EnvironmentBackup").create(&post(), &backup("b", "production")).await.unwrap();
    let sentence = format!("status is written by {} alone; say what you want in spec", world.operator_name());
    for (kind, name, status) in [
        ("Promotion", "p", json!({"status": {"phase": "Completed"}})),
        ("Environment", "production", json!({"status": {"lock": {"epoch": 9}}})),
        ("EnvironmentBackup", "b", json!({"status": {"phase": "Completed"}})),
    ] {
        for client in [world.admin(), world.user(WRITER)] {
            let objects = api(&client, &world.production, kind);
            refused(objects.patch_status(name, &plain(), &merge(status.clone())).await, 403, &sentence);
            let mut read = objects.get(name).await.unwrap();
            read.data["status"] = status["status"].clone();
            refused(objects.replace_status(name, &post(), &read).await, 403, &sentence);
            let mut applied = read.clone();
            applied.metadata = kube::core::ObjectMeta { name: Some(name.into()), ..Default::default() };
            refused(objects.patch_status(name, &apply_as("mine").force(), &Patch::Apply(&applied)).await, 403, &sentence);
            // By the object itself it is ignored.
            let ignored = objects.replace(name, &post(), &read).await.unwrap();
            assert_ne!(ignored.data["status"], read.data["status"]);
        }
        refused(
            api(&world.user("alice"), &world.production, kind).patch_status(name, &plain(), &merge(status)).await,
            403,
            "cannot patch resource",
        );
    }
}

#[tokio::test]
async fn finalizers_and_owners_are_not_for_people() {
    let world = World::new("metadata").await;
    world.planned("p").await;
    world.hold("p").await;
    let (fin, own) = ("metadata.finalizers: leave them as they are", "metadata.ownerReferences: leave them as they are");
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "00000000-0000-0000-0000-000000000000"}]);
    for client in [world.user("alice"), world.user(WRITER), world.admin()] {
        let promotions = api(&client, &world.production, "Promotion");
        for value in [json!(null), json!([]), json!(["lockkeeper.dev/run", "example.com/mine"])] {
            refused(promotions.patch("p", &plain(), &merge(json!({"metadata": {"finalizers": value}}))).await, 403, fin);
        }
        refused(promotions.patch("p", &plain(), &merge(json!({"metadata": {"ownerReferences": owner}}))).await, 403, own);
    }
    let mut held = world.promotion("held", "alice");
    held.metadata.finalizers = Some(vec!["example.com/mine".into()]);
    refused(world.promotions("alice").create(&post(), &held).await, 403, fin);
    let mut owned = world.promotion("owned", "alice");
    owned.metadata.owner_references = serde_json::from_value(owner.clone()).unwrap();
    refused(world.promotions("alice").create(&post(), &owned).await, 403, own);
    let environments = api(&world.user("olga"), &world.production, "Environment");
    refused(environments.patch("production", &plain(), &merge(json!({"metadata": {"finalizers": ["a.b/c"]}}))).await, 403, fin);
    // The operator takes its own away.
    let operator = api(&world.operator(), &world.production, "Promotion");
    operator.patch("p", &plain(), &merge(json!({"metadata": {"finalizers": null}}))).await.unwrap();
}

#[tokio::test]
async fn the_operators_own_hand_is_bound_too() {
    let world = World::new("hand").await;
    world.planned("p").await;
    let operator = api(&world.operator(), &world.production, "Promotion");
    refused(operator.create(&post(), &world.promotion("x", "alice")).await, 403, "cannot create resource");
    refused(operator.delete("p", &DeleteParams::default()).await, 403, "deleting a Promotion that has not ended cancels it");
    refused(operator.patch("p", &plain(), &merge(json!({"spec": {"description": "x"}}))).await, 403, "sign the change");
    refused(operator.patch("p", &plain(), &merge(approvals(&[approval("bob", PLAN)]))).await, 403, "nobody approves for another");
    refused(
        operator.patch_status("p", &plain(), &merge(json!({"status": {"phase": "Validated"}}))).await,
        403,
        "cannot patch resource",
    );
}

#[tokio::test]
async fn a_status_written_from_a_stale_reading_conflicts() {
    let world = World::new("swap").await;
    world.planned("p").await;
    let operator = api(&world.operator(), &world.production, "Promotion");
    let (mut first, mut second) = (operator.get("p").await.unwrap(), operator.get("p").await.unwrap());
    first.data["status"]["phase"] = json!("Validated");
    second.data["status"]["phase"] = json!("Expired");
    operator.replace_status("p", &post(), &first).await.unwrap();
    refused(operator.replace_status("p", &post(), &second).await, 409, "the object has been modified");
    assert_eq!(operator.get("p").await.unwrap().data["status"]["phase"], "Validated");

    let environments = api(&world.operator(), &world.production, "Environment");
    let free = environments.get("production").await.unwrap();
    let mut won = 0;
    for name in ["one", "two", "three"] {
        let mut mine = free.clone();
        mine.data["status"] = json!({"lock": {"epoch": 1, "holder": {"kind": "Promotion", "name": name, "uid": name}}});
        won += usize::from(environments.replace_status("production", &post(), &mine).await.is_ok());
    }
    assert_eq!(won, 1, "one lock, one holder");
}

#[tokio::test]
async fn fields_of_a_newer_version_do_not_reach_a_status() {
    let world = World::new("newer").await;
    world.planned("p").await;
    let operator = api(&world.operator(), &world.production, "Promotion");
    let mut read = operator.get("p").await.unwrap();
    read.data["status"]["phase"] = json!("Notifying");
    refused(operator.replace_status("p", &post(), &read).await, 422, "status.phase: Unsupported value");
}

#[tokio::test]
async fn the_environment_chart_gives_an_environment_all_it_needs() {
    let world = World::new("chart").await;
    let values = tempfile::NamedTempFile::new().unwrap();
    let production = environment("production", &world.production, &world.staging);
    std::fs::write(
        values.path(),
        json!({
            "operator": {"namespace": OPERATOR.0, "serviceAccount": OPERATOR.1},
            "people": {"requesters": ["rita"], "promoters": ["rita"], "aligners": ["rita"], "approvers": [{"kind": "Group", "name": "team"}], "owners": [{"kind": "ServiceAccount", "name": "argo"}]},
            "environment": {"name": "production", "spec": production.data["spec"]}
        })
        .to_string(),
    )
    .unwrap();
    let rendered = support::rendered(
        "charts/lockkeeper-environment",
        "shop",
        &world.production,
        &["--values", values.path().to_str().unwrap()],
    );
    kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &rendered).unwrap();

    let may = async |user: &str, group: &str, resource: &str, verb: &str| {
        world.may(user, &world.production, group, resource, verb).await
    };
    let operator = world.operator_name();
    eventually(async || may(&operator, "", "resourcequotas", "list").await.then_some(()).ok_or("the rights are not there yet"))
        .await;
    let argo = format!("system:serviceaccount:{}:argo", world.production);
    eventually(async || may(&argo, "lockkeeper.dev", "environments", "update").await.then_some(()).ok_or("nor these")).await;
    for right in lockkeeper::api::rights::ENVIRONMENT {
        for resource in right.resources {
            for verb in right.verbs {
                assert!(may(&operator, right.group, resource, verb).await, "{verb} {resource}");
            }
        }
    }
    assert!(!may(&operator, "", "secrets", "get").await);
    assert!(!may(&operator, "", "pods/exec", "create").await);
    assert!(may("rita", "lockkeeper.dev", "environments", "modify").await);
    assert!(may("rita", "lockkeeper.dev", "environments", "promote").await);
    assert!(!may("rita", "lockkeeper.dev", "environments", "backup").await);
    assert!(may("anyone-of-the-team", "lockkeeper.dev", "environments", "approve").await);
}

#[tokio::test]
async fn the_operator_finds_its_policies_by_name_and_may_not_touch_them() {
    use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
    use lockkeeper::api::policies;
    let world = World::new("policies").await;
    let (all, bindings) = (
        kube::Api::<ValidatingAdmissionPolicy>::all(world.operator()),
        kube::Api::<ValidatingAdmissionPolicyBinding>::all(world.operator()),
    );
    for name in policies::NAMES {
        let policy = all.get(name).await.unwrap();
        assert_eq!(policy.labels()[policies::VERSION_LABEL], policies::VERSION);
        assert_eq!(policy.spec.unwrap().failure_policy.as_deref(), Some(policies::FAILURE_POLICY));
        let warnings = policy.status.and_then(|status| status.type_checking).and_then(|checked| checked.expression_warnings);
        assert!(warnings.unwrap_or_default().is_empty(), "{name}: the API server warns of an expression");
        let binding = bindings.get(name).await.unwrap().spec.unwrap();
        assert_eq!(binding.validation_actions, Some(vec![policies::VALIDATION_ACTION.to_owned()]));
        refused(all.delete(name, &DeleteParams::default()).await.map(|_| ()), 403, "cannot delete resource");
    }
}
