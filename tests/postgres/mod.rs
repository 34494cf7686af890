//! A real PostgreSQL for tests: made in a temporary directory, on a free port of loopback, gone with the last test that
//! uses it. And a world on it: an owner, an admin role that is no superuser, a reporting role, a database, the Secrets.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use lockkeeper::{
    agent::{self, Paths},
    data::{postgres::quote::ident, stop::Stop},
    manifest::task::{Outcome, Task},
};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

pub const ENVIRONMENT: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
pub const RUN: &str = "11111111-aaaa-4bbb-8ccc-dddddddddddd";
const PASSWORD: &str = "p/w 'x\" %";

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct Server {
    bin: PathBuf,
    directory: tempfile::TempDir,
    pub port: u16,
}

impl Server {
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start(bin()));
        *shared = Arc::downgrade(&server);
        server
    }

    /// One more, of the same version.
    #[allow(dead_code)]
    pub fn another() -> Arc<Self> {
        Arc::new(Self::start(bin()))
    }

    /// One of the programs in that directory.
    pub fn start(bin: PathBuf) -> Self {
        Self::start_below(bin, &std::env::temp_dir())
    }

    /// One more, of the same version, that keeps everything below a directory.
    #[allow(dead_code)]
    pub fn below(place: &Path) -> Arc<Self> {
        Arc::new(Self::start_below(bin(), place))
    }

    fn start_below(bin: PathBuf, place: &Path) -> Self {
        let directory = tempfile::tempdir_in(place).unwrap();
        let port = free_port();
        fs::write(directory.path().join("password"), format!("{PASSWORD}\n")).unwrap();
        let server = Self { bin, directory, port };
        server.give(server.directory.path());
        let data = server.data();
        run(server
            .command("initdb")
            .args(["--auth=scram-sha-256", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--pgdata"])
            .arg(&data)
            .arg(format!("--pwfile={}", server.directory.path().join("password").display())));
        // Some builds know no TLS.
        let tls = server.tool("pg_config").arg("--configure").output().is_ok_and(|o| {
            let configure = String::from_utf8_lossy(&o.stdout).into_owned();
            configure.contains("openssl")
        });
        let tls = if tls {
            server.certificate("server");
            format!("-c ssl=on -c ssl_cert_file={0}/server.crt -c ssl_key_file={0}/server.key", server.directory.path().display())
        } else {
            String::new()
        };
        // Members of this role are not let in without TLS; all others either way.
        let rules = data.join("pg_hba.conf");
        let all = fs::read_to_string(&rules).unwrap();
        fs::write(&rules, format!("hostnossl all +tls_only 127.0.0.1/32 reject\n{all}")).unwrap();
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 {tls} -c fsync=off -c wal_level=logical -c max_prepared_transactions=5 \
             -c max_connections=60 -c log_min_messages=warning -k {0}",
            server.directory.path().display()
        );
        run(server
            .command("pg_ctl")
            .args(["start", "--wait", "--options", &options, "--pgdata"])
            .arg(&data)
            .arg(format!("--log={}", server.directory.path().join("log").display()))
            .stdout(Stdio::null()));
        server
    }

    /// Makes a directory the server's user's.
    pub fn give(&self, directory: &Path) {
        if is_root() {
            run(Command::new("chown").args(["-R", "postgres"]).arg(directory));
        }
    }

    /// A certificate that is its own CA, and its key. The path of the certificate.
    pub fn certificate(&self, name: &str) -> PathBuf {
        run(self
            .command("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
            .stderr(Stdio::null()));
        self.directory.path().join(format!("{name}.crt"))
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// One of the server's programs, or another, as a user that is not root.
    pub fn command(&self, name: &str) -> Command {
        let own = self.bin.join(name);
        let program = if own.exists() { own } else { name.into() };
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.directory.path());
        command
    }

    pub async fn connect(&self, role: &str, database: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(role).password(PASSWORD).dbname(database).application_name("test");
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub async fn boss(&self, database: &str) -> Client {
        self.connect("postgres", database).await.unwrap()
    }

    /// A client program of the server's own version, for a superuser.
    #[allow(dead_code)]
    pub fn tool(&self, name: &str) -> Command {
        let own = self.bin.join(name);
        let mut command = Command::new(if own.exists() { own } else { name.into() });
        command.env("PGPASSWORD", PASSWORD);
        command
    }

    /// Where its programs are.
    #[allow(dead_code)]
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Changes a setting that is read at the start, and starts it anew.
    #[allow(dead_code)]
    pub async fn set(&self, setting: &str, value: &str) {
        self.boss("postgres").await.batch_execute(&format!("ALTER SYSTEM SET {setting} = '{value}'")).await.unwrap();
        run(self.command("pg_ctl").args(["restart", "--wait", "--mode=fast", "--pgdata"]).arg(self.data()).stdout(Stdio::null()));
    }

    /// Its first process.
    #[allow(dead_code)]
    pub fn pid(&self) -> u32 {
        fs::read_to_string(self.data().join("postmaster.pid")).unwrap().lines().next().unwrap().parse().unwrap()
    }

    /// Runs a file as psql does for a person, from a directory.
    #[allow(dead_code)]
    pub fn psql(&self, database: &str, directory: &Path, file: &str) {
        let output = self
            .tool("psql")
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--host=127.0.0.1", "--username=postgres", "--file", file])
            .arg(format!("--port={}", self.port))
            .arg(format!("--dbname=dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'")))
            .current_dir(directory)
            .output()
            .unwrap();
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The schema's and the rows' text, and what the server knows of the database.
    pub async fn everything(&self, database: &str) -> String {
        let output = self
            .command("pg_dump")
            .args([
                "--create",
                "--inserts",
                "--rows-per-insert=1",
                "--restrict-key=test",
                "--host=127.0.0.1",
                "--username=postgres",
            ])
            .arg(format!("--port={}", self.port))
            .arg(format!("--dbname=dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'")))
            .env("PGPASSWORD", PASSWORD)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let boss = self.boss("postgres").await;
        let row = boss
            .query_one(
                "SELECT concat_ws('|', r.rolname, d.datconnlimit, d.datallowconn, shobj_description(d.oid, 'pg_database'), \
                 (SELECT string_agg(coalesce(g.rolname, 'PUBLIC') || a.privilege_type || a.is_grantable, ',' \
                    ORDER BY coalesce(g.rolname, 'PUBLIC'), a.privilege_type) \
                  FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a LEFT JOIN pg_roles g ON g.oid = a.grantee), \
                 (SELECT string_agg(s.setrole::regrole::text || s.setconfig::text, ',' ORDER BY s.setrole) \
                  FROM pg_db_role_setting s WHERE s.setdatabase = d.oid)) \
                 FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE datname = $1",
                &[&database],
            )
            .await
            .unwrap();
        let mut lines: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
        lines.sort_unstable();
        format!("{}\n{}", lines.join("\n"), row.get::<_, String>(0))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.data();
        let _ = self.command("pg_ctl").args(["stop", "--mode=immediate", "--pgdata"]).arg(&data).stdout(Stdio::null()).status();
    }
}

/// Where the server's programs are. Without them these tests cannot say anything, so they fail.
fn bin() -> PathBuf {
    let mut candidates: Vec<PathBuf> = std::env::var_os("LOCKKEEPER_PG_BIN").map(PathBuf::from).into_iter().collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        candidates.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    let mut installed: Vec<PathBuf> =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|e| e.path().join("bin")).collect();
    installed.sort();
    candidates.extend(installed.into_iter().rev());
    candidates.into_iter().find(|d| d.join("initdb").exists() && d.join("postgres").exists()).unwrap_or_else(|| {
        panic!(
            "these tests need the programs of a PostgreSQL server (initdb, postgres, pg_dump; version 14 or newer): install them, or \
             name their directory in LOCKKEEPER_PG_BIN"
        )
    })
}

