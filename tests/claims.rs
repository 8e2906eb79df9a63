//! Claims are judged as they should: by signs, seed by seed.

use simsiam_em::measure::evidence::Signs;
use simsiam_em::study::{Curve, Judged, Request, Runs, START, Study, Verdict};
use std::collections::BTreeMap;

/// What runs left: none for one that did not end.
#[derive(Clone)]
enum End {
    /// metric → value.
    Finished(BTreeMap<&'static str, f64>),
    Diverged,
    Unfinished,
}

/// Runs that ended with this value of whatever metric is asked for.
fn values(values: &[f64]) -> Vec<End> {
    values.iter().map(|value| End::Finished(BTreeMap::from([("", *value)]))).collect()
}

struct World {
    /// arm → how its runs ended, by seed.
    arms: Vec<(&'static str, Vec<End>)>,
    classes: u64,
    steps: u64,
    dim: usize,
}

impl World {
    fn of(a: Vec<End>, b: Vec<End>) -> World {
        World { arms: vec![("a", a), ("b", b)], classes: 10, steps: 1000, dim: 128 }
    }

    fn end(&self, arm: &str, seed: u64) -> &End {
        let (_, ends) = self.arms.iter().find(|(name, _)| *name == arm).unwrap();
        ends.get(seed as usize).unwrap_or(&End::Unfinished)
    }

