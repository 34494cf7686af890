//! What an environment lets others take, what it takes before a Promotion, and where masked data is handed over.

use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Backups, Retention};
use crate::api::{backup::DataSelection, common::*, repository::Repository};

/// What happens before each Promotion: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.from) != has(self.disabled)").message("alignBeforePromotion: exactly one of: from, disabled"))]
pub struct AlignBeforePromotion {
    /// The environment that is mirrored. It must be among alignsFrom, and grant its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<EnvironmentRef>,
    /// Nothing is mirrored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Disabled>,
}

/// That something is left out on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disabled {
    /// Why, in words.
    pub reason: Line,
}

/// What an environment lets another take from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataGrant {
    /// Who takes it.
    pub to: EnvironmentRef,
    /// Which data. Default: all.
    #[serde(default)]
    pub data: DataSelection,
    /// What becomes of each value before it leaves.
    pub masking_policy: GrantedPolicy,
}

/// A MaskingPolicy, as it was when the grant was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantedPolicy {
    /// Name of the MaskingPolicy, in this namespace.
    pub name: ObjectName,
    /// Its `status.hash`. A policy that was changed since takes nothing out until the grant names its new hash.
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub hash: String,
}

/// Where masked data is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exchange {
    /// The place: a volume that is bound in both namespaces, or S3.
    pub repository: Repository,
    /// Secret with the exchange's password, key `password`, the same on both sides. Never that of the backups.
    pub password_secret: LocalRef,
    /// How long masked snapshots stay; older ones go when the next is written. The newest stays. Default 168h.
    #[serde(default = "Exchange::default_keep_within")]
    pub keep_within: Period,
    /// Of the source: a masked snapshot whose data was read no longer ago is handed over again, to every environment that is granted the same data by the same policy, as long as the source runs the same release. Absent: each DownAlignment has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse_within: Option<Period>,
}

impl Exchange {
    /// How long a run may take to load what it was handed: what is handed over again must not go meanwhile.
    const IN_USE: Duration = Duration::from_secs(24 * 3600);

    fn default_keep_within() -> Period {
        "168h".into()
    }

    /// How long masked snapshots stay: as long as the Environment says, and until whoever was handed one has loaded it.
    fn kept_within(&self) -> Period {
        let in_use = self.reuse_within.as_ref().and_then(Period::get).map(|reuse| reuse + Self::IN_USE);
        match (self.keep_within.get(), in_use) {
            (Some(keep), Some(in_use)) if keep < in_use => Period(format!("{}s", in_use.as_secs())),
            _ => self.keep_within.clone(),
        }
    }

    /// The exchange as a place that a Job mounts.
    pub fn place(&self) -> Backups {
        Backups {
            repository: self.repository.clone(),
            password_secret: self.password_secret.clone(),
            retention: Some(Retention { keep_last: None, keep_within: Some(self.kept_within()) }),
            schedule: None,
            proof: None,
        }
    }
}
