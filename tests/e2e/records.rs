//! Runs as records: history deletes them, the ledger knows them, and what is applied again does not run again. Deletion of
//! the whole namespace while locked.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use lockkeeper::api::{Environment, Phase, Promotion};
use serde_json::json;

use super::{
    cluster::{self, OPERATOR_NAMESPACE, eventually, kubectl, wait},
    world::{ALICE, BOB, PATIENCE, World},
};

#[test]
fn story_finished_runs_go_with_time_and_what_is_applied_again_does_not_run_again() {
    let world = World::new("history", "2");
    let promotions = world.api::<Promotion>(Some(ALICE));
    for name in ["called-off", "good"] {
        world.ask(&world.promotion(name));
        world.planned(name);
        if name == "good" {
            world.approve(name);
            world.reaches(name, &[Phase::Completed]);
        } else {
            let change = json!({"spec": {"cancel": {"username": BOB, "reason": "no"}}});
            world.patch(BOB, name, &change).expect("bob may cancel");
            world.reaches(name, &[Phase::Cancelled]);
        }
    }
    let environments = world.api::<Environment>(None);
    let bound = |keep: u32| {
        let patch = json!({"spec": {"history": {"keep": keep}}});
        wait(environments.patch("production", &PatchParams::default(), &Patch::Merge(&patch))).expect("the history is bounded");
    };
    let names = || {
        let all = wait(world.api::<Promotion>(None).list(&Default::default())).expect("promotions");
        all.items.into_iter().filter_map(|p| p.metadata.name).collect::<Vec<_>>()
    };
    bound(1);
    eventually("the oldest is gone", PATIENCE, || if names() == ["good"] { Ok(()) } else { Err(format!("{:?}", names())) });
    bound(0);
    eventually("all are gone", PATIENCE, || if names().is_empty() { Ok(()) } else { Err(format!("{:?}", names())) });
    let backups = kubectl(&["-n", &world.production, "get", "environmentbackups", "-o", "name"]);
    assert!(backups.as_ref().is_ok_and(|b| b.contains("good")), "a backup outlives the record of its run: {backups:?}");

    let epoch = world.record.environment("production").status.and_then(|s| s.lock).map(|l| l.epoch);
    for (name, phase, ready) in [("good", Phase::Completed, "True"), ("called-off", Phase::Cancelled, "False")] {
        world.ask(&world.promotion(name));
        world.record.until(("Promotion", name), "it ends at once, as it ended before", PATIENCE, |seen| {
            let status = seen.read::<Promotion>().status?;
            let found = status.conditions.iter().find(|c| c.type_ == "Ready")?;
            (found.reason == "AlreadyRan" && found.status == ready && status.phase == phase).then_some(())
        });
    }
    let now = world.record.environment("production").status.and_then(|s| s.lock).map(|l| l.epoch);
    assert_eq!(now, epoch, "nothing was locked");
    // What a tool applied again stays: it would only be applied once more.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(names(), ["called-off", "good"]);
    wait(promotions.delete("good", &DeleteParams::default())).expect("alice may delete a record");
    let mut other = world.promotion("good");
    other.spec.description = Some("once more".into());
    eventually("the name is free", PATIENCE, || {
        wait(promotions.create(&Default::default(), &other)).map(drop).map_err(|e| e.to_string())
    });
    world.planned("good");
}

#[test]
fn story_a_namespace_that_is_deleted_while_locked_goes_and_words_stay_with_the_operator() {
    let world = World::new("gone", "2-slow");
    world.ask(&world.promotion("doomed"));
    world.approve("doomed");
    world.begins("doomed", "migration/tiny");
    let namespaces: Api<Namespace> = Api::all(cluster::client(None));
    wait(namespaces.delete(&world.production, &DeleteParams::default())).expect("an administrator deletes the namespace");
    let words = eventually("an Event says what to do", PATIENCE, || {
        let all = kubectl(&[
            "-n",
            OPERATOR_NAMESPACE,
            "get",
            "events",
            "--field-selector=reason=NamespaceDeletedWhileLocked",
            "-o",
            "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}",
        ])?;
        all.lines().find(|l| l.contains(&world.production)).map(str::to_owned).ok_or(all)
    });
    println!("{words}");
    assert!(words.contains("tiny__undo_") && words.contains("Going on by hand"), "{words}");
    eventually("the namespace is gone", PATIENCE, || match wait(namespaces.get_opt(&world.production)) {
        Ok(None) => Ok(()),
        Ok(Some(there)) => Err(format!("{:?}", there.status)),
        Err(error) => Err(error.to_string()),
    });
}
