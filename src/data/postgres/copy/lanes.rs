//! Several connections that read parts of tables in one view, each in turn, and give their blocks in the order of the parts.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use futures::TryStreamExt;
use tokio::{
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
        watch,
    },
    task::JoinSet,
};
use twox_hash::XxHash3_64;

use super::{
    CopyError, Exported, MOST, Moved, PIECE, Pacer, Report, connections,
    parts::{Range, cut},
    rows::{Sum, Summing},
    view::{View, lock},
};
use crate::data::{
    postgres::{
        Endpoint, Pace, PgError, Session,
        error::CONNECTION_LOST,
        transform::{Transform, TransformError},
    },
    stop::{self, Stop},
};

/// So many blocks of a part wait for the parts before it.
const WAITING: usize = 4;
/// No block is cut before so many bytes; about one row in a MiB and a half then ends it.
const SMALLEST: usize = 1 << 20;
/// Up to so many tables each lane locks by itself. A server has room for some thousands of locks.
const LOCKED_BY_EACH: usize = 500;
/// What a transform is given at once.
const CHUNK: usize = 256 << 10;
/// A larger row than this is changed by one lane at a time.
const LARGE: usize = 4 << 20;
/// A larger row than this, in bytes of COPY's text, cannot be changed: it is held twice, in a Job that may hold 384 MiB.
pub const LARGEST: usize = 112_000_000;

/// Makes what changes the rows of one part.
pub type Change = Arc<dyn Fn() -> Box<dyn Transform> + Send + Sync>;

/// A part of a table, to be read.
pub struct Part {
    /// The table, by its place in the caller's list.
    pub table: usize,
    /// For messages: `schema.name`.
    pub name: String,
    /// The COPY statement.
    pub sql: String,
    /// What changes its rows.
    pub change: Option<Change>,
    /// Its share of the server's disk, for progress.
    pub weight: u64,
    /// How many rows it may have, by the server's estimate.
    pub rows: Option<u64>,
}

enum Step {
    Block(Bytes, Sum),
    Whole,
}

struct Lane {
    endpoint: Endpoint,
    database: String,
    snapshot: String,
    locked: Vec<String>,
    parts: Mutex<Receiver<(Part, Blocks)>>,
    stop: Stop,
}

/// Where the blocks of a part go.
struct Blocks {
    to: Sender<Step>,
    block: Vec<u8>,
    summing: Summing,
    /// The number of the part.
    number: usize,
    /// The number of the part whose blocks are taken.
    turn: watch::Receiver<usize>,
}

/// Takes blocks in the order of their parts.
pub trait Take: Send {
    /// A block, with the number of its part's table, whether a new part begins, and its sum.
    fn take(&mut self, table: usize, fresh: bool, block: Bytes, sum: Sum) -> impl Future<Output = Result<(), CopyError>> + Send;
}

/// Only the sums of tables are of interest.
impl Take for Vec<Sum> {
    async fn take(&mut self, table: usize, _: bool, _: Bytes, sum: Sum) -> Result<(), CopyError> {
        self[table].add(sum);
        Ok(())
    }
}

/// Reads parts. `rows`: how many they have, where that is known or estimated.
pub async fn read(
    view: &View,
    (parts, rows): (Vec<Part>, Option<u64>),
    stop: &Stop,
    report: Report,
    taker: &mut impl Take,
) -> Result<(), CopyError> {
    let mut pacer = Pacer::new(report, parts.iter().map(|p| p.weight).sum(), rows);
    let count = connections().min(parts.len().max(1));
    let (give, given) = channel(1);
    let (order, mut ordered) = channel::<(usize, u64, Receiver<Step>)>(2 * count);
    let (turns, turn) = watch::channel(0);
    let (stopper, own) = stop::channel();
    let lane = Arc::new(Lane {
        endpoint: view.endpoint.clone(),
        database: view.database.clone(),
        snapshot: view.snapshot.clone(),
        locked: view.locked.clone(),
        parts: Mutex::new(given),
        stop: own,
    });
    let mut lanes = JoinSet::new();
    for _ in 0..count {
        lanes.spawn(run(lane.clone()));
    }
    drop(lane);
    let feed = async move {
        for (number, part) in parts.into_iter().enumerate() {
            let (to, received) = channel(WAITING);
            let blocks = Blocks { to, block: Vec::new(), summing: Summing::default(), number, turn: turn.clone() };
            let (table, weight) = (part.table, part.weight);
            // In this order: whatever is waited for below, some lane already has.
            if give.send((part, blocks)).await.is_err() || order.send((table, weight, received)).await.is_err() {
                break;
            }
        }
    };
    let collect = async {
        while let Some((table, weight, mut blocks)) = ordered.recv().await {
            let mut fresh = true;
            loop {
                match blocks.recv().await {
                    Some(Step::Block(block, sum)) => {
                        taker.take(table, fresh, block, sum).await?;
                        pacer.add(0, sum.rows);
                    }
                    Some(Step::Whole) => break,
                    None => return Err(CopyError::Ended),
                }
                fresh = false;
            }
            pacer.add(weight, 0);
            turns.send_modify(|number| *number += 1);
        }
        pacer.end();
        Ok(())
    };
    let work = async {
        let (mut feed, mut collect) = (pin!(feed), pin!(collect));
        tokio::select! {
            // What goes wrong is seen here first; then nobody takes what is fed any more.
            collected = &mut collect => collected,
            () = &mut feed => collect.await,
        }
    };
    let collected = tokio::select! {
        collected = work => collected,
        () = stop.asked() => Err(stop::Stopped.into()),
    };
    if collected.is_err() {
        // What still runs on the server is cancelled.
        stopper.stop();
    }
    let mut first = collected.err();
    while let Some(ended) = lanes.join_next().await {
        let ended = ended.unwrap_or(Err(CopyError::Ended));
        if let Err(error) = ended
            && first.as_ref().is_none_or(|first| error.says_more_than(first))
        {
            first = Some(error);
        }
    }
    first.map_or(Ok(()), Err)
}

