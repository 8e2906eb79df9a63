//! The closed form of the alternation: matrices against the scalar recursion, what it answers, and
//! its command.

pub(crate) mod oracle;

use ndarray::{Array1, Array2};
use oracle::{Rule, Scalars, State, World, step};
use rand::Rng;
use simsiam_em::rng::{Purpose, stream};
use simsiam_em::theory::Direction;

/// Images and noise of these variances, along common axes that are not the coordinates'.
struct Case {
    world: World,
    directions: Vec<Direction>,
    /// Columns are the common eigenvectors (n, n).
    axes: Array2<f64>,
}

fn numbers(rows: usize, columns: usize, draw: u64) -> Array2<f64> {
    let mut rng = stream(7, Purpose::Test, draw, 0);
    Array2::from_shape_simple_fn((rows, columns), || rng.random::<f64>() - 0.5)
}

/// Orthonormal columns, by Gram and Schmidt.
fn orthonormal(n: usize) -> Array2<f64> {
    let mut q = numbers(n, n, 1);
    for j in 0..n {
        for i in 0..j {
            let along = q.column(i).dot(&q.column(j));
            let other = q.column(i).to_owned();
            q.column_mut(j).scaled_add(-along, &other);
        }
        let length = q.column(j).dot(&q.column(j)).sqrt();
        q.column_mut(j).mapv_inplace(|v| v / length);
    }
    q
}

fn symmetric(axes: &Array2<f64>, values: impl Iterator<Item = f64>) -> Array2<f64> {
    let product = axes.dot(&Array2::from_diag(&values.collect::<Array1<f64>>())).dot(&axes.t());
    // To the last bit, whatever the products rounded.
    (&product + &product.t()) / 2.0
}

fn case() -> Case {
    let directions: Vec<Direction> = [(2.0, 0.1), (1.0, 0.5), (0.7, 0.7), (0.3, 0.9), (0.05, 0.4)]
        .map(|(signal, noise)| Direction { signal, noise })
        .into();
    let axes = orthonormal(directions.len());
    let signal = symmetric(&axes, directions.iter().map(|d| d.signal));
    let noise = symmetric(&axes, directions.iter().map(|d| d.noise));
    Case { world: World::new(signal, &noise), directions, axes }
}

const RULES: [Rule; 6] = [
    Rule::Exact,
    Rule::Steps { k: 10, rate: 0.05, decay: 1e-2 },
    Rule::Memory { m: 0.8, k: 3, rate: 0.05, decay: 1e-3 },
    Rule::Joint { rate: 0.05 },
    Rule::BestPredictor { rate: 0.05, decay: 1e-2 },
    Rule::LearnedPredictor { rate: 0.05, predictor_rate: 0.2, decay: 1e-2 },
];

/// What the library predicts for `rule`.
fn rate(direction: Direction, rule: Rule) -> Option<f64> {
    let (course, rates) = rule.course();
    direction.rate(&course, rates)
}

/// One output for each eigenvector: then predictors stay diagonal and every direction is a
/// recursion of its own.
#[test]
fn matrices_follow_the_scalar_recursion() {
    let case = case();
    for rule in RULES {
        let n = case.directions.len();
        let mut scalars: Vec<Scalars> = (0..n)
            .map(|i| Scalars { encoder: 0.5 + 0.1 * i as f64, target: 0.5 + 0.1 * i as f64, predictor: 0.6 })
            .collect();
        let start = Array2::from_diag(&scalars.iter().map(|s| s.encoder).collect::<Array1<f64>>())
            .dot(&case.axes.t());
        let mut state = State::new(start, Array2::eye(n) * 0.6);
        for iteration in 0..2000 {
            case.world.step(rule, &mut state);
            let (encoder, target) = (state.encoder.dot(&case.axes), state.target.dot(&case.axes));
            for (i, (s, direction)) in scalars.iter_mut().zip(&case.directions).enumerate() {
                *s = step(*direction, rule, *s);
                let differences = [
                    encoder[[i, i]] - s.encoder,
                    target[[i, i]] - s.target,
                    state.predictor[[i, i]] - s.predictor,
                ];
                // The predictor of an output that has vanished is not determined.
                let checked =
                    if matches!(rule, Rule::BestPredictor { .. }) && s.encoder < 1e-3 { 2 } else { 3 };
                for (what, difference) in ["w", "a", "p"].iter().zip(differences).take(checked) {
                    assert!(
                        difference.abs() < 1e-10,
                        "{rule:?}, iteration {iteration}, direction {i}: {what} off by {difference:e}"
                    );
                }
            }
        }
    }
}

