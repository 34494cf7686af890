//! Rows of a real PostgreSQL: out by COPY, masked, and by COPY into tables with the same constraints.

use lockkeeper::{
    agent,
    data::{
        postgres::{Access, Pace, Session, quote::ident, tables, transform::Transforms},
        stop::Stop,
    },
    manifest::task::POLICY_FILE,
};
use serde_json::json;
use tokio_postgres::Client;

use super::{catalog, compiled, moved, postgres::World};

/// A name of 63 bytes with what SQL might take for its own.
const ODD: &str = "odd\"; DROP TABLE users; -- ') ñ $$ \\ %s{} aaaaaaaaaaaaaaaaaaaa";

fn schema() -> String {
    let odd = ident(ODD);
    format!(
        r#"
CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE DOMAIN postcode AS varchar(5) CHECK (VALUE ~ '^[0-9]+$');
CREATE TABLE users (
  id int PRIMARY KEY, email varchar(60) NOT NULL UNIQUE CHECK (email ~* '^[^@]+@[^@]+[.][a-z]+$'), email_hash char(64), gravatar text,
  name varchar(20) CHECK (length(name) > 0), born date, mood mood NOT NULL, tags text[], salary numeric(9,2) CHECK (salary > 0),
  settings jsonb CHECK (jsonb_typeof(settings) = 'object'), raw json, zip postcode, picture bytea, token uuid UNIQUE, seen timestamptz,
  address inet, shout text GENERATED ALWAYS AS (upper(name)) STORED, UNIQUE (name, born, id));
CREATE UNIQUE INDEX users_email ON users (lower(email)) WHERE id > 0;
CREATE TABLE {odd} ({odd} varchar(60) REFERENCES users (email), "Id" bigint GENERATED ALWAYS AS IDENTITY, note text, PRIMARY KEY ("Id"));
CREATE TABLE events (at timestamptz NOT NULL, who int REFERENCES users, what text) PARTITION BY RANGE (at);
CREATE TABLE events_old PARTITION OF events FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
CREATE TABLE events_new PARTITION OF events FOR VALUES FROM ('2024-01-01') TO (MAXVALUE);
CREATE UNLOGGED TABLE sessions (id text PRIMARY KEY, body text);
CREATE TABLE nothing ();
"#
    )
}

fn rows() -> String {
    let odd = ident(ODD);
    format!(
        r#"
INSERT INTO users SELECT n, 'canary' || n || '@shop.cat', encode(sha256(convert_to('canary' || n || '@shop.cat', 'UTF8')), 'hex'),
  md5('canary' || n || '@shop.cat'), CASE n % 7 WHEN 0 THEN NULL ELSE 'canary ' || n END, date '1970-01-01' + n, 'cross', ARRAY['canary'],
  100 + n / 3.0, jsonb_build_object('theme', 'dark', 'mail', 'canary' || n || '@shop.cat', 'deep', ARRAY['canary'],
    'home', CASE n % 2 WHEN 0 THEN to_jsonb('canary road ' || n) ELSE '["canary"]' END), '{{"a":"canary","a":1}}',
  lpad(n::text, 5, '9'), 'canary', md5('canary' || n)::uuid, now(), '10.1.2.3' FROM generate_series(1, 500) n;
INSERT INTO users (id, email, mood, settings) VALUES (1001, E'tab\there\\canary@shop.cat', 'calm', '{{}}');
INSERT INTO {odd} ({odd}, note) SELECT email, CASE id % 3 WHEN 0 THEN '' WHEN 1 THEN NULL ELSE E'canary\n\t\\' END FROM users;
INSERT INTO events SELECT timestamptz '2023-12-31 12:00+00' + n * interval '10 minutes', n, 'canary' FROM generate_series(1, 200) n;
INSERT INTO sessions VALUES ('canary', 'canary');
"#
    )
}

fn masks() -> String {
    let odd = serde_json::to_string(&format!("public.{ODD}")).unwrap();
    let column = serde_json::to_string(ODD).unwrap();
    format!(
        r#"
name: store
tables:
- table: public.users
  columns:
    id: {{keep: {{}}}}
    email: {{fake: {{kind: email, domain: email, locale: es}}}}
    email_hash: {{derive: {{sha256Of: email}}}}
    gravatar: {{derive: {{md5Of: email}}}}
    name: {{fake: {{kind: fullName, domain: person, locale: ca}}}}
    born: {{shift: {{subject: id}}}}
    mood: {{redact: {{}}}}
    tags: {{redact: {{}}}}
    salary: {{noise: {{percent: 20}}}}
    settings: {{json: {{paths: {{"$.theme": {{keep: {{}}}}, "$.home.city": {{keep: {{}}}}, "$.mail": {{fake: {{kind: email, domain: email, locale: es}}}}}}}}}}
    raw: {{json: {{paths: {{"$.a": {{redact: {{}}}}}}}}}}
    zip: {{keep: {{reason: "a district"}}}}
    picture: {{hash: {{}}}}
    token: {{hash: {{}}}}
    seen: {{shift: {{subject: id, days: 10}}}}
    address: {{fake: {{kind: ip}}}}
- table: {odd}
  columns: {{{column}: {{fake: {{kind: email, domain: email, locale: es}}}}, Id: {{keep: {{}}}}, note: {{fake: {{kind: shape}}}}}}
- table: public.events
  rows: {{where: "who % 2 = 0 AND what <> '; -- )'"}}
  columns: {{at: {{keep: {{}}}}, who: {{keep: {{}}}}, what: {{fake: {{kind: text}}}}}}
- table: public.sessions
  rows: {{none: {{}}}}
- table: public.nothing
"#
    )
}

