//! `kubectl lockkeeper`: the plugin.

fn main() {}
