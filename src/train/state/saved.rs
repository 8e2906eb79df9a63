//! A run's state as a checkpoint holds it.

use super::{EpochSums, State};
use crate::error::{Error, Result};
use crate::eta::Held;
use crate::measure::metrics;
use crate::record::{SavedTensor, Snapshot};
use crate::train::records::Records;
use std::collections::BTreeMap;

/// What the measurement of L is called in a checkpoint.
const HALF_STEPS: &str = "half_steps.";
/// What the comparison of the last step's η is called in a checkpoint.
const ETA_GAP: &str = "eta_gap.";
/// The batches that an E-step in progress has read, in a checkpoint.
const READ: &str = "e_step.read";

/// What tells the images of the run, in a checkpoint.
const IMAGES: &str = "images";

/// The first 64 bits of a digest in hexadecimal digits.
pub(super) fn number_of(digest: &str) -> u64 {
    digest.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// What a checkpoint keeps of the images with this digest.
pub fn told(digest: &str) -> (String, u64) {
    (IMAGES.to_string(), number_of(digest))
}

/// Whether the run of `snapshot` saw the images with this digest; none where an earlier version
/// saved it, which did not say.
pub fn saw(snapshot: &Snapshot, digest: &str) -> Option<bool> {
    Some(*snapshot.integers.get(IMAGES)? == number_of(digest))
}

/// The tensor of a checkpoint that holds the moments of a predictor that is set.
const CORRELATION: &str = "predictor.correlation";

impl State {
    /// Saves a checkpoint.
    pub fn save(&mut self, records: Records) -> Result<()> {
        let mut tensors = Vec::new();
        for (part, sgd) in self.alternation.model.parts().zip(&self.alternation.momentum) {
            let mut add = |kind: &str, values: Vec<f32>| {
                let shape = vec![values.len()];
                tensors.push(SavedTensor {
                    name: format!("{}.{kind}", part.name),
                    shape,
                    data: values.into(),
                });
            };
            add("theta", part.theta.to_vec1()?);
            add("velocity", sgd.velocity()?);
            add("running", part.engine.running()?);
        }
        if let Some(direct) = &self.alternation.direct {
            let (shape, data) = (direct.shape(), direct.moments().into());
            tensors.push(SavedTensor { name: CORRELATION.into(), shape, data });
        }
        for (name, shape, data) in self.alternation.rule.state()? {
            tensors.push(SavedTensor { name: format!("eta.{name}"), shape, data });
        }
        let mut integers = BTreeMap::from([
            ("epoch.steps".to_string(), self.epoch.steps),
            ("epoch.loss".to_string(), self.epoch.loss.to_bits()),
            ("epoch.z_std".to_string(), self.epoch.z_std.to_bits()),
            ("epoch.lr".to_string(), self.epoch.lr.to_bits()),
            ("e_passed".to_string(), self.e_passed),
            ("wall_s".to_string(), self.wall_s().to_bits()),
            (IMAGES.to_string(), self.images),
        ]);
        let gap = self.eta_gap.iter().map(|(column, value)| (format!("{ETA_GAP}{column}"), value.to_bits()));
        integers.extend(gap);
        if self.alternation.read > 0 {
            integers.insert(READ.to_string(), self.alternation.read);
        }
        if let Some(half_steps) = &self.half_steps {
            let named =
                |(name, shape, data)| SavedTensor { name: format!("{HALF_STEPS}{name}"), shape, data };
            tensors.extend(half_steps.tensors()?.into_iter().map(named));
            let numbers =
                half_steps.numbers().into_iter().map(|(name, value)| (format!("{HALF_STEPS}{name}"), value));
            integers.extend(numbers);
        }
        records.save(&Snapshot { step: self.step, tensors, integers }, self.logs.as_mut())
    }

    pub(super) fn restore(&mut self, snapshot: Snapshot<'static>) -> Result<()> {
        let integer = |name: &str| {
            let missing = || Error::Failure(format!("the checkpoint lacks '{name}'"));
            snapshot.integers.get(name).copied().ok_or_else(missing)
        };
        self.epoch = EpochSums {
            steps: integer("epoch.steps")?,
            loss: f64::from_bits(integer("epoch.loss")?),
            z_std: f64::from_bits(integer("epoch.z_std")?),
            lr: f64::from_bits(integer("epoch.lr")?),
        };
        self.e_passed = integer("e_passed")?;
        self.wall_before = f64::from_bits(integer("wall_s")?);
        (self.step, self.unmeasured) = (snapshot.step, false);
        self.alternation.read = integer(READ).unwrap_or(0);
        let gap = |column| Some((column, f64::from_bits(integer(&format!("{ETA_GAP}{column}")).ok()?)));
        self.eta_gap = metrics::all().map(|metric| metric.name).filter_map(gap).collect();
        let mut tensors: BTreeMap<String, SavedTensor> =
            snapshot.tensors.into_iter().map(|t| (t.name.clone(), t)).collect();
        let mut take = |name: String| {
            let missing = || Error::Failure(format!("the checkpoint lacks '{name}'"));
            let data = tensors.remove(&name).ok_or_else(missing)?.data;
            data.into_f32().map_err(|e| Error::Failure(format!("the checkpoint's '{name}': {e}")))
        };
        for (part, sgd) in self.alternation.model.parts().zip(&mut self.alternation.momentum) {
            let name = part.name;
            self.alternation.model.set(
                name,
                take(format!("{name}.theta"))?,
                &take(format!("{name}.running"))?,
            )?;
            let fail = |e| Error::Failure(format!("the checkpoint's '{name}': {e}"));
            sgd.restore(&take(format!("{name}.velocity"))?).map_err(fail)?;
        }
        if let Some(direct) = &mut self.alternation.direct {
            direct.restore(take(CORRELATION.into())?)?;
        }
        let mut held = |prefix: &str| -> Vec<Held<'static>> {
            let names: Vec<String> =
                tensors.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
            let take = |name: String| {
                let t = tensors.remove(&name)?;
                Some((name[prefix.len()..].to_string(), t.shape, t.data))
            };
            names.into_iter().filter_map(take).collect()
        };
        self.alternation.rule.restore(held("eta."))?;
        match &mut self.half_steps {
            Some(half_steps) => {
                half_steps.restore(held(HALF_STEPS), &|name| integer(&format!("{HALF_STEPS}{name}")))
            }
            None => Ok(()),
        }
    }
}
