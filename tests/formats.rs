//! Images of every format: pixels, first pictures of animations, files that are cut, and headers
//! that claim more than there is.

use crate::fuzz::memory::most_during;
use image::codecs::gif::GifEncoder;
use image::{DynamicImage, Frame, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use simsiam_em::data::{Exif, decode};
use std::io::Cursor;
use std::path::Path;

/// WebP files of one pixel that image's encoder does not write: lossy, lossy with transparency, and
/// animated.
pub const WEBP: [&[u8]; 3] = [
    b"RIFF\x22\0\0\0WEBPVP8 \x16\0\0\0\x30\x01\0\x9d\x01\x2a\x01\0\x01\0\x0e\xc0\xfe\x25\xa4\0\x03\x70\0\0\0\0",
    b"RIFF\x4a\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0\0\0\0\0\0\0ALPH\x0c\0\0\0\x11\x07\x10\x11\xfd\x0fDD\xff\x03\0\0\
      VP8 \x18\0\0\0\x14\x01\0\x9d\x01\x2a\x01\0\x01\0\0\0\xfe\0\0\x0d\xc0\0\xfe\xe6\xb5\0\0\0",
    b"RIFF\x52\0\0\0WEBPVP8X\x0a\0\0\0\x12\0\0\0\0\0\0\0\0\0ANIM\x06\0\0\0\xff\xff\xff\xff\0\0ANMF\x26\0\0\0\
      \0\0\0\0\0\0\0\0\0\0\0\0\x64\0\0\0VP8L\x0d\0\0\0\x2f\0\0\0\x10\x07\x10\x11\x11\x88\x88\xfe\x07\0",
];

const FORMATS: [(&str, ImageFormat); 6] = [
    ("png", ImageFormat::Png),
    ("jpg", ImageFormat::Jpeg),
    ("webp", ImageFormat::WebP),
    ("bmp", ImageFormat::Bmp),
    ("tif", ImageFormat::Tiff),
    ("gif", ImageFormat::Gif),
];

/// Few colours, of which a palette keeps each.
fn picture() -> RgbImage {
    RgbImage::from_fn(13, 9, |x, y| Rgb([x as u8 % 4 * 60, y as u8 % 3 * 90, 7]))
}

fn encoded(format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(picture()).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// What `bytes` decode to, as a file at `path`.
fn read(path: &Path, bytes: &[u8]) -> simsiam_em::Result<simsiam_em::augment::Image> {
    std::fs::write(path, bytes).unwrap();
    decode(path, Exif::Ignored)
}

#[test]
fn a_format_is_told_by_what_a_file_holds_and_gives_its_pixels() {
    let root = tempfile::tempdir().unwrap();
    for (name, format) in FORMATS {
        for ending in [name, "png", "jpg"] {
            let image = read(&root.path().join(format!("x.{ending}")), &encoded(format)).unwrap();
            assert_eq!((image.height, image.width), (9, 13), "{name}");
            if name != "jpg" {
                assert_eq!(image.pixels, picture().into_raw(), "{name}");
            }
        }
    }
    for bytes in WEBP {
        let image = read(&root.path().join("x.webp"), bytes).unwrap();
        assert_eq!((image.height, image.width), (1, 1));
    }
    // 16-bit and grey pixels.
    let mut tiff = Cursor::new(Vec::new());
    DynamicImage::from(picture()).to_luma16().write_to(&mut tiff, ImageFormat::Tiff).unwrap();
    let grey = read(&root.path().join("x.tiff"), &tiff.into_inner()).unwrap();
    assert!(grey.pixels.chunks(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
}

/// WebP and JPEG files say how they are to be turned, each in its own way.
#[test]
fn orientations_are_read_in_every_format_that_has_them() {
    let root = tempfile::tempdir().unwrap();
    let jpeg = crate::support::jpeg_to_be_turned(13, 9);
    let mut pixels = encoded(ImageFormat::WebP);
    // The TIFF entry of the JPEG file, behind Exif\0\0, in a chunk of its own.
    let exif = &jpeg[12..12 + 26];
    let chunk = [&b"EXIF"[..], &26u32.to_le_bytes(), exif].concat();
    let webp = {
        // An extended header of 13 × 9 pixels with EXIF before the chunk of pixels.
        let head = [&b"VP8X\x0a\0\0\0\x08\0\0\0"[..], &[12, 0, 0, 8, 0, 0]].concat();
        let chunks = [&head[..], &pixels.split_off(12), &chunk].concat();
        [&b"RIFF"[..], &(chunks.len() as u32 + 4).to_le_bytes(), b"WEBP", &chunks].concat()
    };
    for (name, bytes) in [("x.jpg", jpeg), ("x.webp", webp)] {
        let path = root.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let size = |exif| decode(&path, exif).map(|image| (image.width, image.height)).unwrap();
        assert_eq!((size(Exif::Ignored), size(Exif::Applied)), ((13, 9), (9, 13)), "{name}");
    }
}

#[test]
fn the_first_picture_of_an_animation_is_read() {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for red in [200, 0, 90] {
        encoder.encode_frame(Frame::new(RgbaImage::from_pixel(5, 4, Rgba([red, 0, 0, 255])))).unwrap();
    }
    drop(encoder);
    let root = tempfile::tempdir().unwrap();
    let image = read(&root.path().join("x.gif"), &bytes).unwrap();
    assert!(image.height == 4 && image.pixels.chunks(3).all(|pixel| pixel == [200, 0, 0]));
}

/// A cut file is refused, unless what is cut off holds no pixel.
#[test]
fn a_cut_file_of_any_format_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let written = FORMATS.map(|(name, format)| (name, encoded(format)));
    for (name, whole) in written.into_iter().chain(WEBP.map(|bytes| ("webp", bytes.to_vec()))) {
        let path = root.path().join(format!("x.{name}"));
        let pixels = read(&path, &whole).unwrap();
        let mut refused = 0;
        for length in 0..whole.len() {
            match read(&path, &whole[..length]) {
                Ok(image) => assert_eq!(image, pixels, "{name}, {length} of {} bytes", whole.len()),
                Err(error) => {
                    assert_eq!(error.exit_code(), 4, "{error}");
                    assert!(error.to_string().contains(&format!("x.{name}")), "{error}");
                    refused = length;
                }
            }
        }
        // A PNG file has a checksum and a chunk for its end behind its pixels.
        assert!(whole.len() - refused <= 25, "{name}: {refused} of {}", whole.len());
    }
}

#[test]
fn headers_that_claim_too_many_pixels_are_refused_before_memory_is_taken() {
    let root = tempfile::tempdir().unwrap();
    let big = 16_000u32.to_le_bytes();
    let put = |format, at: usize, bytes: &[u8]| {
        let mut file = encoded(format);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let canvas = |side: [u8; 3]| {
        let mut file = WEBP[1].to_vec();
        file[24..27].copy_from_slice(&side);
        file[27..30].copy_from_slice(&side);
        file
    };
    let mut lossy = WEBP[1].to_vec();
    // The width of the picture inside.
    let at = lossy.windows(3).position(|bytes| bytes == [0x9d, 1, 0x2a]).unwrap() + 3;
    lossy[at..at + 4].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
    for (name, bytes) in [
        ("x.bmp", put(ImageFormat::Bmp, 18, &[big, big].concat())),
        ("x.gif", put(ImageFormat::Gif, 6, &[0xff; 4])),
        ("canvas.webp", canvas([0xff, 0x3e, 0])),
        ("wide.webp", canvas([0xff, 0xff, 0])),
        ("inside.webp", lossy),
    ] {
        let mut ended = None;
        let held = most_during(4 << 30, || ended = Some(read(&root.path().join(name), &bytes).map(drop)));
        let error = ended.unwrap().expect_err(name);
        assert!(held < 1 << 20 && error.exit_code() == 4, "{name}: {held} bytes held; {error}");
    }
}
