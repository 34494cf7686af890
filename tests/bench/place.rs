//! The data, and who works on it: a Production, a Development that mirrors it, and the exchange between them.

use std::{fs, path::PathBuf, process::Command};

use futures::{StreamExt, stream};
use lockkeeper::{api::MaskingPolicySpec, data::mask, manifest::task::Task};
use serde_json::{Map, Value, json};

use super::{
    cost::{Cost, timed},
    postgres::World,
};

/// The columns of the large table, with what a user's policy would make of each.
const COLUMNS: [(&str, Option<&str>); 12] = [
    ("id", None),
    ("email", Some("email")),
    ("first_name", Some("firstName")),
    ("last_name", Some("lastName")),
    ("phone", Some("phone")),
    ("street", Some("street")),
    ("city", Some("city")),
    ("born", None),
    ("created_at", None),
    ("balance", None),
    ("terms", None),
    ("settings", None),
];
/// Beside it, unless more are wanted.
pub const SMALL_TABLES: usize = 200;
/// Each has a few rows.
const SMALL_ROWS: usize = 500;
/// So many rows are made by one session. What fits is made in one, and so lies in the same order each time.
const ROWS_OF_A_SESSION: u64 = 5_000_000;

pub struct Place {
    pub rows: u64,
    pub production: World,
    pub development: World,
    /// The database with the data.
    pub database: String,
    pub policy_hash: String,
    pub server_version: String,
    pub server_pid: u32,
    /// The bytes of its rows as COPY writes them.
    pub bytes: i64,
    /// How often something was locked so far.
    pub epoch: i64,
}

impl Place {
    pub async fn new(rows: u64, small_tables: usize) -> Self {
        let mut production = World::new("bench_from").await;
        let mut development = World::new("bench_to").await;
        let boss = production.server.boss("postgres").await;
        let database = "bench_data".to_owned();
        boss.batch_execute(&format!("CREATE DATABASE {database} OWNER {}", quoted(&production.app))).await.unwrap();
        let app = production.server.connect(&production.app, &database).await.unwrap();
        app.batch_execute(TABLE).await.unwrap();
        let (from, name) = (&production, &database);
        let parts = (0..rows.div_ceil(ROWS_OF_A_SESSION)).map(|part| async move {
            let first = part * ROWS_OF_A_SESSION;
            let app = from.server.connect(&from.app, name).await.unwrap();
            app.batch_execute(&some(first + 1, rows.min(first + ROWS_OF_A_SESSION))).await.unwrap();
        });
        stream::iter(parts.collect::<Vec<_>>()).buffer_unordered(2).collect::<Vec<_>>().await;
        app.batch_execute(INDEXES).await.unwrap();
        for small in (0..small_tables).collect::<Vec<_>>().chunks(SMALL_TABLES) {
            app.batch_execute(&small_ones(small)).await.unwrap();
        }
        let columns = COLUMNS.map(|c| c.0).join(", ");
        let sql = format!("SELECT sum(octet_length(concat_ws(E'\\t', {columns})) + 1)::bigint FROM users");
        let bytes = app.query_one(&sql, &[]).await.unwrap().get(0);
        let admin = production.server.boss(&database).await;
        for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
            admin.batch_execute(statement).await.unwrap();
        }
        for (world, database) in [(&production, &database), (&development, &development.database)] {
            for (which, role) in [("connection", &world.app), ("admin", &world.admin)] {
                world.secret("store", which, role, database);
                // Peers are told the same: what TLS takes is not what is measured.
                let uri = world.paths.secrets.join("store").join(which).join("uri");
                let text = fs::read_to_string(&uri).unwrap();
                fs::write(&uri, format!("{}?sslmode=disable\n", text.trim_end())).unwrap();
            }
        }
        let below = |part: &str| production.directory.path().join(part);
        let (policies, keys) = (below("policy"), below("masking-key"));
        fs::create_dir_all(&policies).unwrap();
        fs::create_dir_all(&keys).unwrap();
        let policy = policy(small_tables);
        fs::write(policies.join("policy.json"), policy.to_string()).unwrap();
        fs::write(keys.join("key"), "not to be guessed, ever\n").unwrap();
        let spec: MaskingPolicySpec = serde_json::from_value(policy).unwrap();
        (production.paths.policy, production.paths.masking_key) = (policies, keys);
        // One volume, mounted on both sides.
        development.paths.repository = production.paths.repository.clone();
        let server_pid = production.server.pid();
        let server_version = boss.query_one("SHOW server_version", &[]).await.unwrap().get(0);
        let policy_hash = mask::hash(&spec);
        Self { rows, production, development, database, policy_hash, server_version, server_pid, bytes, epoch: 0 }
    }

    /// Does a task as a Job does, and gives what it cost until `until`, what it cost in all, and its outcome.
    pub fn agent(&self, world: &World, task: &Task, until: Option<&str>) -> (Cost, Cost, Value) {
        let (part, whole) = timed(self.server_pid, &mut world.agent_with(task), until);
        (part, whole, serde_json::from_slice(&fs::read(&world.paths.result).unwrap()).unwrap())
    }

    /// A client program of the server's version, told how to get in.
    pub fn tool(&self, name: &str) -> Command {
        let mut command = self.production.server.tool(name);
        command.args(["--host=127.0.0.1", "--username=postgres"]).arg(format!("--port={}", self.production.server.port));
        command.env("PGSSLMODE", "disable");
        command
    }

    /// How other programs are told to get in.
    pub fn conninfo(&self, database: &str) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname={database} sslmode=disable", self.production.server.port)
    }

    /// A fresh directory, gone with the place.
    pub fn fresh(&self, name: &str) -> PathBuf {
        let path = self.production.directory.path().join(name);
        let _ = fs::remove_dir_all(&path);
        path
    }

    pub async fn drop_database(&self, name: &str) {
        let boss = self.production.server.boss("postgres").await;
        boss.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name))).await.unwrap();
    }

    /// Lets the server write what it has in hand, so that it is not the next one's to wait for.
    pub async fn settle(&self) {
        let boss = self.production.server.boss("postgres").await;
        boss.batch_execute("CHECKPOINT").await.unwrap();
    }
}

