//! What is asked of a WebP file before it is decoded: whether it is whole, whether its picture fits
//! its canvas, and how the camera was held.
//!
//! The decoder fills what a cut file lacks and says nothing, takes memory for a picture before it
//! compares its size with the canvas, and for what is said about a camera whatever its length. A
//! file is a list of chunks, each with its name and length (RFC 9649, 2.3).

use image::metadata::Orientation;
use std::io::{Read, Result, Seek, SeekFrom};

/// RIFF, the length of what follows, WEBP.
const HEAD: usize = 12;
/// What an animation says of a frame before its chunks.
const FRAME_HEAD: usize = 16;
/// Longest chunk about the camera that is read.
const LONGEST_EXIF: u32 = 1 << 16;

/// Whether `bytes` claim to be a WebP file.
pub fn is_webp(bytes: &[u8]) -> bool {
    bytes.starts_with(b"RIFF") && bytes.get(8..HEAD) == Some(b"WEBP")
}

/// Why the WebP file `bytes` is not decoded; none where it may be.
pub fn fault(bytes: &[u8]) -> Option<&'static str> {
    let said = bytes.get(4..8).and_then(|said| said.try_into().ok()).map_or(0, u32::from_le_bytes);
    // Some writers count the byte that fills up the last chunk, and leave it out.
    if (bytes.len() as u64) + 1 < u64::from(said) + 8 {
        return Some("the WebP file is truncated");
    }
    let mut canvas = None;
    for (name, data) in chunks(bytes.get(HEAD..).unwrap_or_default()) {
        let picture = match name {
            b"VP8X" => {
                let side =
                    |at: usize| Some(1 + u32::from_le_bytes([data[at], data[at + 1], data[at + 2], 0]));
                canvas = if data.len() < 10 { None } else { side(4).zip(side(7)) };
                continue;
            }
            b"ANMF" => chunks(data.get(FRAME_HEAD..).unwrap_or_default()).find(|(name, _)| *name == b"VP8 "),
            b"VP8 " => Some((name, data)),
            _ => continue,
        };
        let (Some((width, height)), Some((_, data))) = (canvas, picture) else { continue };
        let side =
            |at: usize| Some(u32::from(u16::from_le_bytes([*data.get(at)?, *data.get(at + 1)?]) & 0x3fff));
        if side(6).is_some_and(|side| side > width) || side(8).is_some_and(|side| side > height) {
            return Some("its picture is larger than its canvas");
        }
    }
    None
}

/// The chunks in `rest`, each with its name; the last one may be cut.
fn chunks(mut rest: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (name, after) = rest.split_first_chunk()?;
        let (length, after) = after.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let (data, _) = after.split_at(length.min(after.len()));
        rest = after.get(length + length % 2..).unwrap_or_default();
        Some((name, data))
    })
}

/// How the camera of the WebP file `from` was held, as far as it says.
///
/// # Errors
/// Those of reading.
pub fn orientation(from: &mut (impl Read + Seek + ?Sized)) -> Result<Option<Orientation>> {
    from.seek(SeekFrom::Start(HEAD as u64))?;
    loop {
        let mut head = Vec::with_capacity(8);
        if (&mut *from).take(8).read_to_end(&mut head)? < 8 {
            return Ok(None);
        }
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        if head.starts_with(b"EXIF") {
            let mut exif = Vec::new();
            (&mut *from).take(u64::from(length.min(LONGEST_EXIF))).read_to_end(&mut exif)?;
            return Ok(Orientation::from_exif_chunk(&exif));
        }
        from.seek_relative(i64::from(length) + i64::from(length % 2))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn webp() -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image::RgbImage::new(9, 7).write_to(&mut bytes, image::ImageFormat::WebP).unwrap();
        bytes.into_inner()
    }

    fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let fill = vec![0; data.len() % 2];
        [&name[..], &(data.len() as u32).to_le_bytes(), data, &fill].concat()
    }

    fn file(chunks: &[Vec<u8>]) -> Vec<u8> {
        let chunks = chunks.concat();
        [&b"RIFF"[..], &(chunks.len() as u32 + 4).to_le_bytes(), b"WEBP", &chunks].concat()
    }

    #[test]
    fn a_file_is_whole_up_to_its_last_byte() {
        let whole = webp();
        assert!(is_webp(&whole));
        assert_eq!(fault(&whole), None);
        for length in HEAD..whole.len() - 1 {
            assert_eq!(fault(&whole[..length]), Some("the WebP file is truncated"), "{length}");
        }
    }

    #[test]
    fn a_picture_larger_than_its_canvas_is_refused() {
        let canvas = |side: u8| chunk(b"VP8X", &[0, 0, 0, 0, side - 1, 0, 0, side - 1, 0, 0]);
        let picture = chunk(b"VP8 ", &[0, 0, 0, 0x9d, 1, 0x2a, 20, 0, 20, 0]);
        let frame = chunk(b"ANMF", &[vec![0; FRAME_HEAD], picture.clone()].concat());
        for picture in [picture, frame] {
            assert_eq!(fault(&file(&[canvas(20), picture.clone()])), None);
            assert!(fault(&file(&[canvas(19), picture])).is_some());
        }
    }

    #[test]
    fn the_orientation_stands_behind_other_chunks() {
        let tiff = [&b"II*\0\x08\0\0\0\x01\0"[..], b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0", &[0; 4]].concat();
        let said = file(&[chunk(b"VP8L", &[1; 5]), chunk(b"EXIF", &tiff)]);
        assert_eq!(orientation(&mut Cursor::new(said)).unwrap(), Some(Orientation::Rotate90));
        assert_eq!(orientation(&mut Cursor::new(webp())).unwrap(), None);
        let long = [file(&[chunk(b"VP8L", &[1; 5])]), b"EXIF\xff\xff\xff\xff".to_vec()].concat();
        assert_eq!(orientation(&mut Cursor::new(long)).unwrap(), None);
    }
}
