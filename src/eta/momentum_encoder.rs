//! BYOL's E-step: η is the output of a moving average of θ, ξ ← τ·ξ + (1−τ)·θ (Grill et al. 2020;
//! Sec. 6.2 calls it another, smoother way to produce η). MoCo's as well, with a queue of earlier η
//! as negatives (He et al. 2020).

use super::queue::Queue;
use super::{EStep, Frozen, Held, Views, other_views};
use crate::error::{Error, Result};
use candle_core::{CpuStorage, Device, InplaceOp2, Layout, Tensor};
use rayon::prelude::*;
use std::f64::consts::PI;

/// ξ and what moves it.
#[derive(Debug)]
pub struct MomentumEncoder {
    tau: f64,
    /// SGD steps of the whole run, over which τ rises to 1; none where it stays.
    steps: Option<u64>,
    /// SGD steps made.
    step: u64,
    /// The mean age of the θ in ξ, in steps.
    age: f64,
    /// (P); none before the first step, when it is θ.
    xi: Option<Tensor>,
    /// η of earlier batches.
    queue: Option<Queue>,
    /// The queue as it was before the last batch's η joined it, (Q, d).
    negatives: Option<Tensor>,
}

/// What a checkpoint calls the queue.
const QUEUE: &str = "queue";

impl MomentumEncoder {
    /// ξ = θ, with τ rising from `tau` to 1 over so many `steps`, where there are such, and a
    /// `queue` of negatives.
    pub fn new(tau: f64, steps: Option<u64>, queue: Option<Queue>) -> Self {
        Self { tau, steps, step: 0, age: 0.0, xi: None, queue, negatives: None }
    }

    /// τ of this step: 1 − (1 − τ)·½(1 + cos(π·step/steps)).
    fn momentum(&self) -> f64 {
        let Some(steps) = self.steps else { return self.tau };
        let share = self.step as f64 / steps.max(1) as f64;
        1.0 - (1.0 - self.tau) * 0.5 * (1.0 + (PI * share.min(1.0)).cos())
    }
}

/// τ·ξ + (1−τ)·θ, both (P); on the CPU in one pass and in ξ's place.
fn averaged(xi: Tensor, theta: &Tensor, tau: f64) -> Result<Tensor> {
    if !theta.device().is_cpu() {
        return Ok(((xi * tau)? + (theta * (1.0 - tau))?)?);
    }
    xi.inplace_op2(theta, &Average { tau: tau as f32, rest: (1.0 - tau) as f32 })?;
    Ok(xi)
}

struct Average {
    tau: f32,
    rest: f32,
}

/// Numbers per task.
const CHUNK: usize = 1 << 16;

impl InplaceOp2 for Average {
    fn name(&self) -> &'static str {
        "momentum-encoder"
    }

    fn cpu_fwd(
        &self,
        xi: &mut CpuStorage,
        xi_layout: &Layout,
        theta: &CpuStorage,
        theta_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (Some((x0, x1)), Some((t0, t1))) =
            (xi_layout.contiguous_offsets(), theta_layout.contiguous_offsets())
        else {
            candle_core::bail!("theta and its average must be contiguous");
        };
        let (CpuStorage::F32(xi), CpuStorage::F32(theta)) = (xi, theta) else {
            candle_core::bail!("theta and its average must be f32");
        };
        let (xi, theta) = (&mut xi[x0..x1], &theta[t0..t1]);
        if xi.len() != theta.len() {
            candle_core::bail!("theta and its average differ in length");
        }
        xi.par_chunks_mut(CHUNK).zip(theta.par_chunks(CHUNK)).for_each(|(xi, theta)| {
            for (x, t) in xi.iter_mut().zip(theta) {
                *x = self.tau * *x + self.rest * t;
            }
        });
        Ok(())
    }
}

impl EStep for MomentumEncoder {
    fn begin(&mut self, frozen: Frozen) -> Result<()> {
        let theta = frozen.theta()?;
        let tau = self.momentum();
        self.xi = Some(match self.xi.take() {
            None => theta.copy()?,
            Some(xi) => {
                // From a checkpoint it comes to the CPU.
                let xi = xi.to_device(theta.device())?;
                self.age = tau * (self.age + 1.0);
                averaged(xi, &theta, tau)?
            }
        });
        self.step += 1;
        Ok(())
    }

    fn targets(&mut self, views: &Views, z: &Tensor, frozen: Frozen) -> Result<Tensor> {
        let Some(xi) = &self.xi else {
            return Err(Error::Failure(
                "a momentum encoder was asked for targets before its first E-step".into(),
            ));
        };
        let others = other_views(&views.x)?.narrow(0, 0, z.dim(0)?)?;
        let eta = frozen.z_by(xi, &others)?.detach();
        if let Some(queue) = &mut self.queue {
            self.negatives = Some(queue.tensor(eta.device())?);
            queue.push(&eta)?;
        }
        Ok(eta)
    }

    fn negatives(&self) -> Option<&Tensor> {
        self.negatives.as_ref()
    }

    fn age(&self, _: &Views) -> f64 {
        self.age
    }

    fn state(&self) -> Result<Vec<Held<'_>>> {
        let Some(xi) = &self.xi else { return Ok(Vec::new()) };
        // Two f32 hold a step exactly, and an age to more digits than it is shown with.
        let (high, low) = ((self.step >> 24) as f32, (self.step & 0xff_ffff) as f32);
        let age = [self.age as f32, (self.age - f64::from(self.age as f32)) as f32];
        let mut held: Vec<Held<'_>> = vec![
            ("xi".into(), xi.dims().to_vec(), xi.to_vec1::<f32>()?.into()),
            ("counts".into(), vec![4], vec![high, low, age[0], age[1]].into()),
        ];
        if let Some(queue) = &self.queue {
            held.extend(queue.state(QUEUE)?);
        }
        Ok(held)
    }

    fn restore(&mut self, held: Vec<Held<'static>>) -> Result<()> {
        for (name, shape, values) in held {
            let unread = |e| Error::Failure(format!("the checkpoint's momentum encoder cannot be read: {e}"));
            let values = values.into_f32().map_err(unread)?;
            let part = name.strip_prefix(QUEUE).and_then(|rest| rest.strip_prefix('.'));
            if let (Some(part), Some(queue)) = (part, &mut self.queue) {
                queue.restore(part, values)?;
                continue;
            }
            match (name.as_str(), &values[..]) {
                ("counts", &[high, low, age, rest]) => {
                    self.step = ((high as u64) << 24) + low as u64;
                    self.age = f64::from(age) + f64::from(rest);
                }
                ("xi", _) => self.xi = Some(Tensor::from_vec(values, shape, &Device::Cpu)?),
                _ => return Err(Error::Failure(format!("the checkpoint's momentum encoder has '{name}'"))),
            }
        }
        Ok(())
    }
}
