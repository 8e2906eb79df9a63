//! Images with objects: drawn, written and read back; what comes from outside is refused with a
//! sentence.

use crate::support::{output, picture};
use simsiam_em::data::objects::scenes::{ScenesConfig, scene};
use simsiam_em::data::objects::{Object, ObjectSet, ObjectSplit};
use simsiam_em::masks::Rle;
use std::collections::BTreeMap;
use std::path::Path;

fn few(crowd: bool) -> ScenesConfig {
    ScenesConfig { train: 40, test: 20, crowd, ..ScenesConfig::default() }
}

fn open(source: &str) -> simsiam_em::Result<ObjectSet> {
    ObjectSet::open(source, &few(false))
}

fn sim(root: &Path, args: &str) -> (Option<i32>, String, String) {
    let out = output(root, &args.split(' ').collect::<Vec<_>>());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

/// Every file below a folder, by its place there.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let place = path.strip_prefix(root).unwrap().display().to_string();
                    found.insert(place, std::fs::read(&path).unwrap());
                }
            }
        }
    }
    found
}

#[test]
fn scenes_are_a_function_of_seed_split_and_index_and_objects_hide_each_other() {
    let config = few(true);
    let (mut crowds, mut hidden, mut bright) = (0, 0, Vec::new());
    for index in 0..200 {
        let drawn = scene(&config, 0, index);
        assert_eq!(drawn.image, scene(&config, 0, index).image);
        let mut taken = vec![false; 64 * 64];
        let mean = |inside: &dyn Fn(usize) -> bool| {
            let chosen =
                (0..64 * 64).filter(|p| inside(*p)).map(|p| f64::from(drawn.image.pixels[3 * p + 1]));
            let chosen: Vec<f64> = chosen.collect();
            chosen.iter().sum::<f64>() / chosen.len() as f64
        };
        for Object { bounding_box, mask, area, crowd, .. } in &drawn.objects {
            let mask = mask.as_ref().unwrap();
            assert_eq!((mask.bounding_box(), mask.area() as f64), (*bounding_box, *area));
            assert!(*area >= 12.0);
            let pixels = mask.to_pixels();
            for (pixel, inside) in taken.iter_mut().zip(&pixels) {
                assert!(!(*pixel && *inside), "a pixel is of one object");
                *pixel |= inside;
            }
            crowds += usize::from(*crowd);
            hidden += usize::from(!crowd && *area < 1.72 * 16.0);
            bright.push(mean(&|p| pixels[p]) - mean(&|p| !taken[p]));
        }
    }
    assert!((20..80).contains(&crowds), "{crowds} of 200 images have a crowd");
    assert!(hidden > 0, "some objects are smaller than the smallest motif");
    // Of a contrast of 0.10 to 0.28, in bytes.
    let mean = bright.iter().sum::<f64>() / bright.len() as f64;
    assert!((25.0..72.0).contains(&mean), "{mean}");
    let other = [
        scene(&config, 1, 0),
        scene(&config, 0, 1),
        scene(&ScenesConfig { seed: 1, ..config.clone() }, 0, 0),
    ];
    other.iter().for_each(|other| assert_ne!(other.image, scene(&config, 0, 0).image));
    let alone = few(false);
    assert!((0..200).all(|index| scene(&alone, 0, index).objects.iter().all(|object| !object.crowd)));
}

