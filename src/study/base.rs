//! Base methods, the files of `studies/base/`. `simsiam.toml` is a method in full; the others are
//! what differs from it, as each method's own paper has it, in general and at a scale.

use super::embedded;
use super::file::{Scale, embedded_source, scales_of};
use super::layer::{Entry, Node};
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// A base method.
#[derive(Clone, Debug)]
pub struct Base {
    /// What the method is, in a few words.
    pub about: Option<String>,
    /// The method that it differs from; none for one in full.
    pub of: Option<String>,
    /// The method, or its differences.
    pub overlay: Entry,
    /// What it changes at some scales.
    pub scales: BTreeMap<String, Scale>,
}

impl Base {
    /// The base method called `name`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that none has.
    pub fn find(name: &str) -> Result<Base> {
        let Some(file) = embedded::find("base", name) else {
            return Err(Error::Usage(format!("unknown base `{name}`")));
        };
        let mut overlay = Entry::parse(&embedded_source(file))?;
        let mut text = |key| match overlay.take(key)?.node {
            Node::Scalar(toml::Value::String(text)) => Some(text),
            _ => None,
        };
        let (about, of) = (text("about"), text("base"));
        let scales = scales_of(&mut overlay)?;
        Ok(Base { about, of, overlay, scales })
    }

    /// The method in full that `name` is or differs from, and the layers that lie on it and on the
    /// scale called `scale`, from the bottom.
    ///
    /// # Errors
    /// As for [`Base::find`].
    pub fn layers(name: &str, scale: &str) -> Result<(Entry, Vec<Entry>)> {
        let mut base = Base::find(name)?;
        let mut upper = Vec::new();
        loop {
            let at_scale = base.scales.remove(scale).map(|scale| scale.overlay);
            let Some(of) = base.of else {
                upper.extend(at_scale);
                upper.reverse();
                return Ok((base.overlay, upper));
            };
            // Collected from the top.
            upper.extend(at_scale);
            upper.push(base.overlay);
            base = Base::find(&of)?;
        }
    }
}
