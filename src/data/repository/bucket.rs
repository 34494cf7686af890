//! A repository in a bucket, in the layout that restic has there.
//!
//! A bucket knows no locks. Who finds no repository makes key and configuration, and puts both into one object, if there is none
//! yet: whoever comes first decides. All who come, also after one that was killed, then write what stands there, so it does
//! not matter who does, how often, or how many at once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rustic_core::{
    BytesList, Credentials, ErrorKind, FileType, Id, KeyOptions, ReadBackend, RepositoryBackends, RusticError, RusticResult,
    WriteBackend,
};
use serde::{Deserialize, Serialize};

use super::{RepositoryError, configuration, place, raw};
use crate::data::s3::{Bucket, S3Error};

/// The configuration: the last object of a repository that is made.
const CONFIG: &str = "config";
/// The object that decides which repository is made.
const MAKING: &str = ".making";
const KEYS: &str = "keys/";

/// The objects of a bucket as the library takes them.
struct Objects(Bucket);

/// What the library works on.
pub fn backends(bucket: &Bucket) -> RepositoryBackends {
    RepositoryBackends::new(Arc::new(Objects(bucket.clone())), None)
}

/// Whether a repository is there.
pub fn is_there(bucket: &Bucket) -> Result<bool, RepositoryError> {
    let found = bucket.get(CONFIG).map_err(|error| RepositoryError::from_s3("opening it", error))?;
    Ok(found.is_some())
}

/// Makes the repository, or ends what another began.
pub fn make(bucket: &Bucket, credentials: &Credentials) -> Result<(), RepositoryError> {
    let doing = "making it";
    let failed = |error| RepositoryError::from_s3(doing, error);
    let damaged = |cause: &str| RepositoryError::Damaged { doing: "opening it".into(), cause: cause.into() };
    let said = match bucket.get(MAKING).map_err(failed)? {
        Some(said) => said,
        None => {
            let has = |beginning| bucket.list(beginning).map(|found| !found.is_empty()).map_err(failed);
            if has("snapshots/")? || has("index/")? {
                // The configuration comes before them: another may have made it all since.
                return if is_there(bucket)? { Ok(()) } else { Err(damaged("its object config is missing")) };
            }
            let made = Made::new(credentials)?;
            let text = serde_json::to_vec(&made).map_err(|error| damaged(&error.to_string()))?;
            bucket.create(MAKING, text.into()).map_err(failed)?;
            bucket.get(MAKING).map_err(failed)?.ok_or_else(|| damaged("what was just written is not to be read"))?
        }
    };
    let unclear = |_| damaged("its object .making is not what was written");
    let Made { key, key_content, config } =
        serde_json::from_slice(&said).map_err(|_| damaged("its object .making is no JSON"))?;
    let (key_content, config) = (hex::decode(key_content).map_err(unclear)?, hex::decode(config).map_err(unclear)?);
    // A key of somebody else, who was killed while making it, opens nothing, and would be tried first.
    for (other, _) in bucket.list(KEYS).map_err(failed)? {
        if other != key && !is_there(bucket)? {
            bucket.delete(&other).map_err(failed)?;
        }
    }
    bucket.put(&key, vec![key_content.into()]).map_err(failed)?;
    // What somebody changed since stays.
    bucket.create(CONFIG, config.into()).map_err(failed)?;
    Ok(())
}

/// A new repository, as text. Nothing in it is secret: the key is encrypted with the password, the configuration with the key.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    key: String,
    key_content: String,
    config: String,
}

impl Made {
    fn new(credentials: &Credentials) -> Result<Self, RepositoryError> {
        let doing = "making it";
        let staged = Staged::default();
        let backends = RepositoryBackends::new(Arc::new(staged.clone()), None);
        let unopened = place::unopened(doing, &backends)?;
        raw(doing, unopened.init(credentials, &KeyOptions::default(), &configuration()))?;
        let objects = staged.objects();
        let find = |beginning| objects.iter().find(|(name, _)| name.starts_with(beginning));
        let missing =
            || RepositoryError::Failed { doing: doing.into(), cause: "the library made no key or no configuration".into() };
        let (key, key_content) = find(KEYS).ok_or_else(missing)?;
        let (_, config) = find(CONFIG).ok_or_else(missing)?;
        Ok(Self { key: key.clone(), key_content: hex::encode(key_content), config: hex::encode(config) })
    }
}

/// The name of a file of a repository.
fn name(tpe: FileType, id: &Id) -> String {
    let id = id.to_hex();
    match tpe {
        FileType::Config => CONFIG.to_owned(),
        FileType::Pack => format!("{}/{}/{}", tpe.dirname(), &id[..2], id.as_str()),
        _ => format!("{}/{}", tpe.dirname(), id.as_str()),
    }
}

/// The id in such a name. What lies among them under other names is nobody's.
fn id(tpe: FileType, object: &str) -> Option<Id> {
    let id = object.rsplit('/').next()?.parse().ok()?;
    (name(tpe, &id) == object).then_some(id)
}

