//! `lockkeeper`: the operator, its agent, and the generated definitions.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use lockkeeper::{
    api::crds,
    controller,
    plan::world::Settings,
    telemetry::{self, LogFormat},
};

#[derive(Parser)]
#[command(version, about = "Promotes tested releases between environments, and puts everything back if that fails.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the operator.
    Controller {
        /// Image of Jobs and of the maintenance page: the operator's own.
        #[arg(long, env = "LOCKKEEPER_IMAGE")]
        image: String,
        /// Namespace of the operator.
        #[arg(long, env = "POD_NAMESPACE")]
        namespace: String,
        /// ServiceAccount of the operator.
        #[arg(long, env = "POD_SERVICE_ACCOUNT", default_value = "lockkeeper")]
        service_account: String,
        /// Who this replica is.
        #[arg(long, env = "POD_NAME")]
        identity: String,
        /// Where health and metrics are served.
        #[arg(long, default_value = "0.0.0.0:8080")]
        listen: SocketAddr,
        /// Form of the log.
        #[arg(long, env = "LOCKKEEPER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
        log_format: LogFormat,
    },
    /// Ends well only if no Environment of the cluster is locked or worked on: asked before the operator is uninstalled.
    MayLeave,
    /// Does one task inside a Job.
    Agent {
        /// What to do.
        verb: String,
    },
    /// Writes the CustomResourceDefinitions.
    Crds {
        /// Directory; without it they are printed.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    // Two providers of cryptography in one program panic at the first connection: one is named here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Arguments::parse().command {
        Command::Crds { dir: Some(dir) } => end(crds::write(&dir)),
        Command::Crds { dir: None } => {
            for crd in crds::all() {
                print!("{}", crds::document(&crd));
            }
            ExitCode::SUCCESS
        }
        Command::Agent { verb } => match tokio::runtime::Runtime::new() {
            // Ends the process at once: threads that read or write files may still be at work after a signal.
            Ok(runtime) => std::process::exit(runtime.block_on(lockkeeper::agent::run(&verb))),
            Err(error) => end(Err(error)),
        },
        Command::MayLeave => match tokio::runtime::Runtime::new() {
            Ok(runtime) => end(runtime.block_on(controller::leave::may_leave())),
            Err(error) => end(Err(error)),
        },
        Command::Controller { image, namespace, service_account, identity, listen, log_format } => {
            telemetry::start(log_format);
            let settings = Settings { agent_image: image, namespace, service_account };
            let options = controller::Options { settings, identity, listen };
            match tokio::runtime::Runtime::new() {
                Ok(runtime) => end(runtime.block_on(lead(options))),
                Err(error) => end(Err(error)),
            }
        }
    }
}

async fn lead(options: controller::Options) -> Result<(), controller::run::StartError> {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        lockkeeper::telemetry::ended().await;
        let _ = stop.send(true);
    });
    controller::run(options, stopped).await
}

fn end<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lockkeeper: {error}");
            ExitCode::FAILURE
        }
    }
}
