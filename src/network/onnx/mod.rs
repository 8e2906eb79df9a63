//! A backbone as an ONNX graph: normalised images (batch, 3, H, W) in, pooled features (batch, D)
//! out, by running statistics.

pub mod proto;

use super::layers::{Network, Node, Op, ValueId};
use super::names::{self, Named};
use crate::error::{Error, Result};
use crate::kernel::norm::EPSILON;
use prost::Message;
use proto::{
    AttributeProto, AttributeType, Dimension, FLOAT, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorType, TypeProto, ValueInfoProto,
};

/// The version of ONNX's operators that graphs are written in.
pub const OPSET: i64 = 17;
/// The version of the file format that came with it.
const IR_VERSION: i64 = 8;
/// What a caller gives.
pub const INPUT: &str = "images";
/// What a caller gets.
pub const OUTPUT: &str = "features";
/// The number of images, which a caller chooses.
const BATCH: &str = "batch";

/// The backbone of the encoder `network` with weights θ (P) and `running` statistics as the bytes
/// of an ONNX file that keeps `metadata` (names and texts).
///
/// # Errors
/// [`Error::Failure`] for a layer that backbones do not have.
pub fn to_onnx(
    network: &Network,
    theta: &[f32],
    running: &[f32],
    metadata: &[(String, String)],
) -> Result<Vec<u8>> {
    let mut graph = Graph { network, nodes: Vec::new(), rank: vec![4] };
    let nodes = &network.nodes[..network.features];
    for (index, node) in nodes.iter().enumerate() {
        graph.add(index + 1, node)?;
    }
    let flat = if graph.rank[network.features] == 4 { "Flatten" } else { "Identity" };
    graph.node(flat, [value(network.features)], OUTPUT, Vec::new());
    let input = network.input();
    let sides = [input.channels, input.height, input.width].map(number);
    let named: Vec<Named> = names::to_torch(network, theta)
        .into_iter()
        .chain(names::running_to_torch(network, running))
        .filter(|(name, ..)| !names::is_projectors(name))
        .collect();
    let text = |(key, value): &(String, String)| StringStringEntryProto {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    let model = ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("sim".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        graph: Some(GraphProto {
            node: graph.nodes,
            name: Some("backbone".into()),
            initializer: named.into_iter().map(tensor).collect(),
            input: vec![described(INPUT, &sides)],
            output: vec![described(OUTPUT, &[number(network.features_dim())])],
        }),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(OPSET) }],
        metadata_props: metadata.iter().map(text).collect(),
    };
    Ok(model.encode_to_vec())
}

/// Nodes as they are added.
struct Graph<'a> {
    network: &'a Network,
    nodes: Vec<NodeProto>,
    /// Dimensions of each value: 4 of an image, 2 of a vector.
    rank: Vec<usize>,
}

