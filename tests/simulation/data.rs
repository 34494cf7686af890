//! A tiny database server and backup repository, and what the agent's verbs do to them. Epochs fence exactly as in the
//! control database: a spent or older one is refused, each verb done twice is done once.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lockkeeper::{
    api::BackupContent,
    manifest::task::{Aside, BackupOutcome, Outcome, OutcomeError, Task, Verb, exit},
};

/// Name of the data, and of the live database.
pub const DATA: &str = "flags-db";
pub const LIVE: &str = "flags";
/// What leaves the source, masked.
pub const MASKED: [&str; 3] = ["schema-2", "masked-a", "masked-b"];

/// Who may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Open,
    RunOnly,
    /// Not even the application: the migration has a role of its own.
    MigrationOnly,
    Closed,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    pub rows: Vec<String>,
    pub door: Door,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Free,
    Fenced,
    Undone,
    Open,
    RolledBack,
}

/// The row of the control database.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub epoch: i64,
    pub holder: Option<String>,
    pub state: State,
    pub undo: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub databases: BTreeMap<String, Database>,
    pub row: Option<Row>,
    /// What the repository holds, by snapshot.
    pub snapshots: BTreeMap<String, Vec<String>>,
    /// What was handed over masked, by snapshot.
    pub exchange: BTreeMap<String, Vec<String>>,
    /// The snapshots that a restore has proven.
    pub proven: Vec<String>,
    /// The rows when the database was closed: what a rollback must bring back.
    pub at_lock: Option<Vec<String>>,
    /// How many times a migration has begun.
    pub migrations: u32,
    /// How many writes of users were acknowledged.
    pub acknowledged: u32,
}

impl Server {
    pub fn new() -> Self {
        let rows = vec!["schema-1".to_owned(), "feature-a".to_owned()];
        let live = Database { rows, door: Door::Open };
        Self {
            databases: BTreeMap::from([(LIVE.to_owned(), live)]),
            // An earlier lock that this Environment's status knows nothing of: it was made again.
            row: Some(Row { epoch: 4, holder: None, state: State::Free, undo: None }),
            snapshots: BTreeMap::new(),
            exchange: BTreeMap::new(),
            proven: Vec::new(),
            at_lock: None,
            migrations: 0,
            acknowledged: 0,
        }
    }

    pub fn live(&mut self) -> &mut Database {
        self.databases.get_mut(LIVE).expect("the live database is always there")
    }

    /// The rows that are nobody's but the application's.
    pub fn rows(&self, database: &str) -> Vec<String> {
        let rows = self.databases.get(database).map(|d| d.rows.clone()).unwrap_or_default();
        rows.into_iter().filter(|r| !r.starts_with("user-")).collect()
    }

    /// The same without what depends on how long users could write.
    pub fn without_users(&self) -> Self {
        let mut same = self.clone();
        same.databases.values_mut().for_each(|d| d.rows.retain(|r| !r.starts_with("user-")));
        same.snapshots.values_mut().for_each(|rows| rows.retain(|r| !r.starts_with("user-")));
        same.at_lock.iter_mut().for_each(|rows| rows.retain(|r| !r.starts_with("user-")));
        Self { acknowledged: 0, ..same }
    }

    /// A user's write, acknowledged where users are let in.
    pub fn write(&mut self) {
        let n = self.acknowledged + 1;
        let live = self.live();
        if live.door == Door::Open {
            live.rows.push(format!("user-{n}"));
            self.acknowledged = n;
        }
    }

