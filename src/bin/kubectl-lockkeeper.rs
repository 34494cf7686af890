//! `kubectl lockkeeper`: the plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockkeeper::cli::main()
}
