//! Published data sets as their archives have them: CIFAR's Python version, STL-10's images without
//! labels, Tiny-ImageNet.

use crate::support::{data_config, output};
use simsiam_em::data::{DataConfig, Dataset};
use simsiam_em::error::Error;
use std::path::Path;

/// A string of Python 2.
fn string(bytes: &[u8]) -> Vec<u8> {
    match u8::try_from(bytes.len()) {
        Ok(len) => [&[b'U', len], bytes].concat(),
        Err(_) => [&b"T"[..], &(bytes.len() as u32).to_le_bytes(), bytes].concat(),
    }
}

fn number(n: usize) -> Vec<u8> {
    match n {
        0..256 => vec![b'K', n as u8],
        _ => [&b"M"[..], &(n as u16).to_le_bytes()].concat(),
    }
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [&b"]("[..], &items.concat(), b"e"].concat()
}

/// A dict as Python 2 pickles it by protocol 2.
fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> =
        items.iter().flat_map(|(key, value)| [string(key.as_bytes()), value.clone()].concat()).collect();
    [&b"\x80\x02}q\x01("[..], &items, b"u."].concat()
}

/// An array of bytes as NumPy of Python 2 pickles it.
fn array(rows: usize, columns: usize, bytes: &[u8]) -> Vec<u8> {
    let make = b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87R";
    let of = b"cnumpy\ndtype\nq\x0eU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89";
    [&make[..], b"(K\x01", &number(rows), &number(columns), b"\x86", of, &string(bytes), b"tb"].concat()
}

/// A batch of the Python version whose images have these labels under `key`; pixel p of plane c of
/// an image is 50 c plus its label, as a byte.
pub fn batch(key: &str, labels: &[u8]) -> Vec<u8> {
    let pixels: Vec<u8> =
        labels.iter().flat_map(|label| (0..3072).map(move |p| (p / 1024) as u8 * 50 + label)).collect();
    let names = labels.iter().map(|label| string(format!("{label}.png").as_bytes())).collect::<Vec<_>>();
    dict(&[
        ("batch_label", string(b"a batch")),
        (key, list(&labels.iter().map(|label| number(usize::from(*label))).collect::<Vec<_>>())),
        ("data", array(labels.len(), 3072, &pixels)),
        ("filenames", list(&names)),
    ])
}

fn names(key: &str, count: usize) -> Vec<u8> {
    let names: Vec<Vec<u8>> = (0..count).map(|class| string(format!("class {class}").as_bytes())).collect();
    dict(&[("num_cases_per_batch", number(10000)), (key, list(&names))])
}

fn refused(source: &str, words: &[&str]) {
    let error = Dataset::open(&data_config(source)).expect_err(source);
    assert!(matches!(error, Error::Data { .. }), "{error}");
    let said = error.to_string();
    assert!(words.iter().all(|word| said.contains(word)) && !said.contains('\n'), "{said} lacks {words:?}");
}

#[cfg(not(feature = "parquet"))]
#[test]
fn a_program_without_parquet_says_how_one_with_it_is_built() {
    let root = tempfile::tempdir().unwrap();
    let shown = output(root.path(), &["data", "check", "--data", "parquet:."]);
    let said = String::from_utf8_lossy(&shown.stderr);
    assert_eq!(shown.status.code(), Some(2), "{said}");
    assert!(said.contains("cargo install --path . --locked --features parquet"), "{said}");
}

