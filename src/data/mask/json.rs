//! JSON of which only named paths leave.
//!
//! The text is walked once; what is kept is copied as it stands. A member that no path leads to is left out with its name,
//! because names can be data too, and so is one that looks like somebody's where `.*` takes any; an element that none leads to is left out; where a path leads on but the value is no
//! container, the value is redacted.

use std::collections::BTreeMap;

use super::{
    codec, draft,
    kinds::{Plain, Scratch},
};

/// Deeper than this, values are redacted.
const DEPTH: usize = 128;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A member of that name.
    Member(String),
    /// Each member.
    AnyMember,
    /// Each element.
    Elements,
}

/// Reads a path: `$`, then `.name`, `['any name']`, `.*`, `[*]`.
///
/// # Errors
/// What is wrong with it.
pub fn path(text: &str) -> Result<Vec<Step>, String> {
    let wrong = |why: &str| Err(format!("path {text}: {why}; write $, .name, ['any name'], .* and [*]"));
    let Some(mut rest) = text.strip_prefix('$') else { return wrong("it does not begin with $") };
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix("[*]") {
            steps.push(Step::Elements);
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix("['") {
            let Some((name, tail)) = tail.split_once("']") else { return wrong("a name in brackets has no end") };
            steps.push(Step::Member(name.to_owned()));
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix('.') {
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            match &tail[..end] {
                "" => return wrong("a name is missing after a point"),
                "*" => steps.push(Step::AnyMember),
                name => steps.push(Step::Member(name.to_owned())),
            }
            rest = &tail[end..];
        } else {
            return wrong("after a step comes a point or a bracket");
        }
        if steps.len() > DEPTH {
            return wrong("it has too many steps");
        }
    }
    Ok(steps)
}

/// What paths lead to, as a tree.
#[derive(Clone, Default)]
pub struct Tree {
    mask: Option<Plain>,
    members: BTreeMap<String, Tree>,
    any: Option<Box<Tree>>,
    elements: Option<Box<Tree>>,
}

impl Tree {
    /// What each path says of the values that it leads to. Where a name and `.*` both lead, both count, and the name first.
    pub fn new(paths: impl IntoIterator<Item = (Vec<Step>, Plain)>) -> Self {
        let mut tree = Self::default();
        for (steps, mask) in paths {
            tree.set(&steps, mask);
        }
        tree.settle();
        tree
    }

    fn set(&mut self, steps: &[Step], mask: Plain) {
        let [step, rest @ ..] = steps else {
            self.mask = Some(mask);
            return;
        };
        let next = match step {
            Step::Member(name) => self.members.entry(name.clone()).or_default(),
            Step::AnyMember => self.any.get_or_insert_default(),
            Step::Elements => self.elements.get_or_insert_default(),
        };
        next.set(rest, mask);
    }

    /// Brings what is said of every member to those that have a name here: a walk follows one branch only.
    fn settle(&mut self) {
        if let Some(any) = &self.any {
            self.members.values_mut().for_each(|named| named.add(any));
        }
        let below = self.members.values_mut().chain(self.any.as_deref_mut()).chain(self.elements.as_deref_mut());
        below.for_each(Self::settle);
    }

    /// Says what another says, where this says nothing itself.
    fn add(&mut self, other: &Self) {
        self.mask = self.mask.take().or_else(|| other.mask.clone());
        for (name, tree) in &other.members {
            self.members.entry(name.clone()).or_default().add(tree);
        }
        if let Some(any) = &other.any {
            self.any.get_or_insert_default().add(any);
        }
        if let Some(elements) = &other.elements {
            self.elements.get_or_insert_default().add(elements);
        }
    }

    fn is_leaf(&self) -> bool {
        self.members.is_empty() && self.any.is_none() && self.elements.is_none()
    }

    /// Appends what leaves of a JSON text. `None`: the text is not JSON.
    pub fn write(&self, text: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) -> Option<()> {
        let mut walk = Walk { text, at: 0, out, scratch };
        walk.space();
        walk.value(Some(self), None, 0)?;
        walk.space();
        (walk.at == text.len()).then_some(())
    }
}

struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    out: &'a mut Vec<u8>,
    scratch: &'a mut Scratch,
}

