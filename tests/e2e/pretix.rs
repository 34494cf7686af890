//! pretix: a ticket shop with people in 149 tables, in JSON, in JSON in text, in copies of their names. Development becomes its
//! mirror by the policy of `examples/pretix`, pretix serves on it, and of some thousand values that were planted none is anywhere.
//!
//! Too dear for `make test`: its image takes minutes. `make test-apps` tells it.

use std::{fs, path::Path, process::Command};

use serde_json::json;

use super::{
    cluster::{ROOT, apply, eventually, kubectl, kubectl_with, run, state},
    mirrored::{Mirrored, word},
    world::{PATIENCE, filled},
};

/// pretix in both namespaces.
struct Shop {
    world: Mirrored,
    image: String,
}

/// What pretix's staff sees, as whom: seen by a pod of the same namespace.
fn used(namespace: &str, email: &str, password: &str) -> String {
    let (email, password) = (format!("CHECK_EMAIL={email}"), format!("CHECK_PASSWORD={password}"));
    let check =
        ["exec", "deployment/pretix", "--", "env", "TARGET_URL=http://pretix", &email, &password, "python", "/scripts/check.py"];
    kubectl(&[&["-n", namespace], &check[..]].concat()).expect("pretix serves")
}

impl Shop {
    /// A pretix in each namespace, of one release, with the schema of that and nobody in it.
    fn new() -> Self {
        let built = run(Command::new("tests/apps/pretix/build.sh").current_dir(ROOT), "").expect("the image is built");
        let image = built.trim().rsplit(' ').next().expect("a reference").to_owned();
        let shop = Self { world: Mirrored::new("pretix"), image };
        shop.schema();
        for namespace in shop.world.namespaces() {
            shop.deployed(namespace);
            kubectl(&["-n", namespace, "rollout", "status", "deployment/pretix", "--timeout=300s"]).expect("pretix starts");
        }
        shop
    }

    fn deployed(&self, namespace: &str) {
        let scripts = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "scripts", "namespace": namespace}, "data": {
            "plant.py": include_str!("../apps/pretix/plant.py"), "check.py": include_str!("../apps/pretix/check.py"),
        }});
        apply(&scripts.to_string()).expect("the scripts apply");
        let pretix = include_str!("manifests/pretix.yaml");
        apply(&filled(pretix, &[("NAMESPACE", namespace), ("PRETIX", &self.image)])).expect("pretix applies");
    }

    /// pretix takes a minute and more for its migrations: what they make is kept, for as long as the image is the same.
    fn schema(&self) {
        let digest = self.image.rsplit(':').next().expect("a digest");
        let kept = state().parent().expect("the cache").join("apps").join(format!("pretix-{}.sql", &digest[..16]));
        let servers = [self.world.above(), self.world.below()];
        if !kept.exists() {
            self.deployed(&self.world.production);
            eventually("pretix's pod runs", PATIENCE, || {
                kubectl(&["-n", &self.world.production, "exec", "deployment/pretix", "--", "true"]).map(drop)
            });
            kubectl(&["-n", &self.world.production, "exec", "deployment/pretix", "--", "python", "-m", "pretix", "migrate"])
                .expect("pretix makes its schema");
            let dump = servers[0].sh("pg_dump -h /tmp -U postgres --restrict-key=stories pretix").expect("it is dumped");
            fs::create_dir_all(kept.parent().expect("a directory")).expect("the cache");
            fs::write(kept.with_extension("part"), &dump)
                .and_then(|()| fs::rename(kept.with_extension("part"), &kept))
                .expect("it is kept");
            servers[1].load("pretix", &dump).expect("the schema is loaded");
            return;
        }
        let dump = fs::read_to_string(&kept).expect("a dump");
        for server in &servers {
            server.load("pretix", &dump).expect("the schema is loaded");
        }
    }
}

#[test]
#[ignore = "dear: make test-apps"]
fn story_pretix_is_mirrored_serves_and_nobody_of_production_is_in_it() {
    let shop = Shop::new();
    let [production, development] = shop.world.namespaces();
    let (word, digits) = word();
    let planted = ["-n", production, "exec", "-i", "deployment/pretix", "--", "python", "/scripts/plant.py"];
    println!("{}", kubectl_with(&planted, &format!("{word}\n")).expect("a shop with people"));
    println!("Production: {}", used(production, "admin@localhost", "admin"));
    let canaries = shop.world.canaries(&[&word, &digits]);

    let policy = fs::read_to_string(Path::new(ROOT).join("examples/pretix/masking.yaml")).expect("the example");
    let policy = policy.replace("tickets-production", production);
    let key = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "masking-key", "namespace": production},
        "stringData": {"key": "a masking key of a story, long enough"}});
    apply(&key.to_string()).expect("a key");
    apply(&policy).expect("the example applies");
    let environments = include_str!("manifests/pretix-environments.yaml");
    let exchange = shop.world.align("tickets", environments, &[("PRETIX", &shop.image)]);
    println!("Development: {}", used(development, "user1@pretix.example", "development"));

    shop.world.alike(&[
        "SELECT count(*), count(customer_id), sum(total), (SELECT count(*) FROM pretixbase_orderposition p JOIN pretixbase_order USING (organizer_id) WHERE p.order_id = pretixbase_order.id) FROM pretixbase_order GROUP BY organizer_id",
        // Copies are the mask's own: of a name, and of an address in the log.
        "SELECT count(*) FROM pretixbase_invoice i JOIN pretixbase_invoiceaddress a USING (order_id) WHERE i.invoice_to_name = a.name_cached",
        "SELECT count(*) FROM pretixbase_logentry l JOIN pretixbase_order o ON o.id = l.object_id AND o.email = l.data::jsonb->>'new_email'",
        "SELECT count(DISTINCT email) FROM pretixbase_order",
        "SELECT count(DISTINCT secret) FROM pretixbase_orderposition",
    ]);
    shop.world.nowhere(&canaries, &exchange, "pretixbase_order");
}
