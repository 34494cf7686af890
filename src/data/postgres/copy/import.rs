//! A snapshot into an empty database.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
};

use bytes::Bytes;
use futures::SinkExt;
use tokio::{
    sync::{
        Mutex,
        mpsc::{Receiver, channel},
    },
    task::{JoinHandle, JoinSet},
};

use super::{CopyError, Exported, FileOf, Pacer, Report, Sum, connections, large, rows::Summing};
use crate::data::{
    postgres::{
        Endpoint, Pace, Session,
        quote::ident,
        rights::{self, Given},
        tools::{Rights, Tools},
    },
    repository::{Reader, RepositoryError},
    stop::{self, Stop},
};

/// What the server is sent at once.
const SENT: usize = 64 << 10;

/// Where to write, and how.
pub struct Import<'a> {
    /// Programs that fit the server.
    pub tools: &'a Tools,
    /// The server, and the role that works on it.
    pub endpoint: &'a Endpoint,
    /// Major version of the server.
    pub major: u32,
    /// The database. It must be empty.
    pub database: &'a str,
    /// The role that everything is done as, if not the endpoint's own.
    pub role: Option<&'a str>,
    /// Where the endpoint's role is not the database's owner, and everything is done as itself: that owner, whose all of it becomes.
    pub heir: Option<&'a str>,
    /// What becomes of owners and grants.
    pub rights: Rights,
    /// The owners and grants, where they come back.
    pub given: Option<&'a Given>,
    /// Whether the planner gets statistics: of use where people will work in it.
    pub analyze: bool,
    /// The directory in the snapshot.
    pub prefix: &'a str,
    /// For small files: definitions, never rows.
    pub scratch: &'a Path,
    /// Ends it.
    pub stop: &'a Stop,
    /// Told how far it is, in bytes of rows.
    pub report: Report,
    /// Told once all rows are in. What follows (indexes, constraints) has no measure.
    pub loaded: &'a (dyn Fn() + Sync),
}

/// Files of whole rows, and the statement that takes them.
struct Load {
    files: Vec<(PathBuf, Sum)>,
    name: String,
    sql: String,
}

struct Lane {
    reader: Reader,
    endpoint: Endpoint,
    database: String,
    role: Option<String>,
    loads: Mutex<Receiver<Load>>,
    stop: Stop,
}

/// Writes what a snapshot holds into a database. Each file is compared with `exported` before a row of it goes anywhere. Tells
/// what of owners and grants could not be given, as statements.
///
/// # Errors
/// The database is then of no use.
pub async fn import(reader: &Reader, exported: &Exported, import: Import<'_>) -> Result<Vec<String>, CopyError> {
    let Import { tools, endpoint, major, database, role, heir, rights, given, analyze, prefix, scratch, stop, .. } = import;
    let at = |path: &str| PathBuf::from(prefix).join(path);
    let archive = scratch.join("schema.dump");
    let content = read(reader, at("schema.dump")).await?;
    tokio::fs::write(&archive, content).await.map_err(CopyError::files("writing the definitions"))?;
    tools.prepare((endpoint, major), database, (role, rights), &archive, stop).await?;
    if let Some(heir) = heir {
        // Before indexes and materialized views are made: what they call is called as the owner of their table.
        rights::hand_over(&session(endpoint, database, role, stop).await?, heir).await?;
    }
    rows(reader, exported, &import).await?;
    (import.loaded)();
    let session = session(endpoint, database, role, stop).await?;
    for some in exported.sequences.chunks(500) {
        let sql: String = some.iter().map(super::SequenceValue::statement).collect();
        session.run("setting the sequences", &sql).await?;
    }
    let files = exported.large_objects.iter().filter(|f| rights == Rights::Kept || *f != large::RIGHTS);
    let files: Vec<PathBuf> = files.map(|f| at(f)).collect();
    if !files.is_empty() {
        large_objects(reader, files, |pieces| tools.script(endpoint, database, role, pieces, stop)).await?;
    }
    tools.complete((endpoint, major), database, (role, rights), (&archive, scratch), connections(), stop).await?;
    if let Some(heir) = heir {
        rights::hand_over(&session, heir).await?;
    }
    if analyze {
        session.run("reading statistics for the planner", "ANALYZE").await?;
    }
    let Some(given) = given else { return Ok(Vec::new()) };
    // Last: an owner may have taken his own right to write away. As the endpoint's own role, which may be a member of more roles.
    session.run("preparing a session", "RESET ROLE").await?;
    Ok(rights::give(&session, given).await?)
}

