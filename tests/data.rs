//! Data sets: what is read, in which order, and what is said about damaged files.

use crate::support::{augmentations, data_config};
use simsiam_em::data::loader::{BatchShape, Loader, prepare, steps_per_epoch};
use simsiam_em::data::{DataConfig, Dataset, ShapesSeed, plain};
use simsiam_em::error::Error;
use std::path::Path;

/// A picture that tells its number.
fn picture(path: &Path, number: u8, (width, height): (u32, u32)) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(width, height, image::Rgb([number, 0, 255 - number])).save(path).unwrap();
}

fn folder() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (half, count) in [("train", 4), ("test", 2)] {
        for class in ["cat", "dog"] {
            for i in 0..count {
                let name = if i % 2 == 0 { format!("{i}.PNG") } else { format!("{i}.jpeg") };
                picture(&root.path().join(half).join(class).join(name), 10 * i, (20 + u32::from(i), 18));
            }
        }
    }
    std::fs::write(root.path().join("train/cat/notes.txt"), "not an image").unwrap();
    root
}

fn open(root: &Path) -> Result<Dataset, Error> {
    Dataset::open(&data_config(&format!("folder:{}", root.display())))
}

/// The error of a data set that must not open, which names `file` and exits with 4.
fn refused(result: Result<Dataset, Error>, file: &str) -> String {
    let error = result.expect_err("the data set must be refused");
    assert_eq!(error.exit_code(), 4, "{error}");
    assert!(error.to_string().contains(file), "{error} does not name {file}");
    error.to_string()
}

#[test]
fn class_folders_give_sorted_classes_and_all_their_images() {
    let root = folder();
    let data = open(root.path()).unwrap();
    assert_eq!(data.classes, ["cat", "dog"]);
    assert_eq!((data.train.len(), data.test.len()), (8, 4));
    assert_eq!(data.train.labels(), [0, 0, 0, 0, 1, 1, 1, 1]);
    let image = data.train.image(2).unwrap();
    assert_eq!((image.height, image.width, image.pixels[0]), (18, 22, 20));
    assert_eq!(data.digest, open(root.path()).unwrap().digest);
    assert_eq!(plain(&data.train, &[1, 2], &augmentations(16)).unwrap().len(), 2 * 16 * 16 * 3);
}

#[test]
fn a_limit_takes_equal_parts_of_each_class() {
    let root = folder();
    let source = format!("folder:{}", root.path().display());
    let data =
        Dataset::open(&DataConfig { train_images: 4, test_images: 2, ..data_config(&source) }).unwrap();
    assert_eq!(data.train.labels(), [0, 0, 1, 1]);
    assert_eq!(data.test.labels(), [0, 1]);
}

#[test]
fn damaged_files_are_named_or_counted() {
    let root = folder();
    let bad = root.path().join("train/dog/broken.jpg");
    let whole = std::fs::read(root.path().join("train/dog/1.jpeg")).unwrap();
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("truncated", whole[..whole.len() / 3].to_vec()),
        ("cut in its tables", whole[..300].to_vec()),
        // The decoder alone would fill the missing rows with grey and say nothing.
        ("a little truncated", whole[..whole.len() - 4].to_vec()),
        ("no image", b"hello".to_vec()),
    ] {
        std::fs::write(&bad, bytes).unwrap();
        let message = refused(open(root.path()), "broken.jpg");
        assert!(message.contains("--skip-bad") && !message.contains('\n'), "{what}: {message}");
        let source = format!("folder:{}", root.path().display());
        let data = Dataset::open(&DataConfig { skip_bad: true, ..data_config(&source) }).unwrap();
        assert_eq!((data.train.len(), data.skipped.len()), (8, 1), "{what}");
        assert!(data.skipped[0].0.ends_with("broken.jpg"));
    }
}

#[test]
fn an_oversized_image_is_refused_before_it_is_decoded() {
    let root = folder();
    picture(&root.path().join("train/cat/long.png"), 1, (20_000, 1));
    refused(open(root.path()), "long.png");
}

