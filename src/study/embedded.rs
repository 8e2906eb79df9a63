//! The folder `studies/`, carried inside the binary. A test compares this list with the folder.

/// A file of `studies/`.
#[derive(Clone, Copy, Debug)]
pub struct Embedded {
    /// Its path from the repository's root.
    pub path: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! embed {
    ($($path:literal),* $(,)?) => {
        [$(Embedded {
            path: concat!("studies/", $path),
            text: include_str!(concat!("../../studies/", $path)),
        }),*]
    };
}

/// Every file, in reading order.
pub const FILES: [Embedded; 60] = embed![
    "simsiam.toml",
    "stopgrad.toml",
    "predictor.toml",
    "batchsize.toml",
    "batchnorm.toml",
    "similarity.toml",
    "symmetry.toml",
    "multistep.toml",
    "membank.toml",
    "methods.toml",
    "lengths.toml",
    "simclr.toml",
    "byol.toml",
    "swav.toml",
    "eta-rules.toml",
    "batch-methods.toml",
    "syncbn.toml",
    "expectation.toml",
    "predictor-gap.toml",
    "eta-gap.toml",
    "em-objective.toml",
    "trajectories.toml",
    "dispute.toml",
    "dimensional-collapse.toml",
    "linear-em.toml",
    "no-potential.toml",
    "linear-field.toml",
    "optimal-predictor.toml",
    "linear-predictor.toml",
    "target-variance.toml",
    "spread-terms.toml",
    "single-pass.toml",
    "factorial.toml",
    "rank-differential.toml",
    "implicit-variance.toml",
    "verification.toml",
    "one-shot.toml",
    "tracking.toml",
    "transfer.toml",
    "base/simsiam.toml",
    "base/simclr.toml",
    "base/moco.toml",
    "base/byol.toml",
    "base/swav.toml",
    "base/supervised.toml",
    "base/siamese.toml",
    "scale/smoke.toml",
    "scale/laptop.toml",
    "scale/cifar.toml",
    "scale/cifar-small.toml",
    "scale/imagenet.toml",
    "data/shapes.toml",
    "data/glyphs.toml",
    "data/folder.toml",
    "data/cifar10.toml",
    "data/cifar100.toml",
    "data/stl10.toml",
    "data/tar.toml",
    "data/parquet.toml",
    "data/tiny-imagenet.toml",
];

/// The names in a folder of `studies/` ("" for the studies themselves), without `.toml`.
pub fn names(folder: &str) -> impl Iterator<Item = &'static str> {
    let prefix = if folder.is_empty() { "studies/".to_string() } else { format!("studies/{folder}/") };
    FILES.iter().filter_map(move |file| {
        file.path.strip_prefix(&prefix)?.strip_suffix(".toml").filter(|name| !name.contains('/'))
    })
}

/// The file called `name` in `folder`.
pub fn find(folder: &str, name: &str) -> Option<Embedded> {
    let path = if folder.is_empty() {
        format!("studies/{name}.toml")
    } else {
        format!("studies/{folder}/{name}.toml")
    };
    FILES.iter().find(|file| file.path == path).copied()
}