fn quoted(name: &str) -> String {
    lockkeeper::data::postgres::quote::ident(name)
}

fn policy(small_tables: usize) -> Value {
    let columns: Map<String, Value> = COLUMNS
        .iter()
        .map(|(name, kind)| {
            let mask = match kind {
                Some(kind) => json!({"fake": {"kind": kind, "domain": kind}}),
                None => json!({"keep": {"reason": "says nothing about a person without the rest"}}),
            };
            ((*name).to_owned(), mask)
        })
        .collect();
    let keep = json!({"keep": {"reason": "of the machine's making"}});
    let mut tables = vec![json!({"table": "public.users", "columns": columns})];
    tables.extend((0..small_tables).map(|n| json!({"table": format!("public.small_{n}"), "columns": {"id": keep, "v": keep}})));
    json!({"keySecret": {"name": "masking"}, "data": [{"name": "store", "tables": tables}]})
}

const TABLE: &str = "CREATE TABLE users (id bigint, email text, first_name text, last_name text, phone text, street text, city text, \
    born date, created_at timestamptz, balance numeric(12,2), terms text, settings jsonb)";
const INDEXES: &str = "ALTER TABLE users ADD PRIMARY KEY (id); CREATE INDEX users_email ON users (email)";

/// Rows of about 300 bytes; the same each time.
fn some(first: u64, last: u64) -> String {
    format!(
        "INSERT INTO users SELECT i, 'user.' || i || '@' || substr(md5(i::text), 1, 8) || '.example.com', \
           initcap(substr(md5('f' || i % 3000), 1, 7)), initcap(substr(md5('l' || i % 20000), 1, 9)), \
           '+34 6' || lpad((i * 7919 % 100000000)::text, 8, '0'), 'Calle ' || substr(md5('s' || i % 50000), 1, 12) || ', ' || i % 200, \
           (ARRAY['Girona', 'Madrid', 'Sevilla', 'Bilbao', 'Vigo'])[1 + i % 5], '1950-01-01'::date + (i * 31 % 20000)::int, \
           '2020-01-01'::timestamptz + i * interval '37 seconds', (i * 977 % 1000000) / 100.0, \
           'Payment within ' || i % 90 || ' days, contract ' || md5('t' || i) || ', as agreed with branch ' \
             || md5('b' || i % 400), \
           jsonb_build_object('theme', (ARRAY['dark', 'light'])[1 + i % 2], 'seen', i % 1000) \
           FROM generate_series({first}::bigint, {last}::bigint) i"
    )
}

fn small_ones(numbers: &[usize]) -> String {
    numbers
        .iter()
        .map(|n| {
            format!(
                "CREATE TABLE small_{n} AS SELECT i AS id, md5(({n} * i)::text) AS v FROM generate_series(1, {SMALL_ROWS}) i; \
                 ALTER TABLE small_{n} ADD PRIMARY KEY (id); "
            )
        })
        .collect()
}
