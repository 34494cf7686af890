//! (d) The image is gone from the registry by the time it is needed.

use std::{path::PathBuf, process::Command};

use lockkeeper::api::Phase;

use super::{
    cluster::{cluster, run},
    outcome::{self, Before},
    users::Users,
    world::World,
};

#[test]
fn story_an_image_that_is_gone_is_noticed_before_anyone_is_locked_out() {
    let image = build();
    let world = World::with_image("image", &image);
    let users = Users::of(&world, "image", "*/*", 1);
    let before = Before::of(&world, &users, 1);

    world.ask(&world.promotion("image"));
    world.planned("image");
    destroy(&image);
    world.approve("image");
    let promotion = world.reaches("image", &[Phase::Failed]);
    let testimony = users.heard();

    outcome::untouched(&world, &promotion, &before, &testimony);
    let failure = promotion.status.and_then(|s| s.failure).expect("a failure");
    assert_eq!((failure.step.as_str(), failure.reason.as_str()), ("preflight", "PreflightFailed"), "{failure:?}");
    for words in [image.as_str(), "cannot be pulled", &world.production, "push it"] {
        assert!(failure.message.contains(words), "the failure does not say {words:?}: {}", failure.message);
    }
}

/// An image of the application of its own name and digest, so that it can be destroyed.
fn build() -> String {
    let context = cluster().tiny.parent().expect("a directory");
    let built = run(
        Command::new("tests/cluster/build-image.sh")
            .args(["tiny-gone:2"])
            .arg(context)
            .arg(context.join("Dockerfile"))
            .args(["--no-cache", "--build-arg", "RELEASE=2", "--label", "for=destruction"])
            .current_dir(env!("CARGO_MANIFEST_DIR")),
        "",
    );
    built.expect("the image is built").trim().to_owned()
}

/// Takes the image out of the registry and off the node; the pod that runs it stays.
fn destroy(image: &str) {
    let (name, digest) = image.split_once('@').expect("a reference by digest");
    let (registry, name) = name.split_once('/').expect("a registry");
    let url = format!("http://{registry}/v2/{name}/manifests/{digest}");
    run(Command::new("curl").args(["--noproxy", "*", "-fsS", "-X", "DELETE", &url]), "").expect("the registry forgets it");
    let kubeconfig = PathBuf::from(std::env::var_os("KUBECONFIG").expect("a path"));
    let socket = kubeconfig.parent().expect("a directory").join("run/containerd.sock");
    let ctr =
        |arguments: &[&str]| run(Command::new("ctr").arg("-a").arg(&socket).args(["-n", "k8s.io", "images"]).args(arguments), "");
    let known = ctr(&["ls", "-q"]).expect("images of the node");
    for reference in known.lines().filter(|line| line.contains(&format!("/{name}"))) {
        ctr(&["rm", "--sync", reference]).expect("the node forgets it");
    }
}
