//! Large objects. pg_dump writes them as statements; those are cut into files at ends of lines, and run one after another.
//! Owners and grants are a file of their own, for imports that leave them out.

use std::path::PathBuf;

use super::{CopyError, PIECE, view::View};
use crate::data::{
    postgres::{
        quote::{ident, literal},
        tools::Tools,
    },
    repository::Writer,
    stop::Stop,
};

/// The file of owners and grants; it comes last.
pub const RIGHTS: &str = "large-objects/rights.sql";
/// From this version of pg_dump on, the statements that make the objects come with their data.
const MAKES_THEM: u32 = 17;

const OBJECTS: &str = "SELECT m.oid, r.rolname::text, obj_description(m.oid, 'pg_largeobject'), \
    coalesce((SELECT array_agg(CASE a.privilege_type WHEN 'SELECT' THEN 'SELECT' ELSE 'UPDATE' END ORDER BY 1) FROM aclexplode(m.lomacl) a WHERE a.grantee = 0), '{}'), \
    coalesce((SELECT array_agg(a.privilege_type || ' ' || g.rolname) FROM aclexplode(m.lomacl) a JOIN pg_roles g ON g.oid = a.grantee \
      WHERE a.grantee <> m.lomowner), '{}') \
    FROM pg_largeobject_metadata m JOIN pg_roles r ON r.oid = m.lomowner ORDER BY m.oid";

/// Writes the large objects. The files, in the order in which they are run; none where there are no objects.
pub async fn export(view: &View, tools: &Tools, writer: &Writer, prefix: &str, stop: &Stop) -> Result<Vec<String>, CopyError> {
    let objects = view.session.query("reading the large objects", OBJECTS, &[]).await?;
    if objects.is_empty() {
        return Ok(Vec::new());
    }
    let (mut head, mut rights) = (String::new(), String::new());
    for row in &objects {
        let (oid, owner): (u32, String) = (row.get(0), row.get(1));
        if tools.major < MAKES_THEM {
            head += &format!("SELECT pg_catalog.lo_create('{oid}');\n");
            if let Some(comment) = row.get::<_, Option<String>>(2) {
                head += &format!("COMMENT ON LARGE OBJECT {oid} IS {};\n", literal(&comment));
            }
        }
        rights += &format!("ALTER LARGE OBJECT {oid} OWNER TO {};\n", ident(&owner));
        for privilege in row.get::<_, Vec<String>>(3) {
            rights += &format!("GRANT {privilege} ON LARGE OBJECT {oid} TO PUBLIC;\n");
        }
        for grant in row.get::<_, Vec<String>>(4) {
            if let Some((privilege, role)) = grant.split_once(' ') {
                rights += &format!("GRANT {privilege} ON LARGE OBJECT {oid} TO {};\n", ident(role));
            }
        }
    }
    let (give, mut blocks) = tokio::sync::mpsc::channel(1);
    let read = tools.large_objects((&view.endpoint, &view.database), &view.snapshot, (head, PIECE), give, stop);
    let write = async {
        let mut files = Vec::new();
        while let Some(block) = blocks.recv().await {
            let path = format!("large-objects/{:05}.sql", files.len());
            writer.file(PathBuf::from(prefix).join(&path), block).await?;
            files.push(path);
        }
        Ok::<_, CopyError>(files)
    };
    let (read, written) = tokio::join!(read, write);
    let mut files = written?;
    read?;
    writer.file(PathBuf::from(prefix).join(RIGHTS), rights).await?;
    files.push(RIGHTS.to_owned());
    Ok(files)
}
