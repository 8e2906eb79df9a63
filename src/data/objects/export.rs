//! `sim data export`: writes images with objects as COCO has them.

use super::{Object, ObjectSet, ObjectSplit};
use crate::augment::Image;
use crate::data::shards::pack::make_empty;
use crate::error::{Error, Result, go_on};
use serde::Serialize;
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// What was written.
#[derive(Debug, Default, PartialEq)]
pub struct Exported {
    /// Images.
    pub images: usize,
    /// Objects, crowds among them.
    pub objects: usize,
}

#[derive(Serialize)]
struct File<'a> {
    images: Vec<ImageEntry>,
    annotations: Vec<Annotation>,
    categories: Vec<Category<'a>>,
}

#[derive(Serialize)]
struct ImageEntry {
    id: usize,
    file_name: String,
    height: usize,
    width: usize,
}

#[derive(Serialize)]
struct Annotation {
    id: usize,
    image_id: usize,
    category_id: usize,
    bbox: [f64; 4],
    area: f64,
    iscrowd: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    segmentation: Option<Runs>,
}

#[derive(Serialize)]
struct Runs {
    size: [usize; 2],
    counts: String,
}

#[derive(Serialize)]
struct Category<'a> {
    id: usize,
    name: &'a str,
}

/// Writes `set` into the folder `out`, which is made or empty: train/, test/ and
/// annotations/instances_train.json, annotations/instances_test.json.
///
/// Images are PNG, masks are run lengths as text. Ids begin with 1: pycocotools takes a truth whose
/// id is 0 for one that nothing matched. What is read back from there and written again has the
/// same bytes. Annotations are written last, so that a folder that was left half written is told.
///
/// # Errors
/// [`Error::Usage`] where `out` holds something, [`Error::Data`] for images that cannot be decoded,
/// [`Error::Disk`] where nothing can be written, [`Error::Stopped`] once `stop` is set.
pub fn export(set: &ObjectSet, out: &Path, stop: &AtomicBool) -> Result<Exported> {
    make_empty(out, "the images")?;
    let mut exported = Exported::default();
    for (name, split) in [("train", &set.train), ("test", &set.test)] {
        let file = File { annotations: Vec::new(), images: Vec::new(), categories: categories(&set.classes) };
        let file = images(split, &out.join(name), file, stop)?;
        exported.images += file.images.len();
        exported.objects += file.annotations.len();
        let path = out.join("annotations").join(format!("instances_{name}.json"));
        let text = serde_json::to_vec(&file)
            .map_err(|error| Error::Failure(format!("cannot write annotations: {error}")))?;
        make_folder(&out.join("annotations"))?;
        std::fs::write(&path, text).map_err(Error::disk(&path, "write the annotations"))?;
    }
    Ok(exported)
}

fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(Error::disk(path, "create the folder"))
}

fn categories(classes: &[String]) -> Vec<Category<'_>> {
    classes.iter().enumerate().map(|(class, name)| Category { id: class + 1, name }).collect()
}

/// Writes the images of `split` into `folder`, and adds them and their objects to `file`.
fn images<'a>(split: &ObjectSplit, folder: &Path, mut file: File<'a>, stop: &AtomicBool) -> Result<File<'a>> {
    make_folder(folder)?;
    for index in 0..split.len() {
        go_on(stop)?;
        let scene = split.scene(index)?;
        let (height, width) = (scene.image.height, scene.image.width);
        let image_id = index + 1;
        let file_name = format!("{image_id:012}.png");
        let path = folder.join(&file_name);
        std::fs::write(&path, png(scene.image, &path)?).map_err(Error::disk(&path, "write the image"))?;
        file.images.push(ImageEntry { id: image_id, file_name, height, width });
        for object in &scene.objects {
            file.annotations.push(annotation(object, file.annotations.len() + 1, image_id));
        }
    }
    Ok(file)
}

fn annotation(object: &Object, id: usize, image_id: usize) -> Annotation {
    let runs = |mask: &crate::masks::Rle| Runs { size: mask.size(), counts: mask.to_text() };
    Annotation {
        id,
        image_id,
        category_id: object.class + 1,
        bbox: object.bounding_box,
        area: object.area,
        iscrowd: u8::from(object.crowd),
        segmentation: object.mask.as_ref().map(runs),
    }
}

fn png(image: Image, path: &Path) -> Result<Vec<u8>> {
    let no_png = || Error::Failure(format!("{} cannot be written as PNG", path.display()));
    let Image { height, width, pixels } = image;
    let picture = image::RgbImage::from_raw(width as u32, height as u32, pixels).ok_or_else(no_png)?;
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).map_err(|_| no_png())?;
    Ok(bytes.into_inner())
}
