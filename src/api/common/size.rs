//! Numbers of bytes as people read them, in the plugin as in what `kubectl get` shows.

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// The unit in which a number of bytes is short.
fn unit(bytes: i64) -> usize {
    (bytes.unsigned_abs().max(1).ilog2() / 10) as usize
}

fn number(bytes: i64, unit: usize) -> String {
    let value = bytes as f64 / (1_u64 << (10 * unit)) as f64;
    // Three digits say enough.
    if unit == 0 || value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// `1.2 GiB`.
pub fn bytes(bytes: i64) -> String {
    let unit = unit(bytes);
    format!("{} {}", number(bytes, unit), UNITS[unit])
}

/// `1.2 of 3.4 GiB`.
pub fn of_bytes(done: i64, total: i64) -> String {
    let unit = unit(total);
    format!("{} of {} {}", number(done, unit), number(total, unit), UNITS[unit])
}
