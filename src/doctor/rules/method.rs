//! What can be wrong with the recipe, whatever the images are.

use crate::doctor::Facts;
use crate::doctor::diagnosis::{Bound, Diagnosis, Severity};
use crate::doctor::trials::TrialFacts;

/// Batch norm over B images knows a standard deviation to within 1/√(2(B − 1)): a quarter at 8.
const BATCH: Bound = Bound::AtLeast(8.0);
/// Over two images every number is +1 or -1, over three it has one degree of freedom left.
const NO_BATCH: usize = 4;
/// After fewer steps no verdict about collapse is given anywhere in this program.
const STEPS: Bound = Bound::AtLeast(50.0);
/// d over the backbone's features. The paper has 4 (ResNet-18) and 1 (ResNet-50).
const WIDE: Bound = Bound::AtMost(8.0);
/// Paper: 1, or 0 in Table 1, where it fails.
const PREDICTOR_RATE: Bound = Bound::AtLeast(0.1);
/// What a step takes of the weights. SimSiam's recipes have 5e-6 to 5e-5; at 1e-3 weights without
/// gradient are gone after a thousand steps.
const SHRINKS: Bound = Bound::AtMost(1e-3);
/// A learning rate that nobody uses without LARS: the largest of this program's studies is 1.6,
/// with batches of 512, and learns less for it.
const RATE: Bound = Bound::AtMost(2.0);
/// A weight decay that is used with SGD; where it takes too much the rate is too high.
const USUAL_DECAY: f64 = 1e-3;

pub fn diagnose(facts: &Facts, found: &mut Vec<Diagnosis>) {
    let checks =
        [stop_gradient, predictor, predictor_slow, no_norm, batch, batch_repeats, decay, rate, wide, short];
    found.extend(checks.iter().filter_map(|check| check(facts)));
}

/// A fault where the trial of the recipe failed, with the numbers by which it did.
fn with_trial(mut found: Diagnosis, trial: Option<&TrialFacts>) -> Diagnosis {
    if let Some(trial) = trial.filter(|trial| trial.has_failed()) {
        found.severity = Severity::Fault;
        return super::trials::add_numbers(found, trial);
    }
    found
}

fn stop_gradient(facts: &Facts) -> Option<Diagnosis> {
    let method = &facts.method;
    (method.leans_on_stop_gradient && !method.stop_gradient).then(|| {
        let why = "The gradient then moves the targets towards the outputs, too, and equal outputs for all images are the \
                   minimum that it finds. In code of your own, look for a missing .detach() on z.";
        let found = Diagnosis::new("no-stop-gradient", Severity::Fault, "gradient flows into the targets", why);
        with_trial(found.set("eta", "one-step"), facts.trial())
    })
}

fn predictor(facts: &Facts) -> Option<Diagnosis> {
    let method = &facts.method;
    (method.leans_on_predictor && method.stop_gradient && !method.predictor).then(|| {
        let hidden = (method.dim / 2).max(1);
        let why = "Without a predictor, negatives, codes or averaged targets nothing keeps outputs apart (Table 1 of the paper).";
        let found = Diagnosis::new("no-predictor", Severity::Fault, "there is no predictor", why);
        with_trial(
            found.set("predictor.mlp", &format!("{{hidden={hidden},norm=\"hidden\"}}")),
            facts.trial(),
        )
    })
}

fn predictor_slow(facts: &Facts) -> Option<Diagnosis> {
    let rate = facts.method.predictor_rate?;
    (facts.method.leans_on_predictor && PREDICTOR_RATE.is_broken_by(rate)).then(|| {
        let what = match rate {
            0.0 => "the predictor is not trained".to_string(),
            _ => format!("the predictor learns at {rate} times the encoder's rate"),
        };
        let why =
            "It stays behind the encoder, and few dimensions of the outputs survive (Table 1 of the paper).";
        let found = Diagnosis::new("slow-predictor", Severity::Warning, what, why);
        let found = match rate {
            0.0 => found.set("optim.predictor_lr", "decayed"),
            _ => found.set("optim.predictor_rate", "1.0"),
        };
        let reason = "the paper's predictor has the encoder's rate or a larger one";
        with_trial(
            found.rests_on("predictor's rate over the encoder's", rate, PREDICTOR_RATE, reason),
            facts.trial(),
        )
    })
}

fn no_norm(facts: &Facts) -> Option<Diagnosis> {
    (!facts.method.projector_norm).then(|| {
        let why = "Without it outputs have no common scale, and the loss goes to -1 along few dimensions (Table 3 of the paper).";
        let found = Diagnosis::new("no-batch-norm", Severity::Warning, "the projector has no batch norm", why);
        let found = match facts.method.predictor_norm {
            Some(false) => found.set("encoder.projector.norm", "all").also("--set predictor.mlp.norm=hidden"),
            _ => found.set("encoder.projector.norm", "all"),
        };
        with_trial(found, facts.trial())
    })
}

