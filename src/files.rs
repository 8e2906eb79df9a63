//! Files from outside: read whole only where they are regular files of a bounded length.
//!
//! A pipe waits for a writer who may never come, and a device gives bytes for ever: neither may
//! stand where a file is expected. Lengths are counted while reading, because a file may grow and
//! those of /proc say 0.

use std::fs::{File, FileType, Metadata};
use std::io::{Error, ErrorKind, Read, Result};
use std::ops::Range;
use std::path::Path;
use toml_parser::lexer::TokenKind;

/// Longest study, recipe, manifest or outcome, in bytes: more than a person or a run writes.
pub const SHORT: u64 = 1 << 20;
/// Longest table of numbers, in bytes: metrics of a run, points of a figure, a study's answer.
pub const TABLE: u64 = 64 << 20;
/// Longest file of weights, in bytes: a billion of them.
pub const WEIGHTS: u64 = 4 << 30;

/// Open brackets of a TOML text at most; those of studies and recipes stay below ten.
const MOST_OPEN: usize = 64;
/// Points of a dotted key of a TOML text at most; those of studies and recipes stay below ten.
const MOST_PARTS: usize = 16;

/// The mark of Unicode's byte order, which spreadsheets and some editors put before a text.
pub const MARK: char = '\u{feff}';

/// Opens the regular file at `path`, or the one that a link there leads to, for reading.
///
/// # Errors
/// The system's, or [`ErrorKind::InvalidData`] for anything that is no regular file; see
/// [`is_refusal`].
pub fn open(path: &Path) -> Result<(File, Metadata)> {
    // Asked before opening, which is where a pipe waits, and again of what was opened.
    regular(&std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    regular(&metadata)?;
    Ok((file, metadata))
}

/// All bytes of the regular file at `path`, at most `most`.
///
/// # Errors
/// As [`open`], and [`ErrorKind::InvalidData`] for a longer file.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let (file, metadata) = open(path)?;
    let too_long = || {
        let bound = if most < 1 << 20 { format!("{most} bytes") } else { format!("{} MiB", most >> 20) };
        Error::new(ErrorKind::InvalidData, format!("it is longer than {bound}"))
    };
    if metadata.len() > most {
        return Err(too_long());
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_long()) } else { Ok(bytes) }
}

/// The text of the regular file at `path`, at most `most` bytes, without the mark that some editors
/// put before it.
///
/// # Errors
/// As [`read`], and [`ErrorKind::InvalidData`] naming the line that is not UTF-8.
pub fn text(path: &Path, most: u64) -> Result<String> {
    let mut text = String::from_utf8(read(path, most)?).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        Error::new(ErrorKind::InvalidData, format!("line {line} is not UTF-8 text"))
    })?;
    if text.starts_with(MARK) {
        text.drain(..MARK.len_utf8());
    }
    Ok(text)
}

