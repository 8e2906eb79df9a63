//! `voc:DIR`: PASCAL VOC's layout, of any year: Annotations/*.xml, ImageSets/Main/*.txt and
//! JPEGImages/.
//!
//! VOC counts pixels from 1 and its boxes hold their last pixel: a box from 1 to 5 has its left
//! edge at 0 and is 5 wide.

use super::{Object, ObjectSet, ObjectSplit, Picture, Scenes, stays_inside};
use crate::data::walk::EXTENSIONS;
use crate::error::{Error, Result};
use crate::files;
use crate::masks::LONGEST_SIDE;
use roxmltree::{Document, Node, ParsingOptions};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const LAYOUT: &str = "expected PASCAL VOC's layout: ImageSets/Main/trainval.txt and test.txt (or train.txt and val.txt), \
                      Annotations/*.xml and JPEGImages/*.jpg";
/// Nodes of an annotation at most: more than 8,000 objects have.
const MOST_NODES: u32 = 200_000;

/// An object with the name of its class.
type NamedObject = (String, Object);

/// An image of a list, with the names of its objects' classes.
struct Listed {
    path: PathBuf,
    size: [usize; 2],
    objects: Vec<NamedObject>,
}

/// The data set in the folder `root`.
///
/// # Errors
/// [`Error::Data`] for another layout, and for annotations that are not what they claim to be.
pub fn open(source: &str, root: &Path) -> Result<ObjectSet> {
    let lists = root.join("ImageSets").join("Main");
    let there = |name: &&[&str; 2]| name.iter().all(|name| lists.join(name).is_file());
    let names = [["trainval.txt", "test.txt"], ["train.txt", "val.txt"], ["train.txt", "test.txt"]];
    let names = names.iter().find(there);
    let names = names.ok_or_else(|| Error::data(root, format!("has no lists of images; {LAYOUT}")))?;
    let mut halves = [Vec::new(), Vec::new()];
    for (half, name) in halves.iter_mut().zip(names) {
        *half = listed(root, &lists.join(name))?;
    }
    let all = halves.iter().flatten().flat_map(|listed| &listed.objects);
    let classes: Vec<String> =
        all.map(|(name, _)| name.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    let [train, test] = halves.map(|half| {
        let pictures = half.into_iter().map(|listed| numbered(listed, &classes)).collect();
        ObjectSplit { scenes: Scenes::Files(pictures) }
    });
    Ok(ObjectSet { name: source.into(), classes, train, test, notes: Vec::new() })
}

/// An image whose objects know the numbers of their classes.
fn numbered(listed: Listed, classes: &[String]) -> Picture {
    let Listed { path, size, objects } = listed;
    let number = |(name, object): NamedObject| {
        let class = classes.binary_search(&name).unwrap_or_default();
        Object { class, ..object }
    };
    Picture { path, size, objects: objects.into_iter().map(number).collect() }
}

/// The images of a list.
fn listed(root: &Path, list: &Path) -> Result<Vec<Listed>> {
    let text = files::text(list, files::TABLE)
        .map_err(|error| Error::data(list, format!("cannot be read: {error}")))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let images = lines.map(|(line, text)| {
        // Lists of one class have a second column.
        let id = text.split_whitespace().next().unwrap_or_default();
        if !stays_inside(id) || id.contains(['/', '\\']) {
            return Err(Error::data(list, format!("line {}: '{id}' is no name of an image", line + 1)));
        }
        image(root, id)
    });
    let images: Vec<Listed> = images.collect::<Result<_>>()?;
    if images.is_empty() { Err(Error::data(list, "names no image")) } else { Ok(images) }
}

/// The image `id` and its annotation.
fn image(root: &Path, id: &str) -> Result<Listed> {
    let pictures = root.join("JPEGImages");
    let path =
        EXTENSIONS.iter().map(|ending| pictures.join(format!("{id}.{ending}"))).find(|path| path.is_file());
    let path = path.ok_or_else(|| Error::data(&pictures, format!("has no image {id}; {LAYOUT}")))?;
    let annotation = root.join("Annotations").join(format!("{id}.xml"));
    let wrong = |what: String| Error::data(&annotation, what);
    let text =
        files::text(&annotation, files::SHORT).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let options = ParsingOptions { nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    let document =
        Document::parse_with_options(&text, options).map_err(|error| wrong(format!("is no XML: {error}")))?;
    let (size, objects) = annotated(document.root_element()).map_err(wrong)?;
    Ok(Listed { path, size, objects })
}

/// The child called `name`.
fn child<'a>(node: Node<'a, 'a>, name: &str) -> Result<Node<'a, 'a>, String> {
    let found = node.children().find(|child| child.has_tag_name(name));
    found.ok_or_else(|| format!("<{}> has no <{name}>", node.tag_name().name()))
}

fn number(node: Node, name: &str) -> Result<f64, String> {
    let text = child(node, name)?.text().unwrap_or_default().trim();
    let value = text.parse::<f64>().ok().filter(|value| value.abs() <= LONGEST_SIDE as f64);
    value.ok_or_else(|| {
        format!("<{name}> is '{}', no place in an image", text.chars().take(20).collect::<String>())
    })
}

/// What an annotation says: the image's size, and the objects with the names of their classes.
fn annotated(root: Node) -> Result<([usize; 2], Vec<NamedObject>), String> {
    let side = |name: &str| match number(child(root, "size")?, name)? {
        side if side >= 1.0 && side.fract() == 0.0 => Ok(side as usize),
        side => Err(format!("<{name}> is {side}, no side of an image")),
    };
    let size = [side("height")?, side("width")?];
    let objects = root.children().filter(|child| child.has_tag_name("object")).map(|object| {
        let name = child(object, "name")?.text().unwrap_or_default().trim().to_string();
        if name.is_empty() {
            return Err("an object has no name".to_string());
        }
        let corners = child(object, "bndbox")?;
        let place = |name: &str| number(corners, name);
        let (x, y) = (place("xmin")? - 1.0, place("ymin")? - 1.0);
        let (width, height) = (place("xmax")? - x, place("ymax")? - y);
        if width <= 0.0 || height <= 0.0 {
            return Err(format!("a {name} ends before it begins"));
        }
        let difficult =
            child(object, "difficult").is_ok_and(|node| node.text().unwrap_or_default().trim() == "1");
        let bounding_box = [x, y, width, height];
        let area = width * height;
        Ok((name, Object { class: 0, bounding_box, mask: None, area, crowd: false, difficult }))
    });
    Ok((size, objects.collect::<Result<_, _>>()?))
}
