//! The oracle: the same networks from plain candle layers (NCHW, one tensor for each parameter,
//! candle's own autograd), compared with the engine's forward pass, both gradients and running
//! statistics.

use crate::support::relative_difference;
use candle_core::{D, Device, Tensor, Var};
use rand::Rng;
use simsiam_em::device::processor_kernel;
use simsiam_em::kernel::{self, Precision};
use simsiam_em::network::config::*;
use simsiam_em::network::{Engine, Network, Tensors, names};
use simsiam_em::rng::{Purpose, stream};
use std::collections::HashMap;

/// Parameters by torchvision's name.
struct Oracle {
    weights: HashMap<String, Var>,
    /// One view's batch statistics by the norm's name, in the order of views.
    statistics: std::cell::RefCell<Vec<(String, Tensor, Tensor, usize)>>,
}

impl Oracle {
    fn get(&self, name: &str) -> &Tensor {
        self.weights[name].as_tensor()
    }

    fn has(&self, name: &str) -> bool {
        self.weights.contains_key(name)
    }

    fn conv(&self, name: &str, x: &Tensor, stride: usize, padding: usize) -> Tensor {
        x.conv2d(self.get(&format!("{name}.weight")), padding, stride, 1, 1).unwrap()
    }

    fn linear(&self, name: &str, x: &Tensor) -> Tensor {
        let y = x.matmul(&self.get(&format!("{name}.weight")).t().unwrap()).unwrap();
        let bias = format!("{name}.bias");
        if self.has(&bias) { y.broadcast_add(self.get(&bias)).unwrap() } else { y }
    }

    /// Batch norm in training mode over all but the channel dimension, which is 1.
    fn norm(&self, name: &str, x: &Tensor) -> Tensor {
        let dims = x.dims().to_vec();
        let flat = if dims.len() == 4 { x.permute((0, 2, 3, 1)).unwrap() } else { x.clone() };
        let rows = flat.elem_count() / dims[1];
        let flat = flat.contiguous().unwrap().reshape((rows, dims[1])).unwrap();
        let mean = flat.mean_keepdim(0).unwrap();
        let centred = flat.broadcast_sub(&mean).unwrap();
        let variance = centred.sqr().unwrap().mean_keepdim(0).unwrap();
        let mut y = centred.broadcast_div(&(&variance + 1e-5).unwrap().sqrt().unwrap()).unwrap();
        if self.has(&format!("{name}.weight")) {
            y = y.broadcast_mul(self.get(&format!("{name}.weight"))).unwrap();
            y = y.broadcast_add(self.get(&format!("{name}.bias"))).unwrap();
        }
        self.statistics.borrow_mut().push((name.into(), mean, variance, rows));
        match dims[..] {
            [b, c, h, w] => {
                y.reshape((b, h, w, c)).unwrap().permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()
            }
            _ => y,
        }
    }

    fn resnet(&self, x: &Tensor) -> Tensor {
        let imagenet = self.get("conv1.weight").dims()[2] == 7;
        let (stride, padding) = if imagenet { (2, 3) } else { (1, 1) };
        let mut x = self.norm("bn1", &self.conv("conv1", x, stride, padding)).relu().unwrap();
        if imagenet {
            // After a ReLU, zero padding never changes a maximum.
            let padded = x.pad_with_zeros(2, 1, 1).unwrap().pad_with_zeros(3, 1, 1).unwrap();
            x = windows_max(&padded);
        }
        for stage in 1.. {
            if !self.has(&format!("layer{stage}.0.conv1.weight")) {
                break;
            }
            for block in 0.. {
                let name = format!("layer{stage}.{block}");
                if !self.has(&format!("{name}.conv1.weight")) {
                    break;
                }
                let stride = if stage > 1 && block == 0 { 2 } else { 1 };
                x = self.block(&name, &x, stride);
            }
        }
        x.mean((2, 3)).unwrap()
    }

    fn block(&self, name: &str, x: &Tensor, stride: usize) -> Tensor {
        let bottleneck = self.has(&format!("{name}.conv3.weight"));
        let convs = if bottleneck { vec![(1, 0), (stride, 1), (1, 0)] } else { vec![(stride, 1), (1, 1)] };
        let mut y = x.clone();
        for (i, (stride, padding)) in convs.iter().enumerate() {
            y = self.conv(&format!("{name}.conv{}", i + 1), &y, *stride, *padding);
            y = self.norm(&format!("{name}.bn{}", i + 1), &y);
            if i + 1 < convs.len() {
                y = y.relu().unwrap();
            }
        }
        let residual = if self.has(&format!("{name}.downsample.0.weight")) {
            let down = self.conv(&format!("{name}.downsample.0"), x, stride, 0);
            self.norm(&format!("{name}.downsample.1"), &down)
        } else {
            x.clone()
        };
        (y + residual).unwrap().relu().unwrap()
    }

