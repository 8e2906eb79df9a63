//! What in a recipe differs from SimSiam's: where a person looks first when outputs collapse.

use super::file::Study;
use super::resolve::Request;
use crate::error::Result;
use crate::recipe::Recipe;
use crate::record::{Keys, differing, flatten, or_absent};

/// The method's keys: a difference in others, such as the data or the size of the network, is no
/// other method.
const OF_THE_METHOD: [&str; 7] =
    ["augment.", "encoder.projector.", "eta.", "objective.", "optim.", "predictor.", "schedule.batch"];
/// A table of one of several kinds: the other kind's keys are not missing from it.
const KINDS: [&str; 2] = ["eta.", "predictor."];

/// The keys in which `recipe` differs from SimSiam's at `scale`, each in words: "eta.none (SimSiam:
/// eta.one-step)", "optim.base_lr = 8.0 (SimSiam: 0.8)". Empty where the recipe is SimSiam's.
///
/// # Errors
/// As [`Study::resolve`].
pub fn unlike_simsiam(recipe: &Recipe, scale: Option<&str>) -> Result<Vec<String>> {
    let request = Request { scale: scale.map(String::from), ..Request::default() };
    let arms = Study::find("simsiam")?.resolve(&request)?;
    let (own, simsiam) =
        (keys(recipe)?, arms.first().map_or_else(|| Ok(Keys::new()), |arm| keys(&arm.recipe))?);
    let kind = |keys: &Keys, prefix: &str| {
        let name = keys.keys().find_map(|key| Some(key.strip_prefix(prefix)?.split('.').next()?.to_string()));
        name.map_or_else(String::new, |name| format!("{prefix}{name}"))
    };
    let mut found = Vec::new();
    let mut replaced = Vec::new();
    for prefix in KINDS {
        let (here, there) = (kind(&own, prefix), kind(&simsiam, prefix));
        if here != there {
            found.push(format!("{here} (SimSiam: {there})"));
            replaced.push(prefix);
        }
    }
    for (name, values) in differing(&[&own, &simsiam]) {
        if !replaced.iter().any(|prefix| name.starts_with(prefix)) {
            found.push(format!("{name} = {} (SimSiam: {})", or_absent(&values[0]), or_absent(&values[1])));
        }
    }
    Ok(found)
}

/// The method's keys of a recipe with their values as TOML.
fn keys(recipe: &Recipe) -> Result<Keys> {
    let table = toml::Table::try_from(recipe)
        .map_err(|e| crate::Error::Failure(format!("cannot write the recipe as TOML: {e}")))?;
    let mut keys = flatten(table);
    keys.retain(|key, _| OF_THE_METHOD.iter().any(|prefix| key.starts_with(prefix)));
    Ok(keys)
}
