//! Of which tables a draft proposes that no row leaves, or says that it is a choice.

use std::collections::BTreeMap;

use super::{
    columns::Type,
    names::{self, Words},
    personal::{Look, look},
};
use crate::data::postgres::tables::{Table, TableKind};

/// Columns that a store of sessions has, and a calendar of sessions has not.
const SESSION: Words = "accesstoken expire expired expiredate expires expiresat lastactivity lastsessionrefresh payload sess sessiondata \
    sessionid sessionkey sessiontoken sid useragent";

/// Words of tables that hold nothing but what lets somebody in, for a while.
const TOKENS: Words = "token tokens accesstoken refreshtoken idtoken authtoken nonce nonces";

/// Words side by side that say the same.
const PAIRS: [(Words, Words); 5] = [
    ("password passwd", "reset resets recovery"),
    ("magic login", "link links code codes"),
    ("email account phone", "confirmation confirmations verification verifications"),
    ("authorization authorisation oauth access", "code codes grant grants"),
    ("token", "blacklist blacklistedtoken outstandingtoken"),
];

/// Words of tables in which a program notes what people do.
const LOGS: Words = "audit audits auditlog activity activities log logs logentry logins event events history versions revisions \
    revision outbox inbox jobs job queue trail logentries requests attempts changes visits";

fn flat(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn is_session(table: &Table) -> bool {
    let of_sessions = names::last(&names::of_table(&table.name), "session sessions");
    of_sessions && table.columns.iter().any(|c| names::any(&[flat(&c.name)], SESSION))
}

fn is_tokens(table: &Table) -> bool {
    let words = names::of_table(&table.name);
    let named = names::last(&words, TOKENS) || PAIRS.iter().any(|pair| names::pair(&words, *pair));
    let telling = "key code expire expires expiresat expiresin";
    named
        && table.columns.iter().any(|c| {
            let name = flat(&c.name);
            look(table, c) == Some(Look::Secret) || names::any(&[name], telling)
        })
}

/// The tables that had better stay behind, with the reason: sessions and tokens are of use to nobody but who steals them. A table
/// that another refers to, of which rows leave, cannot be among them.
pub fn empty(tables: &[Table]) -> BTreeMap<u32, &'static str> {
    let mut out: BTreeMap<u32, &'static str> = BTreeMap::new();
    let ours = || tables.iter().filter(|t| t.kind != TableKind::Foreign && t.parents.is_empty());
    for table in ours() {
        if is_session(table) {
            out.insert(table.oid, "sessions: whoever is logged in there is not here");
        } else if is_tokens(table) {
            out.insert(table.oid, "tokens: they let somebody in, and nothing reads them once they are masked");
        }
    }
    let refers = |table: &Table, to: &Table| {
        table.oid != to.oid && table.foreign_keys.iter().any(|k| k.schema == to.schema && k.table == to.name)
    };
    // What only says more of a token goes with it.
    for table in ours() {
        let more = names::any(&names::words(&table.name), "token tokens session sessions");
        if more && ours().any(|to| out.contains_key(&to.oid) && refers(table, to)) {
            out.entry(table.oid).or_insert("says more of what stays behind");
        }
    }
    loop {
        let held = ours().find(|t| out.contains_key(&t.oid) && ours().any(|by| !out.contains_key(&by.oid) && refers(by, t)));
        let Some(held) = held else { return out };
        out.remove(&held.oid);
    }
}

/// What is to be decided of a table in which a program notes what people do. `None`: it is no such table.
pub fn choice(table: &Table) -> Option<String> {
    let words = names::words(&table.name);
    if !names::last(&words, LOGS) {
        return None;
    }
    let at = table.written().find(|c| c.base_type.starts_with("timestamp") && Type::of(c) == Type::Date)?;
    Some(format!(
        "by its name perhaps a record of what people did, in which anything may stand; in place of columns, rows: {{none: {{}}}} leaves it empty; \
         beside them, rows: {{where: \"{} > now() - interval '30 days'\"}} takes the newest",
        crate::data::postgres::quote::ident(&at.name).replace('"', "\\\"")
    ))
}