async fn run(lane: Arc<Lane>) -> Result<(), CopyError> {
    let session = Session::open(&lane.endpoint, &lane.database, Pace::Long, &lane.stop).await?;
    // Pages are read in their order and once, so that the same rows give the same blocks each time.
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{}'; SET LOCAL synchronize_seqscans = off; \
         SET LOCAL enable_seqscan = off; SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0",
        lane.snapshot
    );
    session.run("joining the view", &sql).await.map_err(|error| match error {
        // The snapshot is gone with the session that exported it: as if this connection had been cut too.
        PgError::Statement { server, doing, cause, code } if code.as_deref().is_some_and(|c| ["22023", "42704"].contains(&c)) => {
            PgError::Statement { server, doing, cause, code: Some(CONNECTION_LOST.to_owned()) }
        }
        other => other,
    })?;
    // Whoever waits to change a table meanwhile would make a lane that comes later wait for him, and he waits for the view.
    // Where that would take too much of the server's room for locks, the wait is bounded, and the attempt fails.
    if lane.locked.len() <= LOCKED_BY_EACH {
        lock(&session, &lane.locked).await?;
    }
    loop {
        let next = lane.parts.lock().await.recv().await;
        let Some((part, mut blocks)) = next else { break };
        copy(&session, &part, &mut blocks).await?;
        blocks.to.send(Step::Whole).await.map_err(|_| CopyError::Ended)?;
    }
    session.run("ending the view", "COMMIT").await?;
    Ok(())
}

/// Reads one part.
async fn copy(session: &Session, part: &Part, blocks: &mut Blocks) -> Result<(), CopyError> {
    let doing = format!("reading table {}", part.name);
    let read = async {
        let mut stream = pin!(session.client().copy_out(part.sql.as_str()).await?);
        let mut change = part.change.as_ref().map(|make| Changed { change: make(), raw: Vec::new() });
        // A large row comes in several pieces, of which the last has the newline.
        let mut row = 0;
        while let Some(piece) = stream.try_next().await? {
            row += piece.len();
            let taken = match &mut change {
                None => blocks.rows(&piece, row).await,
                Some(change) => change.rows(&piece, row, &part.name, blocks).await,
            };
            if taken.is_err() {
                return Ok(taken);
            }
            if piece.ends_with(b"\n") {
                row = 0;
            }
        }
        if let Some(change) = &mut change
            && let Err(error) = change.all(&mut blocks.block)
        {
            return Ok(Err(error.into()));
        }
        Ok(blocks.give().await)
    };
    session.watched(&doing, read).await?
}

impl Blocks {
    /// Rows as they are; `row` bytes of the last one have come.
    async fn rows(&mut self, piece: &[u8], row: usize) -> Result<(), CopyError> {
        self.block.extend_from_slice(piece);
        if is_full(&self.block, piece, row) { self.give().await } else { Ok(()) }
    }

    /// Hands on what there is. What is too large goes in several blocks.
    async fn give(&mut self) -> Result<(), CopyError> {
        let full = std::mem::take(&mut self.block);
        if full.len() <= MOST + CHUNK {
            return self.send(full.into()).await;
        }
        for some in full.chunks(PIECE) {
            self.send(Bytes::copy_from_slice(some)).await?;
        }
        Ok(())
    }

    async fn send(&mut self, block: Bytes) -> Result<(), CopyError> {
        if block.is_empty() {
            return Ok(());
        }
        let sum = self.summing.block(&block);
        self.to.send(Step::Block(block, sum)).await.map_err(|_| CopyError::Ended)
    }

