//! `sim theory`: the alternation in closed form, for a linear encoder of Gaussian images.

use super::output::Output;
use super::table::table;
use crate::error::{Error, Result};
use crate::record::make_folder;
use crate::report::{Figure, Panel, Point, Style};
use crate::rng::{Purpose, stream};
use crate::theory::{Direction, Rule, State, World};
use clap::{Arg, ArgMatches, Command, value_parser};
use ndarray::{Array1, Array2};
use rand_distr::{Distribution, StandardNormal};
use serde_json::json;
use std::path::PathBuf;

/// Outputs of the simulated encoder, and random starts.
const OUTPUTS: usize = 3;
const STARTS: u64 = 3;
/// Points of a curve, at most.
const POINTS: u64 = 60;
/// Iterations at most: seconds.
const MOST_ITERATIONS: u64 = 100_000;
/// Gradient steps of a figure at most, for each rule and start: seconds again.
const MOST_STEPS: u64 = 1_000_000;
/// Directions at most.
const MOST_DIRECTIONS: usize = 64;

/// The command.
pub fn command() -> Command {
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("NUMBER")
            .value_parser(value_parser!(f64))
            .default_value(default)
            .help(help)
    };
    let list = |name: &'static str, default: &'static str, help: &'static str| {
        let arg = Arg::new(name)
            .long(name)
            .value_name("LIST")
            .value_delimiter(',')
            .value_parser(value_parser!(f64));
        arg.default_value(default).help(help)
    };
    Command::new("theory")
        .about("Iterate the alternation in closed form: a linear encoder of Gaussian images")
        .arg(list("signal", "2,1,0.7,0.3,0.05", "Variance λ of the images along each direction"))
        .arg(list("noise", "0.1,0.5,0.7,0.9,0.4", "Variance σ of the augmentations along each"))
        .arg(
            Arg::new("k")
                .long("k")
                .value_name("STEPS")
                .value_parser(value_parser!(u64).range(1..=1_000_000))
                .default_value("10")
                .help("Gradient steps per update of η"),
        )
        .arg(number("m", "0.8", "Momentum of the memory bank"))
        .arg(number("rate", "0.05", "Learning rate of W, and of η in joint descent"))
        .arg(number("predictor-rate", "0.2", "Learning rate of a learned predictor"))
        .arg(number("decay", "0.001", "Weight decay of the rules with a predictor"))
        .arg(
            Arg::new("iterations")
                .long("iterations")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..=MOST_ITERATIONS))
                .default_value("300")
                .help("Iterations of the outer loop in the figure"),
        )
        .arg(
            Arg::new("out")
                .long("out")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Also draw linear-em.{svg,png,csv} into this folder"),
        )
        .arg(super::json_flag())
        .after_help("Derivations: paper-notes/theory-linear.md.")
}

