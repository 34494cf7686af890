//! The objects of one bucket, as much of S3 as a repository needs: read, write, write if absent, delete, list. Path style, so
//! that a bucket is one of an endpoint whatever its name.
//!
//! Calls block, and are made on threads that may: what they wait for runs on threads of this module's own. Whatever may pass is
//! tried again for a while, and nothing is waited for without an end.

mod answer;
mod connection;
mod error;
mod sign;

use std::{
    fmt, fs,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use connection::{Answer, Body, Server};
pub use error::S3Error;
use sign::{EMPTY, encoded, sha256};

use super::postgres::error::one_line;

/// How long a server that answered before is waited for, and one that never did: that one's address may be wrong.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Which bucket, and which part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// URL of the server: scheme, host, and port where it is not the usual one.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket's name.
    pub bucket: String,
    /// What all keys begin with, without a slash at either end; may be empty.
    pub prefix: String,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket {} at {}", self.bucket, self.endpoint)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, ", below {}", self.prefix) }
    }
}

/// The objects of a bucket whose keys begin with a prefix. Keys here are without it.
#[derive(Clone)]
pub struct Bucket(Arc<Inner>);

struct Inner {
    location: Location,
    server: Server,
    key: (String, String),
    /// Whether it has ever answered.
    answered: AtomicBool,
}

/// A request.
struct Ask<'a> {
    doing: &'static str,
    method: &'static str,
    key: &'a str,
    query: String,
    body: Body,
    /// SHA-256 of the body.
    hash: String,
    if_absent: bool,
    range: Option<(u64, u64)>,
}

impl<'a> Ask<'a> {
    fn new(doing: &'static str, method: &'static str, key: &'a str) -> Self {
        let (query, body, hash) = (String::new(), Body::default(), EMPTY.to_owned());
        Self { doing, method, key, query, body, hash, if_absent: false, range: None }
    }
}

