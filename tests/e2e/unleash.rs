//! Unleash: feature flags, with people in their columns, in JSON, in tokens and sessions, in what is written about flags.
//! Development becomes its mirror by the demo's own policy, Unleash serves on it, and of some thousand values that were planted
//! none is anywhere. `make test-apps` tells it.

use std::{path::Path, process::Command};

use super::{
    cluster::{ROOT, apply, kubectl, run},
    mirrored::{Mirrored, word},
    world::filled,
};

/// The release that keeps an unsalted hash beside each address.
const RELEASE: &str = "unleash:7.4.1";
/// Behind this the demo's policy has what that release has besides.
const BEHIND: &str = "# 7.4: ";

/// What its administrator sees: asked by a pod of the same namespace.
fn used(namespace: &str, username: &str) -> String {
    let username = format!("CHECK_USERNAME={username}");
    let check = ["exec", "deployment/unleash", "--", "env", "TARGET_URL=http://unleash", &username, "CHECK_PASSWORD=unleash4all"];
    kubectl(&[&["-n", namespace], &check[..], &["node", "check.mjs"]].concat()).expect("Unleash serves")
}

/// Unleash in a namespace, with its schema.
fn installed(namespace: &str, image: &str) {
    let values =
        [("NAMESPACE", namespace), ("UNLEASH", image), ("ENVIRONMENT", "a-story"), ("TASK", "migrate"), ("LOGIN", "admin")];
    let applied = |text: &str| apply(&filled(text, &values)).expect("Unleash applies");
    applied(include_str!("../../demo/manifests/config-production.yaml"));
    // The schema before the server, the Secrets before both.
    let unleash = include_str!("../../demo/manifests/unleash.yaml");
    applied(&unleash.replace("replicas: 1", "replicas: 0"));
    applied(include_str!("../../demo/manifests/task.yaml"));
    kubectl(&["-n", namespace, "wait", "job/migrate", "--for=condition=complete", "--timeout=180s"]).expect("the schema is made");
    applied(unleash);
}

#[test]
#[ignore = "dear: make test-apps"]
fn story_unleash_is_mirrored_serves_and_nobody_of_production_is_in_it() {
    let built = run(Command::new("demo/unleash/build.sh").current_dir(Path::new(ROOT)), "").expect("the images are built");
    let image = built.lines().find_map(|line| line.strip_prefix(RELEASE)).expect("its reference").trim();
    let world = Mirrored::new("unleash");
    let [production, development] = world.namespaces();
    for namespace in world.namespaces() {
        installed(namespace, image);
    }
    for namespace in world.namespaces() {
        kubectl(&["-n", namespace, "rollout", "status", "deployment/unleash", "--timeout=180s"]).expect("Unleash starts");
    }
    let (word, _) = word();
    world.above().load("unleash", &filled(include_str!("../apps/unleash/plant.sql"), &[("WORD", &word)])).expect("people");
    // As Unleash writes it. That nobody's hash is anywhere is asked of some: each is looked for in all of the cluster's files.
    let hashes = "UPDATE users SET email_hash = encode(sha256(convert_to(email, 'UTF8')), 'hex') WHERE email IS NOT NULL;
                  SELECT email_hash FROM users WHERE id > 0 AND email_hash IS NOT NULL ORDER BY id LIMIT 4";
    let hashes = world.above().query("unleash", hashes).expect("hashes beside the addresses");
    let above = used(production, "admin");
    println!("Production: {above}");
    let words: Vec<&str> = [word.as_str()].into_iter().chain(hashes.lines()).collect();
    assert_eq!(words.len(), 5, "{words:?}");
    let canaries = world.canaries(&words);

    let policy = include_str!("../../demo/manifests/masking.yaml").replace(BEHIND, "");
    apply(&filled(&policy, &[("NAMESPACE", production)])).expect("the policy applies");
    let environments = include_str!("manifests/unleash-environments.yaml");
    let exchange = world.align("shop", environments, &[("UNLEASH", image)]);
    let below = used(development, "user1");
    println!("Development: {below}");
    assert_eq!(below.replace("user1", "admin"), above, "it has the same flags");

    world.alike(&[
        "SELECT count(*), count(name), count(username), count(DISTINCT email) FROM users",
        "SELECT count(*) FROM users WHERE email_hash = encode(sha256(convert_to(email, 'UTF8')), 'hex')",
        "SELECT count(*) FROM role_user",
        "SELECT count(DISTINCT secret) FROM api_tokens",
        "SELECT count(*) FROM api_token_project JOIN api_tokens USING (secret)",
        "SELECT count(*) FROM feature_strategies WHERE parameters->>'rollout' = '50'",
        "SELECT count(*) FROM group_user JOIN users ON users.id = user_id",
    ]);
    world.nowhere(&canaries, &exchange, "feature_strategies");
}
