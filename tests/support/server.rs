//! A real API server over a real etcd, with the chart applied: one for a test program, and gone when that ends, however it ends.

use std::{
    cell::RefCell,
    collections::HashMap,
    fs,
    io::Write,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use k8s_openapi::api::{authorization::v1::SubjectAccessReview, core::v1::Namespace, rbac::v1::RoleBinding};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};

use super::support::{rendered, tool};

/// Namespace and name of the operator's ServiceAccount in these tests. Not the chart's own, so that nothing relies on that.
pub const OPERATOR: (&str, &str) = ("platform", "keeper");
/// A name that may write all our objects in every namespace and has none of the verbs.
pub const WRITER: &str = "mallory";

const TOKEN: &str = "for-the-tests-on-this-machine-only";

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    // On a thread of its own, since the test that comes first is inside a runtime already.
    thread::spawn(|| {
        let server = Server::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(server.prepare());
        server
    })
    .join()
    .expect("the API server starts")
});

struct Server {
    port: u16,
    dir: PathBuf,
    /// Holds the other end of a pipe. When the test program ends, by whatever cause, that closes, and the keeper ends the
    /// servers and itself.
    _keeper: Child,
}

/// Ends the two servers once its standard input closes, and takes their directory along.
const KEEPER: &str = r#"
cd "$1" || exit 1
"$1/etcd" --data-dir="$1/data" --unsafe-no-fsync --log-level=error \
  --listen-client-urls="http://127.0.0.1:$2" --advertise-client-urls="http://127.0.0.1:$2" \
  --listen-peer-urls="http://127.0.0.1:$3" --initial-advertise-peer-urls="http://127.0.0.1:$3" \
  --initial-cluster="default=http://127.0.0.1:$3" >etcd.log 2>&1 </dev/null &
etcd=$!
"$1/kube-apiserver" --etcd-servers="http://127.0.0.1:$2" --bind-address=127.0.0.1 --secure-port="$4" --cert-dir="$1/certs" \
  --token-auth-file="$1/tokens.csv" --authorization-mode=RBAC --disable-admission-plugins=ServiceAccount \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$1/sa.key" \
  --service-account-signing-key-file="$1/sa.key" --service-cluster-ip-range=10.98.0.0/24 >api.log 2>&1 </dev/null &
api=$!
read -r _
kill -9 $api $etcd
wait
rm -rf "$1"
"#;

impl Server {
    fn start() -> Self {
        // Links of our own: what goes by another path may be taken for a part of the test cluster and be ended with it.
        let dir = tempfile::tempdir().expect("a directory").keep();
        for name in ["etcd", "kube-apiserver"] {
            let program = fs::canonicalize(tool(name)).expect("a program");
            std::os::unix::fs::symlink(program, dir.join(name)).expect("a link");
        }
        fs::write(dir.join("tokens.csv"), format!("{TOKEN},admin,admin,\"system:masters\"\n")).expect("a file");
        let key = Command::new("openssl")
            .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
            .arg(dir.join("sa.key"))
            .output()
            .expect("openssl makes the key that signs ServiceAccount tokens: install it");
        assert!(key.status.success(), "openssl: {}", String::from_utf8_lossy(&key.stderr));

        let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let ports: Vec<u16> = listeners.iter().map(|l| l.local_addr().expect("an address").port()).collect();
        drop(listeners);
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(&dir)
            .args(ports.iter().map(u16::to_string))
            .process_group(0) // Ctrl-C ends the tests; the keeper sees that by its pipe
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh starts");
        Self { port: ports[2], dir, _keeper: keeper }
    }

