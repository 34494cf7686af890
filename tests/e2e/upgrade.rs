//! The operator is upgraded, and is to be uninstalled, while a run has an environment locked: the run does not notice.

use std::process::Command;

use lockkeeper::api::Phase;

use super::{
    cluster::{OPERATOR_NAMESPACE, ROOT, eventually, helm, install, kubectl, run},
    outcome::{self, Before},
    users::Users,
    world::{PATIENCE, World},
};

const RELEASE: [&str; 3] = ["lockkeeper", "-n", OPERATOR_NAMESPACE];

/// The image of the operator's Deployment.
fn image() -> String {
    let asked = ["get", "deployment", "lockkeeper", "-o", "jsonpath={.spec.template.spec.containers[0].image}"];
    kubectl(&[&["-n", OPERATOR_NAMESPACE][..], &asked].concat()).expect("an operator is there")
}

/// The operator is again what it was, however the story ends.
struct Installed(String);

impl Drop for Installed {
    fn drop(&mut self) {
        if let Err(why) = install(&self.0) {
            println!("the operator is not what it was: {why}");
        }
    }
}

#[test]
fn story_an_upgrade_while_locked_is_not_noticed_and_an_uninstall_is_refused() {
    let mut world = World::alone("upgrade", "2-slow");
    world.slow_for("45s");
    let before_upgrade = Installed(image());
    let mut another = Command::new("tests/cluster/another-digest.sh");
    let next = run(another.args(["next", &before_upgrade.0]).current_dir(ROOT), "").expect("an image of another version");
    let mut users = Users::of(&world, "upgrade", "*/*", 1);
    let before = Before::of(&world, &users, 1);
    world.ask(&world.promotion("upgrade"));
    world.approve("upgrade");
    world.begins("upgrade", "page");
    users.rush();

    // Locked, and in the middle of it.
    world.begins("upgrade", "close");
    install(next.trim()).expect("helm upgrades");
    world.begins("upgrade", "migration/tiny");
    let at_work = || {
        let pods =
            ["get", "pods", "-l", "app.kubernetes.io/name=lockkeeper", "-o", "jsonpath={.items[*].spec.containers[0].image}"];
        kubectl(&[&["-n", OPERATOR_NAMESPACE][..], &pods].concat())
    };
    eventually("the next version alone is at work", PATIENCE, || match at_work()? {
        only if only == next.trim() => Ok(()),
        others => Err(others),
    });

    // Promoting: nobody takes the operator away.
    let [release, more @ ..] = RELEASE;
    let refused = helm(&[&["uninstall", release][..], &more].concat()).expect_err("helm refuses");
    println!("{refused}");
    let why = kubectl(&["-n", OPERATOR_NAMESPACE, "logs", "job/lockkeeper-may-leave"]).expect("its Job says why");
    assert!(why.contains(&format!("{}/production is locked by Promotion upgrade", world.production)), "{why}");
    let history = helm(&[&["history", release, "-o", "json"][..], &more].concat()).expect("its revisions");
    let history: serde_json::Value = serde_json::from_str(&history).expect("JSON");
    let revision = history.as_array().and_then(|all| all.last()?["revision"].as_i64()).expect("a last one").to_string();
    helm(&[&["rollback", release, &revision][..], &more].concat()).expect("what puts helm's own record right");

    let run = world.reaches("upgrade", &[Phase::Completed]);
    outcome::completed(&world, &run, &before, &users.heard());
    let status = run.status.expect("a status");
    assert!(status.steps.iter().all(|s| s.attempt == 0), "no step was tried twice: {:?}", status.steps);
    assert_eq!(image(), next.trim(), "the next version stays");
}