/// What was asked for.
struct Asked {
    directions: Vec<Direction>,
    rules: Vec<(&'static str, String, Rule)>,
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
    let (m, k) = (number("m"), matches.get_one::<u64>("k").map_or(1, |k| *k as usize));
    let predictor_rate = number("predictor-rate");
    let iterations = matches.get_one::<u64>("iterations").copied().unwrap_or(1);
    if matches.contains_id("out") && iterations.saturating_mul(k as u64) > MOST_STEPS {
        return wrong(format!(
            "--iterations {iterations} of --k {k} are more than {MOST_STEPS} steps for each curve"
        ));
    }
    let rules = vec![
        ("exact", "exact half-steps".to_string(), Rule::Exact),
        ("steps", format!("k={k} steps"), Rule::Steps { k, rate, decay: 0.0 }),
        ("bank", format!("bank m={m}, k={k}"), Rule::Memory { m, k, rate, decay: 0.0 }),
        ("joint", "joint descent".to_string(), Rule::Joint { rate, target_rate: rate }),
        ("best-h", "best linear h".to_string(), Rule::BestPredictor { rate, decay }),
        ("learned-h", "learned linear h".to_string(), Rule::LearnedPredictor { rate, predictor_rate, decay }),
    ];
    let directions =
        signal.into_iter().zip(noise).map(|(signal, noise)| Direction { signal, noise }).collect();
    Ok(Asked { directions, rules, decay, iterations })
}

/// Runs it.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let asked = asked(matches)?;
    let json = matches.get_flag("json");
    let mut rows = vec![
        std::iter::once("factor per iteration, λ/(λ+σ) =".to_string())
            .chain(asked.directions.iter().map(|direction| format!("{:.3}", direction.gain())))
            .collect::<Vec<_>>(),
    ];
    for (name, title, rule) in &asked.rules {
        let rates: Vec<Option<f64>> =
            asked.directions.iter().map(|direction| direction.rate(*rule)).collect();
        let rest: Vec<Option<f64>> =
            asked.directions.iter().map(|direction| direction.resting_predictor(asked.decay)).collect();
        let learned = matches!(rule, Rule::LearnedPredictor { .. });
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
        for line in table(&rows) {
            output.line(&line)?;
        }
        output.line("\nBelow 1 a direction collapses. The best linear h leaves it to weight decay alone: 1 − rate · decay.")?;
    }
    if let Some(folder) = matches.get_one::<PathBuf>("out") {
        make_folder(folder)?;
        for path in figure(&asked)?.save(&folder.join("linear-em"))? {
            if !json {
                output.line(&path.display().to_string())?;
            }
        }
    }
    Ok(0)
}

/// Size of W without normalisation, rank of the outputs with it, against the iteration.
fn figure(asked: &Asked) -> Result<Figure> {
    let diagonal = |values: Vec<f64>| Array2::from_diag(&Array1::from(values));
    let signal = diagonal(asked.directions.iter().map(|direction| direction.signal).collect());
    let noise = diagonal(asked.directions.iter().map(|direction| direction.noise).collect());
    let world = World::new(signal, &noise)?;
    let every = asked.iterations.div_ceil(POINTS);
    let mut points = Vec::new();
    for (name, _, rule) in &asked.rules {
        for seed in 0..STARTS {
            let mut rng = stream(seed, Purpose::Init, 0, 0);
            let shape = (OUTPUTS, asked.directions.len());
            let mut start: Array2<f64> =
                Array2::from_shape_simple_fn(shape, || StandardNormal.sample(&mut rng));
            world.normalise(&mut start);
            let size = |w: &Array2<f64>| (w * w).sum().sqrt();
            let mut free = State::new(start.clone(), Array2::eye(OUTPUTS));
            let mut kept = free.clone();
            for iteration in 0..=asked.iterations {
                if iteration % every == 0 {
                    let measured = [
                        ("size", size(&free.encoder) / size(&start)),
                        ("rank", world.effective_rank(&kept.encoder)),
                    ];
                    points.extend(measured.map(|(panel, y)| Point {
                        panel: panel.into(),
                        arm: (*name).into(),
                        seed,
                        x: iteration as f64,
                        y,
                    }));
                }
                world.step(*rule, &mut free);
                world.step(*rule, &mut kept);
                world.normalise(&mut kept.encoder);
            }
        }
    }
    let panel = |name: &str, y: &str| Panel::new(name, "iteration of the outer loop", y, Style::Curves);
    Ok(Figure {
        title: "The alternation in closed form: a linear encoder of Gaussian images".into(),
        caption: format!(
            "{}   ·   seeds: random starts   ·   sim {}",
            super::as_given::as_given(),
            env!("CARGO_PKG_VERSION")
        ),
        arms: asked.rules.iter().map(|(name, title, _)| ((*name).to_string(), title.clone())).collect(),
        panels: vec![
            panel("size", "‖W‖ / ‖W‖ at the start"),
            panel("rank", "effective rank, outputs normalised"),
        ],
        points,
    })
}