    fn kubectl(&self, arguments: &[&str], input: &str) -> Result<(), String> {
        let mut child = Command::new(tool("kubectl"))
            .args([
                &format!("--server=https://127.0.0.1:{}", self.port),
                "--insecure-skip-tls-verify",
                &format!("--token={TOKEN}"),
            ])
            .args(arguments)
            .env("KUBECONFIG", "/dev/null")
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("kubectl reads");
        let output = child.wait_with_output().expect("kubectl ends");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Applies the chart and waits until each policy is seen to refuse something.
    async fn prepare(&self) {
        let begun = Instant::now();
        while let Err(why) = self.kubectl(&["get", "--raw", "/readyz"], "") {
            let log = fs::read_to_string(self.dir.join("api.log")).unwrap_or_default();
            let given_up = begun.elapsed() > Duration::from_secs(60) || log.contains("\"command failed\"");
            assert!(!given_up, "the API server is not ready: {why}\n{log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let chart = rendered("charts/lockkeeper", OPERATOR.1, OPERATOR.0, &[]);
        self.kubectl(&["create", "namespace", OPERATOR.0], "").expect("a namespace");
        // A Job of the chart's hooks stands behind policies whose parameters' kinds were made by the same request.
        while let Err(why) = self.kubectl(&["apply", "--server-side", "-f", "-"], &chart) {
            let passes = why.contains("not yet synced") && begun.elapsed() < Duration::from_secs(120);
            assert!(passes, "the chart applies: {why}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"], "")
            .expect("the definitions are served");
        self.kubectl(&["apply", "--server-side", "-f", "-"], &writer_role()).expect("a role for the tests");
        self.until_in_force().await;
    }

    fn client(&self, user: Option<(&str, &[&str])>) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = Config::new(format!("https://127.0.0.1:{}", self.port).parse().expect("a URL"));
        // The certificate that the server made for itself; without it each client would read all those of the machine.
        let own = CertificateDer::pem_file_iter(self.dir.join("certs/apiserver.crt")).expect("the server's certificate");
        config.root_cert = Some(own.map(|certificate| certificate.expect("PEM").to_vec()).collect());
        config.accept_invalid_certs = true; // its names are those of the machine, not of the loopback
        config.read_timeout = Some(Duration::from_secs(20));
        config.auth_info.token = Some(TOKEN.to_owned().into());
        if let Some((name, groups)) = user {
            config.auth_info.impersonate = Some(name.to_owned());
            config.auth_info.impersonate_groups = Some(groups.iter().map(|group| (*group).to_owned()).collect());
        }
        Client::try_from(config).expect("a client")
    }

    async fn until_in_force(&self) {
        let ns = "probe";
        let (admin, writer, operator) = (self.client(None), self.client(Some((WRITER, &[]))), self.operator());
        make_namespace(&admin, ns).await;
        eventually(async || {
            api(&admin, ns, "Environment").create(&PostParams::default(), &environment("production", ns, "elsewhere")).await
        })
        .await;
        let made = promotion("probe", "production", ("elsewhere", "staging"), "admin");
        eventually(async || api(&admin, ns, "Promotion").create(&PostParams::default(), &made).await).await;
        let status = json!({"phase": "Scheduled", "planHash": PLAN});
        set_status(&operator, ns, "probe", &status).await;

        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let dry_patch = PatchParams { dry_run: true, ..PatchParams::default() };
        let approval = |name: &str, groups: &[&str]| json!({"spec": {"approvals": [{"username": name, "groups": groups, "planHash": PLAN}]}});
        denied("lockkeeper-promotion", async || {
            api(&writer, ns, "Promotion").create(&dry, &promotion("forged", "production", ("a", "b"), "alice")).await
        })
        .await;
        denied("lockkeeper-backup", async || {
            api(&writer, ns, "EnvironmentBackup").create(&dry, &backup("b", "production")).await
        })
        .await;
        denied("lockkeeper-metadata", async || {
            let mut forged = environment("production", ns, "elsewhere");
            forged.metadata.finalizers = Some(vec!["example.com/mine".to_owned()]);
            api(&writer, ns, "Environment").create(&dry, &forged).await
        })
        .await;
        denied("lockkeeper-environment", async || {
            api(&admin, ns, "Environment").create(&dry, &environment("other", ns, "elsewhere")).await
        })
        .await;
        denied("lockkeeper-status", async || {
            api(&writer, ns, "Promotion")
                .patch_status("probe", &dry_patch, &Patch::Merge(json!({"status": {"step": "mine"}})))
                .await
        })
        .await;
        denied("lockkeeper-promotion-approval", async || {
            api(&writer, ns, "Promotion").patch("probe", &dry_patch, &Patch::Merge(approval("bob", &[]))).await
        })
        .await;
        denied("lockkeeper-promotion-self-approval", async || {
            let groups = ["system:masters", "system:authenticated"];
            api(&admin, ns, "Promotion").patch("probe", &dry_patch, &Patch::Merge(approval("admin", &groups))).await
        })
        .await;
        denied("lockkeeper-promotion-delete", async || {
            api(&writer, ns, "Promotion").delete("probe", &DeleteParams { dry_run: true, ..DeleteParams::default() }).await
        })
        .await;
    }

    fn operator(&self) -> Client {
        let (namespace, name) = OPERATOR;
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        self.client(Some((&operator_name_of(namespace, name), &groups.each_ref().map(String::as_str))))
    }
}

fn operator_name_of(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// URL of the API server, and the administrator's token.
#[allow(dead_code)]
pub fn address() -> (String, &'static str) {
    (format!("https://127.0.0.1:{}", SERVER.port), TOKEN)
}

/// Tries until it works: a definition is served a moment after it is Established.
pub async fn eventually<T, E: std::fmt::Display>(attempt: impl AsyncFn() -> Result<T, E>) -> T {
    let begun = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Tries until the policy of that name refuses.
async fn denied<T>(policy: &str, attempt: impl AsyncFn() -> Result<T, kube::Error>) {
    let begun = Instant::now();
    loop {
        let seen = match attempt().await {
            Ok(_) => "it was let through".to_owned(),
            Err(kube::Error::Api(status)) if status.message.contains(&format!("'{policy}'")) => return,
            Err(error) => error.to_string(),
        };
        assert!(begun.elapsed() < Duration::from_secs(20), "{policy} is not in force: {seen}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// All that RBAC can give on our objects, status included, and none of the verbs: what is refused is refused by a policy.
fn writer_role() -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "writer"}, "rules": [{
            "apiGroups": ["lockkeeper.dev"],
            "resources": ["environments", "promotions", "environmentbackups", "environmentrestores", "downalignments", "environments/status", "promotions/status", "environmentbackups/status", "environmentrestores/status", "downalignments/status"],
            "verbs": ["get", "list", "create", "update", "patch", "delete", "deletecollection"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "writer"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writer"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": WRITER},
                {"kind": "ServiceAccount", "namespace": "kube-system", "name": "namespace-controller"},
                {"kind": "ServiceAccount", "namespace": "kube-system", "name": "generic-garbage-collector"}]}
    ]})
    .to_string()
}

// --- what tests use

/// A plan hash of the right form, and another.
pub const PLAN: &str = "v1:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// See [`PLAN`].
pub const OTHER_PLAN: &str = "v1:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// The directory's objects of one of our kinds.
pub fn api(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("lockkeeper.dev", "v1alpha1", kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// An object of JSON.
pub fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).expect("an object")
}

/// The smallest Environment of the design, in a namespace, with one source.
pub fn environment(name: &str, namespace: &str, source: &str) -> DynamicObject {
    object(json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Environment", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "tier": "Production",
            "promotesFrom": [{"namespace": source, "name": "staging"}],
            "modules": [{"name": "flags", "workloads": [{"kind": "Deployment", "name": "unleash"}], "migration": {"command": ["node", "migrate.mjs"]}}],
            "data": [{"name": "flags-db", "postgres": {"connectionSecret": {"name": "unleash-db"}}}],
            "backups": {"repository": {"volume": {"claim": {"name": "backups"}}}, "passwordSecret": {"name": "backup-key"}}
        }
    }))
}