    /// A Job of the agent ends: its exit code and what it says. `exchange`: whether that is the repository that it mounts.
    pub fn perform(&mut self, task: &Task, backup_fails: bool, exchange: bool) -> (i32, Outcome) {
        let done = |outcome| (exit::DONE, outcome);
        let none = Outcome::default();
        match task.verb {
            Verb::Preflight => {
                let handed = task.snapshot.as_ref().filter(|s| exchange && self.exchange.contains_key(*s));
                let backup = handed.map(|s| Self::handed(s));
                done(Outcome { control_epoch: self.row.as_ref().map(|r| r.epoch), backup, ..none })
            }
            Verb::Backup | Verb::Snapshot if backup_fails => {
                refused(exit::PERMANENT, "RepositoryFull", "the repository has no space left")
            }
            Verb::Backup => {
                let rows = self.live().rows.clone();
                let count = i64::try_from(rows.len()).unwrap_or(0);
                let snapshot = format!("snapshot-{}", task.run);
                self.snapshots.insert(snapshot.clone(), rows);
                let contents = vec![BackupContent { data: DATA.into(), tables: 1, rows: count, bytes: 100, files: None }];
                let taken_at = Some(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_763_841_600));
                let backup = BackupOutcome {
                    snapshot,
                    bytes: 100,
                    stored_bytes: 50,
                    rows: count,
                    contents,
                    taken_at,
                    coverage: Vec::new(),
                };
                done(Outcome { backup: Some(backup), ..none })
            }
            Verb::Prove if self.snapshots.contains_key(task.snapshot.as_deref().unwrap_or_default()) => {
                self.proven.extend(task.snapshot.clone());
                done(none)
            }
            Verb::Snapshot => {
                let snapshot = format!("masked-{}", task.run);
                self.exchange.insert(snapshot.clone(), MASKED.map(str::to_owned).into());
                done(Outcome { backup: Some(Self::handed(&snapshot)), ..none })
            }
            Verb::Classify | Verb::Draft => refused(exit::PERMANENT, "NotSimulated", "no scenario masks data"),
            Verb::Prove => refused(exit::PERMANENT, "SnapshotMissing", "no such snapshot"),
            Verb::Fence => match (self.fence(task), task.then) {
                ((exit::DONE, _), Some(Verb::Undo)) => self.undo(task),
                (end, _) => end,
            },
            Verb::Undo => self.undo(task),
            Verb::Rollback => self.rollback(task),
            Verb::Release => self.release(task),
            Verb::Restore => self.restore(task, exchange),
            Verb::Prune => done(none),
            Verb::Drop => {
                task.databases.iter().for_each(|d| drop(self.databases.remove(&d.database)));
                done(none)
            }
            Verb::Admit => self.admit(task),
            Verb::Forget | Verb::Http | Verb::Page => done(none),
        }
    }

    /// What the agent says of a masked snapshot.
    fn handed(snapshot: &str) -> BackupOutcome {
        let rows = i64::try_from(MASKED.len()).unwrap_or(0);
        let contents = vec![BackupContent { data: DATA.into(), tables: 1, rows, bytes: 100, files: None }];
        let taken_at = Some(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_763_841_600));
        BackupOutcome { snapshot: snapshot.into(), bytes: 100, stored_bytes: 50, rows, contents, taken_at, coverage: Vec::new() }
    }

    /// The row, where this run's epoch rules or is newer.
    fn held(&self, task: &Task) -> Result<Option<Row>, Box<(i32, Outcome)>> {
        let epoch = task.epoch.unwrap_or(0);
        match &self.row {
            Some(row) if row.epoch > epoch || (row.epoch == epoch && row.holder.as_deref().is_some_and(|h| h != task.run)) => {
                Err(Box::new(refused(exit::FENCED, "Fenced", "a newer epoch rules")))
            }
            row => Ok(row.clone().filter(|r| r.epoch == epoch)),
        }
    }

    fn fence(&mut self, task: &Task) -> (i32, Outcome) {
        match self.held(task) {
            Err(refusal) => *refusal,
            Ok(Some(Row { holder: None, .. })) => refused(exit::FENCED, "Fenced", "this epoch is spent"),
            Ok(Some(Row { state: State::RolledBack, .. })) => refused(exit::PERMANENT, "State", "it is being rolled back"),
            Ok(Some(_)) => (exit::DONE, Outcome::default()),
            Ok(None) => {
                self.row = Some(self.take(task, State::Fenced));
                self.live().door = Door::Closed;
                self.at_lock = Some(self.live().rows.clone());
                (exit::DONE, Outcome::default())
            }
        }
    }

    fn take(&self, task: &Task, state: State) -> Row {
        Row { epoch: task.epoch.unwrap_or(0), holder: Some(task.run.clone()), state, undo: None }
    }

    fn undo(&mut self, task: &Task) -> (i32, Outcome) {
        let row = match self.held(task) {
            Err(refusal) => return *refusal,
            Ok(Some(row)) if row.holder.is_some() => row,
            Ok(_) => return refused(exit::PERMANENT, "State", "it must be fenced first"),
        };
        let name = format!("{LIVE}__undo");
        match row.state {
            State::Fenced => {
                let rows = self.live().rows.clone();
                self.databases.insert(name.clone(), Database { rows, door: Door::Closed });
                let alone = task.data.iter().any(|d| !d.migrations.is_empty());
                self.live().door = if alone { Door::MigrationOnly } else { Door::RunOnly };
                self.row = Some(Row { state: State::Open, undo: Some(name.clone()), ..row });
            }
            State::Open => {}
            _ => return refused(exit::PERMANENT, "State", "it must be fenced first"),
        }
        (exit::DONE, Outcome { aside: aside(&name), ..Outcome::default() })
    }

    /// A clone is there, and the files' undo point cannot be read back: nothing opens.
    pub fn undo_point_unsound(&mut self, task: &Task) -> (i32, Outcome) {
        let row = match (self.fence(task), self.row.clone()) {
            ((exit::DONE, _), Some(row)) => row,
            (end, _) => return end,
        };
        if row.state == State::Fenced {
            let name = format!("{LIVE}__undo");
            let rows = self.live().rows.clone();
            self.databases.insert(name.clone(), Database { rows, door: Door::Closed });
            self.row = Some(Row { state: State::Undone, undo: Some(name), ..row });
        }
        refused(exit::PERMANENT, "UndoPointUnsound", "the undo point cannot be read back")
    }

    fn admit(&mut self, task: &Task) -> (i32, Outcome) {
        match self.held(task) {
            Err(refusal) => *refusal,
            Ok(Some(Row { holder: Some(_), state: State::Open, .. })) => {
                self.live().door = Door::RunOnly;
                (exit::DONE, Outcome::default())
            }
            Ok(_) => refused(exit::PERMANENT, "State", "it must be open for the run"),
        }
    }

    fn rollback(&mut self, task: &Task) -> (i32, Outcome) {
        let failed = format!("{LIVE}__failed");
        match self.held(task) {
            Err(refusal) => return *refusal,
            Ok(Some(Row { holder: None, .. })) => return refused(exit::FENCED, "Fenced", "this epoch is spent"),
            // The fence never came so far: the epoch is taken, so that it cannot come late.
            Ok(None) => self.row = Some(self.take(task, State::RolledBack)),
            Ok(Some(row)) => {
                if row.state == State::Open {
                    let undo = row.undo.as_ref().and_then(|u| self.databases.remove(u)).expect("an undo point");
                    let live = std::mem::replace(self.live(), Database { door: Door::RunOnly, ..undo });
                    self.databases.insert(failed.clone(), Database { door: Door::Closed, ..live });
                }
                if row.state == State::Undone {
                    row.undo.iter().for_each(|unused| drop(self.databases.remove(unused)));
                }
                self.row = Some(Row { state: State::RolledBack, undo: None, ..row });
            }
        }
        let aside = if self.databases.contains_key(&failed) { aside(&failed) } else { Vec::new() };
        (exit::DONE, Outcome { aside, ..Outcome::default() })
    }

    /// What comes back takes the live database's name, which takes the undo point's.
    fn restore(&mut self, task: &Task, exchange: bool) -> (i32, Outcome) {
        let row = match self.held(task) {
            Err(refusal) => return *refusal,
            Ok(Some(row)) if row.holder.is_some() => row,
            Ok(_) => return refused(exit::PERMANENT, "State", "it must be fenced first"),
        };
        let name = format!("{LIVE}__today");
        if row.state == State::Fenced {
            let rows = match (task.databases.first(), &task.snapshot) {
                (Some(aside), _) => self.databases.remove(&aside.database).map(|d| d.rows),
                (None, snapshot) => {
                    if exchange { &self.exchange } else { &self.snapshots }.get(snapshot.as_deref().unwrap_or_default()).cloned()
                }
            };
            let Some(rows) = rows else { return refused(exit::PERMANENT, "SnapshotMissing", "it is not there") };
            let live = std::mem::replace(self.live(), Database { rows, door: Door::RunOnly });
            self.databases.insert(name.clone(), Database { door: Door::Closed, ..live });
            self.row = Some(Row { state: State::Open, undo: Some(name.clone()), ..row });
        } else if row.state != State::Open {
            return refused(exit::PERMANENT, "State", "it must be fenced first");
        }
        (exit::DONE, Outcome { aside: aside(&name), ..Outcome::default() })
    }

    fn release(&mut self, task: &Task) -> (i32, Outcome) {
        let row = match self.held(task) {
            Err(refusal) => return *refusal,
            Ok(row) => row,
        };
        let undo = row.as_ref().and_then(|r| r.undo.clone());
        if let Some(row) = row.filter(|r| r.holder.is_some()) {
            self.live().door = Door::Open;
            self.row = Some(Row { state: State::Free, holder: None, ..row });
        }
        (exit::DONE, Outcome { aside: undo.map(|u| aside(&u)).unwrap_or_default(), ..Outcome::default() })
    }
}

fn aside(database: &str) -> Vec<Aside> {
    vec![Aside { data: DATA.into(), database: database.into(), snapshot: None, method: "Clone".into() }]
}

/// What the agent says when it cannot.
pub fn refused(code: i32, reason: &str, message: &str) -> (i32, Outcome) {
    let error = Some(OutcomeError { reason: reason.into(), message: message.into() });
    (code, Outcome { error, ..Outcome::default() })
}
