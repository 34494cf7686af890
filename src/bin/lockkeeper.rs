//! `lockkeeper`: the operator, its agent, and the generated definitions.

fn main() {}