/// A Promotion as a person writes it.
pub fn promotion(name: &str, target: &str, (namespace, source): (&str, &str), requester: &str) -> DynamicObject {
    object(json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion", "metadata": {"name": name},
        "spec": {"environment": {"name": target}, "from": {"namespace": namespace, "name": source}, "requestedBy": {"username": requester}}
    }))
}

/// An EnvironmentBackup as a person writes it.
pub fn backup(name: &str, target: &str) -> DynamicObject {
    object(json!({
        "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "EnvironmentBackup", "metadata": {"name": name},
        "spec": {"environment": {"name": target}, "reason": "before a test"}
    }))
}

/// Status as the operator writes it: the whole object, as it was read.
async fn set_status(operator: &Client, namespace: &str, name: &str, status: &Value) {
    let api = api(operator, namespace, "Promotion");
    eventually(async || {
        let mut read = api.get(name).await?;
        read.data["status"] = status.clone();
        api.replace_status(name, &PostParams::default(), &read).await
    })
    .await;
}

async fn make_namespace(admin: &Client, name: &str) {
    let namespace = Namespace {
        metadata: kube::core::ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
        ..Default::default()
    };
    Api::all(admin.clone()).create(&PostParams::default(), &namespace).await.expect("a namespace");
}

/// Two namespaces of a test's own, with their Environments and the people of the stories.
///
/// alice asks (requester here, promoter there), bob and carol approve, olga owns, mallory may write everything and has no
/// verb, dave may only look.
pub struct World {
    /// Namespace of the source.
    pub staging: String,
    /// Namespace of the target.
    pub production: String,
    /// Connections, one a person. They belong to the test's runtime, so the tests do not share them.
    clients: RefCell<HashMap<String, Client>>,
}

