//! Bad input that admission refuses: one row for each entry, by the API server's own words.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, PostParams},
};
use serde_json::{Value, json};

use super::*;
use crate::bad_input_entries::are_all_shown_by;

/// Where a row puts its value.
#[derive(Clone, Copy)]
enum In {
    Environment,
    Promotion,
    Restore,
}

fn restore() -> DynamicObject {
    object(json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "EnvironmentRestore", "metadata": {"name": "p"},
        "spec": {"environment": {"name": "production"}, "from": {"backup": {"name": "b"}}, "requestedBy": {"username": "olga"}}
    }))
}

async fn asked(world: &World, (empty, kind): (&str, In), path: &str, value: Value) -> Result<DynamicObject, kube::Error> {
    let (api, object) = match kind {
        In::Environment => (api(&world.admin(), empty, "Environment"), environment("production", empty, &world.staging)),
        In::Promotion => (world.promotions("alice"), world.promotion("p", "alice")),
        In::Restore => (super::server::api(&world.user("olga"), &world.production, "EnvironmentRestore"), restore()),
    };
    let mut object = object;
    if let Some(name) = path.strip_prefix("metadata.") {
        assert_eq!(name, "name");
        object.metadata.name = value.as_str().map(str::to_owned);
    } else {
        object = with(object, path, value);
    }
    // A server under load may give no answer, or say that it has no time for one. What it says of the input is asked for, and it
    // is asked again until it does; an answer, of whatever kind, is never asked for twice.
    for _ in 0..10 {
        match api.create(&dry(), &object).await {
            Err(kube::Error::Api(status)) if status.code == 429 || status.code >= 500 => {}
            Err(error) if !matches!(error, kube::Error::Api(_)) => {}
            answer => return answer,
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    api.create(&dry(), &object).await
}

/// A list of the schemas, by where it stands, with an item of which there may be many.
type List = (In, &'static str, fn(usize) -> Value);

/// Every list of the schemas.
fn lists() -> Vec<List> {
    let workload: fn(usize) -> Value = |i| json!({"kind": "Deployment", "name": format!("w{i}")});
    let name: fn(usize) -> Value = |i| json!(format!("n{i}"));
    vec![
        (In::Environment, "spec.promotesFrom", |i| json!({"namespace": format!("n{i}"), "name": "x"})),
        (
            In::Environment,
            "spec.modules",
            |i| json!({"name": format!("m{i}"), "workloads": [{"kind": "Deployment", "name": format!("w{i}")}]}),
        ),
        (In::Environment, "spec.modules.0.workloads", workload),
        (In::Environment, "spec.modules.0.requires", name),
        (In::Environment, "spec.modules.0.configuration", |i| json!({"configMap": {"name": format!("c{i}")}})),
        (In::Environment, "spec.modules.0.migration.command", name),
        (In::Environment, "spec.data", |i| json!({"name": format!("d{i}"), "postgres": {"connectionSecret": {"name": "s"}}})),
        (In::Environment, "spec.maintenance", |_| Value::Null),
        (In::Environment, "spec.verification", |i| json!({"name": format!("v{i}"), "http": {"url": "http://a/"}})),
        (In::Promotion, "spec.modules", name),
        (In::Promotion, "spec.approvals", |i| json!({"username": format!("u{i}"), "planHash": PLAN})),
        (In::Restore, "spec.data", |_| Value::Null),
        (In::Restore, "spec.approvals", |i| json!({"username": format!("u{i}"), "planHash": PLAN})),
    ]
}

/// Texts that people write: none of them takes these.
fn texts(bad: &str) -> Vec<(In, &'static str, Value)> {
    let mut out = vec![
        (In::Environment, "spec.modules.0.name", json!(bad)),
        (In::Environment, "spec.modules.0.workloads.0.name", json!(bad)),
        (In::Environment, "spec.data.0.name", json!(bad)),
        (In::Environment, "spec.data.0.postgres.connectionSecret.name", json!(bad)),
        (In::Environment, "spec.backups.repository.volume.claim.name", json!(bad)),
        (In::Environment, "spec.promotesFrom.0.namespace", json!(bad)),
        (In::Environment, "spec.verification", json!([{"name": bad, "http": {"url": "http://a/"}}])),
        (In::Environment, "spec.verification", json!([{"name": "v", "http": {"url": format!("http://a/{bad}")}}])),
        (In::Environment, "metadata.name", json!(bad)),
        (In::Promotion, "spec.environment", json!({"name": bad})),
        (In::Promotion, "spec.from.name", json!(bad)),
        (In::Promotion, "spec.modules", json!([bad])),
        (In::Promotion, "metadata.name", json!(bad)),
        (In::Restore, "spec.from", json!({"backup": {"name": bad}})),
        (In::Restore, "spec.from", json!({"snapshot": {"id": bad}})),
    ];
    // Free text: any language, but nothing that ends a line, turns it or cannot be seen.
    out.push((In::Promotion, "spec.description", json!(bad)));
    out.push((In::Promotion, "spec.requestedBy", json!({"username": bad})));
    out
}

async fn refused_all(world: &World, empty: &str, row: &str, bad: &[&str]) {
    for text in bad {
        for (kind, path, value) in texts(text) {
            let answer = asked(world, (empty, kind), path, value).await;
            let Err(kube::Error::Api(status)) = &answer else { panic!("{row}: {path} takes {text:?}: {answer:?}") };
            assert!(matches!(status.code, 400 | 403 | 422), "{row}: {path}: {}", status.message);
        }
    }
}

fn namespaced(mut environment: DynamicObject, namespace: &str) -> DynamicObject {
    environment.metadata.namespace = Some(namespace.to_owned());
    environment
}

async fn in_namespace(client: &Client, world: &World, namespace: &str) -> Result<DynamicObject, kube::Error> {
    let made = namespaced(environment("production", namespace, &world.staging), namespace);
    api(client, namespace, "Environment").create(&dry(), &made).await
}

async fn namespaces(world: &World, empty: &str) -> Vec<&'static str> {
    let admin = world.admin();
    refused(in_namespace(&admin, world, "nowhere").await, 404, "not found");
    let leaving = world.production.replace("-production", "-leaving");
    let made: Namespace = serde_json::from_value(json!({"metadata": {"name": leaving}})).unwrap();
    let all: Api<Namespace> = Api::all(admin.clone());
    all.create(&PostParams::default(), &made).await.unwrap();
    // Nobody here finishes its deletion, so it stays as it is in the middle of it.
    all.delete(&leaving, &DeleteParams::default()).await.unwrap();
    refused(in_namespace(&admin, world, &leaving).await, 403, "because it is being terminated");
    refused(in_namespace(&admin, world, "kube-system").await, 403, "this namespace is no place for an Environment");
    refused(in_namespace(&admin, world, OPERATOR.0).await, 403, "this namespace is no place for an Environment");
    in_namespace(&admin, world, empty).await.expect("any other is");
    let second = namespaced(environment("second", empty, &world.staging), &world.production);
    refused(api(&admin, &world.production, "Environment").create(&dry(), &second).await, 403, "one namespace is one environment");
    // Who may ask in the target but has no word in the source; and who has there another word than `promote`.
    world.bind(&world.production, "requester", &["ursula"]).await;
    let ask = async || world.promotions("ursula").create(&dry(), &world.promotion("p", "ursula")).await;
    refused(ask().await, 403, "ursula may not take releases from Environment");
    for role in ["approver", "owner", "requester", "viewer"] {
        world.bind(&world.staging, role, &["ursula"]).await;
    }
    refused(ask().await, 403, "ask its owner for the verb promote on it");
    vec![
        "Namespaces: missing",
        "Namespaces: terminating",
        "Namespaces: kube-system",
        "Namespaces: the operator's own",
        "Namespaces: two Environments in one",
        "Namespaces: no grant",
        "Namespaces: grant of another kind",
    ]
}

async fn modules(world: &World, empty: &str) -> Vec<&'static str> {
    let module = |name: &str, workload: &str| json!({"name": name, "workloads": [{"kind": "Deployment", "name": workload}]});
    let given = async |modules: Value| asked(world, (empty, In::Environment), "spec.modules", modules).await;
    refused(given(json!([module("a", "x"), module("a", "y")])).await, 422, "Duplicate value");
    refused(given(json!([module("a", "x"), module("b", "x")])).await, 422, "a workload belongs to one module");
    refused(given(json!([])).await, 422, "should have at least 1 items");
    refused(asked(world, (empty, In::Promotion), "spec.modules", json!([])).await, 422, "should have at least 1 items");
    refused(asked(world, (empty, In::Promotion), "spec.modules", json!(["a", "a"])).await, 422, "Duplicate value");
    vec!["Modules: duplicate", "Modules: empty"]
}

async fn size(world: &World, empty: &str) -> Vec<&'static str> {
    for (kind, path, item) in lists() {
        let many: Vec<Value> = (0..10_000).map(item).collect();
        let workloads: Vec<Value> = (0..10_000).map(|i| json!({"kind": "Deployment", "name": format!("w{i}")})).collect();
        let names: Vec<Value> = (0..10_000).map(|i| json!(format!("n{i}"))).collect();
        let values = match (kind, path) {
            (In::Environment, "spec.maintenance") => {
                vec![json!({"exclude": workloads}), json!({"pause": workloads}), json!({"services": {"names": names}})]
            }
            (In::Restore, "spec.data") => vec![json!({"names": names})],
            _ => vec![json!(many)],
        };
        for value in values {
            refused(asked(world, (empty, kind), path, value).await, 422, "Too many");
        }
    }
    let huge = "x".repeat(1 << 20);
    for (kind, path, value) in texts(&huge) {
        let answer = asked(world, (empty, kind), path, value).await;
        let Err(kube::Error::Api(status)) = &answer else {
            panic!("{path} with 1 MiB, where None says that it was taken: {:?}", answer.as_ref().err())
        };
        assert!(matches!(status.code, 403 | 422), "{path}: {}", &status.message[..200]);
        assert!(
            ["Too long", "should be at most", "no more than", "must be no more", "at most"]
                .iter()
                .any(|w| status.message.contains(w)),
            "{path}: {}",
            &status.message[status.message.len() - 200..]
        );
    }
    let long = "a".repeat(253);
    refused(
        asked(world, (empty, In::Environment), "metadata.name", json!(long)).await,
        422,
        "at most 63 characters, because labels carry it",
    );
    asked(world, (empty, In::Promotion), "metadata.name", json!(long))
        .await
        .expect("names of runs may be as long as Kubernetes lets them");
    asked(world, (empty, In::Environment), "spec.modules.0.workloads.0.name", json!(long))
        .await
        .expect("so may names of objects");
    refused(asked(world, (empty, In::Promotion), "metadata.name", json!(long + "a")).await, 422, "must be no more than 253");
    vec!["Size: 10,000-item lists", "Size: 1 MiB strings", "Size: 253-character names"]
}

