//! Masking: what becomes of each column before data leaves its owner's namespace.
//!
//! 1. [`policy::compile`] holds a policy against the catalog. Whatever is not named, does not fit its column or would break
//!    a constraint is a [`Problem`] with a sentence; nothing leaves while there is one.
//! 2. What it gives is a [`crate::data::postgres::transform::Transforms`]: the copy engine calls it with rows of COPY's text.
//! 3. Substitutes come from a keyed function over (domain, value) ([`prf`]), so they depend on nothing but these.
//!
//! Pure: no database, no clock, no file. No value of a row is in any error.

pub mod codec;
mod columns;
mod compile;
pub mod condition;
mod constraints;
mod date;
pub mod draft;
pub mod files;
pub mod json;
mod keys;
mod kinds;
mod made;
mod names;
mod number;
mod pattern;
pub mod personal;
pub mod policy;
mod presence;
pub mod prf;
mod rows;
pub mod screen;
mod secrets;
mod shape;
mod substitutes;

pub use files::Files;
pub use policy::{Masking, Problem, compile, coverage, hash};
pub use prf::Key;