    /// What the only claim of a study with these arms says; `claim` is the TOML below its name.
    fn judge(&self, claim: &str) -> Judged {
        let study = study(claim).unwrap();
        let value = |arm: &str, seed: u64, metric: &str| match self.end(arm, seed) {
            End::Finished(values) => values.get(metric).or(values.get("")).copied(),
            _ => None,
        };
        let curve = |arm: &str, seed: u64, metric: &str| {
            let end = value(arm, seed, metric)?;
            // b's values are also where a starts; on its way a run is 5 lower, then 5 higher.
            Some(Curve { start: value("b", seed, metric), values: vec![end - 5.0, end + 5.0, end] })
        };
        let diverged = |arm: &str, seed: u64| match self.end(arm, seed) {
            End::Finished(_) => Some(false),
            End::Diverged => Some(true),
            End::Unfinished => None,
        };
        let steps = |_: &str| Some(self.steps);
        let runs = Runs {
            curve: &curve,
            diverged: &diverged,
            classes: Some(self.classes),
            steps: &steps,
            dim: &|_| Some(self.dim),
        };
        let seeds: Vec<u64> =
            (0..self.arms.iter().map(|(_, ends)| ends.len() as u64).max().unwrap()).collect();
        let mut judged = study.head.claim[0].judge(&["a".into(), "b".into()], &seeds, &runs);
        assert_eq!(judged.len(), 1);
        judged.remove(0)
    }
}

fn study(claim: &str) -> simsiam_em::Result<Study> {
    let text = format!(
        "title = \"t\"\nquestion = \"q?\"\nbase = \"simsiam\"\n[[arm]]\nname = \"a\"\n[[arm]]\nname = \"b\"\n\
         [[claim]]\ntext = \"c\"\narm = \"a\"\n{claim}\n"
    );
    Study::parse("t", "t.toml", text)
}

/// What is wrong with a claim.
fn refusal(claim: &str) -> String {
    format!("{:?}", study(claim).map(|_| ()).expect_err(claim))
}

fn signs(holds: u64, fails: u64, ties: u64) -> Signs {
    Signs { holds, fails, ties }
}

const BETTER: &str = "metric = \"val/knn_top1\"\nis = \"better than\"\nthan = \"b\"";
const NOT_WORSE: &str = "metric = \"val/knn_top1\"\nis = \"not worse than\"\nthan = \"b\"";

fn nothing() -> Runs<'static> {
    Runs { curve: &|_, _, _| None, diverged: &|_, _| None, classes: None, steps: &|_| None, dim: &|_| None }
}

#[test]
fn every_claim_is_judged_for_some_arm_of_the_default_scale() {
    for study in Study::all().unwrap() {
        let arms: Vec<String> =
            study.resolve(&Request::default()).unwrap().into_iter().map(|arm| arm.name).collect();
        for claim in &study.head.claim {
            // A claim about an arm of another scale has nothing to judge here.
            let elsewhere = study.arms.iter().any(|arm| {
                arm.at.is_some() && [Some(&claim.arm), claim.than.as_ref()].contains(&Some(&arm.name))
            });
            let judged = claim.judge(&arms, &[0], &nothing()).len();
            assert!(judged > 0 || elsewhere, "{}: {}", study.name, claim.text);
        }
    }
}

#[test]
fn an_exception_is_one_of_a_star_and_not_of_a_name() {
    let study = Study::find("multistep").unwrap();
    let mut claim = study.head.claim[0].clone();
    claim.except = Some("k=1".into());
    let arms = ["k=1", "k=10", "k=100"].map(String::from);
    let judged = claim.judge(&arms, &[0], &nothing());
    assert_eq!(judged.iter().map(|j| j.arm.as_str()).collect::<Vec<_>>(), ["k=10", "k=100"]);
}

/// In how many of four seeds each relation holds.
#[test]
fn a_claim_holds_or_fails_seed_by_seed() {
    let knn = |rest: &str| format!("metric = \"val/knn_top1\"\n{rest}");
    let not_worse = format!("{NOT_WORSE}\nmargin = 2.0");
    let better = format!("{BETTER}\nmargin = 2.0");
    let start = knn(&format!("is = \"better than\"\nthan = \"{START}\""));
    let not_better = knn("is = \"not better than\"\nthan = \"chance\"\nmargin = 2.0");
    let at_least = knn("is = \"at least\"\nvalue = 50.0");
    let at_most = knn("is = \"at most\"\nvalue = 50.0");
    let above = knn("is = \"above\"\nvalue = 50.0");
    let below = knn("is = \"below\"\nvalue = 50.0");
    let highest = knn("of = \"highest\"\nis = \"at least\"\nvalue = 50.0");
    let lowest = knn("of = \"lowest\"\nis = \"at least\"\nvalue = 50.0");
    // (−5 + 5 + 0) / 3 on top of the end.
    let mean = knn("of = \"mean\"\nis = \"at least\"\nvalue = 50.0");
    let loss = "metric = \"train/loss\"\nis = \"better than\"\nthan = \"b\"".to_string();
    for (claim, a, b, expected) in [
        // Paired by seed: seeds differ a lot.
        (&not_worse, [50.0, 60.0, 70.0, 80.0], [51.0, 61.9, 72.0, 83.0], signs(2, 1, 1)),
        (&better, [53.0, 60.0, 70.0, 80.0], [50.0, 57.9, 68.0, 79.0], signs(2, 1, 1)),
        (&start, [50.0, 51.0, 52.0, 30.0], [30.0, 51.0, 53.0, 20.0], signs(2, 1, 1)),
        (&not_better, [10.1, 11.9, 12.0, 12.1], [0.0; 4], signs(2, 1, 1)),
        (&at_least, [50.0, 50.1, 49.9, 10.0], [0.0; 4], signs(2, 2, 0)),
        (&at_most, [50.0, 50.1, 49.9, 10.0], [0.0; 4], signs(3, 1, 0)),
        (&above, [50.0, 50.1, 49.9, 10.0], [0.0; 4], signs(1, 3, 0)),
        (&below, [50.0, 50.1, 49.9, 10.0], [0.0; 4], signs(2, 2, 0)),
        (&highest, [45.0, 44.9, 50.0, 0.0], [0.0; 4], signs(2, 2, 0)),
        (&lowest, [55.0, 54.9, 60.0, 0.0], [0.0; 4], signs(2, 2, 0)),
        (&mean, [50.0, 49.9, 60.0, 0.0], [0.0; 4], signs(2, 2, 0)),
        // A smaller loss is the better one.
        (&loss, [-0.9, -0.91, -0.9, -0.4], [-0.5, -0.5, -0.9, -0.51], signs(2, 1, 1)),
    ] {
        let judged = World::of(values(&a), values(&b)).judge(claim);
        assert_eq!(judged.signs, expected, "{claim} {a:?} {b:?}");
        assert_eq!((judged.verdict, judged.open), (Verdict::Undecided, true), "{claim}");
        assert_eq!(judged.seeds, [0, 1, 2, 3]);
    }
}

#[test]
fn the_evidence_of_the_seeds_decides() {
    let ends = |holds: usize, fails: usize| {
        let a = [vec![80.0; holds], vec![70.0; fails]].concat();
        World::of(values(&a), values(&vec![75.0; holds + fails])).judge(BETTER)
    };
    for (holds, fails, verdict) in [
        (8, 0, Verdict::Reproduced),
        (7, 0, Verdict::Undecided),
        (17, 3, Verdict::Reproduced),
        (16, 4, Verdict::Undecided),
        (3, 17, Verdict::Contradicted),
        (0, 8, Verdict::Contradicted),
        (0, 7, Verdict::Undecided),
    ] {
        let judged = ends(holds, fails);
        assert_eq!(judged.verdict, verdict, "{holds} and {fails}");
        assert_eq!(judged.open, verdict == Verdict::Undecided);
        assert_eq!((judged.why, judged.arms), (None, vec!["a".to_string(), "b".to_string()]));
    }
    // One seed is no special case.
    assert_eq!(ends(1, 0).verdict, Verdict::Undecided);
}

#[test]
fn an_effect_has_its_median_quartiles_and_the_seed_that_speaks_most_against_the_claim() {
    let a = values(&[80.0, 81.0, 79.0, 60.0, 82.0]);
    let world = World::of(a, values(&[78.0; 5]));
    let effect = world.judge(NOT_WORSE).effect.unwrap();
    assert_eq!((effect.seeds, effect.median, effect.quartiles), (5, Some(2.0), Some([1.0, 3.0])));
    assert_eq!((effect.worst, effect.best), (Some(-18.0), Some(4.0)));
    assert_eq!(effect.values, [(0, 2.0), (1, 3.0), (2, 1.0), (3, -18.0), (4, 4.0)]);
    let below = world.judge("metric = \"val/knn_top1\"\nis = \"below\"\nvalue = 90.0").effect.unwrap();
    assert_eq!((below.worst, below.best), (Some(82.0), Some(60.0)));
    // Of 76.4 ± 11.4 nothing lies beyond 100.
    let steady = World::of(values(&[99.0, 100.0, 90.0]), values(&[0.0; 3]));
    let spread = steady.judge("metric = \"val/knn_top1\"\nis = \"at least\"\nvalue = 1.0").effect.unwrap();
    let (mean, half) = (spread.mean.unwrap(), spread.half_width_95.unwrap());
    assert!(mean + half > 100.0, "{spread:?}");
    assert_eq!(spread.interval_95, Some([mean - half, 100.0]));
}

/// Differences that are only rounding are none; equal arms were once contradicted at margin 0.
#[test]
fn identical_arms_are_ties_and_decide_nothing() {
    let same = values(&[80.0, 81.5, 79.25, 80.0, 80.0, 80.0, 80.0, 80.0]);
    for claim in [NOT_WORSE, BETTER, &BETTER.replace("better than", "not better than")] {
        let judged = World::of(same.clone(), same.clone()).judge(claim);
        assert_eq!((judged.verdict, judged.signs), (Verdict::Undecided, signs(0, 0, 8)), "{claim}");
        assert!(!judged.open, "more seeds would tie too");
        let few = World::of(same[..7].to_vec(), same[..7].to_vec()).judge(claim);
        assert!(few.open);
    }
    let rounded = values(&[80.0 + 2e-14, 81.5, 79.25 - 2e-14, 80.0, 80.0, 80.0, 80.0, 80.0]);
    assert_eq!(World::of(rounded, same.clone()).judge(BETTER).signs, signs(0, 0, 8));
    // Within a margin they are as good as each other.
    let judged = World::of(same.clone(), same).judge(&format!("{NOT_WORSE}\nmargin = 2.0"));
    assert_eq!((judged.verdict, judged.signs), (Verdict::Reproduced, signs(8, 0, 0)));
    assert_eq!(judged.effect.unwrap().median, Some(0.0));
}

/// Eight seeds that diverge were undecided for ever.
#[test]
fn a_run_that_diverged_is_a_failure_of_its_arm() {
    let (wild, tame) = (vec![End::Diverged; 8], values(&[80.0; 8]));
    let knn = |rest: &str| format!("metric = \"val/knn_top1\"\n{rest}");
    let of_a = |claim: &str| World::of(wild.clone(), tame.clone()).judge(claim);
    let of_b = |claim: &str| World::of(tame.clone(), wild.clone()).judge(claim);
    let not_better = BETTER.replace("better than", "not better than");
    let learns = knn("is = \"at least\"\nvalue = 5.0");
    let start = knn(&format!("is = \"better than\"\nthan = \"{START}\""));
    let chance = knn("is = \"not better than\"\nthan = \"chance\"");
    let loss = "metric = \"train/loss\"\nis = \"at most\"\nvalue = 0.0";
    let std = "metric = \"val/z_std\"\nis = \"at most\"\nvalue = 0.1";
    for (judged, expected) in [
        (of_a(&learns), Verdict::Contradicted),
        (of_a(&knn("is = \"above\"\nvalue = 5.0")), Verdict::Contradicted),
        (of_a(BETTER), Verdict::Contradicted),
        (of_a(&format!("{NOT_WORSE}\nmargin = 50.0")), Verdict::Contradicted),
        (of_a(&start), Verdict::Contradicted),
        (of_a(&not_better), Verdict::Reproduced),
        (of_a(&chance), Verdict::Reproduced),
        // A small loss is a good one.
        (of_a(loss), Verdict::Contradicted),
        // That outputs collapse is no question of learning.
        (of_a(std), Verdict::Undecided),
        (of_a("is = \"collapses\""), Verdict::Undecided),
        (of_a("is = \"does not collapse\""), Verdict::Contradicted),
        (of_b(BETTER), Verdict::Reproduced),
        (of_b(NOT_WORSE), Verdict::Reproduced),
        (of_b(&not_better), Verdict::Contradicted),
    ] {
        assert_eq!(judged.verdict, expected, "{}", judged.asked);
        assert!(judged.seeds.len() == 8 && judged.effect.is_none() && judged.why.is_none(), "{judged:?}");
    }
    // Both diverged: neither is better.
    assert_eq!(World::of(wild.clone(), wild.clone()).judge(BETTER).signs, signs(0, 0, 8));
    // Nor is one number of a run that diverged as good as another.
    let own = "metric = \"em/r2\"\nis = \"not worse than\"\nthan = \"em/r2_linear\"";
    assert_eq!(of_a(own).verdict, Verdict::Contradicted);
    // A number that is none is no better than a run that has none.
    let broken = values(&[f64::NAN; 8]);
    assert_eq!(World::of(broken, tame.clone()).judge(&learns).verdict, Verdict::Contradicted);
    // One of several.
    let some = [vec![End::Diverged; 2], values(&[90.0; 10])].concat();
    assert_eq!(World::of(some, values(&[80.0; 12])).judge(BETTER).signs, signs(10, 2, 0));
}

#[test]
fn a_claim_of_divergence_is_about_how_runs_end() {
    let claim = "is = \"diverges\"";
    assert!(study(claim).unwrap().expects_divergence("a") && !study(claim).unwrap().expects_divergence("b"));
    let judged = |ends: Vec<End>, steps: u64| {
        let mut world = World::of(ends.clone(), ends);
        world.steps = steps;
        world.judge(claim)
    };
    let (wild, tame) = (vec![End::Diverged; 8], values(&[80.0; 8]));
    assert_eq!(judged(wild.clone(), 1000).verdict, Verdict::Reproduced);
    assert_eq!(judged(tame.clone(), 1000).verdict, Verdict::Contradicted);
    assert_eq!(judged([&wild[..5], &tame[..3]].concat(), 1000).signs, signs(5, 3, 0));
    // That a run diverged is a fact after however many steps; that none did is not.
    assert_eq!(judged(wild, 15).verdict, Verdict::Reproduced);
    let few = judged(tame, 15);
    assert_eq!((few.verdict, few.open), (Verdict::Undecided, false));
    assert!(few.why.unwrap().starts_with("15 steps of training decide nothing"));
    assert!(refusal("is = \"diverges\"\nvalue = 1.0").contains("compared with nothing"));
}

#[test]
fn collapse_is_judged_by_spread_and_by_rank() {
    let ends = |z_std: f64, rankme: f64| {
        vec![End::Finished(BTreeMap::from([("val/z_std", z_std), ("val/rankme", rankme)])); 8]
    };
    let judged = |z_std: f64, rankme: f64, dim: usize, claim: &str| {
        let mut world = World::of(ends(z_std, rankme), ends(1.0, 50.0));
        world.dim = dim;
        world.judge(&format!("is = \"{claim}\""))
    };
    for (z_std, rankme, dim, collapsed) in [
        (0.02, 1.2, 128, true),
        (0.95, 40.0, 128, false),
        // Outputs at two points have the std of outputs that spread.
        (0.98, 1.9, 128, true),
        (0.05, 40.0, 128, true),
        // A rank of 2 is not small in two dimensions.
        (0.98, 1.9, 2, false),
    ] {
        let expected = if collapsed { Verdict::Reproduced } else { Verdict::Contradicted };
        let opposite = if collapsed { Verdict::Contradicted } else { Verdict::Reproduced };
        let claims = judged(z_std, rankme, dim, "collapses");
        assert_eq!(claims.verdict, expected, "{z_std} {rankme} {dim}");
        assert_eq!(judged(z_std, rankme, dim, "does not collapse").verdict, opposite);
        let median = |spread: Option<simsiam_em::record::Spread>| spread.unwrap().median.unwrap();
        assert_eq!((median(claims.effect), median(claims.rankme)), (z_std, rankme));
        assert_eq!(claims.asked, "collapses");
    }
    let unknown = World::of(ends(0.02, 1.0), ends(0.02, 1.0)).judge("metric = \"em/r2\"\nis = \"collapses\"");
    assert_eq!(unknown.verdict, Verdict::Reproduced, "by std and RankMe, whatever metric it names");
    assert!(refusal("is = \"collapses\"\nof = \"lowest\"").contains("about the end of runs"));
    assert!(refusal("is = \"does not collapse\"\nthan = \"b\"").contains("compared with nothing"));
    assert!(refusal("is = \"at least\"\nvalue = 1.0").contains("needs `metric`"));
}

/// "Never" was judged by the interval of a mean of maxima.
#[test]
fn a_claim_about_every_run_is_contradicted_by_a_counterexample() {
    let never = "metric = \"em/e_rise\"\nis = \"at most\"\nvalue = 0.001\nevery = true";
    let rises = |rises: &[f64]| World::of(values(rises), values(rises)).judge(never);
    let one = rises(&[0.0, 0.0, 0.5]);
    assert_eq!((one.verdict, one.signs, one.open), (Verdict::Contradicted, signs(2, 1, 0), false));
    assert!(one.every && one.asked.ends_with(", in every run"), "{}", one.asked);
    assert_eq!(rises(&[0.5; 3]).verdict, Verdict::Contradicted);
    assert_eq!(rises(&[0.0; 7]).verdict, Verdict::Undecided);
    assert!(rises(&[0.0; 7]).open);
    assert_eq!(rises(&[0.0; 8]).verdict, Verdict::Reproduced);
    // In most runs it holds.
    let most = never.replace("every = true", "every = false");
    let seeds = [vec![0.0; 17], vec![0.5; 3]].concat();
    assert_eq!(World::of(values(&seeds), values(&seeds)).judge(&most).verdict, Verdict::Reproduced);
    assert_eq!(rises(&seeds).verdict, Verdict::Contradicted);
}

#[test]
fn a_claim_is_judged_on_the_seeds_that_all_its_arms_have() {
    let (ten, eight) = (values(&[90.0; 10]), values(&[80.0; 8]));
    let judged = World::of(ten.clone(), eight.clone()).judge(BETTER);
    assert_eq!((judged.seeds, judged.verdict), ((0..8).collect(), Verdict::Reproduced));
    // Of its own arm alone it has all.
    let alone = World::of(ten.clone(), eight).judge("metric = \"val/knn_top1\"\nis = \"above\"\nvalue = 1.0");
    assert_eq!((alone.seeds.len(), alone.arms), (10, vec!["a".to_string()]));
    let none = World::of(ten.clone(), vec![End::Unfinished; 10]).judge(BETTER);
    assert_eq!((none.verdict, none.open, none.seeds.len()), (Verdict::Undecided, true, 0));
    assert_eq!(none.why.as_deref(), Some("no seed has ended for a and b"));
    // More seeds do not measure what no run measures.
    let bare = vec![End::Finished(BTreeMap::new()); 10];
    let unmeasured = World::of(ten, bare).judge(BETTER);
    assert_eq!((unmeasured.verdict, unmeasured.open), (Verdict::Undecided, false));
    assert_eq!(unmeasured.why.as_deref(), Some("b has no value of val/knn_top1"));
    // Nor is one seed left out without a word: it may be another kind of seed.
    let mut gap = values(&[80.0; 10]);
    gap[3] = End::Finished(BTreeMap::new());
    let gapped = World::of(values(&[90.0; 10]), gap).judge(BETTER);
    assert_eq!((gapped.verdict, gapped.open, gapped.seeds.len()), (Verdict::Undecided, false, 9));
    assert_eq!(gapped.why.as_deref(), Some("b has no value of val/knn_top1 for seed 3"));
    // A counterexample needs no other seed.
    let never = "metric = \"val/knn_top1\"\nis = \"at most\"\nvalue = 85.0\nevery = true";
    let mut gap = values(&[90.0; 10]);
    gap[3] = End::Finished(BTreeMap::new());
    assert_eq!(World::of(gap, values(&[80.0; 10])).judge(never).verdict, Verdict::Contradicted);
}

#[test]
fn a_verdict_that_would_mean_nothing_is_not_given() {
    let judged = |a: f64, classes: u64, steps: u64, claim: &str| {
        let mut world = World::of(values(&[a; 8]), values(&[10.0; 8]));
        (world.classes, world.steps) = (classes, steps);
        world.judge(claim)
    };
    let undecided = |judged: Judged, word: &str| {
        assert_eq!((judged.verdict, judged.open), (Verdict::Undecided, false), "{word}");
        assert!(judged.why.as_ref().is_some_and(|why| why.contains(word)), "{word}: {:?}", judged.why);
    };
    let reproduced = judged(90.0, 2, 50, BETTER);
    assert_eq!((reproduced.verdict, reproduced.why), (Verdict::Reproduced, None));
    undecided(judged(90.0, 2, 49, BETTER), "49 steps");
    undecided(judged(90.0, 1, 1000, BETTER), "one class");
    undecided(judged(90.0, 0, 1000, BETTER), "no labels");
    let above_chance = "metric = \"val/knn_top1\"\nis = \"better than\"\nthan = \"chance\"";
    undecided(judged(90.0, 0, 1000, above_chance), "no labels");
    let spread = "metric = \"val/z_std\"\nis = \"at least\"\nvalue = 0.5";
    assert_eq!(judged(90.0, 1, 1000, spread).verdict, Verdict::Reproduced, "no classes in it");
    assert_eq!(judged(90.0, 0, 1000, spread).verdict, Verdict::Reproduced, "no labels in it");
}

#[test]
fn a_margin_belongs_to_a_comparison_of_arms() {
    for (is, value) in [("at least", 0.5), ("at most", 0.5), ("above", 0.5), ("below", 0.5)] {
        let claim = format!("metric = \"val/z_std\"\nis = \"{is}\"\nvalue = {value}\nmargin = 100.0");
        let message = refusal(&claim);
        assert!(message.contains(is) && message.contains("margin"), "{message}");
    }
}
