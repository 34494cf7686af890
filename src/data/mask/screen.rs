//! What of a schema's own text could carry data. `pre-data.sql` leaves with masked rows, and people write into comments,
//! defaults and function bodies.
//!
//! Decided for each class of object:
//! - Comments and security labels leave only if nothing in them looks like a person's; they are text, and nothing needs them.
//! - Literals in defaults, constraints, views and function bodies are code: they leave, unless they look like a person's, or like
//!   a secret: a password of a connection string, or a key that nobody could have typed.
//! - What connects elsewhere (subscriptions, foreign servers, user mappings) never leaves: it carries passwords and names
//!   production's servers.
//! - Rows (COPY, INSERT) have no place there, nor have the planner's statistics, which are made of values.
//!
//! Addresses at reserved domains (`example.org`, `.test`, `.invalid`, `localhost`) are nobody's.

use super::{
    draft::{is_card, is_email, is_iban},
    secrets,
};

/// Something in a schema that must not leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The first words of the statement: what it makes, without any literal.
    pub statement: String,
    /// What is wrong, and what to do. Nothing of what was found is in it.
    pub why: String,
}

/// Looks through the text of a schema, as pg_dump writes it.
pub fn findings(sql: &str) -> Vec<Finding> {
    let mut out = Vec::new();
    for statement in statements(sql) {
        let name = words(statement.text);
        let begins = |what: &str| name.to_uppercase().starts_with(what);
        let mut add = |why: &str| out.push(Finding { statement: name.clone(), why: why.to_owned() });
        if begins("CREATE SUBSCRIPTION") || begins("ALTER SUBSCRIPTION") {
            add(
                "a subscription names another server and how to log in there; leave subscriptions out of the dump (--no-subscriptions)",
            );
        } else if begins("CREATE SERVER") || begins("CREATE USER MAPPING") || begins("ALTER SERVER") {
            add(
                "a foreign server and its users name another server and how to log in there, and never leave; drop them, or move what \
                 needs them into a database of its own",
            );
        } else if statement.text.starts_with("SELECT") && statement.text.contains("pg_catalog.pg_restore_") {
            add("the planner's statistics hold values of rows; leave them out of the dump (--no-statistics)");
        } else if begins("COPY ") || begins("INSERT ") {
            add("rows have no place in a schema; dump its sections apart (--section=pre-data)");
        } else if let Some(looks) = statement.literals.iter().find_map(|text| person(text).or_else(|| secrets::looks(text))) {
            let comment = begins("COMMENT ON") || begins("SECURITY LABEL");
            let mend = if comment {
                "take it out of the comment, or leave comments out of the dump (--no-comments)"
            } else {
                "take it out of the database's definition"
            };
            add(&format!("it has text that looks like {looks}; {mend}"));
        }
    }
    out
}

/// A statement.
pub(super) struct Statement<'a> {
    text: &'a str,
    /// The content of its literals: text between quotes, and bodies between dollars.
    pub literals: Vec<&'a str>,
}

/// The first words of a statement, up to its first literal or parenthesis.
fn words(text: &str) -> String {
    let end = text.find(['\'', '(', '$']).unwrap_or(text.len());
    text[..end].split_whitespace().take(6).collect::<Vec<_>>().join(" ")
}

/// What a piece of text has in it that looks like a person's.
fn person(text: &str) -> Option<&'static str> {
    let nobodys = |address: &str| {
        let domain = address.rsplit('@').next().unwrap_or_default().to_lowercase();
        ["example.org", "example.com", "example.net", "localhost"].contains(&domain.as_str())
            || [".test", ".invalid", ".example"].iter().any(|end| domain.ends_with(end))
    };
    let separators = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '<' | '>' | '(' | ')' | '"' | '\'' | '=' | ':' | '/');
    for word in text.split(separators).map(|w| w.trim_matches(['.', '!', '?'])).filter(|w| !w.is_empty()) {
        if is_email(word) && !nobodys(word) {
            return Some("an email address");
        }
        if word.len() >= 15 && is_iban(word) {
            return Some("a bank account");
        }
        // Shorter runs of digits that happen to have a right check digit are many.
        if word.len() >= 15 && is_card(word) && !word.starts_with("400000") {
            return Some("a card number");
        }
    }
    None
}

