//! Standard error: notes and mistakes.

use super::printable::{printable, printable_mistake};
use crate::error::{ConfigError, Error};
use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::io::{IsTerminal, Write};

/// Prints an error to stderr; mistakes in TOML with their line and caret.
pub fn complain(error: &Error) {
    match error {
        // The colours are the renderer's own.
        Error::Config(mistake) => write(shown(&printable_mistake(mistake)).trim_end()),
        _ => note(&format!("error: {error}")),
    }
}

/// A mistake with the lines around it.
fn shown(mistake: &ConfigError) -> String {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let text = mistake.text.as_str();
    let within =
        |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let span = within(mistake.span.start)..within(mistake.span.end.max(mistake.span.start));
    let place = AnnotationKind::Primary.span(span).label(mistake.label.as_str());
    let source = Snippet::source(text).path(mistake.name.as_str()).annotation(place);
    let help = mistake.help.as_ref().map(|help| Level::HELP.message(help.as_str()));
    let group = Level::ERROR.primary_title(mistake.message.as_str()).element(source).elements(help);
    renderer.decor_style(DecorStyle::Unicode).render(&[group])
}

/// A note to stderr. Whether anyone reads it must not matter to the runs.
pub fn note(text: &str) {
    write(&printable(text));
}

fn write(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
