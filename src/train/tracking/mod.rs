//! Tracking by the correlation of feature maps (SiamFC; Bertinetto et al. 2016; constants of
//! huanglianghua/siamfc-pytorch 82c01cb): what the first frame shows is looked for in the next
//! ones, by the features of all stages of a backbone but the last.
//!
//! The response at a place is the mean product of both features, over the exemplar's places and all
//! channels. Features are as they were trained, or fine-tuned on sequences ([`Tracker::tune`]).

mod follow;
mod tune;
mod window;

pub use follow::Track;

use super::{Model, Preprocessing};
use crate::data::tracks::{HELD_OUT, SIDE, Sequence};
use crate::device::processor_kernel;
use crate::error::{Error, Result};
use crate::kernel::{Kernel, Precision};
use crate::measure::tracking::{Followed, PRECISION, TrackingConfig};
use crate::network::config::Backbone;
use crate::network::names::{from_torch, running_from_torch, running_to_torch, to_torch};
use crate::network::{Engine, Network, Tensors, correlate};
use crate::recipe::Recipe;
use candle_core::{Device, Tensor};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A search window's side in exemplars'.
const SEARCH: usize = 2;
/// Places along a side of a response at least: those near its middle and others.
const FEWEST_PLACES: usize = 3;
/// Numbers of f32 that a pass holds at most.
const MOST_FLOATS: usize = 1 << 27;

/// Which of the two images a network sees.
#[derive(Clone, Copy)]
enum Seen {
    Exemplar,
    Search,
}

/// Features that are compared, and how images are prepared for them. It computes on the processor,
/// wherever the model is.
pub struct Tracker {
    /// The trunk for exemplars and for search windows, with the same running statistics.
    engines: [Engine; 2],
    /// Its weights (P).
    theta: Tensor,
    kernel: Arc<dyn Kernel>,
    preprocessing: Preprocessing,
    /// Pixels between neighbouring features.
    stride: usize,
}

impl Tracker {
    /// The tracker of `model`, whose backbone is `backbone`, for exemplars of `side` pixels.
    ///
    /// # Errors
    /// [`Error::Usage`] for a backbone without feature maps, or whose maps of such an exemplar are
    /// too small.
    pub fn of(
        model: &Model,
        backbone: &Backbone,
        preprocessing: &Preprocessing,
        side: usize,
    ) -> Result<Tracker> {
        let trunk = |side: usize| Network::trunk(backbone, [side; 2]);
        let (exemplar, search) = (trunk(side)?, trunk(SEARCH * side)?);
        let places = search.output().height - exemplar.output().height + 1;
        if places < FEWEST_PLACES {
            return Err(Error::Usage(format!(
                "an exemplar of {side} pixels leaves a response of {places} × {places} places; at least \
                 {FEWEST_PLACES} × {FEWEST_PLACES} are needed: measure.tracking.exemplar, or --exemplar"
            )));
        }
        let encoder = model.parts().find(|part| part.name == "encoder");
        let encoder = encoder.ok_or_else(|| Error::Failure("a model without an encoder".into()))?;
        let network = encoder.engine.network();
        let theta = encoder.theta.to_device(&Device::Cpu)?.to_vec1()?;
        let named = to_torch(network, &theta).into_iter();
        let named = named.chain(running_to_torch(network, &encoder.engine.running()?));
        let named: Tensors = named.map(|(name, shape, values)| (name, (shape, values))).collect();
        let find = |name: &str| named.get(name);
        let (theta, running) = (from_torch(&exemplar, &find)?, running_from_torch(&exemplar, &find)?);
        let kernel = processor_kernel(Precision::F32)?;
        let theta = Tensor::from_vec(theta, exemplar.theta_len(), &Device::Cpu)?;
        let exemplar = Engine::new(exemplar, kernel.clone())?;
        exemplar.set_running(&running)?;
        let engines = [exemplar.clone(), exemplar.resized(search)?];
        let stride = Network::trunk_stride(backbone)?;
        Ok(Tracker { engines, theta, kernel, preprocessing: preprocessing.clone(), stride })
    }

    /// Sides in pixels of the images that it sees.
    fn side(&self, seen: Seen) -> usize {
        self.engines[seen as usize].network().input().height
    }

