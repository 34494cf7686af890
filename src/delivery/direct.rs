//! Direct delivery: the operator patches images and configuration itself. It refuses workloads that another program owns,
//! because that program would put its own values back, unless that program is seen to rest.

use std::{collections::BTreeMap, fmt};

use crate::{api::rights, plan::workload::Workload};

/// A kind of object by which a program owns workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnerKind {
    /// Argo CD's Application.
    Application,
    /// Flux's Kustomization.
    Kustomization,
    /// Flux's HelmRelease.
    HelmRelease,
}

/// The object of another program that owns a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Its kind.
    pub kind: OwnerKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Argo CD's own namespace, where its mark names no other.
const ARGO_NAMESPACE: &str = "argocd";
const ARGO_ID: &str = "argocd.argoproj.io/tracking-id";
const ARGO_INSTANCE: &str = "argocd.argoproj.io/instance";
const FLUX: [(OwnerKind, &str, &str); 2] = [
    (OwnerKind::Kustomization, "kustomize.toolkit.fluxcd.io/name", "kustomize.toolkit.fluxcd.io/namespace"),
    (OwnerKind::HelmRelease, "helm.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/namespace"),
];
/// By this annotation Flux leaves one object alone.
const FLUX_RECONCILE: &str = "kustomize.toolkit.fluxcd.io/reconcile";
const HELM: &str = "meta.helm.sh/release-name";

fn mark<'a>(workload: Workload<'a>, key: &str) -> Option<&'a str> {
    workload.annotations().get(key).or_else(|| workload.labels().get(key)).map(String::as_str)
}

/// The object of a program that puts a workload back by itself. `None`: there is no mark of one.
pub fn owner(workload: Workload<'_>) -> Option<(Owner, &'static str)> {
    let own = || workload.metadata().namespace.clone().unwrap_or_default();
    if let Some(id) = mark(workload, ARGO_ID) {
        let application = id.split(':').next().unwrap_or(id);
        let (namespace, name) = application.split_once('_').unwrap_or((ARGO_NAMESPACE, application));
        return Some((Owner { kind: OwnerKind::Application, namespace: namespace.into(), name: name.into() }, ARGO_ID));
    }
    for (kind, name_key, namespace_key) in FLUX {
        if let Some(name) = mark(workload, name_key) {
            let namespace = mark(workload, namespace_key).map_or_else(own, str::to_owned);
            return Some((Owner { kind, namespace, name: name.into() }, name_key));
        }
    }
    let name = mark(workload, ARGO_INSTANCE)?;
    Some((Owner { kind: OwnerKind::Application, namespace: ARGO_NAMESPACE.into(), name: name.into() }, ARGO_INSTANCE))
}

/// Whether an owner, as it was read, leaves what it owns alone.
pub fn rests(kind: OwnerKind, object: &serde_json::Value) -> bool {
    match kind {
        OwnerKind::Application => {
            let automated = &object["spec"]["syncPolicy"]["automated"];
            automated.is_null()
                || automated["enabled"] == false
                || object["metadata"]["annotations"]["argocd.argoproj.io/skip-reconcile"] == "true"
        }
        OwnerKind::Kustomization | OwnerKind::HelmRelease => object["spec"]["suspend"] == true,
    }
}