/// Servers of other major versions than the one that the tests take, one of each: of Debian, and those of hack/postgres.sh.
#[allow(dead_code)]
pub fn others() -> Vec<PathBuf> {
    let major = |bin: &Path| -> Option<u32> {
        let output = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().find_map(|word| word.split('.').next()?.parse().ok())
    };
    let mut known: Vec<Option<u32>> = vec![None, major(&bin())];
    let here = |place: &str| fs::read_dir(place).into_iter().flatten().flatten().map(|e| e.path().join("bin"));
    let mut all: Vec<PathBuf> = here("/usr/lib/postgresql").chain(here("/var/cache/lockkeeper")).collect();
    all.sort();
    all.retain(|bin| {
        let version = major(bin);
        let new = bin.join("initdb").exists() && !known.contains(&version);
        known.push(version);
        new
    });
    all
}

/// A port of loopback on which nobody listens.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim() == "0"
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// One database on the server, and what an agent needs to work on it.
pub struct World {
    pub server: Arc<Server>,
    pub database: String,
    pub app: String,
    pub admin: String,
    pub reporter: String,
    pub environment: String,
    pub directory: tempfile::TempDir,
    pub paths: Paths,
}

impl World {
    /// With a database whose name begins with `name`, some content, and an admin role that has every right it needs.
    pub async fn new(name: &str) -> Self {
        Self::on(Server::shared(), name).await
    }

