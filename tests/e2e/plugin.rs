//! The plugin as people type it: an environment's whole life by `kubectl lockkeeper` alone.

use std::{cell::RefCell, process::Command};

use serde_json::Value;

use super::{
    cluster::{eventually, helm},
    world::{ALICE, BOB, PATIENCE, World},
};

const OLGA: &str = "olga";

/// What a command came to.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    /// The object on stdout, which holds nothing else.
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("stdout is no JSON ({error}): {}", self.out))
    }
}

/// The plugin, and all that it did otherwise than it should: told at the end, all at once.
struct Plugin<'a>(&'a World, RefCell<Vec<String>>);

impl Plugin<'_> {
    /// Somebody types a line.
    fn types(&self, person: &str, line: &str) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-lockkeeper"));
        command.args(line.split_whitespace()).args(["-n", &self.0.production, "--as", person]).stdin(std::process::Stdio::null());
        let output = command.output().expect("the plugin starts");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let said = Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) };
        println!("{person}$ kubectl lockkeeper {line}\n{}{}[{}]", said.out, said.err, said.code);
        said
    }

    /// The same; it must end with this code.
    fn ends(&self, person: &str, line: &str, code: i32) -> Said {
        let said = self.types(person, line);
        self.must(said.code == code, line, &format!("ends with {}, not {code}", said.code));
        said
    }

    fn must(&self, holds: bool, line: &str, otherwise: &str) {
        if !holds {
            println!("^ {otherwise}");
            self.1.borrow_mut().push(format!("kubectl lockkeeper {line}: {otherwise}"));
        }
    }

    /// What it shows to people holds these words.
    fn shows(&self, person: &str, line: &str, code: i32, words: &[&str]) {
        let out = self.ends(person, line, code).out;
        for word in words {
            self.must(out.contains(word), line, &format!("does not show {word:?}"));
        }
    }

    /// It must end with this code, and say this to people: on stderr where it is an error, and never with a stack of causes.
    fn refuses(&self, person: &str, line: &str, code: i32, words: &str) {
        let said = self.ends(person, line, code);
        self.must(said.err.contains(words), line, &format!("does not say {words:?}"));
        self.must(said.err.lines().count() <= 10 && !said.err.contains("Error("), line, "says too much");
    }
}

