//! Texts that do to a terminal nothing but stand on it.
//!
//! Names of files, classes, columns and studies come from outside and may hold escape sequences,
//! which clear the screen, set its title or turn the direction of what follows. They are shown as
//! JSON writes them, so that a line of JSON stays one with the same meaning.

use crate::error::ConfigError;
use std::borrow::Cow;

/// Whether a terminal would do something else with this character than show it.
fn acts(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with every such character as `\u001b`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| match acts(c) {
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.to_string(),
    };
    text.chars().map(shown).collect::<String>().into()
}

/// A mistake in a TOML text of which everything can be printed; its place stays where it is.
pub fn printable_mistake(mistake: &ConfigError) -> ConfigError {
    // As many bytes for each character, because the place is counted in bytes. Line ends of Windows
    // are no acts here.
    let same_length = |c: char| match (acts(c) && c != '\r', c.len_utf8()) {
        (false, _) => c,
        (true, 1) => '?',
        (true, 2) => '¿',
        (true, _) => '\u{fffd}',
    };
    let text: String = mistake.text.chars().map(same_length).collect();
    ConfigError {
        message: printable(&mistake.message).into_owned(),
        name: printable(&mistake.name).into_owned(),
        text,
        span: mistake.span.clone(),
        label: printable(&mistake.label).into_owned(),
        help: mistake.help.as_deref().map(|help| printable(help).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_shown_instead() {
        assert_eq!(printable("a\u{1b}[2Jb\u{9b}c\r\n\td"), "a\\u001b[2Jb\\u009bc\\u000d\n\td");
        assert_eq!(printable("ein \u{202e}Hund"), "ein \\u202eHund");
        assert!(matches!(printable("Käfer × 3 ± 0.5 → θ"), Cow::Borrowed(_)));
        let json = serde_json::json!({ "name": "a\u{9b}b" }).to_string();
        let read: serde_json::Value = serde_json::from_str(&printable(&json)).unwrap();
        assert_eq!(read["name"], "a\u{9b}b");
    }
}