#[test]
fn another_layout_is_explained() {
    let empty = tempfile::tempdir().unwrap();
    assert!(refused(open(empty.path()), "").contains("DIR/train/CLASS"));
    refused(open(&empty.path().join("nowhere")), "nowhere");
    let root = folder();
    picture(&root.path().join("test/bird/0.png"), 0, (8, 8));
    refused(open(root.path()), "bird");
}

/// A tiny data set in the official binary layout: `n` images a file.
fn cifar(folder: &Path, label_bytes: usize, files: &[&str], n: u8) {
    for name in files {
        let mut bytes = Vec::new();
        for i in 0..n {
            bytes.extend(vec![i % 10; label_bytes]);
            bytes.extend((0..3072).map(|p| (p / 1024) as u8 * 50 + i));
        }
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

const CIFAR10: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];

#[test]
fn the_binary_version_is_read_from_a_folder_and_from_an_archive() {
    let root = tempfile::tempdir().unwrap();
    let inner = root.path().join("cifar-10-batches-bin");
    std::fs::create_dir(&inner).unwrap();
    cifar(&inner, 1, &CIFAR10, 10);
    let from_folder = Dataset::open(&data_config(&format!("cifar10:{}", root.path().display()))).unwrap();
    assert_eq!((from_folder.train.len(), from_folder.test.len()), (50, 10));
    let image = from_folder.train.image(3).unwrap();
    assert_eq!(image.pixels[..6], [3, 53, 103, 3, 53, 103]);

    let archive = root.path().join("cifar.tar.gz");
    let encoder = flate2::write::GzEncoder::new(std::fs::File::create(&archive).unwrap(), Default::default());
    let mut tar = tar::Builder::new(encoder);
    tar.append_dir_all("cifar-10-batches-bin", &inner).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    let from_archive = Dataset::open(&data_config(&format!("cifar10:{}", archive.display()))).unwrap();
    assert_eq!(from_folder.digest, from_archive.digest);

    let bytes = std::fs::read(&archive).unwrap();
    std::fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
    refused(Dataset::open(&data_config(&format!("cifar10:{}", archive.display()))), "cifar.tar.gz");
}

#[test]
fn a_truncated_or_mislabelled_binary_file_is_refused() {
    let root = tempfile::tempdir().unwrap();
    cifar(root.path(), 2, &["train.bin", "test.bin"], 5);
    let open = || Dataset::open(&data_config(&format!("cifar100:{}", root.path().display())));
    assert_eq!(open().unwrap().classes.len(), 100);
    let mut bytes = std::fs::read(root.path().join("train.bin")).unwrap();
    bytes[1] = 200;
    std::fs::write(root.path().join("train.bin"), &bytes).unwrap();
    assert!(refused(open(), "train.bin").contains("label 200"));
    std::fs::write(root.path().join("train.bin"), &bytes[..5000]).unwrap();
    assert!(refused(open(), "train.bin").contains("truncated"));
    std::fs::remove_file(root.path().join("train.bin")).unwrap();
    refused(open(), "train.bin");
}

/// A tiny STL-10: image i of a half has the label i % 10 + 1, and in plane c at column x and row y
/// the number x + 2y + 20c + i, cut to a byte.
fn stl10(folder: &Path, half: &str, n: usize) {
    let label = |i: usize| (i % 10) as u8 + 1;
    std::fs::write(folder.join(format!("{half}_y.bin")), (0..n).map(label).collect::<Vec<_>>()).unwrap();
    let pixel = |i: usize, c: usize, x: usize, y: usize| (x + 2 * y + 20 * c + i) as u8;
    let mut bytes = Vec::new();
    for i in 0..n {
        for c in 0..3 {
            bytes.extend((0..96 * 96).map(|place| pixel(i, c, place / 96, place % 96)));
        }
    }
    std::fs::write(folder.join(format!("{half}_X.bin")), bytes).unwrap();
}

#[test]
fn stl10_is_read_with_its_columns_in_their_places_and_refused_where_it_is_cut() {
    let root = tempfile::tempdir().unwrap();
    let inner = root.path().join("stl10_binary");
    std::fs::create_dir(&inner).unwrap();
    stl10(&inner, "train", 20);
    stl10(&inner, "test", 11);
    let open = |config: DataConfig| {
        Dataset::open(&DataConfig { source: format!("stl10:{}", root.path().display()), ..config })
    };
    let few = || DataConfig { train_images: 10, ..data_config("") };
    let data = open(few()).unwrap();
    assert_eq!((data.train.len(), data.test.len(), data.there), (10, 11, [20, 11]));
    assert_eq!((data.train.label(3), data.classes[3].as_str()), (3, "4"));
    let image = data.train.image(4).unwrap();
    let at = |x: usize, y: usize, c: usize| image.pixels[(y * 96 + x) * 3 + c];
    for (x, y, c) in [(0, 0, 0), (5, 0, 1), (0, 7, 2), (95, 40, 0)] {
        assert_eq!(at(x, y, c), (x + 2 * y + 20 * c + 4) as u8, "column {x}, row {y}, plane {c}");
    }
    let names = "airplane\nbird\ncar\ncat\ndeer\ndog\nhorse\nmonkey\nship\ntruck\n";
    std::fs::write(inner.join("class_names.txt"), names).unwrap();
    assert_eq!(open(few()).unwrap().classes[3], "cat");
    std::fs::write(inner.join("test_y.bin"), [1, 11]).unwrap();
    assert!(refused(open(few()), "test_X.bin").contains("2 labels"));
    std::fs::write(inner.join("test_X.bin"), vec![0; 2 * 27648]).unwrap();
    assert!(refused(open(few()), "test_y.bin").contains("label 11"));
    std::fs::remove_file(inner.join("test_y.bin")).unwrap();
    refused(open(few()), "test_y.bin");
    let archive = DataConfig { source: format!("stl10:{}", inner.join("test_X.bin").display()), ..few() };
    assert!(refused(Dataset::open(&archive), "test_X.bin").contains("unpack"));
}

#[test]
fn shapes_are_the_same_for_the_same_seed_and_balanced() {
    let source = || DataConfig { train_images: 40, test_images: 20, ..data_config("shapes") };
    let (a, b) = (Dataset::open(&source()).unwrap(), Dataset::open(&source()).unwrap());
    assert_eq!(a.digest, b.digest);
    assert_ne!(
        a.digest,
        Dataset::open(&DataConfig { shapes_seed: ShapesSeed::Fixed(1), ..source() }).unwrap().digest
    );
    for class in 0..10 {
        assert_eq!(a.train.labels().iter().filter(|&&label| label == class).count(), 4);
    }
    // Held-out images are others than the training images.
    assert_ne!(a.train.image(0).unwrap(), a.test.image(0).unwrap());
}

#[test]
fn the_loader_gives_the_bytes_of_prepare_in_any_order_and_number_of_threads() {
    let data =
        Dataset::open(&DataConfig { train_images: 30, test_images: 10, ..data_config("shapes") }).unwrap();
    let steps = [0, 1, 2, 1, 2, 7, 3, 8, 8, 0];
    assert_eq!(steps_per_epoch(30, 8), 3);
    for workers in [1, 2, 3] {
        let mut loader = Loader::new(
            data.train.clone(),
            augmentations(16),
            BatchShape::drawn(8, 2),
            5,
            steps.into_iter(),
            workers,
        );
        for step in steps {
            let batch = loader.next().unwrap().unwrap();
            assert_eq!(
                batch,
                prepare(&data.train, &augmentations(16), BatchShape::drawn(8, 2), 5, step).unwrap()
            );
        }
        assert!(loader.next().unwrap().is_none());
    }
}

#[test]
fn a_data_set_smaller_than_the_batch_is_gone_through_again() {
    let data =
        Dataset::open(&DataConfig { train_images: 1, test_images: 1, ..data_config("shapes") }).unwrap();
    let batch = prepare(&data.train, &augmentations(16), BatchShape::drawn(4, 2), 0, 0).unwrap();
    assert_eq!(batch.indices, [0, 0, 0, 0]);
}

#[test]
fn a_mistyped_number_of_shapes_is_refused() {
    let error = Dataset::open(&DataConfig { train_images: usize::MAX / 2, ..data_config("shapes") });
    assert_eq!(error.expect_err("must be refused").exit_code(), 2);
}