/// Splits SQL into statements: quotes, dollar quotes and comments of pg_dump are looked through.
pub(super) fn statements(sql: &str) -> Vec<Statement<'_>> {
    let bytes = sql.as_bytes();
    let (mut out, mut literals, mut start, mut at) = (Vec::new(), Vec::new(), 0, 0);
    let find = |from: usize, what: &str| sql[from..].find(what).map_or(sql.len(), |found| from + found);
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"') => {
                let mut end = at + 1;
                loop {
                    end = find(end, if quote == b'"' { "\"" } else { "'" });
                    let doubled = bytes.get(end + 1) == Some(&quote);
                    let hidden = quote == b'\''
                        && at > 0
                        && matches!(bytes[at - 1], b'E' | b'e')
                        && end > at
                        && bytes[end.min(bytes.len()) - 1] == b'\\';
                    match (doubled, hidden) {
                        (true, _) => end += 2,
                        (_, true) => end += 1,
                        _ => break,
                    }
                    if end >= bytes.len() {
                        break;
                    }
                }
                let end = end.min(sql.len());
                if quote == b'\'' {
                    literals.push(&sql[at + 1..end]);
                }
                at = end + 1;
            }
            b'$' => {
                let tag_end = sql[at + 1..].find('$').map(|e| at + 1 + e);
                match tag_end {
                    Some(tag_end) if sql[at + 1..tag_end].chars().all(|c| c.is_alphanumeric() || c == '_') => {
                        let tag = &sql[at..=tag_end];
                        let end = find(tag_end + 1, tag);
                        literals.push(&sql[tag_end + 1..end]);
                        at = (end + tag.len()).min(sql.len());
                    }
                    _ => at += 1,
                }
            }
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                let end = find(at, "\n");
                // What pg_dump notes of a statement stands before it, and is none of it.
                if sql[start..at].trim().is_empty() {
                    start = end;
                }
                at = end;
            }
            b';' => {
                out.push(Statement { text: sql[start..at].trim(), literals: std::mem::take(&mut literals) });
                at += 1;
                start = at;
            }
            _ => at += 1,
        }
    }
    let rest = sql[start.min(sql.len())..].trim();
    if !rest.is_empty() {
        out.push(Statement { text: rest, literals });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_carry_data_is_named_and_not_quoted() {
        let sql = "-- Name: TABLE users; Type: COMMENT\nCOMMENT ON TABLE public.users IS 'ask ana@shop.cat; she''s in';\n\
            ALTER TABLE a ALTER COLUMN b SET DEFAULT 'ops@corp.cat';\n\
            CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $_$ SELECT 'x;y'; SELECT 'boss@corp.cat' $_$;\n\
            CREATE SUBSCRIPTION s CONNECTION 'host=prod password=canary' PUBLICATION p;\n\
            CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (host 'x');\n\
            COPY public.users (a) FROM stdin;\n\
            CREATE VIEW v AS SELECT 'ES9121000418450200051332'::text;\n\
            CREATE TYPE who AS ENUM ('boss@corp.cat', 'none');\n\
            ALTER TABLE ONLY t ATTACH PARTITION p FOR VALUES IN ('boss@corp.cat');\n\
            CREATE INDEX i ON t (a) WHERE (a = 'boss@corp.cat'::text);\n\
            SELECT * FROM pg_catalog.pg_restore_attribute_stats('attname', 'a', 'histogram_bounds', '{canary}'::text);";
        let found = findings(sql);
        let names: Vec<&str> = found.iter().map(|f| f.statement.as_str()).collect();
        assert_eq!(
            names,
            [
                "COMMENT ON TABLE public.users IS",
                "ALTER TABLE a ALTER COLUMN b",
                "CREATE FUNCTION f",
                "CREATE SUBSCRIPTION s CONNECTION",
                "CREATE SERVER s FOREIGN DATA WRAPPER",
                "COPY public.users",
                "CREATE VIEW v AS SELECT",
                "CREATE TYPE who AS ENUM",
                "ALTER TABLE ONLY t ATTACH PARTITION",
                "CREATE INDEX i ON t",
                "SELECT * FROM pg_catalog.pg_restore_attribute_stats",
            ]
        );
        let all = format!("{found:?}");
        assert!(!all.contains("canary") && !all.contains("corp.cat") && !all.contains("ana@"), "{all}");
    }

    #[test]
    fn code_and_what_is_nobodys_leaves() {
        let sql = "COMMENT ON COLUMN t.a IS 'the address, e.g. someone@example.org';\n\
            CREATE TABLE t (a text DEFAULT 'new'::text, b int CHECK (b > 0));\n\
            CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN E'it\\'s; 1234567890123456'; END $$;\n\
            CREATE TABLE \"odd;'name\" (a text);";
        assert_eq!(findings(sql), Vec::new());
    }
}
