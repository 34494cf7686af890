//! pretix: a ticket shop with people in 149 tables, in JSON, in JSON in text, in copies of their names. Development becomes its
//! mirror by the policy of `examples/pretix`, pretix serves on it, and of some thousand values that were planted none is anywhere.
//!
//! Too dear for `make test`: its image takes minutes. `make test-pretix` tells it.

use std::{fs, path::Path, process::Command, time::SystemTime};

use lockkeeper::api::{DownAlignment, Phase};
use serde_json::json;

use super::{
    aligned::{ends, hash, share},
    canaries::Canaries,
    cluster::{self, ROOT, apply, cluster, eventually, helm, kubectl, kubectl_with, run, state, wait},
    database::Database,
    turn,
    world::{ALICE, PATIENCE, filled, gone, remove},
};

const PRODUCTION: &str = "t-pretix-production";
const DEVELOPMENT: &str = "t-pretix-development";
/// So many values at least.
const CANARIES: usize = 1000;

/// The two namespaces. They go when this goes.
struct Shop {
    image: String,
}

impl Drop for Shop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for namespace in [PRODUCTION, DEVELOPMENT] {
                for what in [
                    &["get", "pods,jobs,environments,downalignments", "-o", "wide"][..],
                    &["get", "downalignments", "-o", "yaml"],
                ] {
                    println!("{}", kubectl(&[&["-n", namespace], what].concat()).unwrap_or_else(|why| why));
                }
            }
        }
        remove(&[PRODUCTION.to_owned(), DEVELOPMENT.to_owned()]);
        let _ = kubectl(&["delete", "pv", &format!("{DEVELOPMENT}-exchange"), "--ignore-not-found", "--wait=false"]);
    }
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
        let shop = Self { image };
        for (namespace, people) in [(PRODUCTION, "aligners"), (DEVELOPMENT, "requesters")] {
            gone(namespace);
            let values = [
                ("NAMESPACE", namespace),
                ("APP", "pretix"),
                ("ENVIRONMENT", "a-story"),
                ("POSTGRES", cluster().image("postgres:18")),
            ];
            for text in [include_str!("../../demo/manifests/namespace.yaml"), include_str!("../../demo/manifests/postgres.yaml")]
            {
                apply(&filled(text, &values)).expect("the namespace and its server apply");
            }
            let people = format!("people.{people}=[\"{ALICE}\"]");
            helm(&["upgrade", "--install", "tickets", "charts/lockkeeper-environment", "-n", namespace, "--set-json", &people])
                .expect("the chart installs");
        }
        shop.schema();
        for namespace in [PRODUCTION, DEVELOPMENT] {
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
        let servers = [PRODUCTION, DEVELOPMENT].map(Database::of);
        for server in &servers {
            eventually("the database answers", PATIENCE, || server.query("pretix", "SELECT 1").map(drop));
        }
        if !kept.exists() {
            self.deployed(PRODUCTION);
            eventually("pretix's pod runs", PATIENCE, || {
                kubectl(&["-n", PRODUCTION, "exec", "deployment/pretix", "--", "true"]).map(drop)
            });
            kubectl(&["-n", PRODUCTION, "exec", "deployment/pretix", "--", "python", "-m", "pretix", "migrate"])
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

/// A word that is nowhere yet, with what telephone numbers have of it instead.
fn word() -> (String, String) {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").subsec_nanos() & 0x0fff_ffff;
    (format!("kanari{nanos:07x}"), (300_000_000 + nanos).to_string())
}

#[test]
#[ignore = "dear: make test-pretix"]
fn story_pretix_is_mirrored_serves_and_nobody_of_production_is_in_it() {
    let _turn = turn::together();
    let shop = Shop::new();
    let (above, below) = (Database::of(PRODUCTION), Database::of(DEVELOPMENT));
    let (word, digits) = word();
    let planted = ["-n", PRODUCTION, "exec", "-i", "deployment/pretix", "--", "python", "/scripts/plant.py"];
    println!("{}", kubectl_with(&planted, &format!("{word}\n")).expect("a shop with people"));
    println!("Production: {}", used(PRODUCTION, "admin@localhost", "admin"));
    let canaries = Canaries::of(&[&word, &digits], &[PRODUCTION, DEVELOPMENT]);
    let dump = above.sh("pg_dump -h /tmp -U postgres pretix").expect("Production is dumped");
    let count = canaries.count(&dump);
    assert!(count >= CANARIES, "only {count} values are in Production");
    println!("{count} values are in Production");

    let policy = fs::read_to_string(Path::new(ROOT).join("examples/pretix/masking.yaml")).expect("the example");
    let policy = policy.replace("tickets-production", PRODUCTION);
    let key = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "masking-key", "namespace": PRODUCTION},
        "stringData": {"key": "a masking key of a story, long enough"}});
    apply(&key.to_string()).expect("a key");
    apply(&policy).expect("the example applies");
    let values = [
        ("PRODUCTION", PRODUCTION),
        ("DEVELOPMENT", DEVELOPMENT),
        ("PRETIX", &shop.image),
        ("HASH", &hash(PRODUCTION, "tickets")),
    ];
    apply(&filled(include_str!("manifests/pretix-environments.yaml"), &values)).expect("the Environments apply");
    let exchange = share(PRODUCTION, DEVELOPMENT);
    for (namespace, name) in
        [(PRODUCTION, "environment/production"), (PRODUCTION, "mask/tickets"), (DEVELOPMENT, "environment/development")]
    {
        kubectl(&["-n", namespace, "wait", name, "--for=condition=Ready", "--timeout=180s"]).expect("it is Ready");
    }

    let alignment: DownAlignment = serde_json::from_value(json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "DownAlignment", "metadata": {"name": "mirror", "namespace": DEVELOPMENT},
        "spec": {"environment": {"name": "development"}, "from": {"namespace": PRODUCTION, "name": "production"}, "requestedBy": {"username": ALICE}},
    }))
    .expect("a DownAlignment");
    let api: kube::Api<DownAlignment> = kube::Api::namespaced(cluster::client(Some(ALICE)), DEVELOPMENT);
    wait(api.create(&kube::api::PostParams::default(), &alignment)).expect("alice may ask");
    let status = ends(DEVELOPMENT, "mirror");
    assert_eq!(status.phase, Phase::Completed, "{:?} {:?}", status.failure, status.next);
    println!("Development: {}", used(DEVELOPMENT, "user1@pretix.example", "development"));

    let of = |database: &Database, sql: &str| database.query("pretix", sql).expect("an answer").trim().to_owned();
    let keys = "SELECT count(*), count(*) FILTER (WHERE NOT convalidated) FROM pg_constraint WHERE contype = 'f'";
    assert_eq!(of(&below, keys), of(&above, keys), "the same foreign keys hold");
    let rows = "SELECT count(*), count(customer_id), sum(total), (SELECT count(*) FROM pretixbase_orderposition p JOIN pretixbase_order USING (organizer_id) WHERE p.order_id = pretixbase_order.id) FROM pretixbase_order GROUP BY organizer_id";
    for sql in [
        rows,
        // Copies are the mask's own: of a name, and of an address in the log.
        "SELECT count(*) FROM pretixbase_invoice i JOIN pretixbase_invoiceaddress a USING (order_id) WHERE i.invoice_to_name = a.name_cached",
        "SELECT count(*) FROM pretixbase_logentry l JOIN pretixbase_order o ON o.id = l.object_id AND o.email = l.data::jsonb->>'new_email'",
        "SELECT count(DISTINCT email) FROM pretixbase_order",
        "SELECT count(DISTINCT secret) FROM pretixbase_orderposition",
    ] {
        let expected = of(&above, sql);
        assert!(!expected.is_empty() && !expected.starts_with('0'), "{sql}: {expected}");
        assert_eq!(of(&below, sql), expected, "{sql}");
    }
    let uid =
        kubectl(&["-n", PRODUCTION, "get", "environment", "production", "-o", "jsonpath={.metadata.uid}"]).expect("Production");
    canaries.not_on_server(DEVELOPMENT, "pretixbase_order");
    canaries.not_in_repository(&exchange, "exchange-of-a-story", &uid, "pretixbase_order");
    canaries.not_in_cluster(&[PRODUCTION, DEVELOPMENT], "pretixbase_order", &["-snapshot-", "-load-"]);
}
