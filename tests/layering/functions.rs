//! Functions of a source file: how long each is and how many parameters it has.

use super::imports::lines;

/// A function with a body.
#[derive(Debug, PartialEq)]
pub struct Function {
    pub name: String,
    /// Lines from `fn` to the closing brace.
    pub lines: usize,
    /// Parameters but `self`.
    pub parameters: usize,
}

/// Where the bracket that stands at `open` is closed. Angle brackets count where `angles` says so,
/// but those of `->`.
fn closed(words: &[(String, usize)], open: usize, angles: bool) -> usize {
    let mut depth = 0;
    for at in open..words.len() {
        match words[at].0.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            "<" if angles => depth += 1,
            ">" if angles && words[at - 1].0 != "-" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    words.len()
}

/// Parameters between the brackets of a signature.
fn parameters(words: &[(String, usize)]) -> usize {
    let (mut count, mut at, mut begins) = (0, 0, true);
    let own = words.iter().take_while(|(word, _)| word != ",").any(|(word, _)| word == "self");
    while at < words.len() {
        match words[at].0.as_str() {
            "," => begins = true,
            "(" | "[" | "{" | "<" => {
                count += usize::from(begins);
                begins = false;
                at = closed(words, at, true);
            }
            _ => {
                count += usize::from(begins);
                begins = false;
            }
        }
        at += 1;
    }
    count - usize::from(own)
}

/// Every function of the program `text`, those within others too.
pub fn functions(text: &str) -> Vec<Function> {
    let words = lines(text);
    let is = |at: usize, word: &str| words.get(at).is_some_and(|(found, _)| found == word);
    let mut found = Vec::new();
    for begun in (0..words.len()).filter(|at| is(*at, "fn") && !is(*at + 1, "(")) {
        // A macro's function is called by one of the macro's own names.
        let name = begun + 1 + usize::from(is(begun + 1, "$"));
        let mut open = name + 1;
        if is(open, "<") {
            open = closed(&words, open, true) + 1;
        }
        if !is(open, "(") {
            continue;
        }
        let close = closed(&words, open, false);
        let mut body = close + 1;
        while body < words.len() && !is(body, "{") && !is(body, ";") {
            body = if is(body, "(") || is(body, "[") { closed(&words, body, false) } else { body } + 1;
        }
        if !is(body, "{") {
            continue;
        }
        let end = closed(&words, body, false).min(words.len() - 1);
        found.push(Function {
            name: words[name].0.clone(),
            lines: words[end].1 - words[begun].1 + 1,
            parameters: parameters(&words[open + 1..close]),
        });
    }
    found
}