/// A database with the tables and rows, and one with the tables alone.
async fn shop(name: &str) -> (World, Client, Client) {
    let world = World::new(name).await;
    let boss = world.server.boss("postgres").await;
    let lower = format!("{}_lower", world.database);
    boss.batch_execute(&format!("CREATE DATABASE {} OWNER {}", ident(&lower), ident(&world.app))).await.unwrap();
    let from = world.as_app().await;
    // What every world begins with is of no use here.
    from.batch_execute("DROP SCHEMA public CASCADE; DROP SCHEMA \"Odd \"\"one\" CASCADE; CREATE SCHEMA public").await.unwrap();
    from.batch_execute(&schema()).await.unwrap();
    from.batch_execute(&rows()).await.unwrap();
    let to = world.server.connect(&world.app, &lower).await.unwrap();
    to.batch_execute(&schema()).await.unwrap();
    let boss = world.server.boss(&world.database).await;
    boss.batch_execute("SET datestyle = 'ISO'").await.unwrap();
    (world, from, to)
}

async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get::<_, Option<String>>(0).unwrap_or_default()
}

#[tokio::test]
async fn the_catalog_says_what_masks_must_keep_to() {
    let (world, ..) = shop("catalog").await;
    let tables = catalog(&world).await;
    let names: Vec<&str> = tables.iter().filter(|t| t.schema == "public").map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["events", "events_new", "events_old", "nothing", ODD, "sessions", "users"]);
    let users = tables.iter().find(|t| t.name == "users").unwrap();
    let column = |name: &str| users.columns.iter().find(|c| c.name == name).unwrap();
    assert_eq!((column("zip").base_type.as_str(), column("zip").max_length), ("varchar", Some(5)));
    assert_eq!((column("email_hash").base_type.as_str(), column("email_hash").max_length), ("bpchar", Some(64)));
    assert_eq!((column("tags").category, column("mood").labels.len(), column("shout").generated), ('A', 2, true));
    assert_eq!(users.unique[0], ["id"]);
    assert!(users.unique.contains(&vec!["email".to_owned()]) && users.unique.contains(&vec!["token".to_owned()]));
    assert_eq!(users.unique_partly, [["email", "id"]]);
    assert!(users.checks.iter().any(|c| c.columns == ["zip"] && c.expression.contains("VALUE")));
    let odd = tables.iter().find(|t| t.name == ODD).unwrap();
    assert_eq!((odd.foreign_keys[0].columns[0].as_str(), odd.foreign_keys[0].references[0].as_str()), (ODD, "email"));
    let events = tables.iter().find(|t| t.name == "events").unwrap();
    assert!(tables.iter().filter(|t| t.name.starts_with("events_")).all(|t| t.parents == [events.oid]));
}

