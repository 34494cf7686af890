//! What several test programs share: where the tools are. Not every program needs all of it.

#![allow(dead_code)]

use std::{env, path::PathBuf, process::Command};

/// The path of a tool that `make test` puts in place: etcd, kube-apiserver, kubectl, helm.
///
/// # Panics
/// Where the tool is missing.
pub fn tool(name: &str) -> PathBuf {
    let bin = env::var_os("LOCKKEEPER_TEST_BIN").map(PathBuf::from).unwrap_or_else(|| cache().join("cluster/bin"));
    let path = bin.join(name);
    assert!(path.exists(), "{} is missing: run `make test`, which builds it first", path.display());
    path
}

fn cache() -> PathBuf {
    let of = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    of("LOCKKEEPER_CACHE").unwrap_or_else(|| {
        let base = of("XDG_CACHE_HOME").or_else(|| of("HOME").map(|home| home.join(".cache")));
        base.unwrap_or_else(|| "/var/cache".into()).join("lockkeeper")
    })
}

/// What helm makes of a chart of ours.
///
/// # Panics
/// Where helm refuses it.
pub fn rendered(chart: &str, release: &str, namespace: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool("helm"))
        .args(["template", release, chart, "--namespace", namespace, "--kube-version", "1.35.0"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("helm starts");
    assert!(output.status.success(), "helm template {chart}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("helm prints text")
}
