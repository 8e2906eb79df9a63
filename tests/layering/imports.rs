//! Who imports whom: a small reader of Rust that knows modules, `use` trees and paths, and nothing
//! else.
//!
//! An arrow goes from a file to the file that defines what it names, however many `pub use` lie
//! between the two. A module that declares its children and re-exports what they define (`mod
//! child;`, `pub use child::X;`) uses nothing of them, so that is no arrow.
//!
//! A module's own file and the files within it are left out of circles: where a module says what
//! its children are (a trait, a configuration) and chooses among them, both need each other, and
//! taking the module's file apart would hide what belongs together. Two files of which neither lies
//! in the other's module may form none.

use std::collections::{BTreeMap, BTreeSet};

/// Source files: path below src → text.
pub type Sources = BTreeMap<String, String>;
/// A module's or an item's path from the root of the crate.
type Path = Vec<String>;

/// What a file names.
pub struct Named {
    /// The file that names it.
    pub from: String,
    /// As it is written, the trees of `use` spelled out, a macro with its `!`: `std::fs::File`,
    /// `println!`.
    pub path: String,
    /// Of this crate: the room by which it is reached and the file that defines it.
    pub of_ours: Option<(String, String)>,
}

/// A module: a file, or a block of one.
#[derive(Default)]
struct Module {
    file: String,
    /// Name → what it stands for, and whether it is handed on by `pub use`.
    imports: BTreeMap<String, (Path, bool)>,
    /// Globs, and paths in the code.
    used: Vec<Path>,
}

