//! A run that fine-tunes a detector: rows, checkpoints, and what it leaves at its end.

use super::found::{precision, results};
use super::training::Training;
use super::{Judged, Start};
use crate::data::objects::ObjectSet;
use crate::device::{Place, Site};
use crate::error::{Error, Result, go_on};
use crate::files;
use crate::kernel::Precision;
use crate::measure::metrics::DETECTION;
use crate::recipe::{Beginning, Recipe, TransferConfig};
use crate::record::{
    DETECTIONS_FILE, DETECTOR_FILE, INIT, MetricsLog, Outcome, PRECISION_FILE, RunDir, SavedTensor, Snapshot,
    digest_file, read_env,
};
use crate::train::environment::{of_detector, resumed};
use crate::train::records::Records;
use crate::train::state::{saw, told};
use crate::train::weights::safetensors_of;
use crate::train::{Ending, Preprocessing, Pretrained, Progress, pool};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// In a checkpoint: steps since the last row, the sum of their losses, seconds so far.
const COUNT: &str = "row.steps";
const SUM: &str = "row.loss";
const WALL: &str = "wall_s";

/// Fine-tunes the detector of `recipe` on `set`, whose images `digest` tells, to its end, from its
/// newest checkpoint if it has one, on so many `threads` of the processor.
///
/// # Errors
/// As [`super::transfer`], and as [`crate::train::run`].
pub fn fine_tune(
    recipe: &Recipe,
    (set, digest): (&ObjectSet, &str),
    dir: &RunDir,
    threads: usize,
    stop: &AtomicBool,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Ending> {
    if let Some(outcome) = dir.whole_outcome()? {
        return Ok(outcome.into());
    }
    recipe.check()?;
    let config =
        recipe.transfer.as_ref().ok_or_else(|| Error::Failure("a recipe without transfer".into()))?;
    pool(threads)?.install(|| {
        let site = Place::Cpu.open()?;
        let weights =
            recipe.encoder.init.as_deref().map(|init| Pretrained::open(Path::new(init))).transpose()?;
        let snapshot = dir.resume()?;
        dir.take_notes().into_iter().for_each(|note| watch(Progress::Note(note)));
        if snapshot.as_ref().is_some_and(|snapshot| saw(snapshot, digest) == Some(false)) {
            let what =
                "the images have changed since this run was made; --fresh starts over, --out DIR keeps both";
            return Err(Error::data(dir.path(), what));
        }
        let start = start(recipe, config, weights.as_ref());
        let training = Training::new(config, &start, set, &site.host_kernel(Precision::F32)?)?;
        let around = Around { recipe, config, set, digest, dir, stop, watch };
        let mut run = Run::open(&around, training, snapshot)?;
        run.write_env(&site, weights.as_ref())?;
        watch(Progress::Begun { steps: config.steps, resumed_at: run.step });
        let ending = run.finish()?;
        if let Ending::Diverged { step } = ending {
            run.log.ended(run.step, false)?;
            dir.set_outcome(&Outcome::Diverged { step })?;
        }
        Ok(ending)
    })
}

/// What the detector of `recipe` begins with, where `weights` are what its recipe names.
fn start<'a>(recipe: &Recipe, config: &TransferConfig, weights: Option<&'a Pretrained>) -> Start<'a> {
    let own = || Preprocessing::of(&recipe.augment);
    Start {
        backbone: recipe.encoder.backbone.clone(),
        preprocessing: weights.map_or_else(own, |weights| weights.preprocessing.clone()),
        weights,
        permuted: config.from == Beginning::Permuted,
        seed: recipe.seed,
    }
}

/// What surrounds a run.
struct Around<'a> {
    recipe: &'a Recipe,
    config: &'a TransferConfig,
    set: &'a ObjectSet,
    digest: &'a str,
    dir: &'a RunDir,
    stop: &'a AtomicBool,
    watch: &'a (dyn Fn(Progress) + Sync),
}

/// A run on its way.
struct Run<'a> {
    around: &'a Around<'a>,
    training: Training,
    log: MetricsLog,
    step: u64,
    /// Steps since the last row, and the sum of their losses.
    since: (u64, f64),
    saved: Option<u64>,
    wall_before: f64,
    begun: Instant,
}

