//! The simulated API server's store: objects with UIDs, resourceVersions, generations, finalizers and owners, and the five
//! ways to change them. Values only; [`super::server`] puts it behind HTTP, [`super::actors`] lives in it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{data::Server, merge::merge, people::Script};

/// Plural name of the resource, namespace (empty: none), name.
pub type Key = (String, String, String);

/// Resources whose changes the operator is told of; it must not need to hear of any other.
pub const WATCHED: [&str; 11] = [
    "promotions",
    "environmentrestores",
    "downalignments",
    "environments",
    "environmentbackups",
    "jobs",
    "pods",
    "deployments",
    "statefulsets",
    "cronjobs",
    "endpointslices",
];

/// Resources whose status is written apart from the rest.
const WITH_STATUS: [&str; 10] = [
    "promotions",
    "environmentrestores",
    "downalignments",
    "environments",
    "environmentbackups",
    "jobs",
    "pods",
    "deployments",
    "statefulsets",
    "cronjobs",
];

/// Why a request was refused, as the API server says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn not_found(key: &Key) -> Self {
        Self { code: 404, reason: "NotFound", message: format!("{} {} not found", key.0, key.2) }
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self { code: 409, reason: "Conflict", message: message.into() }
    }
}

type Answer = Result<Arc<Value>, Refusal>;

/// All there is. Cloning it is cheap: objects are shared.
#[derive(Clone)]
pub struct Cluster {
    pub objects: BTreeMap<Key, Arc<Value>>,
    /// Grows with every change.
    pub version: u64,
    /// The version of the last change that the operator hears of.
    pub heard: u64,
    pub now: Timestamp,
    /// How many objects of a key there have been: UIDs and names of pods must not depend on the order of other things.
    incarnations: BTreeMap<Key, u32>,
    /// How many moves of the kubelet each pod has seen.
    pub ages: BTreeMap<String, u32>,
    /// The database server and the backup repository.
    pub data: Server,
    /// What goes wrong in this scenario, and what people do.
    pub script: Script,
    /// UID of the object whose turn the operator takes.
    pub acting: String,
    /// Mutating requests of the operator so far.
    pub requests: u64,
    /// How many times a foreign program changed something.
    pub foreign_writes: u64,
    /// What must never happen, and did.
    pub violations: Vec<String>,
}

pub fn key(resource: &str, namespace: &str, name: &str) -> Key {
    (resource.to_owned(), namespace.to_owned(), name.to_owned())
}