#[test]
fn scenes_are_written_and_read_back_byte_for_byte() {
    let root = tempfile::tempdir().unwrap();
    let (code, said, told) = sim(root.path(), "data export scenes a --train 40 --test 20 --crowd");
    assert_eq!((code, told.as_str()), (Some(0), ""));
    assert!(said.contains("60 images with") && said.contains("--data coco:a reads them"), "{said}");
    let drawn = ObjectSet::open("scenes", &few(true)).unwrap();
    let read = open(&format!("coco:{}", root.path().join("a").display())).unwrap();
    assert_eq!(read.classes, drawn.classes);
    for (read, drawn) in [(&read.train, &drawn.train), (&read.test, &drawn.test)] {
        assert_eq!(read.len(), drawn.len());
        for index in 0..read.len() {
            let (a, b) = (read.scene(index).unwrap(), drawn.scene(index).unwrap());
            assert_eq!((a.image, &a.objects), (b.image, &b.objects));
            assert_eq!(read.objects(index), b.objects);
        }
    }
    assert_eq!(sim(root.path(), "data export coco:a b").0, Some(0));
    let (a, b) = (files(&root.path().join("a")), files(&root.path().join("b")));
    assert!(a == b && a.len() == 62, "what is read back and written again has the same bytes");
    let (code, _, told) = sim(root.path(), "data export coco:a b");
    assert!(code == Some(2) && told.contains("name a new folder for the images"), "{told}");

    let (code, said, _) = sim(root.path(), "data check --data coco:a --json");
    let line: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &line["train"]["images"]), (Some(0), &40.into()));
    let counted: u64 = line["train"]["objects"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
    let all = (0..40).flat_map(|index| drawn.train.objects(index)).filter(|object| !object.crowd).count();
    assert_eq!(counted, all as u64);
    for data in ["coco:a", "scenes"] {
        assert_eq!(sim(root.path(), &format!("data preview --data {data} --out sheet.png")).0, Some(0));
        let sheet = image::open(root.path().join("sheet.png")).unwrap();
        assert!(sheet.width() > 10 * 64 && sheet.height() > 10 * 64);
    }
    let (code, _, told) = sim(root.path(), "run simsiam --data scenes");
    assert!(code == Some(2) && told.contains("unknown kind of data `scenes`"), "{told}");
}

/// A folder of COCO's layout with one image of 6 × 8 pixels in each half, and these annotations.
fn coco(root: &Path, annotations: &str) -> String {
    for half in ["train", "val"] {
        picture_of(&root.join(half).join("1.png"), 8, 6);
        let text = format!(
            r#"{{"info": {{"year": 2017}}, "images": [{{"id": 7, "file_name": "1.png", "height": 6, "width": 8, "license": 1}}],
            "annotations": [{annotations}], "categories": [{{"id": 3, "name": "b"}}, {{"id": 2, "name": "a"}}]}}"#
        );
        std::fs::create_dir_all(root.join("annotations")).unwrap();
        std::fs::write(root.join("annotations").join(format!("instances_{half}.json")), text).unwrap();
    }
    format!("coco:{}", root.display())
}

fn picture_of(path: &Path, width: u32, height: u32) {
    picture(path, 9);
    image::RgbImage::new(width, height).save(path).unwrap();
}

/// An annotation with this segmentation.
fn annotation(segmentation: &str) -> String {
    format!(
        r#"{{"id": 5, "image_id": 7, "category_id": 3, "bbox": [1, 1.5, 4, 3], "area": 11.5, "iscrowd": 0,
        "segmentation": {segmentation}}}"#
    )
}

