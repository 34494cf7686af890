//! Where text goes, and how a person is asked.

use std::io::{BufRead, IsTerminal, Write};

use serde::Serialize;
use serde_json::Value;

use super::{args::Format, error::CliError};

/// Writes text for people, and the object that `-o` asks for.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    format: Format,
}

impl Printer {
    /// A printer for this form of output.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// The form of output.
    pub fn format(self) -> Format {
        self.format
    }

    /// Text for people, one or more lines: on stdout, unless an object goes there.
    pub fn say(self, text: impl AsRef<str>) {
        // A reader that went away (`| head`) is no error of ours.
        let _ = match self.format {
            Format::Table => writeln!(std::io::stdout().lock(), "{}", text.as_ref()),
            Format::Json | Format::Yaml => writeln!(std::io::stderr().lock(), "{}", text.as_ref()),
        };
    }

    /// The object, where `-o` asks for one.
    pub fn object(self, object: &impl Serialize) -> Result<(), CliError> {
        let text = match self.format {
            Format::Table => return Ok(()),
            Format::Json => serde_json::to_string_pretty(&plain(object)?).map_err(CliError::other)? + "\n",
            Format::Yaml => yaml(&plain(object)?)?,
        };
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
        Ok(())
    }

    /// The object as one document of a stream: a line of JSON, or YAML after `---`.
    pub fn document(self, object: &impl Serialize) -> Result<(), CliError> {
        let text = match self.format {
            Format::Table => return Ok(()),
            Format::Json => serde_json::to_string(&plain(object)?).map_err(CliError::other)? + "\n",
            Format::Yaml => format!("---\n{}", yaml(&plain(object)?)?),
        };
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
        Ok(())
    }

    /// Asks; anything but yes is no. With `--yes` it does not ask; without a terminal it cannot.
    pub fn confirm(self, question: &str, yes: bool) -> Result<bool, CliError> {
        if yes {
            return Ok(true);
        }
        if !std::io::stdin().is_terminal() {
            return Err(CliError::Usage("there is no terminal to ask on; look at what is shown, then add --yes".into()));
        }
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "{question} [y/N] ");
        let _ = stderr.flush();
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map_err(CliError::other)?;
        Ok(is_yes(&answer))
    }
}

/// An object as a value, without who manages which field: kubectl leaves that out too.
fn plain(object: &impl Serialize) -> Result<Value, CliError> {
    let mut value = serde_json::to_value(object).map_err(CliError::other)?;
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    Ok(value)
}

fn yaml(value: &Value) -> Result<String, CliError> {
    let mut text = serde_saphyr::to_string(value).map_err(CliError::other)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        for yes in ["y\n", "Yes\n", "YES", " y "] {
            assert!(is_yes(yes), "{yes:?}");
        }
        for no in ["", "\n", "n", "ye", "yes please", "j"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }

    #[test]
    fn yaml_reads_back_as_the_same_object() {
        let object =
            serde_json::json!({"a": "yes", "b": ["1", 2, null], "c": {"d": "x: y\nz #"}, "e": "2026-11-25T21:00:00Z", "f": ""});
        let text = yaml(&object).unwrap();
        let back: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, object, "{text}");
    }
}
