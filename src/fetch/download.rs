//! A download that goes on where it was cut.
//!
//! The network is read on a thread of its own, which may hang in the system: who downloads waits
//! for its pieces no longer than a wish to stop may wait.

use super::answer::Cut;
use super::{Options, PIECE, Progress, Set, Tell, check, http};
use crate::error::{Error, Result, go_on};
use std::fs::{File, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Connections in a row that bring nothing, after which it is given up.
const MOST_TRIES: u32 = 4;
/// How long a wish to stop may wait.
const LOOK: Duration = Duration::from_millis(100);
/// Pieces that wait to be written at most.
const WAITING: usize = 16;

/// Downloads the archive of `set` into the folder `to`, and compares it with its checksum. What was
/// there of it is taken; what is there of it when this ends early stays.
pub fn download(set: &Set, to: &Path, options: &Options, tell: Tell, stop: &AtomicBool) -> Result<()> {
    let path = to.join(format!("{}.part", set.archive));
    let failed = |action| Error::disk(&path, action);
    // Written behind what is there.
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.map_err(failed("write the archive"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Error::InUse { path, machine: String::new() });
        }
        // A file system without locks: two downloads spoil each other, and the checksum tells.
        Err(TryLockError::Error(_)) => {}
    }
    let mut there = file.seek(SeekFrom::End(0)).map_err(failed("read the archive"))?;
    if there > set.bytes {
        there = cut_to(&mut file, &path, 0)?;
    }
    tell(Progress::From { url: options.from.as_ref().unwrap_or(&set.url), there });
    if let Err(ended) = bring(set, (&mut file, &path), &mut there, options, (tell, stop)) {
        if there == 0 {
            // Nothing is kept, and nobody asks whether the empty file could be removed.
            let _ = std::fs::remove_file(&path);
        }
        return Err(match ended {
            Cut::Here(error) => error,
            Cut::Again(what) | Cut::Away(what) | Cut::Final(what) => given_up(set, to, there, &what),
            Cut::StartOver => given_up(set, to, there, "the server has no such archive"),
        });
    }
    file.sync_all().map_err(failed("write the archive"))?;
    drop(file);
    tell(Progress::Checking);
    keep(set, &path, to, stop)
}

/// Brings what lies behind `there`, by as many connections as it takes.
fn bring(
    set: &Set,
    (file, path): (&mut File, &Path),
    there: &mut u64,
    options: &Options,
    (tell, stop): (Tell, &AtomicBool),
) -> std::result::Result<(), Cut> {
    let (mut tries, mut is_anew, begun_at) = (0, false, *there);
    while *there < set.bytes {
        let before = *there;
        let ended = connect(set, options, *there, stop).and_then(|(from, pieces)| {
            let mut sent = Sent { pieces, known: there.saturating_sub(from), there, bytes: set.bytes };
            sent.receive((file, path), tell, (options, stop))
        });
        tries = if *there > before { 0 } else { tries + 1 };
        match ended {
            _ if *there >= set.bytes => break,
            Ok(()) if tries < MOST_TRIES => tell(Progress::Again("the connection was cut")),
            Ok(()) => return Err(Cut::Again("the connection was cut each time".into())),
            // Once: a server whose archive is shorter would send it for ever.
            Err(Cut::StartOver) if *there > 0 && !is_anew => {
                (is_anew, *there) = (true, cut_to(file, path, 0).map_err(Cut::Here)?);
            }
            Err(Cut::Away(what)) if *there == begun_at => return Err(Cut::Away(what)),
            Err(Cut::Again(what) | Cut::Away(what)) if tries < MOST_TRIES => tell(Progress::Again(&what)),
            Err(cut) => return Err(cut),
        }
        pause(options.pause * 2u32.pow(tries), stop).map_err(Cut::Here)?;
    }
    Ok(())
}

/// Gives the download at `path` the archive's name where it is the archive of `set`, and removes it
/// otherwise.
fn keep(set: &Set, path: &Path, to: &Path, stop: &AtomicBool) -> Result<()> {
    match check(set, path, stop) {
        Ok(()) => {
            std::fs::rename(path, to.join(&set.archive)).map_err(Error::disk(path, "rename the archive"))
        }
        // What is wrong would be wrong again, however often the rest was fetched.
        Err(Error::Data { path, what }) => {
            std::fs::remove_file(&path).map_err(Error::disk(&path, "remove the wrong archive"))?;
            Err(Error::data(path, format!("{what}; it was removed")))
        }
        Err(error) => Err(error),
    }
}

