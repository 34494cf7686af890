//! The operator's life: start, lead, drive, stop.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use futures::{StreamExt, channel::mpsc};
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    runtime::{
        Controller,
        controller::{Action, Config as ControllerConfig},
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::watch};

use super::{
    Context, Policies, Turn, alignment, backup, environment, leader, masking,
    progress::Logs,
    promotion, readiness,
    report::Report,
    restore, server,
    slim::Slim,
    wake::Wake,
    watch::{Heard, Namespaces},
};
use crate::{
    api::{DownAlignment, Environment, EnvironmentBackup, EnvironmentRestore, MaskingPolicy, Promotion, Timestamp},
    error::{Error, Result},
    plan::world::Settings,
};

/// How many runs of a kind are driven at once.
const CONCURRENCY: u16 = 16;
/// How many Environments are: each is looked at once a minute, and nobody waits for it. All that one turn reads is in memory
/// at once.
const ENVIRONMENTS_AT_ONCE: u16 = 4;
/// How many objects the API server sends at once when a watch begins. A finished run has some ten thousand bytes.
const PAGE: u32 = 50;
/// Changes that come within this time are looked at once.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// How many turns are taken in a row before others get theirs.
const TURNS: usize = 200;
/// How long a run at rest, an Environment or a backup is left alone when nothing is heard.
const REST: Duration = Duration::from_secs(60);
/// How often what is there is counted for metrics. The caches are asked, not the API server.
const COUNT: Duration = Duration::from_secs(5);
/// After a failed turn.
const RETRY: Duration = Duration::from_secs(2);
/// How long a stop may take; then the process ends as it is: every point is one to go on from.
const STOP: Duration = Duration::from_secs(8);

/// How the operator is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Settings.
    pub settings: Settings,
    /// Who this replica is.
    pub identity: String,
    /// Where health and metrics are served.
    pub listen: SocketAddr,
}

/// Failures of the start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No configuration, or no client.
    #[error("cannot reach a Kubernetes API server: {0}. Run inside a cluster, or set KUBECONFIG")]
    Client(String),
    /// The port is taken.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The Lease.
    #[error("cannot hold the Lease {0}: {1}")]
    Lease(String, String),
}

/// Runs until `stop` says so, or leadership is lost.
pub async fn run(options: Options, stop: watch::Receiver<bool>) -> std::result::Result<(), StartError> {
    let mut config = Config::infer().await.map_err(|e| StartError::Client(e.to_string()))?;
    config.read_timeout = Some(Duration::from_secs(300));
    config.connect_timeout = Some(Duration::from_secs(10));
    let mut lease_config = config.clone();
    lease_config.read_timeout = Some(Duration::from_secs(5));
    // Watches of namespaces have connections of their own: one that has carried long lists keeps its buffers for ever.
    let watching = Client::try_from(config.clone()).map_err(|e| StartError::Client(e.to_string()))?;
    let client = Client::try_from(config).map_err(|e| StartError::Client(e.to_string()))?;

    let mut registry = Registry::default();
    let report = Report::new(client.clone(), &options.identity, &mut registry);
    let health = Arc::new(server::Health { registry, ready: AtomicBool::new(false) });
    let listener = TcpListener::bind(options.listen).await.map_err(|e| StartError::Listen(options.listen, e))?;
    let served = tokio::spawn(server::serve(listener, health.clone(), stop.clone()));
    let readiness = tokio::spawn(readiness::tell(client.clone(), health));

    let namespace = options.settings.namespace.clone();
    let manager = leader::manager(lease_config, &namespace, &options.identity)
        .await
        .map_err(|e| StartError::Lease(format!("{namespace}/{}", leader::LEASE), e.to_string()))?;
    let (mut leads, lease_task) = manager.watch().await;
    let mut stopped = stop.clone();
    tracing::info!(identity = %options.identity, "waiting to lead");
    let led = tokio::select! {
        led = leads.wait_for(|l| *l) => Some(led.is_ok()),
        _ = stopped.wait_for(|s| *s) => None,
    };
    match led {
        Some(true) => {}
        Some(false) => return Err(StartError::Lease(format!("{namespace}/{}", leader::LEASE), "its manager has ended".into())),
        None => {
            drop(leads);
            let _ = tokio::time::timeout(STOP, lease_task).await;
            served.abort();
            readiness.abort();
            return Ok(());
        }
    }
    report.leading(true);
    tracing::info!("leading");

    let (changed, heard) = mpsc::unbounded();
    let logs = Logs::new(changed.clone());
    let namespaces = Namespaces::new(watching, changed);
    let (settings, policies) = (options.settings, Policies::default());
    let context = Arc::new(Context { client, settings, report, policies, logs, namespaces, clock: Timestamp::now });
    // Its end must not wait for an API server that does not answer: the drivers race with the signal.
    tokio::select! {
        () = drive(context, heard) => tracing::warn!("the drivers have ended"),
        _ = stopped.wait_for(|s| *s) => tracing::info!("stopping"),
        _ = leads.wait_for(|l| !*l) => tracing::warn!("another replica leads now"),
    }
    drop(leads);
    let _ = tokio::time::timeout(STOP, lease_task).await;
    served.abort();
    readiness.abort();
    Ok(())
}

