//! What runs in Jobs: backup, proof, fence, undo, checks, the maintenance page.

/// Stands in until the agent is merged.
pub fn main(_verb: &str) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