    /// The same on a server.
    pub async fn on(server: Arc<Server>, name: &str) -> Self {
        let world = Self::without_rights_on(server, name).await;
        let boss = world.server.boss("postgres").await;
        let (app, admin) = (ident(&world.app), ident(&world.admin));
        boss.batch_execute(&format!("ALTER ROLE {admin} CREATEDB; GRANT {app}, pg_signal_backend, pg_read_all_stats TO {admin}"))
            .await
            .unwrap();
        world
    }

    pub async fn without_rights(name: &str) -> Self {
        Self::without_rights_on(Server::shared(), name).await
    }

    async fn without_rights_on(server: Arc<Server>, name: &str) -> Self {
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let directory = tempfile::tempdir().unwrap();
        let below = |part: &str| directory.path().join(part);
        let paths = Paths {
            policy: PathBuf::new(),
            masking_key: PathBuf::new(),
            secrets: below("secrets"),
            volumes: below("volumes"),
            repository: below("repository"),
            repository_password: below("password"),
            repository_credentials: below("credentials"),
            own: below("own"),
            proof: below("proof"),
            scratch: below("scratch"),
            result: below("result"),
        };
        for path in [&paths.repository, &paths.repository_password, &paths.scratch] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(paths.repository_password.join("password"), "correct horse\n").unwrap();
        let world = Self {
            database: format!("{name}{count}"),
            app: format!("App {count}"),
            admin: format!("adm\"{count}"),
            reporter: format!("rep{count}"),
            environment: format!("{count:04x}{}", &ENVIRONMENT[4..]),
            server,
            directory,
            paths,
        };
        let boss = world.server.boss("postgres").await;
        for role in [&world.app, &world.admin, &world.reporter] {
            let password = PASSWORD.replace('\'', "''");
            boss.batch_execute(&format!("CREATE ROLE {} LOGIN PASSWORD '{password}'", ident(role))).await.unwrap();
        }
        let (database, app, reporter) = (ident(&world.database), ident(&world.app), ident(&world.reporter));
        boss.batch_execute(&format!("CREATE DATABASE {database} OWNER {app}")).await.unwrap();
        boss.batch_execute(&format!(
            "GRANT CONNECT ON DATABASE {database} TO {reporter}; ALTER DATABASE {database} SET statement_timeout = '5min'; \
             ALTER DATABASE {database} SET search_path = \"$user\", public; COMMENT ON DATABASE {database} IS 'keep ''me'''; \
             ALTER DATABASE {database} CONNECTION LIMIT 40; ALTER ROLE {app} IN DATABASE {database} SET work_mem = '8MB'"
        ))
        .await
        .unwrap();
        world.secret("store", "connection", &world.app, &world.database);
        world.secret("store", "admin", &world.admin, &world.database);
        let app = world.as_app().await;
        app.batch_execute(CONTENT).await.unwrap();
        world
    }

    pub fn secret(&self, data: &str, which: &str, role: &str, database: &str) {
        let directory = self.paths.secrets.join(data).join(which);
        fs::create_dir_all(&directory).unwrap();
        let uri =
            format!("postgresql://{}:{}@127.0.0.1:{}/{}\n", encode(role), encode(PASSWORD), self.server.port, encode(database));
        fs::write(directory.join("uri"), uri).unwrap();
    }

