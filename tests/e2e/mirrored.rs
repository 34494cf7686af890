//! What stories of real applications have in common: a Production full of planted values, a Development that becomes its mirror,
//! and the question where those values are now.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use lockkeeper::api::{DownAlignment, Phase};
use serde_json::json;

use super::{
    aligned::{ends, hash, share},
    canaries::Canaries,
    cluster::{self, apply, cluster, eventually, helm, kubectl, wait},
    database::Database,
    turn::{self, Turn},
    world::{ALICE, PATIENCE, filled, gone, remove},
};

/// So many values at least.
const CANARIES: usize = 1000;

/// An application's two namespaces, each with a server of PostgreSQL. They go when this goes.
pub struct Mirrored {
    /// The application, its database and its policy have this name.
    app: &'static str,
    /// Namespace of Production.
    pub production: String,
    /// Namespace of Development.
    pub development: String,
    /// Given back last.
    _turn: Turn,
}

impl Drop for Mirrored {
    fn drop(&mut self) {
        let namespaces = [self.production.clone(), self.development.clone()];
        if std::thread::panicking() {
            for namespace in &namespaces {
                for what in [
                    &["get", "pods,jobs,environments,downalignments", "-o", "wide"][..],
                    &["get", "downalignments", "-o", "yaml"],
                ] {
                    println!("{}", kubectl(&[&["-n", namespace], what].concat()).unwrap_or_else(|why| why));
                }
            }
        }
        remove(&namespaces);
        let volume = format!("{}-exchange", self.development);
        let _ = kubectl(&["delete", "pv", &volume, "--ignore-not-found", "--wait=false"]);
    }
}

impl Mirrored {
    /// The two namespaces, their servers with an empty database of the application, and what the chart brings.
    pub fn new(app: &'static str) -> Self {
        let turn = turn::together();
        let [production, development] = ["production", "development"].map(|name| format!("t-{app}-{name}"));
        let mirrored = Self { app, production, development, _turn: turn };
        for (namespace, people) in [(&mirrored.production, "aligners"), (&mirrored.development, "requesters")] {
            gone(namespace);
            let values = [
                ("NAMESPACE", namespace.as_str()),
                ("APP", app),
                ("ENVIRONMENT", "a-story"),
                ("POSTGRES", cluster().image("postgres:18")),
            ];
            for text in [include_str!("../../demo/manifests/namespace.yaml"), include_str!("../../demo/manifests/postgres.yaml")]
            {
                apply(&filled(text, &values)).expect("the namespace and its server apply");
            }
            let people = format!("people.{people}=[\"{ALICE}\"]");
            helm(&["upgrade", "--install", app, "charts/lockkeeper-environment", "-n", namespace, "--set-json", &people])
                .expect("the chart installs");
        }
        for server in [mirrored.above(), mirrored.below()] {
            eventually("the database answers", PATIENCE, || server.query(app, "SELECT 1").map(drop));
        }
        mirrored
    }

    /// Both namespaces.
    pub fn namespaces(&self) -> [&str; 2] {
        [&self.production, &self.development]
    }

    /// Production's server.
    pub fn above(&self) -> Database {
        Database::of(&self.production)
    }

    /// Development's.
    pub fn below(&self) -> Database {
        Database::of(&self.development)
    }

    /// Watches for values with these words from now on; there must be enough of them in Production already.
    pub fn canaries(&self, words: &[&str]) -> Canaries {
        let canaries = Canaries::of(words, &self.namespaces());
        let dump = self.above().sh(&format!("pg_dump -h /tmp -U postgres {}", self.app)).expect("Production is dumped");
        let count = canaries.count(&dump);
        assert!(count >= CANARIES, "only {count} values are in Production");
        println!("{count} values are in Production");
        canaries
    }

    /// Development becomes a mirror by a policy that applies in Production, with Environments of a manifest. The directory of the
    /// exchange.
    pub fn align(&self, policy: &str, environments: &str, values: &[(&str, &str)]) -> PathBuf {
        let hash = hash(&self.production, policy);
        let [production, development] = self.namespaces();
        let both = [("PRODUCTION", production), ("DEVELOPMENT", development), ("HASH", &hash)];
        for text in [include_str!("manifests/mirrored.yaml"), environments] {
            apply(&filled(&filled(text, &both), values)).expect("the Environments apply");
        }
        let exchange = share(production, development);
        let policy = format!("mask/{policy}");
        for (namespace, name) in
            [(production, "environment/production"), (production, policy.as_str()), (development, "environment/development")]
        {
            kubectl(&["-n", namespace, "wait", name, "--for=condition=Ready", "--timeout=180s"]).unwrap_or_else(|why| {
                panic!("{why}{}", kubectl(&["-n", namespace, "get", name, "-o", "yaml"]).unwrap_or_default())
            });
        }
        let alignment: DownAlignment = serde_json::from_value(json!({
            "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "DownAlignment", "metadata": {"name": "mirror", "namespace": development},
            "spec": {"environment": {"name": "development"}, "from": {"namespace": production, "name": "production"}, "requestedBy": {"username": ALICE}},
        }))
        .expect("a DownAlignment");
        let api: kube::Api<DownAlignment> = kube::Api::namespaced(cluster::client(Some(ALICE)), development);
        wait(api.create(&kube::api::PostParams::default(), &alignment)).expect("alice may ask");
        let status = ends(development, "mirror");
        assert_eq!(status.phase, Phase::Completed, "{:?} {:?}", status.failure, status.next);
        exchange
    }

    /// That both answer the same to each of these, which is neither nothing nor none; and that all foreign keys hold.
    pub fn alike(&self, queries: &[&str]) {
        let of = |database: &Database, sql: &str| database.query(self.app, sql).expect("an answer").trim().to_owned();
        let keys = "SELECT count(*), count(*) FILTER (WHERE NOT convalidated) FROM pg_constraint WHERE contype = 'f'";
        for sql in [keys].iter().chain(queries) {
            let expected = of(&self.above(), sql);
            assert!(!expected.is_empty() && !expected.starts_with('0'), "{sql}: {expected}");
            assert_eq!(of(&self.below(), sql), expected, "{sql}");
        }
    }

    /// That no value is where an alignment could have let it. `known`: a table that is there.
    pub fn nowhere(&self, canaries: &Canaries, exchange: &Path, known: &str) {
        let uid = kubectl(&["-n", &self.production, "get", "environment", "production", "-o", "jsonpath={.metadata.uid}"]);
        canaries.not_on_server(&self.development, known);
        canaries.not_in_repository(exchange, "exchange-of-a-story", &uid.expect("Production"), known);
        canaries.not_in_cluster(&self.namespaces(), known, &["-snapshot-", "-load-"]);
    }
}

/// A word that is nowhere yet, with what telephone numbers have of it instead.
pub fn word() -> (String, String) {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").subsec_nanos() & 0x0fff_ffff;
    (format!("kanari{nanos:07x}"), (300_000_000 + nanos).to_string())
}