#[tokio::test]
async fn masked_rows_load_into_the_same_constraints_and_no_canary_among_them() {
    let (world, from, to) = shop("mask").await;
    let tables = catalog(&world).await;
    let masking = compiled(&masks(), &tables).unwrap_or_else(|problems| panic!("{problems:#?}"));
    for client in [&from, &to] {
        client.batch_execute("SET datestyle = 'ISO'; SET timezone = 'UTC'").await.unwrap();
    }
    for name in ["users", ODD, "events_old", "events_new", "sessions", "nothing"] {
        let table = tables.iter().find(|t| t.name == name).unwrap();
        moved(table, masking.of(table).unwrap(), &from, &to).await.unwrap_or_else(|why| panic!("{name}: {why}"));
    }
    let odd = ident(ODD);
    for (what, sql) in [
        ("rows", "SELECT count(*)::text FROM users".to_owned()),
        ("joins", format!("SELECT count(*)::text FROM users u JOIN {odd} o ON o.{odd} = u.email")),
        ("nulls", "SELECT count(*)::text FROM users WHERE name IS NULL OR tags IS NULL".into()),
        ("empty notes", format!("SELECT count(*)::text FROM {odd} WHERE note = ''")),
        ("hashes", "SELECT count(*)::text FROM users WHERE email_hash = encode(sha256(convert_to(email, 'UTF8')), 'hex') AND gravatar = md5(email)".into()),
        ("cached", "SELECT count(*)::text FROM users WHERE settings->>'mail' = email".into()),
        ("themes", "SELECT count(*)::text FROM users WHERE settings->>'theme' = 'dark'".into()),
        ("distance of dates", "SELECT sum(seen::date - born)::text FROM users WHERE false".into()),
    ] {
        assert_eq!(text(&from, &sql).await, text(&to, &sql).await, "{what}");
    }
    let moved =
        "SELECT count(*)::text FROM users WHERE born <> date '1970-01-01' + id AND abs(born - (date '1970-01-01' + id)) <= 90";
    assert_eq!(text(&to, moved).await, "500");
    assert_eq!(text(&to, "SELECT count(*)::text FROM events").await, "100", "only the rows of the condition");
    assert_eq!(text(&to, "SELECT count(*)::text FROM sessions").await, "0");
    assert_eq!(text(&to, "SELECT count(*)::text FROM users WHERE settings ? 'deep' OR token::text !~ '-4...-[89ab]'").await, "0");
}

#[tokio::test]
async fn the_agent_says_what_a_policy_lacks_and_drafts_one_that_holds() {
    let (mut world, from, _) = shop("classify").await;
    let directory = tempfile::tempdir().unwrap();
    world.paths.policy = directory.path().to_owned();
    let write = |yaml: &str| {
        let spec = json!({"data": [super::policy(yaml)]});
        std::fs::write(directory.path().join(POLICY_FILE), spec.to_string()).unwrap();
    };
    write(&masks());
    let task = world.task_with("classify", json!({}));
    let outcome = world.done(&task).await;
    assert_eq!((outcome.coverage[0].columns, outcome.coverage[0].classified), (24, 24), "{outcome:?}");
    assert_eq!(outcome.notes, Vec::<String>::new());
    // A column that came meanwhile.
    from.batch_execute("ALTER TABLE users ADD COLUMN mobile text").await.unwrap();
    let outcome = world.done(&task).await;
    assert_eq!(outcome.coverage[0].unknown, ["public.users.mobile"]);
    assert!(outcome.notes[0].contains("column mobile: not named") && outcome.notes[0].contains("kind: phone"), "{outcome:?}");
    // What each run would refuse, too: another server, and a password in code.
    let boss = world.server.boss(&world.database).await;
    boss.batch_execute("CREATE EXTENSION postgres_fdw; CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw").await.unwrap();
    from.batch_execute(
        "CREATE FUNCTION calls() RETURNS text LANGUAGE sql AS $$ SELECT 'postgres://app:canary@prod/shop'::text $$",
    )
    .await
    .unwrap();
    let said = world.done(&task).await.notes.join("\n");
    assert!(said.contains("CREATE SERVER elsewhere") && said.contains("FUNCTION public.calls: it has text that looks"), "{said}");
    boss.batch_execute("DROP EXTENSION postgres_fdw CASCADE; DROP FUNCTION calls").await.unwrap();
    // What a broken policy says fits the termination message, and quotes no value.
    write("name: store\ntables: []");
    let said = agent::fit(&world.done(&task).await);
    assert!(said.len() <= 4096 && !said.contains("canary"), "{said}");

    let access = Access::read(&world.paths.secrets, "store").unwrap();
    let session = Session::open(&access.admin, access.database(), Pace::Short, &Stop::never()).await.unwrap();
    let tables = tables::read(&session).await.unwrap();
    let (code, outcome) = world.perform(&world.task_with("draft", json!({"locale": "es"}))).await;
    assert_eq!(code, 0, "{outcome:?}");
    let users = tables.iter().find(|t| t.name == "users").unwrap();
    let samples = [((users.oid, "gravatar".to_owned()), (0..9).map(|n| format!("canary{n}@shop.cat")).collect())].into();
    let labels = [((users.oid, "mobile".to_owned()), "MASKED WITH FUNCTION anon.fake_phone_number()".to_owned())].into();
    let text = lockkeeper::data::mask::draft::data("store", &tables, &samples, &labels, lockkeeper::api::Locale::Es);
    assert!(!text.contains("canary"), "{text}");
    assert!(text.contains("gravatar: {fake: {domain: email, kind: email, locale: es}} # 100 of 100 values"), "{text}");
    assert!(text.contains("kind: phone") && text.contains("# by its security label for anon"), "{text}");
    let read: serde_json::Value = serde_saphyr::from_str(&format!("data:\n{text}")).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(read["data"][0]["tables"].as_array().unwrap().len(), 5);
}