/// Why nothing comes, and what else can be done.
fn given_up(set: &Set, to: &Path, there: u64, what: &str) -> Error {
    let kept = if there > 0 { "what came is kept, and the same command goes on. " } else { "" };
    Error::Failure(format!(
        "{what}; {kept}HTTPS_PROXY names a proxy, --from another address; or put {} into {} by other means and run this \
         again",
        set.archive,
        to.display()
    ))
}

/// Waits as long as it is said, or until somebody wants to stop.
fn pause(length: Duration, stop: &AtomicBool) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < length {
        go_on(stop)?;
        std::thread::sleep(LOOK.min(length));
    }
    go_on(stop)
}

/// Shortens the file at `path` to `length` bytes, behind which the next ones will be written.
fn cut_to(file: &mut File, path: &Path, length: u64) -> Result<u64> {
    let done = file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length)));
    done.map_err(Error::disk(path, "write the archive"))
}

/// What the network's thread sends.
type Piece = std::result::Result<Vec<u8>, String>;

/// Asks the server for what lies behind `there`: where its answer begins, and the pieces of it.
fn connect(
    set: &Set,
    options: &Options,
    there: u64,
    stop: &AtomicBool,
) -> std::result::Result<(u64, Receiver<Piece>), Cut> {
    let (answer, answered) = sync_channel(1);
    let (sender, pieces) = sync_channel::<Piece>(WAITING);
    let (set, options) = (set.clone(), options.clone());
    // Nobody waits for it: it ends when it finds that nobody listens.
    std::thread::spawn(move || {
        let mut body = match http::get(&set, &options, there) {
            Ok(body) => body,
            Err(cut) => return drop(answer.send(Err(cut))),
        };
        if answer.send(Ok(body.from)).is_err() {
            return;
        }
        loop {
            let mut piece = vec![0; PIECE];
            let read = body.reader.read(&mut piece).map_err(|error| error.to_string());
            let end = !matches!(read, Ok(1..));
            if !matches!(read, Ok(0)) && sender.send(read.map(|read| piece[..read].to_vec())).is_err() || end
            {
                return;
            }
        }
    });
    loop {
        go_on(stop).map_err(Cut::Here)?;
        match answered.recv_timeout(LOOK) {
            Ok(answer) => return answer.map(|from| (from, pieces)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Cut::Again("no connection was made".into())),
        }
    }
}

/// What a server sends.
struct Sent<'a> {
    pieces: Receiver<Piece>,
    /// Bytes that come first and are there already, where the server sends more than was asked for.
    known: u64,
    there: &'a mut u64,
    bytes: u64,
}

impl Sent<'_> {
    /// Writes what is not there yet until the archive is whole or nothing comes any more.
    fn receive(
        &mut self,
        (file, path): (&mut File, &Path),
        tell: Tell,
        (options, stop): (&Options, &AtomicBool),
    ) -> std::result::Result<(), Cut> {
        let mut heard = Instant::now();
        while *self.there < self.bytes {
            go_on(stop).map_err(Cut::Here)?;
            match self.pieces.recv_timeout(LOOK) {
                Ok(Ok(piece)) => {
                    heard = Instant::now();
                    let new = self.new_of(&piece);
                    let written = file.write_all(new);
                    written.map_err(|error| Cut::Here(Error::disk(path, "write the archive")(error)))?;
                    *self.there += new.len() as u64;
                    tell(Progress::Bytes(*self.there));
                }
                Ok(Err(what)) => return Err(Cut::Again(format!("the connection was cut: {what}"))),
                Err(RecvTimeoutError::Timeout) if heard.elapsed() > options.silence => {
                    return Err(Cut::Again("the server sends nothing any more".into()));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        Ok(())
    }

    /// The bytes of a piece that are not there, and no more than the archive has.
    fn new_of<'p>(&mut self, piece: &'p [u8]) -> &'p [u8] {
        let within = |count: u64| usize::try_from(count).unwrap_or(usize::MAX).min(piece.len());
        let known = within(self.known);
        self.known -= known as u64;
        let end = known.saturating_add(within(self.bytes - *self.there)).min(piece.len());
        &piece[known..end]
    }
}
