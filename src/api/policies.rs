//! The admission policies without which nothing starts. The chart carries them; the operator looks for each of them, and
//! for its binding, before it begins anything, because without them anyone could write approvals and status.

/// Names of the ValidatingAdmissionPolicies, and of their ValidatingAdmissionPolicyBindings, which are called the same.
pub const NAMES: &[&str] = &[
    "lockkeeper-promotion",
    "lockkeeper-promotion-approval",
    "lockkeeper-promotion-self-approval",
    "lockkeeper-promotion-delete",
    "lockkeeper-restore",
    "lockkeeper-alignment",
    "lockkeeper-environment",
    "lockkeeper-backup",
    "lockkeeper-status",
    "lockkeeper-metadata",
    "lockkeeper-bounds-made",
    "lockkeeper-bounds-named",
    "lockkeeper-bounds-masking",
    "lockkeeper-bounds-pods",
    "lockkeeper-bounds-changed",
];

/// CustomResourceDefinitions of the kinds that policies have as parameters: an API server that does not know one yet refuses
/// all that such a policy matches.
pub const PARAMETERS: &[&str] = &["environments.lockkeeper.dev", "maskingpolicies.lockkeeper.dev"];

/// Label on each policy and each binding that says which generation of the rules it holds.
pub const VERSION_LABEL: &str = "lockkeeper.dev/policy-version";

/// The generation of the rules that this program relies on. Raised with each change to the rules, in the chart too.
pub const VERSION: &str = "3";

/// What each binding must say: the request is refused, not merely noted.
pub const VALIDATION_ACTION: &str = "Deny";

/// What each policy must say: a rule that cannot be evaluated refuses the request.
pub const FAILURE_POLICY: &str = "Fail";
