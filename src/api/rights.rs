//! What the operator may do, said once: the chart's roles are compared with these tables, and a right that an environment
//! lacks is looked for here. No Secrets, no wildcard, nothing that would let it gain more.

/// A rule of a role, in RBAC's own terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resources, with their subresource after a slash.
    pub resources: &'static [&'static str],
    /// Only objects of these names. Empty: all.
    pub names: &'static [&'static str],
    /// Verbs.
    pub verbs: &'static [&'static str],
}

const fn right(group: &'static str, resources: &'static [&'static str], verbs: &'static [&'static str]) -> Right {
    Right { group, resources, names: &[], verbs }
}

/// Name of the ClusterRole that a RoleBinding in an environment's namespace gives to the operator.
pub const ENVIRONMENT_ROLE: &str = "lockkeeper-environment";

/// In the namespace of each environment, by a RoleBinding there to ClusterRole [`ENVIRONMENT_ROLE`].
pub const ENVIRONMENT: &[Right] = &[
    right("batch", &["jobs"], &["get", "list", "watch", "create", "delete"]),
    right("", &["pods"], &["get", "list", "watch", "patch", "delete"]),
    right("", &["pods/log"], &["get"]),
    right("apps", &["deployments"], &["get", "list", "watch", "create", "patch", "delete"]),
    right("apps", &["statefulsets"], &["get", "list", "watch", "patch"]),
    right("batch", &["cronjobs"], &["get", "list", "watch", "patch"]),
    right("keda.sh", &["scaledobjects"], &["get", "list", "patch"]),
    right("apps", &["replicasets"], &["get", "list", "watch"]),
    right("discovery.k8s.io", &["endpointslices"], &["get", "list", "watch"]),
    right("", &["services", "configmaps"], &["get", "list", "watch", "create", "patch", "delete"]),
    right("", &["persistentvolumeclaims"], &["get"]),
    right("", &["events"], &["list"]),
    right("", &["resourcequotas", "limitranges"], &["get", "list"]),
];

/// Name of the ClusterRole that a RoleBinding in a namespace of Argo CD or Flux gives to the operator, where its people
/// want it to see whether they have suspended what owns an environment's workloads.
pub const DELIVERY_ROLE: &str = "lockkeeper-delivery";

/// In a namespace of Argo CD or Flux, by a RoleBinding there to ClusterRole [`DELIVERY_ROLE`].
pub const DELIVERY: &[Right] = &[
    right("argoproj.io", &["applications"], &["get"]),
    right("kustomize.toolkit.fluxcd.io", &["kustomizations"], &["get"]),
    right("helm.toolkit.fluxcd.io", &["helmreleases"], &["get"]),
];

/// In all namespaces, by a ClusterRoleBinding.
pub const OPERATOR: &[Right] = &[
    right("lockkeeper.dev", &["environments"], &["get", "list", "watch", "patch"]),
    right("lockkeeper.dev", &["downalignments"], &["get", "list", "watch", "create", "patch", "delete"]),
    right("lockkeeper.dev", &["promotions", "environmentrestores"], &["get", "list", "watch", "patch", "delete"]),
    right("lockkeeper.dev", &["environmentbackups"], &["get", "list", "watch", "create", "patch", "delete"]),
    right("lockkeeper.dev", &["maskingpolicies"], &["get", "list", "watch"]),
    right("lockkeeper.dev", &["maskingpolicies/status"], &["get", "update"]),
    right(
        "lockkeeper.dev",
        &[
            "environments/status",
            "promotions/status",
            "environmentbackups/status",
            "environmentrestores/status",
            "downalignments/status",
        ],
        &["get", "update"],
    ),
    right("events.k8s.io", &["events"], &["create", "patch"]),
    right("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
    right("", &["namespaces"], &["get"]),
    Right {
        group: "admissionregistration.k8s.io",
        resources: &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        names: super::policies::NAMES,
        verbs: &["get"],
    },
    Right {
        group: "apiextensions.k8s.io",
        resources: &["customresourcedefinitions"],
        names: super::policies::PARAMETERS,
        verbs: &["get"],
    },
];

/// In the operator's own namespace: the Lease by which one of several replicas leads.
pub const LEASE: &[Right] = &[right("coordination.k8s.io", &["leases"], &["get", "create", "patch"])];
