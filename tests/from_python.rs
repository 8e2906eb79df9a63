//! The page for Python runs as it stands: its commands by this program, its blocks of Python by this
//! machine's, as far as that has what they import.

use crate::support::{picture, root, said, within};
use std::path::Path;
use std::process::Command;

/// What stands in the fences of `page` that are called `language`.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let begun = format!("```{language}\n");
    let fences = page.split(&begun).skip(1);
    fences.map(|rest| rest.split("```").next().unwrap_or_default()).collect()
}

/// The packages that a block of Python imports.
fn imported(block: &str) -> Vec<&str> {
    let named = block.lines().filter_map(|line| {
        let line = line.strip_prefix("import ").or_else(|| line.strip_prefix("from "))?;
        line.split([' ', '.']).next()
    });
    named.collect()
}

/// The first package of a block that `python` does not have.
fn lacking<'a>(python: &str, block: &'a str) -> Option<&'a str> {
    let has = |package: &str| {
        let asked = Command::new(python).args(["-c", &format!("import {package}")]).output();
        asked.is_ok_and(|asked| asked.status.success())
    };
    imported(block).into_iter().find(|package| !has(package))
}

/// Two classes of pictures of one colour each, 24 to train and 8 to judge.
fn photos(folder: &Path) {
    for (split, count) in [("train", 24), ("test", 8)] {
        for number in 0..count {
            let class = if number % 2 == 0 { "even" } else { "odd" };
            picture(&folder.join(format!("photos/{split}/{class}/{number}.png")), 7 * number);
        }
    }
}

#[test]
fn the_page_for_python_runs_as_it_stands() {
    let page = std::fs::read_to_string(root().join("paper-notes/guide/from-python.md")).unwrap();
    let python = blocks(&page, "python");
    let commands: Vec<&str> = blocks(&page, "console").into_iter().flat_map(str::lines).collect();
    assert!(python.len() >= 5 && commands.len() >= 4, "{python:?} {commands:?}");
    let folder = tempfile::tempdir().unwrap();
    photos(folder.path());
    // The run that the page begins with is another page's; a small one stands for it.
    let small = "sim run simsiam --scale smoke --data folder:photos --seeds 100..102 --set schedule.batch=8";
    for command in [small].into_iter().chain(commands) {
        let words: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(words[0], "sim", "{command}");
        // A batch of the page's own images would be larger than these.
        let batch = ["--set", "schedule.batch=8"];
        let more: &[&str] = if words[1] == "run" { &batch } else { &[] };
        said(folder.path(), &[&words[1..], more].concat());
    }
    let name = std::env::var("SIM_PYTHON").unwrap_or_else(|_| "python3".into());
    let known = python.iter().take_while(|block| lacking(&name, block).is_none()).count();
    if let Some(package) = python.get(known).and_then(|block| lacking(&name, block)) {
        println!("skipped from block {known} on: {name} has no {package}");
    }
    if known == 0 {
        return;
    }
    let program = python[..known].join("\n");
    let ran = within(300, Command::new(&name).args(["-c", &program]).current_dir(folder.path()));
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(printed.contains("val/knn_top1") && printed.contains("seed-101"), "{printed}");
}

#[test]
fn blocks_are_found_with_what_they_import() {
    let page =
        "a\n```python\nimport numpy as np\nfrom sklearn.svm import SVC\n```\n```text\nimport no\n```\n";
    let found = blocks(page, "python");
    assert_eq!(found.len(), 1);
    assert_eq!(imported(found[0]), ["numpy", "sklearn"]);
}