    /// Linear layers at 0, 3, 6, …, with a norm wherever `running` names one, ReLU between them.
    fn head(&self, prefix: &str, x: &Tensor, network: &Network, relu_last: bool) -> Tensor {
        let layers = (0..).take_while(|i| self.has(&format!("{prefix}{}.weight", 3 * i))).count();
        let mut x = x.clone();
        for layer in 0..layers {
            x = self.linear(&format!("{prefix}{}", 3 * layer), &x);
            let norm = format!("{prefix}{}", 3 * layer + 1);
            if network.running().iter().any(|p| p.name == format!("{norm}.running_mean")) {
                x = self.norm(&norm, &x);
            }
            if layer + 1 < layers || relu_last {
                x = x.relu().unwrap();
            }
        }
        x
    }
}

/// 3×3 windows with stride 2, as the largest of nine strided slices.
fn windows_max(padded: &Tensor) -> Tensor {
    let (_, _, height, width) = padded.dims4().unwrap();
    let pick = |dim: usize, offset: usize, n: usize| -> Tensor {
        let last = (n - 3) / 2;
        let index: Vec<u32> = (0..=last).map(|i| (2 * i + offset) as u32).collect();
        let _ = dim;
        Tensor::from_vec(index, last + 1, &Device::Cpu).unwrap()
    };
    let mut best: Option<Tensor> = None;
    for dy in 0..3 {
        for dx in 0..3 {
            let rows = padded.index_select(&pick(2, dy, height), 2).unwrap();
            let tap = rows.index_select(&pick(3, dx, width), 3).unwrap();
            best = Some(match best {
                None => tap,
                Some(best) => best.maximum(&tap).unwrap(),
            });
        }
    }
    best.unwrap()
}

fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = stream(seed, Purpose::Test, 0, 0);
    (0..len).map(|_| rng.random::<f32>() - 0.5).collect()
}

/// Compares one network on (views, batch) random inputs.
fn compare(
    what: &str,
    network: Network,
    views: usize,
    batch: usize,
    forward: impl Fn(&Oracle, &Network, &Tensor) -> Tensor,
) {
    let input = network.input();
    // Not the initial values: scales of one and shifts of zero would hide mistakes.
    let noise = random(network.theta_len(), 7);
    let theta: Vec<f32> = network.init(1, 0).iter().zip(&noise).map(|(t, n)| t + 0.2 * n).collect();
    let weights = names::to_torch(&network, &theta)
        .into_iter()
        .map(|(name, shape, values)| (name, Var::from_vec(values, shape, &Device::Cpu).unwrap()))
        .collect();
    let oracle = Oracle { weights, statistics: Default::default() };
    let shape = (views, batch, input.height, input.width, input.channels);
    let x = Var::from_vec(random(views * batch * input.len(), 3), shape, &Device::Cpu).unwrap();
    let direction = random(views * batch * network.output_dim(), 5);
    let direction = Tensor::from_vec(direction, (views, batch, network.output_dim()), &Device::Cpu).unwrap();

    let engine = Engine::new(network.clone(), kernel::direct_sums().unwrap()).unwrap();
    let flat = Var::from_vec(theta.clone(), theta.len(), &Device::Cpu).unwrap();
    let y = engine.train(&x, &flat).unwrap();
    let gradients = (&y * &direction).unwrap().sum_all().unwrap().backward().unwrap();

    let outputs: Vec<Tensor> = (0..views)
        .map(|v| {
            let x = x.get(v).unwrap().permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
            forward(&oracle, &network, &x)
        })
        .collect();
    let expected = Tensor::stack(&outputs, 0).unwrap();
    let expected_gradients = (&expected * &direction).unwrap().sum_all().unwrap().backward().unwrap();

    let numbers = |t: &Tensor| -> Vec<f32> { t.flatten_all().unwrap().to_vec1().unwrap() };
    let error = relative_difference(&numbers(&y), &numbers(&expected));
    // Rounding grows through the layers of a deep network; a wrong layer is off by far more.
    let deep = network.running().len() > 50;
    assert!(error < if deep { 1e-3 } else { 1e-4 }, "{what}: output off by {error:.1e}");
    let flat_gradient = numbers(gradients.get(&flat).unwrap());
    let length = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let whole = length(&flat_gradient);
    // Between two f32 programs a few of a deep network's activations fall on different sides of
    // zero, and each moves the gradient by its own share: 34 layers are compared as a whole and
    // less finely.
    let tolerance = if deep { 5e-2 } else { 5e-4 };
    for (name, _, got) in names::to_torch(&network, &flat_gradient) {
        let expected = numbers(expected_gradients.get(oracle.get(&name)).unwrap());
        let difference: Vec<f32> = got.iter().zip(&expected).map(|(a, b)| a - b).collect();
        // A tensor whose gradient is all cancellation is measured against the network's.
        let error = length(&difference) / length(&expected).max(1e-3 * whole);
        assert!(error < tolerance, "{what}: gradient of {name} off by {error:.1e}");
    }
    if let Some(dx) = gradients.get(&x) {
        let error = relative_difference(&numbers(dx), &numbers(expected_gradients.get(&x).unwrap()));
        assert!(error < 1e-4, "{what}: gradient of the input off by {error:.1e}");
    }
    compare_running(what, &network, &engine, &oracle);
}

