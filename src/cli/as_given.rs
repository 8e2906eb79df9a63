//! The command as it was given, for captions and provenance.

/// The command as it was given, for the figures' captions. What a cluster was asked by `sim submit`
/// is what `sim run` makes here.
pub fn as_given() -> String {
    shown(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()))
}

/// A command of these words without the flags that say nothing about results: where results went,
/// and how they were told. A path is cut down to its last part.
fn shown(words: impl Iterator<Item = String>) -> String {
    let short = |word: &str| {
        let word = word.trim_end_matches('/');
        let (Some((before, _)), Some((_, last))) = (word.split_once('/'), word.rsplit_once('/')) else {
            return word.to_string();
        };
        // What stands before a path in the same word: `--data=folder:`, `data.source=folder:`,
        // `--weights=`.
        let kind = before.rfind([':', '=']).map_or("", |end| &before[..=end]);
        format!("{kind}{last}")
    };
    let mut shown = vec!["sim".to_string()];
    let mut hidden = false;
    for word in words {
        let name = word.split('=').next().unwrap_or_default();
        let takes_value =
            ["--out", "--jobs", "--threads", "--ranks", "--slurm", "--max-parallel", "--max-restarts"]
                .contains(&name);
        let silent =
            takes_value || ["--fresh", "--quiet", "-q", "--json", "--gather", "--dry-run"].contains(&name);
        let told = if shown.len() == 1 && word == "submit" { "run" } else { &word };
        if !hidden && !silent {
            shown.push(short(told));
        }
        hidden = !hidden && takes_value && name == word;
    }
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_command_is_shown_without_paths_and_without_where_its_results_went() {
        for (given, expected) in [
            ("run simsiam --out /tmp/a/b --seeds 2", "sim run simsiam --seeds 2"),
            ("run simsiam --out=/tmp/a/b --seeds 2", "sim run simsiam --seeds 2"),
            ("run ./dir/mine.toml -q --fresh", "sim run mine.toml"),
            ("run simsiam --json --jobs 2 --threads=1 --seeds 2", "sim run simsiam --seeds 2"),
            ("run simsiam --data folder:/home/me/cats/ --quiet", "sim run simsiam --data folder:cats"),
            ("run simsiam --data=folder:/home/me/cats", "sim run simsiam --data=folder:cats"),
            ("run simsiam --set data.source=cifar10:/data/c", "sim run simsiam --set data.source=cifar10:c"),
            (
                "submit simsiam --slurm time=1 --max-parallel=3 --seeds 2 --gather",
                "sim run simsiam --seeds 2",
            ),
            ("map runs/multistep/k=10/seed-100", "sim map seed-100"),
            ("sweep membank --over m=0..1:5 --out --out", "sim sweep membank --over m=0..1:5"),
        ] {
            assert_eq!(shown(given.split(' ').map(String::from)), expected);
        }
    }
}
