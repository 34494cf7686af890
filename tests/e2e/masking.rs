//! A policy is drafted by the plugin, held against the catalog by the operator, and lacks what comes into the schema later. No
//! value of a row is anywhere in what is said.

use std::process::Command;

use lockkeeper::api::MaskingPolicy;

use super::{
    cluster::{apply, eventually, kubectl, wait},
    world::{PATIENCE, World},
};

/// What the plugin says, and how it ends.
fn plugin(world: &World, line: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-lockkeeper"));
    let output = command.args(line.split_whitespace()).args(["-n", &world.production]).output().expect("the plugin starts");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    println!("$ kubectl lockkeeper {line}\n{said}");
    (output.status.code().unwrap_or(-1), said)
}

#[test]
fn story_a_policy_is_drafted_checked_and_lacks_what_comes_later() {
    let world = World::new("masking", "2");
    let sql = "INSERT INTO writes (n, release) SELECT -n, '1' FROM generate_series(1, 9) n; \
               UPDATE writes SET note = 'canary' || n || '@shop.cat'";
    world.database.query("tiny", sql).expect("rows with addresses");
    let (code, draft) = plugin(&world, "masking draft --locale ca");
    assert_eq!(code, 0, "{draft}");
    assert!(draft.contains("note: {fake: {domain: email, kind: email, locale: ca}} # 100 of 100 values"), "{draft}");
    assert!(!draft.contains("canary"), "{draft}");
    apply(&draft).expect("what is drafted can be applied");

    let policies = world.api::<MaskingPolicy>(None);
    let coverage = || {
        let policy = wait(policies.get("production")).map_err(|e| e.to_string())?;
        let status = policy.status.unwrap_or_default();
        let ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        status.coverage.first().filter(|_| ready).cloned().ok_or_else(|| format!("{:?}", status.conditions))
    };
    let seen = eventually("the policy names every column", PATIENCE, coverage);
    assert_eq!((seen.data.as_str(), seen.columns, seen.unknown.len()), ("tiny-db", seen.classified, 0));
    let (code, said) = plugin(&world, "masking check production");
    assert_eq!(code, 0, "{said}");

    world.database.query("tiny", "ALTER TABLE writes ADD COLUMN mobile text").expect("a column comes");
    let (code, said) = plugin(&world, "masking check production");
    assert!(code == 1 && said.contains("column mobile: not named") && said.contains("kind: phone"), "{code}: {said}");
    eventually("nothing that was made for it stays", PATIENCE, || {
        let left = kubectl(&["-n", &world.production, "get", "jobs,configmaps", "-o", "name"])?;
        let ours: Vec<&str> =
            left.lines().filter(|l| l.contains("classify") || l.contains("draft") || l.contains("policy")).collect();
        if ours.is_empty() { Ok(()) } else { Err(ours.join(", ")) }
    });
}
