//! `sim theory`: the alternation in closed form, for a linear encoder of Gaussian images.

use super::basins::{self, MOST_TRIALS};
use super::flags::{json_flag, option, path_option, switch};
use super::growth;
use super::output::Output;
use crate::error::{Error, Result};
use crate::figures::{Rules, linear_em};
use crate::record::make_folder;
use crate::theory::{ClosedForm, Course, Direction, Optimum, Prediction, Rates, Targets};
use clap::{ArgMatches, Command, value_parser};
use serde_json::json;
use std::path::PathBuf;

/// Iterations at most: seconds.
const MOST_ITERATIONS: u64 = 100_000;
/// Gradient steps of a figure at most, for each rule and start: seconds again.
const MOST_STEPS: u64 = 1_000_000;
/// Directions at most.
const MOST_DIRECTIONS: usize = 64;
/// Outputs of the encoder of the figure.
const OUTPUTS: usize = 3;

/// `sim theory` and its flags.
pub fn command() -> Command {
    let number = |name, default: &'static str, help| {
        option(name, "NUMBER", help).value_parser(value_parser!(f64)).default_value(default)
    };
    let list = |name, default: &'static str, help| {
        let list = option(name, "LIST", help).value_delimiter(',').value_parser(value_parser!(f64));
        list.default_value(default)
    };
    let count = |name, value, most: u64, default: &'static str, help| {
        option(name, value, help).value_parser(value_parser!(u64).range(1..=most)).default_value(default)
    };
    Command::new("theory")
        .about("Iterate the alternation in closed form: a linear encoder of Gaussian images")
        .arg(list("signal", "2,1,0.7,0.3,0.05", "Variance λ of the images along each direction"))
        .arg(list("noise", "0.1,0.5,0.7,0.9,0.4", "Variance σ of the augmentations along each"))
        .arg(count("k", "STEPS", 1_000_000, "10", "Gradient steps per update of η"))
        .arg(number("m", "0.8", "Momentum of the memory bank"))
        .arg(number("rate", "0.05", "Learning rate of W, and of η in joint descent"))
        .arg(number("predictor-rate", "0.2", "Learning rate of a learned predictor"))
        .arg(number("decay", "0.001", "Weight decay of the rules with a predictor"))
        .arg(count("iterations", "N", MOST_ITERATIONS, "300", "Iterations of the outer loop in the figure"))
        .arg(path_option("out", "DIR", "Also draw linear-em, basins or growth .{svg,png,csv} into this folder"))
        .arg(switch("basins", "Instead: where the flow of one direction ends, from random starts"))
        .arg(
            switch("growth", "Instead: how fast eigenvalues of E[z zᵀ] grow where h is set from them")
                .conflicts_with("basins"),
        )
        .arg(count("trials", "N", MOST_TRIALS, "1000", "Random directions and starts of --basins"))
        .arg(json_flag())
        .after_help(
            "Derivations: paper-notes/theory-linear.md; of --basins, paper-notes/no-potential.md; of --growth,\n\
             paper-notes/implicit-variance.md.",
        )
}

/// What was asked for.
struct Asked {
    world: ClosedForm,
    rules: Rules,
    rates: Rates,
    decay: f64,
    iterations: u64,
}

fn asked(matches: &ArgMatches) -> Result<Asked> {
    let list = |name: &str| -> Vec<f64> { matches.get_many(name).into_iter().flatten().copied().collect() };
    let number = |name: &str| matches.get_one::<f64>(name).copied().unwrap_or_default();
    let wrong = |what: String| Err(Error::Usage(what));
    let (signal, noise) = (list("signal"), list("noise"));
    if signal.len() != noise.len() || signal.len() > MOST_DIRECTIONS {
        return wrong(format!(
            "--signal has {} directions and --noise {}; both need the same number, at most {MOST_DIRECTIONS}",
            signal.len(),
            noise.len()
        ));
    }
    for (name, values) in [("signal", &signal), ("noise", &noise)] {
        if let Some(value) = values.iter().find(|value| !(value.is_finite() && **value >= 0.0)) {
            return wrong(format!("--{name} {value}: a variance is at least 0"));
        }
    }
    let largest = signal.iter().zip(&noise).map(|(s, n)| s + n).fold(0.0, f64::max);
    if signal.iter().zip(&noise).any(|(s, n)| s + n <= 0.0) {
        return wrong("a direction without images and without augmentations has no views".into());
    }
    for (name, low, high) in [("m", 0.0, 1.0), ("decay", 0.0, 1.0), ("predictor-rate", 0.0, 10.0)] {
        if !(low..=high).contains(&number(name)) {
            return wrong(format!("--{name} {} is not between {low} and {high}", number(name)));
        }
    }
    let (rate, decay) = (number("rate"), number("decay"));
    // Beyond it a gradient step overshoots along the steepest direction and nothing converges.
    let limit = 1.0 / largest;
    if !(rate > 0.0 && rate < limit) {
        return wrong(format!(
            "--rate {rate} must be above 0 and below {limit:.3}, 1 over the largest λ + σ"
        ));
    }
    let (m, k) = (number("m"), matches.get_one::<u64>("k").copied().unwrap_or(1));
    let rates = Rates { encoder: rate, predictor: number("predictor-rate") };
    let iterations = matches.get_one::<u64>("iterations").copied().unwrap_or(1);
    if matches.contains_id("out") && iterations.saturating_mul(k) > MOST_STEPS {
        return wrong(format!(
            "--iterations {iterations} of --k {k} are more than {MOST_STEPS} steps for each curve"
        ));
    }
    let (steps_per_epoch, normalised, optimum) = (1, false, Optimum::None);
    let world = ClosedForm { signal, noise, outputs: OUTPUTS, steps_per_epoch, normalised, optimum };
    Ok(Asked { world, rules: rules(m, k, decay), rates, decay, iterations })
}

