//! E-step rules as a recipe names them: numbers, ranges, and what is built of them.

use super::{
    BankPlace, EStep, Expectation, Filtered, KStep, Labels, MeanOfOthers, MemoryBank, MomentumEncoder,
    OneStep, Queue, Samples, Sinkhorn, Steps, Twins, bank_bytes,
};
use crate::defaults::{is_default, is_yes, yes};
use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::kernel::spectral::Filter;
use serde::{Deserialize, Serialize};

/// Which E-step rule a run uses, and its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rule {
    /// One sample of the other view, from the M-step's own pass: SimSiam.
    OneStep {},
    /// One sample of the other view, for the images of the next k batches at once, kept for the k
    /// SGD steps on θ that train on them (Sec. 5.2).
    KStep {
        /// Steps per alternation.
        k: Steps,
    },
    /// The mean over all other views of the batch, as many as `objective.pairs` makes.
    MeanOfOthers {},
    /// One sample of the other view through a filter of the batch's singular values (Zhuo et al.
    /// 2023).
    Filtered {
        /// What becomes of a singular value.
        #[serde(default, skip_serializing_if = "is_default")]
        filter: Filter,
        /// σ of the power r^σ with which an axis is multiplied: η = U s^(1+σ) Vᵀ.
        #[serde(default, skip_serializing_if = "is_default")]
        sigma: f64,
        /// What is added to r², as a part of its mean over axes.
        #[serde(default, skip_serializing_if = "is_default")]
        ridge: f64,
    },
    /// One sample of the other view, made white over the batch: the exact E-step under ηᵀη = n·I.
    Whitened {
        /// What is added to r², as a part of its mean over axes.
        ridge: f64,
    },
    /// A moving average for each image (Sec. 5.2).
    MemoryBank {
        /// Momentum m: the part of the old value that stays.
        m: f64,
        /// How its numbers are kept: `"f32"`, or `"bf16"` in half the bytes.
        #[serde(default, skip_serializing_if = "is_default")]
        precision: Precision,
        /// SGD steps per alternation: η of the next k batches moves with one θ, as in k-step.
        #[serde(default = "Steps::one", skip_serializing_if = "Steps::is_one")]
        k: Steps,
    },
    /// A mean over samples, or over all of a finite T (Sec. 5.1, eq. 9).
    Expectation {
        /// Samples n, each a view that no term of the loss shows; or "all".
        n: Samples,
        /// Whether the mean is that of z/‖z‖ instead of z.
        normalised: bool,
        /// SGD steps per alternation.
        #[serde(default = "Steps::one", skip_serializing_if = "Steps::is_one")]
        k: Steps,
        /// Momentum m: the part of the old value that stays.
        #[serde(default, skip_serializing_if = "is_default")]
        m: f64,
    },
    /// The output of a moving average of θ: BYOL, MoCo.
    MomentumEncoder {
        /// Momentum τ at the first step.
        tau: f64,
        /// Whether it rises to 1 at the last step, by half a cosine (BYOL), or stays (MoCo).
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        rises: bool,
        /// Outputs of earlier batches that are kept as negatives (MoCo).
        #[serde(default, skip_serializing_if = "is_default")]
        queue: usize,
    },
    /// The batch's balanced codes: SwAV.
    Sinkhorn {
        /// ε: the larger, the more even a code.
        epsilon: f64,
        /// Normalisations of columns and rows.
        iterations: usize,
        /// Whether the codes are constants; Table 6b differentiates through them.
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        stop_gradient: bool,
        /// Outputs of earlier batches that are assigned together with a batch, for each view.
        #[serde(default, skip_serializing_if = "is_default")]
        queue: usize,
        /// The epoch from which on they are kept.
        #[serde(default, skip_serializing_if = "is_default")]
        queue_from_epoch: u64,
    },
    /// The images' classes: supervised training.
    Labels {},
    /// The one sample with gradient: no stop-gradient (Fig. 2), and SimCLR.
    None {},
}

/// More samples of an expectation are taken for a slip of the hand.
const MOST_SAMPLES: usize = 256;

