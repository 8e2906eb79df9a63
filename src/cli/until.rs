//! `sim run --until-decided`: rounds of runs, each of which gives seeds to what is undecided
//! ([`crate::study::decide`] says to whom, and why that is no peeking).

use super::flags::{option, switch};
use super::make::{Ends, Made, Workshop};
use super::output::Output;
use super::plan::{self, MOST_RUNS, Plan};
use super::settings::settings;
use crate::error::{Error, Result};
use crate::record::{AnswerClaim, Evidence};
use crate::study::decide::{Next, Open, Round, next};
use crate::study::{Job, LARGEST_SEED};
use clap::{Arg, ArgMatches, value_parser};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Seeds of an arm at most, where nothing else is said.
const MOST_SEEDS: u64 = 40;
/// Runs of one study at most, where arms get them one after the other as the evidence asks: 50 arms
/// with 40 seeds.
const MOST_RUNS_OF_ROUNDS: usize = 5 * MOST_RUNS;

/// The flags of `sim run --until-decided`.
pub fn flags() -> Vec<Arg> {
    vec![
        switch(
            "until-decided",
            "Give more seeds to the arms of undecided claims until each is decided, or cannot be",
        ),
        option(
            "max-seeds",
            "N",
            format!("Seeds that --until-decided gives to an arm at most, the first ones counted [default: {MOST_SEEDS}]"),
        )
        .value_parser(value_parser!(u64).range(1..)),
    ]
}

/// How many seeds an arm may have, where the command goes on until claims are decided.
///
/// # Errors
/// [`Error::Usage`] for `--max-seeds` alone.
pub fn most_seeds(matches: &ArgMatches) -> Result<Option<usize>> {
    let most = matches.get_one::<u64>("max-seeds").copied();
    match (matches.get_flag("until-decided"), most) {
        (true, most) => Ok(Some(usize::try_from(most.unwrap_or(MOST_SEEDS)).unwrap_or(usize::MAX))),
        (false, None) => Ok(None),
        (false, Some(most)) => Err(Error::Usage(format!(
            "--max-seeds {most}: it limits --until-decided, which is not asked for; --seeds says how many seeds are made \
             without it"
        ))),
    }
}

/// Refuses, before anything is made, to begin with more seeds than there may be, and more runs than
/// anyone means.
///
/// # Errors
/// [`Error::Usage`].
pub fn check(plan: &Plan, most: usize, matches: &ArgMatches) -> Result<()> {
    let begin = plan.seeds().into_values().max().unwrap_or(0);
    if begin > most {
        return Err(Error::Usage(format!(
            "--max-seeds {most}: {} begins with {} already; --seeds begins with fewer",
            plan.study.name,
            super::count(begin, "seed")
        )));
    }
    if plan.last_seed(most) > LARGEST_SEED {
        return Err(Error::Usage(format!(
            "--max-seeds {most}: so many seeds from the first on end beyond {LARGEST_SEED}, the largest; begin with a smaller \
             one (--seeds)"
        )));
    }
    let settings = settings(matches, usize::MAX)?;
    plan.affordable(most, "--max-seeds allows many runs", MOST_RUNS_OF_ROUNDS, &settings)
}

/// The runs of a command that goes on until claims are decided.
pub struct Rounds<'a> {
    /// All runs so far.
    pub jobs: Vec<Job>,
    /// How they ended.
    pub ends: Ends,
    most: usize,
    matches: &'a ArgMatches,
    output: &'a Output,
    begun: Instant,
    /// Claims that were told to be hopeless.
    told: BTreeSet<(String, String, String)>,
}

/// How many claims there are of each kind.
#[derive(Default)]
struct Tally {
    decided: usize,
    hopeless: usize,
    /// Claims that no number of seeds decides, and why.
    pointless: BTreeMap<String, usize>,
}

impl<'a> Rounds<'a> {
    /// The first round is `jobs`; later ones give an arm `most` seeds at most.
    pub fn new(jobs: Vec<Job>, most: usize, matches: &'a ArgMatches, output: &'a Output) -> Self {
        Rounds { jobs, ends: Vec::new(), most, matches, output, begun: Instant::now(), told: BTreeSet::new() }
    }

