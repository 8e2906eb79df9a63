//! Shards are the folder that they were packed from, and what is wrong with one is named.

use super::webdataset::open_within;
use super::*;
use crate::data::Dataset;
use std::fs::File;
use std::sync::atomic::AtomicBool;

/// Three images of two classes in each half.
fn folder(root: &Path) {
    for (place, red) in [("train/cat", 10u8), ("train/dog", 90), ("test/cat", 150), ("test/dog", 230)] {
        let folder = root.join(place);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..3u8 {
            let image = image::RgbImage::from_fn(30, 20, |x, y| image::Rgb([red + i, x as u8, y as u8]));
            image.save(folder.join(format!("a b.{i}.{}", if i == 1 { "jpg" } else { "png" }))).unwrap();
        }
    }
}

fn packed(shard_bytes: u64) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let (plain, shards) = (root.path().join("plain"), root.path().join("shards"));
    folder(&plain);
    let config = DataConfig::all_of(&format!("folder:{}", plain.display()));
    let packed = pack::pack(&config, &shards, shard_bytes, &AtomicBool::new(false)).unwrap();
    assert_eq!(packed.images, 12);
    (root, plain, shards)
}

fn config(kind: &str, root: &Path) -> DataConfig {
    DataConfig::all_of(&format!("{kind}:{}", root.display()))
}

fn refused(root: &Path) -> String {
    Dataset::open(&config("tar", root)).unwrap_err().to_string()
}

#[test]
fn shards_are_the_folder_that_they_were_packed_from() {
    for shard_bytes in [1, 2000, u64::MAX] {
        let (_root, plain, shards) = packed(shard_bytes);
        let a = Dataset::open(&config("folder", &plain)).unwrap();
        // Once by reading all shards, once by the index that was kept, once without memory.
        for memory in [MEMORY_BYTES, MEMORY_BYTES, 0] {
            let b = open_within(memory, &shards, &config("tar", &shards)).unwrap();
            assert_eq!((&a.classes, a.there), (&b.classes, b.there));
            assert_eq!(memory == 0, a.digest != b.digest, "the digest is that of the pixels");
            for (a, b) in [(&a.train, &b.train), (&a.test, &b.test)] {
                assert_eq!(a.labels(), b.labels());
                (0..a.len()).for_each(|i| assert_eq!(a.image(i).unwrap(), b.image(i).unwrap()));
            }
            let few = DataConfig { train_images: 2, ..config("tar", &shards) };
            assert_eq!(open_within(memory, &shards, &few).unwrap().train.labels(), [0, 1]);
        }
        assert!(shards.join(".sim-index").is_file());
    }
}

#[test]
fn an_index_of_other_shards_is_not_believed() {
    let (_root, plain, shards) = packed(u64::MAX);
    Dataset::open(&config("tar", &shards)).unwrap();
    // A shard with other images and the same name.
    std::fs::remove_file(plain.join("train/dog/a b.1.jpg")).unwrap();
    let other = shards.with_extension("other");
    pack::pack(&config("folder", &plain), &other, u64::MAX, &AtomicBool::new(false)).unwrap();
    std::fs::rename(other.join("train-000000.tar"), shards.join("train-000000.tar")).unwrap();
    assert_eq!(Dataset::open(&config("tar", &shards)).unwrap().train.len(), 5);
    // One that is damaged is made again, wherever it is cut.
    let index = shards.join(".sim-index");
    let whole = std::fs::read_to_string(&index).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(&index, &whole[..cut]).unwrap();
        let opened = Dataset::open(&config("tar", &shards));
        assert!(opened.is_ok_and(|data| data.train.len() == 5), "cut at {cut}");
    }
}