impl Cluster {
    pub fn new(now: Timestamp, script: Script) -> Self {
        Self {
            objects: BTreeMap::new(),
            version: 1,
            heard: 1,
            now,
            incarnations: BTreeMap::new(),
            ages: BTreeMap::new(),
            data: Server::new(),
            script,
            acting: String::new(),
            requests: 0,
            foreign_writes: 0,
            violations: Vec::new(),
        }
    }

    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.objects.get(&key(resource, namespace, name))
    }

    /// The run that is judged.
    pub fn run(&self) -> Option<&Arc<Value>> {
        self.objects.get(&self.script.kind.key())
    }

    /// Objects of a resource in a namespace.
    pub fn all(&self, resource: &str, namespace: &str) -> impl Iterator<Item = &Arc<Value>> {
        let from = key(resource, namespace, "");
        let (resource, namespace) = (from.0.clone(), from.1.clone());
        self.objects.range(from..).take_while(move |(k, _)| k.0 == resource && k.1 == namespace).map(|(_, v)| v)
    }

    /// Names of the objects of a resource in a namespace.
    pub fn names(&self, resource: &str, namespace: &str) -> Vec<String> {
        self.all(resource, namespace).map(|o| text(o, "/metadata/name").to_owned()).collect()
    }

    pub fn list(&self, resource: &str, namespace: &str, selector: &BTreeMap<String, String>) -> Vec<Arc<Value>> {
        let fits = |o: &Value| selector.iter().all(|(k, v)| o["metadata"]["labels"][k] == **v);
        // Without a namespace: of all of them.
        let from = key(resource, namespace, "");
        let here = |k: &Key| k.0 == resource && (namespace.is_empty() || k.1 == namespace);
        self.objects.range(from..).take_while(|(k, _)| here(k)).map(|(_, o)| o).filter(|o| fits(o)).cloned().collect()
    }

    /// Counts up, so that what is made again under a name can be told from what was there.
    pub fn incarnation(&mut self, key: &Key) -> u32 {
        let count = self.incarnations.entry(key.clone()).or_default();
        *count += 1;
        *count
    }

    pub fn create(&mut self, resource: &str, namespace: &str, mut object: Value) -> Answer {
        let key = key(resource, namespace, text(&object, "/metadata/name"));
        if self.objects.contains_key(&key) {
            return Err(Refusal { code: 409, reason: "AlreadyExists", message: format!("{} {} already exists", key.0, key.2) });
        }
        let seed = format!("{key:?} {}", self.incarnation(&key));
        let hash = blake3::hash(seed.as_bytes()).to_hex();
        let uid = format!("{}-{}-{}-{}-{}", &hash[..8], &hash[8..12], &hash[12..16], &hash[16..20], &hash[20..32]);
        if WITH_STATUS.contains(&resource)
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
        let metadata = &mut object["metadata"];
        metadata["namespace"] = json!(namespace);
        metadata["uid"] = json!(uid);
        metadata["generation"] = json!(1);
        metadata["creationTimestamp"] = json!(seconds(self.now));
        if resource == "services" && object["spec"]["clusterIP"].is_null() {
            let last = u8::from_str_radix(&hash[..2], 16).unwrap_or(1);
            object["spec"]["clusterIP"] = json!(format!("10.0.0.{last}"));
        }
        Ok(self.put(key, object))
    }

    /// Puts an object in place under a new resourceVersion.
    fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.version += 1;
        if WATCHED.contains(&key.0.as_str()) {
            self.heard = self.version;
        }
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let leaving = !object["metadata"]["deletionTimestamp"].is_null();
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        let object = Arc::new(object);
        if leaving && !held && key.0 != "pods" {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key, object.clone());
        }
        object
    }

    /// Takes an object away at once.
    pub fn remove(&mut self, key: &Key) {
        if self.objects.remove(key).is_some() {
            self.version += 1;
            if WATCHED.contains(&key.0.as_str()) {
                self.heard = self.version;
            }
        }
    }

    /// Changes an object by a function; nothing happens where it changes nothing.
    pub fn edit(&mut self, key: &Key, change: impl FnOnce(&mut Value)) {
        let Some(old) = self.objects.get(key).cloned() else { return };
        let mut new = (*old).clone();
        change(&mut new);
        if new != *old {
            if new["spec"] != old["spec"] {
                new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
            }
            self.put(key.clone(), new);
        }
    }

    pub fn patch(&mut self, key: &Key, strategic: bool, patch: &Value) -> Answer {
        let Some(old) = self.objects.get(key).cloned() else { return Err(Refusal::not_found(key)) };
        for guard in ["/metadata/resourceVersion", "/metadata/uid"] {
            if let Some(wanted) = patch.pointer(guard)
                && Some(wanted) != old.pointer(guard)
            {
                return Err(Refusal::conflict(format!("{}: the object has been modified", key.2)));
            }
        }
        let patch = patch.clone();
        self.edit(key, |object| merge(object, &patch, strategic));
        // What this patch took away, its last finalizer, is answered with what it was.
        Ok(self.objects.get(key).cloned().unwrap_or(old))
    }

    pub fn put_status(&mut self, key: &Key, sent: &Value) -> Answer {
        let Some(old) = self.objects.get(key).cloned() else { return Err(Refusal::not_found(key)) };
        if sent["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
            return Err(Refusal::conflict(format!("{}: the object has been modified", key.2)));
        }
        let status = sent["status"].clone();
        self.edit(key, |object| object["status"] = status);
        Ok(self.objects[key].clone())
    }

    pub fn delete(&mut self, key: &Key, options: &Value) -> Answer {
        let Some(old) = self.objects.get(key).cloned() else { return Err(Refusal::not_found(key)) };
        if let Some(uid) = options.pointer("/preconditions/uid")
            && *uid != old["metadata"]["uid"]
        {
            return Err(Refusal::conflict("the UID in the precondition does not match"));
        }
        let now = json!(seconds(self.now));
        let grace = options["gracePeriodSeconds"].as_i64();
        let held = old["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        match (key.0.as_str(), grace) {
            ("pods", Some(0)) => self.remove(key),
            ("pods", _) => self.edit(key, |o| {
                if o["metadata"]["deletionTimestamp"].is_null() {
                    o["metadata"]["deletionTimestamp"] = now;
                    o["metadata"]["deletionGracePeriodSeconds"] = json!(grace.unwrap_or(30));
                }
            }),
            _ if held => self.edit(key, |o| {
                if o["metadata"]["deletionTimestamp"].is_null() {
                    o["metadata"]["deletionTimestamp"] = now;
                }
            }),
            _ => self.remove(key),
        }
        Ok(old)
    }

    /// What the state comes to, whatever the order, the times and the number of writes that led there: for two states that
    /// are equal in this, all that follows is equal.
    pub fn canonical(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for object in self.objects.values() {
            hasher.update(written(object).canonical.as_bytes());
        }
        hasher.update(
            format!("{:?}{:?}{:?}", self.ages, self.data.without_users(), (self.script.acted, self.script.foreign)).as_bytes(),
        );
        hasher.finalize().to_hex().to_string()
    }
}

/// An object as it goes over the wire, and the hash of what counts of it.
pub struct Written {
    pub wire: String,
    canonical: String,
}

type Cache = HashMap<*const Value, (Arc<Value>, Rc<Written>)>;

thread_local! {
    /// Objects do not change, so each is written once. The object is kept, so that its address stays its own.
    static WRITTEN: RefCell<Cache> = RefCell::default();
}

/// The written form of an object.
pub fn written(object: &Arc<Value>) -> Rc<Written> {
    WRITTEN.with_borrow_mut(|cache| {
        if cache.len() > 20_000 {
            cache.clear();
        }
        let fresh = || {
            let mut rest = (**object).clone();
            timeless(&mut rest);
            let canonical = blake3::hash(&serde_json::to_vec(&rest).unwrap_or_default()).to_hex().to_string();
            let wire = serde_json::to_string(&**object).unwrap_or_default();
            (object.clone(), Rc::new(Written { wire, canonical }))
        };
        cache.entry(Arc::as_ptr(object)).or_insert_with(fresh).1.clone()
    })
}

/// Leaves out what differs by time alone.
fn timeless(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("resourceVersion");
            fields.remove("message");
            for (name, field) in fields.iter_mut() {
                let time = name.ends_with("At") || name.ends_with("Time") || name.ends_with("Timestamp");
                if (time || name == "since" || name == "until") && field.is_string() {
                    *field = json!("a time");
                } else {
                    timeless(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(timeless),
        _ => {}
    }
}

/// Text at a JSON pointer; empty where there is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// An instant as the API server writes it: without fractions.
pub fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
