//! Folders of images as people have them: what is a class, what is an image, and what is said of
//! the rest.

use crate::support::{data_config, jpeg_to_be_turned, picture};
use simsiam_em::Error;
use simsiam_em::data::{DataConfig, Dataset, HeldOut, Split};
use std::path::Path;

fn config(root: &Path) -> DataConfig {
    data_config(&format!("folder:{}", root.display()))
}

fn open(root: &Path) -> Result<Dataset, Error> {
    Dataset::open(&config(root))
}

/// Cats and dogs: six of each to train on, three to test with.
fn animals() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (half, count) in [("train", 6), ("test", 3)] {
        for class in ["cat", "dog"] {
            (0..count)
                .for_each(|i| picture(&root.path().join(half).join(class).join(format!("{i}.png")), 20 * i));
        }
    }
    root
}

fn refused(result: Result<Dataset, Error>, words: &[&str]) {
    let error = result.expect_err("the data set must be refused");
    assert_eq!(error.exit_code(), 4, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error} does not say {word}");
    }
}

#[test]
fn folders_without_an_image_are_no_classes_and_that_is_said() {
    let root = animals();
    let before = open(root.path()).unwrap();
    assert!(before.notes.is_empty(), "{:?}", before.notes);
    for name in ["train/__MACOSX", "train/.thumbs", "train/backup", "test/thumbs/small"] {
        std::fs::create_dir_all(root.path().join(name)).unwrap();
    }
    picture(&root.path().join("train/__MACOSX/._0.png"), 0);
    picture(&root.path().join("train/.thumbs/0.png"), 0);
    let data = open(root.path()).unwrap();
    assert_eq!((data.classes.clone(), &data.digest), (before.classes, &before.digest));
    let said = data.notes.join("\n");
    assert!(
        said.contains("train/backup") && said.contains("test/thumbs") && !said.contains("MACOSX"),
        "{said}"
    );
    // A limit is divided among the classes that there are.
    let limited = Dataset::open(&DataConfig { train_images: 8, ..config(root.path()) }).unwrap();
    assert_eq!(limited.train.labels(), [0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(limited.taken().unwrap(), "8 of 12 training and all 6 held-out images");
}

#[test]
fn a_class_that_one_half_lacks_is_refused_by_name() {
    for (emptied, remove_folder) in
        [("train/dog", false), ("train/dog", true), ("test/dog", false), ("test/dog", true)]
    {
        let root = animals();
        std::fs::remove_dir_all(root.path().join(emptied)).unwrap();
        if !remove_folder {
            std::fs::create_dir(root.path().join(emptied)).unwrap();
        }
        refused(open(root.path()), &["test/dog"]);
    }
    // Nor may skipping leave a class without images.
    let root = animals();
    for i in 0..3 {
        std::fs::write(root.path().join(format!("test/dog/{i}.png")), "no image").unwrap();
    }
    refused(open(root.path()), &["test/dog/0.png", "--skip-bad"]);
    refused(Dataset::open(&DataConfig { skip_bad: true, ..config(root.path()) }), &["test/dog", "no image"]);
}

#[test]
fn of_test_and_val_one_can_be_chosen() {
    let root = animals();
    for class in ["cat", "dog"] {
        picture(&root.path().join("val").join(class).join("0.png"), 9);
    }
    let with = |held_out| Dataset::open(&DataConfig { held_out, ..config(root.path()) }).unwrap();
    let (default, test, val) = (with(None), with(Some(HeldOut::Test)), with(Some(HeldOut::Val)));
    assert_eq!([default.test.len(), test.test.len(), val.test.len()], [6, 6, 2]);
    assert!(default.notes[0].contains("val/ is not used") && default.notes[0].contains("data.held_out"));
    assert!(test.notes.is_empty() && val.notes.is_empty());
    std::fs::remove_dir_all(root.path().join("val")).unwrap();
    refused(Dataset::open(&DataConfig { held_out: Some(HeldOut::Val), ..config(root.path()) }), &["val"]);
    let shapes = DataConfig { source: "shapes".into(), held_out: Some(HeldOut::Val), ..config(root.path()) };
    assert_eq!(Dataset::open(&shapes).unwrap_err().exit_code(), 2);
    // Existing runs hold no such key.
    assert!(!toml::to_string(&config(root.path())).unwrap().contains("held_out"));
}

#[test]
fn images_in_nested_folders_are_read_in_torchvisions_order_and_other_types_counted() {
    let root = animals();
    let flat = open(root.path()).unwrap();
    let dog = root.path().join("train/dog");
    for (number, name) in ["b/0.png", "a/1.png", "a-b/0.png", "a/0.png"].into_iter().enumerate() {
        picture(&dog.join(name), 100 + number as u8);
    }
    for name in ["x.svg", "y.heic", "z.heic", "notes.txt", "README"] {
        std::fs::write(dog.join(name), "?").unwrap();
    }
    picture(&root.path().join("train/loose.png"), 0);
    let data = open(root.path()).unwrap();
    assert_eq!(data.train.len(), flat.train.len() + 4);
    let reds: Vec<u8> = (12..16).map(|i| data.train.image(i).unwrap().pixels[0]).collect();
    // os.walk, sorted: the folders dog/a, dog/a-b, dog/b, and in each its files.
    assert_eq!(reds, [103, 101, 102, 100]);
    let said = data.notes.join("\n");
    assert!(
        said.contains("5 files of other types were left out (1 without extension, 2 .heic, 1 .svg, 1 .txt)"),
        "{said}"
    );
    assert!(said.contains("1 image lies outside the class folders"), "{said}");
}

/// Systems write "ä" as one letter or as two.
#[test]
fn class_names_that_differ_only_in_how_letters_are_encoded_are_one_class() {
    let root = animals();
    let (composed, decomposed) = ("K\u{e4}fer", "Ka\u{308}fer");
    picture(&root.path().join("train").join(composed).join("0.png"), 1);
    picture(&root.path().join("test").join(decomposed).join("0.png"), 2);
    let data = open(root.path()).unwrap();
    assert_eq!(data.classes, [composed, "cat", "dog"]);
    assert_eq!(data.test.labels(), [0, 1, 1, 1, 2, 2, 2]);
    picture(&root.path().join("train").join(decomposed).join("0.png"), 1);
    refused(open(root.path()), &["twice", "encoded"]);
}

#[test]
fn images_that_a_camera_turned_are_counted_and_read_as_stored() {
    let root = animals();
    let file = root.path().join("train/cat/turned.jpg");
    std::fs::write(&file, jpeg_to_be_turned(12, 8)).unwrap();
    let data = open(root.path()).unwrap();
    assert_eq!(data.turned, 1);
    let image = data.train.image(6).unwrap();
    assert_eq!((image.width, image.height), (12, 8));
}

/// The numbers of the pictures of a half, sorted.
fn reds(split: &Split) -> Vec<u8> {
    let mut reds: Vec<u8> = (0..split.len()).map(|i| split.image(i).unwrap().pixels[0]).collect();
    reds.sort_unstable();
    reds
}

#[test]
fn of_class_folders_without_halves_one_image_in_ten_is_held_out_by_its_own_name_alone() {
    let root = tempfile::tempdir().unwrap();
    let place = |class: &str, i: u8| root.path().join(class).join(format!("in/{i}.png"));
    for (class, count) in [("cat", 60), ("a dog", 100)] {
        (0..count).for_each(|i| picture(&place(class, i), i));
    }
    std::fs::create_dir(root.path().join("empty")).unwrap();
    let before = open(root.path()).unwrap();
    assert_eq!(before.classes, ["a dog", "cat"]);
    assert_eq!(before.train.len() + before.test.len(), 160);
    // Of 160 images 16 are expected, with a standard deviation of 3.8.
    assert!((5..=27).contains(&before.test.len()), "{}", before.test.len());
    let said = before.notes.join("\n");
    assert_eq!(said.matches("one image in ten is held out").count(), 1, "{said}");
    assert!(said.contains("no class: empty"), "{said}");

    // Other images, and other classes, move none of them.
    let cats = |data: &Dataset, split: &Split| {
        let cat = data.classes.iter().position(|class| class == "cat").unwrap() as u32;
        let of: Vec<u8> = (0..split.len())
            .filter(|i| split.label(*i) == cat)
            .map(|i| split.image(i).unwrap().pixels[0])
            .collect();
        of
    };
    let (train, test) = (cats(&before, &before.train), cats(&before, &before.test));
    (60..120).for_each(|i| picture(&place("cat", i), i));
    (0..100).for_each(|i| picture(&place("bird", i), i));
    let after = open(root.path()).unwrap();
    assert_eq!(after.classes, ["a dog", "bird", "cat"]);
    let known = |numbers: Vec<u8>| numbers.into_iter().filter(|i| *i < 60).collect::<Vec<_>>();
    assert_eq!(known(cats(&after, &after.train)), train);
    assert_eq!(known(cats(&after, &after.test)), test);

    // Nor does the place of the whole folder.
    let copy = tempfile::tempdir().unwrap();
    (0..60).for_each(|i| picture(&copy.path().join(format!("cat/in/{i}.png")), i));
    let moved = open(copy.path()).unwrap();
    assert_eq!(reds(&moved.train), {
        let mut train = train;
        train.sort_unstable();
        train
    });
}

#[test]
fn a_class_that_one_half_would_lack_is_refused_with_the_way_out() {
    let root = tempfile::tempdir().unwrap();
    (0..100).for_each(|i| picture(&root.path().join(format!("cat/{i}.png")), i));
    picture(&root.path().join("dog/0.png"), 0);
    refused(open(root.path()), &["dog: its only image would be", "add images", "DIR/train/CLASS"]);
    picture(&root.path().join("bird/0.png"), 0);
    refused(open(root.path()), &["bird: ", "1 other class"]);
    // What a half lacks for want of the other half is told by the halves' own words.
    picture(&root.path().join("train/cat/0.png"), 0);
    refused(open(root.path()), &["not both halves", "train would hold out one image in ten"]);
}

#[test]
fn a_few_strays_beside_class_folders_are_left_out_and_many_are_the_images() {
    let root = tempfile::tempdir().unwrap();
    for class in ["cat", "dog"] {
        (0..57).for_each(|i| picture(&root.path().join(format!("{class}/{i}.png")), i));
    }
    let before = open(root.path()).unwrap();
    let stray = |i: u8| picture(&root.path().join(format!("stray {i}.png")), i);
    (0..6).for_each(stray);
    // 6 of 120 are one in twenty, 7 of 121 are more.
    let data = open(root.path()).unwrap();
    assert_eq!((&data.classes, &data.digest), (&before.classes, &before.digest));
    assert!(
        data.notes.iter().any(|note| note == "6 images lie outside the class folders and were left out"),
        "{:?}",
        data.notes
    );
    stray(6);
    let unlabelled = open(root.path()).unwrap();
    assert!(
        !unlabelled.is_labelled() && unlabelled.notes[0].contains("7 in it and 114 in folders inside"),
        "{:?}",
        unlabelled.notes
    );
}

#[test]
fn images_directly_in_the_folder_have_no_labels_and_a_limit_takes_a_sample_of_all() {
    let root = tempfile::tempdir().unwrap();
    for i in 0..50 {
        picture(&root.path().join(format!("{i}.png")), i);
        picture(&root.path().join(format!("test/in/{i}.png")), 100 + i);
    }
    let data = open(root.path()).unwrap();
    assert!(!data.is_labelled() && data.classes.is_empty());
    assert_eq!(data.train.len() + data.test.len(), 100);
    assert!(data.train.labels().iter().chain(data.test.labels()).all(|label| *label == 0));
    assert!(data.notes.iter().any(|note| note.contains("no labels")), "{:?}", data.notes);
    let few = Dataset::open(&DataConfig { train_images: 30, test_images: 2, ..config(root.path()) }).unwrap();
    assert_eq!((few.train.len(), few.test.len()), (30, 2));
    // Of 30 in the order of names all would be of one folder.
    let inside = reds(&few.train).into_iter().filter(|red| *red >= 100).count();
    assert!((5..=25).contains(&inside), "{inside}");

    // With a train/ the images beside it are no part of the data.
    for place in ["train/cat", "train/dog", "test/cat", "test/dog"] {
        picture(&root.path().join(place).join("0.png"), 0);
    }
    std::fs::remove_dir_all(root.path().join("test/in")).unwrap();
    assert_eq!(open(root.path()).unwrap().classes, ["cat", "dog"]);
}

#[test]
fn a_few_images_that_make_no_two_halves_are_refused() {
    let root = tempfile::tempdir().unwrap();
    picture(&root.path().join("a b.png"), 0);
    refused(open(root.path()), &["its only image would be", "add images"]);
}

#[test]
fn images_that_a_camera_turned_are_turned_where_a_recipe_says_so() {
    let root = animals();
    let turned = |name: &str, (width, height): (u32, u32)| {
        std::fs::write(root.path().join("train/cat").join(name), jpeg_to_be_turned(width, height)).unwrap();
    };
    turned("turned.jpg", (12, 8));
    let exif = || DataConfig { exif: true, ..config(root.path()) };
    let (stored, data) = (open(root.path()).unwrap(), Dataset::open(&exif()).unwrap());
    let image = data.train.image(6).unwrap();
    assert_eq!((image.width, image.height, data.turned), (8, 12, 1));
    assert_eq!(data.train.image(0).unwrap(), stored.train.image(0).unwrap());
    assert_ne!(data.digest, stored.digest);
    // Recipes of before hold no such key, and other sources no such images.
    assert!(!toml::to_string(&config(root.path())).unwrap().contains("exif"));
    let shapes = DataConfig { source: "shapes".into(), ..exif() };
    assert_eq!(Dataset::open(&shapes).unwrap_err().exit_code(), 2);
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_back_up_adds_no_images() {
    let root = animals();
    let before = open(root.path()).unwrap();
    std::os::unix::fs::symlink("..", root.path().join("train/dog/up")).unwrap();
    std::os::unix::fs::symlink(root.path(), root.path().join("train/dog/root")).unwrap();
    std::os::unix::fs::symlink(root.path().join("train/dog"), root.path().join("train/dog/self")).unwrap();
    assert_eq!(open(root.path()).unwrap().train.len(), before.train.len());
}
