//! Verdicts, and what they rest on.

use crate::measure::evidence::{DECIDED, Signs};
use crate::record::Spread;

/// What the runs say about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The evidence for it decides.
    Reproduced,
    /// The evidence against it decides, or a counterexample to "every".
    Contradicted,
    /// Neither side has enough evidence.
    Undecided,
}

impl Verdict {
    /// The verdict that `signs` are evidence for, where one seed on the other side contradicts a
    /// claim about `every` run.
    pub(super) fn of(signs: &Signs, every: bool) -> Verdict {
        match (every, signs.fails) {
            (true, 1..) => Verdict::Contradicted,
            _ if signs.e_for() >= DECIDED => Verdict::Reproduced,
            (false, _) if signs.e_against() >= DECIDED => Verdict::Contradicted,
            _ => Verdict::Undecided,
        }
    }

    /// The verdict in one word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Reproduced => "reproduced",
            Verdict::Contradicted => "contradicted",
            Verdict::Undecided => "undecided",
        }
    }
}

/// A claim about concrete arms, judged.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The claim in words.
    pub text: String,
    /// Metric; empty for a claim about how runs end that names none.
    pub metric: String,
    /// The arm.
    pub arm: String,
    /// What was asked, in words: "not worse than k=1 by more than 2".
    pub asked: String,
    /// The verdict.
    pub verdict: Verdict,
    /// In how many seeds it holds.
    pub signs: Signs,
    /// The seeds that it was judged on: those for which the runs of all its arms have ended.
    pub seeds: Vec<u64>,
    /// The arms whose runs it reads: its own, and the one that this is compared with.
    pub arms: Vec<String>,
    /// Whether it is about every run.
    pub every: bool,
    /// Whether it is undecided and more seeds could decide it.
    pub open: bool,
    /// The effect for each seed that has one: a difference between arms (in the metric's own
    /// direction), or the value itself, of a claim about collapse the held-out std; its worst seed
    /// is the least favourable to the claim.
    pub effect: Option<Spread>,
    /// RankMe, where the claim is about collapse.
    pub rankme: Option<Spread>,
    /// Whether the effect is a difference.
    pub is_difference: bool,
    /// Why it is undecided, where that is not for want of evidence.
    pub why: Option<String>,
}
