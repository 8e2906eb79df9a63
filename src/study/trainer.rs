//! What trains one run: the engine, or in its place a formula ([`super::Formula`]).

use super::job::Job;
use crate::data::objects::ObjectSet;
use crate::data::{DataConfig, Dataset};
use crate::device::ranks::Ranks;
use crate::error::{Error, Result};
use crate::recipe::{Recipe, TransferConfig};
use crate::record::RunDir;
use crate::threads::lock;
use crate::train::{self, Ending, Progress, Resources};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Makes one run in its folder.
pub trait Trainer: Sync {
    /// Trains `job` in `dir` with `resources`, going on where an earlier process stopped; records
    /// metrics and the outcome in `dir`. `stop` asks for a checkpoint and [`Ending::Stopped`].
    ///
    /// # Errors
    /// As [`train::run`]: what makes the run impossible. That it diverged or was stopped is its
    /// ending.
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

/// Images with objects and their digest.
type Objects = Arc<(ObjectSet, String)>;

/// What was asked for of such: the source, how many images of each kind, the seed of those that are
/// drawn.
type Asked = (String, [usize; 3], u64);

/// The training engine; data sets are opened once and shared by all runs that use them.
#[derive(Default)]
pub struct Engine {
    opened: Opened,
    /// Images with objects, by what was asked for.
    objects: Mutex<Vec<(Asked, Objects)>>,
    /// Whether a run of several ranks failed: some of them may wait in the midst of it.
    lost: AtomicBool,
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

    /// The images with objects of `config`, those of `seed` where they are drawn, opened at the
    /// first call.
    ///
    /// # Errors
    /// As [`TransferConfig::open`].
    pub fn objects(&self, config: &TransferConfig, seed: u64) -> Result<Objects> {
        let drawn = if config.is_drawn() { seed } else { 0 };
        let key = (config.data.clone(), [config.size, config.images, config.test_images], drawn);
        let mut opened = lock(&self.objects);
        if let Some((_, objects)) = opened.iter().find(|(known, _)| *known == key) {
            return Ok(objects.clone());
        }
        let set = config.open(seed)?;
        let digest = set.digest()?;
        let objects = Arc::new((set, digest));
        opened.push((key, objects.clone()));
        Ok(objects)
    }
}

/// What the first rank tells the others to do next.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// To share a run.
    Run {
        /// The recipe, as TOML.
        recipe: String,
        /// The run's folder, into which they do not write.
        folder: PathBuf,
        /// The digest of the images.
        images: String,
    },
    /// To end with this exit code.
    End(i32),
}

impl Order {
    /// Tells all ranks.
    ///
    /// # Errors
    /// [`Error::Failure`] where another rank has gone.
    pub fn give(&self, ranks: &dyn Ranks) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|e| Error::Failure(format!("an order to ranks: {e}")))?;
        ranks.broadcast(&text).map(drop)
    }

    /// Waits for the next.
    fn get(ranks: &dyn Ranks) -> Result<Order> {
        let unread = |e| Error::Failure(format!("an order of the first rank: {e}"));
        serde_json::from_slice(&ranks.broadcast(&[])?).map_err(unread)
    }
}

impl Engine {
    /// Whether a run of several ranks failed, so that they cannot be told how to go on.
    pub fn has_lost_ranks(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Shares the runs of the first rank until that ends; its exit code.
    ///
    /// # Errors
    /// As [`train::follow`] and [`Dataset::open`], and [`Error::Usage`] where this rank sees other
    /// images than the first.
    pub fn follow(&self, resources: &Resources, stop: &AtomicBool) -> Result<i32> {
        loop {
            let (recipe, folder, seen) = match Order::get(resources.ranks.as_ref())? {
                Order::End(code) => return Ok(code),
                Order::Run { recipe, folder, images } => (recipe, folder, images),
            };
            let unread =
                |e: toml::de::Error| Error::Failure(format!("the first rank's recipe: {}", e.message()));
            let recipe: Recipe = toml::from_str(&recipe).map_err(unread)?;
            let dataset = self.dataset(&recipe.data)?;
            if dataset.digest != seen {
                let rank = resources.ranks.rank();
                let what = format!(
                    "data.source: rank {rank} sees other images than the first; all read the same ones"
                );
                return Err(Error::Usage(what));
            }
            train::follow(&recipe, &dataset, &folder, resources.clone(), stop)?;
        }
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
        if self.has_lost_ranks() {
            return Err(Error::Failure(
                "not made: the ranks are no longer in step after the error before".into(),
            ));
        }
        // A detector is fine-tuned by the first rank alone; the others wait for the next order.
        if let Some(config) = &job.recipe.transfer {
            let objects = self.objects(config, job.seed)?;
            let (set, digest) = &*objects;
            let ending = train::fine_tune(&job.recipe, (set, digest), dir, resources.threads, stop, watch);
            if matches!(ending, Ok(Ending::Stopped)) {
                stop.store(true, Ordering::Relaxed);
            }
            return ending;
        }
        let dataset = self.dataset(&job.recipe.data)?;
        let shared = resources.ranks.size() > 1;
        if shared {
            let order = Order::Run {
                recipe: job.config()?,
                folder: dir.path().into(),
                images: dataset.digest.clone(),
            };
            order.give(resources.ranks.as_ref())?;
        }
        // What went wrong here alone leaves the others waiting: they are told nothing more.
        let ending = train::run(&job.recipe, &dataset, dir, resources, stop, watch);
        match &ending {
            Err(_) if shared => self.lost.store(true, Ordering::Relaxed),
            // Perhaps another rank was asked: no further run is begun here either.
            Ok(Ending::Stopped) => stop.store(true, Ordering::Relaxed),
            _ => {}
        }
        ending
    }

    fn images(&self, job: &Job) -> Result<Option<String>> {
        match (&job.recipe.closed_form, &job.recipe.transfer) {
            (Some(_), _) => Ok(None),
            (_, Some(config)) => Ok(Some(self.objects(config, job.seed)?.1.clone())),
            (None, None) => Ok(Some(self.dataset(&job.recipe.data)?.digest.clone())),
        }
    }
}
