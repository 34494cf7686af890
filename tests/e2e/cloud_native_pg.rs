//! (o) The only Secret is one as CloudNativePG writes it, of a role that owns its database and may do nothing else. Preflight
//! says what it lacks, and after exactly that the same run goes on. (p) It is undone from a second backup: because the
//! Environment says so, and because the server does not clone.

use lockkeeper::api::{Phase, Promotion, PromotionStatus};
use serde_json::{Value, json};

use super::{
    cluster::{apply, kubectl},
    outcome::{self, Before},
    users::Users,
    world::{PATIENCE, World},
};

/// The Secret of an application, key by key as that operator writes it.
fn secret(namespace: &str) -> String {
    let host = "postgres";
    let (user, password) = ("tiny", "tiny-of-a-story");
    let uri = |host: &str| format!("postgresql://{user}:{password}@{host}:5432/tiny");
    let jdbc = |host: &str| format!("jdbc:postgresql://{host}:5432/tiny?password={password}&user={user}");
    let (near, far) = (format!("{host}.{namespace}"), format!("{host}.{namespace}.svc.cluster.local"));
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": {"name": "cluster-app", "namespace": namespace, "labels": {"cnpg.io/cluster": "cluster"}},
        "stringData": {
            "username": user, "user": user, "password": password, "dbname": "tiny", "host": host, "port": "5432",
            "uri": uri(&near), "jdbc-uri": jdbc(&near), "fqdn-uri": uri(&far), "fqdn-jdbc-uri": jdbc(&far),
            "pgpass": format!("{host}:5432:tiny:{user}:{password}\n"),
        },
    })
    .to_string()
}

fn data(world: &World, postgres: &str, value: Value) {
    let change = json!([{"op": "add", "path": format!("/spec/data/0{postgres}"), "value": value}]).to_string();
    kubectl(&["-n", &world.production, "patch", "environment", "production", "--type=json", "-p", &change]).expect("a patch");
}

/// What a check says, once it has this verdict.
fn check(world: &World, run: &str, name: &str, passed: bool) -> String {
    world.record.until(("Promotion", run), &format!("check {name} has an answer"), PATIENCE, |seen| {
        let status = seen.read::<Promotion>().status?;
        status.preflight.into_iter().find(|c| c.name == name && c.passed == passed).map(|c| c.message)
    })
}

/// What is kept aside is the failed database, and the undo point was a snapshot: the step says so, and why.
fn by_backup(status: &PromotionStatus, why: &[&str]) {
    let undo = status.steps.iter().find(|s| s.name == "undo").and_then(|s| s.message.clone()).unwrap_or_default();
    for words in [&["to snapshot "][..], why].concat() {
        assert!(undo.contains(words), "the undo point does not say {words:?}: {undo}");
    }
    assert!(status.undo.iter().all(|u| u.database.contains("__failed_")), "{:?}", status.undo);
}

#[test]
fn story_the_secret_of_a_database_operator_lacks_rights_that_preflight_names_and_a_second_backup_undoes() {
    let world = World::new("cnpg", "2-broken");
    apply(&secret(&world.production)).expect("the Secret applies");
    data(&world, "/postgres", json!({"connectionSecret": {"name": "cluster-app"}}));
    data(&world, "/undo", json!({"method": "Backup"}));

    world.ask(&world.promotion("said"));
    let lacks = check(&world, "said", "tiny-db: rights", false);
    assert!(lacks.contains("role tiny may not make databases: ALTER ROLE \"tiny\" CREATEDB;"), "{lacks}");
    let statements = |text: &str| -> Vec<String> {
        let begins = ["ALTER ROLE ", "GRANT "].into_iter().flat_map(|b| text.match_indices(b).map(|(at, _)| at));
        begins.filter_map(|at| text[at..].split_once(';').map(|(s, _)| s.to_owned())).collect()
    };
    for statement in statements(&lacks) {
        println!("as preflight says: {statement};");
        world.database.query("postgres", &statement).expect("whoever owns the server may");
    }
    let mut users = Users::of(&world, "said", "*/*", 1);
    let before = Before::of(&world, &users, 1);
    world.approve("said");
    let promise = check(&world, "said", "tiny-db: undo point", true);
    assert!(promise.contains("a second backup under the lock, because undo.method says so"), "{promise}");
    world.begins("said", "page");
    users.rush();
    let run = world.reaches("said", &[Phase::RolledBack]);
    outcome::as_before(&world, &run, &before, &users.heard(), ("migration/tiny", &["half of the writes"]));
    by_backup(&run.status.expect("a status"), &[]);

    // The server was upgraded, and its collations with it: a database whose version differs is not cloned.
    let forged = "UPDATE pg_database SET datcollversion = '1' WHERE datname = 'tiny'";
    world.database.query("postgres", forged).expect("a superuser may");
    data(&world, "/undo", json!({"method": "Auto"}));
    let first = 10_000_001;
    let mut users = Users::of(&world, "auto", "*/*", first);
    let before = Before::of(&world, &users, first);
    world.ask(&world.promotion("auto"));
    world.approve("auto");
    let promise = check(&world, "auto", "tiny-db: undo point", true);
    assert!(
        promise.contains("a second backup under the lock, because it cannot be cloned: its collation is of version 1"),
        "{promise}"
    );
    world.begins("auto", "page");
    users.rush();
    let run = world.reaches("auto", &[Phase::RolledBack]);
    outcome::as_before(&world, &run, &before, &users.heard(), ("migration/tiny", &["half of the writes"]));
    by_backup(&run.status.expect("a status"), &["by backup, because it cannot be cloned"]);
}
