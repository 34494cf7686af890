//! Data goes from one environment to another: masked where it belongs, loaded with the other's own roles.

use std::fs;

use lockkeeper::{
    api::MaskingPolicySpec, data::mask, data::postgres::quote::ident, data::repository::Repository, manifest::task::exit,
};
use serde_json::{Value, json};

use super::postgres::{RUN, World, files_below};

/// So many people, each with a name and an address that must not be found anywhere else.
const PEOPLE: i64 = 400;
const SCHEMA: &str = r#"
CREATE TABLE users (id serial PRIMARY KEY, username varchar(30) NOT NULL UNIQUE, email text NOT NULL UNIQUE, email_hash text NOT NULL, settings jsonb);
CREATE TABLE "Orders" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "user" int NOT NULL REFERENCES users, contact text REFERENCES users (email),
  amount numeric(10,2) NOT NULL CHECK (amount >= 0), twice numeric GENERATED ALWAYS AS (amount * 2) STORED);
CREATE TABLE sessions (id text PRIMARY KEY, secret text NOT NULL);
CREATE VIEW totals AS SELECT "user", sum(amount) FROM "Orders" GROUP BY 1;
CREATE MATERIALIZED VIEW known AS SELECT email FROM users;
COMMENT ON TABLE users IS 'ask canary-comment@corp.test-company.com';
"#;

/// A Production with people in it, a Development with other things, and an exchange between them.
pub struct Pair {
    pub production: World,
    pub development: World,
}

impl Pair {
    pub async fn new(name: &str) -> Self {
        let production = World::new(&format!("{name}_from")).await;
        let mut development = World::new(&format!("{name}_to")).await;
        let boss = production.server.boss("postgres").await;
        let database = format!("{}_people", production.database);
        boss.batch_execute(&format!("CREATE DATABASE {} OWNER {}", ident(&database), ident(&production.app))).await.unwrap();
        for (which, role) in [("connection", &production.app), ("admin", &production.admin)] {
            production.secret("store", which, role, &database);
        }
        let app = production.server.connect(&production.app, &database).await.unwrap();
        app.batch_execute(SCHEMA).await.unwrap();
        app.batch_execute(&format!(
            "INSERT INTO users (username, email, email_hash, settings) SELECT 'canary-name-' || i, 'canary-' || i || '@corp.example.com', \
             encode(sha256(('canary-' || i || '@corp.example.com')::bytea), 'hex'), \
             jsonb_build_object('theme', 'dark', 'phone', 'canary-phone-' || i) FROM generate_series(1, {PEOPLE}) i; \
             INSERT INTO \"Orders\" (\"user\", contact, amount) SELECT id, email, id % 90 FROM users; \
             INSERT INTO sessions SELECT 'canary-session-' || i, 'canary-secret' FROM generate_series(1, 50) i; \
             REFRESH MATERIALIZED VIEW known"
        ))
        .await
        .unwrap();
        // One volume, mounted on both sides.
        development.paths.repository = production.paths.repository.clone();
        Self { production, development }
    }

    pub fn policy(&mut self, change: impl FnOnce(&mut Value)) -> String {
        let mut policy = json!({
            "keySecret": {"name": "masking"},
            "data": [{"name": "store", "tables": [
                {"table": "public.users", "columns": {
                    "id": {"keep": {}}, "username": {"fake": {"kind": "username", "domain": "person"}},
                    "email": {"fake": {"kind": "email", "domain": "email"}}, "email_hash": {"derive": {"sha256Of": "email"}},
                    "settings": {"json": {"paths": {"$.theme": {"keep": {}}}}},
                }},
                {"table": "public.Orders", "columns": {
                    "id": {"keep": {}}, "user": {"keep": {}}, "contact": {"fake": {"kind": "email", "domain": "email"}}, "amount": {"keep": {}},
                }},
                {"table": "public.sessions", "rows": {"none": {}}},
            ]}],
        });
        change(&mut policy);
        let spec: MaskingPolicySpec = serde_json::from_value(policy.clone()).unwrap();
        let below = |part: &str| self.production.directory.path().join(part);
        let (directory, key) = (below("policy"), below("masking-key"));
        fs::create_dir_all(&directory).unwrap();
        fs::create_dir_all(&key).unwrap();
        fs::write(directory.join("policy.json"), policy.to_string()).unwrap();
        fs::write(key.join("key"), "not to be guessed, ever\n").unwrap();
        (self.production.paths.policy, self.production.paths.masking_key) = (directory, key);
        mask::hash(&spec)
    }

