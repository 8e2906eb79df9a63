//! F_θ and h: an architecture as a list of layers over one flat θ, run as one differentiable node.
//!
//! [`Network`] is the list with its names; `plan` lays it out for a batch; `passes` runs it forward
//! and backward with the convolutions of [`crate::kernel`]; [`Engine`] joins it to candle. F_θ is
//! backbone and projector together, h another network of the same kind.

mod architectures;
mod arena;
pub mod config;
mod correlate;
mod cut;
mod detection;
mod infer;
mod layers;
pub mod names;
pub mod onnx;
mod op;
mod passes;
mod plan;
mod reading;
mod running;

pub use correlate::correlate;
pub use infer::{Shapes, infer_encoder, infer_predictor};
pub use layers::{Network, Parameter, ParameterKind, Shape};
pub use onnx::to_onnx;
pub use op::Engine;
pub use plan::pass_floats;
pub use reading::{ShapedNumbers, Tensors, part_names, read_weights, read_with_metadata};
pub use running::HeldRunning;
