//! Stories on the whole cluster: people ask and approve, an operator installed by helm works, and the judges stand outside:
//! a writer and a poller on the host, a watcher at the API server, the database's own log and dump. Nothing here reads what
//! the operator says of itself where it can be seen otherwise.
//!
//! `hack/test.sh stories` runs them; by hand, on a cluster in which the operator is installed already:
//!
//! ```text
//! export KUBECONFIG=$(tests/cluster/up.sh)
//! cargo test --test e2e -- --test-threads=2 --nocapture story_
//! ```
//!
//! `LOCKKEEPER_E2E_IMAGE` names an image to install first, `LOCKKEEPER_E2E_KEEP=1` leaves the namespaces for a look.
//!
//! A test that cannot fail shows nothing. Each of these, when broken in the operator, turns the named story red (and mostly
//! others too; the named one by the assertion that is meant for it):
//!
//! | broken | story | by |
//! | --- | --- | --- |
//! | lock skipped | `good` | [`history`]: the Service led to the page, or a workload changed, while nobody held the lock |
//! | proof skipped | `good` | [`database::Log`]: no table was restored into a scratch database before the door closed |
//! | undo before the fence | `good` | [`database::Log`]: the clone was made before the database was closed |
//! | unlock by another run | `cancelled_promoting` | [`history`]: the lock was given back while its run still worked |
//! | rollback forgets configuration | `broken_migration` | [`outcome::as_before`]: the ConfigMap is not what it was |
//! | integrations not resumed | `every_kind` | what stands in Production is not what it was |
//! | foreign hands not looked for | `foreign_hands` | the run does not end, or its failure names nobody |
//! | a column of people kept | `aligned`, `pretix`, `unleash` | [`canaries`]: a planted value is in the lower database |
//! | page not removed | `good` | [`outcome::nothing_left`]: a Deployment of the run is there |

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/gateway.rs"]
mod gateway;
#[path = "../support/mod.rs"]
mod support;

mod canaries;
mod cluster;
mod database;
mod files;
mod history;
mod mirrored;
mod outcome;
mod record;
mod turn;
mod users;
mod world;

mod aligned;
mod broken_migration;
mod by_hand;
mod cancelled;
mod cloud_native_pg;
mod crash_loop;
mod direct_writer;
mod every_kind;
mod foreign_hands;
mod good;
mod intervention;
mod masking;
mod matrix;
mod missing_image;
mod operator_killed;
mod people;
mod plugin;
mod pods;
mod pretix;
mod queue;
mod records;
mod repository_full;
mod restored;
mod scheduled;
mod secret_rotated;
mod server_restarted;
mod unleash;
mod unverified;
mod upgrade;
