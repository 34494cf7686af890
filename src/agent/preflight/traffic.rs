//! Who is at work in the database, and whether maintenance would end him: sessions, transactions, replication.

use std::{collections::BTreeSet, net::IpAddr};

use super::{super::Context, Checks, Subject};
use crate::data::postgres::{
    PgError,
    connection::APPLICATION,
    error::one_line,
    quote::ident,
    sessions::{self, Seen},
};

/// So many sessions are named.
const NAMED: usize = 5;

pub async fn check(context: &Context<'_>, subject: &Subject<'_>, checks: &mut Checks<'_>) -> Result<(), PgError> {
    replication(subject, checks).await?;
    let ours = |s: &Seen| s.application == APPLICATION && s.role == subject.access.admin.user;
    let seen: Vec<Seen> =
        sessions::list(&subject.session, subject.database.oid).await?.into_iter().filter(|s| !ours(s)).collect();
    superusers(&seen, checks);
    transactions(context, &seen, checks);
    uncovered(&context.task.covered_addresses, &seen, checks);
    Ok(())
}

async fn replication(subject: &Subject<'_>, checks: &mut Checks<'_>) -> Result<(), PgError> {
    let (name, oid) = (&subject.database.name, subject.database.oid);
    let prepared = subject
        .session
        .query(
            "reading prepared transactions",
            "SELECT gid FROM pg_prepared_xacts WHERE database = $1 ORDER BY prepared",
            &[name],
        )
        .await?;
    let wrong = prepared.iter().take(NAMED).map(|row| {
        let gid: String = row.get(0);
        format!("transaction {} is prepared and holds its locks: COMMIT PREPARED or ROLLBACK PREPARED it", one_line(&gid))
    });
    checks.judge("prepared transactions", wrong.collect(), "there are none");
    let slots = subject
        .session
        .query("reading slots", "SELECT slot_name::text FROM pg_replication_slots WHERE database = $1 ORDER BY 1", &[name])
        .await?;
    let mut wrong: Vec<String> = slots
        .iter()
        .map(|row| {
            let slot: String = row.get(0);
            format!("logical slot {slot} would be lost by a rollback: stop its reader, then SELECT pg_drop_replication_slot('{slot}');")
        })
        .collect();
    let subscriptions = subject
        .session
        .query("reading subscriptions", "SELECT subname::text FROM pg_subscription WHERE subdbid = $1 ORDER BY 1", &[&oid])
        .await?;
    wrong.extend(subscriptions.iter().map(|row| {
        let subscription: String = row.get(0);
        format!("subscription {subscription} writes on while others are locked out: DROP SUBSCRIPTION {};", ident(&subscription))
    }));
    checks.judge("replication", wrong, "no logical slot, no subscription");
    Ok(())
}

fn superusers(seen: &[Seen], checks: &mut Checks<'_>) {
    let wrong = seen
        .iter()
        .filter(|s| s.superuser && s.kind == "client backend")
        .take(NAMED)
        .map(|s| format!("{} is a superuser's session, which the admin role cannot end: close it (pid {})", s.who(), s.pid));
    checks.judge("superusers", wrong.collect(), "no superuser is connected");
}

fn transactions(context: &Context<'_>, seen: &[Seen], checks: &mut Checks<'_>) {
    let Some(limit) = context.task.max_transaction_age_seconds else { return };
    let old = seen.iter().filter_map(|s| {
        let age = u64::try_from(s.transaction_age?).ok().filter(|age| *age > limit)?;
        Some(format!("{} has been in a transaction for {age} s (pid {}): end it", s.who(), s.pid))
    });
    checks.judge("transactions", old.take(NAMED).collect(), &format!("none is older than {limit} s"));
}

fn uncovered(covered: &[String], seen: &[Seen], checks: &mut Checks<'_>) {
    let covered: BTreeSet<IpAddr> = covered.iter().filter_map(|a| address(a)).collect();
    let is_covered = |s: &Seen| s.address.as_deref().and_then(address).is_some_and(|a| covered.contains(&a));
    if !seen.iter().any(is_covered) {
        checks.pass(
            "sessions",
            "no session comes from a pod that goes down while locked, so addresses do not tell sessions apart here; all sessions are \
             ended at the fence",
        );
        return;
    }
    let strangers = seen.iter().filter(|s| s.of_owner && !is_covered(s) && s.kind == "client backend").map(|s| {
        let from = s.address.as_deref().unwrap_or("the server itself");
        format!(
            "{} at {from} is connected, but is no workload that goes down while locked: add its workload to a module, or stop it",
            s.who()
        )
    });
    let unique: BTreeSet<String> = strangers.collect();
    checks.judge("sessions", unique.into_iter().take(NAMED).collect(), "every writing session is of a workload that goes down");
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|a| a.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Check;

    fn seen(address: &str, of_owner: bool) -> Seen {
        Seen {
            pid: 1,
            role: "app".into(),
            application: "shop".into(),
            address: Some(address.into()),
            kind: "client backend".into(),
            superuser: false,
            transaction_age: None,
            of_owner,
        }
    }

    fn judge(covered: &[&str], sessions: &[Seen]) -> Check {
        let mut list = Vec::new();
        let covered: Vec<String> = covered.iter().map(ToString::to_string).collect();
        uncovered(&covered, sessions, &mut Checks { data: "d", list: &mut list });
        list.remove(0)
    }

    #[test]
    fn a_stranger_fails_the_check_only_where_addresses_are_honest() {
        let check = judge(&["10.0.0.1"], &[seen("::ffff:10.0.0.1", true), seen("10.0.0.9", true)]);
        assert!(!check.passed && check.message.contains("10.0.0.9"), "{check:?}");
        assert!(judge(&["10.0.0.1"], &[seen("10.0.0.1", true), seen("10.0.0.9", false)]).passed);
        assert!(judge(&["10.0.0.1"], &[seen("10.0.0.9", true)]).passed);
        assert!(judge(&[], &[]).passed);
    }
}
