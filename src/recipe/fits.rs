//! What of a recipe must fit together: the objective the E-step's η, the comparison the predictor.

use super::{Predictor, Recipe};
use crate::error::{Error, Result};
use crate::eta::Rule;
use crate::network::Network;
use crate::objective::{Comparison, Similarity};
use crate::optim::PredictorLr;

impl Recipe {
    /// Refuses a pre-training whose weights the run could not begin with.
    pub(super) fn check_pretraining(&self) -> Result<()> {
        let fail = |what: &str| Err(Error::Usage(format!("pretraining: {what}")));
        let Some(first) = &self.pretraining else { return Ok(()) };
        first.check()?;
        match () {
            () if first.pretraining.is_some() => fail("it has a pre-training itself; there is one at most"),
            () if self.closed_form.is_some() || first.closed_form.is_some() => {
                fail("a closed form has no weights to begin with")
            }
            () if self.encoder.init.is_some() => Err(Error::Usage(
                "encoder.init: an arm that begins with another's weights (from) takes no others".into(),
            )),
            () if first.encoder.backbone != self.encoder.backbone => {
                fail("it has another encoder.backbone than the run that begins with it")
            }
            () => Ok(()),
        }
    }

    /// Refuses an objective that does not fit the E-step's η, or the batch.
    pub(super) fn check_objective(&self) -> Result<()> {
        let fail = |what: String| Err(Error::Usage(what));
        let (objective, eta) = (&self.objective, self.eta.name());
        let codes = matches!(self.eta, Rule::Sinkhorn { .. });
        if codes && objective.similarity != Similarity::CrossEntropy {
            return fail("eta.sinkhorn: its codes need objective.similarity = \"cross-entropy\"".into());
        }
        if objective.prototypes.is_some() && !codes {
            return fail(format!("objective.prototypes: eta.{eta} makes no codes; eta.sinkhorn does"));
        }
        if self.eta == (Rule::Labels {}) {
            if !matches!(objective.similarity, Similarity::CrossEntropy | Similarity::Contrastive) {
                return fail(
                    "eta.labels: classes need objective.similarity = \"cross-entropy\" or \"contrastive\""
                        .into(),
                );
            }
            if self.predictor != (Predictor::None {}) {
                return fail(
                    "eta.labels: the projector is the classifier's head; it takes predictor.none = {}".into(),
                );
            }
        }
        if objective.similarity == Similarity::Contrastive && self.eta != (Rule::Labels {}) {
            return fail(format!(
                "objective.similarity: \"contrastive\" is about images of one class and of two; eta.{eta} has none, eta.labels has"
            ));
        }
        if objective.spread.is_some() && self.schedule.batch < 2 {
            return fail(
                "objective.spread: a batch of one image has no spread; schedule.batch is at least 2".into(),
            );
        }
        if self.eta.negatives() > 0 && objective.similarity != Similarity::InfoNce {
            return fail(format!("eta.{eta}.queue: its negatives need objective.similarity = \"info-nce\""));
        }
        if let Some(crops) = &self.augment.multi_crop {
            let of_size = |size: usize| Network::encoder(&self.encoder, (size, size));
            if of_size(crops.size)?.theta_len() != of_size(self.augment.size)?.theta_len() {
                return fail("augment.multi_crop: this backbone takes images of one size only".into());
            }
            let rows = objective.similarity.is_of_rows() && objective.comparison == Comparison::Simsiam;
            if !(objective.symmetric && objective.pairs == 1 && rows) {
                return fail(
                    "augment.multi_crop: small crops are compared with the targets of both views: objective.symmetric \
                     = true, 1 pair, comparison = \"simsiam\", similarity neither \"info-nce\" nor \"contrastive\""
                        .into(),
                );
            }
        }
        self.check_whitened()?;
        self.check_tracking()?;
        self.check_watched()
    }

    /// Refuses to whiten fewer outputs than they have dimensions.
    fn check_whitened(&self) -> Result<()> {
        let views = self.objective.views();
        let (rows, dim) = (views * self.schedule.batch, self.encoder.projector.dim);
        if matches!(self.eta, Rule::Whitened { .. }) && rows < dim {
            return Err(Error::Usage(format!(
                "eta.whitened: {rows} outputs of a batch, {views} views of each image, cannot be white in {dim} dimensions; take \
                 a larger schedule.batch or a smaller encoder.projector.dim"
            )));
        }
        Ok(())
    }

