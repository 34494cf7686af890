//! What a policy is refused for, in sentences.

use lockkeeper::{
    api::MaskingPolicySpec,
    data::{
        mask::{coverage, hash},
        postgres::tables::Table,
    },
};
use serde_json::{Value, json};

use super::{compiled, policy};

/// A column of a table: name, type, length, not null.
pub fn column(name: &str, base: &str, length: Option<i32>, not_null: bool) -> Value {
    let category = match base {
        "int2" | "int4" | "int8" | "numeric" | "float8" => "N",
        "bool" => "B",
        "date" | "timestamptz" => "D",
        "jsonb" | "uuid" | "bytea" => "U",
        "inet" => "I",
        "_text" => "A",
        "mood" => "E",
        _ => "S",
    };
    json!({
        "name": name, "typeName": base, "baseType": base, "category": category, "maxLength": length, "notNull": not_null,
        "generated": false, "identity": false, "labels": if base == "mood" { json!(["calm", "cross"]) } else { json!([]) }, "comment": null,
    })
}

pub fn table(oid: u32, name: &str, columns: Vec<Value>, more: Value) -> Table {
    let mut table = json!({
        "oid": oid, "schema": "public", "name": name, "kind": "Ordinary", "pages": 1, "parents": [], "columns": columns,
        "unique": [], "uniquePartly": [], "foreignKeys": [], "checks": [],
    });
    table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(table).unwrap()
}

fn shop() -> Vec<Table> {
    let users = table(
        1,
        "users",
        vec![
            column("id", "int4", None, true),
            column("email", "varchar", Some(60), true),
            column("nick", "varchar", Some(8), false),
            column("born", "date", None, false),
            column("mood", "mood", None, true),
            column("tags", "_text", None, false),
            column("score", "int4", None, false),
            column("settings", "jsonb", None, false),
            column("digest", "varchar", Some(64), false),
        ],
        json!({
            "unique": [["id"], ["email"]],
            "checks": [
                {"name": "score_range", "columns": ["score"], "expression": "CHECK ((score < 100))"},
                {"name": "odd", "columns": ["digest"], "expression": "CHECK (is_digest(digest))"},
            ],
        }),
    );
    let orders = table(
        2,
        "orders",
        vec![column("id", "int8", None, true), column("buyer", "varchar", Some(60), false)],
        json!({"unique": [["id"]], "foreignKeys": [{"name": "fk", "columns": ["buyer"], "schema": "public", "table": "users", "references": ["email"]}]}),
    );
    let part = table(
        3,
        "orders_2024",
        vec![column("id", "int8", None, true), column("buyer", "varchar", Some(60), false)],
        json!({"parents": [2]}),
    );
    vec![users, orders, part]
}

const GOOD: &str = r#"
name: shop
tables:
- table: public.users
  columns:
    id: {keep: {}}
    email: {fake: {kind: email, domain: email}}
    nick: {fake: {kind: shape}}
    born: {shift: {subject: id}}
    mood: {redact: {}}
    tags: {redact: {}}
    score: {keep: {}}
    settings: {json: {paths: {"$.theme": {keep: {}}}}}
    digest: {"null": {}}
- table: public.orders
  columns:
    id: {keep: {}}
    buyer: {fake: {kind: email, domain: email}}
"#;

#[test]
fn a_policy_that_names_everything_holds_and_partitions_follow_their_table() {
    compiled(GOOD, &shop()).unwrap();
    let seen = coverage(&policy(GOOD), &shop());
    assert_eq!((seen.columns, seen.classified, seen.unknown.len()), (11, 11, 0));
}