type TurnFuture<'a> = Pin<Box<dyn Future<Output = Result<Turn>> + Send + 'a>>;
type TurnFn = for<'a> fn(&'a Context, &'a str, &'a str) -> TurnFuture<'a>;

/// Takes turns until there is something to wait for.
async fn turns(context: &Context, kind: &str, (namespace, name): (&str, &str), turn: TurnFn) -> Result<Turn> {
    let begun = Instant::now();
    let mut last = Ok(Turn::Again);
    for _ in 0..TURNS {
        last = turn(context, namespace, name).await;
        if !matches!(last, Ok(Turn::Again)) {
            break;
        }
    }
    context.report.reconciled(kind, begun.elapsed());
    last
}

fn action(turn: Turn, patience: Duration) -> Action {
    match turn {
        Turn::Again => Action::requeue(Duration::ZERO),
        Turn::Gone => Action::await_change(),
        Turn::Wait(until) => {
            let now = jiff::Timestamp::now();
            let span = until.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO));
            Action::requeue(span.map_or(patience, |s| s.min(patience)).max(Duration::from_millis(10)))
        }
    }
}

fn failed(kind: &str, context: &Context, name: &str, error: &Error) -> Action {
    context.report.error(kind, name, error);
    Action::requeue(RETRY)
}

/// References to the objects of a store that are in a namespace.
fn of_namespace<K>(store: &Store<K>, namespace: &str, keep: impl Fn(&K) -> bool) -> Vec<ObjectRef<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store
        .state()
        .iter()
        .filter(|o| o.namespace().as_deref() == Some(namespace) && keep(o))
        .map(|o| ObjectRef::from_obj(&**o))
        .collect()
}

