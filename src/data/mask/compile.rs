//! What a policy says of one column, made into what is done to its fields; or the reason why it cannot be done.

use std::collections::BTreeMap;

use super::{
    Key,
    codec::encode,
    columns::{self, Type},
    date::Amount,
    json::{self, Tree},
    kinds::{Derived, Op, Part, Plain},
    number::Noise,
    personal,
    prf::Prf,
    shape::Shape,
    substitutes::Form,
};
use crate::{
    api::{Derive, Domain, Fake, FakeKind, HashMask, JsonPathMask, Keep, Locale, Mask, MaskingTable},
    data::postgres::tables::{Column, Table},
};

/// A table's part of a policy that holds.
pub struct Built {
    /// `schema.table`.
    pub table: String,
    /// No row of it leaves.
    pub nothing: bool,
    /// Which rows leave.
    pub condition: Option<String>,
    /// The written columns in their order, with what the policy says of each and what is done.
    pub columns: Vec<(Column, Mask, Op)>,
}

impl Built {
    /// A column of that name.
    pub fn column(&self, name: &str) -> Option<&(Column, Mask, Op)> {
        self.columns.iter().find(|(c, ..)| c.name == name)
    }
}

/// The columns of a domain get the same substitutes, so all of them must have room for those of the narrowest.
#[derive(Default)]
pub struct Rooms(BTreeMap<(String, Option<FakeKind>), (usize, u64)>);

impl Rooms {
    /// The least room of each domain.
    pub fn of<'a>(tables: impl Iterator<Item = (&'a Table, &'a MaskingTable)>) -> Self {
        let mut rooms = Self::default();
        for (table, entry) in tables {
            for (column, mask) in table.written().filter_map(|c| Some((c, entry.columns.get(&c.name)?))) {
                let Some((domain, kind)) = domain_of(mask) else { continue };
                let here = rooms.0.entry((domain.to_owned(), kind)).or_insert((usize::MAX, u64::MAX));
                here.0 = here.0.min(columns::room(column));
                if let Type::Whole(limit) = Type::of(column) {
                    here.1 = here.1.min(limit);
                }
            }
        }
        rooms
    }

    fn room(&self, domain: Option<&Domain>, kind: Option<FakeKind>, column: Option<&Column>) -> usize {
        let own = column.map_or(usize::MAX, columns::room);
        domain.and_then(|d| self.0.get(&(d.to_string(), kind))).map_or(own, |(room, _)| own.min(*room))
    }

    fn limit(&self, domain: Option<&Domain>, kind: Option<FakeKind>, own: u64) -> u64 {
        domain.and_then(|d| self.0.get(&(d.to_string(), kind))).map_or(own, |(_, limit)| own.min(*limit))
    }
}

/// The domain that a mask names, with the kind of substitute within it.
pub fn domain_of(mask: &Mask) -> Option<(&str, Option<FakeKind>)> {
    let fake = mask.fake.as_ref().and_then(|f| Some((&**f.domain.as_ref()?, Some(f.kind))));
    fake.or_else(|| mask.hash.as_ref().and_then(|h| Some((&**h.domain.as_ref()?, None))))
}

/// How many digits of a hash are written where there is room.
const DIGITS: usize = 32;

/// The functions of one column.
struct Functions<'a> {
    key: &'a Key,
    own: String,
}

impl Functions<'_> {
    fn of(&self, domain: Option<&Domain>) -> Prf {
        self.key.domain("value", &domain.map_or_else(|| self.own.clone(), |d| format!("d:{d}")))
    }

    fn shape(&self, domain: Option<&Domain>) -> Shape {
        Shape::new(self.key.domain("shape", &domain.map_or_else(|| self.own.clone(), |d| format!("d:{d}"))))
    }

    fn hash(&self, HashMask { domain }: &HashMask, digits: usize) -> Plain {
        Plain::Hash(self.of(domain.as_ref()), self.shape(domain.as_ref()), digits)
    }

    fn fake(&self, Fake { kind, domain, locale }: &Fake, room: usize) -> Plain {
        match kind {
            FakeKind::Shape => Plain::Shape(self.shape(domain.as_ref())),
            kind => Plain::Fake(self.of(domain.as_ref()), Form { kind: *kind, locale: *locale, room }),
        }
    }
}

