//! What a schema may have that masks run into: each is masked right, or refused before anything leaves. Rows go out by COPY,
//! masked, and into a second database with the same definitions.

use lockkeeper::data::{postgres::quote::ident, postgres::transform::Transforms};
use tokio_postgres::Client;

use super::{catalog, compiled, moved, postgres::World};

/// What is to be seen.
enum Then {
    /// A problem with these words.
    Refused(&'static str),
    /// No problem. Rows are loaded before such a thing is there.
    Taken,
    /// The rows load, and this statement, on them, is true.
    Loads(&'static str),
}
use Then::{Loads, Refused, Taken};

/// Name, definitions and rows, policy of its tables, what is to be seen.
type Trap = (&'static str, &'static str, &'static str, &'static str, Then);

const TRAPS: &[Trap] = &[
    (
        "a_name_of_a_member_may_be_an_address",
        "CREATE TABLE t (id int PRIMARY KEY, data jsonb)",
        r#"INSERT INTO t VALUES (1, '{"prefs": {"canary@shop.cat": {"theme": "dark"}, "ES9121000418450200051332": {"theme": "x"}, "plain": {"theme": "light"}}}')"#,
        r#"{table: t, columns: {id: {keep: {}}, data: {json: {paths: {"$.prefs.*.theme": {keep: {}}}}}}}"#,
        Loads(r#"SELECT data = '{"prefs": {"plain": {"theme": "light"}}}' FROM t"#),
    ),
    (
        "arrays_and_json_in_json_and_in_text",
        "CREATE TABLE t (id int PRIMARY KEY, data jsonb, note text, tags text[])",
        r#"INSERT INTO t VALUES (1, '{"list": [{"mail": "canary@shop.cat", "n": 1}, "canary", [{"mail": "canary"}]], "raw": "{\"mail\": \"canary@shop.cat\"}"}', '{"mail": "canary@shop.cat", "n": 2}', '{canary}'), (2, NULL, 'canary, no JSON', NULL)"#,
        r#"{table: t, columns: {id: {keep: {}}, tags: {redact: {}}, data: {json: {paths: {"$.list[*].mail": {fake: {kind: email}}, "$.list[*].n": {keep: {}}, "$.raw": {redact: {}}}}}, note: {json: {paths: {"$.n": {keep: {}}}}}}}"#,
        Loads(
            r#"SELECT bool_and(CASE id WHEN 1 THEN data #>> '{list,0,mail}' LIKE '%@example.%' AND note = '{"n":2}' AND tags = '{}' ELSE note = 'null' END) FROM t"#,
        ),
    ),
    (
        "a_search_vector_is_a_copy",
        "CREATE TABLE t (id int PRIMARY KEY, body text, words tsvector)",
        "INSERT INTO t VALUES (1, 'canary', to_tsvector('canary'))",
        "{table: t, columns: {id: {keep: {}}, body: {redact: {}}, words: {keep: {}}}}",
        Refused("column words: keep: it looks like a copy of other columns' words"),
    ),
    (
        "types_of_many_kinds_are_redacted",
        "CREATE TYPE pair AS (a text, b int); CREATE DOMAIN label AS citext; CREATE DOMAIN deeper AS label; \
         CREATE TABLE t (id int PRIMARY KEY, words tsvector, h hstore, x xml, r tstzrange, m macaddr, p pair, d deeper, b bytea, a deeper[], \
           i inet, c cidr, bits bit(3), shape box, mood tsquery)",
        "INSERT INTO t VALUES (1, to_tsvector('canary'), 'who=>canary', '<a>canary</a>', '[2020-01-01,2021-01-01)', '08:00:2b:01:02:03', \
           ROW('canary', 1), 'canary', 'canary', '{canary}', '10.20.30.40', '10.20.30.0/24', '101', '((1,2),(3,4))', 'canary')",
        r#"{table: t, columns: {id: {keep: {}}, words: {redact: {}}, h: {redact: {}}, x: {redact: {}}, r: {redact: {}}, m: {redact: {}}, p: {"null": {}}, d: {fake: {kind: username}},
            b: {hash: {}}, a: {redact: {}}, i: {fake: {kind: ip}}, c: {fake: {kind: ip}}, bits: {"null": {}}, shape: {"null": {}}, mood: {redact: {}}}}"#,
        Loads("SELECT p IS NULL AND a = '{}' AND isempty(r) AND h = '' AND length(b) = 32 AND masklen(c) = 32 FROM t"),
    ),
    (
        "a_unique_column_that_is_computed_from_a_masked_one",
        "CREATE TABLE t (id int PRIMARY KEY, name text, key text GENERATED ALWAYS AS (lower(name)) STORED UNIQUE)",
        "INSERT INTO t SELECT n, 'canary' || n FROM generate_series(1, 300) n",
        "{table: t, columns: {id: {keep: {}}, name: {fake: {kind: fullName}}}}",
        Refused("column name: the column is unique"),
    ),
    (
        "a_unique_column_that_is_computed_and_a_mask_that_suits",
        "CREATE TABLE t (id int PRIMARY KEY, name text, key text GENERATED ALWAYS AS (lower(name)) STORED UNIQUE)",
        "INSERT INTO t SELECT n, 'canary' || n FROM generate_series(1, 300) n",
        "{table: t, columns: {id: {keep: {}}, name: {fake: {kind: username}}}}",
        Loads("SELECT count(DISTINCT key) = 300 FROM t"),
    ),
    (
        "a_check_of_a_computed_column",
        "CREATE TABLE t (id int PRIMARY KEY, name text, size int GENERATED ALWAYS AS (length(name)) STORED CHECK (size < 8))",
        "INSERT INTO t VALUES (1, 'canary')",
        "{table: t, columns: {id: {keep: {}}, name: {fake: {kind: fullName}}}}",
        Refused("may not take what this mask gives"),
    ),
    (
        "a_computed_column_that_reads_a_number",
        "CREATE TABLE t (id int PRIMARY KEY, data jsonb, age int GENERATED ALWAYS AS ((data ->> 'age')::int) STORED)",
        r#"INSERT INTO t VALUES (1, '{"age": "42", "who": "canary"}')"#,
        r#"{table: t, columns: {id: {keep: {}}, data: {json: {paths: {"$.age": {redact: {}}}}}}}"#,
        Refused("column data: the computed column age reads a type from its text"),
    ),
    (
        "a_computed_column_that_reads_a_path_that_stays",
        "CREATE TABLE t (id int PRIMARY KEY, data jsonb, age int GENERATED ALWAYS AS ((data ->> 'age')::int) STORED)",
        r#"INSERT INTO t VALUES (1, '{"age": "42", "who": "canary"}')"#,
        r#"{table: t, columns: {id: {keep: {}}, data: {json: {paths: {"$.age": {keep: {}}}}}}}"#,
        Loads("SELECT age = 42 FROM t"),
    ),
    (
        "an_index_that_reads_a_number",
        "CREATE TABLE t (id int PRIMARY KEY, code text); CREATE INDEX ON t (((code)::int)) WHERE id > '5'::int",
        "INSERT INTO t VALUES (7, '42')",
        "{table: t, columns: {id: {keep: {}}, code: {hash: {}}}}",
        Refused("column code: index t_code_idx reads a type from its text"),
    ),
    (
        "an_index_that_reads_what_stays",
        "CREATE TABLE t (id int PRIMARY KEY, code text, mail text); CREATE INDEX ON t (((code)::int), lower(mail)) WHERE mail <> ''::text",
        "INSERT INTO t VALUES (7, '42', 'canary@shop.cat')",
        "{table: t, columns: {id: {keep: {}}, code: {keep: {}}, mail: {fake: {kind: email}}}}",
        Loads("SELECT mail LIKE '%@example.%' FROM t"),
    ),
    (
        "a_key_of_partitions",
        "CREATE TABLE t (id int, at date, who text) PARTITION BY RANGE (at); CREATE TABLE p PARTITION OF t FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')",
        "INSERT INTO t VALUES (1, '2024-01-15', 'canary')",
        "{table: t, columns: {id: {keep: {}}, at: {shift: {subject: id}}, who: {redact: {}}}}",
        Refused("table fence.t, column at: rows go into partitions by it (PARTITION BY RANGE (at))"),
    ),
    (
        "a_key_of_partitions_by_an_expression_and_a_partition_that_is_named",
        "CREATE TABLE t (who text, at date) PARTITION BY LIST (lower(who)); CREATE TABLE p PARTITION OF t FOR VALUES IN ('canary')",
        "INSERT INTO t VALUES ('canary', '2024-01-15')",
        r#"{table: t, columns: {who: {keep: {reason: "no"}}, at: {keep: {}}}}, {table: p, columns: {who: {hash: {}}, at: {keep: {}}}}"#,
        Refused("table fence.p, column who: rows go into partitions by it (PARTITION BY LIST (lower(who)))"),
    ),
    (
        "what_excludes_and_what_would_be_the_same",
        "CREATE TABLE t (id int PRIMARY KEY, room text, during tstzrange, EXCLUDE USING gist (room WITH =, during WITH &&))",
        "INSERT INTO t SELECT n, 'canary' || n, '[2020-01-01,2021-01-01)' FROM generate_series(1, 20) n",
        "{table: t, columns: {id: {keep: {}}, room: {redact: {}}, during: {keep: {}}}}",
        Refused("column room: constraint t_room_during_excl"),
    ),
    (
        "what_excludes_and_stays_apart",
        "CREATE TABLE t (id int PRIMARY KEY, room text, during tstzrange, EXCLUDE USING gist (room WITH =, during WITH &&)); \
         CREATE TABLE u (id int PRIMARY KEY, room text, during tstzrange, EXCLUDE USING gist (room WITH =, during WITH &&))",
        "INSERT INTO t SELECT n, 'canary' || n, '[2020-01-01,2021-01-01)' FROM generate_series(1, 20) n; INSERT INTO u SELECT * FROM t",
        "{table: t, columns: {id: {keep: {}}, room: {redact: {}}, during: {redact: {}}}}, {table: u, columns: {id: {keep: {}}, room: {hash: {}}, during: {keep: {}}}}",
        Loads("SELECT count(*) = 20 FROM t"),
    ),
    (
        "rows_that_refer_to_rows_that_stay_behind",
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY, t int REFERENCES t)",
        "INSERT INTO t VALUES (1), (2); INSERT INTO u VALUES (1, 1), (2, 2)",
        r#"{table: t, rows: {where: "id > 1"}, columns: {id: {keep: {}}}}, {table: u, columns: {id: {keep: {}}, t: {keep: {}}}}"#,
        Refused(r#"add rows: {where: "("t") IN (SELECT "id" FROM "fence"."t" WHERE …)"} with that condition"#),
    ),
    (
        "rows_that_refer_to_rows_that_leave",
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY, t int REFERENCES t)",
        "INSERT INTO t VALUES (1), (2); INSERT INTO u VALUES (1, 1), (2, 2)",
        r#"{table: t, rows: {where: "id > 1"}, columns: {id: {keep: {}}}}, {table: u, rows: {where: "t IN (SELECT id FROM fence.t WHERE id > 1)"}, columns: {id: {keep: {}}, t: {keep: {}}}}"#,
        Loads("SELECT count(*) = 1 FROM u"),
    ),
    (
        "a_key_of_two_columns_and_one_masked",
        "CREATE TABLE t (org int, mail text, PRIMARY KEY (org, mail)); \
         CREATE TABLE u (id int PRIMARY KEY, org int, mail text, FOREIGN KEY (org, mail) REFERENCES t ON UPDATE CASCADE)",
        "INSERT INTO t VALUES (1, 'canary@shop.cat'); INSERT INTO u VALUES (1, 1, 'canary@shop.cat')",
        "{table: t, columns: {org: {keep: {}}, mail: {fake: {kind: email, domain: m}}}}, {table: u, columns: {id: {keep: {}}, org: {keep: {}}, mail: {fake: {kind: email, domain: m}}}}",
        Loads("SELECT count(*) = 1 FROM t JOIN u USING (org, mail)"),
    ),
    (
        "a_key_that_is_null_as_a_whole",
        "CREATE TABLE t (org int, mail text, PRIMARY KEY (org, mail)); \
         CREATE TABLE u (id int PRIMARY KEY, org int, mail text, FOREIGN KEY (org, mail) REFERENCES t MATCH FULL)",
        "INSERT INTO t VALUES (1, 'canary@shop.cat'); INSERT INTO u VALUES (1, 1, 'canary@shop.cat')",
        r#"{table: t, columns: {org: {keep: {}}, mail: {fake: {kind: email}}}}, {table: u, columns: {id: {keep: {}}, org: {keep: {}}, mail: {"null": {}}}}"#,
        Refused("all columns are NULL or none is (MATCH FULL)"),
    ),
    (
        "a_domain_that_takes_no_null",
        "CREATE DOMAIN must AS text NOT NULL; CREATE DOMAIN deeper AS must; CREATE TABLE t (id int PRIMARY KEY, who deeper)",
        "INSERT INTO t VALUES (1, 'canary')",
        r#"{table: t, columns: {id: {keep: {}}, who: {"null": {}}}}"#,
        Refused("the column takes no NULL; use redact"),
    ),
    (
        "a_check_of_a_domain_on_a_domain",
        "CREATE DOMAIN short AS text CHECK (length(VALUE) < 9); CREATE DOMAIN deeper AS short; CREATE TABLE t (id int PRIMARY KEY, who deeper)",
        "INSERT INTO t VALUES (1, 'canary')",
        "{table: t, columns: {id: {keep: {}}, who: {fake: {kind: fullName}}}}",
        Refused("constraint short_check"),
    ),
    (
        "addresses_that_are_unique_without_regard_to_case",
        "CREATE TABLE t (id int PRIMARY KEY, mail text CHECK (mail ~* '^[a-z0-9._%+-]+@[a-z0-9.-]+[.][a-z]{2,}$')); CREATE UNIQUE INDEX ON t (lower(mail)) WHERE id > 2",
        "INSERT INTO t SELECT n, 'Canary' || n || '@Shop.cat' FROM generate_series(1, 300) n",
        "{table: t, columns: {id: {keep: {}}, mail: {fake: {kind: email}}}}",
        Loads("SELECT count(DISTINCT lower(mail)) = 300 FROM t"),
    ),
    (
        "a_telephone_number_of_a_pattern",
        r"CREATE TABLE t (id int PRIMARY KEY, phone text CHECK (phone ~ '^\+?[0-9]{6,15}$'), plate text CHECK (plate ~ '^[0-9]{4}[A-Z]{3}$' AND length(plate) = 7))",
        "INSERT INTO t VALUES (1, '+34600111222', '1234CAN')",
        "{table: t, columns: {id: {keep: {}}, phone: {fake: {kind: shape}}, plate: {fake: {kind: shape}}}}",
        Loads("SELECT phone <> '+34600111222' AND plate <> '1234CAN' FROM t"),
    ),
    (
        "a_pattern_that_a_shape_need_not_fit",
        r"CREATE TABLE t (id int PRIMARY KEY, phone text CHECK (phone ~ '^\+34[0-9]{9}$'))",
        "INSERT INTO t VALUES (1, '+34600111222')",
        "{table: t, columns: {id: {keep: {}}, phone: {fake: {kind: shape}}}}",
        Refused("constraint t_phone_check"),
    ),
    (
        "a_constraint_that_is_not_held",
        "CREATE TABLE t (id int PRIMARY KEY, who text); ALTER TABLE t ADD CONSTRAINT late CHECK (who = 'canary') NOT VALID",
        "INSERT INTO t VALUES (1, 'canary')",
        "{table: t, columns: {id: {keep: {}}, who: {redact: {}}}}",
        Taken,
    ),
    (
        "copies_of_parts_in_json",
        "CREATE TABLE t (id int PRIMARY KEY, cached varchar(20), one text, digest text, parts jsonb, raw text)",
        r#"INSERT INTO t VALUES (1, 'Canary Canary', 'Canary', 'x', '{"scheme": "given_family", "given": "Canary", "family": "Canary", "deep": {"n": 7}}', '{"mail": "canary@shop.cat"}'),
           (2, 'Canary', NULL, NULL, '{"family": "Canary"}', 'canary'), (3, 'Canary', 'Canary', 'Canary', NULL, NULL)"#,
        r#"{table: t, columns: {id: {keep: {}}, cached: {template: {text: "{parts$.given} {parts$.family}"}}, one: {derive: {copyOf: "parts$.given"}},
            digest: {derive: {sha256Of: "raw$.mail"}}, raw: {json: {paths: {"$.mail": {fake: {kind: email}}}}},
            parts: {json: {paths: {"$.given": {fake: {kind: firstName}}, "$.family": {fake: {kind: lastName}}, "$.deep.n": {keep: {}}}}}}}"#,
        Loads(
            "SELECT bool_and(CASE id WHEN 1 THEN cached = left(parts ->> 'given' || ' ' || (parts ->> 'family'), 20) AND one = parts ->> 'given' \
             AND digest = encode(sha256(convert_to(raw::jsonb ->> 'mail', 'UTF8')), 'hex') WHEN 2 THEN cached = parts ->> 'family' ELSE cached = '' END) FROM t",
        ),
    ),
    (
        "a_copy_of_a_path_of_what_is_not_json",
        "CREATE TABLE t (id int PRIMARY KEY, who int, one text)",
        "INSERT INTO t VALUES (1, 1, 'canary')",
        r#"{table: t, columns: {id: {keep: {}}, who: {keep: {}}, one: {derive: {copyOf: "who$.name"}}}}"#,
        Refused("column who is no JSON, so there is no path into it"),
    ),
];

