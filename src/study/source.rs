//! Texts that set keys, and mistakes shown where they were made: file, line and caret, or the flag.

use crate::error::{ConfigError, Error};
use std::ops::Range;
use std::sync::Arc;

/// A text that sets keys.
#[derive(Debug)]
pub struct Source {
    /// A file's path, or a flag as it was typed.
    pub name: String,
    /// The TOML text.
    pub text: String,
    /// Whether it comes from the command line: its mistakes name the flag instead of a place.
    pub flag: bool,
}

/// Where a key was set.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The text.
    pub source: Arc<Source>,
    /// Bytes of the key.
    pub key: Range<usize>,
    /// Bytes of the value.
    pub value: Range<usize>,
}

impl Source {
    /// A text that is not TOML.
    pub fn no_toml(&self, error: &toml::de::Error) -> Error {
        let end = self.text.len();
        let span = error.span().unwrap_or(end..end);
        self.mistake(span, error.message().to_string(), "here".into(), None)
    }

    /// A mistake at `span`.
    pub fn mistake(&self, span: Range<usize>, message: String, label: String, help: Option<String>) -> Error {
        if self.flag {
            let help = help.map_or_else(String::new, |help| format!("; {help}"));
            return Error::Usage(format!("{}: {message}{help}", self.name));
        }
        Error::Config(Box::new(ConfigError {
            message,
            name: self.name.clone(),
            text: self.text.clone(),
            span,
            label,
            help,
        }))
    }
}

impl Origin {
    /// A mistake in the value.
    pub fn at_value(&self, message: String, help: Option<String>) -> Error {
        self.source.mistake(self.value.clone(), message, "here".into(), help)
    }

    /// A mistake in the key.
    pub fn at_key(&self, message: String, help: Option<String>) -> Error {
        self.source.mistake(self.key.clone(), message, "here".into(), help)
    }
}