/// Makes what is done to a column. `of`: the table by whose name the policy speaks of it.
///
/// # Errors
/// Why the mask does not fit, in words.
pub fn column(
    (table, of): (&Table, &Table),
    column: &Column,
    mask: &Mask,
    all: &BTreeMap<String, Mask>,
    (rooms, key): (&Rooms, &Key),
) -> Result<Op, String> {
    let functions = Functions { key, own: format!("c:{}.{}", of.full_name(), column.name) };
    let kind = Type::of(column);
    let type_name = &column.type_name;
    let unfit = |word: &str, wants: &str| Err(format!("{word} does not fit type {type_name}; it is for {wants}"));
    let text = |plain| {
        let (fold, trim) = (column.base_type == "citext", column.base_type == "bpchar");
        Ok(Op::Text { plain, fold, trim })
    };
    let Mask { keep, redact, null, hash, derive, fake, shift, noise, json, template } = mask;
    match (keep, redact, null, hash, derive, fake, shift, noise, json, template) {
        (Some(keep), None, None, None, None, None, None, None, None, None) => kept(table, column, keep),
        (None, Some(_), None, None, None, None, None, None, None, None) => match columns::neutral(column) {
            Some(value) => {
                let mut field = Vec::new();
                encode(value.as_bytes(), &mut field);
                Ok(Op::Fixed(field))
            }
            None => Err(format!("redact: type {type_name} has no neutral value that is known; use null, or keep with a reason")),
        },
        (None, None, Some(_), None, None, None, None, None, None, None) if column.not_null => {
            Err("null: the column takes no NULL; use redact".into())
        }
        (None, None, Some(_), None, None, None, None, None, None, None) => Ok(Op::Null),
        (None, None, None, Some(hash), None, None, None, None, None, None) => match kind {
            Type::Text => text(functions.hash(hash, rooms.room(hash.domain.as_ref(), None, Some(column)).min(DIGITS))),
            Type::Whole(limit) => {
                Ok(Op::Number(functions.hash(hash, DIGITS), Some(rooms.limit(hash.domain.as_ref(), None, limit))))
            }
            Type::Uuid => {
                let form = Form { kind: FakeKind::Uuid, locale: Locale::En, room: usize::MAX };
                text(Plain::Fake(functions.of(hash.domain.as_ref()), form))
            }
            Type::Bytes => Ok(Op::Bytes(functions.of(hash.domain.as_ref()))),
            _ => unfit("hash", "text, whole numbers, UUIDs and bytes"),
        },
        (None, None, None, None, Some(derive), None, None, None, None, None) => {
            derived(table, column, derive, all, |source, mask| self::column((table, of), source, mask, all, (rooms, key)))
        }
        (None, None, None, None, None, Some(fake), None, None, None, None) => {
            let room = rooms.room(fake.domain.as_ref(), Some(fake.kind), Some(column));
            let word = format!("fake: kind {}", fake.kind.word());
            match (fake.kind, kind) {
                (FakeKind::Uuid, Type::Uuid) | (FakeKind::Ip, Type::Address) => text(functions.fake(fake, usize::MAX)),
                (FakeKind::Shape, Type::Whole(limit)) => {
                    Ok(Op::Number(functions.fake(fake, room), Some(rooms.limit(fake.domain.as_ref(), Some(fake.kind), limit))))
                }
                (FakeKind::Shape, Type::Text) => text(functions.fake(fake, room)),
                (_, Type::Text) if room < fake.kind.least_room() => Err(format!(
                    "{word} needs room for {} characters, and {} is all there is in this column or another of its domain; \
                     use fake with kind shape, or redact",
                    fake.kind.least_room(),
                    room
                )),
                (_, Type::Text) => text(functions.fake(fake, room)),
                _ => unfit(
                    &word,
                    match fake.kind {
                        FakeKind::Uuid => "UUIDs and text",
                        FakeKind::Ip => "addresses and text",
                        FakeKind::Shape => "text and whole numbers",
                        _ => "text",
                    },
                ),
            }
        }
        (None, None, None, None, None, None, Some(shift), None, None, None) => {
            let subject = table.written().position(|c| c.name == *shift.subject.0);
            match (kind, subject) {
                (Type::Date, Some(at)) => Ok(Op::Shift(at, Amount::new(key.domain("shift", ""), shift.days))),
                (Type::Date, None) => Err(format!("shift: the table has no column {} to be the subject", shift.subject)),
                _ => unfit("shift", "dates and timestamps"),
            }
        }
        (None, None, None, None, None, None, None, Some(noise), None, None) => {
            let plain = Plain::Noise(Noise::new(functions.of(None), noise.percent));
            match kind {
                Type::Whole(limit) => Ok(Op::Number(plain, Some(limit))),
                Type::Decimal => Ok(Op::Number(plain, None)),
                _ => unfit("noise", "numbers"),
            }
        }
        (None, None, None, None, None, None, None, None, Some(json), None) => match kind {
            Type::Json | Type::Text if columns::room(column) == usize::MAX => {
                let paths = json.paths.iter().map(|(path, mask)| {
                    let steps = json::path(path).map_err(|why| format!("json: {why}"))?;
                    Ok((steps, json_mask(path, mask, &functions, rooms)?))
                });
                Ok(Op::Json(Tree::new(paths.collect::<Result<Vec<_>, String>>()?)))
            }
            _ => unfit("json", "json, jsonb and text without a length"),
        },
        (None, None, None, None, None, None, None, None, None, Some(template)) => match kind {
            Type::Text => templated(table, column, &template.text, all, |source, mask| {
                self::column((table, of), source, mask, all, (rooms, key))
            }),
            _ => unfit("template", "text"),
        },
        _ => Err("exactly one of: keep, redact, null, hash, derive, fake, shift, noise, json, template".into()),
    }
}

