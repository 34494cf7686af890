//! `lockkeeper`: the operator, its agent, and the generated definitions.

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Does one task in a Job.
    Agent {
        /// What to do.
        verb: String,
    },
}

#[tokio::main]
async fn main() {
    let code = match Arguments::parse().command {
        Command::Agent { verb } => lockkeeper::agent::run(&verb).await,
    };
    std::process::exit(code);
}
