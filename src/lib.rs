//! Lockkeeper: brings tested releases from one Kubernetes environment to the next, and puts everything back if that fails.
//!
//! Dependencies point one way: `bin → controller, agent, cli → plan, manifest, delivery, data → api`.
//! `plan` and `manifest` never see a client, a clock or an environment variable.

pub mod agent;
pub mod api;
pub mod cli;
pub mod controller;
pub mod data;
pub mod delivery;
pub mod error;
pub mod manifest;
pub mod plan;
pub mod telemetry;
