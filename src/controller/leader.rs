//! One replica leads, by a Lease in the operator's namespace. A second one waits, warm.
//!
//! The Lease has a client of its own: kube's client tries refused requests again for minutes, and one burst of errors would
//! outlast the Lease. Who loses it ends at once; what he was about to write is refused by resourceVersion or epoch.

use kube::{Client, Config};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};

/// Name of the Lease.
pub const LEASE: &str = "lockkeeper";
/// How long a Lease lasts without renewal, in seconds.
const DURATION_SECONDS: u64 = 15;
/// How long before its end it is renewed, in seconds.
const GRACE_SECONDS: u64 = 5;

/// Makes the manager of the Lease.
pub async fn manager(config: Config, namespace: &str, identity: &str) -> Result<LeaseManager, LeaseManagerError> {
    let client = Client::try_from(config).map_err(LeaseManagerError::KubeError)?;
    LeaseManagerBuilder::new(client, LEASE)
        .with_namespace(namespace)
        .with_identity(identity)
        .with_duration(DURATION_SECONDS)
        .with_grace(GRACE_SECONDS)
        .build()
        .await
}