    /// Lets a Secret of the data name another port.
    #[allow(dead_code)]
    pub fn lead(&self, which: &str, port: u16) {
        let uri = self.paths.secrets.join("store").join(which).join("uri");
        let text = fs::read_to_string(&uri).unwrap();
        fs::write(&uri, text.replace(&format!(":{}/", self.server.port), &format!(":{port}/"))).unwrap();
    }

    /// Lets restores be proven on another server, as a role with that password.
    #[allow(dead_code)]
    pub fn proven_on(&self, server: &Server, role: &str, password: &str) {
        fs::create_dir_all(&self.paths.proof).unwrap();
        for (key, value) in [("host", "127.0.0.1"), ("port", &server.port.to_string()), ("user", role), ("password", password)] {
            fs::write(self.paths.proof.join(key), value).unwrap();
        }
    }

    /// Every role's.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    pub async fn as_app(&self) -> Client {
        self.server.connect(&self.app, &self.database).await.unwrap()
    }

    pub async fn as_app_is_out(&self) -> bool {
        self.server.connect(&self.app, &self.database).await.is_err()
    }

    pub fn task(&self, verb: &str, epoch: i64) -> Task {
        self.task_with(verb, json!({"epoch": epoch}))
    }

    /// The agent as a process of its own, with the paths of this world and no task yet.
    pub fn agent(&self, verb: &str) -> Command {
        let Paths {
            secrets,
            volumes,
            repository,
            repository_password,
            repository_credentials,
            own,
            proof,
            policy,
            masking_key,
            scratch,
            result,
        } = &self.paths;
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        command
            .args(["agent", verb])
            .env("LOCKKEEPER_SECRETS_DIR", secrets)
            .env("LOCKKEEPER_VOLUMES_DIR", volumes)
            .env("LOCKKEEPER_REPOSITORY_DIR", repository)
            .env("LOCKKEEPER_REPOSITORY_PASSWORD_DIR", repository_password)
            .env("LOCKKEEPER_REPOSITORY_CREDENTIALS_DIR", repository_credentials)
            .env("LOCKKEEPER_OWN_DIR", own)
            .env("LOCKKEEPER_PROOF_DIR", proof)
            .env("LOCKKEEPER_POLICY_DIR", policy)
            .env("LOCKKEEPER_MASKING_KEY_DIR", masking_key)
            .env("LOCKKEEPER_SCRATCH_DIR", scratch)
            .env("LOCKKEEPER_RESULT_PATH", result)
            .env_remove("LOCKKEEPER_TASK");
        command
    }

    /// The same with a task.
    pub fn agent_with(&self, task: &Task) -> Command {
        let mut command = self.agent(task.verb.as_str());
        command.env("LOCKKEEPER_TASK", serde_json::to_string(task).unwrap());
        command
    }

    /// The most memory, in MiB, that the agent held at once, as a process of its own, while it did a task.
    pub fn held(&self, task: &Task) -> u64 {
        let mut child = self.agent_with(task).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0_u64;
        while child.try_wait().unwrap().is_none() {
            let text = fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            peak = line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(peak);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(child.wait().unwrap().success(), "{}", fs::read_to_string(&self.paths.result).unwrap_or_default());
        eprintln!("{}: {} MiB", task.verb.as_str(), peak >> 10);
        peak >> 10
    }

    pub fn task_with(&self, verb: &str, more: Value) -> Task {
        let mut task = json!({
            "verb": verb, "run": RUN, "runName": "Promotion shop/flags", "environment": self.environment,
            "environmentName": "shop/production", "data": [{"name": "store"}], "repository": true,
        });
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(task).unwrap()
    }

    pub async fn perform(&self, task: &Task) -> (i32, Outcome) {
        let began = Instant::now();
        let done = agent::perform(task, &self.paths, Stop::never()).await;
        eprintln!("{}: {:.0} ms: {}", task.verb.as_str(), began.elapsed().as_secs_f64() * 1e3, agent::fit(&done.1));
        done
    }

    pub async fn ok(&self, verb: &str, epoch: i64) -> Outcome {
        self.done(&self.task(verb, epoch)).await
    }

    pub async fn done(&self, task: &Task) -> Outcome {
        let (code, outcome) = self.perform(task).await;
        assert_eq!(code, 0, "{outcome:?}");
        outcome
    }

    pub async fn refused(&self, task: &Task, code: i32, reason: &str) -> Outcome {
        let (got, outcome) = self.perform(task).await;
        let error = outcome.error.as_ref().unwrap_or_else(|| panic!("{outcome:?}"));
        assert_eq!((got, error.reason.as_str()), (code, reason), "{error:?}");
        outcome
    }

    pub fn control(&self) -> String {
        lockkeeper::data::postgres::quote::control_database(&self.environment)
    }

    /// Sets the state of the row, as a killed attempt would have left it.
    pub async fn set_state(&self, state: &str) {
        let boss = self.server.boss(&self.control()).await;
        boss.execute("UPDATE fence SET state = $1", &[&state]).await.unwrap();
    }

    pub async fn state(&self) -> (String, i64, Option<String>) {
        let boss = self.server.boss(&self.control()).await;
        let row = boss.query_one("SELECT state, epoch, holder FROM fence", &[]).await.unwrap();
        (row.get(0), row.get(1), row.get(2))
    }

    pub async fn databases(&self) -> Vec<String> {
        let boss = self.server.boss("postgres").await;
        let rows = boss
            .query("SELECT datname::text FROM pg_database WHERE starts_with(datname, $1) ORDER BY 1", &[&self.database])
            .await
            .unwrap();
        rows.iter().map(|r| r.get(0)).collect()
    }

    pub async fn rows(&self) -> i64 {
        self.as_app().await.query_one("SELECT count(*) FROM orders", &[]).await.unwrap().get(0)
    }
}