impl<'a> Run<'a> {
    /// The run at `snapshot`, or at its start, of which it writes the row.
    fn open(
        around: &'a Around<'a>,
        training: Training,
        snapshot: Option<Snapshot<'static>>,
    ) -> Result<Run<'a>> {
        let log = around.dir.metrics(&around.recipe.columns())?;
        let (since, begun) = ((0, 0.0), Instant::now());
        let mut run = Run { around, training, log, step: 0, since, saved: None, wall_before: 0.0, begun };
        match snapshot {
            Some(snapshot) => run.restore(snapshot).map_err(|error| error.in_file(around.dir.path()))?,
            None => run.log.row(0, 0.0, 0, run.wall_s(), &[])?,
        }
        Ok(run)
    }

    fn restore(&mut self, snapshot: Snapshot<'static>) -> Result<()> {
        let missing = |name: &str| Error::Failure(format!("the checkpoint lacks '{name}'"));
        let integer = |name: &str| snapshot.integers.get(name).copied().ok_or_else(|| missing(name));
        self.since = (integer(COUNT)?, f64::from_bits(integer(SUM)?));
        self.wall_before = f64::from_bits(integer(WALL)?);
        (self.step, self.saved) = (snapshot.step, Some(snapshot.step));
        let mut tensors = snapshot.tensors;
        self.training.restore(|name| {
            let place = tensors.iter().position(|tensor| tensor.name == name).ok_or_else(|| missing(name))?;
            tensors
                .swap_remove(place)
                .data
                .into_f32()
                .map_err(|error| Error::Failure(format!("the checkpoint's '{name}': {error}")))
        })
    }

    fn save(&mut self) -> Result<()> {
        let of_training = self.training.state()?.into_iter();
        let tensors = of_training.map(|(name, values)| SavedTensor {
            name: name.to_string(),
            shape: vec![values.len()],
            data: values.into(),
        });
        let integers = BTreeMap::from([
            (COUNT.to_string(), self.since.0),
            (SUM.to_string(), self.since.1.to_bits()),
            (WALL.to_string(), self.wall_s().to_bits()),
            told(self.around.digest),
        ]);
        let snapshot = Snapshot { step: self.step, tensors: tensors.collect(), integers };
        self.around.dir.save(&snapshot, &mut self.log)?;
        self.saved = Some(self.step);
        (self.around.watch)(Progress::Saved { step: self.step });
        Ok(())
    }

    /// To its end, or until it is asked to stop, at a place from which a checkpoint goes on.
    fn finish(&mut self) -> Result<Ending> {
        match self.go() {
            Err(Error::Stopped) => {
                if self.step > 0 && self.saved != Some(self.step) {
                    self.save()?;
                }
                Ok(Ending::Stopped)
            }
            ended => ended,
        }
    }

    fn go(&mut self) -> Result<Ending> {
        let Around { config, stop, watch, .. } = *self.around;
        while self.step < config.steps {
            if self.since.0 > 0 && self.step.is_multiple_of(config.every) {
                self.row(&[])?;
            }
            go_on(stop)?;
            let loss = self.training.step(self.step)?;
            if !loss.is_finite() {
                return Ok(Ending::Diverged { step: self.step });
            }
            self.step += 1;
            self.since = (self.since.0 + 1, self.since.1 + loss);
            let epoch = config.epochs(self.step);
            watch(Progress::Step { step: self.step, epoch, loss, z_std: f64::NAN });
            // The last one is saved before the detector is judged, which takes long.
            if self.step.is_multiple_of(config.every) || self.step == config.steps {
                self.save()?;
            }
        }
        // The last step may have led where no loss was taken any more.
        if !self.training.is_finite()? {
            return Ok(Ending::Diverged { step: config.steps - 1 });
        }
        let judged = self.training.judged(self.around.set, stop)?;
        self.row(&numbers(&judged))?;
        self.leave(&judged)?;
        Ok(Ending::Finished)
    }

    /// Writes the row of the steps since the last one, with `values` beside them.
    fn row(&mut self, values: &[(&'static str, f64)]) -> Result<()> {
        let Around { config, watch, .. } = *self.around;
        let (steps, sum) = std::mem::take(&mut self.since);
        let (step, epoch) = (self.step, config.epochs(self.step));
        let mut all = vec![("train/loss", sum / steps as f64), ("train/lr", config.lr(step - 1))];
        all.extend(values);
        self.log.row(step, epoch, step * config.batch as u64, self.wall_s(), &all)?;
        watch(Progress::Measured { step, epoch, values: all });
        Ok(())
    }

    /// Writes what a finished run leaves.
    fn leave(&mut self, judged: &Judged) -> Result<()> {
        let records = Records::of(self.around.dir);
        records.write(DETECTOR_FILE, &safetensors_of(self.training.tensors()?, None)?)?;
        records.write(DETECTIONS_FILE, &results(&judged.found)?)?;
        records.write(PRECISION_FILE, &precision(judged)?)?;
        self.log.ended(self.step, true)?;
        records.set_outcome(&Outcome::Finished)
    }

    fn write_env(&self, site: &Site, weights: Option<&Pretrained>) -> Result<()> {
        let Around { recipe, config, set, digest, dir, .. } = *self.around;
        let drawn = config.is_drawn() || recipe.data.is_procedural();
        let seed = drawn.then_some(recipe.seed);
        let mut now = of_detector(set, digest, config.images, seed, site)?;
        if let Some(weights) = weights {
            now[INIT] = init(&weights.path)?;
        }
        let before = read_env(dir.path())?.filter(|_| self.step > 0);
        dir.write_env(&resumed(now, before.as_ref(), self.step))
    }

    fn wall_s(&self) -> f64 {
        self.wall_before + self.begun.elapsed().as_secs_f64()
    }
}

/// What env.json keeps of the weights in `file`.
fn init(file: &Path) -> Result<Value> {
    let digest = digest_file(file, files::WEIGHTS)?.map(|digested| digested.sha256);
    Ok(json!({"weights": file.display().to_string(), "sha256": digest, "taken": ["backbone"]}))
}

/// The columns of what was judged, in percent; none for what has no meaning.
fn numbers(judged: &Judged) -> Vec<(&'static str, f64)> {
    let kinds = [Some(&judged.boxes), judged.masks.as_ref()];
    let each = DETECTION.len() / kinds.len();
    let of_kind = |(kind, coco): (usize, Option<&crate::measure::average_precision::Coco>)| {
        let columns = DETECTION[kind * each..].iter().take(each);
        let values = coco.map(|coco| coco.numbers).into_iter().flatten();
        columns
            .zip(values)
            .filter_map(|(column, value)| Some((column.name, 100.0 * value?)))
            .collect::<Vec<_>>()
    };
    kinds.into_iter().enumerate().flat_map(of_kind).collect()
}
