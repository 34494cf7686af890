//! PostgreSQL as the agent needs it: connections that pin their settings, the control database with its epoch, what a
//! database has beside its tables, its content as checksums, its sessions, and the client programs. No error of this
//! module carries a password, a row or the text of a statement.

pub mod catalog;
pub mod connection;
pub mod content;
pub mod control;
pub mod copy;
pub mod error;
pub mod quote;
pub mod rights;
pub mod secret;
pub mod sessions;
pub mod tables;
pub mod tls;
pub mod tools;
pub mod transform;
pub mod wire;

pub use connection::{Pace, Session};
pub use error::PgError;
pub use secret::{Access, Endpoint};
