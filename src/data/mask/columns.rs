//! What each type of column takes.

use crate::data::postgres::tables::Column;

/// Types, as far as masks tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Text of any kind.
    Text,
    /// A whole number, and the greatest of its type.
    Whole(u64),
    /// A number with decimals.
    Decimal,
    /// Date or timestamp.
    Date,
    /// UUID.
    Uuid,
    /// json or jsonb.
    Json,
    /// bytea.
    Bytes,
    /// An address or network; whether it is a network.
    Address,
    /// An array.
    Array,
    /// Something else.
    Other,
}

impl Type {
    /// The type of a column.
    pub fn of(column: &Column) -> Self {
        match column.base_type.as_str() {
            "int2" => Self::Whole(i16::MAX as u64),
            "int4" => Self::Whole(i32::MAX as u64),
            "int8" => Self::Whole(i64::MAX as u64),
            "numeric" | "float4" | "float8" => Self::Decimal,
            "date" | "timestamp" | "timestamptz" => Self::Date,
            "uuid" => Self::Uuid,
            "json" | "jsonb" => Self::Json,
            "bytea" => Self::Bytes,
            "inet" | "cidr" => Self::Address,
            "text" | "varchar" | "bpchar" | "citext" | "name" | "char" => Self::Text,
            _ if column.category == 'A' => Self::Array,
            _ => Self::Other,
        }
    }
}

/// How many characters a column has room for.
pub fn room(column: &Column) -> usize {
    match column.base_type.as_str() {
        "char" => 1,
        "name" => 63,
        _ => column.max_length.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX),
    }
}

/// The neutral value of a column's type. `None`: the type has none that we know.
pub fn neutral(column: &Column) -> Option<String> {
    let text = match column.base_type.as_str() {
        "text" | "varchar" | "bpchar" | "citext" | "name" | "char" => "redacted".chars().take(room(column)).collect(),
        "int2" | "int4" | "int8" | "numeric" | "float4" | "float8" | "money" => "0".into(),
        "bool" => "f".into(),
        "date" => "2000-01-01".into(),
        "timestamp" => "2000-01-01 00:00:00".into(),
        "timestamptz" => "2000-01-01 00:00:00+00".into(),
        "time" => "00:00:00".into(),
        "timetz" => "00:00:00+00".into(),
        "interval" => "00:00:00".into(),
        "uuid" => "00000000-0000-4000-8000-000000000000".into(),
        "json" | "jsonb" => "{}".into(),
        "bytea" => "\\x".into(),
        "inet" => "192.0.2.0".into(),
        "cidr" => "192.0.2.0/32".into(),
        "macaddr" => "00:00:5e:00:53:00".into(),
        "xml" => "<redacted/>".into(),
        "hstore" | "tsvector" | "tsquery" => String::new(),
        _ if column.category == 'A' => "{}".into(),
        _ if column.category == 'R' => "empty".into(),
        _ => column.labels.first()?.clone(),
    };
    Some(text)
}
