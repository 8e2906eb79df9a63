//! What several tests need.

use candle_core::{Device, Tensor};
use simsiam_em::eta::FrozenEncoder;
use std::path::PathBuf;

/// A file of tests/golden/.
pub fn golden(name: &str) -> PathBuf {
    root().join("tests/golden").join(name)
}

/// The crate's folder: cargo's word at run time, so that a test program may run elsewhere than it was built.
fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// A file of the larger reference cases beside a developer's checkout; prints that the case is
/// skipped where they are absent.
pub fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SIM_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {name} is not on this machine (set SIM_SHARED to the folder that holds it)");
    None
}

/// The largest absolute difference; NaN where there is one.
pub fn max_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "lengths differ");
    // A NaN must not vanish in a maximum.
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from((a - b).abs()))
        .fold(0.0, |m: f64, d| if d > m || d.is_nan() { d } else { m })
}

/// The largest absolute difference over the largest absolute value of `expected`.
pub fn relative_difference(got: &[f32], expected: &[f32]) -> f64 {
    let scale = expected.iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max);
    max_difference(got, expected) / scale.max(1e-12)
}

/// An encoder whose outputs are its images, flat.
pub struct Rows;

impl FrozenEncoder for Rows {
    fn z(&self, x: &Tensor) -> simsiam_em::Result<Tensor> {
        Ok(x.flatten_from(2)?)
    }

    fn theta(&self) -> simsiam_em::Result<Tensor> {
        Ok(Tensor::new(&[0f32], &Device::Cpu)?)
    }

    fn z_by(&self, _: &Tensor, x: &Tensor) -> simsiam_em::Result<Tensor> {
        self.z(x)
    }

    fn scores(&self, z: &Tensor) -> simsiam_em::Result<Tensor> {
        Ok(z.clone())
    }
}
