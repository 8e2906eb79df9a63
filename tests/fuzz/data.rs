//! Images and archives of them.

#[cfg(test)]
use super::run;
use flate2::Compression;
use flate2::write::GzEncoder;
#[cfg(test)]
use image::{DynamicImage, ImageFormat};
use simsiam_em::data::{DataConfig, Dataset, Exif, decode};
use std::io::{Cursor, Write};
use std::path::Path;

#[cfg(test)]
const FILES: [&str; 7] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
    "batches.meta.txt",
];

/// The official archive with two images a file.
#[cfg(test)]
fn tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for name in FILES {
        let bytes = if name.ends_with("txt") { b"a\nb\n".to_vec() } else { vec![1; 2 * 3073] };
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        // A name of more than a hundred bytes has an entry of its own before the file's.
        let folder =
            if name == "test_batch.bin" { "long/".repeat(30) } else { "cifar-10-batches-bin/".into() };
        tar.append_data(&mut header, format!("{folder}{name}"), &bytes[..]).expect("appended");
    }
    tar.into_inner().expect("written")
}

fn gzip(bytes: &[u8], level: Compression) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), level);
    gzip.write_all(bytes).expect("packed");
    gzip.finish().expect("packed")
}

fn read_as_cifar(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mutant.tar.gz");
    std::fs::write(&path, bytes).expect("written");
    let _ = Dataset::open(&DataConfig::all_of(&format!("cifar10:{}", path.display())));
}

/// Reads an archive whose packed bytes are those.
pub fn archive(bytes: &[u8]) {
    read_as_cifar(bytes);
}

/// Reads an archive whose unpacked bytes are those: what a mutant says is then believed.
pub fn archive_inside(bytes: &[u8]) {
    read_as_cifar(&gzip(bytes, Compression::none()));
}

/// Reads the pickles of a Python version of CIFAR, all of which are those.
pub fn batch(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["train", "test", "meta"] {
        std::fs::write(folder.path().join(name), bytes).expect("written");
    }
    let _ = Dataset::open(&DataConfig::all_of(&format!("cifar100:{}", folder.path().display())));
}

/// A shard of two classes with an image each.
fn members() -> Vec<u8> {
    let mut picture = Cursor::new(Vec::new());
    let pixels = image::RgbImage::from_fn(5, 4, |x, y| image::Rgb([x as u8 * 40, y as u8 * 50, 9]));
    pixels.write_to(&mut picture, image::ImageFormat::Png).expect("encoded");
    let picture = picture.into_inner();
    let mut tar = tar::Builder::new(Vec::new());
    let long = "long/".repeat(30) + "2.json";
    for (name, bytes) in [
        ("1.png", &picture[..]),
        ("1.cls", b"0"),
        (&long, br#"{"label": 1}"#),
        (&long.replace("json", "png"), &picture),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).expect("appended");
    }
    tar.into_inner().expect("written")
}

/// The archive with right checksums of its headers, as far as their lengths lead from one to the
/// next.
fn with_header_sums(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 512) {
        let sum: u32 = header
            .iter()
            .enumerate()
            .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) })
            .sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let length = std::str::from_utf8(&header[124..135]).ok();
        let length = length.and_then(|digits| usize::from_str_radix(digits, 8).ok()).unwrap_or(0);
        at += 512 + length.next_multiple_of(512);
    }
    bytes
}

/// A data set of two shards and an index; their time is always the same, so that the index is
/// believed.
fn shards(train: &[u8], index: Option<&[u8]>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in [("train-0.tar", train), ("test-0.tar", &members()[..])] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        let file = std::fs::File::options().write(true).open(&path).expect("opened");
        file.set_modified(std::time::UNIX_EPOCH).expect("dated");
    }
    if let Some(index) = index {
        std::fs::write(folder.path().join(".sim-index"), index).expect("written");
    }
    folder
}

fn read_as_shards(folder: &Path) {
    for skip_bad in [false, true] {
        let config = DataConfig { skip_bad, ..DataConfig::all_of(&format!("tar:{}", folder.display())) };
        let _ = Dataset::open(&config);
    }
}

/// Reads a shard.
pub fn shard(bytes: &[u8]) {
    read_as_shards(shards(&with_header_sums(bytes.to_vec()), None).path());
}

/// Reads shards by an index.
pub fn index_of_shards(bytes: &[u8]) {
    read_as_shards(shards(&members(), Some(bytes)).path());
}

/// Reads a table of images.
pub fn table(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    for half in ["train", "test"] {
        std::fs::write(folder.path().join(format!("{half}.parquet")), bytes).expect("written");
    }
    for skip_bad in [false, true] {
        let source = format!("parquet:{}", folder.path().display());
        let _ = Dataset::open(&DataConfig { skip_bad, ..DataConfig::all_of(&source) });
    }
}