#[test]
fn what_nobody_classified_is_refused_with_the_yaml_to_add() {
    let problems = compiled(&GOOD.replace("    email: {fake: {kind: email, domain: email}}\n", ""), &shop()).unwrap_err();
    let said = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(said.contains("table public.users, column email: not named"), "{said}");
    assert!(said.contains("email: {fake: {domain: email, kind: email, locale: en}}"), "{said}");
    // Of a whole table too, its partition included; and in the order of tables.
    let without = GOOD.split("- table: public.orders").next().unwrap();
    let problems = compiled(without, &shop()).unwrap_err();
    assert_eq!(problems.iter().map(|p| p.table.as_str()).collect::<Vec<_>>(), ["public.orders", "public.orders_2024"]);
    assert!(problems[0].why.contains("{table: public.orders, columns: {id: {keep: {}}, buyer: "), "{}", problems[0]);
    let seen = coverage(&policy(without), &shop());
    assert_eq!((seen.columns, seen.classified), (13, 9));
    assert!(seen.unknown.contains(&"public.orders_2024.buyer".to_owned()));
}

#[test]
fn each_way_to_be_wrong_has_a_sentence() {
    for (line, with, sentence) in [
        ("id: {keep: {}}\n    email", "nobody: {keep: {}}\n    id: {keep: {}}\n    email", "no such column"),
        ("table: public.orders", "table: public.order", "no such table"),
        ("email: {fake: {kind: email, domain: email}}", "email: {keep: {}}", "looks like an email address"),
        (
            "email: {fake: {kind: email, domain: email}}",
            "email: {fake: {kind: firstName, domain: email}}",
            "the column is unique",
        ),
        ("email: {fake: {kind: email, domain: email}}", "email: {redact: {}}", "the column is unique"),
        ("email: {fake: {kind: email, domain: email}}", "email: {fake: {kind: email}}", "masked each in its own way"),
        ("buyer: {fake: {kind: email, domain: email}}", "buyer: {hash: {domain: email}}", "masked each in its own way"),
        ("buyer: {fake: {kind: email, domain: email}}", "buyer: {keep: {reason: x}}", "masked each in its own way"),
        ("mood: {redact: {}}", "mood: {\"null\": {}}", "takes no NULL"),
        ("mood: {redact: {}}", "mood: {fake: {kind: city}}", "does not fit type mood"),
        ("nick: {fake: {kind: shape}}", "nick: {fake: {kind: username}}", "needs room for 16 characters"),
        ("nick: {fake: {kind: shape}}", "nick: {derive: {sha256Of: email}}", "room for 8"),
        ("nick: {fake: {kind: shape}}", "nick: {derive: {lowerOf: nick}}", "of itself"),
        ("nick: {fake: {kind: shape}}", "nick: {template: {text: \"user-{id}\"}}", "room for 8"),
        ("nick: {fake: {kind: shape}}", "nick: {template: {text: \"{id\"}}", "a brace has no end"),
        ("nick: {fake: {kind: shape}}", "nick: {}", "exactly one of"),
        ("nick: {fake: {kind: shape}}", "nick: {keep: {}, redact: {}}", "exactly one of"),
        ("born: {shift: {subject: id}}", "born: {noise: {}}", "does not fit type date"),
        ("born: {shift: {subject: id}}", "born: {shift: {subject: who}}", "no column who"),
        ("tags: {redact: {}}", "tags: {hash: {}}", "does not fit type _text"),
        ("score: {keep: {}}", "score: {noise: {percent: 10}}", "score_range"),
        (
            "settings: {json: {paths: {\"$.theme\": {keep: {}}}}}",
            "settings: {json: {paths: {theme: {keep: {}}}}}",
            "begin with $",
        ),
        (
            "settings: {json: {paths: {\"$.theme\": {keep: {}}}}}",
            "settings: {json: {paths: {\"$.email\": {keep: {}}}}}",
            "path $.email looks like",
        ),
        ("digest: {\"null\": {}}", "digest: {derive: {sha256Of: email}}", "constraint odd"),
        ("table: public.users\n", "table: public.users\n  rows: {none: {}}\n", "of which no row leaves"),
        ("table: public.users\n", "table: public.users\n  rows: {where: \"true) or (true\"}\n", "closes a parenthesis"),
    ] {
        assert!(GOOD.contains(line), "{line}");
        let said: Vec<String> = match compiled(&GOOD.replacen(line, with, 1), &shop()) {
            Ok(_) => panic!("{with}: taken"),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        };
        assert!(said.iter().any(|s| s.contains(sentence)), "{with}: {said:?}");
    }
}

