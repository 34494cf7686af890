//! Ways to deliver a module. One yet: [`direct`].

pub mod direct;
