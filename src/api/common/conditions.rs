//! Condition types, as kstatus reads them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Timestamp;

/// True exactly when all is as desired.
pub const READY: &str = "Ready";
/// True while the operator works towards the desired state.
pub const RECONCILING: &str = "Reconciling";
/// True when nothing goes on until a person acts.
pub const STALLED: &str = "Stalled";
/// Of an Environment with grants: true when what it grants can leave by the policies that they name.
pub const GRANTS_READY: &str = "GrantsReady";

/// Sets a condition. The time of transition changes only when the status does.
pub fn set(list: &mut Vec<Condition>, type_: &str, value: bool, reason: &str, message: &str, generation: i64, now: Timestamp) {
    let status = if value { "True" } else { "False" };
    let fresh = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.chars().take(4096).collect(),
        observed_generation: Some(generation),
        last_transition_time: Time(now),
    };
    match list.iter_mut().find(|c| c.type_ == type_) {
        Some(old) => {
            let since = if old.status == status { old.last_transition_time.clone() } else { Time(now) };
            *old = Condition { last_transition_time: since, ..fresh };
        }
        None => list.push(fresh),
    }
}

/// Whether a condition is there and true.
pub fn is_true(list: &[Condition], type_: &str) -> bool {
    list.iter().any(|c| c.type_ == type_ && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_of_transition_until_its_status_changes() {
        let (then, later) = (Timestamp::from_second(10).unwrap(), Timestamp::from_second(20).unwrap());
        let mut list = Vec::new();
        set(&mut list, READY, false, "A", "", 1, then);
        set(&mut list, READY, false, "B", "", 2, later);
        assert_eq!((list[0].last_transition_time.0, list[0].reason.as_str()), (then, "B"));
        set(&mut list, READY, true, "C", "", 2, later);
        assert_eq!(list[0].last_transition_time.0, later);
    }
}