/// Writes an archive of members (name, content).
fn archive(path: &Path, members: &[(&str, &[u8])]) {
    let mut archive = tar::Builder::new(File::create(path).unwrap());
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn samples_of_others_are_read_with_what_they_say_of_classes() {
    let (_root, plain, _) = packed(u64::MAX);
    let cat = std::fs::read(plain.join("train/cat/a b.0.png")).unwrap();
    let dog = std::fs::read(plain.join("train/dog/a b.1.jpg")).unwrap();
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("train")).unwrap();
    archive(
        &root.path().join("train/0.tar"),
        &[
            ("x/1.png", &cat),
            ("x/1.json", br#"{"caption": "a cat", "label": "cat"}"#),
            ("x/2.seg.png", b"a mask"),
            ("x/2.txt", b"dog\n"),
            ("x/2.jpeg", &dog),
            ("x/3.txt", b"a sample without an image"),
            ("x/._4.png", b"what macOS adds"),
        ],
    );
    archive(
        &root.path().join("val-0.tar"),
        &[("1.jpg", &dog), ("1.txt", b"dog"), ("2.png", &cat), ("2.txt", b"cat")],
    );
    let data = Dataset::open(&config("tar", root.path())).unwrap();
    assert_eq!(data.classes, ["cat", "dog"]);
    assert_eq!((data.train.labels(), data.test.labels()), (&[0, 1][..], &[1, 0][..]));
    assert!(data.notes[0].starts_with("1 samples hold no"), "{:?}", data.notes);
    // Numbers are ordered as numbers, and named by the file beside.
    for half in ["train", "test"] {
        let members: [(&str, &[u8]); 4] =
            [("1.png", &cat), ("1.cls", b"10"), ("2.jpg", &dog), ("2.cls", b"9\n")];
        archive(&root.path().join(format!("{half}-1.tar")), &members);
    }
    std::fs::remove_dir_all(root.path().join("train")).unwrap();
    let data = Dataset::open(&config("tar", root.path())).unwrap();
    assert_eq!(
        (&data.classes[..], data.train.labels()),
        (&["9".to_string(), "10".to_string()][..], &[1, 0][..])
    );
}

#[test]
fn what_is_wrong_with_a_shard_is_named_with_its_member() {
    let (_root, plain, shards) = packed(u64::MAX);
    let train = shards.join("train-000000.tar");
    let whole = std::fs::read(&train).unwrap();
    // Cut within an image's bytes, and within a header.
    std::fs::write(&train, &whole[..600]).unwrap();
    assert!(refused(&shards).contains("00000000.png: is truncated"), "{}", refused(&shards));
    std::fs::write(&train, &whole[..whole.len() / 1024 * 512 + 100]).unwrap();
    assert!(refused(&shards).contains("train-000000.tar"), "{}", refused(&shards));
    // Cut anywhere, also between two members, where nothing of a member is missing.
    for cut in (0..whole.len() - 1024).step_by(256) {
        std::fs::write(&train, &whole[..cut]).unwrap();
        assert!(refused(&shards).contains("train-000000.tar"), "cut at {cut}: {}", refused(&shards));
    }
    std::fs::write(&train, b"no archive at all, however long it may be").unwrap();
    assert!(refused(&shards).contains("train-000000.tar"), "{}", refused(&shards));
    // An image that is damaged inside is named, or skipped; the index does not hide it.
    let damaged = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at..at + 40].fill(0xff);
        std::fs::write(&train, bytes).unwrap();
    };
    let place = whole.windows(4).position(|four| four == b"IDAT").unwrap();
    damaged(place);
    let said = refused(&shards);
    assert!(said.contains("train-000000.tar/00000000.png: is not an image that can be used"), "{said}");
    let skipping = DataConfig { skip_bad: true, ..config("tar", &shards) };
    for memory in [MEMORY_BYTES, 0] {
        let data = open_within(memory, &shards, &skipping).unwrap();
        assert_eq!((data.train.len(), data.skipped.len()), (5, 1));
    }
    // Members that make no sense.
    let cat = std::fs::read(plain.join("train/cat/a b.0.png")).unwrap();
    for (members, word) in [
        (&[("1.png", &cat[..])][..], "1: is an image without a class"),
        (&[("1.png", &cat[..]), ("1.cls", b"cat")], "1.cls: says \"cat\""),
        (&[("1.png", &cat[..]), ("1.jpg", &cat[..]), ("1.cls", b"0")], "1.jpg: is the second image"),
        (&[("1.json", b"{"), ("1.png", &cat[..])], "1.json: is no JSON"),
        (&[("1.png", &cat[..]), ("1.cls", b"7")], "no held-out image is of class 7"),
        (&[("1.txt", b"alone")], "no training image is of class"),
    ] {
        archive(&train, members);
        assert!(refused(&shards).contains(word), "{word}: {}", refused(&shards));
    }
    std::fs::remove_file(&train).unwrap();
    assert!(refused(&shards).contains("has not both halves"), "{}", refused(&shards));
    assert!(refused(&shards.join("nowhere")).contains("is not a folder"));
}