    /// Makes rounds until nothing is left that seeds could decide; the code with which the command
    /// ends where they were stopped. Nothing of a round is kept but its runs: a command that was
    /// killed makes the same rounds again, of which those are there already.
    pub fn make(&mut self, plans: &mut [Plan], workshop: &mut Workshop) -> Result<Option<i32>> {
        let command = super::as_given::as_given();
        let mut claims: Vec<Vec<AnswerClaim>> = vec![Vec::new(); plans.len()];
        let mut grown: Vec<usize> = (0..plans.len()).collect();
        let tell = !self.matches.get_flag("quiet");
        for round in 1.. {
            let settings = settings(self.matches, self.jobs.len() - self.ends.len())?;
            let expected = (tell && round == 1).then_some("the first round is expected to take");
            match workshop.make(&self.jobs, self.ends.len(), &settings, expected)? {
                Made::Ended(ends) => self.ends.extend(ends),
                Made::Left(code) => return Ok(Some(code)),
            }
            for index in grown.drain(..) {
                claims[index] = plans[index].results(&command)?.answer.claims;
            }
            let failed = self.ends.iter().filter(|end| matches!(end, Some(Err(_)))).count();
            let next: Vec<Round> =
                plans.iter().zip(&claims).map(|(plan, claims)| of(plan, claims, self.most)).collect();
            self.tell(round, plans, &claims, &next)?;
            if failed > 0 {
                super::note(&format!("{} failed; no more seeds are made", super::count(failed, "run")));
                return Ok(None);
            }
            let before = self.jobs.len();
            for (index, next) in next.iter().enumerate().filter(|(_, next)| !next.seeds.is_empty()) {
                self.jobs.extend(plans[index].grow(&next.seeds));
                grown.push(index);
            }
            if self.jobs.len() == before {
                self.end(&claims)?;
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Shows how far the evidence of open claims has grown.
    fn tell(
        &mut self,
        round: usize,
        plans: &[Plan],
        claims: &[Vec<AnswerClaim>],
        next: &[Round],
    ) -> Result<()> {
        let (quiet, json) = (self.matches.get_flag("quiet"), self.matches.get_flag("json"));
        let mut lines = Vec::new();
        for ((plan, claims), next) in plans.iter().zip(claims).zip(next) {
            for ((claim, evidence), next) in opened(claims).zip(&next.claims) {
                lines.push(line(plan, claim, evidence, *next));
                let key = (plan.study.name.clone(), claim.arm.clone(), claim.claim.clone());
                if quiet || (*next == Next::Hopeless && !self.told.insert(key)) {
                    continue;
                }
                let study = if plans.len() > 1 { format!("{}: ", plan.study.name) } else { String::new() };
                super::note(&format!("{study}{}", self.words(plan, claim, evidence, *next)));
            }
        }
        match json {
            true => self.output.line(
                &json!({"event": "round", "round": round, "runs": self.jobs.len(), "claims": lines})
                    .to_string(),
            ),
            false => Ok(()),
        }
    }

    /// "k=10 learns as well as one: holds in 6 of 8 seeds, E = 3.1 → seeds 18 to 25".
    fn words(&self, plan: &Plan, claim: &AnswerClaim, evidence: &Evidence, next: Next) -> String {
        let Evidence { holds, fails, ties, e_for, e_against, .. } = evidence;
        let all = holds + fails;
        let against = if e_against > e_for { " against it" } else { "" };
        let ties =
            if *ties > 0 { format!(" (and {})", super::count(*ties as usize, "tie")) } else { String::new() };
        let e = e_for.max(*e_against);
        let next = match next {
            Next::Hopeless => {
                format!("; given up: no more seeds up to --max-seeds {} could decide it", self.most)
            }
            Next::Seeds(to) => match plan.seeds_between(&evidence.arms, to)[..] {
                [seed] => format!(" → seed {seed}"),
                [first, .., last] => format!(" → seeds {first} to {last}"),
                [] => String::new(),
            },
        };
        format!("{}: holds in {holds} of {all} seeds{ties}, E = {e:.1}{against}{next}", claim.claim)
    }

    /// Says what came of it: on stderr, because the time differs.
    fn end(&self, claims: &[Vec<AnswerClaim>]) -> Result<()> {
        let (mut all, mut tally) = (0, Tally::default());
        for claim in claims.iter().flatten() {
            all += 1;
            match (&claim.evidence, &claim.why) {
                _ if claim.verdict != "undecided" => tally.decided += 1,
                (Some(evidence), _) if evidence.open => tally.hopeless += 1,
                (_, why) => {
                    let why = why.clone().unwrap_or_else(|| "all seeds tie".to_string());
                    *tally.pointless.entry(why).or_default() += 1;
                }
            }
        }
        if self.matches.get_flag("quiet") {
            return Ok(());
        }
        let hours = self.begun.elapsed().as_secs_f64() / 3600.0;
        let mut said = match all {
            0 => "there is no claim to decide".to_string(),
            _ => format!(
                "{} of {} decided with {} in {}",
                tally.decided,
                super::count(all, "claim"),
                super::count(self.jobs.len(), "run"),
                plan::spell(hours)
            ),
        };
        if tally.hopeless > 0 {
            said += &format!("; {} would need more than --max-seeds {}", tally.hopeless, self.most);
        }
        for (why, count) in tally.pointless {
            said += &format!("; {count} that no seed decides: {why}");
        }
        super::note(&said);
        Ok(())
    }
}

/// The open claims with what is known of them.
fn opened(claims: &[AnswerClaim]) -> impl Iterator<Item = (&AnswerClaim, &Evidence)> {
    let known = claims.iter().filter_map(|claim| Some((claim, claim.evidence.as_ref()?)));
    known.filter(|(_, evidence)| evidence.open)
}

/// The next round of a study whose claims were judged.
fn of(plan: &Plan, claims: &[AnswerClaim], most: usize) -> Round {
    let open: Vec<Open> = opened(claims)
        .map(|(_, evidence)| Open {
            arms: evidence.arms.clone(),
            needed: usize::try_from(evidence.needed).unwrap_or(usize::MAX),
        })
        .collect();
    next(&open, &plan.seeds(), most)
}

/// An open claim in the line of a round.
fn line(plan: &Plan, claim: &AnswerClaim, evidence: &Evidence, next: Next) -> Value {
    let seeds = match next {
        Next::Seeds(to) => plan.seeds_between(&evidence.arms, to),
        Next::Hopeless => Vec::new(),
    };
    json!({"study": plan.study.name, "claim": claim.claim, "arm": claim.arm, "arms": evidence.arms,
        "holds": evidence.holds, "fails": evidence.fails, "ties": evidence.ties,
        "e_for": evidence.e_for, "e_against": evidence.e_against, "next_seeds": seeds})
}
