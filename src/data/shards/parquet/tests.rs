//! Tables are the folder whose images they hold, and what is wrong with one is named.

use super::*;
use bytes::Bytes;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// What `datasets` writes of its features.
const FEATURES: &str = r#"{"info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}"#;
/// The columns of a table by `datasets`.
const SCHEMA: &str = "message schema {
    optional group image { optional binary bytes; optional binary path (UTF8); }
    optional int64 label;
}";

/// Two classes of three images in each half, as golden/parquet.py has them.
const REDS: [(&str, [u8; 2]); 2] = [("train", [10, 90]), ("test", [150, 230])];

fn png(red: u8) -> Vec<u8> {
    let image = image::RgbImage::from_fn(30, 20, |x, y| image::Rgb([red, x as u8, y as u8]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// The images of a half with their classes, in the order of `folder:`.
fn rows(half: usize) -> Vec<(Option<Vec<u8>>, Option<i64>)> {
    let row = |i: u8| (Some(png(REDS[half].1[usize::from(i / 3)] + i % 3)), Some(i64::from(i / 3)));
    (0..6).map(row).collect()
}

fn folder(root: &Path) {
    for (half, reds) in REDS {
        for (class, red) in ["cat", "dog"].iter().zip(reds) {
            let folder = root.join(half).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            (0..3).for_each(|i| std::fs::write(folder.join(format!("{i}.png")), png(red + i)).unwrap());
        }
    }
}

/// Writes rows in groups of so many.
fn write(path: &Path, rows: &[(Option<Vec<u8>>, Option<i64>)], group: usize, how: WriterPropertiesBuilder) {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(how.build())).unwrap();
    for rows in rows.chunks(group) {
        let mut group = writer.next_row_group().unwrap();
        let images: Vec<ByteArray> = rows
            .iter()
            .filter_map(|(image, _)| image.clone())
            .map(|image| Bytes::from(image).into())
            .collect();
        let levels: Vec<i16> = rows.iter().map(|(image, _)| if image.is_some() { 2 } else { 1 }).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&images, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; rows.len()]), None).unwrap();
        column.close().unwrap();
        let labels: Vec<i64> = rows.iter().filter_map(|(_, label)| *label).collect();
        let levels: Vec<i16> = rows.iter().map(|(_, label)| i16::from(label.is_some())).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&labels, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn plainly() -> WriterPropertiesBuilder {
    let features = KeyValue::new("huggingface".to_string(), FEATURES.to_string());
    WriterProperties::builder().set_key_value_metadata(Some(vec![features]))
}

fn config(kind: &str, root: &Path) -> DataConfig {
    DataConfig::all_of(&format!("{kind}:{}", root.display()))
}

fn opened_in(root: &Path) -> Result<Dataset> {
    Dataset::open(&config("parquet", root))
}

fn refused(root: &Path) -> String {
    opened_in(root).unwrap_err().to_string()
}

/// Both data sets have the same images in the same order.
fn compare(a: &Dataset, b: &Dataset) {
    assert_eq!((&a.classes, a.there, &a.by_class), (&b.classes, b.there, &b.by_class));
    for (a, b) in [(&a.train, &b.train), (&a.test, &b.test)] {
        assert_eq!(a.labels(), b.labels());
        (0..a.len()).for_each(|i| assert_eq!(a.image(i).unwrap(), b.image(i).unwrap()));
    }
}

#[test]
fn tables_by_datasets_are_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let (plain, hub) = (root.path().join("plain"), root.path().join("hub"));
    folder(&plain);
    std::fs::create_dir_all(hub.join("data")).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet");
    for half in ["train", "test"] {
        let name = format!("{half}-00000-of-00001.parquet");
        std::fs::copy(golden.join(&name), hub.join("data").join(&name)).unwrap();
    }
    let a = Dataset::open(&config("folder", &plain)).unwrap();
    // Once by reading all tables, once by the index that was kept, once without memory.
    for memory in [MEMORY_BYTES, MEMORY_BYTES, 0] {
        let b = open_within(memory, &hub, &config("parquet", &hub)).unwrap();
        compare(&a, &b);
        assert_eq!(b.notes, [""; 0]);
        assert_eq!(memory == 0, a.digest != b.digest, "the digest is that of the pixels");
        let few = DataConfig { train_images: 2, ..config("parquet", &hub) };
        assert_eq!(open_within(memory, &hub, &few).unwrap().train.labels(), [0, 1]);
    }
    assert!(hub.join("data/.sim-index").is_file());
}