#[test]
fn the_python_version_of_cifar_is_the_same_data_set_as_the_binary_one() {
    let root = tempfile::tempdir().unwrap();
    for (source, key, name_key, classes) in
        [("cifar10", "labels", "label_names", 10), ("cifar100", "fine_labels", "fine_label_names", 100)]
    {
        let (binary, python) = (root.path().join(source), root.path().join(format!("{source}-py")));
        let official = if classes == 10 { "cifar-10-batches-py" } else { "cifar-100-python" };
        let inner = python.join(official);
        for folder in [&binary, &inner] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let (bin, py, meta): (&[&str], &[&str], &str) = match classes {
            10 => (
                &[
                    "data_batch_1.bin",
                    "data_batch_2.bin",
                    "data_batch_3.bin",
                    "data_batch_4.bin",
                    "data_batch_5.bin",
                    "test_batch.bin",
                ],
                &[
                    "data_batch_1",
                    "data_batch_2",
                    "data_batch_3",
                    "data_batch_4",
                    "data_batch_5",
                    "test_batch",
                ],
                "batches.meta",
            ),
            _ => (&["train.bin", "test.bin"], &["train", "test"], "meta"),
        };
        for (file, (bin, py)) in bin.iter().zip(py).enumerate() {
            let labels: Vec<u8> = (0..4).map(|i| (file * 3 + i) as u8 % classes as u8).collect();
            let record = |label: &u8| {
                let planes = (0..3072).map(|p| (p / 1024) as u8 * 50 + label);
                vec![*label; if classes == 10 { 1 } else { 2 }].into_iter().chain(planes).collect::<Vec<u8>>()
            };
            std::fs::write(binary.join(bin), labels.iter().flat_map(record).collect::<Vec<u8>>()).unwrap();
            std::fs::write(inner.join(py), batch(key, &labels)).unwrap();
        }
        let open =
            |path: &Path| Dataset::open(&data_config(&format!("{source}:{}", path.display()))).unwrap();
        let (from_binary, unnamed) = (open(&binary), open(&python));
        assert_eq!(from_binary.digest, unnamed.digest);
        assert_eq!(unnamed.classes[3], "3");
        assert!(
            unnamed.notes[0].contains("numbers for names") && unnamed.notes[0].contains(meta),
            "{:?}",
            unnamed.notes
        );
        std::fs::write(inner.join(meta), names(name_key, classes)).unwrap();
        let named = open(&inner);
        assert_eq!((named.classes[3].as_str(), named.notes.len()), ("class 3", 0));
        let image = named.train.image(1).unwrap();
        let label = named.train.label(1) as u8;
        assert_eq!(image.pixels[..4], [label, label + 50, label + 100, label]);

        let archive = root.path().join(format!("{source}.tar.gz"));
        let gzip =
            flate2::write::GzEncoder::new(std::fs::File::create(&archive).unwrap(), Default::default());
        let mut tar = tar::Builder::new(gzip);
        tar.append_dir_all(official, &inner).unwrap();
        tar.into_inner().unwrap().finish().unwrap();
        let packed = open(&archive);
        assert_eq!((&packed.digest, &packed.classes), (&named.digest, &named.classes));
        let other = if classes == 10 { "cifar100" } else { "cifar10" };
        for path in [&archive, &python] {
            refused(&format!("{other}:{}", path.display()), &[&format!("write {source}:PATH")]);
        }
    }
}

#[test]
fn a_pickle_that_is_no_batch_is_refused_in_one_sentence() {
    let root = tempfile::tempdir().unwrap();
    let whole = batch("labels", &[1, 2]);
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
    {
        std::fs::write(root.path().join(name), &whole).unwrap();
    }
    let source = format!("cifar10:{}", root.path().display());
    assert_eq!(Dataset::open(&data_config(&source)).unwrap().train.len(), 10);
    let pixels = vec![0; 2 * 3072];
    let with = |data: Vec<u8>| dict(&[("labels", list(&[number(1), number(2)])), ("data", data)]);
    let swapped = |from: &[u8], to: &[u8]| {
        let data = array(2, 3072, &pixels);
        let at = data.windows(from.len()).position(|window| window == from).unwrap();
        with([&data[..at], to, &data[at + from.len()..]].concat())
    };
    for (bytes, words) in [
        (b"pickle".to_vec(), &["data_batch_2", "pickle"][..]),
        (Vec::new(), &["breaks off"]),
        (whole[..whole.len() / 2].to_vec(), &["breaks off"]),
        (dict(&[("labels", list(&[number(1)]))]), &["`data`"]),
        (dict(&[("data", array(1, 3072, &pixels[..3072]))]), &["`labels`"]),
        (dict(&[("labels", list(&[])), ("data", array(0, 3072, &[]))]), &["no list of classes"]),
        (
            dict(&[("labels", list(&[string(b"cat")])), ("data", array(1, 3072, &pixels[..3072]))]),
            &["no list"],
        ),
        (batch("labels", &[1, 11]), &["image 1 has label 11"]),
        (with(array(1, 3072, &pixels[..3072])), &["2 × 3072"]),
        (with(array(2, 3072, &pixels[..3072])), &["2 × 3072"]),
        (with(list(&[number(1)])), &["2 × 3072"]),
        // Numbers of other types, columns that are contiguous, and a function that makes no array.
        (swapped(b"u1", b"u2"), &["2 × 3072"]),
        (swapped(b"tb\x89", b"tb\x88"), &["2 × 3072"]),
        (swapped(b"_reconstruct", b"_reconstrukt"), &["2 × 3072"]),
        (swapped(b"cnumpy.core.multiarray\n_reconstruct", b"cos\nsystem"), &["2 × 3072"]),
    ] {
        std::fs::write(root.path().join("data_batch_2"), bytes).unwrap();
        refused(&source, words);
    }
}