    /// Waits until the blocks of this part are those that are taken. Whoever holds much then, gets rid of it, and is the only one.
    async fn turn(&mut self) -> Result<(), CopyError> {
        let number = self.number;
        self.turn.wait_for(|turn| *turn == number).await.map(drop).map_err(|_| CopyError::Ended)
    }
}

/// Rows on their way through a transform.
struct Changed {
    change: Box<dyn Transform>,
    raw: Vec<u8>,
}

impl Changed {
    async fn rows(&mut self, piece: &[u8], row: usize, table: &str, blocks: &mut Blocks) -> Result<(), CopyError> {
        if row > LARGEST {
            let why = too_large(&format!("more than {}", LARGEST / 1_000_000));
            return Err(TransformError { table: table.to_owned(), why }.into());
        }
        if row > LARGE {
            blocks.turn().await?;
        }
        self.raw.extend_from_slice(piece);
        if self.raw.len() >= CHUNK && piece.ends_with(b"\n") {
            self.all(&mut blocks.block)?;
        }
        if blocks.block.len() >= PIECE { blocks.give().await } else { Ok(()) }
    }

    fn all(&mut self, block: &mut Vec<u8>) -> Result<(), TransformError> {
        if self.raw.is_empty() {
            return Ok(());
        }
        self.change.rows(&self.raw, block)?;
        if self.raw.len() > LARGE {
            self.raw = Vec::new();
        }
        self.raw.clear();
        Ok(())
    }
}

/// What is said of a table with a row of so many MB that is to be changed.
pub fn too_large(size: &str) -> String {
    format!(
        "a row has {size} MB as COPY writes it (a byte of bytea is two there), and one that is masked is held whole and may have {}: keep \
         such rows with `rows: {{where: …}}` from leaving, or make them smaller",
        LARGEST / 1_000_000
    )
}

/// Whether a block ends with this piece of a row, of which so many bytes have come. Blocks are cut where the rows say so: what
/// is added or removed in one block leaves the next ones what they were, and they are stored once.
fn is_full(block: &[u8], piece: &[u8], row: usize) -> bool {
    if !piece.ends_with(b"\n") {
        return block.len() >= MOST;
    }
    if row >= SMALLEST {
        return true;
    }
    if block.len() < SMALLEST {
        return false;
    }
    let odds = u64::MAX / (PIECE - SMALLEST) as u64 * 2;
    block.len() >= PIECE || XxHash3_64::oneshot(piece) < odds.saturating_mul(row as u64)
}

/// The parts of tables. `more` gives what else a table's rows must fulfil, and what changes them; nothing, where none is read.
pub fn parts<'a>(
    tables: impl Iterator<Item = (usize, &'a Moved, super::parts::Size)>,
    encoding: &str,
    mut more: impl FnMut(usize) -> Option<(Option<String>, Option<Change>)>,
) -> Vec<Part> {
    let mut list = Vec::new();
    for (table, moved, size) in tables {
        let Some((condition, change)) = more(table) else { continue };
        let ranges = cut(size);
        let many = (ranges.len() as u64).max(1);
        let weight = size.bytes / many;
        // How many rows a condition leaves, nobody has counted.
        let rows = size.rows.filter(|_| moved.condition.is_none() && condition.is_none()).map(|rows| rows / many);
        for range in ranges {
            let conditions: Vec<String> = Range::condition(range)
                .into_iter()
                .chain([&moved.condition, &condition].into_iter().flatten().map(|c| format!("({c})")))
                .collect();
            list.push(Part {
                table,
                name: moved.full_name(),
                sql: moved.reading(&conditions, encoding),
                change: change.clone(),
                weight,
                rows,
            });
        }
    }
    list
}

/// What the tables hold now, in the order of `exported`. A table that is missing has no rows.
pub async fn sums(view: &View, exported: &Exported, stop: &Stop, report: Report) -> Result<Vec<Sum>, CopyError> {
    let mut oids: Vec<Option<u32>> = Vec::with_capacity(exported.tables.len());
    let configured = view.configured().await?;
    let known: std::collections::BTreeMap<(&str, &str), u32> = view
        .tables
        .iter()
        .map(|t| ((t.schema.as_str(), t.name.as_str()), t.oid))
        .chain(configured.iter().map(|t| ((t.schema.as_str(), t.name.as_str()), t.oid)))
        .collect();
    for table in &exported.tables {
        oids.push(known.get(&(table.schema.as_str(), table.name.as_str())).copied());
    }
    let all: Vec<u32> = oids.iter().flatten().copied().collect();
    let sizes = view.sizes(&all).await?;
    let there = exported.tables.iter().enumerate().filter_map(|(at, t)| Some((at, t, *sizes.get(&oids[at]?)?)));
    let mut sums = vec![Sum::default(); exported.tables.len()];
    let parts = parts(there, &exported.encoding, |_| Some((None, None)));
    read(view, (parts, Some(exported.sum().rows)), stop, report, &mut sums).await?;
    Ok(sums)
}
