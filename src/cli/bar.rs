//! A bar's line: a name, the bar, and as many words beside it as the terminal has room for.

use super::printable::printable;
use console::measure_text_width;
use std::borrow::Cow;

/// Characters of a line where the terminal does not say how many it has.
pub const WIDTH: usize = 80;
/// Characters of a bar where there is room, and where there is none.
const BARS: [usize; 2] = [20, 10];
/// A terminal of fewer characters has the short bar.
const NARROW: usize = 100;
/// A name takes one part of so many of a line.
const NAME_PART: usize = 3;
/// Between words beside a bar.
const GAP: &str = "  ";

/// A line as it is drawn.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// Before the bar, as wide as in the other lines.
    pub name: String,
    /// Characters of the bar.
    pub bar: usize,
    /// Behind the bar.
    pub message: String,
}

impl Line {
    /// The line as indicatif has it described.
    pub fn template(&self) -> String {
        match self.bar {
            0 => "{prefix} {msg}".into(),
            width => format!("{{prefix}} {{bar:{width}}} {{msg}}"),
        }
    }
}

/// The line of the run `name`, where the longest name has `longest` characters, with what is said
/// of it in `parts`: at most `width` characters.
///
/// The first part says how far the run is, and stays; of the others the earlier ones go first. A
/// long name keeps its end, which has the seed.
pub fn fitted(name: &str, longest: usize, parts: &[String], width: usize) -> Line {
    // The last column stays free: some terminals begin a new line there.
    let width = width.saturating_sub(1);
    let longest = longest.min(width / NAME_PART);
    let bar = BARS[usize::from(width < NARROW)];
    let rest = |bar: usize| width.saturating_sub(longest + 1 + if bar > 0 { bar + 1 } else { 0 });
    let first = parts.first().map_or(0, |part| measure_text_width(part));
    let bar = if longest + bar + 2 + first <= width { bar } else { 0 };
    let mut kept: Vec<&str> = parts.iter().map(String::as_str).collect();
    while kept.len() > 1 && measure_text_width(&kept.join(GAP)) > rest(bar) {
        kept.remove(1);
    }
    let name = end_of(&printable(name), longest).into_owned();
    let space = " ".repeat(longest.saturating_sub(measure_text_width(&name)));
    let message = end_of(&kept.join(GAP), rest(bar)).into_owned();
    Line { name: name + &space, bar, message }
}

/// The last `most` characters of a text, with a sign that it begins earlier.
fn end_of(text: &str, most: usize) -> Cow<'_, str> {
    if measure_text_width(text) <= most {
        return text.into();
    }
    let begins = text.char_indices().map(|(at, _)| &text[at..]);
    let end = begins.into_iter().find(|end| measure_text_width(end) < most).unwrap_or("");
    format!("{}{end}", if most > 0 { "…" } else { "" }).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Vec<String> {
        let parts = ["epoch 12.3/100", "loss -0.936", "held-out std 0.987", "kNN 96.2 %", "3 min 20 s left"];
        parts.map(String::from).to_vec()
    }

    fn drawn(line: &Line) -> String {
        let bar = if line.bar > 0 { format!("{} ", "━".repeat(line.bar)) } else { String::new() };
        format!("{} {bar}{}", line.name, line.message)
    }

    #[test]
    fn the_earlier_words_go_first() {
        let name = "m=0.8: seed 100";
        let line = |width| drawn(&fitted(name, 15, &parts(), width));
        let wide = "m=0.8: seed 100 ━━━━━━━━━━━━━━━━━━━━ epoch 12.3/100  loss -0.936  held-out std 0.987  \
                    kNN 96.2 %  3 min 20 s left";
        assert_eq!(line(120), wide);
        assert_eq!(line(80), "m=0.8: seed 100 ━━━━━━━━━━ epoch 12.3/100  kNN 96.2 %  3 min 20 s left");
        assert_eq!(line(60), "m=0.8: seed 100 ━━━━━━━━━━ epoch 12.3/100  3 min 20 s left");
        assert_eq!(line(36), "…: seed 100 epoch 12.3/100");
    }

    #[test]
    fn no_line_reaches_the_last_column() {
        for name in ["k", "membank/m=0: no predictor, no moving average seed 100", "箱箱箱箱箱箱 seed 7"]
        {
            for width in 0..200 {
                for parts in [parts(), vec!["preparing".into()], Vec::new()] {
                    let line = fitted(name, measure_text_width(name), &parts, width);
                    let drawn = drawn(&line);
                    assert!(measure_text_width(drawn.trim_end()) < width.max(1), "{width}: {drawn}");
                }
            }
        }
    }
}
