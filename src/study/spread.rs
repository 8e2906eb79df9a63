//! How values spread over seeds.

use crate::measure::estimate::Estimate;
use crate::measure::evidence::{clopper_pearson, quartiles};
use crate::record::{AnswerRun, Share, Spread};

/// Points of kNN below its arm's median from which on a run is slow.
const SLOW: f64 = 5.0;

/// The spread of `values` by seed; `less_is_worse` says which end is the worst, `range` what values
/// are possible, beyond which no interval goes. None without values.
///
/// Where a value is not finite the mean is none and so is the worst; median and quartiles are those
/// of the others.
pub fn spread(values: &[(u64, f64)], less_is_worse: bool, range: (f64, f64)) -> Option<Spread> {
    let all: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
    let estimate = Estimate::of(&all)?;
    let finite: Vec<(u64, f64)> = values.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let numbers: Vec<f64> = finite.iter().map(|(_, value)| *value).collect();
    let least = numbers.iter().copied().reduce(f64::min);
    let most = numbers.iter().copied().reduce(f64::max);
    let (worst, best) = if less_is_worse { (least, most) } else { (most, least) };
    let quartiles = quartiles(&numbers);
    let mean = Some(estimate.mean).filter(|mean| mean.is_finite());
    let half_width_95 = estimate.half_width.filter(|half| half.is_finite());
    let ends = |(mean, half): (f64, f64)| [(mean - half).max(range.0), (mean + half).min(range.1)];
    Some(Spread {
        seeds: values.len(),
        mean,
        half_width_95,
        interval_95: mean.zip(half_width_95).map(ends),
        median: quartiles.map(|[_, median, _]| median),
        quartiles: quartiles.map(|[low, _, high]| [low, high]),
        worst: worst.filter(|_| finite.len() == values.len()),
        best,
        values: finite,
    })
}

/// The share of the `runs` of an arm that diverged or ended [`SLOW`] points below the median of
/// `knn`, of those that ended; none where none did.
pub fn slow(runs: &[AnswerRun], knn: Option<&Spread>) -> Option<Share> {
    let ended = runs.iter().filter(|run| run.end != "unfinished").count() as u64;
    let diverged = runs.iter().filter(|run| run.end.starts_with("diverged")).count();
    let below = knn.map_or(0, |knn| {
        let bound = knn.median.map_or(f64::NEG_INFINITY, |median| median - SLOW);
        knn.values.iter().filter(|(_, value)| *value < bound).count()
    });
    let count = (diverged + below) as u64;
    let (low, high) = clopper_pearson(count, ended);
    (ended > 0).then_some(Share { count, all: ended, interval_95: [low, high] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(end: &str) -> AnswerRun {
        AnswerRun { seed: 0, end: end.to_string(), wall_s: None }
    }

    #[test]
    fn slow_runs_lie_more_than_five_points_below_the_median() {
        let knn = [98.0, 99.0, 94.0, 99.5, 93.9].map(|knn| (0, knn));
        let knn = spread(&knn, true, (0.0, 100.0)).unwrap();
        let mut runs = vec![run("finished"); 5];
        // The median is 98; 5 points below it lie at 93.
        assert_eq!(slow(&runs, Some(&knn)).unwrap().count, 0);
        let slower = spread(&[98.0, 99.0, 93.0, 99.5, 92.9].map(|knn| (0, knn)), true, (0.0, 100.0)).unwrap();
        let share = slow(&runs, Some(&slower)).unwrap();
        assert_eq!((share.count, share.all), (1, 5));
        runs.extend([run("diverged at step 7"), run("unfinished")]);
        let share = slow(&runs, Some(&slower)).unwrap();
        assert_eq!((share.count, share.all), (2, 6));
        assert_eq!(slow(&[run("unfinished")], None), None);
    }

    #[test]
    fn a_value_that_is_none_has_no_worst_seed_beside_it() {
        let spread = spread(&[(3, 1.0), (4, f64::NAN), (5, 2.0)], false, (0.0, 1.0)).unwrap();
        assert_eq!((spread.seeds, spread.mean, spread.worst, spread.best), (3, None, None, Some(1.0)));
        assert_eq!((spread.median, &spread.values[..]), (Some(1.5), &[(3, 1.0), (5, 2.0)][..]));
    }
}
