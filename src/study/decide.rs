//! Which arms get how many seeds next, so that what is undecided may be decided.
//!
//! A claim is decided where its e-value reaches [`DECIDED`](crate::measure::evidence::DECIDED).
//! Under the opposite of the claim an e-value gets that far at any time with probability 1/40 at
//! most (Ville's inequality, [`crate::measure::evidence`]), so that one may look after however many
//! seeds, add some and look again, and stop at any time, for any reason, without false decisions
//! becoming more frequent.
//!
//! That holds as long as what was seen does not choose what is seen. Hence every arm has a prefix
//! of one list of seeds, fixed beforehand, and a claim is judged on the seeds that all of its arms
//! have, which is a prefix too. Signs decide how long a prefix is, never which seeds are in it: who
//! picked seeds, or left some out, could show anything. For the same reason a claim that was
//! decided is judged again with every seed that its arms get for the sake of other claims; where
//! those take evidence away, it is open again.
//!
//! Each round gives seeds to the arms of open claims, so many as the nearest decision of one of
//! their claims needs if all of these agree. The claim that is the nearest to a decision goes on
//! with all of its arms, so that rounds come to an end.

use std::collections::BTreeMap;

/// A claim that is undecided, and that more seeds could decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The arms whose runs it reads.
    pub arms: Vec<String>,
    /// How many further seeds would decide it, if all of them agreed.
    pub needed: usize,
}

/// What becomes of an open claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The claim is judged again when its arms have so many seeds.
    Seeds(usize),
    /// Even if all seeds that its arms may still get agreed, they would not decide the claim.
    Hopeless,
}

/// How many seeds arms get, and what becomes of each open claim, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Arm → its seeds, for those that get more.
    pub seeds: BTreeMap<String, usize>,
    /// What becomes of the claims.
    pub claims: Vec<Next>,
}

/// The next round for the `open` claims about arms that `have` so many seeds and may get as many as
/// `most`.
pub fn next(open: &[Open], have: &BTreeMap<String, usize>, most: usize) -> Round {
    let has = |arm: &String| have.get(arm).copied().unwrap_or(0);
    let paired = |claim: &Open| claim.arms.iter().map(has).min().unwrap_or(0);
    // Where each claim could be decided.
    let target = |claim: &Open| Some(paired(claim).saturating_add(claim.needed)).filter(|at| *at <= most);
    let going = || open.iter().filter_map(|claim| Some((claim, target(claim)?)));
    // What an arm would get for the nearest of its claims; one for which it has enough does not
    // hold it back.
    let offer = |arm: &String| {
        let wanted = going().filter(|(claim, at)| claim.arms.contains(arm) && *at > has(arm));
        wanted.map(|(_, at)| at).min().unwrap_or(has(arm))
    };
    // A claim gets as far as its slowest arm.
    let reached = |claim: &Open| claim.arms.iter().map(offer).min().unwrap_or(0);
    let mut seeds = BTreeMap::new();
    for (claim, _) in going() {
        let reached = reached(claim);
        for arm in claim.arms.iter().filter(|arm| has(arm) < reached) {
            let most = seeds.entry(arm.clone()).or_insert(reached);
            *most = reached.max(*most);
        }
    }
    let of_claim = |claim| target(claim).map_or(Next::Hopeless, |_| Next::Seeds(reached(claim)));
    Round { seeds, claims: open.iter().map(of_claim).collect() }
}

#[cfg(test)]
mod tests {
    use super::{Next, Open, Round, next};
    use crate::measure::evidence::{DECIDED, Signs};
    use std::collections::BTreeMap;

    fn open(arms: &[&str], needed: usize) -> Open {
        Open { arms: arms.iter().map(|arm| arm.to_string()).collect(), needed }
    }

    fn counts(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
        counts.iter().map(|(arm, count)| (arm.to_string(), *count)).collect()
    }

    #[test]
    fn the_nearest_claim_gets_its_seeds_on_all_of_its_arms_and_nothing_is_decided_out_of_reach() {
        let have = counts(&[("a", 8), ("b", 8), ("c", 8), ("d", 8)]);
        let claims = [open(&["a", "b"], 4), open(&["b", "c"], 1), open(&["d"], 33), open(&["d"], 32)];
        let round = next(&claims, &have, 40);
        // b gets one for the nearer claim, and a as many as it can be compared with.
        assert_eq!(round.seeds, counts(&[("a", 9), ("b", 9), ("c", 9), ("d", 40)]));
        assert_eq!(round.claims, [Next::Seeds(9), Next::Seeds(9), Next::Hopeless, Next::Seeds(40)]);
        assert_eq!(next(&[], &have, 40), Round { seeds: BTreeMap::new(), claims: Vec::new() });
    }

