//! One image file: what its header says, and its pixels.

use super::{jpeg, png, webp};
use crate::augment::Image;
use crate::error::{Error, Result};
use crate::files;
use image::metadata::Orientation;
use image::{ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Seek};
use std::path::{Path, PathBuf};

/// A longer side, or more decoded bytes, is taken for a damaged or hostile file.
const LONGEST_SIDE: u32 = 16_384;
const DECODED_BYTES: u64 = 256 << 20;
/// A longer file is not read at all: packed pixels take less room than unpacked ones, and some
/// files say more beside them.
pub const FILE_BYTES: u64 = DECODED_BYTES + DECODED_BYTES / 4;

/// What is done about an image that its camera asks to turn (EXIF orientation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exif {
    /// It is read as it is stored, as torchvision reads it.
    Ignored,
    /// It is turned.
    Applied,
}

/// What is known of an image before it is decoded.
#[derive(Clone, Copy)]
pub struct Header {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of the image as RGB.
    pub decoded_bytes: u64,
    /// Whether the camera asks for it to be turned before it is shown.
    pub turned: bool,
}

/// Bytes of any origin: one type for all, since decoders are compiled for each.
pub trait Bytes: BufRead + Seek {}
impl<T: BufRead + Seek> Bytes for T {}

/// A reader that knows the format by the first bytes and refuses what would not fit into memory.
fn reader<'a>(path: &Path, from: &'a mut dyn Bytes) -> Result<ImageReader<&'a mut dyn Bytes>> {
    let mut reader = ImageReader::new(from).with_guessed_format().map_err(|e| unreadable(path, e))?;
    reader.limits(limits());
    Ok(reader)
}

/// What an image may take.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    limits.max_alloc = Some(2 * DECODED_BYTES);
    limits
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    match files::is_refusal(&error) {
        true => refused(path, error),
        false => Error::data(path, format!("cannot be read: {error}")),
    }
}

/// Why a file is refused, with the way out.
fn refused(path: &Path, what: impl std::fmt::Display) -> Error {
    // A decoder's words may end in a line break.
    let what = what.to_string();
    let what = what.trim_end();
    Error::data(path, format!("is not an image that can be used: {what}; remove it or pass --skip-bad"))
}

/// The ending that a file of these bytes should have.
pub fn extension(bytes: &[u8]) -> &'static str {
    let endings = image::guess_format(bytes).map_or(&[][..], ImageFormat::extensions_str);
    endings.first().copied().unwrap_or("jpg")
}

/// Why a decoder refuses a file.
fn undecodable(path: &Path, error: ImageError) -> Error {
    match &error {
        ImageError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            refused(path, "the file is truncated")
        }
        _ => refused(path, error),
    }
}

/// Reads the header of a file.
///
/// # Errors
/// [`Error::Data`] for what is no image, or one too large.
pub fn header(path: &Path) -> Result<Header> {
    let (file, metadata) = files::open(path).map_err(|e| unreadable(path, e))?;
    header_of(path, metadata.len(), &mut BufReader::new(file))
}

/// Reads the header of an image of `file_bytes` bytes, whose name for a person is `path`, out of
/// its first bytes.
///
/// # Errors
/// As [`header`].
pub fn header_of(path: &Path, file_bytes: u64, file: &mut dyn Bytes) -> Result<Header> {
    match file_bytes {
        0 => return Err(refused(path, "the file is empty")),
        n if n > FILE_BYTES => return Err(refused(path, "the file is too long")),
        _ => {}
    }
    let ((width, height), orientation) = look(path, file)?;
    let decoded_bytes = u64::from(width) * u64::from(height) * 3;
    if width == 0 || height == 0 {
        return Err(refused(path, "it has no pixels"));
    }
    if width.max(height) > LONGEST_SIDE || decoded_bytes > DECODED_BYTES {
        return Err(refused(path, format!("{width}×{height} pixels are too many")));
    }
    Ok(Header { file_bytes, decoded_bytes, turned: orientation != Orientation::NoTransforms })
}

/// Width and height, and how the picture is to be turned; what cannot be read of that is nothing.
fn look(path: &Path, from: &mut dyn Bytes) -> Result<((u32, u32), Orientation)> {
    let first = from.fill_buf().map_err(|e| unreadable(path, e))?;
    if png::is_png(first) {
        let head = png::essential(from, png::Part::Head).map_err(|e| unreadable(path, e))?;
        return said(path, &mut Cursor::new(head), true);
    }
    let is_webp = webp::is_webp(first);
    let (size, orientation) = said(path, from, !is_webp)?;
    if !is_webp {
        return Ok((size, orientation));
    }
    let orientation = webp::orientation(from).map_err(|e| unreadable(path, e))?;
    Ok((size, orientation.unwrap_or(Orientation::NoTransforms)))
}

/// What the decoder says of width and height and, where it is `asked`, of the orientation.
fn said(path: &Path, from: &mut dyn Bytes, asked: bool) -> Result<((u32, u32), Orientation)> {
    let mut decoder = reader(path, from)?.into_decoder().map_err(|e| undecodable(path, e))?;
    let orientation = if asked { decoder.orientation().ok() } else { None };
    Ok((decoder.dimensions(), orientation.unwrap_or(Orientation::NoTransforms)))
}

/// Decodes one file to RGB, (H, W, 3): the first picture of an animation; transparency is ignored.
///
/// # Errors
/// [`Error::Data`] for what is no image, is damaged, or is too large.
pub fn decode(path: &Path, exif: Exif) -> Result<Image> {
    // A single file cannot be skipped.
    let alone = |error: Error| match error {
        Error::Data { path, what } => Error::data(path, what.replace(" or pass --skip-bad", "")),
        other => other,
    };
    header(path).map_err(alone)?;
    decode_listed(path, exif).map_err(alone)
}

/// [`decode`] of a file whose header was checked before: a small picture's header costs as much as
/// the rest of it.
///
/// # Errors
/// As [`decode`].
pub fn decode_listed(path: &Path, exif: Exif) -> Result<Image> {
    let bytes = files::read(path, FILE_BYTES).map_err(|e| unreadable(path, e))?;
    decode_bytes(bytes, exif, &|| path.to_path_buf())
}

/// Decodes the bytes of a file, whose `name` is asked for where they are refused.
///
/// # Errors
/// As [`decode`].
pub fn decode_bytes(mut bytes: Vec<u8>, exif: Exif, name: &dyn Fn() -> PathBuf) -> Result<Image> {
    if jpeg::is_jpeg(&bytes) && !jpeg::is_whole(&bytes) {
        return Err(refused(&name(), "the JPEG file is truncated"));
    }
    if let Some(fault) = webp::fault(&bytes).filter(|_| webp::is_webp(&bytes)) {
        return Err(refused(&name(), fault));
    }
    if png::is_png(&bytes) {
        bytes =
            png::essential(&mut Cursor::new(bytes), png::Part::Whole).map_err(|e| unreadable(&name(), e))?;
    }
    let orientation = match exif {
        Exif::Ignored => Orientation::NoTransforms,
        Exif::Applied => look(&name(), &mut Cursor::new(&bytes))?.1,
    };
    let from: &mut dyn Bytes = &mut Cursor::new(bytes);
    let mut reader = ImageReader::new(from).with_guessed_format().map_err(|e| unreadable(&name(), e))?;
    reader.limits(limits());
    let mut decoded = reader.decode().map_err(|e| undecodable(&name(), e))?;
    decoded.apply_orientation(orientation);
    let decoded = decoded.into_rgb8();
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    Ok(Image { height, width, pixels: decoded.into_raw() })
}
