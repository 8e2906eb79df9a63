//! What the pixels of a PNG file depend on.
//!
//! Colour profiles and texts are packed, and half a megabyte of them unpacks to hundreds, which the
//! decoder does before it comes to a pixel. None of them changes a pixel as pixels are read here,
//! so they are passed over, like the further pictures of an animation.

use std::io::{Read, Result, Seek};

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// Longest chunk about the camera that is kept.
const LONGEST_EXIF: u32 = 1 << 16;

/// Whether `bytes` claim to be a PNG file.
pub fn is_png(bytes: &[u8]) -> bool {
    bytes.starts_with(&SIGNATURE)
}

/// How much of a file is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What comes before the pixels, and the head of their first chunk.
    Head,
    /// The whole file.
    Whole,
}

/// A copy of the file without the chunks that its pixels do not depend on; a damaged file is copied
/// to its end.
///
/// # Errors
/// Those of reading.
pub fn essential(from: &mut (impl Read + Seek + ?Sized), part: Part) -> Result<Vec<u8>> {
    let mut kept = Vec::new();
    (&mut *from).take(SIGNATURE.len() as u64).read_to_end(&mut kept)?;
    loop {
        let at = kept.len();
        if (&mut *from).take(8).read_to_end(&mut kept)? < 8 {
            return Ok(kept);
        }
        let Some((length, name)) = kept[at..].split_first_chunk() else { return Ok(kept) };
        let length = u32::from_be_bytes(*length);
        // Chunks that a decoder must understand begin with a capital letter.
        let needed = name[0].is_ascii_uppercase() || name == b"tRNS";
        if name == b"IDAT" && part == Part::Head {
            return Ok(kept);
        }
        let last = name == b"IEND";
        // The chunk's checksum stands behind it.
        let length_with_sum = u64::from(length) + 4;
        if needed || (name == b"eXIf" && length <= LONGEST_EXIF) {
            (&mut *from).take(length_with_sum).read_to_end(&mut kept)?;
        } else {
            kept.truncate(at);
            from.seek_relative(length_with_sum as i64)?;
        }
        if last {
            return Ok(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, ImageFormat};
    use std::io::Cursor;

    fn png(image: &DynamicImage) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    /// `bytes` with a chunk of this name behind the header.
    fn with_chunk(bytes: &[u8], name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let mut crc = flate2::Crc::new();
        crc.update(name);
        crc.update(data);
        let length = (data.len() as u32).to_be_bytes();
        let chunk = [&length[..], name, data, &crc.sum().to_be_bytes()].concat();
        // The signature, and the header with its length, name and checksum.
        [&bytes[..33], &chunk, &bytes[33..]].concat()
    }

    #[test]
    fn pixels_are_the_same_without_what_they_do_not_depend_on() {
        let colour =
            image::RgbaImage::from_fn(7, 5, |x, y| image::Rgba([x as u8 * 30, y as u8 * 50, 9, 128]));
        let colour = DynamicImage::ImageRgba8(colour);
        for image in [
            colour.clone(),
            colour.to_rgb16().into(),
            colour.to_luma8().into(),
            colour.to_luma_alpha16().into(),
        ] {
            let whole = png(&image);
            let mut full = whole.clone();
            for (name, data) in
                [(b"tEXt", &b"a\0b"[..]), (b"gAMA", &[0, 0, 0, 9]), (b"acTL", &[0, 0, 0, 1, 0, 0, 0, 0])]
            {
                full = with_chunk(&full, name, data);
            }
            let kept = essential(&mut Cursor::new(&full), Part::Whole).unwrap();
            assert_eq!(kept, whole);
            let decode = |bytes: &[u8]| image::load_from_memory(bytes).unwrap().into_rgb8();
            assert_eq!(decode(&kept), decode(&full));
            let head = essential(&mut Cursor::new(&full), Part::Head).unwrap();
            assert!(head.ends_with(b"IDAT") && whole.starts_with(&head));
        }
    }

    #[test]
    fn transparent_colours_and_palettes_stay() {
        let whole = with_chunk(&png(&DynamicImage::new_rgb8(2, 2)), b"tRNS", &[0; 6]);
        assert_eq!(essential(&mut Cursor::new(&whole), Part::Whole).unwrap(), whole);
        let indexed = with_chunk(&whole, b"PLTE", &[1, 2, 3]);
        assert_eq!(essential(&mut Cursor::new(&indexed), Part::Whole).unwrap(), indexed);
    }

    #[test]
    fn a_cut_file_is_kept_up_to_its_end() {
        let whole = png(&DynamicImage::new_rgb8(2, 2));
        for length in 0..whole.len() {
            assert_eq!(essential(&mut Cursor::new(&whole[..length]), Part::Whole).unwrap(), whole[..length]);
        }
    }
}