/// The words of a program and the line of each: names, `::` and single signs; comments, strings and
/// lifetimes are left out.
fn words(text: &str) -> Vec<(String, usize)> {
    let text: Vec<char> = text.chars().collect();
    let behind = |from: usize, end: &[char]| {
        let found = text[from.min(text.len())..].windows(end.len()).position(|window| window == end);
        found.map_or(text.len(), |found| from + found + end.len())
    };
    let name_end = |from: usize| {
        let length = text[from..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
        from + length
    };
    let (mut words, mut at, mut line) = (Vec::new(), 0, 1);
    while at < text.len() {
        let begun = at;
        at = match &text[at..] {
            ['/', '/', ..] => behind(at, &['\n']),
            ['/', '*', ..] => behind(at, &['*', '/']),
            ['"', ..] => {
                let mut end = at + 1;
                while end < text.len() && text[end] != '"' {
                    end += if text[end] == '\\' { 2 } else { 1 };
                }
                end + 1
            }
            ['\'', '\\', ..] => behind(at + 3, &['\'']),
            ['\'', _, '\'', ..] => at + 3,
            ['\'', ..] => name_end(at + 1),
            [':', ':', ..] => {
                words.push(("::".to_string(), line));
                at + 2
            }
            [c, ..] if c.is_alphanumeric() || *c == '_' => {
                let end = name_end(at);
                let hashes = text[end..].iter().take_while(|c| **c == '#').count();
                let raw = matches!(text[at..end], ['r'] | ['b', 'r']);
                if raw && text.get(end + hashes) == Some(&'"') {
                    behind(end + hashes + 1, &[&['"'][..], &vec!['#'; hashes]].concat())
                } else {
                    words.push((text[at..end].iter().collect(), line));
                    end
                }
            }
            [c, ..] => {
                if !c.is_whitespace() {
                    words.push((c.to_string(), line));
                }
                at + 1
            }
            [] => at,
        };
        line += text[begun..at.min(text.len())].iter().filter(|c| **c == '\n').count();
    }
    words
}

/// The words without what is compiled for tests only.
pub fn program(text: &str) -> Vec<String> {
    lines(text).into_iter().map(|(word, _)| word).collect()
}

/// The same with the line of each word.
pub fn lines(text: &str) -> Vec<(String, usize)> {
    let words = words(text);
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < words.len() {
        let ahead = words[at..].iter().map(|(word, _)| word.as_str()).take(7);
        if ahead.ne(["#", "[", "cfg", "(", "test", ")", "]"]) {
            kept.push(words[at].clone());
            at += 1;
            continue;
        }
        // Its item ends with the first `;` or `}` outside of brackets.
        let mut depth = 0;
        at += 7;
        while at < words.len() && depth >= 0 {
            match words[at].0.as_str() {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && matches!(words[at - 1].0.as_str(), ";" | "}") {
                break;
            }
        }
    }
    kept
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Where the path that begins at `at` has its last name.
fn path_end(words: &[String], mut at: usize) -> usize {
    while let [colons, name, ..] = &words[at + 1..]
        && colons == "::"
        && is_name(name)
    {
        at += 2;
    }
    at
}

/// Reads the tree of a `use` at `at` behind `path`: what each name in it stands for. Where it ends.
fn tree(words: &[String], mut at: usize, mut path: Path, found: &mut Vec<(String, Path)>) -> usize {
    loop {
        match words[at].as_str() {
            "{" => {
                at += 1;
                while words[at] != "}" {
                    at = tree(words, at, path.clone(), found);
                    at += usize::from(words[at] == ",");
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            "as" => {
                found.push((words[at + 1].clone(), path));
                return at + 2;
            }
            "self" if !path.is_empty() => {}
            "::" => {}
            word => path.push(word.to_string()),
        }
        at += 1;
    }
    found.extend(path.last().cloned().map(|name| (name, path)));
    at
}

/// The crate's modules by their paths.
struct Modules(BTreeMap<Path, Module>);

impl Modules {
    fn of(sources: &Sources) -> Modules {
        let mut modules = Modules(BTreeMap::new());
        for (file, text) in sources {
            let stem = file.trim_end_matches(".rs").trim_end_matches("/mod");
            let path = stem.split('/').filter(|part| *part != "lib").map(str::to_string).collect();
            modules.read(file, path, &program(text));
        }
        modules
    }

    fn read(&mut self, file: &str, path: Path, words: &[String]) {
        // Blocks of modules that are open, with the depth of brackets around them.
        let mut scopes = vec![(path, 0)];
        let (mut depth, mut at) = (0, 0);
        while at < words.len() {
            let (scope, outside) = scopes.last().expect("a file is a module");
            let module = self.0.entry(scope.clone()).or_default();
            module.file = file.to_string();
            let before = at.checked_sub(1).map_or("", |before| words[before].as_str());
            match words[at].as_str() {
                // What a return type captures (`+ use<'a>`) is no import.
                "use" if words.get(at + 1).is_none_or(|word| word != "<") => {
                    let mut found = Vec::new();
                    at = tree(words, at + 1, Path::new(), &mut found);
                    for (name, path) in found {
                        if !matches!(before, "pub" | ")") {
                            module.used.push(path.clone());
                        }
                        module.imports.insert(name, (path, matches!(before, "pub" | ")")));
                    }
                    continue;
                }
                "mod" if words.get(at + 2).is_some_and(|word| word == "{") => {
                    scopes.push(([&scope[..], &words[at + 1..at + 2]].concat(), depth));
                    at += 1;
                }
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if scopes.len() > 1 && *outside == depth {
                        scopes.pop();
                    }
                }
                word if is_name(word) && !matches!(before, "." | "::" | "mod") => {
                    let first = at;
                    at = path_end(words, at);
                    let mut path: Path = words[first..=at].iter().step_by(2).cloned().collect();
                    let next = [1, 2].map(|ahead| words.get(at + ahead).map(String::as_str));
                    if next[0] == Some("!") && next[1] != Some("=") {
                        path.last_mut().expect("a first name").push('!');
                    }
                    module.used.push(path);
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Where `path`, written in `scope`, leads to; none outside of the crate.
    fn find(&self, scope: &[String], path: &[String]) -> Option<(Path, Option<&str>)> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.within(&[], rest),
            "self" => self.within(scope, rest),
            "super" => match rest.first() {
                Some(next) if next == "super" => self.find(&scope[..scope.len() - 1], rest),
                _ => self.within(&scope[..scope.len() - 1], rest),
            },
            name => {
                let module = self.0.get(scope)?;
                let known = self.0.contains_key(&[scope, &path[..1]].concat())
                    || module.imports.get(name).is_some_and(|(path, _)| path[0] != name);
                if known { self.within(scope, path) } else { None }
            }
        }
    }

    /// The module `scope` or, of what is in it, the module at `path` or the file that defines the
    /// item there.
    fn within(&self, scope: &[String], path: &[String]) -> Option<(Path, Option<&str>)> {
        let module = self.0.get(scope)?;
        let Some((name, rest)) = path.split_first() else { return Some((scope.to_vec(), None)) };
        let child = [scope, &path[..1]].concat();
        let is_module = self.0.contains_key(&child);
        match module.imports.get(name) {
            // Of a module and an item of one name, the item is not followed by anything.
            Some((path, _)) if rest.is_empty() || !is_module => match self.find(scope, path)? {
                (module, None) => self.within(&module, rest),
                item => Some(item),
            },
            _ if is_module => self.within(&child, rest),
            _ => Some((scope.to_vec(), Some(&module.file))),
        }
    }

    /// The room by which `path`, written in `scope`, is reached.
    fn room(&self, scope: &[String], path: &[String]) -> Option<String> {
        match path[0].as_str() {
            "crate" => path.get(1).cloned(),
            "super" | "self" => {
                let up = path.iter().take_while(|word| *word == "super").count();
                let kept = scope.len().checked_sub(up)?;
                scope[..kept].iter().chain(path[up..].iter().filter(|word| *word != "self")).next().cloned()
            }
            name => match self.0.get(scope)?.imports.get(name) {
                Some((path, _)) if path[0] != name => self.room(scope, path),
                _ => scope.first().cloned(),
            },
        }
    }
}

/// All that every file names.
pub fn named(sources: &Sources) -> Vec<Named> {
    let modules = Modules::of(sources);
    let mut named = Vec::new();
    for (scope, module) in modules.0.iter().filter(|(scope, _)| !scope.is_empty()) {
        let mut add = |path: &Path, is_used: bool| {
            let found = modules.find(scope, path);
            // A module is used where something of it is.
            let file = found.and_then(|(_, file)| file).filter(|file| is_used && *file != module.file);
            let room = modules.room(scope, path);
            let of_ours = room.zip(file.map(str::to_string));
            named.push(Named { from: module.file.clone(), path: path.join("::"), of_ours });
        };
        for (path, _) in module.imports.values().filter(|(_, public)| *public) {
            let found = modules.find(scope, path);
            let of_child =
                found.is_some_and(|(owner, _)| owner.len() > scope.len() && owner.starts_with(scope));
            add(path, !of_child);
        }
        module.used.iter().for_each(|path| add(path, true));
    }
    named
}

/// Whether one of two files is the module in which the other lies.
fn is_within(a: &str, b: &str) -> bool {
    let stem = |file: &str| file.trim_end_matches(".rs").trim_end_matches("/mod").to_string() + "/";
    let (a, b) = (stem(a), stem(b));
    a.starts_with(&b) || b.starts_with(&a)
}

/// The shortest circles of files, each beginning and ending with the same file.
pub fn circles(named: &[Named]) -> Vec<Vec<&str>> {
    let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for Named { from, of_ours, .. } in named {
        let others = of_ours.iter().map(|(_, file)| file.as_str()).filter(|file| !is_within(from, file));
        arrows.entry(from).or_default().extend(others);
    }
    let (mut circles, mut told) = (Vec::new(), BTreeSet::<&str>::new());
    for &start in arrows.keys() {
        // All ways from here, the shorter ones first.
        let (mut ways, mut seen, mut at) = (vec![vec![start]], BTreeSet::new(), 0);
        while at < ways.len() && !told.contains(start) {
            let way = ways[at].clone();
            for &next in arrows.get(way[way.len() - 1]).into_iter().flatten() {
                if next == start && !told.contains(start) {
                    told.extend(&way);
                    circles.push([&way[..], &[start]].concat());
                } else if seen.insert(next) {
                    ways.push([&way[..], &[next]].concat());
                }
            }
            at += 1;
        }
    }
    circles
}
