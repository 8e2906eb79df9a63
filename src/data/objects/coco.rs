//! `coco:DIR`: annotations/instances_*.json beside folders of images, as COCO has them and as
//! `sim data export` writes them.
//!
//! Masks are polygons, run lengths as numbers, or run lengths as text. A file of annotations is
//! walked through piece by piece: of COCO's 448 MB only what an object's mask is made of is held
//! twice.

use super::{Object, ObjectSet, ObjectSplit, Picture, Scenes, stays_inside};
use crate::error::{Error, Result};
use crate::files;
use crate::masks::{LONGEST_SIDE, Rectangle, Rle};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Longest file of annotations, in bytes; COCO's longest has 448 MB.
const LONGEST: u64 = 2 << 30;
const LAYOUT: &str = "expected COCO's layout: annotations/instances_NAME.json and NAME/*.jpg (or images/NAME/*.jpg), \
                      of which one NAME begins with train and one with val or test";

#[derive(Deserialize)]
struct File<'a> {
    images: Vec<ImageEntry>,
    #[serde(borrow)]
    annotations: Vec<Annotation<'a>>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct ImageEntry {
    id: u64,
    file_name: String,
    height: usize,
    width: usize,
}

#[derive(Deserialize)]
struct Annotation<'a> {
    id: u64,
    image_id: u64,
    category_id: u64,
    bbox: Rectangle,
    area: f64,
    #[serde(default)]
    iscrowd: u8,
    #[serde(default, borrow)]
    segmentation: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