/// Running statistics: 0.9 of the old and 0.1 of the batch's, view after view, variances unbiased.
fn compare_running(what: &str, network: &Network, engine: &Engine, oracle: &Oracle) {
    let mut expected: HashMap<String, Vec<f32>> = names::running_to_torch(network, &network.init_running())
        .into_iter()
        .map(|(name, _, values)| (name, values))
        .collect();
    for (name, mean, variance, rows) in oracle.statistics.borrow().iter() {
        let unbiased = *rows as f32 / (*rows as f32 - 1.0).max(1.0);
        for (key, value, factor) in [("running_mean", mean, 1.0), ("running_var", variance, unbiased)] {
            let value: Vec<f32> = value.flatten_all().unwrap().to_vec1().unwrap();
            let running = expected.get_mut(&format!("{name}.{key}")).unwrap();
            running.iter_mut().zip(value).for_each(|(r, v)| *r = 0.9 * *r + 0.1 * v * factor);
        }
    }
    for (name, _, got) in names::running_to_torch(network, &engine.running().unwrap()) {
        let error = relative_difference(&got, &expected[&name]);
        assert!(error < 1e-4, "{what}: {name} off by {error:.1e}");
    }
}

fn encoder(backbone: Backbone, norm: HeadNorm, layers: usize) -> EncoderConfig {
    let projector = ProjectorConfig { layers, hidden: Some(12), dim: 10, norm };
    EncoderConfig::new(backbone, projector)
}

#[test]
fn every_architecture_agrees_with_plain_candle_layers() {
    let resnet = |blocks: &[usize], bottleneck, width, stem| Backbone::Resnet {
        blocks: blocks.to_vec(),
        bottleneck,
        width,
        widths: None,
        stem,
    };
    let cases = [
        ("resnet8", Backbone::Resnet8 { width: 5 }, 9, 2, 4),
        ("resnet8, one image", Backbone::Resnet8 { width: 16 }, 12, 1, 1),
        ("resnet8, many images", Backbone::Resnet8 { width: 4 }, 8, 2, 64),
        ("basic blocks, ImageNet stem", resnet(&[2, 2], false, 6, Stem::Imagenet), 23, 2, 3),
        ("bottleneck blocks, CIFAR stem", resnet(&[1, 2], true, 4, Stem::Cifar), 7, 2, 5),
        ("bottleneck blocks, ImageNet stem", resnet(&[2, 1], true, 4, Stem::Imagenet), 33, 1, 4),
        ("resnet18", Backbone::Resnet18 { stem: Stem::Cifar }, 8, 1, 6),
        ("resnet34", Backbone::Resnet34 { stem: Stem::Imagenet }, 64, 1, 6),
        ("resnet50", Backbone::Resnet50 { stem: Stem::Imagenet }, 64, 1, 6),
    ];
    for (what, backbone, size, views, batch) in cases {
        // Batch norm of a single row is its shift whatever the row: nothing would be compared.
        let norm = if batch == 1 { HeadNorm::None } else { HeadNorm::Hidden };
        let network = Network::encoder(&encoder(backbone, norm, 2), (size, size)).unwrap();
        compare(what, network, views, batch, |oracle, network, x| {
            oracle.head("fc.", &oracle.resnet(x), network, false)
        });
    }
    let mlp = encoder(Backbone::Mlp { widths: vec![20, 11] }, HeadNorm::Hidden, 2);
    compare("mlp", Network::encoder(&mlp, (5, 4)).unwrap(), 2, 6, |oracle, network, x| {
        let flat = x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap().flatten_from(1).unwrap();
        oracle.head("fc.", &oracle.head("layers.", &flat, network, true), network, false)
    });
}