pub async fn wait_until(mut fine: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !fine().await {
        assert!(began.elapsed() < Duration::from_secs(10), "it did not come true within 10 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .flat_map(|e| if e.path().is_dir() { files_below(&e.path()) } else { vec![e.path()] })
        .collect()
}

fn encode(text: &str) -> String {
    text.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Things that are easily lost: extensions, checks that read back otherwise, identity, generated columns, partitions,
/// inheritance, enums, large objects, quotes in names, a sequence that was never used.
const CONTENT: &str = r#"
CREATE EXTENSION citext;
DO $$ BEGIN CREATE EXTENSION pgcrypto; EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'this server was built without it'; END $$;
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer citext NOT NULL, amount numeric(12,2),
  at timestamptz DEFAULT now(), extra jsonb, twice numeric GENERATED ALWAYS AS (amount * 2) STORED, mood mood,
  status varchar(10) CHECK (status IN ('new', 'paid')));
INSERT INTO orders (customer, amount, extra, mood, status)
  SELECT 'Customer ' || i, i * 1.5, jsonb_build_object('n', i), 'glad', 'new' FROM generate_series(1, 2000) i;
CREATE INDEX ON orders (customer);
CREATE SCHEMA "Odd ""one";
CREATE TABLE "Odd ""one"."T a" ("c""1" float8, t text, b bytea);
INSERT INTO "Odd ""one"."T a" VALUES (0.1, E'tab\tand\nline', '\x00ff'), ('NaN', NULL, NULL), ('-Infinity', '', '');
CREATE TABLE parted (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE parted_a PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_b PARTITION OF parted FOR VALUES FROM (10) TO (20);
INSERT INTO parted SELECT i, i::text FROM generate_series(0, 19) i;
CREATE TABLE parent (a int); CREATE TABLE child (b int) INHERITS (parent); INSERT INTO child VALUES (1, 2);
CREATE TABLE empty (); INSERT INTO empty DEFAULT VALUES;
CREATE UNLOGGED TABLE unlogged (a int); INSERT INTO unlogged VALUES (1);
CREATE SEQUENCE unused; CREATE SEQUENCE used; SELECT nextval('used'); SELECT nextval('used');
CREATE VIEW big AS SELECT * FROM orders WHERE amount > 100;
CREATE MATERIALIZED VIEW total AS SELECT sum(amount) AS s FROM orders;
CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER bump BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION bump();
CREATE PUBLICATION a_few FOR TABLE parted_a;
ALTER TABLE parent ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON parent USING (a > 0);
SELECT lo_from_bytea(0, 'a large object');
COMMENT ON TABLE orders IS 'orders';
"#;
