//! Standard error: notes and mistakes.

use super::printable::{printable, printable_mistake};
use crate::error::Error;
use std::io::{IsTerminal, Write};

/// Prints an error to stderr; mistakes in TOML with their line and caret.
pub fn complain(error: &Error) {
    match error {
        Error::Config(config) => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let theme = match colour {
                true => miette::GraphicalTheme::unicode(),
                false => miette::GraphicalTheme::unicode_nocolor(),
            };
            let handler = miette::GraphicalReportHandler::new_themed(theme).with_links(false);
            let mut text = String::new();
            match handler.render_report(&mut text, &printable_mistake(config)) {
                // The colours are miette's own.
                Ok(()) => write(&format!("error:{}", text.trim_end())),
                Err(_) => note(&format!("error: {error}")),
            }
        }
        _ => note(&format!("error: {error}")),
    }
}

/// A note to stderr. Whether anyone reads it must not matter to the runs.
pub fn note(text: &str) {
    write(&printable(text));
}

fn write(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
