//! Where a repository lies: on a volume, or on S3.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{BucketName, Endpoint, KeyPrefix, LocalRef, Region};

/// The place of a repository: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.volume) != has(self.s3)").message("repository: exactly one of: volume, s3"))]
pub struct Repository {
    /// A volume of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeRepository>,
    /// A bucket of an S3 server, or a part of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Repository>,
}

/// A repository on a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRepository {
    /// The PersistentVolumeClaim.
    pub claim: LocalRef,
}

/// A repository on S3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(r"!self.endpoint.lowerAscii().matches('^https?://(169[.]254[.][0-9.]+|100[.]100[.]100[.]200|192[.]0[.]0[.]192|metadata([.]google[.]internal)?|\\[(fe[89ab][0-9a-f]|fd00:0?ec2):[0-9a-f:.]*\\])(:[0-9]+)?/?$')")
        .message("s3.endpoint: the address of a cloud's metadata is no S3 server"),
    validation = Rule::new(r"!has(self.prefix) || !self.prefix.matches('(^|/)[.][.]?(/|$)')")
        .message("s3.prefix: no part of it is . or ..")
)]
pub struct S3Repository {
    /// URL of the server: scheme, host and port. The bucket is asked for by path.
    pub endpoint: Endpoint,
    /// The region that requests are signed for. Default us-east-1, which servers outside of clouds take.
    #[serde(default = "S3Repository::default_region")]
    pub region: Region,
    /// The bucket. It must be there.
    pub bucket: BucketName,
    /// What the keys of all objects begin with. Default: nothing, and the bucket is the repository's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<KeyPrefix>,
    /// Secret with the keys `accessKeyId` and `secretAccessKey` (or `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`), and, where the server's certificate is not of a public authority, `ca.crt`.
    pub credentials_secret: LocalRef,
}

impl S3Repository {
    fn default_region() -> Region {
        "us-east-1".into()
    }
}