async fn drive(context: Arc<Context>, heard: mpsc::UnboundedReceiver<Heard>) {
    let client = context.client.clone();
    let any = watcher::Config::default().page_size(PAGE);
    let config = ControllerConfig::default().concurrency(CONCURRENCY).debounce(DEBOUNCE);
    let few = ControllerConfig::default().concurrency(ENVIRONMENTS_AT_ONCE).debounce(DEBOUNCE);

    // As many as there are: who is looked at, and in which order, is said by `wake`.
    let all = ControllerConfig::default().concurrency(0).debounce(DEBOUNCE);
    let promotions = Controller::new(Api::<Slim<Promotion>>::all(client.clone()), any.clone()).with_config(all);
    let environments = Controller::new(Api::<Slim<Environment>>::all(client.clone()), any.clone()).with_config(few);
    let backups = Controller::new(Api::<Slim<EnvironmentBackup>>::all(client.clone()), any.clone()).with_config(config.clone());
    let restores = Controller::new(Api::<Slim<EnvironmentRestore>>::all(client.clone()), any.clone()).with_config(config.clone());
    let alignments = Controller::new(Api::<Slim<DownAlignment>>::all(client.clone()), any.clone()).with_config(config.clone());
    let alignment_store = alignments.store();
    let alignments_now = alignment_store.clone();
    let aligning = |r: &Slim<DownAlignment>| r.status.as_ref().is_none_or(|s| !s.phase.is_terminal());
    let policies = Controller::new(Api::<Slim<MaskingPolicy>>::all(client.clone()), any.clone()).with_config(config);
    let policy_store = policies.store();
    let (promotion_store, environment_store, backup_store) = (promotions.store(), environments.store(), backups.store());
    let restore_store = restores.store();
    let granting = environment_store.clone();
    let under_way = |r: &Slim<EnvironmentRestore>| r.status.as_ref().is_none_or(|s| !s.phase.is_terminal());

    // What is heard in a namespace concerns its Environment, its runs under way, and the runs that take from it.
    let (to_promotions, from_promotions) = mpsc::unbounded();
    let (to_environments, from_environments) = mpsc::unbounded();
    let (to_backups, from_backups) = mpsc::unbounded();
    let (to_restores, from_restores) = mpsc::unbounded();
    let (to_alignments, from_alignments) = mpsc::unbounded();
    // What happens in either namespace concerns it: its masking works where the data comes from.
    let going_alignments = move |namespace: &str| -> Vec<ObjectRef<Slim<DownAlignment>>> {
        let state = alignment_store.state();
        let concerned =
            state.iter().filter(|a| a.namespace().as_deref() == Some(namespace) || *a.spec.from.namespace == *namespace);
        concerned.filter(|a| aligning(a)).map(|a| ObjectRef::from_obj(&**a)).collect()
    };
    let alignments_of = going_alignments.clone();
    let (to_policies, from_policies) = mpsc::unbounded();
    let policies_now = policy_store.clone();
    let wake = Wake::new(promotion_store.clone(), to_promotions);
    let places = wake.clone();
    let by_environment = {
        let wake = wake.clone();
        move |environment: Slim<Environment>| wake.of_environment(&environment.namespace().unwrap_or_default())
    };
    let going_restores = restore_store.clone();
    let backups_now = backup_store.clone();
    let fan_out = heard.for_each(move |heard| {
        wake.heard(&heard);
        let Heard { namespace, run, progress } = heard;
        let concerned = |uid: Option<&str>| !progress || uid == run.as_deref();
        for reference in of_namespace(&going_restores, &namespace, |r| under_way(r) && concerned(r.meta().uid.as_deref())) {
            let _ = to_restores.unbounded_send(reference);
        }
        for reference in going_alignments(&namespace).into_iter().filter(|a| concerned(a.extra.uid.as_deref())) {
            let _ = to_alignments.unbounded_send(reference);
        }
        let open = |b: &Slim<EnvironmentBackup>| b.status.as_ref().is_none_or(|s| !s.phase.is_terminal());
        for reference in of_namespace(&backup_store, &namespace, |b| open(b) && concerned(b.meta().uid.as_deref())) {
            let _ = to_backups.unbounded_send(reference);
        }
        if progress {
            return futures::future::ready(());
        }
        for reference in of_namespace(&environment_store, &namespace, |_| true) {
            let _ = to_environments.unbounded_send(reference);
        }
        for reference in of_namespace(&policies_now, &namespace, |_| true) {
            let _ = to_policies.unbounded_send(reference);
        }
        futures::future::ready(())
    });

    let runs = promotion_store.clone();
    let by_backup = move |backup: Slim<EnvironmentBackup>| {
        of_namespace(&runs, &backup.namespace().unwrap_or_default(), |p: &Slim<Promotion>| {
            p.status.as_ref().is_some_and(|s| s.phase == crate::api::Phase::BackingUp)
        })
    };
    let runs = promotion_store.clone();
    let by_alignment = move |alignment: Slim<DownAlignment>| {
        of_namespace(&runs, &alignment.namespace().unwrap_or_default(), |p: &Slim<Promotion>| {
            promotion::phase(p) == crate::api::Phase::Aligning
        })
    };
    let promotions = promotions
        .watches(Api::<Slim<DownAlignment>>::all(client.clone()), any.clone(), by_alignment)
        .watches(Api::<Slim<Environment>>::all(client.clone()), any.clone(), by_environment)
        .watches(Api::<Slim<EnvironmentBackup>>::all(client.clone()), any.clone(), by_backup)
        .reconcile_on(from_promotions)
        .run(
            move |run, context| {
                let places = places.clone();
                async move {
                    let reference = ObjectRef::from_obj(&*run);
                    let _place = places.place(&reference).await;
                    let (namespace, name) = (run.namespace().unwrap_or_default(), run.name_any());
                    let turn =
                        turns(&context, "Promotion", (&namespace, &name), |c, ns, n| Box::pin(promotion::turn(c, ns, n))).await?;
                    places.looked_at(&run);
                    let over = promotion::phase(&run).is_terminal();
                    Ok(action(turn, if over { Duration::from_secs(3600) } else { places.patience(&reference) }))
                }
            },
            |run, error: &Error, context| failed("Promotion", &context, &run.name_any(), error),
            context.clone(),
        )
        .for_each(|_| futures::future::ready(()));

    // What it grants leaves by its policies, and it says whether it can.
    let environments = environments
        .watches(Api::<Slim<MaskingPolicy>>::all(client.clone()), any.clone(), move |p: Slim<MaskingPolicy>| {
            of_namespace(&granting, &p.namespace().unwrap_or_default(), |_| true)
        })
        .reconcile_on(from_environments)
        .run(
            |environment, context| async move {
                let (namespace, name) = (environment.namespace().unwrap_or_default(), environment.name_any());
                context.namespaces.watch(&namespace, environment::at_work(&environment));
                let turn =
                    turns(&context, "Environment", (&namespace, &name), |c, ns, n| Box::pin(environment::turn(c, ns, n))).await?;
                if turn == Turn::Gone {
                    context.namespaces.forget(&namespace);
                }
                Ok(action(turn, REST))
            },
            |environment, error: &Error, context| failed("Environment", &context, &environment.name_any(), error),
            context.clone(),
        )
        .for_each(|_| futures::future::ready(()));

    let backups = backups
        .reconcile_on(from_backups)
        .run(
            |backup, context| async move {
                let (namespace, name) = (backup.namespace().unwrap_or_default(), backup.name_any());
                let turn = turns(&context, "EnvironmentBackup", (&namespace, &name), |c, ns, n| Box::pin(backup::turn(c, ns, n)))
                    .await?;
                // Nobody tells that its Jobs are gone once no run is at work here: until it has let go, it looks.
                let over = backup.status.as_ref().is_some_and(|s| s.phase.is_terminal()) && backup.finalizers().is_empty();
                Ok(action(turn, if over { Duration::from_secs(3600) } else { REST.min(Duration::from_secs(10)) }))
            },
            |backup, error: &Error, context| failed("EnvironmentBackup", &context, &backup.name_any(), error),
            context.clone(),
        )
        .for_each(|_| futures::future::ready(()));

    let restores_now = restore_store.clone();
    let in_namespace = move |namespace: Option<String>| of_namespace(&restore_store, &namespace.unwrap_or_default(), under_way);
    let (of_environment, of_backup) = (in_namespace.clone(), in_namespace);
    let restores = restores
        .watches(Api::<Slim<Environment>>::all(client.clone()), any.clone(), move |e: Slim<Environment>| {
            of_environment(e.namespace())
        })
        .watches(Api::<Slim<EnvironmentBackup>>::all(client.clone()), any.clone(), move |b: Slim<EnvironmentBackup>| {
            of_backup(b.namespace())
        })
        .reconcile_on(from_restores)
        .run(
            |run, context| async move {
                let (namespace, name) = (run.namespace().unwrap_or_default(), run.name_any());
                let turn =
                    turns(&context, "EnvironmentRestore", (&namespace, &name), |c, ns, n| Box::pin(restore::turn(c, ns, n)))
                        .await?;
                let phase = run.status.as_ref().map(|s| s.phase).unwrap_or_default();
                Ok(action(turn, if phase.is_terminal() { Duration::from_secs(3600) } else { promotion::patience(phase) }))
            },
            |run, error: &Error, context| failed("EnvironmentRestore", &context, &run.name_any(), error),
            context.clone(),
        )
        .for_each(|_| futures::future::ready(()));

    let alignments = alignments
        .watches(Api::<Slim<Environment>>::all(client.clone()), any.clone(), move |e: Slim<Environment>| {
            alignments_of(&e.namespace().unwrap_or_default())
        })
        .reconcile_on(from_alignments)
        .run(
            |run, context| async move {
                let (namespace, name) = (run.namespace().unwrap_or_default(), run.name_any());
                let turn =
                    turns(&context, "DownAlignment", (&namespace, &name), |c, ns, n| Box::pin(alignment::turn(c, ns, n))).await?;
                let phase = run.status.as_ref().map(|s| s.phase).unwrap_or_default();
                Ok(action(turn, if phase.is_terminal() { Duration::from_secs(3600) } else { promotion::patience(phase) }))
            },
            |run, error: &Error, context| failed("DownAlignment", &context, &run.name_any(), error),
            context.clone(),
        )
        .for_each(|_| futures::future::ready(()));
    let policies = policies
        .watches(Api::<Slim<Environment>>::all(client.clone()), any.clone(), move |e: Slim<Environment>| {
            of_namespace(&policy_store, &e.namespace().unwrap_or_default(), |_| true)
        })
        .reconcile_on(from_policies)
        .run(
            |policy, context| async move {
                let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
                let turn =
                    turns(&context, "MaskingPolicy", (&namespace, &name), |c, ns, n| Box::pin(masking::turn(c, ns, n))).await?;
                Ok(action(turn, REST))
            },
            |policy, error: &Error, context| failed("MaskingPolicy", &context, &policy.name_any(), error),
            context.clone(),
        )
        .for_each(|_| futures::future::ready(()));

    let told = context.clone();
    let counted = async move {
        let mut every = tokio::time::interval(COUNT);
        loop {
            every.tick().await;
            told.report.population(
                &promotion_store.state(),
                &restores_now.state(),
                &alignments_now.state(),
                &backups_now.state(),
                (told.clock)(),
            );
        }
    };
    futures::join!(fan_out, promotions, environments, backups, restores, alignments, policies, counted);
}