async fn strings(world: &World, empty: &str) -> Vec<&'static str> {
    // Cyrillic а: who looks like alice is not alice, and no object is called so.
    let twin = asked(world, (empty, In::Promotion), "spec.requestedBy", json!({"username": "\u{430}lice"})).await;
    refused(twin, 403, "nobody asks in the name of \u{430}lice");
    let names = texts("fl\u{430}gs").into_iter().filter(|(_, path, _)| !["spec.description", "spec.requestedBy"].contains(path));
    for (kind, path, value) in names.filter(|(_, _, value)| !value.to_string().contains("http://")) {
        refused(asked(world, (empty, kind), path, value).await, 422, "");
    }
    refused_all(world, empty, "Strings: RTL", &["a\u{202e}b", "a\u{2067}b", "a\u{61c}b"]).await;
    refused_all(world, empty, "Strings: zero-width", &["a\u{200b}b", "a\u{2060}b", "a\u{feff}b", "a\u{ad}b", "a\u{e0041}b"])
        .await;
    refused_all(world, empty, "Strings: NUL", &["a\u{0}b"]).await;
    refused_all(world, empty, "Strings: newline in a name", &["a\nb", "a\n", "a\rb", "a\u{2028}b", "a\u{85}b", "a\tb"]).await;
    asked(world, (empty, In::Promotion), "spec.description", json!("Größe, señor, 中文, עברית"))
        .await
        .expect("people write their own language");

    let yaml = |more: &str| {
        format!(
            "apiVersion: lockkeeper.dev/v1alpha1\nkind: Environment\nmetadata: {{name: e, namespace: {empty}}}\nspec:\n  tier: Staging\n{more}  modules: [{{name: a, workloads: [{{kind: Deployment, name: x}}]}}]\n"
        )
    };
    let create = |more: &str| kubectl(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], &yaml(more));
    create("").unwrap();
    let refusal = create("  modulse: []\n").unwrap_err();
    assert!(refusal.contains("unknown field \"spec.modulse\""), "{refusal}");
    let twice = format!(
        r#"{{"apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Environment", "metadata": {{"name": "e", "namespace": "{empty}"}}, "spec": {{"tier": "Staging", "tier": "Production", "modules": []}}}}"#
    );
    // As it is sent: kubectl's own reading would drop one of the two.
    let place = format!("/apis/lockkeeper.dev/v1alpha1/namespaces/{empty}/environments?dryRun=All&fieldValidation=Strict");
    let refusal = kubectl(&["create", "--raw", &place, "-f", "-"], &twice).unwrap_err();
    assert!(refusal.contains("duplicate field \"spec.tier\""), "{refusal}");
    let refusal = create("  protected: \"true\"\n").unwrap_err();
    assert!(refusal.contains("must be of type boolean: \"string\""), "{refusal}");
    vec![
        "Strings: homoglyphs",
        "Strings: RTL",
        "Strings: zero-width",
        "Strings: NUL",
        "Strings: newline in a name",
        "Strings: unknown field",
        "Strings: duplicate key",
        "Strings: \"true\" for a boolean",
    ]
}

#[tokio::test]
async fn each_entry_is_refused_by_name() {
    let world = World::new("bad-input").await;
    let empty = world.empty().await;
    for kind in [In::Environment, In::Promotion, In::Restore] {
        let fine = match kind {
            In::Environment => asked(&world, (&empty, kind), "spec.tier", json!("Staging")).await,
            In::Promotion => asked(&world, (&empty, kind), "spec.description", json!("fine")).await,
            In::Restore => asked(&world, (&empty, kind), "spec.data", json!({"all": {}})).await,
        };
        fine.expect("what the rows spoil is well before");
    }
    let mut rows = namespaces(&world, &empty).await;
    rows.extend(modules(&world, &empty).await);
    rows.extend(size(&world, &empty).await);
    rows.extend(strings(&world, &empty).await);
    are_all_shown_by("api_server", &rows);
}
