//! One part of a model, as what trains it, saves it and reads it sees it.

use crate::network::{self, Engine};
use crate::optim::Parameter;
use candle_core::Var;

/// One part of a model.
pub struct Part<'a> {
    /// "encoder", "predictor", "inverse" or "prototypes".
    pub name: &'static str,
    /// What runs it.
    pub engine: &'a Engine,
    /// Its weights, flat.
    pub theta: &'a Var,
}

impl Part<'_> {
    /// Its parameters in the order of θ.
    pub fn parameters(&self) -> Vec<Parameter> {
        let network = self.engine.network();
        let frozen = network.frozen_len();
        let parameter = |p: &network::Parameter| Parameter {
            len: p.len,
            weights: p.torch_shape.len() > 1,
            frozen: p.offset < frozen,
        };
        network.parameters().iter().map(parameter).collect()
    }
}
