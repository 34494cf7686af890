//! What the agent says of how far it is: with totals from what it knows before it begins, and never less than before.

use std::{collections::BTreeMap, fs};

use lockkeeper::manifest::task::{Outcome, Progress, Task, exit};
use serde_json::json;

use super::postgres::World;

/// Runs a task as a process of its own and gives what it said, by what was being done, in order, and its outcome.
fn said(world: &World, task: &Task) -> (BTreeMap<String, Vec<Progress>>, Outcome) {
    let output = world.agent_with(task).output().unwrap();
    let outcome: Outcome = serde_json::from_slice(&fs::read(&world.paths.result).unwrap()).unwrap();
    assert_eq!(output.status.code(), Some(exit::DONE), "{outcome:?}");
    let mut all: BTreeMap<String, Vec<Progress>> = BTreeMap::new();
    for line in std::str::from_utf8(&output.stdout).unwrap().lines() {
        let line: Progress = serde_json::from_str(line).unwrap();
        all.entry(line.doing.clone()).or_default().push(line);
    }
    for (doing, lines) in &all {
        for pair in lines.windows(2) {
            let (was, is) = (&pair[0], &pair[1]);
            assert!(was.done <= is.done && was.rows <= is.rows && was.at <= is.at && was.since == is.since, "{doing}: {pair:?}");
        }
        assert!(lines.iter().all(|l| l.unit == "bytes" && l.total.is_none_or(|t| l.done <= t)), "{doing}: {lines:?}");
        assert!(lines.iter().all(|l| l.total_rows.is_none_or(|t| l.rows <= Some(t))), "{doing}: {lines:?}");
    }
    (all, outcome)
}

/// Something with a measure: it begins with its totals, and comes to its end.
fn measured(lines: &[Progress], rows: Option<u64>) {
    let (first, last) = (lines.first().unwrap(), lines.last().unwrap());
    assert!(first.total.is_some_and(|t| t > 0) && (first.total_rows.is_some() == rows.is_some()), "{first:?}");
    assert_eq!((Some(last.done), last.rows, last.total_rows), (last.total, rows, rows), "{last:?}");
}

#[tokio::test]
async fn each_verb_that_moves_data_says_of_how_much_and_never_takes_a_word_back() {
    let world = World::new("progress").await;
    let app = world.as_app().await;
    app.batch_execute("CREATE TABLE wide AS SELECT i, repeat('x', 500) AS t FROM generate_series(1, 80000) i; ANALYZE")
        .await
        .unwrap();
    let files = world.paths.volumes.join("uploads");
    fs::create_dir_all(&files).unwrap();
    for name in 0..3 {
        fs::write(files.join(name.to_string()), vec![b'x'; 700_000]).unwrap();
    }
    let task = |verb: &str, more: serde_json::Value| {
        let mut all = json!({"volumes": [{"name": "uploads"}], "epoch": 1});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.task_with(verb, all)
    };
    let (all, outcome) = said(&world, &task("backup", json!({})));
    let backup = outcome.backup.unwrap();
    let rows = u64::try_from(backup.rows).unwrap();
    let lines = &all["backing up store"];
    // The server's estimate is there before a row is read, and what was counted is there in the end.
    let estimate = lines[0].total_rows.unwrap();
    assert!(lines[0].rows == Some(0) && estimate.abs_diff(rows) < rows / 10, "{estimate} {rows}");
    measured(lines, Some(rows));
    assert_eq!(all["backing up uploads"].last().unwrap().rows, None, "files have no rows");
    let last = outcome.progress.unwrap();
    assert_eq!(
        (last.doing.as_str(), last.done),
        ("backing up uploads", 2_100_000),
        "the outcome has the last of it, printed or not"
    );

    let (all, _) = said(&world, &task("prove", json!({"snapshot": backup.snapshot})));
    measured(&all["restoring store"], Some(rows));
    measured(&all["comparing store"], Some(rows));
    measured(&all["comparing uploads"], None);
    let after = &all["making indexes and constraints of store"][0];
    assert_eq!((after.done, after.total, after.rows), (0, None, None), "what has no measure says so");

    said(&world, &task("fence", json!({})));
    fs::write(files.join("0"), "changed").unwrap();
    let (all, _) = said(&world, &task("restore", json!({"snapshot": backup.snapshot})));
    measured(&all["restoring store"], Some(rows));
    measured(&all["reading back the undo point of uploads"], None);
    for doing in ["comparing uploads with the snapshot", "putting back uploads", "comparing uploads"] {
        measured(&all[doing], None);
        assert_eq!(all[doing].last().unwrap().done, 2_100_000, "{doing}");
    }
}
