//! Masks and average precision against pycocotools' and detectron2's numbers.

use crate::support::golden;
use serde_json::Value;
use simsiam_em::masks::{Rectangle, Rle, box_overlap};
use simsiam_em::measure::average_precision::{Coco, Detection, Overlap, Truth, coco};
use simsiam_em::measure::voc_precision::{Area, VocDetection, VocTruth, voc};

/// Numbers that are computed the same way, but for the order of sums.
const TOLERANCE: f64 = 1e-9;

fn cases() -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden("detection.json")).unwrap()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(|number| number.as_f64().unwrap()).collect()
}

fn whole(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn rectangle(value: &Value) -> Rectangle {
    numbers(value).try_into().unwrap()
}

fn mask(value: &Value) -> Rle {
    let (height, width) = (whole(&value["size"][0]), whole(&value["size"][1]));
    match value["counts"].as_str() {
        Some(text) => Rle::from_text(height, width, text).unwrap(),
        // Those of crowds are not packed.
        None => {
            let runs = list(&value["counts"]).iter().map(|run| whole(run) as u32).collect();
            Rle::from_runs(height, width, runs).unwrap()
        }
    }
}

#[test]
fn run_lengths_are_those_of_pycocotools_either_way() {
    for case in list(&cases()["rle"]["masks"]) {
        let read = mask(case);
        let runs: Vec<u32> = list(&case["run_lengths"]).iter().map(|run| whole(run) as u32).collect();
        let [height, width] = read.size();
        assert_eq!(read.runs(), runs);
        assert_eq!(Rle::from_runs(height, width, runs).unwrap().to_text(), case["counts"].as_str().unwrap());
        assert_eq!(Rle::from_pixels(height, width, &read.to_pixels()).unwrap(), read);
        assert_eq!(read.area(), whole(&case["area"]) as u64);
        assert_eq!(read.bounding_box(), rectangle(&case["box"]));
    }
}

#[test]
fn polygons_are_drawn_as_pycocotools_draws_them() {
    for case in list(&cases()["rle"]["polygons"]) {
        let size = list(&case["size"]);
        let drawn = Rle::of_polygons(whole(&size[0]), whole(&size[1]), &[numbers(&case["polygon"])]).unwrap();
        assert_eq!(drawn.to_text(), case["counts"].as_str().unwrap());
        assert_eq!(drawn.area(), whole(&case["area"]) as u64);
    }
}

#[test]
fn unions_intersections_and_overlaps_are_those_of_pycocotools() {
    let rle = &cases()["rle"];
    let of: Vec<Rle> = list(&rle["merge"]["of"]).iter().map(mask).collect();
    assert_eq!(of[0].union(&of[1]).unwrap(), mask(&rle["merge"]["union"]));
    assert_eq!(of[0].intersection(&of[1]).unwrap(), mask(&rle["merge"]["intersection"]));
    let case = &rle["overlaps"];
    let (masks, boxes) = (list(&case["masks"]), list(&case["boxes"]));
    let count = masks.len();
    for row in 0..count {
        for column in 0..count {
            // The truths are the same list in reverse; their crowds are in the order of columns.
            let (there, crowd) = (count - 1 - column, case["crowd"][column] == 1);
            let masks = Rle::overlap(&mask(&masks[row]), &mask(&masks[there]), crowd).unwrap();
            let boxes = box_overlap(&rectangle(&boxes[row]), &rectangle(&boxes[there]), crowd);
            assert!((masks - case["mask_table"][row][column].as_f64().unwrap()).abs() < TOLERANCE);
            assert!((boxes - case["box_table"][row][column].as_f64().unwrap()).abs() < TOLERANCE);
        }
    }
    assert!(
        of[0].union(&mask(&masks[0])).unwrap_err().to_string().contains("30×30 pixels beside one of 30×40")
    );
}

/// Truths, detections and the number of classes, numbered in the order of their ids.
fn objects(case: &Value) -> (Vec<Truth>, Vec<Detection>, usize) {
    let ids = |key: &str| {
        let mut ids: Vec<u64> =
            list(&case["coco"][key]).iter().map(|one| one["id"].as_u64().unwrap()).collect();
        ids.sort();
        ids
    };
    let (images, classes) = (ids("images"), ids("categories"));
    let number = |ids: &[u64], id: &Value| ids.binary_search(&id.as_u64().unwrap()).unwrap();
    let truth = |object: &Value| Truth {
        image: number(&images, &object["image_id"]),
        class: number(&classes, &object["category_id"]),
        bounding_box: rectangle(&object["bbox"]),
        mask: Some(mask(&object["segmentation"])),
        area: object["area"].as_f64().unwrap(),
        crowd: object["iscrowd"] == 1,
    };
    let detection = |object: &Value| Detection {
        image: number(&images, &object["image_id"]),
        class: number(&classes, &object["category_id"]),
        score: object["score"].as_f64().unwrap(),
        bounding_box: rectangle(&object["bbox"]),
        mask: Some(mask(&object["segmentation"])),
    };
    let truths = list(&case["coco"]["annotations"]).iter().map(truth).collect();
    (truths, list(&case["detections"]).iter().map(detection).collect(), classes.len())
}

fn agrees(got: &[Option<f64>], expected: &Value, what: &str) {
    let got: Vec<f64> = got.iter().map(|number| number.unwrap_or(-1.0)).collect();
    let expected = numbers(expected);
    assert_eq!(got.len(), expected.len(), "{what}");
    for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
        assert!((got - expected).abs() < TOLERANCE, "{what}, number {index}: {got} instead of {expected}");
    }
}