fn has_reason(keep: &Keep) -> bool {
    keep.reason.as_ref().is_some_and(|r| !r.trim().is_empty())
}

fn kept(table: &Table, column: &Column, keep: &Keep) -> Result<Op, String> {
    match personal::look(table, column) {
        Some(look) if !has_reason(keep) => {
            Err(format!("keep: it looks like {}; mask it, or say why it may leave: {{keep: {{reason: …}}}}", look.words()))
        }
        _ => Ok(Op::Keep),
    }
}

/// What a mask is made of: a column, or the value that a path leads to in one that holds JSON.
struct Source<'a> {
    at: usize,
    column: &'a Column,
    mask: &'a Mask,
    path: Vec<String>,
}

impl Source<'_> {
    fn op(&self, op: Op) -> Op {
        if self.path.is_empty() { op } else { Op::Path(Box::new(op), self.path.clone()) }
    }
}

/// A mask that stands for another column's value: of one that is not itself computed. `name`: of the column, or of one that holds
/// JSON with a path behind it, `parts$.given_name`.
fn source<'a>(table: &'a Table, column: &Column, name: &str, all: &'a BTreeMap<String, Mask>) -> Result<Source<'a>, String> {
    let find = |name: &str| table.written().enumerate().find(|(_, c)| c.name == name);
    let split = || name.match_indices('$').find_map(|(at, _)| find(&name[..at]).map(|found| (found, &name[at..])));
    let ((at, of), path) = match find(name) {
        Some(found) => (found, Vec::new()),
        None => {
            let (found, path) = split().ok_or_else(|| format!("the table has no column {name}"))?;
            (found, names(path)?)
        }
    };
    let name = &of.name;
    if !path.is_empty() && !matches!(Type::of(of), Type::Json | Type::Text) {
        return Err(format!("column {name} is no JSON, so there is no path into it"));
    }
    if *name == column.name {
        return Err("a column cannot be made of itself".into());
    }
    let mask = all.get(name).ok_or_else(|| format!("column {name} is not named itself"))?;
    if mask.derive.is_some() || mask.template.is_some() {
        return Err(format!("column {name} is itself made of others; name the one that it is made of"));
    }
    Ok(Source { at, column: of, mask, path })
}

/// The names of a path that leads to one value.
fn names(path: &str) -> Result<Vec<String>, String> {
    let steps = json::path(path)?.into_iter().map(|step| match step {
        json::Step::Member(name) => Ok(name),
        _ => Err(format!("path {path}: here a path leads to one value: write .name and ['any name'] alone")),
    });
    let names = steps.collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() { Err(format!("path {path}: it names no value")) } else { Ok(names) }
}

fn derived(
    table: &Table,
    column: &Column,
    derive: &Derive,
    all: &BTreeMap<String, Mask>,
    make: impl Fn(&Column, &Mask) -> Result<Op, String>,
) -> Result<Op, String> {
    let (how, name, word, digits) = match derive {
        Derive { sha256_of: Some(name), md5_of: None, lower_of: None, copy_of: None } => (Derived::Sha256, name, "sha256Of", 64),
        Derive { sha256_of: None, md5_of: Some(name), lower_of: None, copy_of: None } => (Derived::Md5, name, "md5Of", 32),
        Derive { sha256_of: None, md5_of: None, lower_of: Some(name), copy_of: None } => (Derived::Lower, name, "lowerOf", 0),
        Derive { sha256_of: None, md5_of: None, lower_of: None, copy_of: Some(name) } => (Derived::Copy, name, "copyOf", 0),
        _ => return Err("derive: exactly one of: sha256Of, md5Of, lowerOf, copyOf".into()),
    };
    let source = source(table, column, name, all).map_err(|why| format!("derive: {word}: {why}"))?;
    let bytes = column.base_type == "bytea" && digits > 0;
    let same = how == Derived::Copy && source.path.is_empty() && source.column.base_type == column.base_type;
    if Type::of(column) != Type::Text && !bytes && !same {
        return Err(format!("derive: {word} does not fit type {}", column.type_name));
    }
    let room = columns::room(column);
    if room < digits {
        return Err(format!("derive: {word} gives {digits} characters, and the column has room for {room}"));
    }
    let op = make(source.column, source.mask).map_err(|why| format!("derive: {word}: column {}: {why}", source.column.name))?;
    Ok(Op::Derived(how, source.at, Box::new(source.op(op)), room, bytes))
}

