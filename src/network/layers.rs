//! An architecture made concrete: a list of nodes over values, with the names and places of its
//! parameters in flat θ.
//!
//! A value is an image-shaped array (H, W, C) for each image; value 0 is the input. A node reads
//! one value (a normalisation may add a second one, the residual) and makes the next. Adding an
//! architecture is adding a function to `architectures.rs`; adding a kind of layer is a variant of
//! [`Op`], its place in `plan.rs` and its two passes in `passes.rs`.

use crate::error::{Error, Result};
use crate::rng::{Purpose, stream};
use rand_distr::{Distribution, Normal, StandardNormal, Uniform};

/// What a parameter is; decides its initial law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ParameterKind {
    /// Convolution weights: normal, variance 2/(K²·O) (He, fan-out), as torchvision's ResNets.
    Convolution,
    /// Linear weights or the bias after them: uniform within ±1/√I, PyTorch's default.
    Linear {
        /// I.
        inputs: usize,
    },
    /// Weights of a deconvolution, in PyTorch's shape (I, O, K, K) and here (I, K, K, O): normal,
    /// variance 2/(K²·I).
    Deconvolution,
    /// Weights of outputs that begin near 0: normal, with one width for the first outputs and
    /// another for the others.
    Normal {
        /// How many outputs are the first.
        first: usize,
        /// Their standard deviation, and that of the others.
        std: [f32; 2],
    },
    /// All at this value: BN scales and shifts, running statistics.
    Constant(f32),
}

/// A named piece of a flat vector.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// torchvision's name, or the official SimSiam code's: `layer1.0.bn1.weight`, `fc.3.weight`.
    pub name: String,
    /// Where it begins.
    pub offset: usize,
    /// Numbers.
    pub len: usize,
    /// PyTorch's shape: (O, I, K, K), (O, I) or (C).
    pub torch_shape: Vec<usize>,
    /// What it is.
    pub kind: ParameterKind,
}

/// The shape of a value: (H, W, C) of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
    /// C.
    pub channels: usize,
}

impl Shape {
    /// Numbers for one image.
    pub fn len(&self) -> usize {
        self.height * self.width * self.channels
    }
    /// [H, W, C].
    pub fn sides(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }
    /// Never: no side may be zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The index of a value.
pub type ValueId = usize;

/// What a node computes; numbers are indices into the network's parameters or running statistics.
#[derive(Clone, Debug)]
pub enum Op {
    /// A convolution without bias; a linear layer where the image is 1×1.
    Conv {
        /// Its weights.
        weight: usize,
        /// K.
        kernel: usize,
        /// Stride.
        stride: usize,
        /// Zero padding.
        padding: usize,
    },
    /// Batch normalisation, plus a residual, then ReLU.
    Norm {
        /// γ and β, where it has them.
        affine: Option<(usize, usize)>,
        /// Running mean and variance.
        running: (usize, usize),
        /// What is added before the ReLU.
        residual: Option<ValueId>,
        /// Whether a ReLU follows.
        relu: bool,
    },
    /// A bias, then ReLU: the heads without batch norm, and the predictor's output.
    Bias {
        /// The bias.
        bias: usize,
        /// Whether a ReLU follows.
        relu: bool,
    },
    /// 3×3, stride 2, padding 1.
    MaxPool,
    /// The mean over all pixels.
    AveragePool,
}

/// One node: `values[output] = op(values[input])`; outputs are numbered in order, from 1.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// What it reads.
    pub input: ValueId,
}

/// A network for images of one size. Immutable.
#[derive(Clone, Debug)]
pub struct Network {
    pub(super) nodes: Vec<Node>,
    pub(super) values: Vec<Shape>,
    pub(super) features: ValueId,
    /// So many first nodes stay as they are: their normalisations go by running statistics, which
    /// do not move, and nothing behind them is differentiated.
    pub(super) frozen: usize,
    /// The encoder never needs the gradient of its images; the predictor does of its input.
    pub(super) input_gradient: bool,
    parameters: Vec<Parameter>,
    running: Vec<Parameter>,
}

impl Network {
    pub(super) fn start(input: Shape, input_gradient: bool) -> Self {
        let (parameters, running) = (Vec::new(), Vec::new());
        Self {
            nodes: Vec::new(),
            values: vec![input],
            features: 0,
            frozen: 0,
            input_gradient,
            parameters,
            running,
        }
    }

    /// Every parameter, in torchvision's order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }
    /// Every running statistic.
    pub fn running(&self) -> &[Parameter] {
        &self.running
    }
    /// P, the length of flat θ.
    pub fn theta_len(&self) -> usize {
        total(&self.parameters)
    }
    /// The length of the flat running statistics.
    pub fn running_len(&self) -> usize {
        total(&self.running)
    }
    /// The shape of one input image.
    pub fn input(&self) -> Shape {
        self.values[0]
    }
    /// The shape of the output for one image.
    pub fn output(&self) -> Shape {
        self.values[self.values.len() - 1]
    }
    /// The dimension of the output.
    pub fn output_dim(&self) -> usize {
        self.values[self.values.len() - 1].len()
    }
    /// The dimension of the pooled backbone features, the projector's input.
    pub fn features_dim(&self) -> usize {
        self.values[self.features].len()
    }