async fn read(reader: &Reader, path: PathBuf) -> Result<Vec<u8>, CopyError> {
    Ok(spawn_read(reader, path).await.map_err(gave_up)??)
}

fn spawn_read(reader: &Reader, path: PathBuf) -> JoinHandle<Result<Vec<u8>, RepositoryError>> {
    let reader = reader.clone();
    tokio::task::spawn_blocking(move || reader.read(&path))
}

fn gave_up(_: tokio::task::JoinError) -> CopyError {
    RepositoryError::Failed { doing: "reading a snapshot".into(), cause: "the library gave up".into() }.into()
}

async fn session(endpoint: &Endpoint, database: &str, role: Option<&str>, stop: &Stop) -> Result<Session, CopyError> {
    let session = Session::open(endpoint, database, Pace::Long, stop).await?;
    // Nobody relies on the database before it is whole.
    let role = role.map(|role| format!("; SET ROLE {}", ident(role))).unwrap_or_default();
    session.run("preparing a session", &format!("SET synchronous_commit = off{role}")).await?;
    Ok(session)
}

/// All rows, the largest tables first.
async fn rows(reader: &Reader, exported: &Exported, import: &Import<'_>) -> Result<(), CopyError> {
    let Import { endpoint, database, role, prefix, stop, report, .. } = import;
    let mut tables: Vec<_> = exported.tables.iter().filter(|t| !t.files.is_empty()).collect();
    tables.sort_by_key(|t| std::cmp::Reverse(t.sum.bytes));
    let files: usize = tables.iter().map(|t| t.files.len()).sum();
    let all = exported.sum();
    let mut pacer = Pacer::new(report.clone(), all.bytes, Some(all.rows));
    let (give, given) = channel(1);
    let (done, mut finished) = channel::<Sum>(16);
    let (stopper, own) = stop::channel();
    let lane = Arc::new(Lane {
        reader: reader.clone(),
        endpoint: (*endpoint).clone(),
        database: (*database).to_owned(),
        role: role.map(str::to_owned),
        loads: Mutex::new(given),
        stop: own,
    });
    let mut lanes = JoinSet::new();
    for _ in 0..connections().min(files) {
        lanes.spawn(run(lane.clone(), done.clone()));
    }
    drop((lane, done));
    let feed = async move {
        for table in tables {
            let sql = format!("COPY {} FROM STDIN (FORMAT text, ENCODING '{}')", table.target(), exported.encoding);
            for files in table.whole_rows() {
                let files = files.iter().map(|FileOf { path, sum, .. }| (PathBuf::from(prefix).join(path), *sum)).collect();
                let load = Load { files, name: table.full_name(), sql: sql.clone() };
                if give.send(load).await.is_err() {
                    return;
                }
            }
        }
    };
    let watch = async {
        while let Some(sum) = finished.recv().await {
            pacer.add(sum.bytes, sum.rows);
        }
        pacer
    };
    let ended = async {
        let mut first: Option<CopyError> = None;
        while let Some(ended) = lanes.join_next().await {
            if let Err(error) = ended.map_err(gave_up).and_then(|r| r) {
                stopper.stop();
                if first.as_ref().is_none_or(|first| error.says_more_than(first)) {
                    first = Some(error);
                }
            }
        }
        first.map_or(Ok(()), Err)
    };
    let work = async {
        let ((), pacer, ended) = tokio::join!(feed, watch, ended);
        if ended.is_ok() {
            pacer.end();
        }
        ended
    };
    let mut work = pin!(work);
    tokio::select! {
        result = &mut work => result,
        () = stop.asked() => {
            stopper.stop();
            work.await.and(Err(stop::Stopped.into()))
        }
    }
}