impl Graph<'_> {
    /// The operations that make the value `output` of `node`.
    fn add(&mut self, output: ValueId, node: &Node) -> Result<()> {
        let (x, y) = (value(node.input), value(output));
        let mut rank = self.rank[node.input];
        let name = |index: usize| self.network.parameters()[index].name.clone();
        match &node.op {
            Op::Conv { weight, kernel, stride, padding } => {
                let weight_name = name(*weight);
                if self.network.parameters()[*weight].torch_shape.len() == 2 {
                    let x = if rank == 4 { self.flatten(x, output) } else { x };
                    self.node("Gemm", [x, weight_name], &y, vec![whole("transB", 1)]);
                    rank = 2;
                } else {
                    let attributes = window(*kernel, *stride, *padding);
                    self.node("Conv", [x, weight_name], &y, attributes);
                }
            }
            Op::Norm { affine: Some((scale, shift)), running, residual, relu } => {
                let statistic = |index: usize| self.network.running()[index].name.clone();
                let inputs = [x, name(*scale), name(*shift), statistic(running.0), statistic(running.1)];
                let epsilon = AttributeProto {
                    name: Some("epsilon".into()),
                    f: Some(EPSILON as f32),
                    r#type: Some(AttributeType::Float.into()),
                    ..AttributeProto::default()
                };
                let last = format!("{y}.normalised");
                let made = if residual.is_none() && !relu { &y } else { &last };
                self.node("BatchNormalization", inputs, made, vec![epsilon]);
                let mut made = last;
                if let Some(residual) = residual {
                    let sum = if *relu { format!("{y}.sum") } else { y.clone() };
                    self.node("Add", [made, value(*residual)], &sum, Vec::new());
                    made = sum;
                }
                if *relu {
                    self.node("Relu", [made], &y, Vec::new());
                }
            }
            Op::MaxPool => self.node("MaxPool", [x], &y, window(3, 2, 1)),
            Op::AveragePool => self.node("GlobalAveragePool", [x], &y, Vec::new()),
            Op::Norm { affine: None, .. } | Op::Bias { .. } => {
                return Err(Error::Failure(
                    "a backbone has no such layer: it cannot be written as ONNX".into(),
                ));
            }
        }
        self.rank.push(rank);
        Ok(())
    }

    /// The image `x` as a vector in the order (H, W, C), which weights here have.
    fn flatten(&mut self, x: String, output: ValueId) -> String {
        let (last, flat) = (format!("v{output}.channels_last"), format!("v{output}.flat"));
        self.node("Transpose", [x], &last, vec![wholes("perm", &[0, 2, 3, 1])]);
        self.node("Flatten", [last], &flat, Vec::new());
        flat
    }

    fn node<const N: usize>(
        &mut self,
        op: &str,
        inputs: [String; N],
        output: &str,
        attribute: Vec<AttributeProto>,
    ) {
        self.nodes.push(NodeProto {
            input: inputs.to_vec(),
            output: vec![output.to_string()],
            name: Some(format!("{op}:{output}")),
            op_type: Some(op.to_string()),
            attribute,
        });
    }
}

/// The name of a value.
fn value(id: ValueId) -> String {
    if id == 0 { INPUT.into() } else { format!("v{id}") }
}

fn number(side: usize) -> i64 {
    i64::try_from(side).unwrap_or(i64::MAX)
}

fn whole(name: &str, i: i64) -> AttributeProto {
    let r#type = Some(AttributeType::Int.into());
    AttributeProto { name: Some(name.into()), i: Some(i), r#type, ..AttributeProto::default() }
}

fn wholes(name: &str, ints: &[i64]) -> AttributeProto {
    let r#type = Some(AttributeType::Ints.into());
    AttributeProto { name: Some(name.into()), ints: ints.to_vec(), r#type, ..AttributeProto::default() }
}

/// What a square window of a convolution or a pooling is.
fn window(kernel: usize, stride: usize, padding: usize) -> Vec<AttributeProto> {
    let [kernel, stride, padding] = [kernel, stride, padding].map(number);
    vec![wholes("kernel_shape", &[kernel; 2]), wholes("strides", &[stride; 2]), wholes("pads", &[padding; 4])]
}

fn tensor((name, shape, values): Named) -> TensorProto {
    TensorProto {
        dims: shape.into_iter().map(number).collect(),
        data_type: Some(FLOAT),
        name: Some(name),
        raw_data: Some(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
    }
}

/// A value of so many images of these sides.
fn described(name: &str, sides: &[i64]) -> ValueInfoProto {
    let batch = Dimension { dim_value: None, dim_param: Some(BATCH.into()) };
    let side = |side: &i64| Dimension { dim_value: Some(*side), dim_param: None };
    let shape = TensorShapeProto { dim: std::iter::once(batch).chain(sides.iter().map(side)).collect() };
    let tensor_type = Some(TensorType { elem_type: Some(FLOAT), shape: Some(shape) });
    ValueInfoProto { name: Some(name.into()), r#type: Some(TypeProto { tensor_type }) }
}