/// Good images of all kinds of pixels.
#[cfg(test)]
fn images() -> Vec<Vec<u8>> {
    let colour =
        image::RgbaImage::from_fn(23, 17, |x, y| image::Rgba([x as u8 * 9, y as u8 * 11, (x * y) as u8, 99]));
    let colour = DynamicImage::ImageRgba8(colour);
    let pixels: [DynamicImage; 5] = [
        colour.clone(),
        colour.to_rgb8().into(),
        colour.to_rgb16().into(),
        colour.to_luma8().into(),
        colour.to_luma_alpha16().into(),
    ];
    let encode = |image: &DynamicImage, format| {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).expect("encoded");
        bytes.into_inner()
    };
    let mut all: Vec<Vec<u8>> = pixels.iter().map(|image| encode(image, ImageFormat::Png)).collect();
    all.extend([1, 3].map(|i| encode(&pixels[i], ImageFormat::Jpeg)));
    all.push(crate::support::jpeg_to_be_turned(30, 20));
    // Palettes of 1, 2, 4 and 8 bits, and the interlaced order.
    all.extend([1, 2, 4, 8].map(|bits| png_by_hand([bits, 3, 0], 8, 8)));
    all.extend([[8, 2, 1], [16, 6, 1], [1, 0, 1]].map(|kind| png_by_hand(kind, 9, 7)));
    all
}

/// A PNG file of this depth, type of colour and interlacing, with a palette and with more rows than
/// any order needs.
#[cfg(test)]
fn png_by_hand([depth, colour, interlaced]: [u8; 3], width: u32, height: u32) -> Vec<u8> {
    let chunk =
        |name: &[u8; 4], data: &[u8]| [&(data.len() as u32).to_be_bytes(), &name[..], data, &[0; 4]].concat();
    let header =
        [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, colour, 0, 0, interlaced]].concat();
    let mut rows = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
    rows.write_all(&[0; 2048]).expect("packed");
    let rows = rows.finish().expect("packed");
    let palette: Vec<u8> = (0..if depth < 16 { 3usize << depth } else { 3 }).map(|i| i as u8).collect();
    let chunks =
        [chunk(b"IHDR", &header), chunk(b"PLTE", &palette), chunk(b"IDAT", &rows), chunk(b"IEND", b"")];
    with_checksums([b"\x89PNG\r\n\x1a\n".to_vec(), chunks.concat()].concat())
}

/// The PNG file with right checksums: without them every mutant ends at the first.
fn with_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let end = at + 8 + length;
        if bytes.len() < end + 4 {
            break;
        }
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&crc.sum().to_be_bytes());
        at = end + 4;
    }
    bytes
}

/// Good images of the other formats.
#[cfg(test)]
fn other_images() -> Vec<Vec<u8>> {
    let colour = image::RgbaImage::from_fn(23, 17, |x, y| image::Rgba([x as u8 * 9, y as u8 * 11, 7, 99]));
    let colour = DynamicImage::ImageRgba8(colour);
    let grey = colour.to_luma8().into();
    let formats = [ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Gif];
    let mut all = crate::formats::WEBP.map(<[u8]>::to_vec).to_vec();
    for image in [&colour, &colour.to_rgb8().into(), &grey] {
        for format in formats {
            let mut bytes = Cursor::new(Vec::new());
            // A GIF file has no grey pixels.
            if image.write_to(&mut bytes, format).is_ok() {
                all.push(bytes.into_inner());
            }
        }
    }
    all
}

/// Decodes an image file.
pub fn image(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path: &Path = &folder.path().join("mutant.png");
    let bytes = if bytes.starts_with(b"\x89PNG") { with_checksums(bytes.to_vec()) } else { bytes.to_vec() };
    std::fs::write(path, bytes).expect("written");
    for exif in [Exif::Ignored, Exif::Applied] {
        let _ = decode(path, exif);
    }
}

/// Decodes an image file of another format than JPEG and PNG.
pub fn other_image(bytes: &[u8]) {
    image(bytes);
}

#[test]
fn archives_are_read_or_refused() {
    run("CIFAR archive, packed", vec![gzip(&tar(), Compression::default())], archive);
}

#[test]
fn entries_of_archives_are_read_or_refused() {
    run("CIFAR archive, unpacked", vec![tar()], archive_inside);
}

#[test]
fn batches_are_read_or_refused() {
    run("CIFAR pickle", vec![crate::sources::batch("fine_labels", &[1, 99])], batch);
}

#[test]
fn shards_are_read_or_refused() {
    run("shard", vec![members()], shard);
}

#[test]
fn indices_of_shards_are_believed_or_made_again() {
    let folder = shards(&members(), None);
    read_as_shards(folder.path());
    run("index of shards", vec![std::fs::read(folder.path().join(".sim-index")).unwrap()], index_of_shards);
}

#[cfg(feature = "parquet")]
#[test]
fn tables_are_read_or_refused() {
    let golden = crate::support::root().join("tests/golden/parquet");
    let names = ["train-00000-of-00001.parquet", "packed.parquet"];
    run("Parquet table", names.map(|name| std::fs::read(golden.join(name)).unwrap()).into(), table);
}

#[test]
fn images_are_decoded_or_refused() {
    run("JPEG and PNG", images(), image);
}

#[test]
fn images_of_other_formats_are_decoded_or_refused() {
    run("WebP, BMP, TIFF and GIF", other_images(), other_image);
}