/// Run lengths as COCO has them.
#[derive(Deserialize)]
struct Runs {
    size: [usize; 2],
    counts: Counts,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Counts {
    Text(String),
    Numbers(Vec<u32>),
}

/// The data set in the folder `root`.
///
/// # Errors
/// [`Error::Data`] for another layout, and for annotations that are not what they claim to be.
pub fn open(source: &str, root: &Path) -> Result<ObjectSet> {
    let [train, test] = halves(root)?;
    let (classes, train_half) = half(root, &train)?;
    let (others, test_half) = half(root, &test)?;
    if let Some(name) =
        others.iter().chain(&classes).find(|name| classes.contains(name) != others.contains(name))
    {
        let what =
            format!("the class {name} is one of {train} or {test} alone; both halves need the same classes");
        return Err(Error::data(root, what));
    }
    if classes != others {
        return Err(Error::data(root, format!("{train} and {test} number their classes in different ways")));
    }
    Ok(ObjectSet { name: source.into(), classes, train: train_half, test: test_half, notes: Vec::new() })
}

/// The names of the training and the held-out half.
fn halves(root: &Path) -> Result<[String; 2]> {
    let folder = root.join("annotations");
    let wrong = |what: String| Error::data(root, format!("{what}; {LAYOUT}"));
    let listed = std::fs::read_dir(&folder)
        .map_err(|error| wrong(format!("annotations/ cannot be listed: {error}")))?;
    let mut names = Vec::new();
    for entry in listed {
        let entry = entry.map_err(|error| wrong(format!("annotations/ cannot be listed: {error}")))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        names.extend(
            name.strip_prefix("instances_").and_then(|n| n.strip_suffix(".json")).map(str::to_string),
        );
    }
    names.sort();
    let one = |kinds: &[&str]| -> Result<Option<String>> {
        for kind in kinds {
            let found: Vec<&String> = names.iter().filter(|name| name.starts_with(kind)).collect();
            match found[..] {
                [] => {}
                [only] => return Ok(Some(only.clone())),
                [first, second, ..] => {
                    return Err(wrong(format!(
                        "has both {first} and {second}; move the file of one elsewhere"
                    )));
                }
            }
        }
        Ok(None)
    };
    match (one(&["train"])?, one(&["test", "val"])?) {
        (Some(train), Some(test)) => Ok([train, test]),
        (None, _) => Err(wrong("has no annotations/instances_train*.json".into())),
        (_, None) => Err(wrong("has no annotations/instances_val*.json or instances_test*.json".into())),
    }
}

/// The classes and the images of the half called `name`.
fn half(root: &Path, name: &str) -> Result<(Vec<String>, ObjectSplit)> {
    let path = root.join("annotations").join(format!("instances_{name}.json"));
    let wrong = |what: String| Error::data(&path, what);
    let text = files::text(&path, LONGEST).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let file: File =
        serde_json::from_str(&text).map_err(|error| wrong(format!("is no COCO file: {error}")))?;
    let mut categories = file.categories;
    categories.sort_by_key(|category| category.id);
    if let Some(twice) = categories.windows(2).find(|two| two[0].id == two[1].id) {
        return Err(wrong(format!("has two categories with the id {}", twice[0].id)));
    }
    let folder = [root.join(name), root.join("images").join(name)].into_iter().find(|folder| folder.is_dir());
    let folder = folder.ok_or_else(|| wrong(format!("lies beside no folder {name}/; {LAYOUT}")))?;
    let (mut pictures, places) = pictures(file.images, &folder).map_err(wrong)?;
    for annotation in file.annotations {
        let id = annotation.id;
        let at_fault = |what: String| wrong(format!("annotation {id}: {what}"));
        let image = places.get(&annotation.image_id);
        let image = image.ok_or_else(|| at_fault(format!("there is no image {}", annotation.image_id)))?;
        let class = categories.binary_search_by_key(&annotation.category_id, |category| category.id);
        let class =
            class.map_err(|_| at_fault(format!("there is no category {}", annotation.category_id)))?;
        let picture = &mut pictures[*image];
        let object = object(annotation, class, picture.size).map_err(|error| at_fault(error.to_string()))?;
        picture.objects.push(object);
    }
    if pictures.is_empty() {
        return Err(wrong("has no image".into()));
    }
    let classes = categories.into_iter().map(|category| category.name).collect();
    Ok((classes, ObjectSplit { scenes: Scenes::Files(pictures) }))
}

/// The images in the order of the file, and where each id is among them.
fn pictures(images: Vec<ImageEntry>, folder: &Path) -> Result<(Vec<Picture>, BTreeMap<u64, usize>), String> {
    let mut places = BTreeMap::new();
    let mut pictures = Vec::with_capacity(images.len());
    for ImageEntry { id, file_name, height, width } in images {
        if !stays_inside(&file_name) {
            return Err(format!("image {id}: '{file_name}' is no name of a file in its folder"));
        }
        if height.max(width) > LONGEST_SIDE || height.min(width) == 0 {
            return Err(format!("image {id}: {height}×{width} pixels are no image's size"));
        }
        if places.insert(id, pictures.len()).is_some() {
            return Err(format!("has two images with the id {id}"));
        }
        let path: PathBuf = folder.join(file_name);
        pictures.push(Picture { path, size: [height, width], objects: Vec::new() });
    }
    Ok((pictures, places))
}

fn object(annotation: Annotation, class: usize, size: [usize; 2]) -> Result<Object> {
    let Annotation { bbox, area, iscrowd, segmentation, .. } = annotation;
    let sides = bbox[2] >= 0.0 && bbox[3] >= 0.0;
    if !sides || !area.is_finite() || bbox.iter().any(|side| !side.is_finite()) {
        return Err(Error::Usage("its box or its area is none".into()));
    }
    let mask = segmentation.map(|raw| mask(raw.get(), size)).transpose()?.flatten();
    Ok(Object { class, bounding_box: bbox, mask, area, crowd: iscrowd != 0, difficult: false })
}

/// The mask that a piece of JSON says; none where it says `null` or has no polygon.
fn mask(json: &str, [height, width]: [usize; 2]) -> Result<Option<Rle>> {
    let none = |error: serde_json::Error| Error::Usage(format!("its segmentation is none: {error}"));
    if json.starts_with('{') {
        let Runs { size, counts } = serde_json::from_str(json).map_err(none)?;
        if size != [height, width] {
            let [h, w] = size;
            return Err(Error::Usage(format!("a mask of {h}×{w} pixels in an image of {height}×{width}")));
        }
        return match counts {
            Counts::Text(text) => Rle::from_text(height, width, &text).map(Some),
            Counts::Numbers(runs) => Rle::from_runs(height, width, runs).map(Some),
        };
    }
    match serde_json::from_str::<Option<Vec<Vec<f64>>>>(json).map_err(none)? {
        Some(polygons) if !polygons.is_empty() => Rle::of_polygons(height, width, &polygons).map(Some),
        _ => Ok(None),
    }
}