impl Bucket {
    /// A bucket, with the credentials of a directory: a file for each key of a Secret.
    pub fn new(location: Location, credentials: &Path) -> Result<Self, S3Error> {
        let read = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| fs::read_to_string(credentials.join(name)).ok());
            let text = found.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
            text.ok_or_else(|| S3Error::Credentials(format!("has no key {} (or {}), or it is empty", names[0], names[1])))
        };
        let key = (read(["accessKeyId", "AWS_ACCESS_KEY_ID"])?, read(["secretAccessKey", "AWS_SECRET_ACCESS_KEY"])?);
        if !key.0.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(S3Error::Credentials("has an accessKeyId that is none: it is one word of letters and digits".into()));
        }
        let authority = credentials.join("ca.crt");
        let server = Server::new(&location.endpoint, authority.exists().then_some(&*authority))?;
        Ok(Self(Arc::new(Inner { location, server, key, answered: AtomicBool::new(false) })))
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.0.location
    }

    /// The content of an object; none where there is no such object.
    pub fn get(&self, key: &str) -> Result<Option<Bytes>, S3Error> {
        let ask = Ask::new("reading an object", "GET", key);
        let answer = self.ask(&ask)?;
        match (answer.status, answer.code().as_str()) {
            (200, _) => Ok(Some(answer.body)),
            (404, "NoSuchKey") => Ok(None),
            _ => Err(self.refused(&ask, &answer)),
        }
    }

    /// A part of an object: so many bytes from there.
    pub fn part(&self, key: &str, from: u64, length: u64) -> Result<Bytes, S3Error> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let ask = Ask { range: Some((from, from + length - 1)), ..Ask::new("reading an object", "GET", key) };
        let answer = self.ask(&ask)?;
        let (place, key) = (|| self.0.location.to_string(), || key.to_owned());
        let exactly = |part: Bytes| {
            let whole = u64::try_from(part.len()).is_ok_and(|n| n == length);
            if whole { Ok(part) } else { Err(S3Error::Short { place: place(), key: key() }) }
        };
        match (answer.status, answer.code().as_str()) {
            (206, _) => exactly(answer.body),
            // It was not heard, and all of the object came.
            (200, _) => {
                let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(answer.body.len());
                exactly(answer.body.slice(size(from)..size(from.saturating_add(length))))
            }
            (416, _) => Err(S3Error::Short { place: place(), key: key() }),
            (404, "NoSuchKey") => Err(S3Error::Missing { place: place(), key: key() }),
            _ => Err(self.refused(&ask, &answer)),
        }
    }

    /// Writes an object, over another of that key.
    pub fn put(&self, key: &str, content: Vec<Bytes>) -> Result<(), S3Error> {
        self.write(key, content, false).map(|_| ())
    }

    /// Writes an object where there is none of that key. Whether it did: a reply that was lost makes it say no where it was
    /// yes, so read what is there then. A server that does not know the condition writes over what there is.
    pub fn create(&self, key: &str, content: Bytes) -> Result<bool, S3Error> {
        match self.write(key, vec![content.clone()], true) {
            Err(S3Error::Refused { status: 501, .. }) => self.write(key, vec![content], false),
            result => result,
        }
    }

    fn write(&self, key: &str, content: Vec<Bytes>, if_absent: bool) -> Result<bool, S3Error> {
        let hash = sha256(content.iter().map(|part| &**part));
        let ask = Ask { body: Body::new(content), hash, if_absent, ..Ask::new("writing an object", "PUT", key) };
        let answer = self.ask(&ask)?;
        match answer.status {
            200 | 201 | 204 => Ok(true),
            // 409: another writes it at this moment.
            409 | 412 if if_absent => Ok(false),
            _ => Err(self.refused(&ask, &answer)),
        }
    }

    /// Deletes an object, if there is one.
    pub fn delete(&self, key: &str) -> Result<(), S3Error> {
        let ask = Ask::new("deleting an object", "DELETE", key);
        let answer = self.ask(&ask)?;
        match (answer.status, answer.code().as_str()) {
            (200 | 204, _) | (404, "NoSuchKey") => Ok(()),
            _ => Err(self.refused(&ask, &answer)),
        }
    }

    /// The keys that begin so, with the sizes of their objects. All of them, or an error.
    pub fn list(&self, beginning: &str) -> Result<Vec<(String, u64)>, S3Error> {
        let base = self.key("");
        let (mut all, mut next) = (Vec::new(), None::<String>);
        loop {
            let token = next.map(|t| format!("continuation-token={}&", encoded(&t, false))).unwrap_or_default();
            let query = format!("{token}list-type=2&prefix={}", encoded(&self.key(beginning), false));
            let ask = Ask { query, ..Ask::new("listing objects", "GET", "") };
            let answer = self.ask(&ask)?;
            if answer.status != 200 {
                return Err(self.refused(&ask, &answer));
            }
            let strange = |what: &str| S3Error::Strange { server: self.0.server.name.clone(), what: what.into() };
            let page = answer::page(&answer.text()).ok_or_else(|| strange("a listing that is none, or not all of one"))?;
            all.extend(page.objects.into_iter().filter_map(|(key, size)| Some((key.strip_prefix(&base)?.to_owned(), size))));
            next = match page.next {
                None => return Ok(all),
                Some(next) => Some(next),
            };
        }
    }

    fn key(&self, key: &str) -> String {
        let prefix = &self.0.location.prefix;
        if prefix.is_empty() { key.to_owned() } else { format!("{prefix}/{key}") }
    }

    /// Asks, again and again while what is in the way may pass.
    fn ask(&self, ask: &Ask<'_>) -> Result<Answer, S3Error> {
        let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let asked = runtime()?.block_on(self.once(ask));
            if asked.is_ok() {
                self.0.answered.store(true, Ordering::Relaxed);
            }
            let passes = match &asked {
                Ok(answer) => answer.busy(),
                Err(error) => error.passes(),
            };
            let patience = if self.0.answered.load(Ordering::Relaxed) { PATIENCE } else { FIRST_PATIENCE };
            if !passes || began.elapsed() + pause > patience {
                return asked;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(&self, ask: &Ask<'_>) -> Result<Answer, S3Error> {
        let Inner { location, server, key, answered: _ } = &*self.0;
        let path = match ask.query.is_empty() {
            true => format!("/{}/{}", encoded(&location.bucket, false), encoded(&self.key(ask.key), true)),
            false => format!("/{}", encoded(&location.bucket, false)),
        };
        let at = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let signed = sign::Request {
            method: ask.method,
            path: &path,
            query: &ask.query,
            host: &server.host_header,
            body: &ask.hash,
            at: &at,
        };
        let authorization = sign::authorization(&signed, &location.region, (&key.0, &key.1));
        let mut request = hyper::Request::builder()
            .method(ask.method)
            .uri(if ask.query.is_empty() { path } else { format!("{path}?{}", ask.query) })
            .header("host", &server.host_header)
            .header("user-agent", concat!("lockkeeper/", env!("CARGO_PKG_VERSION")))
            .header("x-amz-content-sha256", &ask.hash)
            .header("x-amz-date", &at)
            .header("authorization", authorization);
        if ask.if_absent {
            request = request.header("if-none-match", "*");
        }
        if let Some((from, to)) = ask.range {
            request = request.header("range", format!("bytes={from}-{to}"));
        }
        let strange = |_| S3Error::Credentials("cannot be written into a request: it holds strange characters".into());
        server.send(request.body(ask.body.clone()).map_err(strange)?).await
    }

    /// What an answer means that is not the wanted one.
    fn refused(&self, ask: &Ask<'_>, answer: &Answer) -> S3Error {
        let (server, place, doing) = (self.0.server.name.clone(), self.0.location.to_string(), ask.doing.to_owned());
        let answer::Said { code, message, region } = answer::error(&answer.text());
        let region = answer.region.clone().or(region).map(|r| one_line(&r));
        match (answer.status, code.as_str()) {
            (_, "InvalidAccessKeyId" | "XAdminUserNotFound") => S3Error::KeyUnknown { server },
            (_, "SignatureDoesNotMatch") => S3Error::KeyWrong { server },
            (_, "NoSuchBucket") => S3Error::BucketMissing { place },
            (_, "RequestTimeTooSkewed") => S3Error::Clock { server },
            (301 | 307 | 308, _) | (_, "AuthorizationHeaderMalformed" | "PermanentRedirect") => {
                S3Error::OtherRegion { place, said: region.map(|r| format!(" ({r})")).unwrap_or_default() }
            }
            (507, _) | (_, "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage") => S3Error::Full { place, said: code },
            (_, "AccessDenied") | (401 | 403, _) => S3Error::Denied { place, doing },
            (404, "NoSuchKey") => S3Error::Missing { place, key: ask.key.to_owned() },
            (status, "") => S3Error::Strange { server, what: format!("status {status}") },
            (status, _) if answer.busy() => S3Error::Failing { server, status, code },
            (status, _) => S3Error::Refused { place, doing, status, code, message: one_line(&message) },
        }
    }
}

/// The threads on which requests are carried out.
fn runtime() -> Result<&'static Runtime, S3Error> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        let made = Builder::new_multi_thread().worker_threads(2).thread_name("s3").enable_all().build();
        made.map_err(|error| error.to_string())
    });
    made.as_ref().map_err(|cause| S3Error::Unreachable { server: "the server".into(), cause: cause.clone() })
}

#[cfg(test)]
mod tests;