impl World {
    /// Makes it. Names of tests differ, so their worlds do.
    pub async fn new(name: &str) -> Self {
        let (staging, production) = (format!("{name}-staging"), format!("{name}-production"));
        let world = Self { staging, production, clients: RefCell::default() };
        let admin = world.admin();
        for namespace in [&world.staging, &world.production] {
            make_namespace(&admin, namespace).await;
        }
        let post = PostParams::default();
        api(&admin, &world.staging, "Environment")
            .create(&post, &object(json!({
                "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Environment", "metadata": {"name": "staging"},
                "spec": {"tier": "Staging", "modules": [{"name": "flags", "workloads": [{"kind": "Deployment", "name": "unleash"}]}]}
            })))
            .await
            .expect("the source");
        api(&admin, &world.production, "Environment")
            .create(&post, &environment("production", &world.production, &world.staging))
            .await
            .expect("the target");
        world.bind(&world.staging, "promoter", &["alice"]).await;
        world.bind(&world.production, "requester", &["alice", "pipeline"]).await;
        world.bind(&world.production, "approver", &["bob", "carol"]).await;
        world.bind(&world.production, "owner", &["olga"]).await;
        world.bind(&world.production, "viewer", &["dave"]).await;
        world
    }

    /// A namespace of the test's own that has no Environment.
    pub async fn empty(&self) -> String {
        let namespace = self.production.replace("-production", "-empty");
        make_namespace(&self.admin(), &namespace).await;
        namespace
    }