fn batch(facts: &Facts) -> Option<Diagnosis> {
    let (batch, is_cut) = (facts.method.normalised, facts.method.normalised < facts.method.batch);
    BATCH.is_broken_by(batch as f64).then(|| {
        let images = if batch == 1 { "1 image".into() } else { format!("{batch} images") };
        let what = match is_cut {
            true => format!("a shard has {images} of a batch, and batch norm sees no others"),
            false => format!("a batch has {images}"),
        };
        let why = "Batch norm compares each number with those of the batch's other images. Over two images it leaves its sign \
                   alone, over few it adds more noise than there is signal.";
        let severity = if batch < NO_BATCH { Severity::Fault } else { Severity::Warning };
        let found = Diagnosis::new("small-batch", severity, what, why);
        let reason = "over 8 images a standard deviation is known to within a quarter";
        // Trials are not cut into shards, and say nothing of it.
        match is_cut {
            true => found
                .set("schedule.sync_batch_norm", "true")
                .rests_on("images of a shard", batch as f64, BATCH, reason),
            false => with_trial(
                found.set("schedule.batch", "32").rests_on("images of a batch", batch as f64, BATCH, reason),
                facts.trial(),
            ),
        }
    })
}

fn batch_repeats(facts: &Facts) -> Option<Diagnosis> {
    let (batch, images) = (facts.method.batch, facts.method.images);
    // Of fewer no batch is of use, which is said already.
    (batch > images && images >= 2 * NO_BATCH * NO_BATCH).then(|| {
        let what = format!("a batch of {batch} is made of {images} images");
        let why = "Images stand in a batch more than once, and batch norm takes them for different ones.";
        Diagnosis::new("batch-repeats", Severity::Warning, what, why)
            .set("schedule.batch", &(images / 4).next_power_of_two().max(8).to_string())
            .rests_on(
                "images of a batch",
                batch as f64,
                Bound::AtMost(images as f64),
                "so many training images there are",
            )
    })
}

fn decay(facts: &Facts) -> Option<Diagnosis> {
    let shrinks = facts.method.shrinks;
    // Of a rate that is too high itself the decay is no cause.
    let rate = RATE.is_broken_by(facts.method.rate);
    (!facts.lars && !rate && facts.method.weight_decay > USUAL_DECAY && SHRINKS.is_broken_by(shrinks)).then(|| {
        let what = format!("weight decay takes {:.2} % of the weights at every step", 100.0 * shrinks);
        let why = "It outruns the gradient: outputs become constant, and the loss goes to 0 or stays where it is. AdamW's \
                   usual values, 0.01 to 0.1, do not fit SGD.";
        let found = Diagnosis::new("strong-decay", Severity::Warning, what, why).set("optim.weight_decay", "5e-4");
        let reason = "SimSiam's recipes have 5e-6 to 5e-5; at 1e-3 weights are gone after a thousand steps";
        with_trial(found.rests_on("learning rate times weight decay", shrinks, SHRINKS, reason), facts.trial())
    })
}

fn rate(facts: &Facts) -> Option<Diagnosis> {
    let rate = facts.method.rate;
    (!facts.lars && RATE.is_broken_by(rate)).then(|| {
        let what = format!("the learning rate reaches {}", super::short(rate));
        let why = "optim.base_lr is multiplied by batch / 256. With momentum 0.9 a step goes ten times as far in the end; steps \
                   so large throw weights about, or leave them where no gradient leads back from.";
        let usual = super::short(super::usual_base_lr(facts));
        let found = Diagnosis::new("high-rate", Severity::Warning, what, why).set("optim.base_lr", &usual);
        let reason = "the largest of this program's studies is 1.6, and learns less for it";
        with_trial(found.rests_on("learning rate", rate, RATE, reason), facts.trial())
    })
}

fn wide(facts: &Facts) -> Option<Diagnosis> {
    let method = &facts.method;
    let (dim, features, images) = (method.dim as f64, method.features as f64, method.images as f64);
    // Of few images that is said already.
    let enough = !super::images::FEWEST.is_broken_by(images);
    let (by_features, by_images) = (WIDE.is_broken_by(dim / features.max(1.0)), enough && dim > images);
    (facts.learns_alone && (by_features || by_images)).then(|| {
        let narrower = (4 * method.features).min(method.images / 2).max(2).next_power_of_two();
        let why = "Outputs span no more directions than the features and the images give them. The rest is noise that batch \
                   norm enlarges to the same size, and RankMe compares with a d that cannot be reached.";
        let mut found = Diagnosis::new(
            "wide-projector",
            Severity::Warning,
            format!("z has {} dimensions, of {} features and {} images", method.dim, method.features, method.images),
            why,
        )
        .set("encoder.projector.dim", &narrower.to_string());
        if facts.method.predictor_norm.is_some() {
            found = found.also(&format!("--set predictor.mlp.hidden={}", (narrower / 2).max(1)));
        }
        if by_features {
            found = found.rests_on("d over the backbone's features", dim / features, WIDE, "the paper has 4 (ResNet-18) and 1 (ResNet-50)");
        }
        if by_images {
            found = found.rests_on("d", dim, Bound::AtMost(images), "N outputs span N directions at most");
        }
        found
    })
}

fn short(facts: &Facts) -> Option<Diagnosis> {
    let steps = facts.method.steps as f64;
    STEPS.is_broken_by(steps).then(|| {
        let what = format!("the run has {} steps", facts.method.steps);
        let why = "Random weights begin with outputs that are nearly parallel; after so few steps nothing can be said.";
        let per_epoch = (facts.method.images / facts.method.batch.max(1)).max(1);
        Diagnosis::new("short-run", Severity::Warning, what, why)
            .set("schedule.epochs", &500usize.div_ceil(per_epoch).to_string())
            .rests_on("steps of the run", steps, STEPS, "outputs of random weights take some fifty steps to spread")
    })
}