impl Walk<'_> {
    fn space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Writes what becomes of the value here, and goes behind it. `inherited`: what a shorter path says.
    fn value(&mut self, tree: Option<&Tree>, inherited: Option<&Plain>, depth: usize) -> Option<()> {
        let mask = tree.and_then(|t| t.mask.as_ref()).or(inherited);
        let leaf = tree.is_none_or(Tree::is_leaf);
        match (self.peek()?, tree) {
            (b'{', Some(tree)) if !leaf && depth < DEPTH => self.object(tree, mask, depth),
            (b'[', Some(tree)) if !leaf && depth < DEPTH => self.array(tree, mask, depth),
            _ => {
                let start = self.at;
                self.skip()?;
                let value = &self.text[start..self.at];
                self.masked(value, mask);
                Some(())
            }
        }
    }

    fn object(&mut self, tree: &Tree, mask: Option<&Plain>, depth: usize) -> Option<()> {
        self.at += 1;
        self.out.push(b'{');
        let mut first = true;
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
            self.out.push(b'}');
            return Some(());
        }
        loop {
            self.space();
            let start = self.at;
            self.string()?;
            let name = &self.text[start..self.at];
            self.space();
            (self.peek()? == b':').then_some(())?;
            self.at += 1;
            self.space();
            let inside = &name[1..name.len() - 1];
            let (named, hidden) = if memchr::memchr(b'\\', inside).is_some() {
                let name: String = serde_json::from_slice(name).ok()?;
                (tree.members.get(&name), draft::is_of_a_person(&name))
            } else {
                std::str::from_utf8(inside).map_or((None, true), |name| (tree.members.get(name), draft::is_of_a_person(name)))
            };
            // Whoever writes `.*` means names of a program's making, and does not see one that is somebody's: it stays behind with
            // all beneath it, also where a shorter path keeps, because nobody has said what becomes of it.
            let next = named.or(tree.any.as_deref());
            let hidden = hidden && named.is_none() && tree.any.is_some();
            // Beneath a shorter path that says what becomes of all, names stay only where values do.
            let kept = mask.is_some_and(Plain::keeps);
            if !hidden && (next.is_some() || kept) {
                if !first {
                    self.out.push(b',');
                }
                first = false;
                self.out.extend_from_slice(name);
                self.out.push(b':');
                self.value(next, mask, depth + 1)?;
            } else {
                self.skip()?;
            }
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    self.out.push(b'}');
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    fn array(&mut self, tree: &Tree, mask: Option<&Plain>, depth: usize) -> Option<()> {
        self.at += 1;
        self.out.push(b'[');
        let mut first = true;
        self.space();
        if self.peek()? == b']' {
            self.at += 1;
            self.out.push(b']');
            return Some(());
        }
        let next = tree.elements.as_deref();
        loop {
            self.space();
            if next.is_some() || mask.is_some_and(Plain::keeps) {
                if !first {
                    self.out.push(b',');
                }
                first = false;
                self.value(next, mask, depth + 1)?;
            } else {
                self.skip()?;
            }
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    self.out.push(b']');
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// Appends what becomes of a whole value.
    fn masked(&mut self, value: &[u8], mask: Option<&Plain>) {
        let Some(mask) = mask else { return redacted(value, self.out) };
        match (mask, value.first()) {
            (Plain::Keep, _) => self.out.extend_from_slice(value),
            (Plain::Null, _) | (_, Some(b'n')) => self.out.extend_from_slice(b"null"),
            (Plain::Redact, _) => redacted(value, self.out),
            (mask, Some(b'"')) if value.len() > 2 => {
                let Ok(text) = serde_json::from_slice::<String>(value) else { return redacted(value, self.out) };
                let mut masked = std::mem::take(&mut self.scratch.json);
                masked.clear();
                match mask
                    .text(text.as_bytes(), self.scratch, &mut masked)
                    .map(|()| serde_json::to_string(&String::from_utf8_lossy(&masked)))
                {
                    Some(Ok(masked)) => self.out.extend_from_slice(masked.as_bytes()),
                    _ => redacted(value, self.out),
                }
                self.scratch.json = masked;
            }
            (_, Some(b'"')) => self.out.extend_from_slice(value),
            (mask, Some(b'-' | b'0'..=b'9')) => {
                let begun = self.out.len();
                if mask.number(value, None, self.scratch, self.out).is_none() {
                    self.out.truncate(begun);
                    redacted(value, self.out);
                }
            }
            _ => redacted(value, self.out),
        }
    }

    /// Goes behind the value here. Not by recursion: a value may be as deep as its writer liked.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            self.space();
            match self.peek()? {
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b'"' => self.string()?,
                b',' | b':' if depth > 0 => self.at += 1,
                b't' | b'f' | b'n' | b'-' | b'0'..=b'9' => {
                    while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.')) {
                        self.at += 1;
                    }
                }
                _ => return None,
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn string(&mut self) -> Option<()> {
        (self.peek()? == b'"').then_some(())?;
        self.at += 1;
        loop {
            let found = memchr::memchr2(b'"', b'\\', &self.text[self.at..])?;
            self.at += found + 1;
            if self.text[self.at - 1] == b'"' {
                return Some(());
            }
            self.at += 1;
            (self.at <= self.text.len()).then_some(())?;
        }
    }
}

/// Appends the neutral value of a value's type.
pub fn redacted(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(match value.first() {
        Some(b'"') if value.len() == 2 => b"\"\"",
        Some(b'"') => b"\"redacted\"",
        Some(b'{') => b"{}",
        Some(b'[') => b"[]",
        Some(b't' | b'f') => b"false",
        Some(b'n') | None => b"null",
        _ => b"0",
    });
}

/// The text or number that names lead to, member by member; empty where they lead to none.
pub fn at(text: &[u8], names: &[String]) -> String {
    let whole: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    match names.iter().try_fold(&whole, |value, name| value.get(name)) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(serde_json::Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// Appends what leaves of a field that holds JSON. What is not JSON is redacted whole.
pub fn field(tree: &Tree, field: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let text = codec::decode(field);
    let mut masked = std::mem::take(&mut scratch.document);
    masked.clear();
    match tree.write(&text, scratch, &mut masked) {
        Some(()) => codec::encode(&masked, out),
        None => out.extend_from_slice(b"null"),
    }
    scratch.document = masked;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn masked(paths: &[(&str, Plain)], text: &str) -> Option<Value> {
        let tree = Tree::new(paths.iter().map(|(text, mask)| (path(text).unwrap(), mask.clone())));
        let mut out = Vec::new();
        tree.write(text.as_bytes(), &mut Scratch::default(), &mut out)?;
        Some(serde_json::from_slice(&out).unwrap())
    }

    #[test]
    fn a_path_that_nobody_named_does_not_leave() {
        let text = r#"{"theme": "dark", "mail": "canary@shop.test", "canary": 1, "deep": {"theme": "canary", "list": ["canary", {"canary": "canary"}]}}"#;
        let left = masked(&[("$.theme", Plain::Keep), ("$.deep.list[*].name", Plain::Keep)], text).unwrap();
        assert_eq!(left, json!({"theme": "dark", "deep": {"list": ["redacted", {}]}}));
        assert!(!left.to_string().contains("canary"));
        assert_eq!(masked(&[], text), Some(json!({})));
        assert_eq!(masked(&[], "\"canary\""), Some(json!("redacted")));
    }

    #[test]
    fn the_longest_path_decides() {
        let text = r#"{"a": {"b": {"secret": "x", "c": 1.50}, "d": true}, "e\u0041": null}"#;
        let paths = [("$", Plain::Keep), ("$.a.b.secret", Plain::Redact)];
        assert_eq!(masked(&paths, text), Some(json!({"a": {"b": {"secret": "redacted", "c": 1.50}, "d": true}, "eA": null})));
        assert_eq!(
            masked(&[("$.a.*.secret", Plain::Keep), ("$['eA']", Plain::Keep)], text),
            Some(json!({"a": {"b": {"secret": "x"}, "d": false}, "eA": null}))
        );
        assert_eq!(masked(&[("$.a", Plain::Redact)], text), Some(json!({"a": {}})));
    }

    #[test]
    fn a_name_beside_a_star_hides_nothing_that_the_star_says() {
        let text = r#"{"b": {"secret": "canary", "c": "dark", "list": [{"secret": "canary"}]}, "d": {"secret": "canary"}}"#;
        let paths = [
            ("$", Plain::Keep),
            ("$.*.secret", Plain::Redact),
            ("$.*.list[*].secret", Plain::Redact),
            ("$.b.c", Plain::Null),
            ("$.b.list[*].more", Plain::Null),
        ];
        let left = masked(&paths, text).unwrap();
        assert!(!left.to_string().contains("canary"), "{left}");
        assert_eq!(left["b"]["c"], Value::Null);
        let paths = [("$.*", Plain::Redact), ("$.a.b", Plain::Keep), ("$.*.b", Plain::Null)];
        assert_eq!(
            masked(&paths, r#"{"a": {"b": 1, "c": "x"}}"#),
            Some(json!({"a": {"b": 1}})),
            "the name decides over the star"
        );
    }

    #[test]
    fn a_name_that_is_somebodys_does_not_leave_by_a_star() {
        let text = r#"{"ana@shop.cat": {"secret": "canary", "a": 1}, "b": {"secret": "canary", "a": 1}, "10.2.3.4": 1}"#;
        assert_eq!(masked(&[("$.*.a", Plain::Keep)], text), Some(json!({"b": {"a": 1}})));
        let paths = [("$", Plain::Keep), ("$.*.secret", Plain::Redact)];
        assert_eq!(masked(&paths, text), Some(json!({"b": {"secret": "redacted", "a": 1}})));
        assert_eq!(masked(&[("$['ana@shop.cat'].a", Plain::Keep)], text), Some(json!({"ana@shop.cat": {"a": 1}})));
    }

    #[test]
    fn what_is_not_json_is_said_to_be_none() {
        for text in ["", "{", "{\"a\"}", "[1,", "\"a", "\"a\\", "{} x", "nul l", "]", "{\"a\":1]x"] {
            assert_eq!(masked(&[("$.a", Plain::Keep)], text), None, "{text}");
        }
    }

    #[test]
    fn a_wrong_path_is_named_with_the_way_to_write_it() {
        for text in ["theme", "$theme", "$.", "$.a..b", "$['a", "$[0]", "$.a[*]b"] {
            assert!(path(text).unwrap_err().contains(text), "{text}");
        }
        assert_eq!(path("$.a['b.c'][*].*").unwrap().len(), 4);
    }

    #[test]
    fn a_very_deep_value_does_not_exhaust_the_stack() {
        let text = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(masked(&[("$.a", Plain::Keep)], &text), Some(json!([])));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[abc\"\\\\]{1,2}", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn all_kept_is_the_same_and_none_kept_is_empty(value in value()) {
            let text = value.to_string();
            prop_assert_eq!(masked(&[("$", Plain::Keep)], &text), Some(value.clone()));
            let keeps_all = [("$", Plain::Keep), ("$.zz[*].y", Plain::Keep)];
            prop_assert_eq!(masked(&keeps_all, &text), Some(value.clone()));
            if value.is_object() {
                prop_assert_eq!(masked(&[("$.zz", Plain::Keep)], &text), Some(json!({})));
            }
        }
    }
}