/// `len` bytes of the open `file` at `path`, from `offset` on; many threads may ask at once.
///
/// # Errors
/// The system's, and [`ErrorKind::UnexpectedEof`] where the file is shorter.
#[cfg(unix)]
pub fn read_at(file: &File, _: &Path, offset: u64, len: usize) -> Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// `len` bytes of the file at `path`, from `offset` on; many threads may ask at once.
///
/// # Errors
/// The system's, and [`ErrorKind::UnexpectedEof`] where the file is shorter.
#[cfg(not(unix))]
pub fn read_at(_: &File, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>> {
    use std::io::{Seek, SeekFrom};
    // A file of its own for each reading: the place in a shared one belongs to nobody.
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Lower-case hexadecimal digits, as digests of files are written.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the error says that what was found is not what is read here, and not that the system
/// failed.
pub fn is_refusal(error: &Error) -> bool {
    error.kind() == ErrorKind::InvalidData
}

/// Where the TOML text nests tables and arrays, or a dotted key its parts, deeper than anything
/// that is read here.
///
/// Asked before parsing: whoever walks through what is nested needs stack for every level, and the
/// parser's own limit counts brackets of broken texts wrongly. `toml_parser` is the parser's own
/// lexer.
pub fn nested_too_deep(text: &str) -> Option<Range<usize>> {
    let (mut open, mut parts) = (Vec::new(), 0);
    for token in toml_parser::Source::new(text).lex() {
        let kind = token.kind();
        match kind {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => open.push(kind),
            // One that closes nothing leaves open what is.
            TokenKind::RightSquareBracket => drop(open.pop_if(|last| *last == TokenKind::LeftSquareBracket)),
            TokenKind::RightCurlyBracket => drop(open.pop_if(|last| *last == TokenKind::LeftCurlyBracket)),
            _ => {}
        }
        parts = match kind {
            TokenKind::Dot => parts + 1,
            TokenKind::Atom | TokenKind::BasicString | TokenKind::LiteralString | TokenKind::Whitespace => {
                parts
            }
            _ => 0,
        };
        if open.len() > MOST_OPEN || parts > MOST_PARTS {
            return Some(token.span().start()..token.span().end());
        }
    }
    None
}

/// Refuses, where a file is about to be opened for writing, what has its name and is no regular
/// file: a pipe would wait there for its reader. Nothing there is fine.
///
/// # Errors
/// [`crate::Error::Data`] naming `path`.
pub fn check_regular(path: &Path) -> crate::Result<()> {
    // What the system refuses to tell, it tells of the opening that follows.
    std::fs::metadata(path)
        .map_or(Ok(()), |metadata| regular(&metadata))
        .map_err(|error| crate::Error::data(path, format!("{error}; remove it and run again")))
}

fn regular(metadata: &Metadata) -> Result<()> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidData, format!("it is {}, not a file", name(kind))))
}

/// What is no regular file, in words.
fn name(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() { "a folder" } else { "something else" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_a_bounded_length_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "four").unwrap();
        assert_eq!(read(&file, 4).unwrap(), b"four");
        for (path, most, why) in [
            (file.as_path(), 3, "longer than 3 bytes"),
            (folder.path(), 4, "a folder"),
            (Path::new("/dev/zero"), 4, "a device"),
        ] {
            let refused = read(path, most).unwrap_err();
            assert!(is_refusal(&refused) && refused.to_string().contains(why), "{refused}");
        }
        assert_eq!(read(&folder.path().join("nothing"), 4).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_text_is_read_without_its_mark_and_what_is_none_is_named_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "\u{feff}a\nb").unwrap();
        assert_eq!(text(&file, SHORT).unwrap(), "a\nb");
        std::fs::write(&file, b"a\n\xe9b\n").unwrap();
        assert_eq!(text(&file, SHORT).unwrap_err().to_string(), "line 2 is not UTF-8 text");
    }

    #[test]
    fn what_is_nested_a_thousand_times_is_found_and_points_elsewhere_are_not() {
        let deep = "a.".repeat(100_000);
        let tables = "{a=".repeat(100_000);
        for text in [
            format!("{deep}a = 1"),
            format!("[{deep}a]"),
            format!("x = {{ {deep}a = 1 }}"),
            format!("x = {tables}"),
            // The parser's own count of open brackets goes below 0 here.
            format!("x = {}{tables}", "}".repeat(100_000)),
            format!("x = {}", "[".repeat(100_000)),
        ] {
            assert!(nested_too_deep(&text).is_some(), "{}", &text[..20]);
        }
        let points = ".".repeat(100);
        for text in [
            format!("# {points}{tables}\na.b = 1.5"),
            format!("a = \"\\\"{points}{tables}\""),
            format!("a = '{points}'\nb = [{}]", "0.5, ".repeat(100)),
            format!("a = \"\"\"\n{points}\n\"\"\"\n{}", "[a]\n".repeat(100)),
        ] {
            assert!(nested_too_deep(&text).is_none(), "{text}");
        }
    }

    /// Opening the pipe would wait for ever.
    #[cfg(unix)]
    #[test]
    fn a_pipe_is_refused_without_waiting_for_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for path in [pipe, link] {
            assert!(read(&path, 4).unwrap_err().to_string().contains("a pipe"));
        }
    }
}