/// Rules without predictor are linear in W: rows of any W follow the directions' rates.
#[test]
fn without_a_predictor_every_direction_collapses_at_its_rate() {
    let case = case();
    for rule in &RULES[..4] {
        let mut state = State::new(numbers(3, case.directions.len(), 2), Array2::eye(3));
        let coordinates = |state: &State| state.encoder.dot(&case.axes);
        for _ in 0..1000 {
            case.world.step(*rule, &mut state);
        }
        let before = coordinates(&state);
        case.world.step(*rule, &mut state);
        let after = coordinates(&state);
        for (i, direction) in case.directions.iter().enumerate() {
            let rate = rate(*direction, *rule).unwrap();
            assert!(rate < 1.0, "{rule:?}, direction {i}: {rate}");
            // What has fallen to the size of rounding errors of the rest has no rate of its own.
            if before[[0, i]].abs() > 1e-6 {
                let got = (after[[0, i]] / before[[0, i]]).abs();
                assert!((got - rate).abs() < 1e-8, "{rule:?}, direction {i}: {got}, predicted {rate}");
            }
        }
    }
}

/// The half-steps are minimisers, so neither can raise L; descent on both at once cannot either at
/// small rates.
#[test]
fn no_half_step_raises_the_objective() {
    let case = case();
    let mut state = State::new(numbers(3, case.directions.len(), 3), Array2::eye(3));
    let mut last = f64::INFINITY;
    for _ in 0..50 {
        let e_step = case.world.loss(&state.encoder, &state.encoder);
        assert!(e_step <= last * (1.0 + 1e-12), "E-step: {last} to {e_step}");
        case.world.step(Rule::Exact, &mut state);
        let m_step = case.world.loss(&state.encoder, &state.target);
        assert!(m_step <= e_step * (1.0 + 1e-12), "M-step: {e_step} to {m_step}");
        last = m_step;
    }
}

#[test]
fn old_targets_slow_the_collapse_and_do_not_stop_it() {
    let direction = Direction { signal: 0.7, noise: 0.7 };
    // With M-steps to the end, w = (λ/c) a: the rate is m + (1 − m) λ/c.
    let with_memory = |m| rate(direction, Rule::Memory { m, k: 10_000, rate: 0.1, decay: 0.0 }).unwrap();
    for m in [0.0, 0.5, 0.8, 0.95] {
        assert!((with_memory(m) - (m + (1.0 - m) * 0.5)).abs() < 1e-12, "m = {m}: {}", with_memory(m));
    }
    let steps = |k| rate(direction, Rule::Steps { k, rate: 0.1, decay: 0.0 }).unwrap();
    // More steps per target collapse more per iteration, and less per step.
    assert!(steps(100) < steps(10) && steps(10) < steps(1));
    assert!(steps(100).powf(0.01) > steps(10).powf(0.1) && steps(10).powf(0.1) > steps(1));
    assert!((steps(10_000) - direction.gain()).abs() < 1e-12, "k to infinity is the exact M-step");
}

/// Each output kept at variance 1, as by batch norm: nothing shrinks, and all outputs become the
/// same one.
#[test]
fn normalisation_keeps_the_variance_and_loses_the_rank() {
    let case = case();
    let mut state = State::new(numbers(3, case.directions.len(), 4), Array2::eye(3));
    let begun = case.world.effective_rank(&state.encoder);
    for _ in 0..200 {
        case.world.step(Rule::Exact, &mut state);
        case.world.normalise(&mut state.encoder);
    }
    let variances = case.world.outputs(&state.encoder).diag().to_owned();
    assert!(variances.iter().all(|variance| (variance - 1.0).abs() < 1e-12));
    let ended = case.world.effective_rank(&state.encoder);
    assert!(begun > 2.0 && (ended - 1.0).abs() < 1e-6, "{begun} to {ended}");
    // What is left is the direction whose views tell most about the image.
    let left = state.encoder.dot(&case.axes);
    assert!(left.row(0)[0].abs() > 1e3 * left.row(0)[1].abs(), "{left:?}");
}