/// The rules that are compared; all images belong to one batch.
fn rules(m: f64, k: u64, decay: f64) -> Rules {
    let updated = |m: f64, k: u64| Targets::Updated { m, k, batches: 1 };
    let free = |targets: Targets, exact: bool| {
        let prediction = Prediction::Absent;
        Course { targets, prediction, exact, normalised: false, decay: 0.0, predictor_decay: 0.0 }
    };
    let predicted = |prediction: Prediction| Course {
        prediction,
        decay,
        predictor_decay: decay,
        ..free(updated(0.0, 1), false)
    };
    vec![
        ("exact", "exact half-steps".to_string(), free(updated(0.0, 1), true)),
        ("steps", format!("k={k} steps"), free(updated(0.0, k), false)),
        ("bank", format!("bank m={m}, k={k}"), free(updated(m, k), false)),
        ("joint", "joint descent".to_string(), free(Targets::Joint, false)),
        ("best-h", "best linear h".to_string(), predicted(Prediction::Best { every: 1 })),
        ("learned-h", "learned linear h".to_string(), predicted(Prediction::Learned { symmetric: false })),
    ]
}

/// Runs `sim theory` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    if matches.get_flag("basins") {
        return basins::run(matches, output);
    }
    let asked = asked(matches)?;
    if matches.get_flag("growth") {
        let folder = matches.get_one::<PathBuf>("out");
        return growth::run(matches, &asked.world, folder.map(PathBuf::as_path), output);
    }
    let directions = Direction::of(&asked.world);
    let json = matches.get_flag("json");
    let mut rows = vec![
        std::iter::once("factor per iteration, λ/(λ+σ) =".to_string())
            .chain(directions.iter().map(|direction| format!("{:.3}", direction.gain())))
            .collect::<Vec<_>>(),
    ];
    for (name, title, course) in &asked.rules {
        let rates: Vec<Option<f64>> =
            directions.iter().map(|direction| direction.rate(course, asked.rates)).collect();
        let rest: Vec<Option<f64>> =
            directions.iter().map(|direction| direction.resting_predictor(asked.decay)).collect();
        let learned = matches!(course.prediction, Prediction::Learned { .. });
        if json {
            let mut line = json!({"rule": name, "factors": rates});
            if learned {
                line["resting_predictor"] = json!(rest);
            }
            output.line(&line.to_string())?;
            continue;
        }
        let cells = rates.iter().zip(&rest).map(|(rate, rest)| match (rate, rest) {
            (Some(rate), _) => format!("{rate:.5}"),
            (None, Some(p)) => format!("rests, p={p:.3}"),
            (None, None) => "collapses".to_string(),
        });
        rows.push(std::iter::once(title.clone()).chain(cells).collect());
    }
    if !json {
        output.table(&rows)?;
        let below = "\nBelow 1 a direction collapses. The best linear h leaves it to weight decay alone: 1 − rate · decay.";
        output.prose(below, 0)?;
    }
    if let Some(folder) = matches.get_one::<PathBuf>("out") {
        make_folder(folder)?;
        let Asked { world, rules, rates, iterations, .. } = &asked;
        let figure = linear_em(world, rules, *rates, *iterations, &super::as_given::as_given());
        for path in figure.save(&folder.join("linear-em"))? {
            if !json {
                output.line(&path.display().to_string())?;
            }
        }
    }
    Ok(0)
}
