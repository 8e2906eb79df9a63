//! What trains one run: the engine, or in its place a formula ([`super::Formula`]).

use super::job::Job;
use crate::data::{DataConfig, Dataset};
use crate::error::Result;
use crate::record::RunDir;
use crate::threads::lock;
use crate::train::{self, Ending, Progress, Resources};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// Makes one run in its folder.
pub trait Trainer: Sync {
    /// Trains `job` in `dir` with `resources`, going on where an earlier process stopped; records
    /// metrics and the outcome in `dir`. `stop` asks for a checkpoint and [`Ending::Stopped`].
    fn train(
        &self,
        job: &Job,
        dir: &RunDir,
        resources: Resources,
        stop: &AtomicBool,
        watch: &(dyn Fn(Progress) + Sync),
    ) -> Result<Ending>;

    /// The digest of the images that `job` is made from; none where it sees none.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    fn images(&self, job: &Job) -> Result<Option<String>>;
}

/// Data sets that were opened, by what was asked for.
type Opened = Mutex<Vec<(DataConfig, Arc<Mutex<Option<Arc<Dataset>>>>)>>;

/// The training engine; data sets are opened once and shared by all runs that use them.
#[derive(Default)]
pub struct Engine {
    opened: Opened,
}

impl Engine {
    /// The data set of `config`, opened at the first call; others that need the same one wait.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn dataset(&self, config: &DataConfig) -> Result<Arc<Dataset>> {
        let place = {
            let mut opened = lock(&self.opened);
            match opened.iter().find(|(known, _)| known == config) {
                Some((_, place)) => place.clone(),
                None => {
                    let place = Arc::new(Mutex::new(None));
                    opened.push((config.clone(), place.clone()));
                    place
                }
            }
        };
        let mut place = lock(&place);
        if let Some(dataset) = &*place {
            return Ok(dataset.clone());
        }
        let dataset = Arc::new(Dataset::open(config)?);
        *place = Some(dataset.clone());
        Ok(dataset)
    }
}

impl Trainer for Engine {
    fn train(
        &self,
        job: &Job,
        dir: &RunDir,
        resources: Resources,
        stop: &AtomicBool,
        watch: &(dyn Fn(Progress) + Sync),
    ) -> Result<Ending> {
        let dataset = self.dataset(&job.recipe.data)?;
        train::run(&job.recipe, &dataset, dir, resources, stop, watch)
    }
    fn images(&self, job: &Job) -> Result<Option<String>> {
        match job.recipe.closed_form {
            Some(_) => Ok(None),
            None => Ok(Some(self.dataset(&job.recipe.data)?.digest.clone())),
        }
    }
}
