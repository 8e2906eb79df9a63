//! Small pictures of images, and pictures as part of a text.

use crate::augment::Image;
use image::RgbImage;
use image::imageops::{self, FilterType};

/// Dots of the longer side of a picture on a map.
pub const DOTS: u32 = 52;

/// An image whose longer side has `dots` dots: smaller ones are enlarged with square pixels.
pub fn thumbnail(image: &Image, dots: u32) -> RgbImage {
    let Image { height, width, pixels } = image;
    let side = |n: usize| ((n as u64 * u64::from(dots) / (*height).max(*width) as u64) as u32).max(1);
    let (width, height) = (*width as u32, *height as u32);
    let whole = RgbImage::from_raw(width, height, pixels.clone()).unwrap_or_default();
    let (wide, high) = (side(image.width), side(image.height));
    match width.max(height) > dots {
        true => imageops::thumbnail(&whole, wide, high),
        false => imageops::resize(&whole, wide, high, FilterType::Nearest),
    }
}

/// As much of an image as a map shows of it, so that photographs need no memory for what is not
/// shown.
pub fn thumbnail_of(image: &Image) -> Image {
    if image.height.max(image.width) <= DOTS as usize {
        return image.clone();
    }
    let small = thumbnail(image, DOTS);
    Image { height: small.height() as usize, width: small.width() as usize, pixels: small.into_raw() }
}

/// A PNG as an address that a page or an SVG can hold.
pub fn data_uri(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", base64(png))
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let of = |text: &str| base64(text.as_bytes());
        assert_eq!(["", "f", "fo", "foo", "foob"].map(of), ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    #[test]
    fn a_thumbnail_keeps_its_shape() {
        let of = |width, height| Image { height, width, pixels: vec![7; width * height * 3] };
        assert_eq!(thumbnail(&of(16, 16), 52).dimensions(), (52, 52));
        assert_eq!(thumbnail(&of(400, 100), 52).dimensions(), (52, 13));
        assert_eq!(thumbnail(&of(1, 900), 52).dimensions(), (1, 52));
    }
}
