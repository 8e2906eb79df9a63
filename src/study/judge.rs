//! How claims are judged: by signs, seed by seed.
//!
//! A claim holds in a seed or fails in it, and is about more than half of all seeds: it is
//! reproduced where the evidence for that is [`DECIDED`](crate::measure::evidence::DECIDED) or
//! more, contradicted where the evidence for the opposite is, undecided otherwise, after however
//! many seeds. A claim about `every` run is contradicted by one counterexample.
//!
//! Arms are paired by seed, on the seeds for which the runs of all of them have ended. Equal
//! numbers are a tie, which is no evidence, and so are two arms that both diverged. A run that
//! diverged, or whose number is not finite, is worse than any other; it fails a threshold that says
//! that the arm is good, and is no evidence on one that says that it is bad.
//!
//! A verdict that would mean nothing is not given ([`Judged::why`]): after a few steps of training,
//! of accuracies for images without labels, or of one class, of which every guess is right.

use super::claim::{CHANCE, Claim, Relation, START, matches};
use super::runs::{Curve, Of, Runs};
use super::spread::spread;
use super::verdict::{Judged, Verdict};
use crate::measure::collapse::is_collapsed;
use crate::measure::evidence::Signs;
use crate::measure::metrics;

/// Differences that are smaller than this part of their terms are what rounding left of equal ones.
const ROUNDING: f64 = 1e-12;
/// The fewest seeds that can decide: where as many tie, more would tie too.
const FEWEST: u64 = 8;
/// What collapse is told by.
const COLLAPSE: [&str; 2] = ["val/z_std", "val/rankme"];

/// What one seed says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Holds,
    Fails,
    Tie,
}

/// What one seed says, and the numbers by which.
struct Seen {
    sign: Sign,
    /// The effect, and RankMe of a claim about collapse, where they are finite.
    effect: Option<f64>,
    rankme: Option<f64>,
}

impl From<Sign> for Seen {
    fn from(sign: Sign) -> Seen {
        Seen { sign, effect: None, rankme: None }
    }
}

impl From<bool> for Sign {
    fn from(holds: bool) -> Sign {
        if holds { Sign::Holds } else { Sign::Fails }
    }
}

/// What seeds say of a claim.
#[derive(Default)]
struct Looked {
    signs: Signs,
    /// The seeds that say something.
    paired: Vec<u64>,
    /// The effect and the rank of each seed that has one.
    effects: Vec<(u64, f64)>,
    ranks: Vec<(u64, f64)>,
    /// The first seed without the numbers that are asked for, and what it lacks.
    missing: Option<(u64, String)>,
}

impl Claim {
    /// Judges the claim for every arm among `arms` that it is about, by those of `seeds` for which
    /// `runs` have ended.
    pub fn judge(&self, arms: &[String], seeds: &[u64], runs: &Runs) -> Vec<Judged> {
        let chosen = |name: &str| -> Vec<String> {
            let excepted = |arm: &String| name.ends_with('*') && self.except.as_ref() == Some(arm);
            let meant = |arm: &&String| matches(name, arm) && !excepted(arm);
            arms.iter().filter(meant).cloned().collect()
        };
        let mut judged = Vec::new();
        for arm in chosen(&self.arm) {
            match self.than.as_deref() {
                Some(than) if than != START && than != CHANCE && !metrics::of(than).is_judged() => {
                    for than in chosen(than).iter().filter(|than| **than != arm) {
                        judged.push(self.judge_one(&arm, Some(than), seeds, runs));
                    }
                }
                than => judged.push(self.judge_one(&arm, than, seeds, runs)),
            }
        }
        judged
    }

