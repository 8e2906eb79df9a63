//! Annotations of objects.

#[cfg(test)]
use super::run;
use simsiam_em::data::objects::ObjectSet;
use simsiam_em::data::objects::scenes::ScenesConfig;
use std::path::Path;

fn write(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, bytes).expect("written");
}

fn open(kind: &str, root: &Path) {
    let _ = ObjectSet::open(&format!("{kind}:{}", root.display()), &ScenesConfig::default());
}

/// Reads COCO's annotations, which are those in both halves.
pub fn coco(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    for half in ["train", "val"] {
        std::fs::create_dir(folder.path().join(half)).expect("made");
        write(folder.path(), &format!("annotations/instances_{half}.json"), bytes);
    }
    open("coco", folder.path());
}

/// Reads an annotation of PASCAL VOC.
pub fn voc(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "Annotations/1.xml", bytes);
    write(folder.path(), "JPEGImages/1.jpg", b"");
    for list in ["trainval", "test"] {
        write(folder.path(), &format!("ImageSets/Main/{list}.txt"), b"1\n");
    }
    open("voc", folder.path());
}

#[test]
fn annotations_of_coco_are_read_or_refused() {
    let good = br#"{"images": [{"id": 1, "file_name": "1.png", "height": 40, "width": 30}], "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2.5, 4, 3], "area": 11.5, "iscrowd": 0,
            "segmentation": [[1, 1, 9.5, 1, 9, 30, 1, 20]]},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 3], "area": 11, "iscrowd": 1,
            "segmentation": {"size": [40, 30], "counts": [100, 20, 1080]}},
        {"id": 3, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 3], "area": 11,
            "segmentation": {"size": [40, 30], "counts": "T3d0hQ1"}}], "categories": [{"id": 1, "name": "a"}]}"#;
    run("COCO annotations", vec![good.to_vec()], coco);
}

#[test]
fn annotations_of_voc_are_read_or_refused() {
    run("VOC annotation", vec![crate::objects::XML.as_bytes().to_vec()], voc);
}
