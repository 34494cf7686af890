//! The copy engine on a real PostgreSQL: what a database holds comes back equal, whatever it holds; a broken repository gives
//! nothing back; a killed process leaves nothing that counts. `LOCKKEEPER_PG_BIN` names another PostgreSQL,
//! `PROPTEST_CASES` more random databases than a few.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[allow(dead_code)]
mod postgres;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lockkeeper::{
    data::{
        postgres::{
            Access, Pace, Session, content,
            copy::{self, CopyError, Export, View},
            quote::ident,
            tables::Table,
            tools::{Definitions, Tools},
            transform::{Leaving, TransformError, Transforms},
        },
        repository::Repository,
        stop::Stop,
    },
    manifest::task::{Task, exit},
};
use postgres::{World, files_below, wait_until};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

/// Types with an expression of `i` that gives values of them, the odd ones often.
const TYPES: &[(&str, &str)] = &[
    ("int", "i * 7919 % 1000003 - 500000"),
    ("smallint", "i % 30000"),
    ("bigint", "i::bigint * 922337203685"),
    ("numeric", "(ARRAY['NaN', 'Infinity', '-0.000000000000000000001', '12345678901234567890.5']::numeric[])[1 + i % 4]"),
    ("numeric(20,5)", "i / 7.0"),
    ("float8", "(ARRAY[0.1, 'NaN', '-Infinity', 1e-300, -0.0, 1/3.0]::float8[])[1 + i % 6]"),
    ("real", "(ARRAY[0.1, 'NaN', 'Infinity', 3.4e38]::real[])[1 + i % 4]"),
    (
        "text",
        r"(ARRAY['', E'\\', E'\\N', E'\\.', E'a\tb', E'\n', E'\r\n', 'ä€😀', E'\x01', repeat('x', 3000), NULL, '\x41'])[1 + i % 12]",
    ),
    ("varchar(40)", "left(md5(i::text), i % 40)"),
    ("char(7)", "left('ab  c', i % 6)"),
    ("citext", "'Mixed' || i"),
    ("bytea", r"decode(md5(i::text), 'hex') || '\x00ff0a5c'::bytea"),
    ("boolean", "(ARRAY[true, false, NULL])[1 + i % 3]"),
    ("date", "(ARRAY['infinity', '-infinity', '0044-03-15 BC', '2026-02-28']::date[])[1 + i % 4]"),
    ("timestamptz", "to_timestamp(i * 1e6 + 0.123456)"),
    ("timestamp", "(ARRAY['infinity', '4713-01-01 BC', '2026-01-01 00:00:00.000001']::timestamp[])[1 + i % 3]"),
    ("time", "'23:59:59.999999'::time - i * interval '1 second'"),
    ("timetz", "'01:02:03.04+05:30'::timetz"),
    ("interval", "make_interval(months => -i, days => i, secs => i / 1000.0)"),
    ("uuid", "md5(i::text)::uuid"),
    ("json", r#"'{"b" :  1, "a": [ 1,2 ], "b": "\u00e4 \\ \" "}'::json"#),
    ("jsonb", "jsonb_build_object('n', i, 't', E'a\\tb\\\\', 'z', NULL)"),
    ("inet", "'10.0.0.0'::inet + i"),
    ("cidr", "'2001:db8::/32'::cidr"),
    ("macaddr", "'08:00:2b:01:02:03'::macaddr"),
    ("point", "point(i / 3.0, -i)"),
    ("polygon", "'((0,0),(1,1),(2,0))'::polygon"),
    ("int4range", "int4range(i, i + 5, '(]')"),
    ("tstzmultirange", "tstzmultirange(tstzrange(to_timestamp(i), NULL))"),
    ("bit(5)", "(i % 32)::bit(5)"),
    ("bit varying", "(i % 32)::bit(5)"),
    ("tsvector", "to_tsvector('simple', 'it''s row ' || i)"),
    ("money", "(i * 1.25)::numeric::money"),
    ("oid", "i::oid"),
    ("pg_lsn", "('0/' || to_hex(i))::pg_lsn"),
    ("\"char\"", "chr(1 + i % 127)::\"char\""),
    ("name", "('n' || i)::name"),
    ("xid8", "i::text::xid8"),
    ("hstore", r#"hstore(ARRAY['a "b', NULL, 'c\', i::text])"#),
    ("text[]", r#"ARRAY['', NULL, 'NULL', 'a,"b\', '{}', E'\t']"#),
    ("int[][]", "ARRAY[[i, NULL], [3, 4]]"),
    ("mood", "(ARRAY['glad', 'it''s, \"so\"'])[1 + i % 2]::mood"),
    ("mood[]", "ARRAY['glad']::mood[]"),
    ("positive", "i + 1"),
    ("pair", "ROW(i, E'a,\"b\\\\\\n')::pair"),
    ("pair[]", "ARRAY[ROW(i, NULL), NULL]::pair[]"),
    ("span", "span(i, i + 0.5)"),
];

const NAMES: &[&str] = &[
    "plain",
    "Mixed Case",
    "quo\"te",
    "it's",
    "per%cent/slash.dot",
    "ünïcödé €",
    "select",
    "back\\slash",
    "sixty_three_bytes_sixty_three_bytes_sixty_three_bytes_sixty_thr",
    "../up",
];

#[derive(Clone, Debug)]
struct Shape {
    columns: Vec<usize>,
    rows: u32,
    kind: u8,
    deleted: u32,
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let shape = (prop::collection::vec(0..TYPES.len(), 0..9), 0..1500_u32, 0..6_u8, 1..9_u32)
        .prop_map(|(columns, rows, kind, deleted)| Shape { columns, rows, kind, deleted });
    prop::collection::vec(shape, 1..8)
}

const TYPES_MADE: &str = r#"CREATE EXTENSION IF NOT EXISTS citext; CREATE EXTENSION IF NOT EXISTS hstore; CREATE SCHEMA "Schéma %";
DO $$ BEGIN CREATE TYPE mood AS ENUM ('glad', 'sad'); EXCEPTION WHEN duplicate_object THEN NULL; END $$;
ALTER TYPE mood ADD VALUE 'it''s, "so"'; CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (a int, "b B" text); CREATE TYPE span AS RANGE (subtype = float8);"#;

/// The statements that make a random table.
fn made(at: usize, shape: &Shape) -> String {
    let name =
        format!("\"Schéma %\".{}", ident(&format!("{}{at}", &NAMES[at % NAMES.len()][..NAMES[at % NAMES.len()].len().min(60)])));
    let column = |n: usize| ident(&format!("{} {n}", NAMES[n % 8]));
    let columns: Vec<String> = shape.columns.iter().enumerate().map(|(n, t)| format!("{} {}", column(n), TYPES[*t].0)).collect();
    let targets: Vec<String> = (0..columns.len()).map(column).collect();
    let values: Vec<String> = shape.columns.iter().map(|t| TYPES[*t].1.to_owned()).collect();
    let (rows, deleted) = (shape.rows, shape.deleted);
    let fill = |into: &str, first: &str, value: &str| {
        let targets: Vec<&str> =
            [first].into_iter().chain(targets.iter().map(String::as_str)).filter(|t| !t.is_empty()).collect();
        let values: Vec<&str> = [value].into_iter().chain(values.iter().map(String::as_str)).filter(|t| !t.is_empty()).collect();
        if targets.is_empty() {
            return format!("INSERT INTO {into} SELECT FROM generate_series(1, {rows}) i; ");
        }
        let (targets, values) = (targets.join(", "), values.join(", "));
        format!("INSERT INTO {into} ({targets}) OVERRIDING SYSTEM VALUE SELECT {values} FROM generate_series(1, {rows}) i; ")
    };
    let with = |first: &str| [first].into_iter().chain(columns.iter().map(String::as_str)).collect::<Vec<_>>().join(", ");
    match shape.kind {
        0 => format!("CREATE TABLE {name} ({}); {}", columns.join(", "), fill(&name, "", "")),
        1 => format!(
            "CREATE TABLE {name} ({}, twice int GENERATED ALWAYS AS (id * 2) STORED); {} DELETE FROM {name} WHERE id % {deleted} = 0; \
             CREATE INDEX ON {name} (twice); UPDATE {name} SET id = -id WHERE id % 7 = 1",
            with("id int PRIMARY KEY"),
            fill(&name, "id", "i")
        ),
        2 => format!(
            "CREATE TABLE {name} ({}); {} SELECT setval(pg_get_serial_sequence('{}', 'id'), 777)",
            with("id int GENERATED ALWAYS AS IDENTITY UNIQUE"),
            fill(&name, "id", "i"),
            name.replace('\'', "''")
        ),
        3 => {
            let (columns, rows) = (with("k int"), fill(&name, "k", "i % 3"));
            format!(
                "CREATE TABLE {name} ({columns}) PARTITION BY LIST (k); \
                 CREATE TABLE part_a_{at} PARTITION OF {name} FOR VALUES IN (0) PARTITION BY HASH (k); \
                 CREATE TABLE part_b_{at} PARTITION OF part_a_{at} FOR VALUES WITH (MODULUS 1, REMAINDER 0); \
                 CREATE TABLE part_c_{at} PARTITION OF {name} DEFAULT; CREATE INDEX ON {name} (k); {rows}"
            )
        }
        4 => format!(
            "CREATE TABLE {name} ({}); CREATE UNLOGGED TABLE child_{at} (more text) INHERITS ({name}); {} {} ALTER TABLE {name} DROP COLUMN gone",
            with("gone text DEFAULT 'x'"),
            fill(&name, "", ""),
            fill(&format!("child_{at}"), "more", "'m' || i")
        ),
        _ => format!("CREATE UNLOGGED TABLE {name} ({}); {}", columns.join(", "), fill(&name, "", "")),
    }
}

/// Backs up, proves, puts back, and gives what pg_dump says before and after.
async fn there_and_back(world: &World) -> (String, String) {
    let backup = world.ok("backup", 0).await.backup.unwrap();
    world.done(&world.task_with("prove", json!({"snapshot": backup.snapshot}))).await;
    let before = world.server.everything(&world.database).await;
    world.ok("fence", 1).await;
    world.done(&world.task_with("restore", json!({"epoch": 1, "snapshot": backup.snapshot}))).await;
    world.ok("release", 1).await;
    (before, world.server.everything(&world.database).await)
}

/// The first lines that differ. A constraint that PostgreSQL reads back in another spelling than it was given is left out.
#[track_caller]
fn assert_alike(before: &str, after: &str) {
    let lines = |text: &str| {
        text.lines().filter(|l| !l.contains("CONSTRAINT orders_status_check")).map(str::to_owned).collect::<Vec<_>>()
    };
    let (before, after) = (lines(before), lines(after));
    let differ = before.iter().zip(&after).find(|(a, b)| a != b);
    assert!(before == after, "{} and {} lines; the first that differ: {differ:?}", before.len(), after.len());
}

#[test]
fn random_databases_come_back_equal() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let config = ProptestConfig { cases, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner =
        TestRunner::new_with_rng(config, prop::test_runner::TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha));
    runner
        .run(&shapes(), |shapes| {
            runtime.block_on(async {
                let world = World::new("random").await;
                let app = world.as_app().await;
                app.batch_execute(TYPES_MADE).await.unwrap();
                for (at, shape) in shapes.iter().enumerate() {
                    let sql = made(at, shape);
                    app.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{error:?} in {sql}"));
                }
                let (before, after) = there_and_back(&world).await;
                assert_alike(&before, &after);
            });
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn every_type_wide_tables_and_large_values_come_back_equal() {
    let world = World::new("zoo").await;
    let app = world.as_app().await;
    app.batch_execute(TYPES_MADE).await.unwrap();
    let all = Shape { columns: (0..TYPES.len()).collect(), rows: 100, kind: 1, deleted: 9 };
    app.batch_execute(&made(0, &all)).await.unwrap();
    let wide: Vec<String> = (0..1600).map(|n| format!("c{n} \"char\"")).collect();
    app.batch_execute(&format!("CREATE TABLE wide ({}); INSERT INTO wide (c0, c1599) VALUES ('a', 'b')", wide.join(", ")))
        .await
        .unwrap();
    app.batch_execute(
        "CREATE TABLE none (); INSERT INTO none SELECT FROM generate_series(1, 3); \
         CREATE TABLE only_generated (a int GENERATED ALWAYS AS (1) STORED); INSERT INTO only_generated DEFAULT VALUES; \
         CREATE TABLE large (id int, t text); INSERT INTO large SELECT i, repeat(md5(i::text), 400000) FROM generate_series(1, 2) i; \
         SELECT lo_from_bytea(4711, convert_to(repeat('it''s; \n', 100000), 'UTF8')); COMMENT ON LARGE OBJECT 4711 IS 'a ''comment'''; \
         GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC; \
         CREATE MATERIALIZED VIEW first AS SELECT count(*) AS n FROM large; CREATE MATERIALIZED VIEW a_second AS SELECT n + 1 AS m FROM first; \
         CREATE MATERIALIZED VIEW empty_one AS SELECT 1 AS x WITH NO DATA; CREATE UNIQUE INDEX ON a_second (m); \
         CREATE TABLE refers (id int REFERENCES orders (id) DEFERRABLE INITIALLY DEFERRED); INSERT INTO refers VALUES (7); \
         CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''fired''; END'; \
         CREATE TRIGGER no BEFORE INSERT ON refers FOR EACH ROW EXECUTE FUNCTION no(); \
         CREATE SEQUENCE down INCREMENT -3 CACHE 5; SELECT nextval('down'); CREATE SEQUENCE round MINVALUE 1 MAXVALUE 2 CYCLE; \
         REVOKE INSERT ON refers FROM CURRENT_USER",
    )
    .await
    .unwrap();
    let (before, after) = there_and_back(&world).await;
    assert_alike(&before, &after);
    let large: i64 = world.as_app().await.query_one("SELECT sum(length(t)) FROM large", &[]).await.unwrap().get(0);
    assert_eq!(large, 2 * 32 * 400_000);
}

/// A hundred megabytes of bytea are two hundred as COPY writes them.
#[tokio::test]
async fn values_of_a_hundred_megabytes_come_and_go_in_a_job_that_may_hold_less() {
    let world = World::new("large values").await;
    let app = world.as_app().await;
    app.batch_execute(
        "CREATE TABLE large (id int, b bytea, t text); ALTER TABLE large ALTER b SET STORAGE EXTERNAL, ALTER t SET STORAGE EXTERNAL; \
         INSERT INTO large SELECT i, decode(repeat(md5(i::text), 937500), 'hex'), NULL FROM generate_series(1, 12) i; \
         INSERT INTO large VALUES (20, decode(repeat(md5('b'), 6250000), 'hex'), NULL); \
         INSERT INTO large VALUES (21, NULL, repeat(md5('t'), 3125000))",
    )
    .await
    .unwrap();
    let held_by_backup = world.held(&world.task("backup", 0));
    let stored = world.ok("backup", 0).await.backup.unwrap();
    let held_by_proof = world.held(&world.task_with("prove", json!({"snapshot": stored.snapshot})));
    assert!(held_by_backup <= 256 && held_by_proof <= 256, "{held_by_backup} and {held_by_proof} MiB");
}

/// One of which no byte but the last is there: the server gives zeros for the rest, and cannot give them at once.
#[tokio::test]
async fn large_objects_larger_than_a_server_can_hold_whole_are_summed_up_and_masked_data_does_without() {
    let world = World::new("large objects").await;
    let app = world.as_app().await;
    app.batch_execute("SELECT lo_from_bytea(9001, 'small'); SELECT lo_create(9002); SELECT lo_put(9002, 1100000000, 'end')")
        .await
        .unwrap();
    assert!(app.query("SELECT lo_get(9002)", &[]).await.is_err(), "it is too small for this");
    let access = Access::read(&world.paths.secrets, "store").unwrap();
    let session = Session::open(&access.admin, &world.database, Pace::Long, &Stop::never()).await.unwrap();
    let large = async |with| {
        let content = content::read(&session, Vec::new(), with).await.unwrap();
        content.objects.into_iter().find(|(name, _)| name.ends_with(" large objects"))
    };
    let before = large(true).await.unwrap();
    assert_eq!(before.0, "3 large objects");
    assert_eq!(large(false).await, None);
    app.batch_execute("SELECT lo_put(9002, 600000000, 'x')").await.unwrap();
    assert_ne!(large(true).await.unwrap().1, before.1, "a byte in the middle counts");
}

/// An extension may say that a sequence of its own is the user's.
#[tokio::test]
async fn sequences_that_an_extension_calls_the_user_s_come_back() {
    let world = World::new("configured").await;
    let boss = world.server.boss(&world.database).await;
    if boss.query_one("SELECT current_setting('server_version_num')::int", &[]).await.unwrap().get::<_, i32>(0) < 180_000 {
        // Before, only an administrator of the machine could put an extension there.
        return;
    }
    let place = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let directory = place.path().join("extension");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("tickets.control"), "default_version = '1'\nsuperuser = false\n").unwrap();
    fs::write(
        directory.join("tickets--1.sql"),
        "CREATE SEQUENCE ticket; CREATE SEQUENCE own; SELECT pg_extension_config_dump('ticket', '');",
    )
    .unwrap();
    for role in [&world.app, &world.admin] {
        let role = ident(role);
        let sql = format!("ALTER ROLE {role} SET extension_control_path = '$system:{}'", place.path().display());
        boss.batch_execute(&sql).await.unwrap();
    }
    let app = world.as_app().await;
    app.batch_execute("CREATE EXTENSION tickets; SELECT setval('ticket', 4711); SELECT nextval('own')").await.unwrap();
    let stored = world.ok("backup", 0).await.backup.unwrap();
    world.done(&world.task_with("prove", json!({"snapshot": stored.snapshot}))).await;
    app.batch_execute("SELECT setval('ticket', 1)").await.unwrap();
    // A superuser's session is waited for.
    drop(boss);
    world.ok("fence", 1).await;
    world.done(&world.task_with("restore", json!({"epoch": 1, "snapshot": stored.snapshot}))).await;
    world.ok("release", 1).await;
    let app = world.as_app().await;
    let at = async |sql: &str| app.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!((at("SELECT nextval('ticket')").await, at("SELECT nextval('own')").await), (4712, 1));
}

/// In a process of its own for each, with a server of its own. A server that is not here is not asked for: hack/test.sh installs
/// them, and says what it could not.
#[test]
fn databases_of_other_versions_of_postgresql_come_back_equal() {
    for bin in postgres::others() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "random_databases_come_back_equal", "every_type_wide_tables_and_large_values_come_back_equal"])
            .env("LOCKKEEPER_PG_BIN", &bin)
            .env("PROPTEST_CASES", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let bin = bin.display();
        assert!(output.status.success() && said.contains("2 passed"), "{bin}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn no_byte_is_lost_in_any_encoding() {
    let world = World::new("encoded").await;
    let boss = world.server.boss("postgres").await;
    // 0x81 has no place in WIN1252's table, 0xff none in UTF-8: what a server stores comes back all the same.
    for (encoding, bytes) in [
        ("SQL_ASCII", r"E'a\xff\xfe\x81'"),
        ("LATIN1", r"E'caf\xe9 \x81'"),
        ("WIN1252", r"E'\x80 \x81'"),
        ("KOI8R", r"E'\xc1\xc2'"),
        ("EUC_JP", r"E'\xa4\xa2\x5c'"),
    ] {
        let database = format!("enc {encoding} {}", world.database);
        boss.batch_execute(&format!(
            "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'",
            ident(&database),
            ident(&world.app)
        ))
        .await
        .unwrap();
        for which in ["connection", "admin"] {
            world.secret("odd", which, if which == "admin" { &world.admin } else { &world.app }, &database);
        }
        let app = world.server.connect(&world.app, &database).await.unwrap();
        app.batch_execute(&format!(
            "SET client_encoding = 'SQL_ASCII'; CREATE TABLE t (v text, n int); INSERT INTO t VALUES ({bytes}, 1)"
        ))
        .await
        .unwrap();
        let stored = "SELECT encode(convert_to(v, getdatabaseencoding()), 'hex') FROM t";
        let sent: String = app.query_one(stored, &[]).await.unwrap().get(0);
        let task = |verb: &str, more: Value| {
            let mut task = json!({"data": [{"name": "odd"}], "run": format!("run of {encoding}")});
            task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            world.task_with(verb, task)
        };
        let snapshot = world.done(&task("backup", json!({}))).await.backup.unwrap().snapshot;
        world.done(&task("prove", json!({"snapshot": snapshot}))).await;
        app.batch_execute("DELETE FROM t").await.unwrap();
        drop(app);
        world.done(&task("fence", json!({"epoch": 1}))).await;
        world.done(&task("restore", json!({"epoch": 1, "snapshot": snapshot}))).await;
        world.done(&task("release", json!({"epoch": 1}))).await;
        let app = world.server.connect(&world.app, &database).await.unwrap();
        let back: String =
            app.query_one("SELECT encode(convert_to(v, getdatabaseencoding()), 'hex') FROM t", &[]).await.unwrap().get(0);
        assert_eq!(back, sent, "{encoding}");
        world.done(&task("forget", json!({}))).await;
    }
}

/// About 40 MB of rows.
async fn filled(name: &str) -> World {
    let world = World::new(name).await;
    let sql = "CREATE TABLE bulk AS SELECT i AS id, md5(i::text) || md5((i * 3)::text) AS a, now() AS at, i % 100 AS n FROM generate_series(1, 300000) i; \
               ALTER TABLE bulk ADD PRIMARY KEY (id)";
    world.as_app().await.batch_execute(sql).await.unwrap();
    world
}

#[tokio::test]
async fn a_large_table_is_read_in_parts_and_no_row_between_two_of_them_is_lost() {
    let world = filled("parts").await;
    let with = world.done(&world.task_with("backup", json!({"run": "with"}))).await.backup.unwrap();
    world.as_app().await.batch_execute("DROP TABLE bulk").await.unwrap();
    let without = world.done(&world.task_with("backup", json!({"run": "without"}))).await.backup.unwrap();
    assert_eq!(with.rows - without.rows, 300_000);
}

#[tokio::test]
async fn a_second_backup_of_an_unchanged_database_stores_almost_nothing() {
    let world = filled("again").await;
    let first = world.done(&world.task_with("backup", json!({"run": "first"}))).await.backup.unwrap();
    let second = world.done(&world.task_with("backup", json!({"run": "second"}))).await.backup.unwrap();
    assert!(second.stored_bytes * 100 < first.stored_bytes, "{} of {}", second.stored_bytes, first.stored_bytes);
    assert_ne!(first.snapshot, second.snapshot);
    // A few changed rows cost what is near them.
    world
        .as_app()
        .await
        .batch_execute("DELETE FROM bulk WHERE id BETWEEN 1000 AND 1010; INSERT INTO bulk VALUES (-1, 'x', now(), 1)")
        .await
        .unwrap();
    let third = world.done(&world.task_with("backup", json!({"run": "third"}))).await.backup.unwrap();
    assert!(third.stored_bytes * 2 < first.stored_bytes, "{} of {}", third.stored_bytes, first.stored_bytes);
}

#[tokio::test]
async fn a_snapshot_is_put_back_by_hand_with_psql_alone() {
    let world = World::new("by hand").await;
    world
        .as_app()
        .await
        .batch_execute("CREATE TABLE \"o'dd %\" (a text); INSERT INTO \"o'dd %\" SELECT E'\\t\\\\' || repeat('x', i) FROM unnest(ARRAY[0, 9000000, 1]) i")
        .await
        .unwrap();
    let snapshot = world.ok("backup", 0).await.backup.unwrap().snapshot;
    let out = world.directory.path().join("out");
    // With restic where it is installed: it must read what is written here.
    let restic = Command::new("restic")
        .args(["restore", &snapshot, "--no-cache", "--no-lock", "--target"])
        .arg(&out)
        .arg("--repo")
        .arg(&world.paths.repository)
        .arg("--password-file")
        .arg(world.paths.repository_password.join("password"))
        .args(["--verify"])
        .env("HOME", world.directory.path())
        .output();
    match restic {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => Repository::open(&world.paths.repository, &world.paths.repository_password, &world.environment)
            .unwrap()
            .restore(&snapshot, &out)
            .unwrap(),
    }
    let before = world.server.everything(&world.database).await;
    let boss = world.server.boss("postgres").await;
    let copy = format!("copy of {}", world.database);
    boss.batch_execute(&format!("CREATE DATABASE {} OWNER {} TEMPLATE template0", ident(&copy), ident(&world.app)))
        .await
        .unwrap();
    let large = files_below(&out.join("store/large-objects"));
    let large: Vec<String> =
        large.iter().map(|p| format!("large-objects/{}", p.file_name().unwrap().to_str().unwrap())).collect();
    assert_eq!(large.len(), 2);
    for file in ["pre-data.sql", "load.sql"].into_iter().chain(large.iter().map(String::as_str)).chain(["post-data.sql"]) {
        world.server.psql(&copy, &out.join("store"), file);
    }
    let rows = |text: &str| {
        text.lines()
            .filter(|l| l.starts_with("INSERT") || l.contains("setval") || l.contains("lowrite"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(rows(&world.server.everything(&copy).await), rows(&before));
}

/// Breaks a file of the repository, lets `check` look, and mends it.
async fn broken(file: &Path, breaks: impl Fn(&mut Vec<u8>), check: impl AsyncFnOnce()) {
    let good = fs::read(file).unwrap();
    let write = |bytes: &[u8]| {
        fs::remove_file(file).unwrap();
        fs::write(file, bytes).unwrap();
    };
    let mut bad = good.clone();
    breaks(&mut bad);
    write(&bad);
    check().await;
    write(&good);
}

#[tokio::test]
async fn one_flipped_bit_or_a_truncated_file_of_any_kind_is_found_and_nothing_is_put_back() {
    let world = World::new("bits").await;
    let snapshot = world.ok("backup", 0).await.backup.unwrap().snapshot;
    let before = world.server.everything(&world.database).await;
    let prove = world.task_with("prove", json!({"snapshot": snapshot}));
    let mut seen = 0;
    for kind in ["config", "keys", "index", "snapshots", "data"] {
        for file in files_below(&world.paths.repository.join(kind)) {
            seen += 1;
            let flip = |bytes: &mut Vec<u8>| {
                let at = bytes.len() / 2;
                bytes[at] ^= 4;
            };
            let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
            let found = async || {
                let (code, outcome) = world.perform(&prove).await;
                assert_ne!(code, exit::DONE, "{kind}: {outcome:?}");
                let error = outcome.error.unwrap();
                assert!(error.reason.starts_with("Repository") || error.reason.starts_with("Snapshot"), "{kind}: {error:?}");
                assert!(!error.message.contains("Customer"), "{error:?}");
            };
            broken(&file, flip, &found).await;
            broken(&file, cut, &found).await;
        }
    }
    assert!(seen >= 5, "{seen}");
    world.done(&prove).await;
    assert_eq!(world.databases().await, std::slice::from_ref(&world.database));
    assert_eq!(world.server.everything(&world.database).await, before);
}

/// The agent as a process of its own.
fn agent(world: &World, task: &Task) -> Command {
    let mut command = world.agent_with(task);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[tokio::test]
async fn a_killed_agent_leaves_no_backup_that_counts_and_a_second_attempt_ends_the_same() {
    let world = filled("killed").await;
    let repository = || Repository::open(&world.paths.repository, &world.paths.repository_password, &world.environment).unwrap();
    let backup = world.task("backup", 0);
    let mut killed = 0;
    for round in 1..7_u64 {
        let mut child = agent(&world, &backup).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(round * round * 90)).await;
        let done = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        if done {
            break;
        }
        killed += 1;
        assert!(repository().known().unwrap().len() <= 1);
    }
    assert!(killed > 0);
    let stored = world.done(&backup).await.backup.unwrap();
    assert_eq!(repository().known().unwrap().len(), 1);
    let prove = world.task_with("prove", json!({"snapshot": stored.snapshot}));
    for round in 1..4_u64 {
        let mut child = agent(&world, &prove).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(round * 400)).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let notes = world.done(&prove).await.notes.join("\n");
    assert!(notes.contains("302"), "{notes}");
    let boss = world.server.boss("postgres").await;
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lockkeeper' AND datname LIKE 'killed%'";
    wait_until(async || boss.query_one(left, &[]).await.unwrap().get::<_, i64>(0) == 0).await;
    assert_eq!(world.databases().await, std::slice::from_ref(&world.database));
}

#[tokio::test]
async fn tables_that_come_go_and_change_meanwhile_do_not_break_a_backup() {
    let world = filled("moving").await;
    let (app, going) = (world.as_app().await, Arc::new(AtomicBool::new(true)));
    let on = going.clone();
    let changes = tokio::spawn(async move {
        let mut n = 0;
        while on.load(Ordering::SeqCst) {
            n += 1;
            let sql = format!(
                "SET lock_timeout = '300ms'; CREATE TABLE moving_{n} (a int); INSERT INTO moving_{n} VALUES (1); DROP TABLE IF EXISTS moving_{}; \
                 ALTER TABLE orders ADD COLUMN c{n} int DEFAULT {n}",
                n - 3
            );
            let _ = app.batch_execute(&sql).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        n
    });
    for run in ["m1", "m2", "m3"] {
        let (mut code, mut outcome) = world.perform(&world.task_with("backup", json!({"run": run}))).await;
        for _ in 0..5 {
            if code == exit::DONE {
                break;
            }
            // It may have waited in vain for a lock; never is it a reason to give up.
            assert_eq!(code, exit::RETRYABLE, "{outcome:?}");
            (code, outcome) = world.perform(&world.task_with("backup", json!({"run": run}))).await;
        }
        assert_eq!(code, exit::DONE, "{outcome:?}");
        let snapshot = outcome.backup.unwrap().snapshot;
        world.done(&world.task_with("prove", json!({"snapshot": snapshot}))).await;
    }
    going.store(false, Ordering::SeqCst);
    assert!(changes.await.unwrap() > 3);
}

/// Rows that take their time.
struct Slow;

impl Transforms for Slow {
    fn of(&self, _: &Table) -> Result<Leaving, TransformError> {
        Ok(Leaving::Rows { condition: Some("pg_sleep(0.05) IS NOT NULL".into()), change: None })
    }
}

#[tokio::test]
async fn connections_that_are_cut_while_rows_are_read_end_the_attempt_and_nothing_of_it_counts() {
    let world = World::new("cut").await;
    let access = Access::read(&world.paths.secrets, "store").unwrap();
    let stop = Stop::never();
    let repository = Repository::open(&world.paths.repository, &world.paths.repository_password, &world.environment).unwrap();
    let view = View::open(&access.admin, &world.database, &stop).await.unwrap();
    let tools = Tools::find(view.major).await.unwrap();
    let place = (&access.admin, world.database.as_str(), Some(view.snapshot.as_str()));
    fs::create_dir_all(&world.paths.scratch).unwrap();
    let archive = world.paths.scratch.join("store.dump");
    let defined = copy::define(&tools, place, Definitions::Bare, archive, &stop).await.unwrap();
    let writer = repository.writer("cut", "shop/production", None);
    let boss = world.server.boss("postgres").await;
    let cut = async {
        let reading = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1 AND query LIKE 'COPY (%' AND state = 'active'";
        wait_until(async || boss.query_one(reading, &[&world.database]).await.unwrap().get::<_, i64>(0) > 0).await;
    };
    let export = Export {
        tools: &tools,
        prefix: "store",
        transforms: Some(Arc::new(Slow)),
        defined,
        stop: &stop,
        report: Arc::new(|_| {}),
    };
    let (exported, ()) = tokio::join!(copy::export(&view, &writer, export, |_| Ok(b"{}".to_vec())), cut);
    let error = exported.unwrap_err();
    assert!(matches!(&error, CopyError::Postgres(error) if !error.is_permanent()), "{error:?}");
    assert!(!error.to_string().contains("Customer"), "{error}");
    assert_eq!(writer.end(false).await.unwrap(), None);
    assert_eq!(repository.known().unwrap(), []);
}
