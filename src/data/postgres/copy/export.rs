//! A database into a snapshot.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;

use super::{
    CopyError, Exported, FileOf, Moved, Report, Sum,
    lanes::{self, Change, Take},
    large,
    parts::{Size, directory},
    view::View,
};
use crate::data::{
    postgres::{
        Endpoint,
        tools::{Definitions, Section, Tools},
        transform::{Leaving, Transforms},
    },
    repository::Writer,
    stop::Stop,
};

/// The definitions of a database.
pub struct Defined {
    /// The text of what comes before rows.
    pub before: Vec<u8>,
    /// The text of what comes after them.
    pub after: Vec<u8>,
    archive: PathBuf,
}

/// Reads the definitions of a database, as of a view's snapshot where one is given, by way of a file.
pub async fn define(
    tools: &Tools,
    (endpoint, database, snapshot): (&Endpoint, &str, Option<&str>),
    which: Definitions,
    archive: PathBuf,
    stop: &Stop,
) -> Result<Defined, CopyError> {
    tools.definitions(endpoint, database, snapshot, which, &archive, stop).await?;
    let before = tools.section(&archive, which, Section::PreData, stop).await?;
    let after = tools.section(&archive, which, Section::PostData, stop).await?;
    Ok(Defined { before, after, archive })
}

/// What to write, and how.
pub struct Export<'a> {
    /// Programs that fit the server.
    pub tools: &'a Tools,
    /// The directory in the snapshot.
    pub prefix: &'a str,
    /// What happens to rows. Where it is given, only tables that it names leave; comments, publications, subscriptions,
    /// security labels, owners, grants, large objects and the rows of extensions' own tables never do.
    pub transforms: Option<Arc<dyn Transforms>>,
    /// Its definitions, of the same view.
    pub defined: Defined,
    /// Ends it.
    pub stop: &'a Stop,
    /// Told how far it is, in bytes on the server's disk.
    pub report: Report,
}

/// Writes a view of a database into a snapshot. `manifest` makes the file `manifest.json` of what was written.
///
/// # Errors
/// [`CopyError::Ended`] where the repository failed: ending the writer says why. After any error the snapshot is not whole.
pub async fn export(
    view: &View,
    writer: &Writer,
    export: Export<'_>,
    manifest: impl FnOnce(&Exported) -> Result<Vec<u8>, CopyError>,
) -> Result<Exported, CopyError> {
    let Export { tools, prefix, transforms, defined, stop, report } = export;
    let Defined { before, after, archive } = defined;
    let at = |path: &str| PathBuf::from(prefix).join(path);
    let masked = transforms.is_some();
    let sequences = view.sequences(!masked).await?;
    // A transform reads UTF-8. Without one, bytes stay what they are: not all that a server stores has a place in Unicode.
    let encoding = if masked { "UTF8".to_owned() } else { view.encoding.clone() };
    let (mut tables, leaving) = planned(view, transforms.as_deref()).await?;
    tables.sort_by_cached_key(|t| directory(&t.0.schema, &t.0.name));
    let (mut moved, sizes, which) = unzip(tables);
    let listed = moved.iter().enumerate().zip(&sizes).map(|((at, table), size)| (at, table, *size));
    let parts = lanes::parts(listed, &encoding, |table| match &leaving[which[table]] {
        Leaves::Nothing => None,
        Leaves::Rows(condition, change) => Some((condition.clone(), change.clone())),
    });
    let mut files = Files { writer, prefix, moved: &mut moved, part: 0, piece: 0, current: None };
    let estimate = parts.iter().map(|p| p.rows).sum();
    lanes::read(view, (parts, estimate), stop, report, &mut files).await?;
    let large_objects = if masked { Vec::new() } else { large::export(view, tools, writer, prefix, stop).await? };
    let exported = Exported { encoding, tables: moved, sequences, large_objects };
    writer.file(at("load.sql"), exported.script()).await?;
    writer.file(at("manifest.json"), manifest(&exported)?).await?;
    writer.file(at("post-data.sql"), after).await?;
    writer.file(at("pre-data.sql"), before).await?;
    let archive = tokio::fs::read(&archive).await.map_err(CopyError::files("reading the definitions"))?;
    writer.file(at("schema.dump"), archive).await?;
    Ok(exported)
}

/// Makes files of blocks.
struct Files<'a> {
    writer: &'a Writer,
    prefix: &'a str,
    moved: &'a mut [Moved],
    part: u32,
    piece: u32,
    current: Option<usize>,
}

impl Take for Files<'_> {
    async fn take(&mut self, table: usize, fresh: bool, block: Bytes, sum: Sum) -> Result<(), CopyError> {
        (self.part, self.piece) = match (self.current == Some(table), fresh) {
            (false, _) => (0, 0),
            (true, true) => (self.part + 1, 0),
            (true, false) => (self.part, self.piece + 1),
        };
        self.current = Some(table);
        let moved = &mut self.moved[table];
        let path = format!("data/{}/{:05}-{:05}.copy", directory(&moved.schema, &moved.name), self.part, self.piece);
        let goes_on = !block.ends_with(b"\n");
        self.writer.file(PathBuf::from(self.prefix).join(&path), block).await?;
        moved.sum.add(sum);
        moved.files.push(FileOf { path, sum, goes_on });
        Ok(())
    }
}

enum Leaves {
    Nothing,
    Rows(Option<String>, Option<Change>),
}

type Planned = (Moved, Size, usize);

/// The tables with rows of their own, and how each leaves.
async fn planned(view: &View, transforms: Option<&dyn Transforms>) -> Result<(Vec<Planned>, Vec<Leaves>), CopyError> {
    let configured = if transforms.is_some() { Vec::new() } else { view.configured().await? };
    let ours: Vec<_> = view.tables.iter().filter(|t| t.kind.has_rows()).collect();
    let oids: Vec<u32> = ours.iter().map(|t| t.oid).chain(configured.iter().map(|t| t.oid)).collect();
    let sizes = view.sizes(&oids).await?;
    let (mut tables, mut leaving) = (Vec::new(), Vec::new());
    let empty = |schema: &str, name: &str, columns: Vec<String>, condition: Option<String>| Moved {
        schema: schema.to_owned(),
        name: name.to_owned(),
        columns,
        condition,
        sum: Sum::default(),
        files: Vec::new(),
    };
    for table in ours {
        leaving.push(match transforms.map(|t| t.of(table)).transpose()? {
            None => Leaves::Rows(None, None),
            Some(Leaving::Nothing) => Leaves::Nothing,
            Some(Leaving::Rows { condition, change }) => Leaves::Rows(condition, change.map(|make| Arc::from(make) as Change)),
        });
        let columns = table.written().map(|c| c.name.clone()).collect();
        let size = sizes.get(&table.oid).copied().unwrap_or_default();
        tables.push((empty(&table.schema, &table.name, columns, None), size, leaving.len() - 1));
    }
    for table in configured {
        leaving.push(Leaves::Rows(None, None));
        let size = sizes.get(&table.oid).copied().unwrap_or_default();
        tables.push((empty(&table.schema, &table.name, table.columns, table.condition), size, leaving.len() - 1));
    }
    Ok((tables, leaving))
}

fn unzip(tables: Vec<Planned>) -> (Vec<Moved>, Vec<Size>, Vec<usize>) {
    let mut out = (Vec::new(), Vec::new(), Vec::new());
    for (moved, size, which) in tables {
        out.0.push(moved);
        out.1.push(size);
        out.2.push(which);
    }
    out
}