fn sizes<'a>(tpe: FileType, objects: impl Iterator<Item = (&'a String, u64)>) -> Vec<(Id, u32)> {
    let known = |(object, size): (&String, u64)| Some((id(tpe, object)?, u32::try_from(size).unwrap_or(u32::MAX)));
    objects.filter_map(known).collect()
}

fn failed(doing: &str, error: S3Error) -> Box<RusticError> {
    RusticError::with_source(ErrorKind::Backend, format!("{doing} failed"), error)
}

fn missing(location: &str, key: String) -> S3Error {
    S3Error::Missing { place: location.to_owned(), key }
}

impl ReadBackend for Objects {
    fn location(&self) -> String {
        self.0.location().to_string()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        if tpe == FileType::Config {
            let found = self.0.get(CONFIG).map_err(|error| failed("looking for the configuration", error))?;
            return Ok(found.map(|c| (Id::default(), u32::try_from(c.len()).unwrap_or(u32::MAX))).into_iter().collect());
        }
        let objects = self.0.list(&format!("{}/", tpe.dirname())).map_err(|error| failed("listing objects", error))?;
        Ok(sizes(tpe, objects.iter().map(|(object, size)| (object, *size))))
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        let object = name(tpe, id);
        let found = self.0.get(&object).and_then(|found| found.ok_or_else(|| missing(&self.location(), object)));
        found.map_err(|error| failed("reading an object", error))
    }

    fn read_partial(&self, tpe: FileType, id: &Id, _: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        let part = self.0.part(&name(tpe, id), offset.into(), length.into());
        part.map_err(|error| failed("reading an object", error))
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        name(tpe, id)
    }
}

impl WriteBackend for Objects {
    fn write_bytes(&self, tpe: FileType, id: &Id, _: bool, content: BytesList) -> RusticResult<()> {
        self.0.put(&name(tpe, id), content.into_vec()).map_err(|error| failed("writing an object", error))
    }

    fn remove(&self, tpe: FileType, id: &Id, _: bool) -> RusticResult<()> {
        self.0.delete(&name(tpe, id)).map_err(|error| failed("deleting an object", error))
    }
}

/// A repository in memory: what is made there is looked at before it is written anywhere.
#[derive(Clone, Default)]
struct Staged(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Staged {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadBackend for Staged {
    fn location(&self) -> String {
        "memory".into()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        let objects = self.objects();
        if tpe == FileType::Config {
            return Ok(objects.get(CONFIG).map(|_| (Id::default(), 0)).into_iter().collect());
        }
        Ok(sizes(tpe, objects.iter().map(|(object, content)| (object, u64::try_from(content.len()).unwrap_or(0)))))
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        let object = name(tpe, id);
        let content = self.objects().get(&object).cloned();
        content.map(Bytes::from).ok_or_else(|| failed("reading an object", missing("memory", object)))
    }

    fn read_partial(&self, tpe: FileType, id: &Id, _: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        let whole = self.read_full(tpe, id)?;
        let at = |n: u32| usize::try_from(n).unwrap_or(usize::MAX).min(whole.len());
        Ok(whole.slice(at(offset)..at(offset.saturating_add(length))))
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        name(tpe, id)
    }
}

impl WriteBackend for Staged {
    fn write_bytes(&self, tpe: FileType, id: &Id, _: bool, content: BytesList) -> RusticResult<()> {
        let content: Vec<u8> = content.slice().concat();
        self.objects().insert(name(tpe, id), content);
        Ok(())
    }

    fn remove(&self, tpe: FileType, id: &Id, _: bool) -> RusticResult<()> {
        self.objects().remove(&name(tpe, id));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_restics_layout_and_no_other_is_taken_for_one() {
        let digits = "03dc1178e4e54f69beaf35dd9d4256a5a600e9fa3452b9db80bd649938923e67";
        let known: Id = digits.parse().unwrap();
        assert_eq!(name(FileType::Pack, &known), format!("data/03/{digits}"));
        assert_eq!(name(FileType::Snapshot, &known), format!("snapshots/{digits}"));
        assert_eq!(id(FileType::Pack, &format!("data/03/{digits}")), Some(known));
        for other in [format!("data/{digits}"), format!("data/04/{digits}"), format!("data/data/03/{digits}"), "data/03/".into()]
        {
            assert_eq!(id(FileType::Pack, &other), None, "{other}");
        }
    }

    #[test]
    fn what_is_made_is_one_key_and_one_configuration() {
        let made = Made::new(&Credentials::password("correct horse")).unwrap();
        assert!(made.key.starts_with(KEYS) && made.key.len() == KEYS.len() + 64, "{}", made.key);
        assert!(String::from_utf8(hex::decode(&made.key_content).unwrap()).unwrap().contains("scrypt"));
        assert!(!hex::decode(&made.config).unwrap().is_empty());
    }
}