#[test]
fn tables_are_read_however_they_are_written() {
    let root = tempfile::tempdir().unwrap();
    let (plain, tables) = (root.path().join("plain"), root.path().join("tables"));
    folder(&plain);
    std::fs::create_dir(&tables).unwrap();
    let a = Dataset::open(&config("folder", &plain)).unwrap();
    let gzip = Compression::GZIP(Default::default());
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, gzip] {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for (dictionary, page, group) in [(false, 1, 6), (true, 2, 4), (true, 6, 1), (false, 6, 6)] {
                let how = || {
                    let how = plainly().set_compression(compression).set_writer_version(version);
                    let how = how.set_dictionary_enabled(dictionary).set_write_batch_size(1);
                    how.set_data_page_row_count_limit(page)
                };
                write(&tables.join("train-0.parquet"), &rows(0)[..2], group, how());
                write(&tables.join("train-1.parquet"), &rows(0)[2..], group, how());
                write(&tables.join("test.parquet"), &rows(1), group, how());
                let _ = std::fs::remove_file(tables.join(".sim-index"));
                for memory in [MEMORY_BYTES, 0] {
                    compare(&a, &open_within(memory, &tables, &config("parquet", &tables)).unwrap());
                }
            }
        }
    }
    let said = table::readable(&tables, Compression::LZ4_RAW).unwrap_err().to_string();
    assert!(said.contains("is compressed with LZ4_RAW; write it with SNAPPY"), "{said}");
    write(&tables.join("test.parquet"), &[], 1, plainly());
    assert!(refused(&tables).contains("has no image to hold out"), "{}", refused(&tables));
}

#[test]
fn classes_are_what_rows_say() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    // Without names numbers stand for classes, in their order.
    let numbered = |half: usize| -> Vec<_> {
        let label = |label: Option<i64>| label.map(|label| if label == 0 { 10 } else { 9 });
        rows(half).into_iter().map(|(image, said)| (image, label(said))).collect()
    };
    for (half, (name, _)) in REDS.iter().enumerate() {
        write(&at(&format!("{name}.parquet")), &numbered(half), 6, WriterProperties::builder());
    }
    let data = opened_in(root.path()).unwrap();
    assert_eq!((&data.classes[..], data.train.label(0)), (&["9".to_string(), "10".to_string()][..], 1));
    // Rows without an image are left out, and told.
    let mut some = rows(0);
    some[1].0 = None;
    write(&at("train.parquet"), &some, 6, plainly());
    write(&at("test.parquet"), &rows(1), 6, plainly());
    let data = opened_in(root.path()).unwrap();
    assert_eq!(
        (data.train.labels(), &data.notes[..]),
        (&[0, 0, 1, 1, 1][..], &["1 rows hold no image and were left out".to_string()][..])
    );
    // An image without a class, as test halves of some data sets are.
    for missing in [None, Some(-1)] {
        let unknown: Vec<_> = rows(1).into_iter().map(|(image, _)| (image, missing)).collect();
        write(&at("test.parquet"), &unknown, 6, plainly());
        let said = refused(root.path());
        assert!(said.contains("test.parquet/row 0: has an image and no class"), "{said}");
        assert!(said.contains("data.held_out = \"val\""), "{said}");
    }
    write(&at("validation-00000-of-00001.parquet"), &rows(1), 6, plainly());
    let val =
        DataConfig { held_out: Some(super::super::super::HeldOut::Val), ..config("parquet", root.path()) };
    assert_eq!(Dataset::open(&val).unwrap().test.len(), 6);
    // Tables that do not belong together.
    std::fs::remove_file(at("validation-00000-of-00001.parquet")).unwrap();
    let other = KeyValue::new("huggingface".to_string(), FEATURES.replace("cat", "cow"));
    write(
        &at("test.parquet"),
        &rows(1),
        6,
        WriterProperties::builder().set_key_value_metadata(Some(vec![other])),
    );
    assert!(
        refused(root.path()).contains("has other columns or other classes than"),
        "{}",
        refused(root.path())
    );
    // A class that one half has.
    write(&at("test.parquet"), &rows(1)[..3], 6, plainly());
    assert!(refused(root.path()).contains("no held-out image is of class 1"), "{}", refused(root.path()));
}