#[test]
fn every_head_agrees_with_plain_candle_layers() {
    for norm in [HeadNorm::None, HeadNorm::Hidden, HeadNorm::All] {
        for layers in 1..4 {
            let config = encoder(Backbone::Mlp { widths: vec![9] }, norm, layers);
            let network = Network::encoder(&config, (3, 3)).unwrap();
            compare(&format!("projector {norm:?} {layers}"), network, 2, 16, |oracle, network, x| {
                let flat = x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap().flatten_from(1).unwrap();
                oracle.head("fc.", &oracle.head("layers.", &flat, network, true), network, false)
            });
        }
        let network = Network::predictor(&PredictorConfig { hidden: 7, norm, inverse: false }, 13).unwrap();
        compare(&format!("predictor {norm:?}"), network, 2, 16, |oracle, network, x| {
            oracle.head("", &x.flatten_from(1).unwrap(), network, false)
        });
    }
}

#[test]
fn a_target_pass_gives_the_bytes_of_a_training_pass() {
    let config = encoder(Backbone::Resnet8 { width: 16 }, HeadNorm::All, 2);
    let network = Network::encoder(&config, (16, 16)).unwrap();
    let theta = Tensor::from_vec(network.init(0, 0), network.theta_len(), &Device::Cpu).unwrap();
    let x = Tensor::from_vec(random(2 * 8 * 768, 1), (2, 8, 16, 16, 3), &Device::Cpu).unwrap();
    let [a, b] =
        [0, 1].map(|_| Engine::new(network.clone(), processor_kernel(Precision::F32).unwrap()).unwrap());
    let (trained, target) = (a.train(&x, &theta).unwrap(), b.target(&x, &theta).unwrap());
    let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(numbers(&trained), numbers(&target));
    assert_eq!(a.running().unwrap(), b.running().unwrap());
    // Evaluation by running statistics that equal the batch's is the same map.
    let (features, output) = a.evaluate(&x.get(0).unwrap(), &theta).unwrap();
    assert_eq!(features.dims(), [8, 64]);
    assert_eq!(output.dim(D::Minus1).unwrap(), 10);
}

#[test]
fn a_gradient_step_gives_the_same_bytes_for_any_number_of_threads() {
    let config = encoder(Backbone::Resnet8 { width: 16 }, HeadNorm::All, 2);
    let network = Network::encoder(&config, (24, 24)).unwrap();
    let x = Tensor::from_vec(random(2 * 16 * 1728, 1), (2, 16, 24, 24, 3), &Device::Cpu).unwrap();
    let gradient = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let engine = Engine::new(network.clone(), processor_kernel(Precision::F32).unwrap()).unwrap();
            let theta = Var::from_vec(network.init(0, 0), network.theta_len(), &Device::Cpu).unwrap();
            let loss = engine.train(&x, &theta).unwrap().sqr().unwrap().sqr().unwrap().sum_all().unwrap();
            let gradients = loss.backward().unwrap();
            gradients.get(&theta).unwrap().to_vec1::<f32>().unwrap()
        })
    };
    let one = gradient(1);
    for threads in [2, 3, 8] {
        assert!(one == gradient(threads), "{threads} threads");
    }
}

#[test]
fn initial_weights_follow_their_laws() {
    let config = EncoderConfig {
        zero_init_residual: true,
        ..encoder(Backbone::Resnet18 { stem: Stem::Cifar }, HeadNorm::All, 2)
    };
    let network = Network::encoder(&config, (32, 32)).unwrap();
    let theta = network.init(3, 0);
    assert_eq!(theta, network.init(3, 0));
    assert_ne!(theta, network.init(4, 0));
    let named: Tensors = names::to_torch(&network, &theta)
        .into_iter()
        .map(|(name, shape, values)| (name, (shape, values)))
        .collect();
    let std = |v: &[f32]| (v.iter().map(|v| v * v).sum::<f32>() / v.len() as f32).sqrt();
    let conv = &named["layer2.0.conv2.weight"].1;
    // 147,456 draws: the standard error of their std is 0.2 %.
    assert!((std(conv) / (2.0f32 / (128.0 * 9.0)).sqrt() - 1.0).abs() < 0.01);
    let bound = 1.0 / 512f32.sqrt();
    let linear = &named["fc.0.weight"].1;
    assert!(linear.iter().all(|v| v.abs() <= bound));
    assert!((std(linear) / (bound / 3f32.sqrt()) - 1.0).abs() < 0.05);
    assert!(named["layer1.0.bn2.weight"].1.iter().all(|v| *v == 0.0));
    assert!(named["layer1.0.bn1.weight"].1.iter().all(|v| *v == 1.0));
    let back = names::from_torch(&network, &|name| named.get(name));
    assert_eq!(back.unwrap(), theta);
}