    fn masking(&self, hash: &str) -> lockkeeper::manifest::task::Task {
        self.production.task_with("snapshot", json!({"maskingPolicyHash": hash, "policy": "copy"}))
    }
}

#[tokio::test]
async fn a_lower_environment_gets_the_masked_data_and_no_value_of_production_is_anywhere() {
    let mut pair = Pair::new("mirror").await;
    let hash = pair.policy(|_| {});
    let masked = pair.production.done(&pair.masking(&hash)).await.backup.unwrap();
    assert_eq!(masked.rows, 2 * PEOPLE, "users and orders, no session: {masked:?}");
    let again = pair.production.done(&pair.masking(&hash)).await.backup.unwrap();
    assert_eq!(again.snapshot, masked.snapshot, "once");

    let development = &pair.development;
    // Who reads there, on what the mirror brings as on what it does not.
    let reporter = ident(&development.reporter);
    let grants = format!(
        "CREATE TABLE users (id int, email text, gone int); CREATE TABLE \"Orders\" (id int); CREATE TABLE other (id int); \
         GRANT SELECT ON users, other TO {reporter}; GRANT UPDATE (email, gone) ON users TO {reporter}; GRANT USAGE ON SCHEMA public TO {reporter}; \
         ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {reporter}"
    );
    development.as_app().await.batch_execute(&grants).await.unwrap();
    development.ok("fence", 1).await;
    let load = json!({"epoch": 1, "snapshot": masked.snapshot, "origin": pair.production.environment});
    development.done(&development.task_with("restore", load)).await;
    development.ok("release", 1).await;

    let reading = development.server.connect(&development.reporter, &development.database).await.unwrap();
    reading.batch_execute("SELECT count(*) FROM users; UPDATE users SET email = email WHERE id = 1").await.unwrap();
    reading.batch_execute("SELECT count(*) FROM \"Orders\"").await.unwrap_err();
    development.as_app().await.batch_execute("CREATE TABLE made_later (a int)").await.unwrap();
    reading.batch_execute("SELECT count(*) FROM made_later").await.unwrap();

    let app = development.as_app().await;
    let count = async |sql: &str| app.query_one(&format!("SELECT count(*) FROM {sql}"), &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count("users").await, PEOPLE);
    assert_eq!(count("\"Orders\" o JOIN users u ON u.id = o.\"user\" AND u.email = o.contact").await, PEOPLE, "joins still hold");
    assert_eq!(count("users WHERE email_hash = encode(sha256(email::bytea), 'hex')").await, PEOPLE, "the hash is the mask's");
    assert_eq!(count("users WHERE settings->>'theme' = 'dark'").await, PEOPLE);
    assert_eq!(count("users WHERE username LIKE 'canary%' OR email LIKE 'canary%' OR settings::text LIKE '%canary%'").await, 0);
    assert_eq!(count("sessions").await, 0);
    assert_eq!(count("known k JOIN users u USING (email)").await, PEOPLE, "what is computed is computed from the masks");

    // The exchange, decrypted, and everything in the lower database.
    let place = tempfile::tempdir().unwrap();
    let repository = Repository::open(
        &pair.production.paths.repository,
        &pair.production.paths.repository_password,
        &pair.production.environment,
    )
    .unwrap();
    repository.restore(&masked.snapshot, place.path()).unwrap();
    let files = files_below(place.path());
    assert!(files.iter().any(|f| f.ends_with("pre-data.sql")), "{files:?}");
    for file in files {
        let content = fs::read(&file).unwrap();
        assert!(!String::from_utf8_lossy(&content).contains("canary"), "a value of production is in {}", file.display());
        if file.extension().is_some_and(|e| e == "sql" || e == "json") {
            let text = String::from_utf8_lossy(&content).into_owned();
            for name in [&pair.production.app, &pair.production.admin, &format!("{}_people", pair.production.database)] {
                assert!(!text.contains(name.as_str()), "a name of production's is in {}", file.display());
            }
        }
    }
    assert!(
        development.databases().await.iter().any(|d| d.contains("undo")),
        "what was there is aside: {:?}",
        development.databases().await
    );
}

