//! `sim data fetch`: published data sets.

use super::flags::{json_flag, option, path_option};
use super::output::Output;
use super::signals;
use crate::error::{Error, Result};
use crate::fetch::{Options, Progress, SETS, Set, fetch};
use clap::{Arg, ArgMatches, Command};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::{ErrorKind, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Where there is no bar, a line is written so often while the archive comes.
const LINES: u64 = 10;

/// How a disk says that it takes no more.
const FULL: [ErrorKind; 3] = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge];

/// `sim data fetch` and its flags.
pub fn command() -> Command {
    Command::new("fetch")
        .about("Fetch a published data set: download, compare with its checksum, unpack")
        .arg(Arg::new("set").value_name("SET").required(true).value_parser(SETS).help("The data set"))
        .arg(path_option("to", "DIR", "The folder in which its folder is made").default_value("data"))
        .arg(option("from", "URL", "Where the archive is, in place of its published address"))
        .arg(json_flag())
        .after_help(
            "What came of a download that ended early is kept, and the same command goes on. HTTPS_PROXY, HTTP_PROXY and NO_PROXY \
             are heeded. An archive that lies in DIR already is taken from there.",
        )
}

/// Runs `sim data fetch` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let (Some(name), Some(to)) = (matches.get_one::<String>("set"), matches.get_one::<PathBuf>("to")) else {
        return Ok(2);
    };
    let set = Set::find(name).ok_or_else(|| Error::Usage(format!("no data set is called {name}")))?;
    let stop = Arc::new(AtomicBool::new(false));
    signals::listen(&stop)?;
    let options = Options { from: matches.get_one::<String>("from").cloned(), ..Options::default() };
    let mut teller = Teller::of(&set);
    let fetched = fetch(&set, to, &options, &mut |progress| teller.tell(progress), &stop);
    teller.clear();
    match &fetched {
        Err(Error::Stopped) => super::note("stopped; what came is kept, and the same command goes on"),
        Err(Error::Disk { source, .. }) if FULL.contains(&source.kind()) => {
            super::note("what came is kept, and the same command goes on once there is space");
        }
        _ => {}
    }
    let (folder, is_new) = fetched?;
    let data = format!("{}:{}", set.source, folder.display());
    if matches.get_flag("json") {
        let line =
            json!({"set": set.name, "folder": folder.display().to_string(), "data": data, "fetched": is_new});
        output.line(&line.to_string())?;
        return Ok(0);
    }
    let was_there = if is_new { "" } else { " was there already" };
    output.line(&format!("{}{was_there}: --data {data} reads it", folder.display()))?;
    Ok(0)
}

/// Who tells a person on stderr how far it is: by a bar on a terminal, by lines elsewhere.
struct Teller<'a> {
    set: &'a Set,
    bar: Option<ProgressBar>,
    /// Parts of the archive that were told.
    told: u64,
}

impl<'a> Teller<'a> {
    fn of(set: &'a Set) -> Self {
        // As wide as the longest name and numbers of data sets: less than sixty characters.
        let style = ProgressStyle::with_template("{prefix} {bar:10} {bytes}/{total_bytes}  {eta} left");
        let bar = style.ok().filter(|_| std::io::stderr().is_terminal()).map(|style| {
            let bar = ProgressBar::new(set.bytes).with_prefix(set.name.clone());
            bar.set_style(style.progress_chars("━╾ "));
            bar
        });
        Self { set, bar, told: 0 }
    }

    fn tell(&mut self, progress: Progress) {
        let name = &self.set.name;
        match progress {
            Progress::From { url, there } => {
                let rest = match there {
                    0 => String::new(),
                    there => format!(", of which {} are there", megabytes(there)),
                };
                self.say(&format!("{name}: {} from {url}{rest}", megabytes(self.set.bytes)));
                self.told = LINES * there / self.set.bytes.max(1);
                if let Some(bar) = &self.bar {
                    bar.set_position(there);
                    // What was there says nothing of how long the rest takes.
                    bar.reset_eta();
                }
            }
            Progress::Bytes(there) => {
                let part = LINES * there / self.set.bytes.max(1);
                match &self.bar {
                    Some(bar) => bar.set_position(there),
                    None if part > self.told => {
                        self.told = part;
                        self.say(&format!("{name}: {} of {}", megabytes(there), megabytes(self.set.bytes)));
                    }
                    None => {}
                }
            }
            Progress::Again(why) => self.say(&format!("{name}: {why}; trying again")),
            Progress::Checking => {
                self.say(&format!("{name}: comparing {} with its checksum", self.set.archive))
            }
            Progress::Unpacking => self.say(&format!("{name}: unpacking")),
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| super::note(text)),
            None => super::note(text),
        }
    }

    fn clear(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// "170.1 MB".
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