    /// Products of numbers that a forward pass of one image takes in convolutions and linear
    /// layers, by the direct algorithm.
    pub fn products(&self) -> u64 {
        let of_node = |(node, out): (&Node, &Shape)| match node.op {
            Op::Conv { weight, .. } => (self.parameters[weight].len * out.height * out.width) as u64,
            _ => 0,
        };
        self.nodes.iter().zip(&self.values[1..]).map(of_node).sum()
    }

    /// Whether anything follows the features.
    pub fn has_projector(&self) -> bool {
        self.features + 1 < self.values.len()
    }

    /// Lets the first `nodes` nodes stay as they are.
    pub(super) fn freeze(&mut self, nodes: usize) {
        self.frozen = nodes;
    }

    /// The length of the part of θ, at its beginning, that is not trained.
    pub fn frozen_len(&self) -> usize {
        let last = |node: &Node| match node.op {
            Op::Conv { weight, .. } => Some(weight),
            Op::Norm { affine, .. } => affine.map(|(_, shift)| shift),
            Op::Bias { bias, .. } => Some(bias),
            Op::MaxPool | Op::AveragePool => None,
        };
        let parameters = self.nodes[..self.frozen].iter().filter_map(last);
        parameters.max().map_or(0, |last| self.parameters[last].offset + self.parameters[last].len)
    }

    /// Initial weights (P): each parameter from its own stream, by its kind's law; `network_index`
    /// tells the networks of a model apart.
    pub fn init(&self, seed: u64, network_index: u64) -> Vec<f32> {
        let mut theta = Vec::with_capacity(self.theta_len());
        for (index, p) in self.parameters.iter().enumerate() {
            let mut rng = stream(seed, Purpose::Init, network_index, index as u64);
            match p.kind {
                ParameterKind::Constant(value) => theta.extend(std::iter::repeat_n(value, p.len)),
                ParameterKind::Normal { first, std } => {
                    let outputs = p.torch_shape[0];
                    let width = |i: usize| std[usize::from(i % outputs >= first)];
                    let normal = StandardNormal.sample_iter(&mut rng).take(p.len);
                    theta.extend(normal.enumerate().map(|(i, value): (usize, f32)| width(i) * value));
                }
                // What PyTorch calls fan-out is a deconvolution's first dimension too.
                ParameterKind::Convolution | ParameterKind::Deconvolution => {
                    let fan_out = (p.torch_shape[0] * p.torch_shape[2] * p.torch_shape[3]) as f32;
                    // A positive finite width is always a valid law.
                    if let Ok(law) = Normal::new(0f32, (2.0 / fan_out).sqrt()) {
                        theta.extend(law.sample_iter(&mut rng).take(p.len));
                    }
                }
                ParameterKind::Linear { inputs } => {
                    let bound = 1.0 / (inputs as f32).sqrt();
                    if let Ok(law) = Uniform::new_inclusive(-bound, bound) {
                        theta.extend(law.sample_iter(&mut rng).take(p.len));
                    }
                }
            }
        }
        theta
    }

    /// Running statistics of a new network: means 0, variances 1.
    pub fn init_running(&self) -> Vec<f32> {
        let value = |p: &Parameter| if p.name.ends_with("running_var") { 1.0 } else { 0.0 };
        self.running.iter().flat_map(|p| std::iter::repeat_n(value(p), p.len)).collect()
    }

    fn parameter(&mut self, name: String, torch_shape: Vec<usize>, kind: ParameterKind) -> usize {
        push(&mut self.parameters, name, torch_shape, kind)
    }

    fn node(&mut self, op: Op, input: ValueId, output: Shape) -> ValueId {
        self.nodes.push(Node { op, input });
        self.values.push(output);
        self.values.len() - 1
    }

    /// A convolution without bias called `name`.
    pub(super) fn conv(
        &mut self,
        name: &str,
        input: ValueId,
        out_channels: usize,
        geometry: (usize, usize, usize),
    ) -> Result<ValueId> {
        self.conv_of(name, input, out_channels, geometry, ParameterKind::Convolution)
    }

    /// A convolution whose weights begin as `kind` says.
    pub(super) fn conv_of(
        &mut self,
        name: &str,
        input: ValueId,
        out_channels: usize,
        (kernel, stride, padding): (usize, usize, usize),
        kind: ParameterKind,
    ) -> Result<ValueId> {
        let s = self.values[input];
        let side = |n: usize| (n + 2 * padding).checked_sub(kernel).map(|n| n / stride + 1);
        let (Some(height), Some(width)) = (side(s.height), side(s.width)) else {
            return Err(Error::Usage(format!(
                "images are too small for this architecture: {name} sees {}×{} pixels",
                s.height, s.width
            )));
        };
        let shape = vec![out_channels, s.channels, kernel, kernel];
        let weight = self.parameter(format!("{name}.weight"), shape, kind);
        let op = Op::Conv { weight, kernel, stride, padding };
        Ok(self.node(op, input, Shape { height, width, channels: out_channels }))
    }