#[tokio::test]
async fn what_the_lower_server_lacks_is_told_before_anyone_is_locked_out() {
    let mut pair = Pair::new("lacks").await;
    let database = format!("{}_people", pair.production.database);
    let boss = pair.production.server.boss(&database).await;
    let role = format!("auditor{}", pair.production.reporter);
    boss.batch_execute(&format!(
        "CREATE ROLE {role}; ALTER TABLE users ENABLE ROW LEVEL SECURITY; CREATE POLICY audit ON users TO {role} USING (true); \
         CREATE EXTENSION file_fdw; CREATE FUNCTION seen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; \
         CREATE EVENT TRIGGER sees ON ddl_command_end EXECUTE FUNCTION seen()"
    ))
    .await
    .unwrap();
    let hash = pair.policy(|_| {});
    pair.production.secret("store", "admin", "postgres", &database);
    let masked = pair.production.done(&pair.masking(&hash)).await.backup.unwrap();
    boss.batch_execute(&format!("DROP POLICY audit ON users; DROP ROLE {role}")).await.unwrap();
    let development = &pair.development;
    let receive = development.task_with("preflight", json!({"snapshot": masked.snapshot, "origin": pair.production.environment}));
    let told = development.done(&receive).await;
    let said = super::failed(&told).iter().map(|(_, message)| *message).collect::<Vec<_>>().join("\n");
    for part in
        ["event trigger sees", "extension file_fdw is made by superusers alone", &format!("CREATE ROLE \"{role}\" NOLOGIN;")]
    {
        assert!(said.contains(part), "{part} is missing in: {said}");
    }
    boss.batch_execute(&format!("CREATE ROLE {role}")).await.unwrap();
    development.secret("store", "admin", "postgres", &development.database);
    let told = development.done(&receive).await;
    assert_eq!(super::failed(&told), []);
    assert!(told.checks.iter().any(|c| c.name == "store: what comes"), "{told:?}");
    assert!(!development.databases().await.iter().any(|d| d.contains("__proof_")));
    development.ok("fence", 1).await;
    let load = json!({"epoch": 1, "snapshot": masked.snapshot, "origin": pair.production.environment});
    development.done(&development.task_with("restore", load)).await;
}

#[tokio::test]
async fn what_nobody_classified_stops_everything_before_the_first_byte() {
    let mut pair = Pair::new("unclassified").await;
    let hash = pair.policy(|p| {
        p["data"][0]["tables"][0]["columns"].as_object_mut().unwrap().remove("settings");
    });
    let refused = pair.production.refused(&pair.masking(&hash), exit::PERMANENT, "Refused").await;
    let said = refused.error.unwrap().message;
    assert!(
        said.contains("nothing has left") && said.contains("public.users, column settings") && said.contains("settings: {"),
        "{said}"
    );
    assert!(!said.contains("canary"), "{said}");
    let repository = Repository::open(
        &pair.production.paths.repository,
        &pair.production.paths.repository_password,
        &pair.production.environment,
    )
    .unwrap();
    assert_eq!(repository.of_run(RUN).unwrap(), None);

    // Another policy than the granted one, and a policy that does not know the data.
    let granted = pair.policy(|_| {});
    pair.policy(|p| p["data"][0]["tables"][0]["columns"]["username"] = json!({"keep": {"reason": "wanted"}}));
    let said = pair.production.refused(&pair.masking(&granted), exit::PERMANENT, "Refused").await.error.unwrap().message;
    assert!(said.contains("nothing leaves by another policy"), "{said}");
    let hash = pair.policy(|p| p["data"][0]["name"] = json!("other"));
    let said = pair.production.refused(&pair.masking(&hash), exit::PERMANENT, "Refused").await.error.unwrap().message;
    assert!(said.contains("says nothing of data store"), "{said}");

    // Of several databases the last one is looked at before anything of the first leaves: its columns, and its definitions.
    for (which, role) in [("connection", &pair.production.app), ("admin", &pair.production.admin)] {
        pair.production.secret("zoo", which, role, &pair.production.database);
    }
    let app = pair.production.as_app().await;
    let sql = "SELECT coalesce(json_agg(json_build_object('table', n.nspname || '.' || c.relname, 'rows', '{\"none\": {}}'::json)), '[]')::text \
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^(pg_|information)'";
    let tables: Value = serde_json::from_str(app.query_one(sql, &[]).await.unwrap().get(0)).unwrap();
    let both = |pair: &Pair, hash: &str| {
        let more = json!({"maskingPolicyHash": hash, "policy": "copy", "data": [{"name": "store"}, {"name": "zoo"}]});
        pair.production.task_with("snapshot", more)
    };
    let repository = pair.production.paths.repository.join("data");
    let packs = || files_below(&repository).len();
    let before = packs();
    let hash = pair.policy(|p| p["data"].as_array_mut().unwrap().push(json!({"name": "zoo", "tables": []})));
    let said = pair.production.refused(&both(&pair, &hash), exit::PERMANENT, "Refused").await.error.unwrap().message;
    assert!(said.contains("nothing has left") && said.contains("data zoo") && packs() == before, "{said}");
    app.batch_execute("CREATE FUNCTION calls() RETURNS text LANGUAGE sql AS $$ SELECT 'host=prod password=canary-word'::text $$")
        .await
        .unwrap();
    let hash = pair.policy(|p| p["data"].as_array_mut().unwrap().push(json!({"name": "zoo", "tables": tables})));
    let said = pair.production.refused(&both(&pair, &hash), exit::PERMANENT, "Refused").await.error.unwrap().message;
    assert!(
        said.contains("data zoo") && said.contains("CREATE FUNCTION public.calls: it has text that looks like a password"),
        "{said}"
    );
    assert!(packs() == before && !said.contains("canary"), "{said}");
    app.batch_execute("DROP FUNCTION calls").await.unwrap();
    let coverage = pair.production.done(&both(&pair, &hash)).await.backup.unwrap().coverage;
    assert_eq!(
        coverage.iter().map(|c| (c.data.as_str(), c.columns, c.classified)).next(),
        Some(("store", 11, 11)),
        "{coverage:?}"
    );
    assert!(packs() > before && coverage.len() == 2, "{coverage:?}");
}

