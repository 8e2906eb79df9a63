//! How many claims of one or several studies have which verdict.

use super::chapter::{VERDICTS, count};
use crate::measure::evidence::e_benjamini_hochberg;
use crate::record::{Answer, AnswerClaim};

/// The false verdicts among the decided ones that a suite may have in the mean.
const RATE: f64 = 0.05;

/// "41 claims of 9 studies: 26 reproduced, 2 contradicted, 13 undecided; at a false discovery rate
/// of 5 % (e-BH) 25 of the 28 decided hold".
///
/// Of several studies, judged by signs, the last part says what the many claims leave of the
/// verdicts.
pub fn tally<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> String {
    let answers: Vec<&Answer> = answers.into_iter().collect();
    let all: Vec<&AnswerClaim> = answers.iter().flat_map(|answer| &answer.claims).collect();
    let parts =
        VERDICTS.map(|verdict| format!("{} {verdict}", all.iter().filter(|c| c.verdict == verdict).count()));
    let (claims, studies) = (count(all.len(), "claim"), count(answers.len(), "study"));
    let together = match holding(&all) {
        (holding, decided) if answers.len() > 1 && decided > 0 => {
            let percent = 100.0 * RATE;
            format!(
                "; at a false discovery rate of {percent} % (e-BH) {holding} of the {decided} decided hold"
            )
        }
        _ => String::new(),
    };
    format!("{claims} of {studies}: {}{together}", parts.join(", "))
}

/// The verdict on a claim and the evidence for and against it; none of an earlier version's.
///
/// A counterexample to "every" is no matter of chance. Of a claim on which a verdict would mean
/// nothing no evidence counts.
fn sides(claim: &AnswerClaim) -> Option<(&str, f64, f64)> {
    let evidence = claim.evidence.as_ref()?;
    let (pro, contra) = match (&claim.why, evidence.every, evidence.fails) {
        (Some(_), ..) => (0.0, 0.0),
        (None, true, 1..) => (0.0, f64::INFINITY),
        (None, true, 0) => (evidence.e_for, 0.0),
        (None, false, _) => (evidence.e_for, evidence.e_against),
    };
    Some((&claim.verdict, pro, contra))
}

/// How many verdicts hold at [`RATE`] over all of `claims`, both sides of which are hypotheses, and
/// how many there are to hold.
fn holding(claims: &[&AnswerClaim]) -> (usize, usize) {
    let judged: Vec<(&str, f64, f64)> = claims.iter().filter_map(|claim| sides(claim)).collect();
    let e: Vec<f64> = judged.iter().flat_map(|(_, pro, contra)| [*pro, *contra]).collect();
    let rejected = e_benjamini_hochberg(&e, RATE);
    let decided: Vec<bool> = judged
        .iter()
        .zip(rejected.chunks(2))
        .filter_map(|((verdict, ..), rejected)| match *verdict {
            "reproduced" => Some(rejected[0]),
            "contradicted" => Some(rejected[1]),
            _ => None,
        })
        .collect();
    (decided.iter().filter(|holds| **holds).count(), decided.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many claims, their verdict, evidence for, evidence against, whether about every run,
    /// why.
    type Same<'a> = (usize, &'a str, f64, f64, bool, Option<&'a str>);

    fn answer(claims: &[Same]) -> Answer {
        let claim = |&(count, verdict, pro, contra, every, why): &Same| {
            let evidence = serde_json::json!({
                "seeds": [10], "arms": ["a"], "holds": 0, "fails": u64::from(contra > 0.0), "ties": 0,
                "e_for": pro, "e_against": contra, "needed": 0, "every": every, "open": false,
                "failing": { "count": 0, "all": 1, "interval_95": [0.0, 1.0] },
            });
            let claim = serde_json::json!({
                "claim": "c", "metric": "", "arm": "a", "asked": "collapses", "verdict": verdict, "decimals": 1,
                "is_difference": false, "effect": null, "evidence": evidence, "why": why,
            });
            std::iter::repeat_n(claim, count)
        };
        let claims: Vec<_> = claims.iter().flat_map(claim).collect();
        serde_json::from_value(serde_json::json!({
            "schema": 1, "study": "s", "title": "t", "question": "q?", "command": "sim run s", "scale": "laptop",
            "sim": "0", "paper": null, "seeds": [10], "metrics": [], "arms": [], "claims": claims, "recipe": {},
            "differences": {}, "machines": [],
        }))
        .unwrap()
    }

    /// Of 2 · 10 hypotheses the k-th largest e-value must be at least 400 / k.
    #[test]
    fn several_studies_say_how_many_verdicts_hold_together() {
        let one = answer(&[(6, "reproduced", 57.0, 0.1, false, None)]);
        let words = "6 claims of 1 study: 6 reproduced, 0 contradicted, 0 undecided";
        assert_eq!(tally([&one]), words, "of one study the verdicts are its own");
        let rest = answer(&[
            (1, "contradicted", 0.1, 90.0, false, None),
            // A counterexample.
            (1, "contradicted", 50.0, 0.1, true, None),
            (2, "undecided", 1e9, 0.0, false, Some("15 steps of training decide nothing")),
        ]);
        // 57 · 8 ≥ 400: all eight.
        let all = tally([&one, &rest]);
        assert!(all.ends_with("; at a false discovery rate of 5 % (e-BH) 8 of the 8 decided hold"), "{all}");
        // 57 · 8 < 480 for 12 claims: the counterexample alone.
        let more = answer(&[(2, "undecided", 1.0, 1.0, false, None)]);
        let fewer = tally([&one, &rest, &more]);
        assert!(fewer.ends_with("(e-BH) 1 of the 8 decided hold"), "{fewer}");
    }
}
