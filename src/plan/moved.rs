//! Whether data is still where it was when users were locked out.
//!
//! People may edit an Environment at any time. Until the lock an edit makes another plan; from then on a run works on the claims
//! and connections that it has locked. Where the Environment names others by now it stops, and what it did is undone once
//! the earlier ones are named again: admission lets no pod of ours mount what the Environment does not name.
//! What a Secret of the same name says by now only Jobs can see: they are told what the database was known by when the run was
//! checked, and do nothing on another one.

use std::collections::BTreeMap;

use super::{Progress, restore, steps, steps::name, world::World};
use crate::{
    api::{Data, EnvironmentSpec, Phase, RunStatus, Step, promotion::DataPlace},
    manifest::task::Task,
};

/// Where the run's data is, with what preflight has told of it.
pub fn places(world: &World<'_>, target: &EnvironmentSpec) -> Vec<DataPlace> {
    let known = world.status().data;
    let mark = |data: &str| known.iter().find(|k| k.data == data).and_then(|k| k.mark.clone());
    restore::data(world, target).into_iter().map(|d| DataPlace { mark: mark(&d.name), ..place(d) }).collect()
}

/// The same, from what preflight tells.
pub fn checked(world: &World<'_>, target: &EnvironmentSpec, marks: &BTreeMap<String, String>) -> Vec<DataPlace> {
    let all = restore::data(world, target).into_iter().map(place);
    all.map(|place| DataPlace { mark: marks.get(&place.data).cloned(), ..place }).collect()
}

/// Tells the data of a task what their databases are known by.
pub fn mark(status: &RunStatus, task: &mut Task) {
    for data in &mut task.data {
        data.mark = status.data.iter().find(|place| place.data == data.name).and_then(|place| place.mark.clone());
    }
}

fn place(data: &Data) -> DataPlace {
    let postgres = data.postgres.as_ref();
    DataPlace {
        data: data.name.to_string(),
        claim: data.claim().map(str::to_owned),
        connection_secret: postgres.map(|p| p.connection_secret.name.to_string()),
        admin_secret: postgres.and_then(|p| p.admin_secret.as_ref()).map(|s| s.name.to_string()),
        mark: None,
    }
}

/// That the data is elsewhere by now, or nowhere.
pub fn from(earlier: &DataPlace, target: &EnvironmentSpec) -> Option<Progress> {
    let name = &earlier.data;
    let Some(data) = target.data.iter().find(|d| *d.name == *name) else {
        let message = format!(
            "data {name} was taken out of the Environment's spec.data while the run was on, and can neither be worked on nor be put \
             back: add data {name} again as it was, {}",
            said(earlier)
        );
        return Some(Progress::failed("DataMissing", message));
    };
    let now = DataPlace { mark: earlier.mark.clone(), ..place(data) };
    (now != *earlier).then(|| {
        let message = format!(
            "data {name} was {0} when users were locked out, and the Environment names {1} by now: the run works on what it has \
             locked, so name {0} again",
            said(earlier),
            said(&now)
        );
        Progress::failed("DataMoved", message)
    })
}

fn said(place: &DataPlace) -> String {
    let DataPlace { data: _, claim, connection_secret, admin_secret, mark: _ } = place;
    let named = [("claim", claim), ("connectionSecret", connection_secret), ("adminSecret", admin_secret)];
    let said: Vec<String> = named.iter().filter_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?))).collect();
    said.join(" and ")
}

/// The same of any data, before a step that goes forward under the lock. Once data may have been given back to users, the run
/// ends as it would.
pub fn before(step: &Step, target: &EnvironmentSpec, status: &RunStatus) -> Option<Progress> {
    let under_lock = matches!(steps::phase(&step.name), Phase::Locked | Phase::Promoting | Phase::Verifying);
    let over =
        matches!(steps::kind(&step.name), name::LOCK | name::RELEASE | name::OPEN | name::RESUME | name::UNLOCK | name::TIDY);
    if !under_lock || over {
        return None;
    }
    status.data.iter().find_map(|earlier| from(earlier, target))
}