/// What goes wrong, in words.
async fn tried(world: &World, (from, to): (&Client, &Client), trap: &Trap) -> Result<(), String> {
    let (_, definitions, rows, policy, then) = trap;
    for client in [from, to] {
        client
            .batch_execute("DROP SCHEMA IF EXISTS fence CASCADE; CREATE SCHEMA fence; SET search_path = fence, public")
            .await
            .unwrap();
        client.batch_execute(definitions).await.map_err(|e| format!("{e:?}"))?;
    }
    from.batch_execute(rows).await.map_err(|e| format!("{e:?}"))?;
    let tables = catalog(world).await;
    let yaml = format!("name: store\ntables: [{}]", policy.replace("{table: ", "{table: fence."));
    match (compiled(&yaml, &tables), then) {
        (Err(problems), Refused(words)) => {
            let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return if said.iter().any(|s| s.contains(words)) { Ok(()) } else { Err(said.join("\n")) };
        }
        (Ok(_), Taken) => return Ok(()),
        (Ok(masking), then) => {
            let mut leaves = tables.iter().filter(|t| t.kind.has_rows()).collect::<Vec<_>>();
            leaves.sort_by_key(|t| !t.foreign_keys.is_empty());
            let mut result = Ok(());
            for table in leaves {
                result = result.and(moved(table, masking.of(table).unwrap(), from, to).await);
            }
            match (result, then) {
                (Err(why), Refused(_)) => return Err(format!("not refused, and {why}")),
                (result, _) => result?,
            }
        }
        (Err(problems), _) => return Err(format!("{problems:#?}")),
    }
    match then {
        Refused(_) | Taken => Err("not refused".into()),
        Loads(sql) => {
            let row = to.query_one(*sql, &[]).await.map_err(|e| format!("{e:?}"))?;
            if row.get::<_, Option<bool>>(0) == Some(true) { Ok(()) } else { Err(format!("{sql}: not so")) }
        }
    }
}

