//! Ways to deliver a module.
