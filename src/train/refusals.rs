//! What a device's library has no algorithm for, told once: plain loops run in its place, and
//! nothing else would show it but the time that they take.

use super::Progress;
use crate::device::Site;
use crate::kernel::Conv;
use crate::kernel::device::Pass;
use std::collections::HashSet;

/// What has been told.
#[derive(Default)]
pub struct Refusals(HashSet<(Pass, Conv)>);

impl Refusals {
    /// Tells `watch` of what was refused at `site` since the last call.
    pub fn tell(&mut self, site: &Site, watch: &dyn Fn(Progress)) {
        let Some(kernels) = site.kernels() else { return };
        for (pass, shape) in kernels.refused() {
            if self.0.insert((pass, shape)) {
                let what = format!("the {pass} of {shape}");
                let note = "there is no fast algorithm for it here, and plain loops take many times as long";
                watch(Progress::Note(format!("{what}: {note}")));
            }
        }
    }
}
