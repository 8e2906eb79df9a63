//! `sim list`: the studies, the methods and the scales.

use super::output::Output;
use crate::error::Result;
use crate::study::{Base, Scale, Study, Suite, embedded};
use clap::{ArgMatches, Command};
use serde_json::json;

/// `sim list` and its flags.
pub fn command() -> Command {
    Command::new("list").about("List the studies, the methods and the scales").arg(super::flags::json_flag())
}

/// Runs `sim list` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, studies: &[Study], output: &Output) -> Result<i32> {
    let scales: Vec<(&str, Scale)> =
        embedded::names("scale").map(|name| Ok((name, Scale::find(name)?))).collect::<Result<_>>()?;
    let bases: Vec<(&str, Base)> =
        embedded::names("base").map(|name| Ok((name, Base::find(name)?))).collect::<Result<_>>()?;
    if matches.get_flag("json") {
        for study in studies {
            let arms: Vec<&str> = study.arms.iter().map(|arm| arm.name.as_str()).collect();
            let line = json!({"study": study.name, "title": study.head.title,
                "question": study.head.question, "arms": arms});
            output.line(&line.to_string())?;
        }
        for (name, base) in bases {
            output.line(&json!({"base": name, "about": base.about, "differs_from": base.of}).to_string())?;
        }
        for (name, scale) in scales {
            output.line(&json!({"scale": name, "about": scale.about, "seeds": scale.seeds}).to_string())?;
        }
        return Ok(0);
    }
    for (suite, name, about) in Suite::ALL {
        let first = if suite == Suite::Paper { "" } else { "\n" };
        output.prose(&format!("{first}{about} (sim run {name}; sim run STUDY, sim show STUDY)"), 0)?;
        let own = studies.iter().filter(|study| study.head.suite == suite);
        for study in own {
            output.prose(&format!("  {}  {}", pad(&study.name), study.head.question), ABOUT)?;
        }
    }
    output.line("\nMethods (base = \"METHOD\" in a study file)")?;
    for (name, base) in bases {
        output.prose(&format!("  {}  {}", pad(name), base.about.unwrap_or_default()), ABOUT)?;
    }
    output.line("\nScales (--scale SCALE)")?;
    for (name, scale) in scales {
        output.prose(&format!("  {}  {}", pad(name), scale.about.unwrap_or_default()), ABOUT)?;
    }
    Ok(0)
}

/// As wide as the longest name of a study in the folder.
const NAME: usize = 20;
/// Characters before what is said of a name.
const ABOUT: usize = NAME + 4;

fn pad(name: &str) -> String {
    format!("{name:<NAME$}")
}
