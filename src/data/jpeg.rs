//! Whether a JPEG file is whole.
//!
//! The decoder fills what a cut file lacks with grey and says nothing, so a broken download would
//! be trained on. A whole file ends, after its last scan, with the end-of-image marker (ITU T.81,
//! B.1.1.3); one that lies inside a segment, as that of a thumbnail does, is not it.

const START: [u8; 2] = [0xff, 0xd8];
const END: u8 = 0xd9;
const SCAN: u8 = 0xda;

/// Whether `bytes` claim to be a JPEG file.
pub fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&START)
}

/// Whether the JPEG file `bytes` reaches its end-of-image marker. What follows it is ignored.
pub fn is_whole(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(START.len()..).unwrap_or_default();
    while let Some((marker, after)) = next_marker(rest) {
        rest = match marker {
            END => return true,
            // Markers without a segment: TEM, and a start-of-image that some writers repeat.
            0x01 | 0xd8 => after,
            _ => {
                let Some(&[high, low]) = after.first_chunk() else { return false };
                // The length counts its own two bytes.
                let length = usize::from(u16::from_be_bytes([high, low])).max(2);
                match after.get(length..) {
                    Some(scan) if marker == SCAN => entropy_coded_end(scan),
                    Some(next) => next,
                    None => return false,
                }
            }
        };
    }
    false
}

/// The first marker of `bytes` and what follows it; bytes before it are passed over.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let at = bytes.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xff))?;
    Some((bytes[at + 1], &bytes[at + 2..]))
}

/// From the first marker on that is none of a scan's own: stuffed zeros, restarts, fill bytes.
fn entropy_coded_end(scan: &[u8]) -> &[u8] {
    let own = |byte: u8| matches!(byte, 0x00 | 0xff | 0xd0..=0xd7);
    let end = scan.windows(2).position(|pair| pair[0] == 0xff && !own(pair[1]));
    end.map_or(&[], |at| &scan[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg() -> Vec<u8> {
        let image = image::RgbImage::from_fn(40, 40, |x, y| image::Rgb([(x * y % 256) as u8, x as u8, 7]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_file_is_whole_up_to_its_last_byte_only() {
        let whole = jpeg();
        assert!(is_jpeg(&whole) && is_whole(&whole));
        for length in 0..whole.len() {
            assert!(!is_whole(&whole[..length]), "{length} of {} bytes", whole.len());
        }
        assert!(is_whole(&[whole, b"appended".to_vec()].concat()));
    }

    #[test]
    fn the_end_of_a_thumbnail_is_not_the_end_of_the_file() {
        let whole = jpeg();
        let thumbnail = [&[0xff, 0xe1, 0, 8][..], &[0xff, 0xd8, 0xff, 0xd9, 0, 0]].concat();
        let bytes = [&whole[..2], &thumbnail, &whole[2..]].concat();
        assert!(is_whole(&bytes));
        assert!(!is_whole(&bytes[..bytes.len() - 2]));
    }
}