/// With the best predictor the gradient is orthogonal to W: (W − r∂)(W − r∂)ᵀ = W Wᵀ + r² ∂∂ᵀ.
#[test]
fn the_best_predictor_holds_the_outputs_up() {
    let case = case();
    let n = case.directions.len();
    let rate = 0.01;
    let mut state = State::new(numbers(3, n, 5), Array2::eye(3));
    let mut grown = 0.0;
    for _ in 0..5000 {
        let before = state.encoder.clone();
        case.world.step(Rule::BestPredictor { rate, decay: 0.0 }, &mut state);
        let step = &state.encoder - &before;
        let change = state.encoder.dot(&state.encoder.t()) - before.dot(&before.t());
        let difference = &change - &step.dot(&step.t());
        assert!(difference.iter().all(|d| d.abs() < 1e-12), "{difference:?}");
        grown += step.dot(&step.t()).diag().sum();
    }
    let norm = (&state.encoder * &state.encoder).sum();
    assert!(norm > 0.1 && grown < 0.05 * norm, "norm {norm}, of which steps added {grown}");
    assert!(case.world.effective_rank(&state.encoder) > 2.0);
}

#[test]
fn weight_decay_beyond_its_threshold_collapses_what_a_learned_predictor_held_up() {
    for direction in case().directions {
        let Direction { signal, noise } = direction;
        let threshold = signal * signal / (2.0 * (signal + noise));
        for (decay, alive) in [(0.5 * threshold, true), (1.5 * threshold, false)] {
            for predictor_rate in [0.02, 0.2] {
                let rule = Rule::LearnedPredictor { rate: 0.05, predictor_rate, decay };
                // The predictor that would be best; a start far away can lead w to 0 first.
                let gain = direction.gain();
                let mut s = Scalars { encoder: gain, target: gain, predictor: gain };
                for _ in 0..400_000 {
                    s = step(direction, rule, s);
                }
                match direction.resting_predictor(decay) {
                    Some(p) if alive => {
                        assert!(
                            (s.predictor - p).abs() < 1e-10,
                            "{direction:?} {decay}: {s:?}, predicted {p}"
                        );
                        assert!((s.encoder - p).abs() < 1e-10, "{direction:?} {decay}: {s:?}, w = p at rest");
                    }
                    None if !alive => assert!(s.encoder.abs() < 1e-6, "{direction:?} {decay}: {s:?}"),
                    other => panic!("{direction:?} {decay}: {other:?}"),
                }
            }
        }
    }
}

/// The recursion of a learned predictor with ln w in the place of w, which falls below any float on
/// its way.
fn in_logarithms(direction: Direction, rates: (f64, f64), decay: f64, (w, p): (f64, f64)) -> (f64, f64) {
    let error = 2.0 * (p * (direction.signal + direction.noise) - direction.signal);
    let kept = 1.0 - rates.0 * (p * error + decay);
    (w + kept.ln(), p - rates.1 * ((2.0 * w).exp() * error + decay * p))
}