/// Writes a table of a single column of whole numbers, or of texts.
fn single(path: &Path, column: &str) {
    let schema = Arc::new(parse_message_type(&format!("message schema {{ {column} }}")).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let writer = SerializedFileWriter::new(file, schema, Arc::new(plainly().build())).unwrap();
    writer.close().unwrap();
}

#[test]
fn columns_are_found_or_told() {
    let root = tempfile::tempdir().unwrap();
    let table = root.path().join("train.parquet");
    for (column, said) in [
        (
            "optional int64 label; optional binary text (UTF8);",
            "no column of images is called image or img; its columns are label, text",
        ),
        ("optional int64 image;", "no column of images"),
        (
            "optional binary img; optional double label;",
            "its column label has not one whole number or one text",
        ),
        (
            "optional binary img; optional group label (LIST) { repeated group list { optional int64 element; } }",
            "its column label has not",
        ),
        ("repeated binary image;", "no column of images"),
    ] {
        single(&table, column);
        let told = refused(root.path());
        assert!(told.contains(said), "{column}: {told}");
    }
}

#[test]
fn without_a_held_out_half_one_in_ten_is_held_out() {
    let root = tempfile::tempdir().unwrap();
    let many: Vec<_> = (0..60).map(|i| (Some(png(i)), Some(i64::from(i % 2)))).collect();
    write(&root.path().join("train-00000-of-00001.parquet"), &many, 25, plainly());
    let data = opened_in(root.path()).unwrap();
    assert_eq!(data.train.len() + data.test.len(), 60);
    assert!((1..=15).contains(&data.test.len()), "{}", data.test.len());
    assert!(data.notes[0].contains("one image in ten is held out"), "{:?}", data.notes);
    // Which ones depends on no other row: a table that has fewer has the same ones of those.
    let of = |data: &Dataset| -> Vec<u8> {
        (0..data.test.len()).map(|i| data.test.image(i).unwrap().pixels[0]).collect()
    };
    write(&root.path().join("train-00000-of-00001.parquet"), &many[..50], 50, plainly());
    let fewer: Vec<u8> = of(&data).into_iter().filter(|red| *red < 50).collect();
    assert_eq!(of(&opened_in(root.path()).unwrap()), fewer);
    // Without a column of classes images have no labels.
    std::fs::rename(root.path().join("train-00000-of-00001.parquet"), root.path().join("images.parquet"))
        .unwrap();
    let schema = Arc::new(parse_message_type("message schema { required binary img; }").unwrap());
    let file = std::fs::File::create(root.path().join("images.parquet")).unwrap();
    let mut writer =
        SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::builder().build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let images: Vec<ByteArray> =
        many.iter().flat_map(|(image, _)| image.clone()).map(|image| Bytes::from(image).into()).collect();
    column.typed::<ByteArrayType>().write_batch(&images, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let data = opened_in(root.path()).unwrap();
    assert!(!data.is_labelled() && data.train.len() + data.test.len() == 60);
    assert!(data.notes.iter().any(|note| note.contains("images have no labels")), "{:?}", data.notes);
}

#[test]
fn folders_of_the_hub_are_entered() {
    let root = tempfile::tempdir().unwrap();
    assert!(refused(root.path()).contains("expected train-*.parquet"), "{}", refused(root.path()));
    assert!(refused(&root.path().join("nowhere")).contains("is not a folder"));
    for (half, (name, _)) in REDS.iter().enumerate() {
        std::fs::create_dir_all(root.path().join("plain_text").join(name)).unwrap();
        write(&root.path().join("plain_text").join(name).join("0000.parquet"), &rows(half), 6, plainly());
    }
    let data = opened_in(root.path()).unwrap();
    assert_eq!(
        (data.train.len(), &data.notes[..]),
        (6, &["the tables are those in plain_text".to_string()][..])
    );
    std::fs::create_dir(root.path().join("other")).unwrap();
    write(&root.path().join("other/train-0.parquet"), &rows(0), 6, plainly());
    assert!(
        refused(root.path()).contains("name the folder of one: other, plain_text"),
        "{}",
        refused(root.path())
    );
}

#[test]
fn what_is_wrong_with_a_table_is_named() {
    let root = tempfile::tempdir().unwrap();
    let train = root.path().join("train.parquet");
    let how = || {
        plainly()
            .set_compression(Compression::SNAPPY)
            .set_write_batch_size(1)
            .set_data_page_row_count_limit(2)
    };
    write(&train, &rows(0), 3, how());
    write(&root.path().join("test.parquet"), &rows(1), 6, how());
    assert_eq!(opened_in(root.path()).unwrap().train.len(), 6);
    let whole = std::fs::read(&train).unwrap();
    let again = |bytes: &[u8]| {
        let _ = std::fs::remove_file(root.path().join(".sim-index"));
        std::fs::write(&train, bytes).unwrap();
    };
    for cut in (0..whole.len()).step_by(7) {
        again(&whole[..cut]);
        assert!(refused(root.path()).contains("train.parquet"), "cut at {cut}: {}", refused(root.path()));
    }
    again(b"no table at all, however long it may be");
    assert!(refused(root.path()).contains("train.parquet: is no Parquet table"), "{}", refused(root.path()));
    // An image that is damaged inside is named, or skipped.
    let mut some = rows(0);
    let cut = some[4].0.as_ref().map(|image| image[..70].to_vec());
    some[4].0 = cut;
    write(&train, &some, 3, how());
    assert!(
        refused(root.path()).contains("train.parquet/row 4: is not an image that can be used"),
        "{}",
        refused(root.path())
    );
    let skipping = DataConfig { skip_bad: true, ..config("parquet", root.path()) };
    for memory in [MEMORY_BYTES, 0] {
        let data = open_within(memory, root.path(), &skipping).unwrap();
        assert_eq!((data.train.labels(), data.skipped.len()), (&[0, 0, 0, 1, 1][..], 1));
        assert_eq!(data.train.image(4).unwrap().pixels[0], 92);
    }
    // Every byte changed: no panic, whatever it says then.
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= [0x01, 0x80, 0xff][at % 3];
        again(&bytes);
        let _ = opened_in(root.path());
    }
}