/// How many characters a type's values have at most. `None`: there is no telling.
fn longest(column: &Column) -> Option<usize> {
    match Type::of(column) {
        Type::Text => Some(columns::room(column)).filter(|n| *n < usize::MAX),
        Type::Whole(limit) => Some(limit.to_string().len() + 1),
        Type::Uuid => Some(36),
        _ => None,
    }
}

fn templated(
    table: &Table,
    column: &Column,
    text: &str,
    all: &BTreeMap<String, Mask>,
    make: impl Fn(&Column, &Mask) -> Result<Op, String>,
) -> Result<Op, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut length = Some(0_usize);
    let mut paths = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if matches!(c, '{' | '}') && rest.starts_with(c) {
            rest = &rest[1..];
            literal.push(c);
        } else if c == '{' {
            let (name, after) =
                rest.split_once('}').ok_or("template: a brace has no end; double it where it is meant as such")?;
            rest = after;
            let source = source(table, column, name, all).map_err(|why| format!("template: {why}"))?;
            let op = make(source.column, source.mask).map_err(|why| format!("template: column {name}: {why}"))?;
            length = length.zip(longest(source.column)).map(|(a, b)| a + b);
            paths |= !source.path.is_empty();
            parts.push(Part::Literal(std::mem::take(&mut literal).into_bytes()));
            parts.push(Part::Column(source.at, Box::new(source.op(op))));
        } else if c == '}' {
            return Err("template: a brace ends that did not begin; double it where it is meant as such".into());
        } else {
            literal.push(c);
            length = length.map(|n| n + 1);
        }
    }
    parts.push(Part::Literal(literal.into_bytes()));
    let room = columns::room(column);
    // Of JSON nobody knows what is there, nor how long it is.
    if paths {
        return Ok(Op::Template(parts, Some(room)));
    }
    if room < usize::MAX && length.is_none_or(|n| n > room) {
        let most = length.map_or_else(|| "any number of".to_owned(), |n| n.to_string());
        return Err(format!("template: it can be {most} characters long, and the column has room for {room}"));
    }
    Ok(Op::Template(parts, None))
}

fn json_mask(path: &str, mask: &JsonPathMask, functions: &Functions<'_>, rooms: &Rooms) -> Result<Plain, String> {
    let JsonPathMask { keep, redact, null, hash, fake, noise } = mask;
    match (keep, redact, null, hash, fake, noise) {
        (Some(keep), None, None, None, None, None) => match personal::look_of_path(path) {
            Some(look) if !has_reason(keep) => Err(format!(
                "json: path {path} looks like {}; mask it, or say why it may leave: {{keep: {{reason: …}}}}",
                look.words()
            )),
            _ => Ok(Plain::Keep),
        },
        (None, Some(_), None, None, None, None) => Ok(Plain::Redact),
        (None, None, Some(_), None, None, None) => Ok(Plain::Null),
        (None, None, None, Some(hash), None, None) => {
            Ok(functions.hash(hash, rooms.room(hash.domain.as_ref(), None, None).min(DIGITS)))
        }
        (None, None, None, None, Some(fake), None) => {
            let room = rooms.room(fake.domain.as_ref(), Some(fake.kind), None);
            if room < fake.kind.least_room() && fake.kind != FakeKind::Shape {
                return Err(format!("json: path {path}: a column of its domain has no room for kind {}", fake.kind.word()));
            }
            Ok(functions.fake(fake, room))
        }
        (None, None, None, None, None, Some(noise)) => Ok(Plain::Noise(Noise::new(functions.of(None), noise.percent))),
        _ => Err(format!("json: path {path}: exactly one of: keep, redact, null, hash, fake, noise")),
    }
}