#[tokio::test]
async fn what_a_schema_may_have_is_masked_right_or_refused_beforehand() {
    let world = World::new("traps").await;
    let lower = format!("{}_lower", world.database);
    let boss = world.server.boss("postgres").await;
    boss.batch_execute(&format!("CREATE DATABASE {} OWNER {}", ident(&lower), ident(&world.app))).await.unwrap();
    let (from, to) = (world.as_app().await, world.server.connect(&world.app, &lower).await.unwrap());
    from.batch_execute("DROP SCHEMA public CASCADE; DROP SCHEMA \"Odd \"\"one\" CASCADE; CREATE SCHEMA public").await.unwrap();
    for name in [&world.database, &lower] {
        let boss = world.server.boss(name).await;
        let extensions = "CREATE EXTENSION citext SCHEMA public; CREATE EXTENSION hstore SCHEMA public; CREATE EXTENSION btree_gist SCHEMA public";
        boss.batch_execute(extensions).await.unwrap();
    }
    for client in [&from, &to] {
        client.batch_execute("SET datestyle = 'ISO'; SET timezone = 'UTC'").await.unwrap();
    }
    let mut wrong = Vec::new();
    for trap in TRAPS {
        if let Err(why) = tried(&world, (&from, &to), trap).await {
            wrong.push(format!("{}: {why}", trap.0));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
