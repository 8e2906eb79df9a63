//! What the trials show beside what is known already.

use super::{short, usual_base_lr};
use crate::doctor::Facts;
use crate::doctor::diagnosis::{Bound, Diagnosis, Severity};
use crate::doctor::trials::{AS_GIVEN, LARGER_BATCHES, LOWER_RATE, TrialFacts};
use crate::measure::collapse::{COLLAPSED_RANK, COLLAPSED_STD};

/// Why the bounds of std and RankMe lie where they do.
const OF_STD: &str = "runs that learn stay above 0.78, those without stop-gradient end below 0.03";
const OF_RANK: &str = "outputs at two points have 1; runs that learn stay above 6";

/// RankMe over that at a tenth of the learning rate.
const NARROWER: Bound = Bound::AtLeast(0.2);

/// `found` with the numbers by which `trial` failed.
pub fn add_numbers(found: Diagnosis, trial: &TrialFacts) -> Diagnosis {
    let of = |what: &str| format!("{what} after {} steps, {}", trial.steps, trial.name);
    let (Some(z_std), Some(rankme)) = (trial.z_std, trial.rankme) else {
        return found.rests_on(
            of("losses or outputs that are no finite numbers"),
            1.0,
            Bound::AtMost(0.0),
            "after one no number means anything",
        );
    };
    let mut found = found;
    if z_std < COLLAPSED_STD {
        found = found.rests_on(of("std·√d"), z_std, Bound::AtLeast(COLLAPSED_STD), OF_STD);
    }
    if rankme < COLLAPSED_RANK {
        found = found.rests_on(of("RankMe"), rankme, Bound::AtLeast(COLLAPSED_RANK), OF_RANK);
    }
    found
}

pub fn diagnose(facts: &Facts, found: &mut Vec<Diagnosis>) {
    found.extend(of_weights(facts));
    let Some(given) = facts.trial() else { return };
    let is_known = |severity: Severity| found.iter().any(|known| known.severity == severity);
    // Whatever is known to make training fail explains it.
    if is_known(Severity::Fault) {
        return;
    }
    if given.has_failed() {
        found.push(add_numbers(failed(facts, given), given));
    } else if !is_known(Severity::Warning) {
        found.extend(narrow(facts, given));
    }
}

/// Why the trial of the recipe as it is failed, by those that did not.
fn failed(facts: &Facts, given: &TrialFacts) -> Diagnosis {
    let helps = |name: &str| facts.trials.iter().any(|trial| trial.name == name && !trial.has_failed());
    let ended = match given.diverged {
        true => "the loss or the outputs stopped being numbers",
        false => "the outputs have collapsed",
    };
    if helps(LOWER_RATE) {
        let what =
            format!("{ended} at a learning rate of {}, and did not at a tenth of it", short(given.rate));
        high_rate(facts, Severity::Fault, what)
    } else if helps(LARGER_BATCHES) {
        let what = format!("{ended} with batches of {} images, and did not with larger ones", given.batch);
        let why = "Batch norm over few images adds more noise than there is signal.";
        let larger =
            facts.trials.iter().find(|trial| trial.name == LARGER_BATCHES).map_or(32, |trial| trial.batch);
        Diagnosis::new("small-batch", Severity::Fault, what, why).set("schedule.batch", &larger.to_string())
    } else {
        let what = format!("{ended}, also at a lower rate and with larger batches");
        let why = "Nothing that is known of the images, the views and the recipe explains it.";
        Diagnosis::new("collapse", Severity::Fault, what, why).advise(
            "compare with SimSiam's recipe (sim show simsiam), and look at the views (sim data preview): do two of an image \
             share what tells it from all others?",
        )
    }
}

fn high_rate(facts: &Facts, severity: Severity, what: String) -> Diagnosis {
    let why = "Steps so large throw weights about, or leave them where no gradient leads back from.";
    Diagnosis::new("high-rate", severity, what, why)
        .set("optim.base_lr", &short(facts.base_lr / 10.0))
        .also("or lower; sim sweep with --over optim.base_lr=A,B,C looks for it")
}

/// Outputs in far fewer dimensions than at a lower rate.
fn narrow(facts: &Facts, given: &TrialFacts) -> Option<Diagnosis> {
    let lower = facts.trials.iter().find(|trial| trial.name == LOWER_RATE)?;
    let ratio = given.rankme? / lower.rankme?;
    NARROWER.is_broken_by(ratio).then(|| {
        let what = format!(
            "outputs lie in {:.1} dimensions at a learning rate of {}, in {:.1} at a tenth of it",
            given.rankme.unwrap_or_default(),
            short(given.rate),
            lower.rankme.unwrap_or_default()
        );
        high_rate(facts, Severity::Warning, what).rests_on(
            format!("RankMe after {} steps over that at a tenth of the rate", given.steps),
            ratio,
            NARROWER,
            "recipes that learn have 0.4 to 1, at 20 times their rate 0.1",
        )
    })
}

/// Weights that were given, and have collapsed.
fn of_weights(facts: &Facts) -> Option<Diagnosis> {
    let weights = facts.weights.as_ref()?;
    if let Some(step) = weights.diverged_at {
        let what = format!("the run diverged: its loss was no finite number at step {step}");
        let why = "Steps were so large that weights left the range of numbers.";
        let lower = short((facts.base_lr / 10.0).min(usual_base_lr(facts)));
        return Some(Diagnosis::new("run-diverged", Severity::Fault, what, why).set("optim.base_lr", &lower));
    }
    let (z_std, rankme) = weights.z_std.zip(weights.rankme)?;
    weights.collapsed.then(|| {
        let since = weights.collapsed_since.map_or(String::new(), |step| format!(", since step {step} at the latest"));
        let what = format!("the outputs of {} have collapsed{since}", weights.name);
        let why = "They are the same, or lie in a few dimensions, for all held-out images; what else is said here is why.";
        let mut found = Diagnosis::new("weights-collapsed", Severity::Fault, what, why)
            .advise("mend what is named beside this, and train again: a collapsed run does not recover");
        if z_std < COLLAPSED_STD {
            found = found.rests_on("std·√d of held-out outputs", z_std, Bound::AtLeast(COLLAPSED_STD), OF_STD);
        }
        if rankme < COLLAPSED_RANK {
            found = found.rests_on("RankMe of held-out outputs", rankme, Bound::AtLeast(COLLAPSED_RANK), OF_RANK);
        }
        found
    })
}

/// The trial of the recipe as it is.
pub fn as_given(trials: &[TrialFacts]) -> Option<&TrialFacts> {
    trials.iter().find(|trial| trial.name == AS_GIVEN)
}