    fn judge_one(&self, arm: &str, than: Option<&str>, seeds: &[u64], runs: &Runs) -> Judged {
        let other = than.filter(|than| *than != START && *than != CHANCE && !metrics::of(than).is_judged());
        let arms: Vec<&str> = std::iter::once(arm).chain(other).collect();
        let Looked { signs, paired, effects, ranks, missing } = self.look(arm, than, &arms, seeds, runs);
        let metric = self.metric.clone().unwrap_or_default();
        let found = Verdict::of(&signs, self.every);
        let nothing = match self.is {
            // That runs diverged is a fact after however many steps; that they did not is none.
            Relation::Diverges if found == Verdict::Reproduced => None,
            _ => runs.means_nothing(&metric, &arms),
        };
        let waits = paired.is_empty() && missing.is_none();
        let is_open =
            nothing.is_none() && missing.is_none() && (signs.ties < FEWEST || signs.ties < signs.seeds());
        // Whether the seeds that lack a number are like the others is not known, so these decide
        // nothing; but a counterexample stays one.
        let refuted = self.every && found == Verdict::Contradicted;
        let lacking = missing.filter(|_| !refuted).map(|(seed, what)| match paired.is_empty() {
            true => what,
            false => format!("{what} for seed {seed}"),
        });
        let why = nothing
            .or(lacking)
            .or_else(|| waits.then(|| format!("no seed has ended for {}", arms.join(" and "))));
        let verdict = if why.is_none() { found } else { Verdict::Undecided };
        let less_is_worse = self.favours_large_effects();
        let (low, high) = match (self.is.is_of_ends(), self.is.compares_arms()) {
            (true, _) => metrics::of(COLLAPSE[0]).range,
            (_, false) => metrics::of(&metric).range,
            (_, true) => {
                let (low, high) = metrics::of(&metric).range;
                (low - high, high - low)
            }
        };
        Judged {
            text: self.text.replace("{arm}", arm).replace("{than}", than.unwrap_or_default()),
            asked: self.asked(than),
            open: verdict == Verdict::Undecided && is_open,
            effect: spread(&effects, less_is_worse, (low, high)),
            rankme: spread(&ranks, less_is_worse, metrics::of(COLLAPSE[1]).range),
            is_difference: self.is.compares_arms(),
            arm: arm.to_string(),
            arms: arms.into_iter().map(String::from).collect(),
            every: self.every,
            seeds: paired,
            metric,
            verdict,
            signs,
            why,
        }
    }

    /// What each of `seeds` says of `arm`, once all of `arms` have ended for it.
    fn look(&self, arm: &str, than: Option<&str>, arms: &[&str], seeds: &[u64], runs: &Runs) -> Looked {
        let mut looked = Looked::default();
        let ended = |seed: &&u64| arms.iter().all(|arm| (runs.diverged)(arm, **seed).is_some());
        for &seed in seeds.iter().filter(ended) {
            let seen = match self.see(arm, than, seed, runs) {
                Ok(seen) => seen,
                Err(what) => {
                    looked.missing.get_or_insert((seed, what));
                    continue;
                }
            };
            match seen.sign {
                Sign::Holds => looked.signs.holds += 1,
                Sign::Fails => looked.signs.fails += 1,
                Sign::Tie => looked.signs.ties += 1,
            }
            looked.paired.push(seed);
            looked.effects.extend(seen.effect.map(|effect| (seed, effect)));
            looked.ranks.extend(seen.rankme.map(|rank| (seed, rank)));
        }
        looked
    }

    /// What is asked, in words, with `than` for the other side.
    pub fn asked(&self, than: Option<&str>) -> String {
        let other = self.value.map(|value| value.to_string()).or(than.map(String::from));
        let other = other.map_or_else(String::new, |other| format!(" {other}"));
        let by = match self.margin {
            0.0 => String::new(),
            margin => format!(" by more than {margin}"),
        };
        let every = if self.every { ", in every run" } else { "" };
        format!("{}{other}{by}{}{every}", self.is.words(), self.of.words())
    }

    fn larger_is_better(&self) -> bool {
        metrics::of(self.metric.as_deref().unwrap_or_default()).larger_is_better.unwrap_or(true)
    }

    /// Whether a large effect speaks for the claim.
    fn favours_large_effects(&self) -> bool {
        match self.is {
            Relation::NotWorse | Relation::Better => self.larger_is_better(),
            Relation::NotBetter => !self.larger_is_better(),
            Relation::AtLeast | Relation::Above | Relation::NotCollapses => true,
            Relation::AtMost | Relation::Below | Relation::Collapses | Relation::Diverges => false,
        }
    }