/// Content of a file that is being read.
type Reading = JoinHandle<Result<Vec<u8>, RepositoryError>>;

async fn run(lane: Arc<Lane>, done: tokio::sync::mpsc::Sender<Sum>) -> Result<(), CopyError> {
    let session = session(&lane.endpoint, &lane.database, lane.role.as_deref(), &lane.stop).await?;
    let mut ahead = next(&lane).await;
    while let Some((load, first)) = ahead {
        ahead = write(&session, &lane, &load, first, &done).await?;
    }
    Ok(())
}

/// The next files, the first of which is being read.
async fn next(lane: &Lane) -> Option<(Load, Reading)> {
    let load = lane.loads.lock().await.recv().await?;
    let first = spawn_read(&lane.reader, load.files.first()?.0.clone());
    Some((load, first))
}

/// Writes files of which the first is being read, in one statement: if one of them is not what it was, the server takes none.
/// While one is sent, the next is read.
async fn write(
    session: &Session,
    lane: &Lane,
    load: &Load,
    first: Reading,
    done: &tokio::sync::mpsc::Sender<Sum>,
) -> Result<Option<(Load, Reading)>, CopyError> {
    let doing = format!("writing table {}", load.name);
    let (mut summing, mut reading, mut ahead, mut rows) = (Summing::default(), Some(first), None, 0);
    let mut sink = None;
    for (at, (path, sum)) in load.files.iter().enumerate() {
        let Some(read) = reading.take() else { break };
        let content = Bytes::from(read.await.map_err(gave_up)??);
        match load.files.get(at + 1) {
            Some((path, _)) => reading = Some(spawn_read(&lane.reader, path.clone())),
            None => ahead = next(lane).await,
        }
        if summing.block(&content) != *sum {
            let doing = format!("reading {}", path.display());
            let cause = format!("its rows are not those that were read of table {}", load.name);
            return Err(RepositoryError::Damaged { doing, cause }.into());
        }
        if sink.is_none() {
            sink = Some(Box::pin(session.watched(&doing, session.client().copy_in::<_, Bytes>(load.sql.as_str())).await?));
        }
        if let Some(sink) = &mut sink {
            let sent = session.watched(&doing, async { Ok(send(sink.as_mut(), content).await) }).await?;
            if !sent {
                break;
            }
        }
        rows += sum.rows;
        let _ = done.send(*sum).await;
    }
    let taken = match &mut sink {
        Some(sink) => session.watched(&doing, sink.as_mut().finish()).await?,
        None => 0,
    };
    if taken != rows {
        let cause = format!("table {} took {taken} rows of {rows}", load.name);
        return Err(RepositoryError::Damaged { doing, cause }.into());
    }
    Ok(ahead)
}

/// Sends a file. False: the server has ended it, and tells why when the statement is ended.
async fn send(mut sink: std::pin::Pin<&mut tokio_postgres::CopyInSink<Bytes>>, content: Bytes) -> bool {
    let mut at = 0;
    while at < content.len() {
        let end = content.len().min(at + SENT);
        if sink.as_mut().feed(content.slice(at..end)).await.is_err() {
            return false;
        }
        at = end;
    }
    true
}

/// Reads the statements of large objects and gives them to `run`.
async fn large_objects<F: Future<Output = Result<(), crate::data::postgres::PgError>>>(
    reader: &Reader,
    files: Vec<PathBuf>,
    run: impl FnOnce(Receiver<Vec<u8>>) -> F,
) -> Result<(), CopyError> {
    let (give, pieces) = channel(1);
    let feed = async move {
        for file in files {
            if file.ends_with(large::RIGHTS) {
                // An owner that cannot be given is no reason to give up what is there.
                let _ = give.send(b"\\set ON_ERROR_STOP off\n".to_vec()).await;
            }
            let piece = read(reader, file).await?;
            if give.send(piece).await.is_err() {
                break;
            }
        }
        Ok::<_, CopyError>(())
    };
    let (fed, ran) = tokio::join!(feed, run(pieces));
    fed?;
    ran?;
    Ok(())
}
