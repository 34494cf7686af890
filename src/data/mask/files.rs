//! Which files of a volume a policy lets out: those whose path matches one of its patterns.
//!
//! Fails closed: a pattern that could be understood in more than one way is a sentence, and nothing leaves by its policy. Paths
//! are bytes, and need not be UTF-8.

use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::personal::scalar;
use crate::api::{Glob, MaskingData, MaskingFiles, MaskingPolicySpec};

/// What begins a pattern within a name: up to there it is what it says.
const SPECIAL: [char; 6] = ['*', '?', '[', '{', '}', '\\'];

/// The patterns of one volume.
#[derive(Clone, Debug)]
pub struct Files {
    set: GlobSet,
    /// Of each pattern, the directories that it names in so many letters.
    prefixes: Vec<PathBuf>,
}

impl Files {
    /// # Errors
    /// Every pattern that cannot be used, and why.
    pub fn new(said: &MaskingFiles) -> Result<Self, Vec<String>> {
        let (mut builder, mut problems) = (GlobSetBuilder::new(), Vec::new());
        for pattern in &said.include {
            match one(pattern) {
                Ok(glob) => drop(builder.add(glob)),
                Err(why) => problems.push(format!("files.include {pattern:?}: {why}", pattern = &**pattern)),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let set = builder.build().map_err(|e| vec![format!("files.include: {}; shorten the patterns", e.kind())])?;
        Ok(Self { set, prefixes: said.include.iter().map(prefix).collect() })
    }

    /// Whether what is at this path below the volume leaves.
    pub fn takes(&self, path: &Path) -> bool {
        self.set.is_match(path)
    }

    /// Whether something in the directory at this path may leave.
    pub fn may_lead(&self, directory: &Path) -> bool {
        self.prefixes.iter().any(|p| p.starts_with(directory) || directory.starts_with(p))
    }

    /// Whether a symbolic link at this path may leave with what it says: its target is a name, and leaves only where what it names
    /// does. Every directory that the text names is one that leads there.
    pub fn takes_link(&self, path: &Path, target: &Path) -> bool {
        let mut at = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut down = false;
        for component in target.components() {
            match component {
                Component::CurDir => {}
                Component::ParentDir if !down => {
                    if !at.pop() {
                        return false;
                    }
                }
                Component::Normal(name) => {
                    down = true;
                    at.push(name);
                }
                // From the root, or down one way and up again.
                _ => return false,
            }
        }
        self.takes(path) && self.takes(&at)
    }
}

/// A pattern, if it says one thing.
fn one(pattern: &Glob) -> Result<globset::Glob, String> {
    if pattern.starts_with('/') {
        return Err("paths begin below the volume; leave the first / out".into());
    }
    if pattern.ends_with('/') {
        return Err("it ends with /; add ** for all that is in the directory".into());
    }
    if pattern.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err("it has an empty name, . or .. in it, and no path has; write the path as it is".into());
    }
    // A set that excludes something would match a / too.
    let (mut escaped, mut open) = (false, false);
    for c in pattern.chars() {
        open |= c == '[' && !escaped;
        escaped = c == '\\' && !escaped;
    }
    if open {
        return Err("sets of characters ([…]) are not understood; write {a,b}, or \\[ for the character itself".into());
    }
    let built = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
    built.map_err(|e| format!("{}; correct it", e.kind()))
}

/// The directories that a pattern names before anything in it stands for more than itself.
fn prefix(pattern: &Glob) -> PathBuf {
    let mut names: Vec<&str> = pattern.split('/').collect();
    let plain = names.iter().take_while(|name| !name.contains(SPECIAL)).count();
    names.truncate(plain.min(names.len().saturating_sub(1)));
    names.iter().collect()
}

/// Whether what a policy says of a data fits what it is.
///
/// # Errors
/// What is wrong, and what to do.
pub fn fits(said: &MaskingData, volume: bool) -> Result<(), String> {
    let name = &said.name;
    match &said.files {
        Some(_) if !volume => Err(format!("data {name} is a database, and has no files; list its tables")),
        Some(files) => Files::new(files).map(drop).map_err(|all| format!("data {name}: {}", all.join("; "))),
        None if volume => Err(format!(
            "data {name} is a volume: say which of its files may leave, files: {{include: [\"…/**\"]}}, or remove it from the policy"
        )),
        None => Ok(()),
    }
}

/// What a policy says of a volume, in words.
pub fn said(policy: &MaskingPolicySpec, name: &str) -> String {
    match policy.data.iter().find(|d| *d.name == *name).and_then(|d| d.files.as_ref()) {
        Some(files) => {
            format!("data {name}: files that match one of {} patterns leave as they are, and no other", files.include.len())
        }
        None => format!("data {name}: no file of this volume leaves, because no pattern is listed"),
    }
}

/// What a draft says of a volume, as comments below `spec.data`: which files are nobody's is for a person to know.
pub fn drafted(name: &str) -> String {
    format!(
        "  # Data {name} is a volume: no file of it leaves. Files that hold nobody's data may, as they are, by patterns of their paths:\n  \
         # - name: {}\n  #   files: {{include: [\"…/**\"]}}",
        scalar(name)
    )
}

/// The YAML that lets files of a data leave.
pub fn suggested(name: &str) -> String {
    format!("data: [{{name: {}, files: {{include: [\"…/**\"]}}}}]", scalar(name))
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use super::*;

    fn files(patterns: &[&str]) -> Result<Files, Vec<String>> {
        Files::new(&MaskingFiles { include: patterns.iter().map(|p| (*p).into()).collect() })
    }

    #[test]
    fn a_path_leaves_where_a_pattern_matches_all_of_it_and_stars_stay_within_a_name() {
        for (pattern, leave, stay) in [
            (
                "avatars/default/**",
                &["avatars/default/a", "avatars/default/b/c"][..],
                &["avatars/default", "avatars/x", "x/avatars/default/a"][..],
            ),
            ("**/*.css", &["a.css", "x/y/b.css", ".css"], &["a.cssx", "a.css/x"]),
            ("a/*/c", &["a/b/c"], &["a/b/b/c", "a/c", "A/b/c"]),
            ("a?c", &["abc"], &["a/c", "ac"]),
            ("logo.{png,svg}", &["logo.png", "logo.svg"], &["logo.jpg", "logo.png,svg"]),
            ("a**", &["a", "abc"], &["a/b"]),
            ("\\[x\\]\\*", &["[x]*"], &["x", "[x]y"]),
            ("**", &["a", "new\nline/x"], &[]),
            ("ünï", &["ünï"], &["unï"]),
        ] {
            let files = files(&[pattern]).unwrap();
            leave.iter().for_each(|path| assert!(files.takes(Path::new(path)), "{pattern} takes {path}"));
            stay.iter().for_each(|path| assert!(!files.takes(Path::new(path)), "{pattern} leaves {path}"));
            for path in leave.iter().flat_map(|p| Path::new(p).ancestors().skip(1)) {
                assert!(files.may_lead(path), "{pattern} is looked for in {path:?}");
            }
        }
        let bytes = |name: &'static [u8]| Path::new(OsStr::from_bytes(name));
        let files = files(&["a/?x", "b/*"]).unwrap();
        assert!(files.takes(bytes(b"a/\xffx")) && files.takes(bytes(b"b/\xfe\xff")) && !files.takes(bytes(b"a/\xff\xffx")));
        assert!(
            files.may_lead(Path::new("a")) && !files.may_lead(Path::new("private")),
            "what cannot lead there is not looked at"
        );
    }

    #[test]
    fn a_pattern_that_could_mean_something_else_is_a_sentence() {
        for (pattern, sentence) in [
            ("/etc/**", "leave the first / out"),
            ("a/", "add ** for all"),
            ("a/../b", "write the path as it is"),
            ("a//b", "write the path as it is"),
            ("./a", "write the path as it is"),
            ("[!a]b", "sets of characters"),
            ("\\\\[a]", "sets of characters"),
            ("{a,b", "correct it"),
            ("a\\", "correct it"),
        ] {
            let said = files(&["fine/**", pattern]).unwrap_err().join("; ");
            assert!(said.contains(sentence) && said.contains("files.include"), "{pattern}: {said}");
        }
    }

    #[test]
    fn a_draft_lists_nothing_by_itself_and_is_a_policys_entry_once_it_is_no_comment() {
        let text = drafted("uploads");
        assert!(text.lines().all(|line| line.trim_start().starts_with('#')), "{text}");
        let uncommented: Vec<&str> =
            text.lines().skip(1).map(|line| line.trim_start().trim_start_matches("# ").trim_start_matches('#')).collect();
        let entry: Vec<MaskingData> = serde_saphyr::from_str(&uncommented.join("\n")).unwrap();
        assert_eq!(entry[0].files.as_ref().unwrap().include, ["…/**".into()]);
    }

    #[test]
    fn a_link_leaves_where_what_it_names_does() {
        let files = files(&["public/**", "top"]).unwrap();
        let takes = |path: &str, target: &str| files.takes_link(Path::new(path), Path::new(target));
        for target in ["a", "./a", "b/c", "../public/a", "../top", "../../public/a"] {
            assert!(takes("public/x/link", target), "{target}");
        }
        assert!(takes("public/link", "../top"));
        for target in
            ["../private/jane", "/etc/passwd", "../../public/a", "a/../../private", "../public/../private/jane", "..", ""]
        {
            assert!(!takes("public/link", target), "{target}");
        }
        assert!(!takes("private/link", "../public/a"), "it must match itself");
    }
}
