//! The cluster: its tools, clients for its people, the operator in it, the images of the small application.

use std::{
    collections::BTreeMap,
    env,
    future::Future,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, Config, api::DeleteParams};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

use super::support::tool;

/// Where the operator is.
pub const OPERATOR_NAMESPACE: &str = "lockkeeper-system";
/// The project.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What every story needs, made once.
pub struct Cluster {
    /// References by digest, by name: `tiny:1`.
    images: BTreeMap<String, String>,
    /// The small application's program: the writer and the poller run on the host.
    pub tiny: PathBuf,
}

/// The cluster. The first call installs the operator, where an image is named, and builds the application's images.
///
/// # Panics
/// With the same sentence at each call, where there is no cluster.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
    match CLUSTER.get_or_init(Cluster::start) {
        Ok(cluster) => cluster,
        Err(why) => panic!("{why}"),
    }
}

impl Cluster {
    fn start() -> Result<Self, String> {
        if env::var_os("KUBECONFIG").is_none_or(|path| path.is_empty()) {
            return Err("KUBECONFIG is not set: the stories need the cluster of tests/cluster; run `make test`, or \
                        `export KUBECONFIG=$(tests/cluster/up.sh)`, or leave them out with `cargo test -- --skip story_`"
                .into());
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        if let Some(image) = env::var("LOCKKEEPER_E2E_IMAGE").ok().filter(|image| !image.is_empty()) {
            install(&image)?;
        }
        let mut images = BTreeMap::new();
        for script in ["tests/apps/tiny/build.sh", "tests/apps/postgres/build.sh"] {
            for line in run(Command::new(script).current_dir(ROOT), "")?.lines() {
                let (name, reference) = line.split_once(' ').ok_or(format!("{script} printed: {line}"))?;
                images.insert(name.to_owned(), reference.to_owned());
            }
        }
        let tiny = run(Command::new("tests/apps/tiny/build.sh").arg("--binary").current_dir(ROOT), "")?;
        Ok(Self { images, tiny: tiny.trim().into() })
    }

    /// The reference, by digest, of an image: `tiny:2-broken`.
    pub fn image(&self, name: &str) -> &str {
        self.images.get(name).unwrap_or_else(|| panic!("no image {name} was built"))
    }
}

/// Where the cluster keeps what is its own: etcd's files, the pods' logs, volumes.
pub fn state() -> PathBuf {
    let kubeconfig = PathBuf::from(env::var_os("KUBECONFIG").expect("KUBECONFIG is set"));
    kubeconfig.parent().expect("a directory").to_owned()
}

/// Installs the operator with this image, or upgrades it to that.
pub fn install(image: &str) -> Result<(), String> {
    let (repository, digest) = image.split_once('@').ok_or("LOCKKEEPER_E2E_IMAGE is no reference by digest: NAME@sha256:…")?;
    kubectl(&["apply", "-f", "deploy/namespace.yaml"])?;
    let settings = format!("image.repository={repository},image.digest={digest}");
    let arguments = ["upgrade", "--install", "lockkeeper", "charts/lockkeeper", "-n", OPERATOR_NAMESPACE];
    helm(&[&arguments[..], &["--set", &settings, "--wait", "--timeout", "3m"]].concat())?;
    // A run that was cut off may have left it at none, which helm does not see.
    kubectl(&["-n", OPERATOR_NAMESPACE, "scale", "deployment", "lockkeeper", "--replicas=1"])?;
    kubectl(&["-n", OPERATOR_NAMESPACE, "rollout", "status", "deployment", "lockkeeper", "--timeout=120s"])?;
    Ok(())
}

/// Runs a command; its standard output, or what it said of its failure.
pub fn run(command: &mut Command, input: &str) -> Result<String, String> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{shown}: {error}"))?;
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(|error| format!("{shown}: {error}"))?;
    let _ = feeder.join();
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{shown}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// kubectl, as the cluster's administrator.
pub fn kubectl(arguments: &[&str]) -> Result<String, String> {
    kubectl_with(arguments, "")
}

/// Applies manifests.
pub fn apply(manifests: &str) -> Result<(), String> {
    let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    kubectl_with(&arguments, manifests).map(drop)
}

/// kubectl with something to read: `exec -i`.
pub fn kubectl_with(arguments: &[&str], input: &str) -> Result<String, String> {
    run(Command::new(tool("kubectl")).args(arguments).current_dir(ROOT), input)
}

/// helm.
pub fn helm(arguments: &[&str]) -> Result<String, String> {
    run(Command::new(tool("helm")).args(arguments).current_dir(ROOT), "")
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime"));

/// The runtime on which clients live.
pub fn runtime() -> &'static Runtime {
    &RUNTIME
}

/// Waits for a request's answer.
pub fn wait<T>(request: impl Future<Output = T>) -> T {
    RUNTIME.block_on(request)
}

/// A client as the cluster's administrator, or as somebody else by impersonation.
pub fn client(person: Option<&str>) -> Client {
    wait(async {
        let mut config = Config::infer().await.expect("KUBECONFIG names a cluster");
        config.read_timeout = Some(Duration::from_secs(300)); // watches end by themselves before
        config.auth_info.impersonate = person.map(str::to_owned);
        Client::try_from(config).expect("a client")
    })
}

/// Asks until there is an answer.
///
/// # Panics
/// With the last refusal, when the time is over.
pub fn eventually<T>(what: &str, within: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match attempt() {
            Ok(answer) => return answer,
            Err(why) => assert!(begun.elapsed() < within, "{what}, not within {within:?}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Kills the operator's pod as a node that dies would: at once, without a word. Its Deployment makes another.
pub fn kill_operator() {
    let selector = "app.kubernetes.io/name=lockkeeper";
    kubectl(&["-n", OPERATOR_NAMESPACE, "delete", "pod", "-l", selector, "--grace-period=0", "--force", "--wait=false"])
        .expect("the operator's pod is deleted");
}

/// Ends the operator's process between two instructions, from outside of its container, and lets another begin at once: its
/// pod goes, and so does its Lease, whose term would only have to be sat out.
pub fn crash_operator() {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    eventually("there is an operator to kill", Duration::from_secs(60), || {
        let alive = processes("lockkeeper\0controller\0");
        if alive.is_empty() {
            return Err("none runs on this machine".into());
        }
        kill(&alive);
        Ok(())
    });
    let leases: Api<Lease> = Api::namespaced(client(None), OPERATOR_NAMESPACE);
    let _ = wait(leases.delete("lockkeeper", &DeleteParams::default()));
    kill_operator();
}

/// Processes of this machine, which is the cluster's node, whose command line begins so.
pub fn processes(begins: &str) -> Vec<Pid> {
    let all = std::fs::read_dir("/proc").expect("processes").flatten().filter_map(|entry| {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        Pid::from_raw(entry.file_name().to_str().filter(|_| line.starts_with(begins))?.parse().ok()?)
    });
    all.collect()
}

/// Ends processes without a word.
///
/// # Panics
/// Where there was none.
pub fn kill(processes: &[Pid]) {
    let killed = processes.iter().filter(|pid| kill_process(**pid, Signal::KILL).is_ok()).count();
    assert!(killed > 0, "nothing to kill: does it run on another machine?");
}

/// The node's kubelet is dead. It comes back when this goes.
pub struct Kubelet;

impl Kubelet {
    /// Kills it.
    pub fn killed() -> Self {
        let dead = Self;
        kill(&processes(&format!("{}\0", tool("kubelet").display())));
        dead
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if let Err(why) = run(Command::new("tests/cluster/up.sh").current_dir(ROOT), "") {
            println!("the kubelet does not come back: {why}");
        }
    }
}
