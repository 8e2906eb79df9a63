//! h as a recipe names it.

use crate::error::{Error, Result};
use crate::network::Network;
use crate::network::config::{DirectConfig, LeastSquaresConfig, LinearConfig, PredictorConfig};
use serde::{Deserialize, Serialize};

/// h, or its absence (Table 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Predictor {
    /// No predictor: p = z.
    None {},
    /// The predictor MLP.
    Mlp(PredictorConfig),
    /// A linear map set from the outputs' correlation instead of trained (Tian, Chen & Ganguli
    /// 2021).
    Direct(DirectConfig),
    /// h(z) = W z, W trained (Tian, Chen & Ganguli 2021, Sec. 3).
    Linear(LinearConfig),
    /// h(z) = W z, W set to the least-squares regression of η on z instead of trained (Tian, Chen &
    /// Ganguli 2021, Table 1; Tang et al. 2022).
    LeastSquares(LeastSquaresConfig),
    /// h(z) = z + b, b trained (Zhang et al. 2022).
    Bias {},
}

impl Predictor {
    /// The MLP's configuration, if there is one.
    pub fn config(&self) -> Option<&PredictorConfig> {
        match self {
            Predictor::Mlp(config) => Some(config),
            _ => None,
        }
    }

    /// Whether h(z) = W z.
    pub fn is_linear(&self) -> bool {
        matches!(self, Predictor::Direct(_) | Predictor::Linear(_) | Predictor::LeastSquares(_))
    }

    /// Whether it is set from moments of the outputs, so that no gradient moves it.
    pub fn is_set(&self) -> bool {
        matches!(self, Predictor::Direct(_) | Predictor::LeastSquares(_))
    }

    /// Whether its weights descend the loss.
    pub fn is_trained(&self) -> bool {
        !self.is_set() && *self != (Predictor::None {})
    }

    /// Refuses numbers out of range.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        match self {
            Predictor::Direct(config) => config.check(),
            Predictor::LeastSquares(config) => config.check(),
            Predictor::Linear(LinearConfig { symmetric: true, unit_diagonal: true }) => Err(Error::Usage(
                "predictor.linear: symmetric and unit_diagonal are two constraints; take one".into(),
            )),
            _ => Ok(()),
        }
    }

    /// h for vectors of `dim` numbers, where there is one, and then, where it is trained, h⁻¹.
    ///
    /// # Errors
    /// [`Error::Usage`] when a width is out of range.
    pub fn networks(&self, dim: usize) -> Result<Vec<Network>> {
        Ok(match self {
            Predictor::None {} => Vec::new(),
            Predictor::Mlp(config) => {
                let h = Network::predictor(config, dim)?;
                if config.inverse { vec![h.clone(), h] } else { vec![h] }
            }
            Predictor::Direct(_) | Predictor::Linear(_) | Predictor::LeastSquares(_) => {
                vec![Network::linear_predictor(dim)?]
            }
            Predictor::Bias {} => vec![Network::bias_predictor(dim)?],
        })
    }
}