/// A tiny STL-10 whose images have one value, and so many without labels.
fn stl10(folder: &Path, unlabelled: u8) {
    std::fs::create_dir_all(folder).unwrap();
    for (half, count) in [("train", 20u8), ("test", 10)] {
        std::fs::write(
            folder.join(format!("{half}_y.bin")),
            (0..count).map(|i| i % 10 + 1).collect::<Vec<_>>(),
        )
        .unwrap();
        let pixels = (0..count).flat_map(|i| vec![i * 10; 27648]).collect::<Vec<u8>>();
        std::fs::write(folder.join(format!("{half}_X.bin")), pixels).unwrap();
    }
    let pixels = (0..unlabelled).flat_map(|i| (0..27648).map(move |p| (p / 9216 * 80) as u8 + i));
    std::fs::write(folder.join("unlabeled_X.bin"), pixels.collect::<Vec<u8>>()).unwrap();
}

#[test]
fn images_of_stl10_without_labels_are_trained_on_and_those_with_labels_judge() {
    let root = tempfile::tempdir().unwrap();
    stl10(&root.path().join("stl10_binary"), 30);
    let source = format!("stl10:{}", root.path().display());
    let without = Dataset::open(&data_config(&source)).unwrap();
    assert!(without.notes.iter().any(|note| note.contains("data.unlabelled = true")), "{:?}", without.notes);
    assert!(without.notes.iter().any(|note| note.contains("numbers for names")), "{:?}", without.notes);
    let config = DataConfig { unlabelled: true, ..data_config(&source) };
    let data = Dataset::open(&config).unwrap();
    assert_eq!((data.train.len(), data.labelled().len(), data.test.len()), (30, 20, 10));
    assert_eq!((data.classes.len(), data.there), (10, [30, 10]));
    assert!(data.is_labelled() && !data.trains_on_labelled());
    assert_eq!(data.train.image(7).unwrap().pixels[..3], [7, 87, 167]);
    assert_eq!(data.labelled().image(7).unwrap(), without.train.image(7).unwrap());
    let few = Dataset::open(&DataConfig { train_images: 5, ..config.clone() }).unwrap();
    assert_eq!((few.train.len(), few.labelled().len()), (5, 5));
    assert!(data.digest != without.digest && data.digest != few.digest);

    let file = root.path().join("stl10_binary/unlabeled_X.bin");
    std::fs::write(&file, vec![0; 27647]).unwrap();
    let error = Dataset::open(&config).unwrap_err().to_string();
    assert!(error.contains("unlabeled_X.bin") && error.contains("truncated"), "{error}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(Dataset::open(&config).unwrap_err().exit_code(), 4);
    let elsewhere = DataConfig { unlabelled: true, ..data_config("shapes") };
    assert_eq!(Dataset::open(&elsewhere).unwrap_err().exit_code(), 2);
}

#[test]
fn a_run_on_images_without_labels_has_accuracies_and_a_supervised_one_is_refused() {
    let root = tempfile::tempdir().unwrap();
    stl10(&root.path().join("stl10_binary"), 30);
    let run = |study: &[&str]| {
        let data = ["--data", "stl10:.", "--set", "data.unlabelled=true", "--set", "augment.size=16"];
        output(root.path(), &[&["run"], study, &["--scale", "smoke", "--seeds", "1"], &data].concat())
    };
    let made = run(&["simsiam"]);
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert_eq!(made.status.code(), Some(0), "{said}");
    assert!(said.contains("kNN") && said.contains("all 30 training"), "{said}");
    let check = ["data", "check", "--data", "stl10:.", "--set", "data.unlabelled=true"];
    let checked = output(root.path(), &check);
    let out = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(out.contains("30 training and 10 held-out") && out.contains("judging"), "{out}");
    let folder = "runs/simsiam/simsiam/seed-0";
    let shown = output(root.path(), &["neighbours", folder, "--queries", "2", "--nearest", "3"]);
    assert_eq!(shown.status.code(), Some(0), "{}", String::from_utf8_lossy(&shown.stderr));
    let refused = run(&["simsiam", "--set", "eta.labels={}"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
}

/// Tiny-ImageNet with two classes.
fn tiny_imagenet(root: &Path) {
    let picture = |path: &Path, value: u8| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixels = image::RgbImage::from_pixel(64, 64, image::Rgb([value; 3]));
        pixels.save_with_format(path, image::ImageFormat::Jpeg).unwrap();
    };
    for (class, number) in ["n01443537", "n02099601"].into_iter().enumerate() {
        for i in 0..3u8 {
            let name = format!("train/{number}/images/{number}_{i}.JPEG");
            picture(&root.join(name), class as u8 * 100 + i);
        }
        std::fs::write(root.join(format!("train/{number}/{number}_boxes.txt")), "box").unwrap();
    }
    for i in 0..4u8 {
        picture(&root.join(format!("val/images/val_{i}.JPEG")), i % 2 * 100);
    }
    picture(&root.join("test/images/test_0.JPEG"), 9);
    let line = |i: usize| format!("val_{i}.JPEG\t{}\t0\t32\t44\t62\n", ["n01443537", "n02099601"][i % 2]);
    std::fs::write(root.join("val/val_annotations.txt"), (0..4).map(line).collect::<String>()).unwrap();
    let words = "n00000001\tthing\nn01443537\tgoldfish, Carassius auratus\nn02099601\tgolden retriever\n";
    std::fs::write(root.join("words.txt"), words).unwrap();
}

#[test]
fn tiny_imagenet_is_read_with_its_table_of_held_out_classes() {
    let root = tempfile::tempdir().unwrap();
    let inner = root.path().join("tiny-imagenet-200");
    tiny_imagenet(&inner);
    let source = format!("tiny-imagenet:{}", root.path().display());
    let open = || Dataset::open(&data_config(&source));
    let data = open().unwrap();
    assert_eq!(data.classes, ["goldfish", "golden retriever"]);
    assert_eq!(data.train.labels(), [0, 0, 0, 1, 1, 1]);
    assert_eq!(data.test.labels(), [0, 0, 1, 1]);
    assert!(data.test.path(2).unwrap().ends_with("val/images/val_1.JPEG"));
    refused(&format!("folder:{}", inner.display()), &["tiny-imagenet:"]);

    std::fs::write(inner.join("words.txt"), "n01443537\tcrane\nn02099601\tcrane\n").unwrap();
    assert_eq!(open().unwrap().classes, ["crane (n01443537)", "crane (n02099601)"]);
    std::fs::remove_file(inner.join("words.txt")).unwrap();
    let unnamed = open().unwrap();
    assert_eq!(unnamed.classes[0], "n01443537");
    assert!(unnamed.notes.iter().any(|note| note.contains("words.txt")), "{:?}", unnamed.notes);

    let table = inner.join("val/val_annotations.txt");
    for (text, words) in [
        ("val_0.JPEG\tn01443537\n", &["n02099601", "both halves"][..]),
        ("val_0.JPEG\n", &["line 1", "no class"]),
        ("\nval_0.JPEG\tn7\n", &["line 2", "'n7'"]),
        ("../../x.JPEG\tn01443537\n", &["line 1", "no name"]),
        ("val_0.JPEG\tn01443537\nval_0.JPEG\tn01443537\n", &["line 2", "twice"]),
        ("val_0.JPEG\tn01443537\nnot_there.JPEG\tn02099601\n", &["not_there.JPEG"]),
    ] {
        std::fs::write(&table, text).unwrap();
        refused(&source, words);
    }
    std::fs::remove_file(&table).unwrap();
    refused(&source, &["val_annotations.txt", "expected"]);
    std::fs::remove_dir_all(inner.join("train")).unwrap();
    refused(&source, &["no train/"]);
}