    /// Refuses to track by a backbone that makes no feature maps.
    fn check_tracking(&self) -> Result<()> {
        let Some(tracking) = self.measure.tracking else { return Ok(()) };
        let trunk = Network::trunk(&self.encoder.backbone, [tracking.exemplar; 2]);
        trunk.map(drop).map_err(|e| Error::Usage(format!("measure.tracking: {e}")))
    }

    /// Refuses to watch an alternation in which there is nothing to see.
    fn check_watched(&self) -> Result<()> {
        let fail = |what: String| Err(Error::Usage(what));
        let (objective, codes) = (&self.objective, matches!(self.eta, Rule::Sinkhorn { .. }));
        if self.measure.predictor && !self.predictor.is_linear() {
            return fail(
                "measure.predictor: it looks at the matrix of h; predictor.linear, predictor.least-squares and \
                 predictor.direct are one"
                    .into(),
            );
        }
        let em = self.measure.em.as_ref();
        if em.is_some_and(|em| em.eta) && self.eta == (Rule::Labels {}) {
            return fail(
                "measure.em.eta: labels are no outputs, so that there is no expectation of them".into(),
            );
        }
        if em.is_some_and(|em| em.field > 0) && !self.eta.is_of_theta() {
            let eta = self.eta.name();
            return fail(format!(
                "measure.em.field: under eta.{eta} η is not a function of θ that is held still; it is under one-step, \
                 mean-of-others, and expectation without momentum at k = 1"
            ));
        }
        if em.is_some_and(|em| em.ranks) && (codes || self.eta == (Rule::Labels {})) {
            let eta = self.eta.name();
            return fail(format!(
                "measure.em.ranks: under eta.{eta} η is no output, so that its rank is not p's kind"
            ));
        }
        if em.is_some_and(|em| em.objective || em.eta) {
            if codes {
                return fail("measure.em: codes are no outputs; objective and eta cannot be measured".into());
            }
            if !objective.similarity.is_of_rows() {
                let name = objective.similarity.name();
                return fail(format!("measure.em: L(θ, η) is a sum over images, which \"{name}\" is not"));
            }
        }
        Ok(())
    }

    /// Refuses a comparison that needs a predictor which is not there, or would do nothing.
    pub(super) fn check_comparison(&self) -> Result<()> {
        let fail = |what: String| Err(Error::Usage(what));
        let (comparison, name) = (self.objective.comparison, self.objective.comparison.name());
        let inverse = self.predictor.config().is_some_and(|h| h.inverse);
        let wants_inverse = comparison == Comparison::InversePredictor;
        if comparison != Comparison::Simsiam && self.predictor == (Predictor::None {}) {
            return fail(format!("objective.comparison: \"{name}\" needs a predictor; this recipe has none"));
        }
        if comparison != Comparison::Simsiam && self.eta == (Rule::None {}) {
            return fail(format!(
                "objective.comparison: \"{name}\" takes a target without gradient; eta = \"none\" has one with"
            ));
        }
        if comparison.takes_a_part() && self.objective.similarity != Similarity::Cosine {
            return fail(format!(
                "objective.comparison: \"{name}\" is defined for similarity = \"cosine\" only"
            ));
        }
        if wants_inverse && !inverse {
            return fail(format!("objective.comparison: \"{name}\" needs predictor.mlp.inverse = true"));
        }
        if inverse && !wants_inverse {
            return fail(format!(
                "predictor.mlp.inverse: true needs objective.comparison = \"inverse-predictor\", not \"{name}\""
            ));
        }
        self.predictor.check()?;
        if self.predictor.is_set() && self.optim.predictor_lr != PredictorLr::Decayed {
            return fail("optim.predictor_lr: a predictor that is set directly has no learning rate".into());
        }
        if self.optim.predictor_decay.is_some() && !self.predictor.is_trained() {
            return fail("optim.predictor_decay: this recipe has no predictor that is trained".into());
        }
        Ok(())
    }
}
