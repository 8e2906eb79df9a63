//! No network: this program was built without the feature `fetch`.

use super::answer::{Body, Cut};
use super::{Options, Set};

/// Says so.
pub fn get(set: &Set, _: &Options, _: u64) -> Result<Body, Cut> {
    Err(Cut::Final(format!(
        "this sim was built without the feature `fetch`; fetch {} by other means and run the command again with it in \
         the folder",
        set.url
    )))
}