/// From p = 1 and w² = 0.17, as `linear-em` starts, decay at 5 % of its threshold. While w is small
/// ln w grows by (λ − σ) / (ρμ) before p has decayed.
#[test]
fn a_slow_predictor_saves_a_direction_only_where_signal_is_above_noise() {
    let ratios = [0.05, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];
    for (signal, noise, dies) in [
        (0.65, 0.6, &[][..]),
        (0.6, 0.65, &[0.05, 0.1, 0.3]),
        (0.7, 0.7, &[0.05, 0.1, 0.3]),
        (0.3, 0.9, &[0.05, 0.1, 0.3, 1.0, 3.0]),
    ] {
        let direction = Direction { signal, noise };
        let decay = 0.05 * signal * signal / (2.0 * (signal + noise));
        for ratio in ratios {
            // Small enough for the faster of the two.
            let rate = 0.05 / f64::max(1.0, ratio);
            let rates = (rate, ratio * rate);
            let rule = Rule::LearnedPredictor { rate, predictor_rate: ratio * rate, decay };
            let start = 0.17f64.sqrt();
            let mut s = Scalars { encoder: start, target: start, predictor: 1.0 };
            let (mut w, mut p) = (start.ln(), 1.0);
            let mut agrees = true;
            // Thirty times what the slower of p and w takes to decay.
            for _ in 0..(30.0 / (f64::min(1.0, ratio) * decay * rate)) as u64 {
                (w, p) = in_logarithms(direction, rates, decay, (w, p));
                if agrees {
                    s = step(direction, rule, s);
                    // Down to where w is no number of full precision any more.
                    agrees = s.encoder > 1e-300;
                    let off = (s.encoder.ln() - w).abs();
                    assert!(!agrees || (off < 1e-6 * w.abs().max(1.0) && (s.predictor - p).abs() < 1e-6));
                }
            }
            let lives = w > -5.0;
            assert_eq!(
                lives,
                !dies.contains(&ratio),
                "λ {signal}, σ {noise}, ρ {ratio}: ln w = {w}, p = {p}"
            );
            if lives {
                let rest = direction.resting_predictor(decay).unwrap();
                assert!(
                    (p - rest).abs() < 1e-6 && (w.exp() - rest).abs() < 1e-6,
                    "{direction:?}: {p}, {rest}"
                );
            }
        }
    }
}

fn sim(folder: &std::path::Path, args: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sim"));
    command.arg("theory").args(args).current_dir(folder).output().unwrap()
}

#[test]
fn the_command_prints_factors_and_draws_what_redraws() {
    let folder = tempfile::tempdir().unwrap();
    let run =
        sim(folder.path(), &["--signal", "1,3", "--noise", "1,1", "--decay", "0.3", "--out", "figures"]);
    let out = String::from_utf8_lossy(&run.stdout);
    assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
    let row = |name: &str| -> Vec<String> {
        let line = out.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {out}"));
        line[name.len()..].split_whitespace().map(String::from).collect()
    };
    assert_eq!(row("exact half-steps"), ["0.50000", "0.75000"]);
    // λ²/(2c) is 0.25 and 1.125: with a decay of 0.3 the first direction collapses, the second
    // rests.
    let learned = row("learned linear h");
    assert_eq!(learned[0], "collapses");
    assert_eq!(learned[1..], ["rests,", "p=0.696"]);
    let csv = folder.path().join("figures/linear-em.csv");
    let png = std::fs::read(csv.with_extension("png")).unwrap();
    simsiam_em::report::Figure::from_csv(&csv).unwrap().draw(&folder.path().join("again")).unwrap();
    assert_eq!(std::fs::read(folder.path().join("again.png")).unwrap(), png);
    let json = sim(folder.path(), &["--json"]);
    let lines: Vec<serde_json::Value> = String::from_utf8_lossy(&json.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[0]["rule"], "exact");
    assert_eq!(lines[5]["resting_predictor"].as_array().map(Vec::len), Some(5));
}

#[test]
fn what_the_command_cannot_iterate_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (args, words) in [
        (&["--signal", "1,2", "--noise", "1"][..], "same number"),
        (&["--noise=-1,1,1,1,1"], "at least 0"),
        (&["--signal", "0,1", "--noise", "0,1"], "no views"),
        (&["--rate", "5"], "--rate 5"),
        (&["--m", "2"], "--m 2"),
        (&["--decay", "NaN"], "--decay NaN"),
        (&["--iterations", "0"], "--iterations"),
        (&["--k", "100000", "--out", "."], "more than 1000000 steps"),
    ] {
        let run = sim(folder.path(), args);
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}
