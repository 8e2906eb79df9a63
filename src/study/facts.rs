//! What a table of methods says of each beside accuracy, as the paper's Table 4 does.

use super::head::Fact;
use super::resolve::Arm;
use crate::error::Result;
use crate::eta::Rule;
use crate::objective::Similarity;
use crate::record::{AnswerFact, AnswerRun};
use crate::train::memory_bytes;

/// `fact` of `arm`, whose ended `runs` saw `images` training images.
///
/// # Errors
/// [`crate::Error::Usage`] for a recipe whose networks cannot be made.
pub fn fact(fact: Fact, arm: &Arm, runs: &[AnswerRun], images: Option<usize>) -> Result<AnswerFact> {
    let recipe = &arm.recipe;
    let unknown = || "-".to_string();
    let (title, value) = match fact {
        Fact::Batch => ("batch", recipe.schedule.batch.to_string()),
        Fact::Negatives => {
            let negatives = match (recipe.objective.similarity, recipe.eta.negatives()) {
                (Similarity::InfoNce, 0) => "batch".to_string(),
                (Similarity::InfoNce, queue) => format!("queue of {queue}"),
                (Similarity::Contrastive, _) => "other classes".to_string(),
                _ => "no".to_string(),
            };
            ("negatives", negatives)
        }
        Fact::MomentumEncoder => {
            let momentum = matches!(recipe.eta, Rule::MomentumEncoder { tau, .. } if tau > 0.0);
            ("momentum encoder", if momentum { "yes" } else { "no" }.to_string())
        }
        Fact::EpochSeconds => {
            let finished = runs.iter().filter(|run| run.end == "finished");
            let seconds: Vec<f64> = finished.filter_map(|run| run.wall_s).collect();
            let mean =
                seconds.iter().sum::<f64>() / seconds.len() as f64 / recipe.schedule.own_epochs() as f64;
            ("s / epoch", if seconds.is_empty() { unknown() } else { format!("{mean:.2}") })
        }
        Fact::Memory => {
            // A processor that cannot train the recipe, as a GPU did, does not tell.
            let bytes = images.and_then(|images| memory_bytes(recipe, images).ok());
            (
                "MiB, reckoned",
                bytes.map_or_else(unknown, |bytes| format!("{:.0}", bytes as f64 / f64::from(1 << 20))),
            )
        }
    };
    Ok(AnswerFact { title: title.to_string(), value })
}