/// A row that is masked is held whole, once as it is and once as it leaves, by one connection at a time.
#[tokio::test]
async fn rows_of_a_hundred_megabytes_are_masked_in_a_job_that_may_hold_384_and_larger_ones_are_refused() {
    let mut pair = Pair::new("large").await;
    let database = format!("{}_people", pair.production.database);
    let app = pair.production.server.connect(&pair.production.app, &database).await.unwrap();
    app.batch_execute(
        "CREATE TABLE papers (id int, scan bytea, body text, note text); \
         ALTER TABLE papers ALTER scan SET STORAGE EXTERNAL, ALTER body SET STORAGE EXTERNAL, ALTER note SET STORAGE EXTERNAL; \
         INSERT INTO papers SELECT i, decode(repeat(md5(i::text), 937500), 'hex'), 'canary', 'canary' FROM generate_series(1, 8) i; \
         INSERT INTO papers VALUES (20, decode(repeat(md5('b'), 3125000), 'hex'), NULL, NULL), (21, NULL, repeat('canary words ', 8000000), NULL), \
           (22, NULL, NULL, repeat('canary words ', 8000000))",
    )
    .await
    .unwrap();
    let hash = pair.policy(|p| {
        p["data"][0]["tables"].as_array_mut().unwrap().push(json!({"table": "public.papers", "columns": {
            "id": {"keep": {}}, "scan": {"keep": {"reason": "generated"}}, "body": {"redact": {}}, "note": {"hash": {}},
        }}));
    });
    let held = pair.production.held(&pair.masking(&hash));
    let masked = pair.production.done(&pair.masking(&hash)).await.backup.unwrap();
    let development = &pair.development;
    development.ok("fence", 1).await;
    let load = json!({"epoch": 1, "snapshot": masked.snapshot, "origin": pair.production.environment});
    let held_by_load = development.held(&development.task_with("restore", load));
    development.ok("release", 1).await;
    assert!(held <= 320 && held_by_load <= 256, "{held} and {held_by_load} MiB");
    let sql =
        "SELECT count(*), max(length(scan)), count(*) FILTER (WHERE body LIKE '%canary%' OR note LIKE '%canary%') FROM papers";
    let row = development.as_app().await.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i32>(1), row.get::<_, i64>(2)), (11, 50_000_000, 0));

    // A line break is one byte in the database and two in COPY's text, which is seen only where it is read.
    app.batch_execute("UPDATE papers SET body = repeat(E'\\n', 60000000) WHERE id = 21").await.unwrap();
    let task = json!({"run": "33333333-aaaa-4bbb-8ccc-dddddddddddd", "maskingPolicyHash": hash, "policy": "copy"});
    let task = pair.production.task_with("snapshot", task);
    let said = pair.production.refused(&task, exit::PERMANENT, "Refused").await.error.unwrap().message;
    assert!(said.contains("table public.papers: a row has more than 112 MB"), "{said}");
}