    /// Gives people a role of the chart in a namespace.
    pub async fn bind(&self, namespace: &str, role: &str, users: &[&str]) {
        let subjects: Vec<Value> =
            users.iter().map(|user| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user})).collect();
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {"name": format!("{role}-{}", users.first().unwrap_or(&"nobody"))},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": format!("lockkeeper-{role}")},
            "subjects": subjects
        }))
        .expect("a RoleBinding");
        Api::namespaced(self.admin(), namespace).create(&PostParams::default(), &binding).await.expect("a RoleBinding");
        let (resource, verb) = match role {
            "promoter" => ("environments", "promote"),
            "requester" => ("environments", "modify"),
            "approver" => ("environments", "approve"),
            "owner" => ("environments", "backup"),
            _ => ("promotions", "get"),
        };
        // The authorizer learns of it a moment later.
        eventually(async || {
            let may = self.may(users[0], namespace, "lockkeeper.dev", resource, verb).await;
            may.then_some(()).ok_or(format!("{} may not {verb} {resource}", users[0]))
        })
        .await;
    }

    /// Whether a person may do something, as the authorizer sees it now.
    pub async fn may(&self, user: &str, namespace: &str, group: &str, resource: &str, verb: &str) -> bool {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes =
            json!({"namespace": namespace, "group": group, "resource": resource, "subresource": subresource, "verb": verb});
        let review: SubjectAccessReview = serde_json::from_value(
            json!({"metadata": {}, "spec": {"user": user, "groups": groups(), "resourceAttributes": attributes}}),
        )
        .expect("a review");
        let review = Api::all(self.admin()).create(&PostParams::default(), &review).await.expect("a review");
        review.status.expect("an answer").allowed
    }

    /// The cluster's administrator, whom RBAC refuses nothing.
    pub fn admin(&self) -> Client {
        self.client("admin", || SERVER.client(None))
    }

    fn client(&self, name: &str, make: impl FnOnce() -> Client) -> Client {
        self.clients.borrow_mut().entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// The operator.
    pub fn operator(&self) -> Client {
        self.client("operator", || SERVER.operator())
    }

    /// The operator's name.
    pub fn operator_name(&self) -> String {
        operator_name_of(OPERATOR.0, OPERATOR.1)
    }

    /// A person, in the groups [`groups_of`].
    pub fn user(&self, name: &str) -> Client {
        self.client(name, || SERVER.client(Some((name, &["team"]))))
    }

    /// A person in other groups.
    pub fn user_in(&self, name: &str, groups: &[&str]) -> Client {
        SERVER.client(Some((name, groups)))
    }

    /// A person's view of the target's Promotions.
    pub fn promotions(&self, user: &str) -> Api<DynamicObject> {
        api(&self.user(user), &self.production, "Promotion")
    }

    /// A Promotion from this world's source to its target.
    pub fn promotion(&self, name: &str, requester: &str) -> DynamicObject {
        promotion(name, "production", (&self.staging, "staging"), requester)
    }

    /// alice asks, and the operator has made a plan of it.
    pub async fn planned(&self, name: &str) -> DynamicObject {
        let made =
            self.promotions("alice").create(&PostParams::default(), &self.promotion(name, "alice")).await.expect("alice asks");
        self.in_phase(name, "Scheduled").await;
        made
    }

    /// The operator writes a phase, with the plan [`PLAN`].
    pub async fn in_phase(&self, name: &str, phase: &str) {
        set_status(&self.operator(), &self.production, name, &json!({"phase": phase, "planHash": PLAN})).await;
    }

    /// The operator writes a status.
    pub async fn with_status(&self, name: &str, status: Value) {
        set_status(&self.operator(), &self.production, name, &status).await;
    }

    /// Adds a finalizer as the operator does.
    pub async fn hold(&self, name: &str) {
        let patch = json!({"metadata": {"finalizers": ["lockkeeper.dev/run"]}});
        api(&self.operator(), &self.production, "Promotion")
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .expect("the operator sets its finalizer");
    }

    /// Names of a kind's objects in the target.
    pub async fn names(&self, kind: &str) -> Vec<String> {
        let list = api(&self.admin(), &self.production, kind).list(&Default::default()).await.expect("a list");
        list.items.iter().map(ResourceExt::name_any).collect()
    }
}

/// The groups of each person here, as the API server completes them.
pub fn groups() -> Vec<&'static str> {
    vec!["team", "system:authenticated"]
}

/// The API server's own name, for a kubectl of one's own.
pub fn kubectl(arguments: &[&str], input: &str) -> Result<(), String> {
    SERVER.kubectl(arguments, input)
}

/// Asserts a refusal: its code, and that its sentence holds a text.
#[track_caller]
pub fn refused<T>(result: Result<T, kube::Error>, code: u16, text: &str) {
    match result {
        Ok(_) => panic!("was let through; expected {code} with: {text}"),
        Err(kube::Error::Api(status)) => {
            assert_eq!(status.code, code, "{}", status.message);
            assert!(status.message.contains(text), "expected «{text}» in:\n{}", status.message);
        }
        Err(error) => panic!("not the API server's answer: {error}"),
    }
}
