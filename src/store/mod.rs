//! Numbers where they are kept: in memory, in a mapped file, in a checkpoint, or on a device.

mod mapped;
mod numbers;

pub use mapped::Store;
pub use numbers::{Numbers, PIECE, Part, Plain, Reader};
