//! Weights under torchvision's names and in PyTorch's layouts, and back.
//!
//! In flat θ a convolution's weights are (K, K, I, O), a linear layer's (I, O) and a deconvolution's
//! (I, K, K, O); PyTorch has (O, I, K, K), (O, I) and (I, O, K, K). Everything else is the same numbers in the same order.

use super::layers::{Network, Parameter, ParameterKind};
use super::reading::ShapedNumbers;
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// A tensor with its name and PyTorch's shape.
pub type Named = (String, Vec<usize>, Vec<f32>);

/// Looks a tensor up by name: its shape and its numbers.
pub type Find<'a> = &'a dyn Fn(&str) -> Option<&'a ShapedNumbers>;

/// The place of each number of a parameter in PyTorch's tensor, in the order of flat θ.
fn places(p: &Parameter) -> Vec<usize> {
    let (outputs, inputs, taps) = match p.torch_shape[..] {
        [i, o, height, width] if p.kind == ParameterKind::Deconvolution => {
            let taps = height * width;
            let of_tap = |i: usize, t: usize| (0..o).map(move |output| (i * o + output) * taps + t);
            return (0..i).flat_map(|i| (0..taps).flat_map(move |t| of_tap(i, t))).collect();
        }
        [o, i, height, width] => (o, i, height * width),
        [o, i] => (o, i, 1),
        _ => return (0..p.len).collect(),
    };
    let of_input = |t: usize, i: usize| (0..outputs).map(move |o| (o * inputs + i) * taps + t);
    (0..taps).flat_map(|t| (0..inputs).flat_map(move |i| of_input(t, i))).collect()
}

/// θ as PyTorch has it, tensor by tensor.
pub fn to_torch(network: &Network, theta: &[f32]) -> Vec<Named> {
    let named = |p: &Parameter| {
        let mut values = vec![0.0; p.len];
        for (place, value) in places(p).into_iter().zip(&theta[p.offset..]) {
            values[place] = *value;
        }
        (p.name.clone(), p.torch_shape.clone(), values)
    };
    network.parameters().iter().map(named).collect()
}

/// Running statistics, tensor by tensor.
pub fn running_to_torch(network: &Network, running: &[f32]) -> Vec<Named> {
    let named =
        |p: &Parameter| (p.name.clone(), p.torch_shape.clone(), running[p.offset..p.offset + p.len].to_vec());
    network.running().iter().map(named).collect()
}

/// The numbers of `p`, with its shape checked.
fn found<'a>(p: &Parameter, find: Find<'a>) -> Result<&'a [f32]> {
    match find(&p.name) {
        None => Err(Error::Failure(format!("there is no tensor '{}'", p.name))),
        Some((shape, _)) if *shape != p.torch_shape => Err(Error::Failure(format!(
            "tensor '{}' has shape {shape:?}; this architecture needs {:?}",
            p.name, p.torch_shape
        ))),
        Some((_, values)) => Ok(values),
    }
}

/// Compares the tensors called `names`, which `find` finds, with all that `network` needs, before
/// memory is taken for any. Those whose names begin as `network`'s own do must all be its.
///
/// # Errors
/// [`Error::Failure`] naming the first tensor that is missing, has another shape, or belongs to no
/// layer.
pub fn fits<'a>(network: &Network, names: impl Iterator<Item = &'a str>, find: Find) -> Result<()> {
    let own = || network.parameters().iter().chain(network.running());
    own().try_for_each(|p| found(p, find).map(drop))?;
    let biases = network.running().iter().filter_map(|p| bias_before(&p.name));
    let known: BTreeSet<String> = own().map(|p| p.name.clone()).chain(biases).collect();
    let families: BTreeSet<&str> = own().map(|p| family(&p.name)).collect();
    let strange = |name: &&str| {
        families.contains(family(name)) && !known.contains(*name) && !name.ends_with(".num_batches_tracked")
    };
    match names.into_iter().find(strange) {
        None => Ok(()),
        Some(name) => Err(Error::Failure(format!(
            "tensor '{name}' belongs to no layer of the architecture that the other tensors tell of"
        ))),
    }
}

/// Whether an encoder's tensor of this name is its projector's, or a classifier's in its place.
pub fn is_projectors(name: &str) -> bool {
    name.starts_with("fc.")
}

/// What a name begins with, up to a number or a dot: "layer" of `layer1.0.bn1.weight`.
fn family(name: &str) -> &str {
    let end = name.find(|c: char| c == '.' || c.is_ascii_digit());
    &name[..end.unwrap_or(name.len())]
}

/// Flat θ from PyTorch's tensors.
///
/// # Errors
/// [`Error::Failure`] naming the first tensor that is missing or has another shape.
pub fn from_torch(network: &Network, find: Find) -> Result<Vec<f32>> {
    network.parameters().iter().try_for_each(|p| found(p, find).map(drop))?;
    let mut theta = vec![0.0; network.theta_len()];
    for p in network.parameters() {
        let values = found(p, find)?;
        for (place, value) in places(p).into_iter().zip(&mut theta[p.offset..]) {
            *value = values[place];
        }
    }
    Ok(theta)
}

/// Flat running statistics from PyTorch's tensors.
///
/// A linear layer before a batch norm without affine parameters may bring a bias, as the last one
/// of the official projector does. In training mode batch norm takes it away again; in evaluation
/// mode it belongs to the running mean, from which it is subtracted here.
///
/// # Errors
/// As [`from_torch`].
pub fn running_from_torch(network: &Network, find: Find) -> Result<Vec<f32>> {
    network.running().iter().try_for_each(|p| found(p, find).map(drop))?;
    let mut running = vec![0.0; network.running_len()];
    for p in network.running() {
        let flat = &mut running[p.offset..p.offset + p.len];
        flat.copy_from_slice(found(p, find)?);
        let Some(name) = bias_before(&p.name) else { continue };
        if let Some((shape, bias)) = find(&name)
            && *shape == p.torch_shape
        {
            flat.iter_mut().zip(bias).for_each(|(mean, bias)| *mean -= bias);
        }
    }
    Ok(running)
}

/// The bias that the layer before a normalisation may bring, by the name of the running mean.
fn bias_before(running_mean: &str) -> Option<String> {
    let layer = running_mean.strip_suffix(".running_mean").and_then(layer_before)?;
    Some(format!("{layer}.bias"))
}

/// "fc.6" for "fc.7": the layer before a normalisation inside a sequence.
fn layer_before(norm: &str) -> Option<String> {
    let (sequence, index) = match norm.rsplit_once('.') {
        Some((sequence, index)) => (format!("{sequence}."), index),
        None => (String::new(), norm),
    };
    let index: usize = index.parse().ok()?;
    // A block's downsampling branch has a convolution first, and torchvision gives it no bias.
    Some(format!("{sequence}{}", index.checked_sub(1)?))
}