    /// What `seed` says of `arm`, whose runs have ended; what is missing where it says nothing.
    fn see(&self, arm: &str, than: Option<&str>, seed: u64, runs: &Runs) -> Result<Seen, String> {
        let diverged = |arm: &str| (runs.diverged)(arm, seed) == Some(true);
        let curve = |arm: &str, metric: &str| -> Result<Curve, String> {
            (runs.curve)(arm, seed, metric).ok_or_else(|| format!("{arm} has no value of {metric}"))
        };
        match self.is {
            Relation::Diverges => return Ok(Sign::from(diverged(arm)).into()),
            Relation::Collapses if diverged(arm) => return Ok(Sign::Tie.into()),
            Relation::NotCollapses if diverged(arm) => return Ok(Sign::Fails.into()),
            Relation::Collapses | Relation::NotCollapses => {
                let end = |metric: &str| {
                    let end = curve(arm, metric)?.number(Of::End);
                    end.ok_or_else(|| format!("{arm} has no value of {metric}"))
                };
                let (z_std, rankme) = (end(COLLAPSE[0])?, end(COLLAPSE[1])?);
                let collapsed = is_collapsed(z_std, rankme, (runs.dim)(arm).unwrap_or(usize::MAX));
                let sign = Sign::from(collapsed == (self.is == Relation::Collapses));
                return Ok(Seen { sign, effect: Some(z_std), rankme: Some(rankme) });
            }
            _ => {}
        }
        let metric = self.metric.as_deref().unwrap_or_default();
        // Of a run that diverged there is no number to miss.
        let number = |arm: &str, metric: &str| -> Result<f64, String> {
            let number = if diverged(arm) { Some(f64::NAN) } else { curve(arm, metric)?.number(self.of) };
            number.ok_or_else(|| format!("{arm} has no value of {metric}"))
        };
        let mine = number(arm, metric)?;
        let other = match than {
            None => 0.0,
            Some(CHANCE) => match runs.classes.ok_or("the number of classes is not known")? {
                0 => return Err("the images have no labels".into()),
                classes => 100.0 / classes as f64,
            },
            // It stays where a run that diverged began; that this one fails needs no number.
            Some(_) if than == Some(START) && !mine.is_finite() => 0.0,
            Some(START) => {
                let start = curve(arm, metric)?.start;
                start.ok_or_else(|| format!("{arm} has no value of {metric} at random initialisation"))?
            }
            Some(other) if metrics::of(other).is_judged() => number(arm, other)?,
            Some(other) => number(other, metric)?,
        };
        let effect = Some(mine - other).filter(|effect| effect.is_finite());
        let own = than.is_some_and(|than| metrics::of(than).is_judged());
        Ok(Seen { sign: self.sign(mine, other, own), effect, rankme: None })
    }

    /// Whether the claim holds for these numbers, of which one that is not finite is a run's that
    /// diverged; `own` where both are of the same run.
    fn sign(&self, mine: f64, other: f64, own: bool) -> Sign {
        let larger = self.larger_is_better();
        let beyond = |excess: f64| {
            let size = mine.abs().max(other.abs()).max(self.margin);
            if excess.abs() <= ROUNDING * size { Sign::Tie } else { Sign::from(excess > 0.0) }
        };
        let better = if larger { mine - other } else { other - mine };
        let constant = self.value.unwrap_or(f64::NAN);
        let not_better = self.is == Relation::NotBetter;
        match (self.is.compares_arms(), mine.is_finite(), other.is_finite()) {
            (true, false, false) if !own => Sign::Tie,
            (true, false, false) => Sign::from(not_better),
            (true, false, true) => Sign::from(not_better),
            (true, true, false) => Sign::from(!not_better),
            // A good arm lies beyond the constant in the metric's own direction.
            (false, false, _) if self.favours_large_effects() == larger => Sign::Fails,
            (false, false, _) => Sign::Tie,
            _ => match self.is {
                Relation::NotWorse => beyond(better + self.margin),
                Relation::Better => beyond(better - self.margin),
                Relation::NotBetter => beyond(self.margin - better),
                Relation::AtLeast => (mine >= constant).into(),
                Relation::AtMost => (mine <= constant).into(),
                Relation::Above => (mine > constant).into(),
                Relation::Below => (mine < constant).into(),
                // Seen without numbers to compare.
                Relation::Diverges | Relation::Collapses | Relation::NotCollapses => Sign::Tie,
            },
        }
    }
}