#[test]
fn polygons_and_either_kind_of_run_lengths_are_the_same_masks() {
    let mask = Rle::of_polygons(6, 8, &[vec![1.0, 1.0, 5.0, 1.0, 5.0, 4.0, 1.0, 4.0]]).unwrap();
    let runs = format!(r#"{{"size": [6, 8], "counts": {:?}}}"#, mask.runs());
    let text = format!(r#"{{"counts": {:?}, "size": [6, 8]}}"#, mask.to_text());
    let polygon = "[[1.0, 1, 5, 1, 5, 4, 1, 4], [1, 1, 2, 1, 2, 2]]";
    for segmentation in [polygon, &runs, &text] {
        let root = tempfile::tempdir().unwrap();
        let set = open(&coco(root.path(), &annotation(segmentation))).unwrap();
        let expected = Object {
            class: 1,
            bounding_box: [1.0, 1.5, 4.0, 3.0],
            mask: Some(mask.clone()),
            area: 11.5,
            crowd: false,
            difficult: false,
        };
        assert_eq!((set.classes, set.train.objects(0)), (vec!["a".into(), "b".into()], vec![expected]));
        assert_eq!(set.test.scene(0).unwrap().image.width, 8);
    }
    for (none, crowd) in [("null", 0), ("[]", 1)] {
        let root = tempfile::tempdir().unwrap();
        let text = annotation(none).replace(r#""iscrowd": 0"#, &format!(r#""iscrowd": {crowd}"#));
        let object = open(&coco(root.path(), &text)).unwrap().train.objects(0).remove(0);
        assert_eq!((object.mask, object.crowd), (None, crowd == 1));
    }
}

fn refused(set: simsiam_em::Result<ObjectSet>, why: &str) {
    let error = set.unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error}");
    assert!(error.to_string().contains(why) && !error.to_string().contains('\n'), "{why}: {error}");
}

#[test]
fn annotations_that_are_not_what_they_claim_are_refused_with_a_sentence() {
    let good = annotation("null");
    let runs = |size: &str, counts: &str| annotation(&format!(r#"{{"size": {size}, "counts": {counts}}}"#));
    for (annotations, why) in [
        (good.replace(r#""image_id": 7"#, r#""image_id": 8"#), "annotation 5: there is no image 8"),
        (good.replace(r#""category_id": 3"#, r#""category_id": 4"#), "annotation 5: there is no category 4"),
        (good.replace("[1, 1.5, 4, 3]", "[1, 1.5, -4, 3]"), "its box or its area is none"),
        (good.replace("[1, 1.5, 4, 3]", "[1, 1.5, 4]"), "is no COCO file"),
        (good.replace("11.5", "1e999"), "is no COCO file"),
        (runs("[8, 6]", "[48]"), "a mask of 8×6 pixels in an image of 6×8"),
        (runs("[6, 8]", "[47]"), "its runs are 47 pixels where 6×8 are 48"),
        (runs("[6, 8]", "[4294967295, 4294967295]"), "its runs are"),
        (runs("[6, 8]", "[-1, 49]"), "its segmentation is none"),
        (runs("[6, 8]", r#""PPPPPPPPPP""#), "too long"),
        (annotation("[[1, 2, 3, 4]]"), "a polygon of 4 numbers"),
        (annotation("[[1, 2, 3, 4, 5, 1e300]]"), "far outside of its image"),
        (annotation(&"[".repeat(100_000)), "is no COCO file"),
        (good.replace('}', ""), "is no COCO file"),
    ] {
        let root = tempfile::tempdir().unwrap();
        refused(open(&coco(root.path(), &annotations)), why);
    }
    for (from, to, why) in [
        (r#""1.png""#, r#""../1.png""#, "no name of a file in its folder"),
        (r#""1.png""#, r#""/etc/passwd""#, "no name of a file in its folder"),
        (r#""height": 6"#, r#""height": 99999"#, "no image's size"),
        (r#""id": 2"#, r#""id": 3"#, "two categories with the id 3"),
        (r#""name": "a""#, r#""name": "c""#, "both halves need the same classes"),
        (r#""categories""#, r#""groups""#, "missing field `categories`"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let source = coco(root.path(), &good);
        let path = root.path().join("annotations/instances_train.json");
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replacen(from, to, 1)).unwrap();
        refused(open(&source), why);
    }
    let root = tempfile::tempdir().unwrap();
    let source = coco(root.path(), &good);
    picture_of(&root.path().join("train/1.png"), 9, 6);
    let error = open(&source).unwrap().train.scene(0).unwrap_err().to_string();
    assert!(error.contains("has 6×9 pixels where its annotations say 6×8"), "{error}");
    std::fs::copy(
        root.path().join("annotations/instances_val.json"),
        root.path().join("annotations/instances_val2.json"),
    )
    .unwrap();
    refused(open(&source), "has both val and val2");
    let nothing = tempfile::tempdir().unwrap();
    refused(open(&format!("coco:{}", nothing.path().display())), "expected COCO's layout");
    refused(open(&format!("voc:{}", nothing.path().display())), "expected PASCAL VOC's layout");
    for (source, why) in [("coco", "needs a path"), ("scenes:x", "needs a path"), ("coca:x", "is not one of")]
    {
        let error = open(source).unwrap_err();
        assert!(error.exit_code() == 2, "{error}: {why}");
    }
}

/// An annotation of VOC.
pub const XML: &str = r#"<annotation><folder>VOC2007</folder><size><width>8</width><height>6</height><depth>3</depth></size>
    <object><name>dog</name><pose>Left</pose><difficult>1</difficult>
    <part><name>head</name><bndbox><xmin>7</xmin><ymin>1</ymin><xmax>8</xmax><ymax>2</ymax></bndbox></part>
    <bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object>
    <object><name>cat</name><bndbox><ymin>1</ymin><xmin>8</xmin><xmax>8</xmax><ymax>1</ymax></bndbox></object></annotation>"#;

/// A folder of VOC's layout with one image in each half.
fn voc(root: &Path, xml: &str) -> String {
    for folder in ["Annotations", "ImageSets/Main"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (list, id) in [("trainval", "000001"), ("test", "000002")] {
        picture_of(&root.join("JPEGImages").join(format!("{id}.png")), 8, 6);
        std::fs::write(root.join("Annotations").join(format!("{id}.xml")), xml).unwrap();
        std::fs::write(root.join("ImageSets/Main").join(format!("{list}.txt")), format!("{id} -1\n"))
            .unwrap();
    }
    format!("voc:{}", root.display())
}

#[test]
fn voc_counts_pixels_from_one_and_its_boxes_hold_their_last_pixel() {
    let root = tempfile::tempdir().unwrap();
    let set = open(&voc(root.path(), XML)).unwrap();
    assert_eq!(set.classes, ["cat", "dog"]);
    let objects = |split: &ObjectSplit| split.scene(0).unwrap().objects;
    assert_eq!(objects(&set.train), objects(&set.test));
    let seen: Vec<_> =
        objects(&set.train).iter().map(|o| (o.class, o.bounding_box, o.area, o.difficult)).collect();
    assert_eq!(seen, [(1, [0.0, 1.5, 5.0, 4.5], 22.5, true), (0, [7.0, 0.0, 1.0, 1.0], 1.0, false)]);
    // What comes as VOC goes as COCO.
    let (code, _, told) = sim(root.path(), "data export voc:. written");
    assert_eq!(code, Some(0), "{told}");
    let read = open(&format!("coco:{}", root.path().join("written").display())).unwrap();
    assert_eq!(read.train.objects(0)[1].bounding_box, [7.0, 0.0, 1.0, 1.0]);
    let (_, said, _) = sim(root.path(), "data check --data voc:.");
    assert!(said.contains("1 training image: 2 objects and 0 crowds, 0 masks; 0 without objects"), "{said}");

    let entities = format!("<!DOCTYPE a [<!ENTITY a \"{}\">]>{XML}", "x".repeat(99));
    for (xml, why) in [
        (XML.replace("<xmax>5</xmax>", "<xmax>0</xmax>"), "a dog ends before it begins"),
        (XML.replace("<xmax>5</xmax>", "<xmax>NaN</xmax>"), "<xmax> is 'NaN'"),
        (XML.replace("<xmax>5</xmax>", ""), "<bndbox> has no <xmax>"),
        (XML.replace("<width>8</width>", "<width>8.5</width>"), "<width> is 8.5"),
        (XML.replace("<name>cat</name>", "<name> </name>"), "an object has no name"),
        (XML.replace("</annotation>", ""), "is no XML"),
        ("<a>".repeat(100_000), "is no XML"),
        (entities, "is no XML"),
    ] {
        let root = tempfile::tempdir().unwrap();
        refused(open(&voc(root.path(), &xml)), why);
    }
    std::fs::write(root.path().join("ImageSets/Main/test.txt"), "../000001\n").unwrap();
    refused(open(&format!("voc:{}", root.path().display())), "line 1: '../000001' is no name of an image");
}
