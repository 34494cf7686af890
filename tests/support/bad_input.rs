//! The bad input that must be refused at admission, or end in a sentence that says what to change: one entry for each, and
//! which tests show it. Each of these checks that its rows are exactly the entries that name it.

use std::collections::BTreeSet;

/// (List, entry, tests).
pub const ENTRIES: &[(&str, &str, &[&str])] = &[
    ("Graph", "self-source", &["plan"]),
    ("Graph", "cycles", &["plan"]),
    ("Graph", "skipped stage", &["plan"]),
    ("Graph", "reversed edge", &["plan"]),
    ("Graph", "two Environments on one database", &["agent_postgres"]),
    ("Graph", "missing Environment", &["plan"]),
    ("Graph", "recreated Environment", &["plan", "agent_postgres"]),
    ("Namespaces", "missing", &["api_server", "plan"]),
    ("Namespaces", "terminating", &["api_server", "plan"]),
    ("Namespaces", "kube-system", &["api_server", "plan"]),
    ("Namespaces", "the operator's own", &["api_server", "plan"]),
    ("Namespaces", "two Environments in one", &["api_server", "plan"]),
    ("Namespaces", "no grant", &["api_server", "plan"]),
    ("Namespaces", "grant of another kind", &["api_server"]),
    ("Namespaces", "empty selector", &["plan"]),
    ("Modules", "unknown", &["plan"]),
    ("Modules", "duplicate", &["api_server"]),
    ("Modules", "empty", &["api_server"]),
    ("Modules", "cyclic requires", &["plan"]),
    ("Modules", "workload missing", &["plan"]),
    ("Modules", "container missing", &["plan"]),
    ("Modules", "tag without digest", &["plan"]),
    ("Size", "10,000-item lists", &["api_server"]),
    ("Size", "1 MiB strings", &["api_server"]),
    ("Size", "253-character names", &["api_server", "plan"]),
    ("Size", "names equal after truncation", &["plan"]),
    ("Strings", "homoglyphs", &["api_server"]),
    ("Strings", "RTL", &["api_server"]),
    ("Strings", "zero-width", &["api_server"]),
    ("Strings", "NUL", &["api_server"]),
    ("Strings", "newline in a name", &["api_server"]),
    ("Strings", "unknown field", &["api_server"]),
    ("Strings", "duplicate key", &["api_server"]),
    ("Strings", "\"true\" for a boolean", &["api_server"]),
    ("References", "Secret missing", &["plan"]),
    ("References", "wrong key", &["agent_postgres"]),
    ("References", "trailing newline", &["agent_postgres"]),
    ("References", "PVC missing", &["plan"]),
    ("References", "PVC too small", &["agent_postgres"]),
    ("References", "PVC mounted elsewhere", &["plan"]),
];

/// Asserts that these rows, each `List: entry`, are all that the tests of that name must show.
pub fn are_all_shown_by(tests: &str, rows: &[&str]) {
    let wanted: BTreeSet<String> =
        ENTRIES.iter().filter(|(_, _, by)| by.contains(&tests)).map(|(list, entry, _)| format!("{list}: {entry}")).collect();
    let shown: BTreeSet<String> = rows.iter().map(|row| (*row).to_owned()).collect();
    assert_eq!(shown, wanted);
}