#[test]
fn the_twelve_numbers_are_those_of_pycocotools() {
    for case in list(&cases()["coco"]) {
        let (truths, detections, classes) = objects(case);
        for (kind, overlap) in [("bbox", Overlap::Boxes), ("segm", Overlap::Masks)] {
            let what = format!("{}, {kind}", case["name"]);
            let Coco { numbers, by_class, .. } = coco(&truths, &detections, classes, overlap).unwrap();
            agrees(&numbers, &case[kind], &what);
            agrees(&by_class, &case[format!("{kind}_ap_by_class")], &what);
        }
    }
}

#[test]
fn what_cannot_be_judged_is_refused_with_a_sentence() {
    let (truths, detections, classes) = objects(&cases()["coco"][0]);
    let refused = |truths: &[Truth], detections: &[Detection], classes| {
        coco(truths, detections, classes, Overlap::Masks).unwrap_err().to_string()
    };
    let mut wrong = detections.clone();
    wrong[3].score = f64::NAN;
    assert_eq!(refused(&truths, &wrong, classes), "a detection has the score NaN");
    assert!(refused(&truths, &detections, 1).starts_with("an object of class"));
    let wrong: Vec<Truth> = truths.iter().map(|truth| Truth { mask: None, ..truth.clone() }).collect();
    assert!(refused(&wrong, &detections, classes).contains("an object has none"));
    let nothing = coco(&[], &[], 2, Overlap::Boxes).unwrap();
    assert_eq!((nothing.numbers, nothing.by_class), ([None; 12], vec![None; 2]));
}

#[test]
fn vocs_average_precision_is_that_of_detectron2() {
    for case in list(&cases()["voc"]) {
        let mut all = [[0.0; 10]; 2];
        let by_class = list(&case["by_class"]);
        for expected in by_class {
            let own =
                |key: &str| list(&case[key]).iter().filter(|object| object["class"] == expected["class"]);
            let truth = |object: &Value| VocTruth {
                image: whole(&object["image"]),
                corners: rectangle(&object["box"]),
                difficult: object["difficult"] == 1,
            };
            let detection = |object: &Value| VocDetection {
                image: whole(&object["image"]),
                score: object["score"].as_f64().unwrap(),
                corners: rectangle(&object["box"]),
            };
            let truths: Vec<VocTruth> = own("truths").map(truth).collect();
            let detections: Vec<VocDetection> = own("detections").map(detection).collect();
            for (kind, (key, area)) in
                [("eleven_point", Area::Eleven), ("area", Area::Whole)].into_iter().enumerate()
            {
                for (index, wanted) in numbers(&expected[key]).into_iter().enumerate() {
                    let threshold = (50 + 5 * index) as f64 / 100.0;
                    let got = voc(&truths, &detections, threshold, area).unwrap();
                    assert!((got - wanted).abs() < TOLERANCE, "{key} at {threshold}: {got}, not {wanted}");
                    all[kind][index] += got / by_class.len() as f64;
                }
            }
        }
        for (kind, key) in ["eleven_point", "area"].into_iter().enumerate() {
            let mean = all[kind].iter().sum::<f64>() / 10.0;
            for (name, got) in [("AP", mean), ("AP50", all[kind][0]), ("AP75", all[kind][5])] {
                assert!((got - case["mean"][key][name].as_f64().unwrap()).abs() < TOLERANCE, "{key} {name}");
            }
        }
    }
}
