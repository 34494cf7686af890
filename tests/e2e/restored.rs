//! (h) A backup on demand goes back, once its loss is accepted, and users are locked out meanwhile. (i) A completed promotion
//! is undone, release and data. (j) A restore whose checks fail leaves today's data.

use kube::api::{Patch, PatchParams, PostParams};
use lockkeeper::api::{EnvironmentBackup, EnvironmentRestore, Phase};
use serde_json::{Value, json};

use super::{
    cluster::{helm, kubectl, wait},
    files::Files,
    users::Users,
    world::{ALICE, BOB, PATIENCE, World, approval},
};

/// Who owns Production.
pub const OLGA: &str = "olga";

/// A manifest.
pub fn made(kind: &str, name: &str, namespace: &str, spec: Value) -> Value {
    let metadata = json!({"name": name, "namespace": namespace});
    json!({"apiVersion": "lockkeeper.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

/// Olga asks for a restore, without a word on what is lost.
pub fn ask(world: &World, name: &str, from: Value) {
    let spec = json!({"environment": {"name": "production"}, "from": from, "requestedBy": {"username": OLGA}});
    let restore: EnvironmentRestore =
        serde_json::from_value(made("EnvironmentRestore", name, &world.production, spec)).expect("a restore");
    wait(world.api::<EnvironmentRestore>(Some(OLGA)).create(&PostParams::default(), &restore)).expect("olga may ask");
}

fn patch(world: &World, person: &str, name: &str, change: Value) -> EnvironmentRestore {
    let api = world.api::<EnvironmentRestore>(Some(person));
    wait(api.patch(name, &PatchParams::default(), &Patch::Merge(change))).expect("that is allowed")
}

/// Waits until it is refused for what it loses, accepts that as it says, and lets bob approve.
pub fn accept_and_approve(world: &World, name: &str) {
    let (taken, next) =
        world.record.until(("EnvironmentRestore", name), "it says what is lost and how to accept it", PATIENCE, |seen| {
            let status = seen.read::<EnvironmentRestore>().status?;
            let refused = status.conditions.iter().any(|c| c.type_ == "Stalled" && c.reason == "DataLossNotAcknowledged");
            refused.then(|| (status.taken_at.expect("a time"), status.next.unwrap_or_default()))
        });
    assert!(next.contains(&format!("\"acknowledgeDataLossSince\":\"{taken}\"")), "{next}");
    patch(world, OLGA, name, json!({"spec": {"acknowledgeDataLossSince": taken}}));
    let plan = world.record.until(("EnvironmentRestore", name), "it waits for approval only", PATIENCE, |seen| {
        let restore: EnvironmentRestore = seen.read();
        let status = restore.status?;
        let fresh = status.observed_generation == restore.metadata.generation;
        let waits = fresh && status.next.as_deref().is_some_and(|n| n.contains("of 1 approvals"));
        status.plan_hash.filter(|_| waits)
    });
    patch(world, BOB, name, json!({"spec": {"approvals": [approval(BOB, &plan)]}}));
}

/// Waits until the restore ends, which must be so.
pub fn reaches(world: &World, name: &str, wanted: Phase) -> EnvironmentRestore {
    let restore = world.record.until(("EnvironmentRestore", name), &format!("it is {wanted}"), PATIENCE, |seen| {
        let restore: EnvironmentRestore = seen.read();
        let phase = restore.status.as_ref()?.phase;
        (phase.is_terminal() || phase == Phase::NeedsHuman).then_some(restore)
    });
    let status = restore.status.as_ref().expect("a status");
    assert_eq!(status.phase, wanted, "{:?}", status.failure);
    restore
}

/// The numbers that were acknowledged later than the highest that is still there: what the restore has lost.
fn written(world: &World) -> i64 {
    let text = world.database.query("tiny", "SELECT coalesce(max(n), 0) FROM writes").expect("the writes are read");
    text.trim().parse().expect("a number")
}

/// Makes olga the owner of Production.
pub fn own(world: &World) {
    let people = format!("people.owners=[\"{OLGA}\"]");
    let arguments =
        ["upgrade", "tiny", "charts/lockkeeper-environment", "-n", &world.production, "--reuse-values", "--set-json", &people];
    helm(&arguments).expect("olga owns Production");
}

#[test]
fn story_a_backup_goes_back_a_promotion_is_undone_and_a_restore_that_fails_leaves_today() {
    let mut world = World::new("restored", "2");
    own(&world);
    let files = Files::of(&mut world);
    let (world, backed_up) = (world, files.listing());
    let users = Users::of(&world, "restored", "*/*", 1);

    // (h)
    let spec = json!({"environment": {"name": "production"}, "reason": "on demand"});
    let backup: EnvironmentBackup =
        serde_json::from_value(made("EnvironmentBackup", "now", &world.production, spec)).expect("one");
    wait(world.api::<EnvironmentBackup>(Some(OLGA)).create(&PostParams::default(), &backup)).expect("olga may back up");
    let refused = wait(world.api::<EnvironmentBackup>(Some(ALICE)).create(&PostParams::default(), &backup));
    assert!(refused.is_err(), "alice may not");
    let backup: EnvironmentBackup = world.record.until(("EnvironmentBackup", "now"), "it is proven", PATIENCE, |seen| {
        let backup: EnvironmentBackup = seen.read();
        backup.status.as_ref()?.proven_at?;
        Some(backup)
    });
    let kept = backup.status.as_ref().and_then(|s| s.rows).expect("rows");
    super::cluster::eventually("users have written more", PATIENCE, || match written(&world) {
        more if more > kept + 50 => Ok(()),
        few => Err(format!("{few} of more than {kept}")),
    });
    files.use_them(0);
    ask(&world, "back", json!({"backup": {"name": "now"}}));
    accept_and_approve(&world, "back");
    let restore = reaches(&world, "back", Phase::Completed);
    let status = restore.status.expect("a status");
    let testimony = users.heard();
    let pages = testimony.answers.iter().filter(|a| a.status == 503).count();
    assert!(pages > 0, "users saw the page meanwhile");
    let text = |database: &str, sql: &str| world.database.query(database, sql).expect("it is read").trim().to_owned();
    assert_eq!(
        text("tiny", "SELECT count(*) FROM writes WHERE n > 0 AND n <= 3"),
        "3",
        "what was there before the backup is back"
    );
    // Beside it, in a snapshot, are today's files.
    let aside = status.undo.iter().find(|u| u.data == "tiny-db").map(|u| u.database.clone()).expect("today's database is aside");
    let allow = format!("ALTER DATABASE \"{aside}\" ALLOW_CONNECTIONS true");
    world.database.query("postgres", &allow).expect("it is there");
    let lost: i64 = text(&aside, "SELECT max(n) FROM writes").parse().expect("a number");
    let back: i64 = text("tiny", "SELECT max(n) FROM writes WHERE n < 1000000").parse().expect("a number");
    assert!(back <= lost, "{back} {lost}");

    assert_eq!(files.listing(), backed_up, "the files of then, and no other");

    // (i)
    files.use_them(1);
    let used = files.listing();
    let before = (world.deployment().spec, world.configuration(), world.database.shape());
    world.ask(&world.promotion("forth"));
    world.approve("forth");
    world.reaches("forth", &[Phase::Completed]);
    assert_eq!(text("tiny", "SELECT version FROM schema_version"), "2");
    assert_eq!(files.listing(), used, "a release that leaves files alone leaves them alone");
    files.use_them(2);
    ask(&world, "undo", json!({"undoOf": {"kind": "Promotion", "name": "forth"}}));
    accept_and_approve(&world, "undo");
    reaches(&world, "undo", Phase::Completed);
    assert_eq!(text("tiny", "SELECT version FROM schema_version"), "1", "the schema of before is back");
    assert_eq!((world.deployment().spec, world.configuration()), (before.0, before.1), "and the release of before with it");
    assert_eq!(files.listing(), used, "and the files of before");
    let shape = world.database.shape();
    assert!(shape == before.2, "{}", before.2.difference(&shape));
    assert!(world.database.made().len() <= 1, "one database aside at most: {:?}", world.database.made());

    // (j)
    let breaks = json!([{"op": "replace", "path": "/spec/verification/0/http/expectStatus", "value": 299}]).to_string();
    let arguments = ["-n", &world.production, "patch", "environment", "production", "--type=json", "-p", &breaks];
    kubectl(&arguments).expect("the check is broken");
    let today = (world.database.shape(), text("tiny", "SELECT count(*) FROM writes"));
    ask(&world, "vain", json!({"backup": {"name": "now"}}));
    accept_and_approve(&world, "vain");
    let vain = reaches(&world, "vain", Phase::RolledBack);
    assert_eq!(vain.status.and_then(|s| s.failure).map(|f| f.step), Some("verify/health".to_owned()));
    assert_eq!(files.listing(), used, "today's files");
    let now = (world.database.shape(), text("tiny", "SELECT count(*) FROM writes"));
    assert!(now == today, "{}", today.0.difference(&now.0));
}
