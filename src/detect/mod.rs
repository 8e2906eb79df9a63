//! Two-stage detection: Faster R-CNN (Ren et al. 2015) and Mask R-CNN (He et al. 2017) as
//! detectron2 02b5c4e computes them.
//!
//! Boxes are left, upper, right and lower edge in pixels, f32, ends exclusive; nothing is rounded
//! and nothing has a "+ 1". Choices (labels of anchors, proposals, samples) are made on the host and
//! have no gradient; losses are tensors.

pub mod anchors;
pub mod boxes;
pub mod detector;
pub mod losses;
pub mod mask_targets;
pub mod matching;
pub mod proposals;
mod roi_op;
