//! Figures of studies, of sweeps and of the closed form: which numbers of finished runs are drawn,
//! and how they are called. How a figure looks is [`crate::report`]'s.

mod basins;
mod compare;
mod extra;
mod film;
mod growth;
mod linear;
mod runs;
mod study;
mod sweep;
mod trajectories;

pub use basins::basins;
pub use compare::{Item, curves as comparison, differences, items, shown};
pub use film::film;
pub use growth::laws;
pub use linear::{Rules, linear_em};
pub use study::draw;
pub use sweep::{Sweep, Values, values};