/// More rows of a queue are taken for a slip of the hand; MoCo has 65,536.
const MOST_QUEUED: usize = 1 << 22;
/// More iterations of Sinkhorn–Knopp are taken for a slip of the hand; SwAV has 3.
const MOST_ITERATIONS: usize = 1000;

impl Rule {
    /// Every rule in reading order, with the paper's numbers; help, docs and tests iterate over it.
    pub const ALL: [Rule; 11] = [
        Rule::OneStep {},
        Rule::KStep { k: Steps::Count(10) },
        Rule::MeanOfOthers {},
        Rule::Filtered { filter: Filter::Power, sigma: -0.5, ridge: 0.001 },
        Rule::Whitened { ridge: 0.001 },
        Rule::MemoryBank { m: 0.8, precision: Precision::F32, k: Steps::Count(1) },
        Rule::Expectation { n: Samples::Count(4), normalised: true, k: Steps::Count(1), m: 0.0 },
        Rule::MomentumEncoder { tau: 0.996, rises: true, queue: 0 },
        Rule::Sinkhorn { epsilon: 0.05, iterations: 3, stop_gradient: true, queue: 0, queue_from_epoch: 0 },
        Rule::Labels {},
        Rule::None {},
    ];

    /// Its name in TOML.
    pub fn name(&self) -> &'static str {
        match self {
            Rule::OneStep {} => "one-step",
            Rule::KStep { .. } => "k-step",
            Rule::MeanOfOthers {} => "mean-of-others",
            Rule::Filtered { .. } => "filtered",
            Rule::Whitened { .. } => "whitened",
            Rule::MemoryBank { .. } => "memory-bank",
            Rule::Expectation { .. } => "expectation",
            Rule::MomentumEncoder { .. } => "momentum-encoder",
            Rule::Sinkhorn { .. } => "sinkhorn",
            Rule::Labels {} => "labels",
            Rule::None {} => "none",
        }
    }

    /// Refuses k = 0, m and τ outside [0, 1], and other numbers out of range.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        let fail = |key: &str, what: String| Err(Error::Usage(format!("eta.{}.{key}: {what}", self.name())));
        if let Rule::KStep { k } | Rule::MemoryBank { k, .. } | Rule::Expectation { k, .. } = self
            && *k == Steps::Count(0)
        {
            return fail("k", "0 steps per alternation would never train; k is at least 1".into());
        }
        let share = match self {
            Rule::MemoryBank { m, .. } | Rule::Expectation { m, .. } => Some(("m", *m)),
            Rule::MomentumEncoder { tau, .. } => Some(("tau", *tau)),
            _ => None,
        };
        if let Some((key, value)) = share.filter(|(_, value)| !(0.0..=1.0).contains(value)) {
            return fail(key, format!("{value} is not between 0 and 1"));
        }
        match self {
            Rule::Expectation { n: Samples::Count(n), .. } if !(1..=MOST_SAMPLES).contains(n) => {
                let what =
                    format!("{n} samples; from 1 to {MOST_SAMPLES}, each a forward pass in every step");
                fail("n", what)
            }
            Rule::Filtered { .. } | Rule::Whitened { .. } => {
                self.spectral().map_or(Ok(()), |filtered| filtered.check(self.name()))
            }
            Rule::Sinkhorn { epsilon, .. } if !(*epsilon > 0.0 && epsilon.is_finite()) => {
                fail("epsilon", format!("{epsilon} must be a number above 0"))
            }
            Rule::Sinkhorn { iterations, .. } if !(1..=MOST_ITERATIONS).contains(iterations) => {
                fail("iterations", format!("{iterations} must be between 1 and {MOST_ITERATIONS}"))
            }
            Rule::MomentumEncoder { queue, .. } | Rule::Sinkhorn { queue, .. } if *queue > MOST_QUEUED => {
                fail("queue", format!("{queue} rows; at most {MOST_QUEUED}"))
            }
            _ => Ok(()),
        }
    }

    /// The filter of the batch's spectrum, where the rule is one.
    fn spectral(&self) -> Option<Filtered> {
        match *self {
            Rule::Filtered { filter, sigma, ridge } => Some(Filtered { filter, sigma, ridge }),
            Rule::Whitened { ridge } => Some(Filtered::white(ridge)),
            _ => None,
        }
    }

    /// Whether the rule keeps one η for each image.
    pub fn keeps_bank(&self) -> bool {
        match self {
            Rule::MemoryBank { .. } => true,
            Rule::Expectation { k, m, .. } => !k.is_one() || *m != 0.0,
            _ => false,
        }
    }

    /// Whether the η of an image's two views are made of common samples, so that the second is no
    /// independent draw of the first.
    pub fn shares_samples(&self) -> bool {
        matches!(self, Rule::Expectation { .. } | Rule::MeanOfOthers {})
    }

    /// Whether η is a function of the θ of its own step and nothing else, and held still.
    pub fn is_of_theta(&self) -> bool {
        match self {
            Rule::OneStep {} | Rule::MeanOfOthers {} => true,
            Rule::Filtered { .. } | Rule::Whitened { .. } => true,
            Rule::Expectation { m, k, .. } => *m == 0.0 && *k == Steps::one(),
            _ => false,
        }
    }

    /// Rows of outputs that it keeps as the loss's negatives.
    pub fn negatives(&self) -> usize {
        match self {
            Rule::MomentumEncoder { queue, .. } => *queue,
            _ => 0,
        }
    }

    /// How many views of each image a batch has. The objective asks for `all`, of which `trained`
    /// have a term of the loss; a finite T has `elements`. An expectation has its samples in the
    /// place of the views without a term, and labels need no such views.
    pub fn views(&self, all: usize, trained: usize, elements: usize) -> usize {
        match self {
            Rule::Expectation { n, .. } => trained + n.number(elements),
            Rule::Labels {} => trained,
            _ => all,
        }
    }

    /// How many of `all` views of a batch pass through the network with gradient: the `trained`
    /// ones, which have a term of the loss. Without stop-gradient all do, whatever the loss.
    pub fn views_with_gradient(&self, all: usize, trained: usize) -> usize {
        match self {
            Rule::None {} | Rule::Sinkhorn { stop_gradient: false, .. } => all,
            _ => trained,
        }
    }

    /// Numbers of f32 that it keeps between steps, where banks beyond `bank_limit_bytes` lie in a
    /// file; θ has `theta_len`, a batch `batch` images.
    pub fn kept_floats(&self, size: &Size, batch: usize, theta_len: usize, bank_limit_bytes: u64) -> usize {
        let Size { images, dim, per_epoch, steps, views, .. } = *size;
        match self {
            Rule::KStep { k } => k.count(per_epoch).min(steps) as usize * views * batch * dim,
            Rule::MemoryBank { precision, .. } => {
                let bytes = bank_bytes(images, dim, *precision);
                2 * images + if bytes > bank_limit_bytes { 0 } else { bytes as usize / size_of::<f32>() }
            }
            Rule::Expectation { .. } if self.keeps_bank() => images * (dim + 2),
            // A queue, its copy as a tensor and the batch's cosines with it.
            Rule::MomentumEncoder { queue, .. } => theta_len + queue * (2 * dim + 4 * views * batch),
            Rule::Sinkhorn { queue, .. } => 2 * views * queue * dim,
            Rule::OneStep {}
            | Rule::MeanOfOthers {}
            | Rule::Filtered { .. }
            | Rule::Whitened { .. }
            | Rule::Expectation { .. }
            | Rule::Labels {}
            | Rule::None {} => 0,
        }
    }

    /// A rule whose steps cost what this one's steps cost without the E-step that it makes only
    /// once in k steps.
    pub fn of_every_step(&self) -> Rule {
        match *self {
            // Only the samples of an expectation belong to every step.
            Rule::Expectation { n, normalised, .. } => {
                Rule::Expectation { n, normalised, k: Steps::one(), m: 0.0 }
            }
            Rule::KStep { .. } | Rule::MemoryBank { .. } => Rule::OneStep {},
            _ => self.clone(),
        }
    }

    /// Makes the rule for a run of this `size`, a bank of it at `place`.
    ///
    /// # Errors
    /// [`Error::Usage`] as [`Rule::check`]; [`Error::Disk`] or [`Error::Device`] where there is no
    /// room for a bank.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use simsiam_em::eta::{BankPlace, Rule, Size, Steps};
    /// use simsiam_em::kernel::Precision;
    ///
    /// let rule = Rule::MemoryBank { m: 0.8, precision: Precision::F32, k: Steps::Count(4) };
    /// let size = Size { images: 100, dim: 16, per_epoch: 10, ..Size::default() };
    /// let bank = rule.build(&size, &BankPlace::default())?;
    /// assert_eq!(bank.chunk(), 4); // SGD steps against one η
    /// let (name, shape, _) = &bank.state()?[0];
    /// assert_eq!((name.as_str(), &shape[..]), ("bank", &[100, 16][..])); // one η for each image
    /// # Ok(())
    /// # }
    /// ```
    pub fn build(&self, size: &Size, place: &BankPlace) -> Result<Box<dyn EStep>> {
        self.check()?;
        Ok(match self {
            Rule::OneStep {} => Box::new(OneStep { stop_gradient: true }),
            Rule::None {} => Box::new(OneStep { stop_gradient: false }),
            Rule::Labels {} => Box::new(Labels),
            Rule::MeanOfOthers {} => Box::new(MeanOfOthers),
            Rule::Filtered { filter, sigma, ridge } => {
                Box::new(Filtered { filter: *filter, sigma: *sigma, ridge: *ridge })
            }
            Rule::Whitened { ridge } => Box::new(Filtered::white(*ridge)),
            Rule::KStep { k } => Box::new(KStep::new(k.count(size.per_epoch))),
            Rule::Expectation { n, normalised, k, m } => Box::new(Expectation {
                n: n.number(size.elements),
                normalised: *normalised,
                k: k.count(size.per_epoch),
                kept: self.keeps_bank().then(|| size.bank(*m, Precision::F32, place)).transpose()?,
                made: Default::default(),
            }),
            Rule::MomentumEncoder { tau, rises, queue } => {
                let negatives = (*queue > 0).then(|| Queue::random(*queue, size.dim, size.seed, 0));
                Box::new(MomentumEncoder::new(*tau, rises.then_some(size.steps), negatives.transpose()?))
            }
            Rule::Sinkhorn { epsilon, iterations, stop_gradient, queue, queue_from_epoch } => {
                let queued = |v: usize| Queue::random(*queue, size.dim, size.seed, v as u64);
                Box::new(Sinkhorn {
                    epsilon: *epsilon,
                    iterations: *iterations,
                    stop_gradient: *stop_gradient,
                    queues: (0..size.views).filter(|_| *queue > 0).map(queued).collect::<Result<_>>()?,
                    queued_from: queue_from_epoch.saturating_mul(size.per_epoch),
                })
            }
            Rule::MemoryBank { m, k, precision } => {
                let bank = || size.bank(*m, *precision, place);
                let first = bank()?.refreshed_every(k.count(size.per_epoch));
                match size.second {
                    false => Box::new(first),
                    true => Box::new(Twins { first, second: bank()? }),
                }
            }
        })
    }
}

/// What a rule has to know of the run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// Training images N.
    pub images: usize,
    /// Dimension d of the targets.
    pub dim: usize,
    /// SGD steps of an epoch.
    pub per_epoch: u64,
    /// SGD steps of the run.
    pub steps: u64,
    /// Elements of a finite T; 0 where T is random.
    pub elements: usize,
    /// Views of a batch.
    pub views: usize,
    /// The run's seed.
    pub seed: u64,
    /// Whether a rule that keeps one η for each image keeps a second one, of other draws, to be
    /// compared with.
    pub second: bool,
}

impl Size {
    /// An empty bank of this size.
    fn bank(&self, m: f64, precision: Precision, place: &BankPlace) -> Result<MemoryBank> {
        MemoryBank::new(m as f32, [self.images, self.dim], precision, place)
    }
}