    #[test]
    fn an_arm_that_has_enough_for_one_claim_is_not_held_back_by_it() {
        let have = counts(&[("a", 20), ("b", 20), ("c", 8)]);
        let round = next(&[open(&["a", "b"], 4), open(&["b", "c"], 1)], &have, 40);
        assert_eq!(round.seeds, counts(&[("a", 24), ("b", 24), ("c", 9)]));
        assert_eq!(round.claims, [Next::Seeds(24), Next::Seeds(9)]);
    }

    /// A claim's arms, and for which seeds it holds.
    type Truth<'a> = (&'a [&'a str], &'a dyn Fn(usize) -> bool);

    /// Rounds until nothing is open; the signs of claims by seed, and the seeds of arms at the end.
    fn rounds(claims: &[Truth], begin: usize, most: usize) -> (Vec<Signs>, BTreeMap<String, usize>, usize) {
        let mut have: BTreeMap<String, usize> =
            claims.iter().flat_map(|(arms, _)| arms.iter()).map(|arm| (arm.to_string(), begin)).collect();
        for round in 1.. {
            let judge = |(arms, holds): &Truth| {
                let paired = arms.iter().map(|arm| have[*arm]).min().unwrap();
                let holding = (0..paired).filter(|seed| holds(*seed)).count() as u64;
                Signs { holds: holding, fails: paired as u64 - holding, ties: 0 }
            };
            let signs: Vec<Signs> = claims.iter().map(judge).collect();
            let undecided = |signs: &Signs| signs.e_for().max(signs.e_against()) < DECIDED;
            let still: Vec<Open> = claims
                .iter()
                .zip(&signs)
                .filter(|(_, signs)| undecided(signs))
                .map(|((arms, _), signs)| open(arms, signs.needed() as usize))
                .collect();
            let more = next(&still, &have, most).seeds;
            if more.is_empty() {
                return (signs, have, round);
            }
            assert!(more.iter().all(|(arm, count)| *count > have[arm] && *count <= most), "{more:?}");
            have.extend(more);
        }
        unreachable!()
    }

    #[test]
    fn seeds_are_given_to_what_is_undecided_only() {
        let always = |_: usize| true;
        let never = |_: usize| false;
        let but_the_third = |seed: usize| seed != 2;
        let every_other = |seed: usize| seed.is_multiple_of(2);
        let (signs, have, _) = rounds(
            &[
                (&["a", "b"], &always),
                (&["c"], &never),
                (&["b", "d"], &but_the_third),
                (&["e", "f"], &every_other),
            ],
            8,
            40,
        );
        assert_eq!((signs[0].holds, signs[1].fails), (8, 8));
        // 11 of 12 decide; `a` is compared with `b` and needs no more.
        assert_eq!((signs[2].holds, signs[2].fails), (11, 1));
        assert_eq!((have["a"], have["b"], have["c"], have["d"]), (8, 12, 8, 12));
        // Given up where no number of agreeing seeds up to 40 would do, which is before 40.
        assert!(have["e"] < 40 && have["e"] == have["f"], "{have:?}");
        let reach = Signs { holds: signs[3].holds + 40 - have["e"] as u64, ..signs[3] };
        assert!(reach.e_for() < DECIDED);
    }

    #[test]
    fn rounds_end_and_none_gives_an_arm_seeds_that_it_cannot_be_compared_with() {
        // A chain of claims, each with a pattern of its own: signs of a fair coin and worse.
        let arms: Vec<String> = (0..12).map(|arm| format!("arm {arm}")).collect();
        for pattern in 0..50usize {
            let coin = move |claim: usize, seed: usize| {
                let mixed =
                    (seed + 1).wrapping_mul(2_654_435_761).wrapping_add((claim + 1) * 40_503 * (pattern + 7));
                !(mixed % 97).is_multiple_of(2 + claim % 3)
            };
            let holds: Vec<_> = (0..11).map(|claim| move |seed: usize| coin(claim, seed)).collect();
            let pairs: Vec<[&str; 2]> =
                (0..11).map(|claim| [arms[claim].as_str(), arms[claim + 1].as_str()]).collect();
            let claims: Vec<Truth> = pairs
                .iter()
                .zip(&holds)
                .map(|(pair, holds)| (&pair[..], holds as &dyn Fn(usize) -> bool))
                .collect();
            let (_, have, rounds) = rounds(&claims, 2, 40);
            assert!(rounds <= 12 * 40, "{rounds} rounds");
            for (index, arm) in arms.iter().enumerate() {
                let neighbours = [index.checked_sub(1), Some(index + 1)].into_iter().flatten();
                let most = neighbours.filter_map(|other| have.get(arms.get(other)?)).max().unwrap();
                assert!(
                    have[arm] <= *most,
                    "{arm} has {} seeds and no partner of as many: {have:?}",
                    have[arm]
                );
            }
        }
    }
}