#[test]
fn a_unique_index_over_an_expression_counts_too() {
    let users = |partly: Value| {
        table(
            1,
            "users",
            vec![column("id", "int4", None, true), column("code", "text", None, true)],
            json!({"unique": [["id"]], "uniquePartly": partly}),
        )
    };
    let yaml = "name: shop\ntables: [{table: public.users, columns: {id: {keep: {}}, code: {fake: {kind: shape}}}}]";
    compiled(yaml, &[users(json!([]))]).unwrap();
    let problems = compiled(yaml, &[users(json!([["code"]]))]).unwrap_err();
    assert!(problems[0].why.contains("the column is unique"), "{}", problems[0]);
    compiled(&yaml.replace("shape", "username"), &[users(json!([["code"]]))]).unwrap();
}

#[test]
fn the_hash_is_the_policys_and_not_its_writers() {
    let spec = |yaml: &str| -> MaskingPolicySpec { serde_json::from_value(json!({"data": [policy(yaml)]})).unwrap() };
    let of = |yaml: &str| hash(&spec(yaml));
    let (users, orders) = GOOD.split_once("- table: public.orders").unwrap();
    let turned = format!("name: shop\ntables:\n- table: public.orders{orders}{}", users.split_once("tables:\n").unwrap().1);
    assert_eq!(of(GOOD), of(&turned));
    assert!(of(GOOD).starts_with("sha256:") && of(GOOD).len() == 71);
    assert_ne!(of(GOOD), of(&GOOD.replace("$.theme", "$.themes")));
    // Where a release changes what it hashes, every grant is void: that must be seen.
    assert_eq!(of("name: a\ntables: []"), "sha256:bc6afcc0b1b0f65f6b86b4dd24e01e2f64db80f89004d94840e3ee126f977b44");
}

#[test]
fn the_examples_are_policies_that_name_each_table_once() {
    let unleash = include_str!("../../demo/manifests/masking.yaml").replace("@NAMESPACE@", "shop-production");
    let newer = unleash.replace("# 7.4: ", "");
    for (text, count) in [(include_str!("../../examples/pretix/masking.yaml"), 149), (&unleash, 78), (&newer, 99)] {
        let policy: lockkeeper::api::MaskingPolicy = serde_saphyr::from_str(text).unwrap();
        let tables = &policy.spec.data[0].tables;
        let names: std::collections::BTreeSet<&str> = tables.iter().map(|t| &*t.table.0).collect();
        assert_eq!((tables.len(), names.len()), (count, count));
        assert!(tables.iter().all(|t| t.columns.is_empty() != t.rows.as_ref().is_none_or(|rows| rows.none.is_none())));
    }
    // The hash that 7.4.1 keeps beside an address is that of the substitute.
    assert!(!unleash.contains("\n        email_hash:") && newer.contains("\n        email_hash: {derive: {sha256Of: email}}"));
}

