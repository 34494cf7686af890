//! `kubectl lockkeeper rollback --alignment`, as a person types it: what it asks the API server for, and what it refuses to ask.

use std::{path::Path, process::Stdio};

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::{alignments::alignment, *};

/// When the mirrors of these tests took the environment over.
const LOCKED_AT: &str = "2026-11-25T20:00:05Z";

/// What a command came to: its code, and all that it said.
async fn types(world: &World, person: &str, line: &str) -> (i32, String) {
    let (url, token) = server::address();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "tests",
        "clusters": [{"name": "tests", "cluster": {"server": url, "insecure-skip-tls-verify": true}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "admin", "namespace": world.production}}],
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    std::fs::write(&path, config.to_string()).unwrap();
    let output = tokio::process::Command::new(Path::new(env!("CARGO_BIN_EXE_kubectl-lockkeeper")))
        .args(line.split_whitespace())
        .args(["--as", person, "--as-group", "team"])
        .env("KUBECONFIG", &path)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

/// A DownAlignment that was made, and came to a status.
async fn mirror(world: &World, name: &str, status: Value) -> DynamicObject {
    let made = api(&world.user("alice"), &world.production, "DownAlignment");
    made.create(&post(), &alignment(world, name, "alice")).await.unwrap();
    write_status(world, "DownAlignment", name, status).await
}

async fn write_status(world: &World, kind: &str, name: &str, status: Value) -> DynamicObject {
    let operator = api(&world.operator(), &world.production, kind);
    eventually(async || {
        let mut read = operator.get(name).await?;
        read.data["status"] = status.clone();
        operator.replace_status(name, &post(), &read).await
    })
    .await
}

/// A status with an undo point.
fn ended(phase: &str) -> Value {
    json!({"phase": phase, "lockedAt": LOCKED_AT, "undo": [{"data": "flags-db", "method": "Clone", "database": "flags__run_1"}]})
}

/// The Environment still keeps what a run left aside.
async fn keeps(world: &World, run: &DynamicObject) {
    let run = json!({"kind": "DownAlignment", "name": run.name_any(), "uid": run.uid()});
    let kept = json!({"data": "flags-db", "database": "flags__run_1", "run": run, "until": "2026-11-26T20:00:05Z"});
    write_status(world, "Environment", "production", json!({"kept": [kept]})).await;
}

async fn asked_for(world: &World) -> Vec<String> {
    world.names("EnvironmentRestore").await
}

#[tokio::test]
async fn the_undo_of_a_completed_alignment_is_asked_for_in_ones_own_name_back_to_the_second_it_locked() {
    let world = alignments::asked("undoes").await;
    let run = mirror(&world, "mirror", ended("Completed")).await;
    keeps(&world, &run).await;
    let operator = async {
        eventually(async || match asked_for(&world).await.as_slice() {
            [] => Err("nothing is asked for yet"),
            _ => Ok(()),
        })
        .await;
        let planned = json!({
            "phase": "Scheduled", "planHash": PLAN, "takenAt": LOCKED_AT, "preflightAt": LOCKED_AT, "next": "1 approval",
            "steps": [{"name": "load", "state": "Pending"}],
        });
        write_status(&world, "EnvironmentRestore", "undo", planned).await
    };
    let ((code, said), made) = tokio::join!(types(&world, "olga", "rollback mirror --alignment --name undo --yes"), operator);
    assert_eq!(code, 0, "{said}");
    for word in
        ["goes back to what was before DownAlignment mirror", "EnvironmentRestore undo is made", "1 approval", "approve undo"]
    {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    assert_eq!(made.data["spec"]["from"], json!({"undoOf": {"kind": "DownAlignment", "name": "mirror"}}));
    assert_eq!(made.data["spec"]["requestedBy"], json!({"username": "olga"}));
    assert_eq!(made.data["spec"]["acknowledgeDataLossSince"], LOCKED_AT);
}

#[tokio::test]
async fn an_alignment_that_left_nothing_to_undo_is_refused_with_the_reason_and_nothing_is_asked_for() {
    let world = alignments::asked("undoes-not").await;
    mirror(&world, "back", ended("RolledBack")).await;
    mirror(&world, "images", json!({"phase": "Completed", "lockedAt": LOCKED_AT})).await;
    let undone = mirror(&world, "undone", ended("Completed")).await;
    mirror(&world, "going", ended("Loading")).await;
    for (name, words) in [
        ("back", "DownAlignment back is RolledBack; only a run that Completed is undone"),
        ("going", "DownAlignment going is Loading; only a run that Completed is undone. One that is under way is cancelled"),
        ("images", "DownAlignment images kept no undo point, because it changed no data"),
        ("undone", "the undo point of DownAlignment undone for data flags-db is not kept any more: the run was undone already"),
        ("nosuch", "reading DownAlignment nosuch in namespace"),
    ] {
        let (code, said) = types(&world, "olga", &format!("rollback {name} --alignment --yes")).await;
        assert!(code == 1 && said.contains(words), "{name}: [{code}] {said}");
    }
    let (code, said) = types(&world, "olga", "rollback undone --yes").await;
    assert!(code == 1 && said.contains("reading Promotion undone"), "a run of another kind: [{code}] {said}");
    // Who may not restore here is told so by the cluster.
    keeps(&world, &undone).await;
    let (code, said) = types(&world, "alice", "rollback undone --alignment --yes").await;
    assert!(code == 5 && said.contains("alice"), "[{code}] {said}");
    assert_eq!(asked_for(&world).await, Vec::<String>::new());
}
