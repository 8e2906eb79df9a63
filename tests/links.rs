//! The pages for readers: every relative link leads somewhere, every anchor to a heading, and the
//! book's table of contents names every page.

use crate::support::root;
use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

/// Folders whose pages are checked, and the ending of their names.
const FOLDERS: [(&str, &str); 4] =
    [("src", "README.md"), ("tests", "README.md"), ("plots", "README.md"), ("paper-notes", ".md")];

fn collect(folder: &Path, ending: &str, pages: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, ending, pages),
            false if path.to_string_lossy().ends_with(ending) => pages.push(path),
            false => {}
        }
    }
}

/// Every page.
fn pages() -> Vec<PathBuf> {
    let mut pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)).to_vec();
    for (folder, ending) in FOLDERS {
        collect(&root().join(folder), ending, &mut pages);
    }
    pages.sort();
    pages
}

/// The lines of a page without its blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// A line without what stands in backquotes.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// Where the links and images of a page lead.
fn targets(text: &str) -> Vec<String> {
    let targets_of = |line: &str| {
        let line = without_code(line);
        let behind = line.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or(rest).to_string());
        behind.collect::<Vec<_>>()
    };
    prose(text).flat_map(targets_of).collect()
}

/// The anchors of a page: of its headings, as GitHub and mdBook make them, and those given by hand.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim();
        // Of a link, its words.
        let parts = title.split("](").enumerate();
        let words = parts.map(|(index, part)| match index {
            0 => part,
            _ => part.split_once(')').map_or("", |(_, behind)| behind),
        });
        let kept = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
        words.collect::<String>().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
    };
    let mut numbered = |anchor: String| {
        let before = seen.entry(anchor.clone()).or_default();
        *before += 1;
        if *before == 1 { anchor } else { format!("{anchor}-{}", *before - 1) }
    };
    let given = text.split("id=\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_string()));
    headings.map(|line| numbered(anchor(line))).chain(given).collect()
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
        plain
    })
}

/// The links of `text`, which stands in the file `page`, that lead nowhere.
fn dead(page: &Path, text: &str) -> Vec<String> {
    let mut dead = Vec::new();
    for target in targets(text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let file =
            if path.is_empty() { page.to_path_buf() } else { plain(&page.parent().unwrap().join(path)) };
        let inside = file.starts_with(root());
        let there = inside && (file == page || file.exists());
        // A folder shows its README.
        let shown = if file.is_dir() { file.join("README.md") } else { file.clone() };
        let held = || if file == page { text.to_string() } else { std::fs::read_to_string(&shown).unwrap() };
        if !there || !anchor.is_empty() && !anchors(&held()).contains(anchor) {
            dead.push(format!("{}: {target}", page.strip_prefix(root()).unwrap().display()));
        }
    }
    dead
}

#[test]
fn every_relative_link_leads_somewhere() {
    let pages = pages();
    assert!(pages.len() > 30, "{pages:?}");
    let dead: Vec<String> =
        pages.iter().flat_map(|page| dead(page, &std::fs::read_to_string(page).unwrap())).collect();
    assert_eq!(dead, Vec::<String>::new());
}

#[test]
fn the_table_of_contents_names_every_page_once() {
    let notes = root().join("paper-notes");
    let summary = notes.join("SUMMARY.md");
    let text = std::fs::read_to_string(&summary).unwrap();
    let mut named: Vec<PathBuf> = targets(&text).iter().map(|target| notes.join(target)).collect();
    named.sort();
    let mut there = Vec::new();
    collect(&notes, ".md", &mut there);
    there.retain(|page| *page != summary);
    there.sort();
    assert_eq!(named, there);
}

/// mdBook takes every link to a page for one to a page of the book, so that a page of the book
/// links to the folder of one that is none.
#[test]
fn pages_of_the_book_link_to_no_page_outside_of_it() {
    let notes = root().join("paper-notes");
    for page in pages().iter().filter(|page| page.starts_with(&notes)) {
        for target in targets(&std::fs::read_to_string(page).unwrap()) {
            let path = target.split('#').next().unwrap();
            let inside = plain(&page.parent().unwrap().join(path)).starts_with(&notes);
            let far = target.contains("://") || !path.ends_with(".md");
            assert!(far || inside, "{}: {target}", page.display());
        }
    }
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = root().join("paper-notes/x.md");
    let text = "# One *link*: [words](log.md) & `code`\n## Two\n## Two\n[a](log.md) [b](nowhere.md) `[c](code.md)`\n\
                ```\n# no heading [d](code.md)\n```\n![e](../plots/nothing.png) [f](#two-1) [g](#two-2)\n\
                [h](../README.md#tests) [i](log.md#no-such) [j](https://example.org/x) [k](#one-link-words--code)\n\
                [l](../src/eta/#adding-a-method) [m](../src/eta/#no-such)\n";
    let told = dead(&page, text);
    let expected = ["nowhere.md", "../plots/nothing.png", "#two-2", "log.md#no-such", "../src/eta/#no-such"];
    assert_eq!(told, expected.map(|target| format!("paper-notes/x.md: {target}")));
}

#[test]
fn readme_is_short_enough_to_be_read() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(text.lines().count() <= 150, "README.md has {} lines", text.lines().count());
}
