//! PgBouncer between the agent and the server.

use std::{fs, process::Command};

use lockkeeper::manifest::task::exit;
use serde_json::json;

use super::{
    failed,
    postgres::{World, free_port, wait_until},
};

/// A PgBouncer before the server of a world. It ends with this.
struct Pooler {
    directory: tempfile::TempDir,
    port: u16,
}

impl Pooler {
    async fn start(world: &World, mode: &str, ignored: &str) -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
        let place = directory.path().display();
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let users = [&world.app, &world.admin].map(|role| format!("{} {}\n", quoted(role), quoted(world.password()))).concat();
        fs::write(directory.path().join("users"), users).unwrap();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {place}/users\npool_mode = {mode}\nignore_startup_parameters = {ignored}\n\
             logfile = {place}/log\npidfile = {place}/pid\n",
            world.server.port
        );
        fs::write(directory.path().join("settings"), settings).unwrap();
        world.server.give(directory.path());
        let started =
            world.server.command("pgbouncer").args(["--daemon", "--quiet"]).arg(directory.path().join("settings")).status();
        assert!(started.unwrap().success(), "{}", fs::read_to_string(directory.path().join("log")).unwrap_or_default());
        wait_until(async || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        Self { directory, port }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.directory.path().join("pid")).unwrap_or_default();
        let _ = Command::new("kill").arg(pid.trim()).status();
    }
}

#[tokio::test]
async fn a_pooler_in_between_is_told_beforehand_and_nothing_goes_through_it() {
    if !Command::new("pgbouncer").arg("--version").output().is_ok_and(|o| o.status.success()) {
        eprintln!("a pooler in between is not tried: the program pgbouncer is not installed");
        return;
    }
    let world = World::new("pooled").await;
    let before = world.databases().await;
    let control = async || world.server.connect("postgres", &world.control()).await.is_ok();
    // As it comes it refuses what it does not know; where it was told to ignore that, nobody says so.
    for (mode, ignored) in [("transaction", ""), ("transaction", "options,extra_float_digits"), ("session", "options")] {
        let pooler = Pooler::start(&world, mode, ignored).await;
        for which in ["connection", "admin"] {
            world.secret("store", which, if which == "admin" { &world.admin } else { &world.app }, &world.database);
            world.lead(which, pooler.port);
        }
        let looked = world.done(&world.task_with("preflight", json!({}))).await;
        let said =
            failed(&looked).into_iter().find(|(name, _)| *name == "store: server").unwrap_or_else(|| panic!("{looked:?}")).1;
        for part in [
            format!("127.0.0.1:{}: a pooler is in between", pooler.port),
            format!("Secret of role {}", world.admin),
            "name host and port of the PostgreSQL server itself".into(),
        ] {
            assert!(said.contains(&part), "{mode}, {ignored}: {part} is missing in: {said}");
        }
        for task in [world.task_with("backup", json!({})), world.task("fence", 1)] {
            world.refused(&task, exit::PERMANENT, "PoolerInBetween").await;
        }
        assert!(!control().await && world.databases().await == before, "{mode}, {ignored}");
    }
    // The role that works goes to the server itself, the application through a pooler.
    let pooler = Pooler::start(&world, "transaction", "options").await;
    world.secret("store", "admin", &world.admin, &world.database);
    world.secret("store", "connection", &world.app, &world.database);
    world.lead("connection", pooler.port);
    let looked = world.done(&world.task_with("preflight", json!({}))).await;
    let [("store: application role", said)] = failed(&looked)[..] else { panic!("{looked:?}") };
    assert!(said.contains("a pooler is in between") && said.contains(&format!("Secret of role {}", world.app)), "{said}");
}