#[test]
fn a_draft_keeps_what_applications_would_break_without() {
    use lockkeeper::{api::Locale, data::mask::draft};
    let text = |name: &str| column(name, "text", None, true);
    let ledger = table(1, "django_migrations", vec![text("app"), text("name")], json!({}));
    let log = table(
        2,
        "log",
        vec![text("data"), text("note"), text("state"), text("city"), column("few", "varchar", Some(9), true)],
        json!({}),
    );
    let sample = |value: &str| vec![value.to_owned(); 9];
    let samples = [
        ((2, "data".to_owned()), sample(r#"{"position": 3, "email": "ana@shop.example"}"#)),
        ((2, "note".to_owned()), sample("[not JSON")),
        ((2, "state".to_owned()), ["paid", "open"].repeat(20).into_iter().map(str::to_owned).collect()),
        ((2, "few".to_owned()), sample(r#"{"a": 1}"#)),
    ];
    let said = draft::data("store", &[ledger, log], &samples.into(), &Default::default(), Locale::En);
    for line in [
        "app: {keep: {}} # a record of migrations",
        "name: {keep: {}} # a record of migrations",
        r#"data: {json: {paths: {"$.email": {fake: {domain: email, kind: email, locale: en}}, "$.position": {keep: {}}}}} # JSON in text"#,
        "note: {redact: {}} # free text may hold anything: keep it where it does not\n",
        "state: {redact: {}} # free text may hold anything: keep it where it does not; only 2 different in 40 that were looked at",
        "city: {fake: {domain: city, kind: city, locale: en}} # by its name a city",
        "few: {keep: {}} # varchar",
    ] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
    assert!(!said.contains("ana@") && !said.contains("paid") && !said.contains("To decide"), "{said}");
}

#[test]
fn a_draft_says_what_it_cannot_tell() {
    use lockkeeper::{api::Locale, data::mask::draft};
    let text = |name: &str| column(name, "text", None, false);
    let people = table(
        1,
        "orderposition",
        vec![text("attendee_name_cached"), column("attendee_name_parts", "jsonb", None, true)],
        json!({}),
    );
    let settings = table(2, "settingsstore", vec![text("key"), text("value")], json!({}));
    let token = table(3, "api_tokens", vec![text("secret"), column("id", "int4", None, true)], json!({"unique": [["id"]]}));
    let reference = json!({"foreignKeys": [{"name": "fk", "columns": ["token"], "schema": "public", "table": "api_tokens", "references": ["id"]}]});
    let used = table(4, "usage", vec![column("token", "int4", None, true)], reference);
    let logs = table(5, "audit_log", vec![column("at", "timestamptz", None, true)], json!({}));
    let parts = r#"{"_scheme": "given_family", "given_name": "Ana", "family_name": "Canary"}"#;
    let samples = [
        ((1, "attendee_name_parts".to_owned()), vec![parts.to_owned(); 9]),
        ((2, "value".to_owned()), vec!["canary@shop.cat".to_owned(); 9]),
    ];
    let said =
        draft::data("store", &[people, settings, token.clone(), used, logs], &samples.into(), &Default::default(), Locale::En);
    for line in [
        r#"attendee_name_cached: {template: {text: "{attendee_name_parts$.given_name} {attendee_name_parts$.family_name}"}} # by its name a copy"#,
        "value: {redact: {}} # values of unlike kinds, told apart by key,",
        "# by its name perhaps a record of what people did, in which anything may stand; in place of columns, rows: {none: {}}",
        "secret: {\"null\": {}}",
    ] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
    assert!(!said.contains("anary") && !said.contains("To decide"), "{said}");
    // A table that none refers to stays behind.
    let said = draft::data("store", &[token], &Default::default(), &Default::default(), Locale::En);
    assert!(said.contains("rows: {none: {}} # tokens"), "{said}");
}

#[test]
fn a_unique_column_takes_a_template_around_one_number_that_no_two_rows_share() {
    let columns = vec![
        column("id", "int8", None, true),
        column("badge", "int4", None, false),
        column("team", "int4", None, true),
        column("email", "varchar", Some(60), true),
    ];
    let people = table(1, "people", columns, json!({"unique": [["id"], ["badge"], ["email"]]}));
    let said = |id: &str, text: &str| {
        let yaml = format!(
            "name: shop\ntables:\n- table: public.people\n  columns: {{id: {{{id}: {{}}}}, badge: {{keep: {{}}}}, team: {{keep: {{}}}}, email: \
             {{template: {{text: \"{text}\"}}}}}}\n"
        );
        compiled(&yaml, std::slice::from_ref(&people)).map(drop)
    };
    for id in ["keep", "hash"] {
        said(id, "user{id}@shop.example").unwrap();
    }
    for text in ["everybody@shop.example", "{id}{team}", "user{team}@shop.example", "user{badge}@shop.example"] {
        let problems = said("keep", text).unwrap_err();
        assert!(problems[0].why.contains("the column is unique"), "{text}: {}", problems[0]);
    }
}

#[test]
fn columns_that_only_a_child_has_are_named_with_those_of_the_table_it_inherits_from() {
    use lockkeeper::{api::Locale, data::mask::draft};
    let columns = |more: Vec<Value>| [vec![column("id", "int4", None, true)], more].concat();
    let contact = table(1, "contact", columns(vec![]), json!({"unique": [["id"]]}));
    let supplier = table(2, "supplier", columns(vec![column("vat", "text", None, false)]), json!({"parents": [1]}));
    let tables = [contact, supplier];
    let named =
        |columns: &str| format!("name: shop\ntables:\n- {{table: public.contact, columns: {{id: {{keep: {{}}}}{columns}}}}}");

    let problems = compiled(&named(""), &tables).unwrap_err();
    assert!(problems[0].to_string().contains("tables, public.contact, columns: vat: {redact: {}}"), "{problems:?}");
    compiled(&named(", vat: {redact: {}}"), &tables).expect("what the sentence says to add");
    let problems = compiled(&named(", vat: {redact: {}}, vta: {redact: {}}"), &tables).unwrap_err();
    assert!(problems.len() == 1 && problems[0].to_string().contains("column vta: the table has no such column"), "{problems:?}");

    let said = draft::data("shop", &tables, &Default::default(), &Default::default(), Locale::En);
    assert!(said.contains("        vat: {redact: {}} #") && !said.contains("To decide"), "{said}");
}

#[test]
fn a_constraint_that_asks_whether_there_is_something_takes_every_mask_that_leaves_something() {
    let columns = vec![
        column("id", "int4", None, true),
        column("kind", "int4", None, true),
        column("link", "text", None, false),
        column("title", "varchar", Some(40), true),
        column("icon", "jsonb", None, false),
    ];
    let check = |columns: Value, text: &str| json!({"name": "ck", "columns": columns, "expression": format!("CHECK ({text})")});
    let of = |check: Value| [table(1, "page", columns.clone(), json!({"unique": [["id"]], "checks": [check]}))];
    let policy = |link: &str, title: &str, icon: &str| {
        format!(
            "name: shop\ntables:\n- {{table: public.page, columns: {{id: {{keep: {{}}}}, kind: {{keep: {{}}}}, link: {{{link}}}, title: {{{title}}}, icon: {{{icon}}}}}}}"
        )
    };
    let masked = policy("fake: {kind: url}", "redact: {}", "json: {}");
    for (columns, text) in [
        (["kind", "link"], "((kind = 3) = (link IS NOT NULL))"),
        (["link", "icon"], "((link IS NULL) = ((icon)::text = 'null'::text))"),
        (["link", "title"], "((link IS NULL) OR ((title)::text <> ''::text))"),
    ] {
        let tables = of(check(json!(columns), text));
        compiled(&masked, &tables).unwrap_or_else(|why| panic!("{text}: {why:?}"));
    }
    for (columns, text, policy) in [
        (["kind", "link"], "((kind = 3) = (link IS NOT NULL))", policy("\"null\": {}", "redact: {}", "json: {}")),
        (
            ["link", "icon"],
            "((link IS NULL) = ((icon)::text = 'null'::text))",
            policy("fake: {kind: url}", "redact: {}", "redact: {}"),
        ),
        (
            ["kind", "title"],
            "((kind = 1) OR ((title)::text <> ''::text))",
            policy("redact: {}", "derive: {copyOf: link}", "json: {}"),
        ),
        (["kind", "title"], "((kind = 1) OR ((title)::text = 'Home'::text))", masked.clone()),
    ] {
        let tables = of(check(json!(columns), text));
        let problems = compiled(&policy, &tables).expect_err(text);
        assert!(problems[0].to_string().contains("constraint ck"), "{text}: {problems:?}");
    }
}
