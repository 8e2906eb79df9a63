//! The five losses: of anchors (objectness, location), of proposals (class, box), of masks.
//!
//! Distances are plain L1, all weights 1 (detectron2's `SMOOTH_L1_BETA` 0).

use super::boxes::{Coder, Corners};
use crate::error::Result;
use candle_core::{D, Device, Tensor};
use candle_nn::ops::log_softmax;

/// −t ln σ(x) − (1 − t) ln(1 − σ(x)), number by number, without overflow.
fn binary_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let log = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    Ok(((logits.relu()? - (logits * targets)?)? + log)?)
}

/// The sum of |a − b|.
fn distance(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok((a - b)?.abs()?.sum_all()?)
}

/// Rows `rows` of x, which may be none.
fn rows(x: &Tensor, rows: &[usize]) -> Result<Tensor> {
    let indices: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
    let indices = Tensor::from_vec(indices, rows.len(), x.device())?;
    Ok(x.index_select(&indices, 0)?)
}

fn numbers<const N: usize>(values: Vec<[f32; N]>, device: &Device) -> Result<Tensor> {
    let rows = values.len();
    Ok(Tensor::from_vec(values.into_iter().flatten().collect::<Vec<f32>>(), (rows, N), device)?)
}

/// Which anchors of a batch the losses read; numbers count through all images.
pub struct AnchorTargets {
    /// Anchors that are objects, with the truth of each.
    pub objects: Vec<(usize, Corners)>,
    /// Anchors that are background.
    pub background: Vec<usize>,
}

/// The losses of objectness and location of `logits` (B, A) and `deltas` (B, A, 4): sums over the
/// chosen anchors, divided by `per_image` for each image of the batch, however many were chosen.
///
/// # Errors
/// Those of tensors of other shapes.
pub fn anchor_losses(
    logits: &Tensor,
    deltas: &Tensor,
    anchors: &[Corners],
    chosen: &AnchorTargets,
    per_image: usize,
) -> Result<[Tensor; 2]> {
    let device = logits.device();
    let normaliser = 1.0 / (per_image * logits.dim(0)?) as f64;
    let objects: Vec<usize> = chosen.objects.iter().map(|(anchor, _)| *anchor).collect();
    let all = [&objects[..], &chosen.background].concat();
    let targets: Vec<f32> =
        (0..all.len()).map(|index| if index < objects.len() { 1.0 } else { 0.0 }).collect();
    let targets = Tensor::from_vec(targets, all.len(), device)?;
    let objectness = binary_cross_entropy(&rows(&logits.flatten_all()?, &all)?, &targets)?.sum_all()?;
    let encoded = chosen
        .objects
        .iter()
        .map(|(anchor, truth)| Coder::ANCHORS.encode(&anchors[anchor % anchors.len()], truth));
    let encoded = numbers(encoded.collect(), device)?;
    let location = distance(&rows(&deltas.flatten_to(1)?, &objects)?, &encoded)?;
    Ok([(objectness * normaliser)?, (location * normaliser)?])
}

/// What a proposal stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProposalTarget {
    /// Its box.
    pub proposal: Corners,
    /// Its class and its truth's box; none of background.
    pub object: Option<(usize, Corners)>,
}

/// The losses of class and box of `scores` (R, K + 1), the background last, and `deltas` (R, 4K):
/// the mean cross-entropy, and the distance of the true class's four numbers over all R proposals.
///
/// # Errors
/// Those of tensors of other shapes.
pub fn proposal_losses(scores: &Tensor, deltas: &Tensor, targets: &[ProposalTarget]) -> Result<[Tensor; 2]> {
    let device = scores.device();
    let count = targets.len();
    let background = scores.dim(D::Minus1)? - 1;
    let labels = targets.iter().map(|target| target.object.map_or(background, |(class, _)| class) as u32);
    let labels = Tensor::from_vec(labels.collect::<Vec<u32>>(), (count, 1), device)?;
    let class = log_softmax(scores, D::Minus1)?.gather(&labels, 1)?.mean_all()?.neg()?;
    let (mut places, mut encoded) = (Vec::new(), Vec::new());
    for (row, target) in targets.iter().enumerate() {
        if let Some((class, truth)) = &target.object {
            places.push(row * background + class);
            encoded.push(Coder::PROPOSALS.encode(&target.proposal, truth));
        }
    }
    let of_classes = deltas.reshape((count * background, 4))?;
    let location = distance(&rows(&of_classes, &places)?, &numbers(encoded, device)?)?;
    Ok([class, (location / count as f64)?])
}

/// The loss of masks of `logits` (F, p, p, K): the mean cross-entropy of the true class's map;
/// 0 where there is no object.
///
/// # Errors
/// Those of tensors of other shapes.
pub fn mask_loss(logits: &Tensor, classes: &[usize], targets: &[bool]) -> Result<Tensor> {
    let device = logits.device();
    let all = logits.dim(D::Minus1)?;
    if classes.is_empty() {
        return Ok((logits.sum_all()? * 0.0)?);
    }
    let pixels = targets.len() / classes.len();
    let own = classes
        .iter()
        .enumerate()
        .flat_map(|(row, class)| (0..pixels).map(move |pixel| (row * pixels + pixel) * all + class));
    let own = rows(&logits.flatten_all()?, &own.collect::<Vec<_>>())?;
    let targets = targets.iter().map(|inside| f32::from(u8::from(*inside)));
    let targets = Tensor::from_vec(targets.collect::<Vec<f32>>(), own.elem_count(), device)?;
    Ok(binary_cross_entropy(&own, &targets)?.mean_all()?)
}