#[tokio::test]
async fn a_row_that_is_too_large_to_be_masked_is_told_before_anything_is_read_and_not_where_it_does_not_leave_masked() {
    let mut pair = Pair::new("wide").await;
    let database = format!("{}_people", pair.production.database);
    let app = pair.production.server.connect(&pair.production.app, &database).await.unwrap();
    app.batch_execute(
        "CREATE TABLE papers (id int PRIMARY KEY, scan bytea, body text, document jsonb); \
         ALTER TABLE papers ALTER scan SET STORAGE EXTERNAL; \
         INSERT INTO papers VALUES (1, decode(repeat(md5('a'), 3000000), 'hex'), NULL, NULL), (2, NULL, repeat('x', 60000000), NULL)",
    )
    .await
    .unwrap();
    let with = |rows: Value, body: Value| {
        move |p: &mut Value| {
            let mut table = json!({"table": "public.papers", "columns": {
                "id": {"keep": {}}, "scan": {"keep": {"reason": "generated"}}, "body": body, "document": {"keep": {"reason": "generated"}},
            }});
            if rows != Value::Null {
                table["rows"] = rows;
            }
            p["data"][0]["tables"].as_array_mut().unwrap().push(table);
        }
    };
    let redact = || json!({"redact": {}});
    let said = async |pair: &Pair| {
        let outcome = pair.production.done(&pair.production.task_with("classify", json!({"policy": "copy"}))).await;
        outcome.notes.join("; ")
    };
    pair.policy(with(Value::Null, redact()));
    assert_eq!(said(&pair).await, "", "96 MB are not too much");

    app.batch_execute("UPDATE papers SET scan = scan || scan WHERE id = 1").await.unwrap();
    let hash = pair.policy(with(Value::Null, redact()));
    let told = said(&pair).await;
    let words = "table public.papers: a row has at least 192 MB as COPY writes it (a byte of bytea is two there), and one that is masked is held \
                 whole and may have 112: keep such rows with `rows: {where: …}`";
    assert!(told.contains(words), "{told}");
    let refused = pair.production.refused(&pair.masking(&hash), exit::PERMANENT, "Refused").await.error.unwrap().message;
    assert!(refused.starts_with("nothing has left. data store: ") && refused.contains(words), "{refused}");

    pair.policy(with(json!({"where": "octet_length(scan) < 50000000 OR scan IS NULL"}), redact()));
    assert_eq!(said(&pair).await, "", "what does not leave may be as large as it is");
    pair.policy(with(json!({"none": {}}), redact()));
    assert_eq!(said(&pair).await, "");
    pair.policy(with(Value::Null, json!({"keep": {"reason": "generated"}})));
    assert_eq!(said(&pair).await, "", "what leaves as it is, is not held whole");

    // As it is stored, the document takes less than what may be masked; its text does not.
    app.batch_execute(
        "UPDATE papers SET scan = NULL; INSERT INTO papers \
           SELECT 3, NULL, NULL, to_jsonb(string_agg(md5(i::text) || repeat('x', 100), '')) FROM generate_series(1, 900000) i",
    )
    .await
    .unwrap();
    pair.policy(with(Value::Null, redact()));
    let told = said(&pair).await;
    assert!(told.contains("table public.papers: a row has at least 118 MB"), "{told}");
}

#[tokio::test]
async fn a_snapshot_of_another_environment_is_not_loaded() {
    let mut pair = Pair::new("foreign").await;
    let hash = pair.policy(|_| {});
    let masked = pair.production.done(&pair.masking(&hash)).await.backup.unwrap();
    let development = &pair.development;
    development.ok("fence", 1).await;
    let load = json!({"epoch": 1, "snapshot": masked.snapshot, "origin": "00000000-0000-4000-8000-000000000000"});
    let (code, outcome) = development.perform(&development.task_with("restore", load)).await;
    assert_eq!((code, outcome.error.unwrap().reason.as_str()), (exit::PERMANENT, "RepositoryForeign"));
    let load = json!({"epoch": 1, "snapshot": masked.snapshot});
    let (code, _) = development.perform(&development.task_with("restore", load)).await;
    assert_eq!(code, exit::PERMANENT, "nor as its own backup");
    development.ok("release", 1).await;
    assert!(development.rows().await > 0, "what was there is there");
}

