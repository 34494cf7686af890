//! The plugin as a program, without a cluster: its command line, what it refuses by itself, and the codes it ends with.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::{Command, Output};

fn plugin(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-lockkeeper"))
        .args(arguments)
        .env_clear()
        .env("KUBECONFIG", "/does/not/exist")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn help_names_the_subcommands_kubectls_flags_and_the_exit_codes() {
    let output = plugin(&["--help"]);
    assert_eq!(code(&output), 0);
    let help = stdout(&output);
    for word in [
        "kubectl lockkeeper",
        "promote",
        "approve",
        "validate",
        "cancel",
        "watch",
        "doctor",
        "modify",
        "resume",
        "unlock",
        "history",
        "show",
        "completion",
        "--namespace",
        "--context",
        "--kubeconfig",
        "--as ",
        "--as-group",
        "--output",
        "Exit codes:",
        "130",
    ] {
        assert!(help.contains(word), "{word} is not in:\n{help}");
    }
    for subcommand in [
        "promote",
        "approve",
        "validate",
        "cancel",
        "watch",
        "modify",
        "resume",
        "unlock",
        "history",
        "show",
        "doctor",
        "completion",
    ] {
        assert_eq!(code(&plugin(&[subcommand, "--help"])), 0, "{subcommand}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_what_is_wrong() {
    for (arguments, words) in [
        (&[][..], "Usage"),
        (&["promot"], "promote"),
        (&["promote", "--from", "staging"], "NAMESPACE/NAME"),
        (&["promote", "--deadline", "soon"], "90s, 15m or 2h"),
        (&["promote", "--deadline=-1m"], "90s, 15m or 2h"),
        (&["promote", "--description", "a\nb"], "without control characters"),
        (&["promote", "--dry-run", "--watch"], "--dry-run"),
        (&["approve"], "<NAME>"),
        (&["approve", "../x"], "lower-case letters"),
        (&["approve", "x", "--withdraw", "--comment", "y"], "--withdraw"),
        (&["cancel", "x"], "--reason"),
        (&["cancel", "x", "--reason", " "], "say why"),
        (&["watch"], "<NAME>"),
        (&["watch", "x", "-o", "xml"], "xml"),
        (&["doctor", "a", "b"], "unexpected"),
        (&["watch", "x", "--as-group", "devs"], "--as"),
        (&["completion", "cmd"], "bash"),
    ] {
        let output = plugin(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn kubectls_flags_may_stand_before_and_after_the_subcommand() {
    for arguments in
        [&["-n", "shop", "watch", "x"][..], &["watch", "x", "-n", "shop"], &["watch", "-nshop", "x", "--context", "c"]]
    {
        assert_eq!(code(&plugin(arguments)), 1, "{arguments:?}");
    }
}

#[test]
fn completion_is_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = plugin(&["completion", shell]);
        assert_eq!(code(&output), 0, "{shell}");
        assert!(stdout(&output).contains("doctor"), "{shell}");
    }
}

#[test]
fn without_a_kubeconfig_it_says_which_one_it_looked_for() {
    let output = plugin(&["doctor"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("$KUBECONFIG=/does/not/exist"), "{}", stderr(&output));
    let output = plugin(&["doctor", "--kubeconfig", "/no/such/file"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("/no/such/file"), "{}", stderr(&output));
}

#[test]
fn a_key_that_is_twice_in_a_policy_file_is_told_with_file_line_and_key_before_any_server_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.yaml");
    let policy = |columns: &str| {
        format!(
            "apiVersion: lockkeeper.dev/v1alpha1\nkind: MaskingPolicy\nmetadata: {{name: shop}}\nspec:\n  data:\n  - name: db\n    tables:\n    \
             - table: public.users\n      columns:\n{columns}"
        )
    };
    let said = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let output = plugin(&["masking", "check", "-f", path.to_str().unwrap()]);
        assert_eq!(code(&output), 1);
        stderr(&output)
    };
    let twice = said(&policy("        id: {keep: {}}\n        email: {redact: {}}\n        email: {keep: {}}\n"));
    let words = format!("error: {}: line 12: the key email is there for the second time in one mapping", path.display());
    assert!(twice.starts_with(&words) && !twice.contains("Policy in Options"), "{twice}");
    let nested = said(&policy("        id: {keep: {reason: a, reason: b}}\n"));
    assert!(nested.contains("line 10: the key reason"), "{nested}");
    let top = said("spec: {data: []}\nspec: {data: []}\n");
    assert!(top.contains("line 2: the key spec"), "{top}");
    let wrong = said(&policy("        id: [keep]\n"));
    assert!(wrong.contains("shop.yaml: not a MaskingPolicy: "), "{wrong}");
    let good = said(&policy("        id: {keep: {}}\n"));
    assert!(good.contains("/does/not/exist"), "only then it asks for a server: {good}");
}

#[test]
fn a_server_that_does_not_answer_is_named_with_its_context() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    // A port that was free a moment ago and that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::write(
        &path,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: dev\n\
             clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n\
             contexts: [{{name: dev, context: {{cluster: c, user: u, namespace: shop}}}}]\n\
             users: [{{name: u, user: {{}}}}]\n"
        ),
    )
    .unwrap();
    let output = plugin(&["watch", "x", "--kubeconfig", path.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    let said = stderr(&output);
    for word in ["reading Promotion x in namespace shop", &format!("127.0.0.1:{port}"), "context dev", "refused"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
}