    /// Images of side S, one behind the other, as (B, S, S, 3).
    fn images(&self, pixels: Vec<f32>, seen: Seen) -> Result<Tensor> {
        let side = self.side(seen);
        Ok(Tensor::from_vec(pixels, ((), side, side, 3), &Device::Cpu)?)
    }

    /// Features (B, H, W, C) of x (B, S, S, 3): by running statistics, or by the batch's and with
    /// gradients where `theta` is given.
    fn features(&self, x: &Tensor, seen: Seen, theta: Option<&Tensor>) -> Result<Tensor> {
        let engine = &self.engines[seen as usize];
        let output = match theta {
            Some(theta) => engine.train(&x.unsqueeze(0)?, theta)?,
            None => engine.evaluate(x, &self.theta)?.1,
        };
        let map = engine.network().output();
        Ok(output.reshape((x.dim(0)?, map.height, map.width, map.channels))?)
    }

    /// The response (B·m, R, R) of search windows' features (B·m, …) to exemplars' (B, …): a mean,
    /// so that it is of the same size whatever the network.
    fn response(&self, search: &Tensor, exemplar: &Tensor) -> Result<Tensor> {
        let products = exemplar.elem_count() / exemplar.dim(0)?;
        Ok((correlate(search, exemplar, &self.kernel)? / products as f64)?)
    }

    /// Search windows of a pass at most.
    fn batch(&self) -> usize {
        let one = self.engines[Seen::Search as usize].evaluation_floats(1);
        (MOST_FLOATS / one.max(1)).max(1)
    }
}

/// Procedural sequences on which a run of `seed` is judged.
pub fn held_out(seed: u64, count: usize) -> Vec<Sequence> {
    (0..count).map(|index| Sequence::drawn(seed, HELD_OUT, index)).collect()
}

/// How far centres may be apart in procedural sequences: OTB's distance, of frames of 64 pixels.
pub fn threshold() -> f64 {
    PRECISION * SIDE as f64 / 64.0
}

/// The columns of metrics.csv that `recipe` asks for, by `model` as it is now; those of the
/// fine-tuned tracker where `tuned` says so. None for what has no meaning.
///
/// # Errors
/// As [`Tracker::of`]; [`Error::Stopped`] once `stop` is set.
pub fn measured(
    model: &Model,
    recipe: &Recipe,
    tuned: bool,
    stop: &AtomicBool,
) -> Result<Vec<(&'static str, f64)>> {
    let Some(TrackingConfig { sequences, exemplar, tune }) = recipe.measure.tracking else {
        return Ok(Vec::new());
    };
    let preprocessing = Preprocessing::of(&recipe.augment);
    let mut tracker = Tracker::of(model, &recipe.encoder.backbone, &preprocessing, exemplar)?;
    let sequences = held_out(recipe.seed, sequences);
    let mut columns = judged(&tracker, &sequences, stop)?
        .map(|mean| {
            vec![
                ("track/auc", mean.auc),
                ("track/precision", 100.0 * mean.precision),
                ("track/near", 100.0 * mean.near),
            ]
        })
        .unwrap_or_default();
    if tuned && tune > 0 {
        let losses = tracker.tune(recipe.seed, tune, stop)?;
        let mean = if losses.len() == tune { judged(&tracker, &sequences, stop)? } else { None };
        columns.extend(mean.into_iter().flat_map(|mean| {
            [
                ("track/tuned_auc", mean.auc),
                ("track/tuned_precision", 100.0 * mean.precision),
                ("track/tuned_near", 100.0 * mean.near),
            ]
        }));
    }
    Ok(columns)
}

/// The means over `sequences`; none where features are no numbers.
fn judged(tracker: &Tracker, sequences: &[Sequence], stop: &AtomicBool) -> Result<Option<Followed>> {
    let tracks = tracker.follow(sequences, stop)?;
    let one = |(sequence, track): (&Sequence, &Track)| Followed::of(sequence.boxes(), track, threshold());
    let all: Vec<Followed> = sequences.iter().zip(tracks.iter().flatten()).filter_map(one).collect();
    Ok(Followed::mean(&all))
}