#[tokio::test]
async fn a_young_masked_snapshot_serves_again_by_the_same_policy_of_the_same_release_and_data_and_no_other_does() {
    let mut pair = Pair::new("again").await;
    let hash = pair.policy(|_| {});
    let runs = std::cell::Cell::new(0);
    let asks = |hash: &str, more: Value| {
        runs.set(runs.get() + 1);
        let mut task = json!({
            "maskingPolicyHash": hash, "policy": "copy", "run": format!("{:08}-aaaa-4bbb-8ccc-dddddddddddd", runs.get()),
            "runName": format!("DownAlignment low/mirror-{}", runs.get()), "release": "r1", "reuseWithinSeconds": 3600,
        });
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        pair.production.task_with("snapshot", task)
    };
    let first = pair.production.done(&asks(&hash, json!({}))).await;
    assert!(first.notes.is_empty(), "{first:?}");
    let first = first.backup.unwrap();
    let again = pair.production.done(&asks(&hash, json!({}))).await;
    let said = again.notes.join("\n");
    assert!(
        said.contains("made for DownAlignment low/mirror-1") && said.contains("again to DownAlignment low/mirror-2"),
        "{said}"
    );
    let again = again.backup.unwrap();
    assert_eq!((&again.snapshot, again.taken_at, &again.contents), (&first.snapshot, first.taken_at, &first.contents));
    // Nobody said that it may, its age, what the source runs now, and what it does not say of itself.
    let mut known = std::collections::BTreeSet::from([first.snapshot.clone()]);
    for not in [
        json!({"reuseWithinSeconds": null}),
        json!({"reuseWithinSeconds": 0}),
        json!({"release": "r2"}),
        json!({"release": null}),
        json!({"release": null}),
    ] {
        let new = pair.production.done(&asks(&hash, not.clone())).await.backup.unwrap();
        assert!(known.insert(new.snapshot), "{not}");
    }
    // The newest that fits; those of the other release do not.
    let newest = pair.production.done(&asks(&hash, json!({}))).await.backup.unwrap();
    assert!(newest.snapshot != first.snapshot && newest.taken_at > first.taken_at, "{newest:?}");

    // It can be loaded as one of its own.
    let development = &pair.development;
    development.ok("fence", 1).await;
    let load = json!({"epoch": 1, "snapshot": newest.snapshot, "origin": pair.production.environment});
    development.done(&development.task_with("restore", load)).await;
    development.ok("release", 1).await;

    // What the exchange holds of other data is not what is asked for.
    for (which, role) in [("connection", &pair.production.app), ("admin", &pair.production.admin)] {
        pair.production.secret("more", which, role, &pair.production.database);
    }
    let both = json!({"data": [{"name": "store"}, {"name": "more"}]});
    let said = pair.production.refused(&asks(&hash, both), exit::PERMANENT, "Refused").await.error.unwrap().message;
    assert!(said.contains("says nothing of data more"), "{said}");

    // A column that nobody has classified stops what serves again too.
    let database = format!("{}_people", pair.production.database);
    let app = pair.production.server.connect(&pair.production.app, &database).await.unwrap();
    app.batch_execute("ALTER TABLE users ADD COLUMN phone text").await.unwrap();
    let said = pair.production.refused(&asks(&hash, json!({})), exit::PERMANENT, "Refused").await.error.unwrap().message;
    assert!(said.contains("public.users, column phone"), "{said}");
    app.batch_execute("ALTER TABLE users DROP COLUMN phone").await.unwrap();

    // Another policy: nothing that was masked by the one before.
    let other = pair.policy(|p| p["data"][0]["tables"][0]["columns"]["settings"] = json!({"null": {}}));
    let task = json!({"maskingPolicyHash": other, "policy": "copy", "run": "99999999-aaaa-4bbb-8ccc-dddddddddddd", "release": "r1", "reuseWithinSeconds": 3600});
    let masked = pair.production.done(&pair.production.task_with("snapshot", task)).await;
    assert!(masked.notes.is_empty() && masked.backup.unwrap().taken_at > newest.taken_at);
}
