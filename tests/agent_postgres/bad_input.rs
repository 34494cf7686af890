//! Bad input that only the server or the mounted files show: told by preflight, before anyone is locked out.

use super::*;
use crate::{bad_input_entries::are_all_shown_by, postgres::Server};

#[tokio::test]
async fn each_entry_is_told_before_anyone_is_locked_out() {
    let world = World::new("badinput").await;
    let secrets = world.paths.secrets.join("store");
    let task = world.task_with("preflight", json!({}));
    let told = async |task: &lockkeeper::manifest::task::Task, name: &str, words: &str| {
        let looked = world.done(task).await;
        let said = failed(&looked).into_iter().any(|(n, m)| n == name && m.contains(words));
        assert!(said, "{name}: {words}: {looked:?}");
    };
    // What an editor leaves at the end of a value is no part of it.
    assert!(fs::read_to_string(secrets.join("admin/uri")).unwrap().ends_with('\n'));
    assert_eq!(failed(&world.done(&task).await), []);

    let small = world.task_with("preflight", json!({"minimumFreeFactor": 1e9}));
    told(&small, "repository: space", "make its volume larger, or remove old backups").await;

    let password = world.paths.repository_password.join("password");
    fs::rename(&password, password.with_file_name("passwort")).unwrap();
    told(&task, "repository", "key password of its Secret is missing").await;
    fs::rename(password.with_file_name("passwort"), &password).unwrap();
    fs::rename(secrets.join("admin/uri"), secrets.join("admin/url")).unwrap();
    told(&task, "store: Secret", "data store, admin: key user is missing or empty; give uri, or host").await;
    are_all_shown_by(
        "agent_postgres",
        &[
            "Graph: two Environments on one database",
            "Graph: recreated Environment",
            "References: trailing newline",
            "References: PVC too small",
            "References: wrong key",
        ],
    );
}

#[tokio::test]
async fn a_database_belongs_to_one_environment_by_whatever_name_its_server_goes() {
    let world = World::new("claimed").await;
    let of = |environment: &str, name: &str| {
        let mut task = world.task_with("preflight", json!({"environmentName": name}));
        task.environment = format!("{environment}{}", &world.environment[environment.len()..]);
        task
    };
    let (first, second, again) =
        (of("aaaa", "shop/production"), of("bbbb", "shop-staging/staging"), of("cccc", "shop/production"));
    assert_eq!(failed(&world.done(&first).await), []);
    assert_eq!(failed(&world.done(&first).await), [], "its own claim is in nobody's way");
    // The second calls the server by another name.
    for which in ["connection", "admin"] {
        let file = world.paths.secrets.join("store").join(which).join("uri");
        let uri = fs::read_to_string(&file).unwrap().replace("127.0.0.1", "localhost");
        fs::write(&file, uri).unwrap();
    }
    let looked = world.done(&second).await;
    let (_, message) = failed(&looked).into_iter().find(|(n, _)| *n == "store: database").unwrap_or_else(|| panic!("{looked:?}"));
    assert!(message.contains("is data store of Environment shop/production"), "{message}");
    assert_eq!(failed(&world.done(&first).await), [], "who was refused claims nothing");
    // Made again under its name, an Environment goes on; but not over what a run has left closed.
    assert_eq!(failed(&world.done(&again).await), []);
    let mut fence = world.task("fence", 1);
    fence.environment = first.environment.clone();
    world.done(&fence).await;
    let held = world.done(&again).await;
    assert!(failed(&held).iter().any(|(_, m)| m.contains("was made again while a run held its database")), "{held:?}");
    // What the message says mends it.
    let boss = world.server.boss("postgres").await;
    for one in [&first, &again] {
        let place = lockkeeper::data::postgres::quote::control_database(&one.environment);
        boss.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", ident(&place))).await.unwrap();
    }
    boss.batch_execute(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", ident(&world.database))).await.unwrap();
    assert_eq!(failed(&world.done(&second).await), []);
}

#[tokio::test]
async fn more_tables_than_the_server_can_lock_at_once_are_told_with_the_setting_that_mends_it() {
    let world = World::on(Server::another(), "locks").await;
    world.server.set("max_locks_per_transaction", "10").await;
    let app = world.as_app().await;
    for many in (0..4_000).collect::<Vec<_>>().chunks(500) {
        let sql: Vec<String> = many.iter().map(|n| format!("CREATE TABLE many_{n} ()")).collect();
        app.batch_execute(&sql.join(";\n")).await.unwrap();
    }
    let preflight = world.task_with("preflight", json!({}));
    let looked = world.done(&preflight).await;
    let [("store: locks", said)] = failed(&looked)[..] else { panic!("{looked:?}") };
    let setting = said.split_once("(now 10) to ").unwrap().1.split_once(',').unwrap().0.to_owned();
    // It is as it says: nothing that reads them all at once can.
    let (code, outcome) = world.perform(&world.task_with("backup", json!({}))).await;
    let error = outcome.error.unwrap();
    assert!(code != 0 && error.message.contains("raise max_locks_per_transaction"), "{error:?}");
    world.server.set("max_locks_per_transaction", &setting).await;
    assert_eq!(failed(&world.done(&preflight).await), []);
    world.done(&world.task_with("backup", json!({}))).await;
}
