//! What is made of the values of columns and may not take their substitutes: partitions, exclusion constraints, and casts in
//! indexes and computed columns. All of these would fail only where the rows are loaded, so they are said beforehand.

use super::{compile::Built, kinds::Op, policy::Named};
use crate::{
    api::Mask,
    data::postgres::tables::{Column, MadeKind, MadeOf, Table},
};

type Touched<'a> = &'a (Column, Mask, Op);

/// What is wrong, by column. `injective`: whether a mask leaves different values different.
pub fn problems<'a>(
    named: &Named<'_>,
    table: &'a Table,
    built: &Built,
    injective: impl Fn(&str) -> bool,
) -> Vec<(Option<&'a str>, String)> {
    let mut out = Vec::new();
    for made in &table.made_of {
        out.extend(one(made, built, &injective));
    }
    // A partition that is named itself is not masked as its table is.
    if named.is_named_itself(table) {
        for made in named.above(table).into_iter().flat_map(|t| &t.made_of).filter(|m| m.what == MadeKind::PartitionKey) {
            let theirs = one(made, built, &injective);
            let own = |name: &str| table.columns.iter().map(|c| c.name.as_str()).find(|c| *c == name);
            out.extend(theirs.into_iter().map(|(column, why)| (column.and_then(own), why)));
        }
    }
    out
}

fn one<'a>(made: &'a MadeOf, built: &Built, injective: &impl Fn(&str) -> bool) -> Option<(Option<&'a str>, String)> {
    let MadeOf { what, name, columns, definition } = made;
    let touched =
        |column: &&'a String| built.column(column).filter(|(.., op)| !matches!(op, Op::Keep)).map(|t| (column.as_str(), t));
    let touched: Vec<(&'a str, Touched<'_>)> = columns.iter().filter_map(|c| touched(&c)).collect();
    let first = touched.first()?.0;
    match what {
        MadeKind::PartitionKey => {
            let why = format!(
                "rows go into partitions by it ({definition}), and a substitute may belong into another partition, or into none; keep it \
                 with a reason, or let no row of the table leave"
            );
            Some((Some(first), why))
        }
        MadeKind::Exclusion => {
            // NULL and an empty range are in conflict with nothing.
            let apart = touched.iter().any(|(_, (column, _, op))| {
                matches!(op, Op::Null) || (column.category == 'R' && matches!(op, Op::Fixed(_)) && definition.contains("WITH &&"))
            });
            let column = touched.iter().map(|(name, _)| *name).find(|name| !injective(name)).filter(|_| !apart)?;
            let why = format!(
                "constraint {name} ({definition}) may find two masked rows in conflict; keep the column with a reason, or use null (redact \
                 for a range): neither is in conflict with anything"
            );
            Some((Some(column), why))
        }
        MadeKind::Index | MadeKind::Column => {
            let column = touched.iter().find(|(name, touched)| is_cast(definition, name, touched)).map(|(name, _)| *name)?;
            let whose = if *what == MadeKind::Index { "index" } else { "the computed column" };
            let why = format!(
                "{whose} {name} reads a type from its text ({definition}), which a substitute may not be; keep it with a reason, or use \
                 null; of JSON, keep that path or leave it out"
            );
            Some((Some(column), why))
        }
    }
}

/// Types whose text is not any text.
const STRICT: [&str; 16] = [
    "bigint",
    "boolean",
    "cidr",
    "date",
    "double",
    "inet",
    "integer",
    "interval",
    "json",
    "jsonb",
    "numeric",
    "real",
    "smallint",
    "time",
    "timestamp",
    "uuid",
];

/// Functions that read such text.
const READERS: [&str; 4] = ["to_date(", "to_number(", "to_timestamp(", "jsonb_array_elements("];

/// Whether an expression reads such a type from text of a masked column.
fn is_cast(definition: &str, column: &str, (catalog, mask, op): Touched<'_>) -> bool {
    let text = matches!(catalog.base_type.as_str(), "text" | "varchar" | "bpchar" | "citext" | "json" | "jsonb");
    if !text || matches!(op, Op::Null) {
        return false;
    }
    let mut operands: Vec<&str> = Vec::new();
    for (at, _) in definition.match_indices("::") {
        let kind = definition[at + 2..].split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        if STRICT.contains(&kind) {
            operands.push(operand(&definition[..at]));
        }
    }
    for reader in READERS {
        operands.extend(definition.match_indices(reader).map(|(at, _)| &definition[at + reader.len()..]));
    }
    operands.into_iter().filter(|operand| speaks_of(operand, column)).any(|operand| match &mask.json {
        // A path that is left out is NULL in what is made of it.
        Some(json) => json.paths.iter().any(|(path, mask)| {
            let last = path.rsplit(['.', '\'']).find(|part| part.chars().any(char::is_alphanumeric)).unwrap_or_default();
            mask.keep.is_none() && mask.null.is_none() && mask.noise.is_none() && operand.contains(&format!("'{last}'"))
        }),
        None => true,
    })
}

/// What stands before a cast: the parenthesis or the word. Of a literal, which no mask changes, nothing.
fn operand(before: &str) -> &str {
    if before.ends_with('\'') {
        return "";
    }
    if !before.ends_with(')') {
        let start = before.rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '"' | '\''))).map_or(0, |at| at + 1);
        return &before[start..];
    }
    let mut depth = 0_i32;
    for (at, c) in before.char_indices().rev() {
        depth += match c {
            ')' => 1,
            '(' => -1,
            _ => 0,
        };
        if depth == 0 {
            return &before[at..];
        }
    }
    before
}

/// Whether a column is named in an expression, outside of text.
fn speaks_of(expression: &str, column: &str) -> bool {
    let quoted = format!("\"{}\"", column.replace('"', "\"\""));
    expression.split('\'').step_by(2).any(|code| {
        code.contains(&quoted) || code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).any(|word| word == column)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cast_is_told_from_what_is_a_literal() {
        for (text, operand_is) in
            [("(((data ->> 'age'::text))", "((data ->> 'age'::text))"), ("(at > '2024-01-01'", ""), ("lower(code", "code")]
        {
            assert_eq!(operand(text), operand_is, "{text}");
        }
        assert!(speaks_of("((data ->> 'age'::text))", "data") && speaks_of("(\"Odd one\")", "Odd one"));
        assert!(!speaks_of("((data ->> 'age'::text))", "age") && !speaks_of("(metadata)", "data"));
    }
}
