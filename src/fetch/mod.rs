//! Published data sets, fetched: an archive is downloaded, compared with its checksum, and
//! unpacked.
//!
//! An archive is known by its SHA-256, wherever it comes from: a mirror, a proxy, a person's own
//! copy in the folder. What is there of a download stays when it ends early, and the next one goes
//! on behind it. A data set's folder is there when it is complete, and not before.

#[cfg(feature = "fetch")]
mod http;
#[cfg(not(feature = "fetch"))]
#[path = "none.rs"]
mod http;

mod answer;
mod catalogue;
mod download;
mod unpack;

pub use catalogue::{SETS, Set};

use crate::error::{Error, Result, go_on};
use crate::files::{self, hex};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Bytes that are read and hashed at a time.
const PIECE: usize = 1 << 16;

/// How an archive is fetched.
#[derive(Clone, Debug)]
pub struct Options {
    /// The archive's address, in place of the published one.
    pub from: Option<String>,
    /// The pause before a connection that was cut is made anew; each that brings nothing doubles
    /// it.
    pub pause: Duration,
    /// A connection that gives no byte for so long is taken for one that was cut.
    pub silence: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { from: None, pause: Duration::from_secs(1), silence: Duration::from_secs(30) }
    }
}

/// How far fetching is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress<'a> {
    /// The archive comes from there, behind what was there already.
    From {
        /// The address.
        url: &'a str,
        /// Bytes that were there.
        there: u64,
    },
    /// So many bytes of the archive are there.
    Bytes(u64),
    /// The connection was cut for this reason, and is made anew after a pause.
    Again(&'a str),
    /// The archive is whole and is compared with its checksum.
    Checking,
    /// It is the right one and is unpacked.
    Unpacking,
}

/// Who is told of progress.
pub type Tell<'a> = &'a mut dyn FnMut(Progress);

/// Makes the folder of `set` in the folder `to`, and gives its path; whether it was not there
/// before.
///
/// # Errors
/// [`Error::Failure`] where the archive cannot be had, [`Error::Data`] for another one than was
/// published, [`Error::Disk`] where it cannot be written, [`Error::InUse`] while another process
/// fetches it, [`Error::Stopped`] once `stop` is set.
pub fn fetch(
    set: &Set,
    to: &Path,
    options: &Options,
    tell: Tell,
    stop: &AtomicBool,
) -> Result<(PathBuf, bool)> {
    let folder = to.join(&set.folder);
    if folder.is_dir() {
        return Ok((folder, false));
    }
    std::fs::create_dir_all(to).map_err(Error::disk(to, "make the folder"))?;
    let archive = to.join(&set.archive);
    let was_there = archive.exists();
    if was_there {
        tell(Progress::Checking);
        check(set, &archive, stop)?;
    } else {
        download::download(set, to, options, tell, stop)?;
    }
    tell(Progress::Unpacking);
    unpack::unpack(set, &archive, to, stop)?;
    // A person's own copy stays.
    if !was_there {
        std::fs::remove_file(&archive).map_err(Error::disk(&archive, "remove the archive"))?;
    }
    Ok((folder, true))
}

/// Refuses a file that is not the archive of `set`.
fn check(set: &Set, path: &Path, stop: &AtomicBool) -> Result<()> {
    let found = sha256(path, stop)?;
    if found == set.sha256 {
        return Ok(());
    }
    let bytes = path.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    let what = format!(
        "is not the archive of {}: it has {bytes} bytes with the SHA-256 {found}, and that one {} with {}",
        set.name, set.bytes, set.sha256
    );
    Err(Error::data(path, what))
}

/// The SHA-256 of the file at `path`.
fn sha256(path: &Path, stop: &AtomicBool) -> Result<String> {
    let unreadable = |e: std::io::Error| Error::data(path, format!("cannot be read: {e}"));
    let (mut file, _) = files::open(path).map_err(unreadable)?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        go_on(stop)?;
        match file.read(&mut piece).map_err(unreadable)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&piece[..read]),
        }
    }
}