/// Why a workload cannot be delivered directly. `None`: it can. `owners`: of those that could be read, whether they rest.
pub fn refuse(workload: Workload<'_>, owners: &BTreeMap<Owner, bool>) -> Option<String> {
    let reference = workload.reference();
    let Some((owner, mark)) = owner(workload) else {
        return workload.annotations().contains_key(HELM).then(|| {
            format!(
                "{reference} belongs to Helm ({HELM}), whose next upgrade would put its own images back: take the workload out of the \
                 release, or wait for a delivery by Helm"
            )
        });
    };
    let seen = owners.get(&owner);
    let left_alone =
        owner.kind == OwnerKind::Kustomization && workload.annotations().get(FLUX_RECONCILE).is_some_and(|v| v == "disabled");
    if seen == Some(&true) || left_alone {
        return None;
    }
    let (program, how) = match owner.kind {
        OwnerKind::Application => ("Argo CD", "remove its spec.syncPolicy.automated".to_owned()),
        OwnerKind::Kustomization => (
            "Flux",
            format!(
                "flux suspend kustomization {} -n {}, or annotate the workload {FLUX_RECONCILE}=disabled",
                owner.name, owner.namespace
            ),
        ),
        OwnerKind::HelmRelease => ("Flux", format!("flux suspend helmrelease {} -n {}", owner.name, owner.namespace)),
    };
    let unseen = if seen.is_none() {
        format!(
            "; the operator cannot read it yet: a RoleBinding in {} to ClusterRole {} lets it",
            owner.namespace,
            rights::DELIVERY_ROLE
        )
    } else {
        String::new()
    };
    Some(format!(
        "{reference} belongs to {program} ({mark}), which would put its own images back: suspend {owner} for as long as runs take \
         ({how}){unseen}"
    ))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use serde_json::json;

    use super::*;

    fn marked(marks: serde_json::Value) -> Deployment {
        serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "shop", "labels": marks.clone(), "annotations": marks}}),
        )
        .unwrap()
    }

    #[test]
    fn a_workload_of_another_program_is_refused_until_that_is_seen_to_rest() {
        let of = |kind: OwnerKind, namespace: &str, name: &str| Owner { kind, namespace: namespace.into(), name: name.into() };
        assert_eq!(refuse(Workload::Deployment(&marked(json!({}))), &BTreeMap::new()), None);
        for (marks, owner, words) in [
            (
                json!({ARGO_ID: "shop:apps/Deployment:shop/web"}),
                of(OwnerKind::Application, "argocd", "shop"),
                "syncPolicy.automated",
            ),
            (json!({ARGO_ID: "teams_shop:apps/Deployment:shop/web"}), of(OwnerKind::Application, "teams", "shop"), "Argo CD"),
            (json!({ARGO_INSTANCE: "shop"}), of(OwnerKind::Application, "argocd", "shop"), "Argo CD"),
            (
                json!({"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}),
                of(OwnerKind::Kustomization, "flux-system", "apps"),
                "flux suspend kustomization apps -n flux-system",
            ),
            (
                json!({"helm.toolkit.fluxcd.io/name": "web"}),
                of(OwnerKind::HelmRelease, "shop", "web"),
                "flux suspend helmrelease web -n shop",
            ),
        ] {
            let web = marked(marks.clone());
            let web = Workload::Deployment(&web);
            let why = refuse(web, &BTreeMap::new()).unwrap_or_else(|| panic!("{marks} is not refused"));
            assert!(
                why.contains("Deployment web") && why.contains(words) && why.contains("ClusterRole lockkeeper-delivery"),
                "{why}"
            );
            let why = refuse(web, &BTreeMap::from([(owner.clone(), false)])).unwrap();
            assert!(why.contains(&owner.to_string()) && !why.contains("cannot read"), "{why}");
            assert_eq!(refuse(web, &BTreeMap::from([(owner, true)])), None, "{marks}");
        }
        let left = marked(json!({"kustomize.toolkit.fluxcd.io/name": "apps", FLUX_RECONCILE: "disabled"}));
        assert_eq!(refuse(Workload::Deployment(&left), &BTreeMap::new()), None);
        assert!(refuse(Workload::Deployment(&marked(json!({HELM: "shop"}))), &BTreeMap::new()).is_some());
    }

    #[test]
    fn an_owner_rests_where_it_is_suspended() {
        for (kind, object, expected) in [
            (OwnerKind::Application, json!({"spec": {"syncPolicy": {"automated": {"selfHeal": true}}}}), false),
            (OwnerKind::Application, json!({"spec": {"syncPolicy": {"automated": {"enabled": false}}}}), true),
            (OwnerKind::Application, json!({"spec": {}}), true),
            (OwnerKind::Kustomization, json!({"spec": {"suspend": true}}), true),
            (OwnerKind::HelmRelease, json!({"spec": {}}), false),
        ] {
            assert_eq!(rests(kind, &object), expected, "{object}");
        }
    }
}
