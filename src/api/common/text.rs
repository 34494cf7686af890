//! Strings that are bounded where they enter: by length and by a pattern in the schema, one type for each use.

use std::{borrow::Cow, fmt, ops::Deref, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

macro_rules! bounded_string {
    ($(#[$doc:meta])* $name:ident, $min:literal, $max:literal, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(value: &str) -> Self {
                Self(value.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(value: String) -> Self {
                Self(value)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "minLength": $min, "maxLength": $max, "pattern": $pattern})
            }
        }
    };
}

bounded_string!(
    /// Name of a Kubernetes object: a DNS subdomain, at most 253 characters.
    ObjectName, 1, 253, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
);
bounded_string!(
    /// A DNS label, at most 63 characters: namespaces, and the names given to modules, data and checks.
    Label, 1, 63, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
);
bounded_string!(
    /// A name given to a module, to data or to a check. Shorter than a DNS label, because names of Jobs are made of it.
    ShortName, 1, 40, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
);
bounded_string!(
    /// Name of a person or service as the API server's authentication gives it.
    Username, 1, 256, r"^[^\x00-\x1f\x7f-\x{9f}\x{ad}\x{61c}\x{180e}\x{200b}-\x{200f}\x{2028}-\x{202e}\x{2060}-\x{206f}\x{feff}\x{e0000}-\x{e007f}]+$"
);
bounded_string!(
    /// One line of text for people, in any language: nothing that ends a line, turns its direction or cannot be seen.
    Line, 0, 1024, r"^[^\x00-\x1f\x7f-\x{9f}\x{ad}\x{61c}\x{180e}\x{200b}-\x{200f}\x{2028}-\x{202e}\x{2060}-\x{206f}\x{feff}\x{e0000}-\x{e007f}]*$"
);
bounded_string!(
    /// A key of a ConfigMap.
    ConfigKey, 1, 253, r"^[-._a-zA-Z0-9]+$"
);
bounded_string!(
    /// One argument of a command.
    Argument, 0, 4096, r"^[^\x00]*$"
);
bounded_string!(
    /// An `http` or `https` URL.
    Url, 8, 2048, r"^https?://[^\s\x00-\x1f\x7f-\x{9f}\x{ad}\x{61c}\x{180e}\x{200b}-\x{200f}\x{2028}-\x{202e}\x{2060}-\x{206f}\x{feff}\x{e0000}-\x{e007f}]+$"
);
bounded_string!(
    /// URL of an S3 server: scheme, host and port, and nothing more.
    Endpoint, 8, 300, r"^https?://([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?$"
);
bounded_string!(
    /// Name of an S3 region.
    Region, 1, 64, r"^[A-Za-z0-9]([-_A-Za-z0-9]*[A-Za-z0-9])?$"
);
bounded_string!(
    /// Name of an S3 bucket.
    BucketName, 3, 63, r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])$"
);
bounded_string!(
    /// What keys of objects begin with: words with slashes between them.
    KeyPrefix, 1, 512, r"^[-_.A-Za-z0-9]+(/[-_.A-Za-z0-9]+)*$"
);
bounded_string!(
    /// Times as in cron: five fields, with `*`, ranges, lists and steps; months and weekdays also by their first three letters.
    CronSchedule, 9, 128, r"^[0-9A-Za-z*,/-]+( [0-9A-Za-z*,/-]+){4}$"
);
bounded_string!(
    /// Id of a snapshot in a repository, or its beginning.
    SnapshotId, 8, 64, r"^[0-9a-f]+$"
);
bounded_string!(
    /// Hash of a plan, with the version of the way it was computed: `v1:` and 64 hexadecimal digits.
    PlanHash, 4, 80, r"^v[0-9]+:[0-9a-f]{64}$"
);

bounded_string!(
    /// A table with its schema, as the catalog spells both: `public.users`.
    TableName, 3, 127, r"^[^\x00-\x1f\x7f]+$"
);
bounded_string!(
    /// Name of a column, as the catalog spells it; where another is made of it, also with a path of names into its JSON: `parts$.given_name`.
    ColumnName, 1, 255, r"^[^\x00-\x1f\x7f]+$"
);
bounded_string!(
    /// Name of a domain of values: within one, equal values get equal substitutes.
    Domain, 1, 63, r"^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$"
);
bounded_string!(
    /// A condition over a table's columns, one SQL expression.
    SqlCondition, 1, 1024, r"^[^\x00-\x08\x0b-\x1f\x7f]+$"
);
bounded_string!(
    /// Literal text with the masked values of other columns in braces: `user-{id}@example.org`.
    TemplateText, 1, 1024, r"^[^\x00-\x1f\x7f]+$"
);

bounded_string!(
    /// A pattern of paths below a volume: `avatars/default/**`. `*` and `?` do not cross a `/`, `**` does.
    Glob, 1, 256, r"^[^\x00-\x1f\x7f]+$"
);

/// A duration as Go writes it (`90s`, `15m`, `1h30m`), not negative, at most 8784 hours. Kept as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Period(pub String);

impl Period {
    /// The longest period that counts: a leap year. What is longer is cut to this, so no sum of times overflows.
    pub const MAX: Duration = Duration::from_secs(8784 * 3600);

    /// The period as a span of time. `None` where the text is not a duration; the schema refuses such text.
    pub fn get(&self) -> Option<Duration> {
        let parsed: kube::core::Duration = self.0.parse().ok()?;
        (!parsed.is_negative()).then(|| Duration::from(parsed).min(Self::MAX))
    }

    /// The period, or `default` where the text is not a duration.
    pub fn or(&self, default: Duration) -> Duration {
        self.get().unwrap_or(default)
    }
}

impl From<&str> for Period {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "minLength": 2, "maxLength": 24,
            "pattern": r"^([0-9]{1,7}(\.[0-9]{1,3})?(ms|s|m|h))+$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_a_duration_of_go_and_never_negative_or_endless() {
        assert_eq!(Period::from("1h30m").get(), Some(Duration::from_secs(5400)));
        assert_eq!(Period::from("-1s").get(), None);
        assert_eq!(Period::from("soon").get(), None);
        assert_eq!(Period::from("9999999h").get(), Some(Period::MAX));
    }
}
