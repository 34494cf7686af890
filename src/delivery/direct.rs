//! Direct delivery: the operator patches images and configuration itself. It refuses workloads whose fields another
//! program owns, because that program would put its own values back.

use crate::plan::workload::Workload;

/// Marks of programs that own a workload: where the mark stands, and the program.
const OWNERS: [(&str, &str); 5] = [
    ("argocd.argoproj.io/tracking-id", "Argo CD"),
    ("argocd.argoproj.io/instance", "Argo CD"),
    ("kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("helm.toolkit.fluxcd.io/name", "Flux"),
    ("meta.helm.sh/release-name", "Helm"),
];

/// Why a workload cannot be delivered directly. `None`: it can.
pub fn refuse(workload: Workload<'_>) -> Option<String> {
    let name = workload.reference();
    let owner = OWNERS
        .iter()
        .find(|(mark, _)| workload.annotations().contains_key(*mark) || workload.labels().contains_key(*mark))
        .map(|(mark, program)| (*mark, *program))?;
    Some(format!(
        "{name} belongs to {} ({}), which would put its own images back: take the workload out of it, or wait for its own delivery",
        owner.1, owner.0
    ))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use kube::ResourceExt;

    use super::*;

    #[test]
    fn a_workload_of_another_program_is_refused_by_name() {
        let mut deployment = Deployment::default();
        deployment.metadata.name = Some("web".into());
        assert_eq!(refuse(Workload::Deployment(&deployment)), None);
        deployment.annotations_mut().insert("argocd.argoproj.io/tracking-id".into(), "x".into());
        assert!(refuse(Workload::Deployment(&deployment)).is_some_and(|m| m.contains("web") && m.contains("Argo CD")));
    }
}
