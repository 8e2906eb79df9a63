//! The networks that the benches train, the same as in `pytorch.py`.

use simsiam_em::device::processor_kernel;
use simsiam_em::eta::{BankPlace, Rule, Size};
use simsiam_em::kernel::{Kernel, Precision};
use simsiam_em::network::config::*;
use simsiam_em::objective::ObjectiveConfig;
use simsiam_em::optim::{Decay, OptimConfig};
use simsiam_em::recipe::Predictor;
use simsiam_em::train::{Alternation, Model};
use std::sync::Arc;

/// A network of the comparison with PyTorch.
pub struct Setting {
    /// As given on the command line.
    pub name: &'static str,
    pub backbone: Backbone,
    /// d, and the predictor's hidden width.
    pub dim: usize,
    pub hidden: usize,
    pub batch: usize,
    /// Side of the images in pixels.
    pub size: usize,
}

/// All of them; `pytorch.py` has the same.
pub fn settings() -> Vec<Setting> {
    let stem = Stem::Cifar;
    let setting =
        |name, backbone, dim, hidden, batch, size| Setting { name, backbone, dim, hidden, batch, size };
    vec![
        setting("resnet8", Backbone::Resnet8 { width: 32 }, 512, 128, 64, 32),
        setting("resnet18", Backbone::Resnet18 { stem }, 2048, 512, 64, 32),
        setting("resnet50", Backbone::Resnet50 { stem: Stem::Imagenet }, 2048, 512, 16, 64),
        setting("laptop", Backbone::Resnet8 { width: 16 }, 256, 128, 32, 16),
    ]
}

/// `SIM_PRECISION=bf16` measures that; f32 otherwise.
pub fn precision() -> Precision {
    match std::env::var("SIM_PRECISION").as_deref() {
        Ok("bf16") => Precision::Bf16,
        _ => Precision::F32,
    }
}

/// Its networks.
pub fn model(s: &Setting, kernel: &Arc<dyn Kernel>) -> Model {
    let projector = ProjectorConfig { layers: 2, hidden: None, dim: s.dim, norm: HeadNorm::All };
    let encoder =
        EncoderConfig { precision: precision(), ..EncoderConfig::new(s.backbone.clone(), projector) };
    let predictor =
        Predictor::Mlp(PredictorConfig { hidden: s.hidden, norm: HeadNorm::Hidden, inverse: false });
    Model::new(&encoder, &predictor, s.size, 0, kernel).unwrap()
}

/// SGD as PyTorch is given it.
pub fn optim() -> OptimConfig {
    OptimConfig { base_lr: 0.01, decay: Decay::Constant, ..OptimConfig::default() }
}

/// SimSiam with it.
pub fn alternation(s: &Setting) -> Alternation {
    let place = BankPlace::default();
    let rule = Rule::OneStep {};
    let size = Size { images: s.batch, dim: s.dim, per_epoch: 1, steps: 1, elements: 0, ..Size::default() };
    let e_step = rule.build(&size, &place).unwrap();
    Alternation::new(
        model(s, &processor_kernel(precision()).unwrap()),
        &rule,
        e_step,
        ObjectiveConfig::default(),
        optim(),
        0,
    )
    .unwrap()
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