    /// A linear layer called `name`, without its bias.
    pub(super) fn linear(&mut self, name: &str, input: ValueId, outputs: usize) -> ValueId {
        let inputs = self.values[input].len();
        self.linear_of(name, input, outputs, ParameterKind::Linear { inputs })
    }

    /// A linear layer whose weights begin as `kind` says.
    pub(super) fn linear_of(
        &mut self,
        name: &str,
        input: ValueId,
        outputs: usize,
        kind: ParameterKind,
    ) -> ValueId {
        let inputs = self.values[input].len();
        let weight = self.parameter(format!("{name}.weight"), vec![outputs, inputs], kind);
        // The flattened image is one pixel of `inputs` channels: the same numbers in the same
        // order.
        let op = Op::Conv { weight, kernel: 1, stride: 1, padding: 0 };
        self.node(op, input, Shape { height: 1, width: 1, channels: outputs })
    }

    /// The bias of the linear layer `name`, then ReLU where `relu`.
    pub(super) fn bias(&mut self, name: &str, input: ValueId, inputs: usize, relu: bool) -> ValueId {
        self.bias_of(name, input, ParameterKind::Linear { inputs }, relu)
    }

    /// A bias that begins as `kind` says, then ReLU where `relu`.
    pub(super) fn bias_of(&mut self, name: &str, input: ValueId, kind: ParameterKind, relu: bool) -> ValueId {
        let s = self.values[input];
        let bias = self.parameter(format!("{name}.bias"), vec![s.channels], kind);
        self.node(Op::Bias { bias, relu }, input, s)
    }

    /// A deconvolution of 2×2 and stride 2 called `name`, its bias, then ReLU: (H, W, I) → (H, 4W,
    /// O). Each pixel makes four that no other one touches, so it is a 1×1 convolution to 4·O
    /// channels; these are the four pixels of (2H, 2W, O), two above and two below, side by side.
    pub(super) fn deconv_bias(&mut self, name: &str, input: ValueId, outputs: usize) -> ValueId {
        let s = self.values[input];
        let shape = vec![s.channels, outputs, 2, 2];
        let weight = self.parameter(format!("{name}.weight"), shape, ParameterKind::Deconvolution);
        let op = Op::Conv { weight, kernel: 1, stride: 1, padding: 0 };
        let fourfold = self.node(op, input, Shape { channels: 4 * outputs, ..s });
        let bias = self.parameter(format!("{name}.bias"), vec![outputs], ParameterKind::Constant(0.0));
        let spread = Shape { height: s.height, width: 4 * s.width, channels: outputs };
        self.node(Op::Bias { bias, relu: true }, fourfold, spread)
    }

    /// A batch norm called `name` with scales starting at `scale`, or without affine parameters.
    pub(super) fn norm(
        &mut self,
        name: &str,
        input: ValueId,
        scale: Option<f32>,
        residual: Option<ValueId>,
        relu: bool,
    ) -> ValueId {
        let s = self.values[input];
        let shape = vec![s.channels];
        let affine = scale.map(|scale| {
            let weight =
                self.parameter(format!("{name}.weight"), shape.clone(), ParameterKind::Constant(scale));
            let bias = self.parameter(format!("{name}.bias"), shape.clone(), ParameterKind::Constant(0.0));
            (weight, bias)
        });
        let kind = ParameterKind::Constant(0.0);
        let mean = push(&mut self.running, format!("{name}.running_mean"), shape.clone(), kind);
        let variance =
            push(&mut self.running, format!("{name}.running_var"), shape, ParameterKind::Constant(1.0));
        self.node(Op::Norm { affine, running: (mean, variance), residual, relu }, input, s)
    }

    pub(super) fn max_pool(&mut self, input: ValueId) -> ValueId {
        let s = self.values[input];
        let side = crate::kernel::pool::max_pool_side;
        let output = Shape { height: side(s.height), width: side(s.width), channels: s.channels };
        self.node(Op::MaxPool, input, output)
    }

    pub(super) fn average_pool(&mut self, input: ValueId) -> ValueId {
        let channels = self.values[input].channels;
        self.node(Op::AveragePool, input, Shape { height: 1, width: 1, channels })
    }
}

fn total(parameters: &[Parameter]) -> usize {
    parameters.last().map_or(0, |p| p.offset + p.len)
}

fn push(to: &mut Vec<Parameter>, name: String, torch_shape: Vec<usize>, kind: ParameterKind) -> usize {
    let (offset, len) = (total(to), torch_shape.iter().product());
    to.push(Parameter { name, offset, len, torch_shape, kind });
    to.len() - 1
}
