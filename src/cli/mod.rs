//! The kubectl plugin: one file a subcommand.
