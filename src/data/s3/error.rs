//! Why S3 did not do what it was asked to, in words that say whose turn it is.

/// What can go wrong with a bucket. No credential is ever in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum S3Error {
    /// The endpoint is no address of a server.
    #[error("the endpoint {endpoint} {problem}")]
    Endpoint {
        /// The endpoint as it was given.
        endpoint: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The Secret of the credentials lacks something.
    #[error("the Secret of its credentials {0}")]
    Credentials(String),
    /// There was no answer.
    #[error(
        "{server} does not answer: {cause}. See that the endpoint is right, and that NetworkPolicies let the agent's pods reach it"
    )]
    Unreachable {
        /// The server, as the endpoint names it.
        server: String,
        /// The cause.
        cause: String,
    },
    /// Its certificate is not one to trust.
    #[error(
        "the certificate of {server} is not trusted: {cause}. Put the certificate of its authority, as PEM, into the key ca.crt of the \
         Secret of the credentials"
    )]
    Untrusted {
        /// The server.
        server: String,
        /// The cause.
        cause: String,
    },
    /// Nobody has this key.
    #[error("{server} knows no such access key: correct accessKeyId in the Secret of the credentials")]
    KeyUnknown {
        /// The server.
        server: String,
    },
    /// The signature is not that of the key.
    #[error("{server} finds the signature wrong: correct secretAccessKey in the Secret of the credentials")]
    KeyWrong {
        /// The server.
        server: String,
    },
    /// The key may not do this.
    #[error(
        "{place}: the key may not do this ({doing}): it needs s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and \
         s3:DeleteObject on what is in it"
    )]
    Denied {
        /// The bucket, and where it is.
        place: String,
        /// What was asked.
        doing: String,
    },
    /// There is no such bucket.
    #[error("{place} is not there: make the bucket, or correct its name")]
    BucketMissing {
        /// The bucket, and where it is.
        place: String,
    },
    /// The bucket is elsewhere.
    #[error("{place} is in another region{said}: correct region, and the endpoint where it names one")]
    OtherRegion {
        /// The bucket, and where it is.
        place: String,
        /// Which, where the server says so.
        said: String,
    },
    /// The clocks disagree.
    #[error("the clock of this node and that of {server} are too far apart: set the one that is wrong")]
    Clock {
        /// The server.
        server: String,
    },
    /// There is no space left.
    #[error("{place} is full ({said})")]
    Full {
        /// The bucket, and where it is.
        place: String,
        /// The server's word for it.
        said: String,
    },
    /// What is stored is shorter than it was.
    #[error("{place}: object {key} is shorter than it was")]
    Short {
        /// The bucket, and where it is.
        place: String,
        /// The object.
        key: String,
    },
    /// Something is not there that was.
    #[error("{place}: object {key} is missing")]
    Missing {
        /// The bucket, and where it is.
        place: String,
        /// The object.
        key: String,
    },
    /// The answer is not one of S3.
    #[error("{server} does not answer as S3 does ({what}): see that the endpoint is that of an S3 server")]
    Strange {
        /// The server.
        server: String,
        /// What it said.
        what: String,
    },
    /// The server says that it failed.
    #[error("{server} fails with {status} {code}")]
    Failing {
        /// The server.
        server: String,
        /// The status.
        status: u16,
        /// The server's word for it.
        code: String,
    },
    /// The server does not do this.
    #[error("{place}: {doing} was refused: {status} {code}: {message}")]
    Refused {
        /// The bucket, and where it is.
        place: String,
        /// What was asked.
        doing: String,
        /// The status.
        status: u16,
        /// The server's word for it.
        code: String,
        /// What it says beside.
        message: String,
    },
}

impl S3Error {
    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Endpoint { .. } => "S3EndpointInvalid",
            Self::Credentials(_) => "S3CredentialsMissing",
            Self::Unreachable { .. } => "S3Unreachable",
            Self::Untrusted { .. } => "S3CertificateUntrusted",
            Self::KeyUnknown { .. } | Self::KeyWrong { .. } => "S3CredentialsWrong",
            Self::Denied { .. } => "S3Denied",
            Self::BucketMissing { .. } => "S3BucketMissing",
            Self::OtherRegion { .. } => "S3RegionWrong",
            Self::Clock { .. } => "S3ClockWrong",
            Self::Full { .. } => "RepositoryFull",
            Self::Short { .. } | Self::Missing { .. } => "RepositoryDamaged",
            Self::Strange { .. } => "S3AnswerStrange",
            Self::Failing { .. } => "S3Failing",
            Self::Refused { .. } => "S3Refused",
        }
    }

    /// Whether it may pass by itself.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Failing { .. } | Self::Clock { .. })
    }
}
