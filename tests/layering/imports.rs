//! Who imports whom: a small reader of Rust that knows modules, `use` trees and paths, and nothing else.
//!
//! An arrow goes from a file to the file that defines what it names, however many `pub use` lie between the two. A
//! module that declares its children and re-exports what they define (`mod child;`, `pub use child::X;`) uses nothing of
//! them, so that is no arrow; it is one where its own code uses them, and where a child uses what its parent's file defines.

use std::collections::{BTreeMap, BTreeSet};

/// Source files: path below src → text.
pub type Sources = BTreeMap<String, String>;
/// A module's or an item's path from the root of the crate.
type Path = Vec<String>;

/// What a file names.
pub struct Named {
    /// The file that names it.
    pub from: String,
    /// As it is written, the trees of `use` spelled out, a macro with its `!`: `std::fs::File`, `println!`.
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

/// The words of a program: names, `::` and single signs; comments, strings and lifetimes are left out.
pub fn words(text: &str) -> Vec<String> {
    let text: Vec<char> = text.chars().collect();
    let behind = |from: usize, end: &[char]| {
        let found = text[from.min(text.len())..].windows(end.len()).position(|window| window == end);
        found.map_or(text.len(), |found| from + found + end.len())
    };
    let name_end = |from: usize| {
        let length = text[from..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
        from + length
    };
    let (mut words, mut at) = (Vec::new(), 0);
    while at < text.len() {
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
                words.push("::".to_string());
                at + 2
            }
            [c, ..] if c.is_alphanumeric() || *c == '_' => {
                let end = name_end(at);
                let hashes = text[end..].iter().take_while(|c| **c == '#').count();
                let raw = matches!(text[at..end], ['r'] | ['b', 'r']);
                if raw && text.get(end + hashes) == Some(&'"') {
                    behind(end + hashes + 1, &[&['"'][..], &vec!['#'; hashes]].concat())
                } else {
                    words.push(text[at..end].iter().collect());
                    end
                }
            }
            [c, ..] => {
                if !c.is_whitespace() {
                    words.push(c.to_string());
                }
                at + 1
            }
            [] => at,
        };
    }
    words
}

/// The same without what is compiled for tests only.
pub fn program(text: &str) -> Vec<String> {
    let words = words(text);
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < words.len() {
        if words[at..].iter().take(7).ne(["#", "[", "cfg", "(", "test", ")", "]"]) {
            kept.push(words[at].clone());
            at += 1;
            continue;
        }
        // Its item ends with the first `;` or `}` outside of brackets.
        let mut depth = 0;
        at += 7;
        while at < words.len() && depth >= 0 {
            match words[at].as_str() {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && matches!(words[at - 1].as_str(), ";" | "}") {
                break;
            }
        }
    }
    kept
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
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
        let mut scopes = vec![(path, 0)];
        let (mut depth, mut at) = (0, 0);
        while at < words.len() {
            let (scope, _) = scopes.last().expect("a file is a module");
            let module = self.0.entry(scope.clone()).or_default();
            module.file = file.to_string();
            let word = words[at].as_str();
            let before = at.checked_sub(1).map_or("", |before| words[before].as_str());
            let next = words.get(at + 1).map_or("", String::as_str);
            match word {
                "use" => {
                    let mut found = Vec::new();
                    at = tree(words, at + 1, Path::new(), &mut found);
                    let public = matches!(before, "pub" | ")");
                    for (name, path) in found {
                        match name.as_str() {
                            "*" => module.used.push(path),
                            // Traits without a name.
                            "_" => module.used.push(path),
                            _ => drop(module.imports.insert(name, (path, public))),
                        }
                    }
                    continue;
                }
                "mod" if words.get(at + 2).is_some_and(|word| word == "{") => {
                    scopes.push(([&scope[..], &[next.to_string()]].concat(), depth));
                    at += 2;
                    continue;
                }
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if scopes.len() > 1 && scopes.last().is_some_and(|(_, outside)| *outside == depth) {
                        scopes.pop();
                    }
                }
                _ if is_name(word) && !matches!(before, "." | "::" | "mod") => {
                    let mut path = vec![word.to_string()];
                    while words.get(at + 1).is_some_and(|word| word == "::")
                        && words.get(at + 2).is_some_and(|word| is_name(word))
                    {
                        path.push(words[at + 2].clone());
                        at += 2;
                    }
                    if words[at + 1..].first().is_some_and(|word| word == "!")
                        && words.get(at + 2).is_some_and(|word| word != "=")
                    {
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

    /// The module `scope` or, of what is in it, the module at `path` or the file that defines the item there.
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
        for (path, public) in module.imports.values() {
            let found = modules.find(scope, path);
            let of_child = found.is_some_and(|(owner, _)| owner.len() > scope.len() && owner.starts_with(scope));
            add(path, !(*public && of_child));
        }
        module.used.iter().for_each(|path| add(path, true));
    }
    named
}

/// The circles of files, each beginning and ending with the same file.
pub fn circles(named: &[Named]) -> Vec<Vec<String>> {
    let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for Named { from, of_ours, .. } in named {
        arrows.entry(from).or_default().extend(of_ours.iter().map(|(_, file)| file.as_str()));
    }
    let mut circles = Vec::new();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for &start in arrows.keys() {
        // The shortest way back, breadth first.
        let mut ways = vec![vec![start]];
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut at = 0;
        while at < ways.len() && !told.contains(start) {
            let way = ways[at].clone();
            at += 1;
            for &next in arrows.get(way[way.len() - 1]).into_iter().flatten() {
                if next == start {
                    told.extend(&way);
                    circles.push(way.iter().chain([&start]).map(|file| (*file).to_string()).collect());
                    break;
                }
                if seen.insert(next) {
                    ways.push([&way[..], &[next]].concat());
                }
            }
        }
    }
    circles
}
