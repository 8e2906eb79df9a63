//! Study files, and the values of a sweep's axis.

#[cfg(test)]
use super::run;
use simsiam_em::study::{Request, Study};
#[cfg(test)]
use std::path::Path;

/// The texts of studies/.
#[cfg(test)]
fn studies() -> Vec<Vec<u8>> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("studies")];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("studies/").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => texts.push((path.clone(), std::fs::read(path).expect("a study"))),
            }
        }
    }
    texts.sort();
    texts.into_iter().map(|(_, text)| text).collect()
}

/// Reads a study and makes its recipes at the smallest scale.
pub fn toml(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    if let Ok(study) = Study::parse("mutant", "mutant.toml", text) {
        let _ = study.resolve(&Request { scale: Some("smoke".into()), ..Request::default() });
    }
}

/// Reads what stands behind `--over`, behind `--set` and behind a study's own flag.
pub fn axis(bytes: &[u8]) {
    let study = Study::find("membank").expect("a study of sim's own");
    let text = String::from_utf8_lossy(bytes).into_owned();
    let _ = study.axis(&text);
    let scale = Some("smoke".to_string());
    let flags = vec![("m".to_string(), vec![text.clone()])];
    let _ = study.resolve(&Request { scale: scale.clone(), flags, ..Request::default() });
    let _ = study.resolve(&Request { scale, set: vec![text], ..Request::default() });
}

#[test]
fn studies_are_read_or_refused() {
    run("study TOML", studies(), toml);
}

#[test]
fn axes_are_read_or_refused() {
    let good = [
        "m=0.5,0.9,0.99",
        "optim.base_lr=0.01..0.1:5:log",
        "eta.k-step.k=1..9:5",
        "m=0..1:65536",
        "0.5",
        "seed=1",
    ];
    run("grid range", good.map(|text| text.as_bytes().to_vec()).to_vec(), axis);
}