#[test]
fn story_an_environments_whole_life_by_the_plugin_alone() {
    let mut world = World::new("plugin", "2-slow");
    world.slow_for("6s");
    let people = format!("people.owners=[\"{OLGA}\"]");
    let chart =
        ["upgrade", "tiny", "charts/lockkeeper-environment", "-n", &world.production, "--reuse-values", "--set-json", &people];
    helm(&chart).expect("olga owns Production");
    let plugin = Plugin(&world, RefCell::default());
    eventually("olga's rights are there", PATIENCE, || match plugin.types(OLGA, "doctor").code {
        0 => Ok(()),
        code => Err(code.to_string()),
    });

    // Bad input, said in a sentence.
    let from = format!("{}/staging", world.staging);
    plugin.refuses(ALICE, "promote --from nowhere/at-all --yes", 1, "nowhere/at-all");
    plugin.refuses(ALICE, &format!("promote --from {from} --modules nosuch --yes"), 1, "nosuch");
    plugin.refuses(ALICE, &format!("promote --from {from} --environment nosuch --yes"), 1, "nosuch");
    plugin.refuses("mallory", &format!("promote --from {from} --yes"), 5, "mallory");
    plugin.refuses(ALICE, &format!("promote --from {from} --at yesterday --yes"), 2, "--at");
    plugin.refuses(BOB, "approve nosuch --yes", 1, "nosuch");
    plugin.refuses(BOB, "show nosuch", 1, "nosuch");
    plugin.refuses(OLGA, "restore nosuch --yes", 1, "nosuch");
    plugin.refuses(OLGA, "rollback nosuch --yes", 1, "nosuch");
    assert_eq!(plugin.ends(ALICE, "history -o json", 0).json()["runs"], Value::Array(Vec::new()), "none of that left a mark");

    // Asked, changed, approved, watched.
    plugin.ends(ALICE, &format!("promote --from {from} --name one --dry-run"), 0);
    plugin.refuses(ALICE, "show one", 1, "one");
    plugin.refuses(ALICE, &format!("promote --from {from} --name one"), 2, "--yes");
    let made = plugin.ends(ALICE, &format!("promote --from {from} --name one --at 2999-01-01T00:00:00Z --yes -o json"), 0).json();
    assert_eq!((&made["kind"], &made["metadata"]["name"]), (&"Promotion".into(), &"one".into()));
    plugin.refuses(ALICE, &format!("promote --from {from} --name one --yes"), 1, "already exists");
    // The cluster refuses it for two reasons, and tells whichever policy it looked at first.
    plugin.shows(ALICE, "approve one --yes", 5, &["you asked for this promotion yourself"]);
    plugin.refuses(BOB, "approve one --plan-hash v1:0 --yes", 1, "v1:0");
    plugin.refuses(BOB, "modify one --now --reason earlier --yes", 5, "modify");
    plugin.refuses(ALICE, "modify one --reason nothing --yes", 2, "nothing is to change");
    plugin.ends(ALICE, "modify one --now --description Release-2 --reason earlier --yes", 0);
    world.planned("one");
    plugin.shows(BOB, "show one", 0, &["Release-2", "0 of 1 needed", "Deployment tiny"]);
    let yes = plugin.ends(BOB, "approve one --yes -o yaml", 0);
    plugin.must(yes.out.contains("username: bob") && yes.err.contains("Approved"), "approve one", "does not say so");
    plugin.refuses(BOB, "watch one --timeout 1s", 1, "it goes on");
    plugin.shows(BOB, "watch one", 0, &["migration/tiny", "Completed"]);
    plugin.refuses(BOB, "cancel one --reason late --yes", 1, "Completed");
    plugin.refuses(BOB, "resume one --reason no", 1, "NeedsHuman");

    // Backups, and what was before comes back.
    let listed = plugin.ends(OLGA, "backups -o json", 0).json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "that of the promotion: {listed}");
    plugin.refuses(ALICE, "backup --name now", 5, "alice");
    let backup = plugin.ends(OLGA, "backup --name now --keep -o json", 0).json();
    assert_eq!(backup["status"]["phase"], "Completed");
    plugin.ends(OLGA, "restore now --name not-this --yes", 0);
    plugin.ends(BOB, "cancel not-this --reason no --yes", 0);
    plugin.ends(BOB, "watch not-this", 3);
    plugin.ends(OLGA, "rollback one --name undo --yes", 0);
    plugin.ends(BOB, "approve undo --yes", 0);
    plugin.ends(BOB, "watch undo", 0);
    let version = world.database.query("tiny", "SELECT version FROM schema_version").expect("a version");
    assert_eq!(version.trim(), "1", "what was before the promotion is back");
    plugin.shows(BOB, "show undo", 0, &["undo in namespace", "what was before Promotion one", "Completed"]);

    // A rollback that fails calls for a person, who gives it up in the end.
    plugin.ends(ALICE, &format!("promote --from {from} --name two --yes"), 0);
    world.planned("two");
    plugin.ends(BOB, "approve two --yes", 0);
    world.begins("two", "migration/tiny");
    world.database.query("postgres", "REVOKE tiny FROM tiny_admin").expect("the right is taken away");
    plugin.ends(BOB, "cancel two --reason stop --yes", 0);
    plugin.ends(BOB, "watch two", 4);
    plugin.shows(BOB, "show two", 0, &["NeedsHuman", "kubectl lockkeeper resume"]);
    plugin.refuses(ALICE, "resume two --reason again", 5, "");
    plugin.ends(BOB, "resume two --reason again", 0);
    plugin.ends(BOB, "watch two", 4);
    plugin.refuses(BOB, "unlock two --reason enough --yes", 5, "unlock");
    plugin.refuses(OLGA, "unlock two --reason enough", 2, "--yes");
    plugin.ends(OLGA, "unlock two --reason enough --yes", 0);
    plugin.ends(OLGA, "watch two", 3);
    plugin.shows(OLGA, "show two", 0, &["Abandoned", "Deployment tiny is stopped"]);

    let runs = plugin.ends(OLGA, "history -o json", 0).json();
    let runs = runs["runs"].as_array().expect("a list").iter().map(|r| {
        let text = |field: &str| r[field].as_str().unwrap_or_default().to_owned();
        (text("kind"), text("name"), text("phase"), r["recorded"] == true)
    });
    let is = |kind: &str, name: &str, phase: &str| (kind.to_owned(), name.to_owned(), phase.to_owned(), true);
    assert_eq!(
        runs.collect::<Vec<_>>(),
        [
            is("Promotion", "one", "Completed"),
            is("EnvironmentRestore", "not-this", "Cancelled"),
            is("EnvironmentRestore", "undo", "Completed"),
            is("Promotion", "two", "Abandoned"),
        ]
    );
    assert_eq!(plugin.1.into_inner(), Vec::<String>::new());
}
