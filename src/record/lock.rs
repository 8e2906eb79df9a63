//! Who may write into a folder.
//!
//! On one machine the system's lock decides: it ends with the process, however that ends. Machines
//! that share a file system need not share its locks (NFS mounted with `nolock`, some parallel file
//! systems), so that an owner's file stands beside the lock: made by one only, because it is
//! created where there is none; written again every [`BEAT`]; believed until it has been silent for
//! [`SILENCE`]. An owner on this machine is believed no longer than the lock.

use super::durable::{remove, sweep, temporary_beside};
use crate::error::{Error, Result};
use crate::files;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// The file that is locked.
pub const LOCK: &str = ".lock";
/// The file that names the owner.
pub const OWNER: &str = ".owner";
/// How often a lock that is held is looked at again, and after which time. A program that another
/// thread of this process starts holds all open files, a lock that was just given back among them,
/// until it begins.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// Time after which an owner says again that it is there.
const BEAT: Duration = Duration::from_secs(20);
/// Time after which an owner on another machine that says nothing is taken for gone. Longer than a
/// beat and the time for which network file systems remember what they have read.
const SILENCE: Duration = Duration::from_secs(180);

/// What is said of a machine whose name is not known.
const SOME_MACHINE: &str = "another machine";

/// A folder's lock, held for as long as the value lives.
#[derive(Debug)]
pub struct Lock {
    /// Dropped before the lock is given back.
    _owner: Option<Owner>,
    /// The lock ends with the file handle, also when the process is killed.
    _file: File,
    /// Whether the file system knows locks.
    pub is_known: bool,
}

impl Lock {
    /// Locks the folder `path`, which exists.
    ///
    /// # Errors
    /// [`Error::InUse`] while another process holds it, on this machine or another; [`Error::Data`]
    /// where its lock is no regular file; [`Error::Disk`] where the system refuses.
    pub fn take(path: &Path) -> Result<Lock> {
        let name = path.join(LOCK);
        let action = "lock the folder";
        files::check_regular(&name)?;
        let open = OpenOptions::new().write(true).create(true).truncate(false).open(&name);
        let file = open.map_err(Error::disk(&name, action))?;
        let mut taken = file.try_lock();
        for _ in 0..LOOKS {
            if !matches!(taken, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(BETWEEN_LOOKS);
            taken = file.try_lock();
        }
        let is_known = match taken {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return Err(in_use(path, "")),
            Err(TryLockError::Error(error)) if knows_no_locks(&error) => false,
            Err(TryLockError::Error(error)) => return Err(Error::disk(&name, action)(error)),
        };
        Ok(Lock { _owner: Owner::take(path, &this_machine(), SILENCE)?, _file: file, is_known })
    }
}

fn in_use(path: &Path, machine: &str) -> Error {
    Error::InUse { path: path.to_path_buf(), machine: machine.to_string() }
}

/// A run on a file system that knows no locks must be possible all the same.
fn knows_no_locks(error: &std::io::Error) -> bool {
    /// "No locks available": what Linux says of NFS whose lock service is not running.
    const ENOLCK: i32 = 37;
    error.kind() == ErrorKind::Unsupported
        || (cfg!(target_os = "linux") && error.raw_os_error() == Some(ENOLCK))
}

/// What tells this machine from others while it runs: the system's number of this start, and the
/// name that a person knows it by.
fn this_machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default().trim().to_string();
    let (start, name) = (read("/proc/sys/kernel/random/boot_id"), read("/proc/sys/kernel/hostname"));
    format!("{} {}", if start.is_empty() { "unknown" } else { &start }, name)
}

/// The owner's file of a folder, written again and again until the value is dropped, then removed.
#[derive(Debug)]
struct Owner {
    path: PathBuf,
    content: String,
    /// Closed to end the beats.
    end: Option<Sender<()>>,
    beats: Option<JoinHandle<()>>,
}

impl Owner {
    /// Makes `machine` the owner of `folder`, whose lock this process holds as far as there are
    /// locks. None where the file cannot be written, as on a full disk: then the lock alone
    /// decides.
    fn take(folder: &Path, machine: &str, silence: Duration) -> Result<Option<Owner>> {
        let path = folder.join(OWNER);
        // What owners left that were killed while they wrote it.
        sweep(&path);
        let content = format!("{machine}\n{}\n", std::process::id());
        if let Ok(other) = std::fs::read_to_string(&path)
            && !is_of(&other, machine)
        {
            let name = other.lines().next().and_then(|line| line.split_once(' ')).map_or("", |line| line.1);
            let is_there = age(&path).is_some_and(|age| age < silence);
            if is_there || !displace(&path, &other) {
                return Err(in_use(folder, if name.is_empty() { SOME_MACHINE } else { name }));
            }
        }
        match create(&path, &content) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let is_own = std::fs::read_to_string(&path).is_ok_and(|other| is_of(&other, machine));
                if !is_own {
                    return Err(in_use(folder, SOME_MACHINE));
                }
                if put(&path, &content).is_err() {
                    return Ok(None);
                }
            }
            Err(_) => return Ok(None),
        }
        let (end, ended) = channel();
        let (file, own) = (path.clone(), content.clone());
        let beat = move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(BEAT) {
                // Whoever has taken the folder meanwhile is not driven out of it.
                if std::fs::read_to_string(&file).is_ok_and(|content| content == own) {
                    let _ = put(&file, &own);
                }
            }
        };
        let beats = std::thread::Builder::new().name("owner".into()).spawn(beat).ok();
        Ok(Some(Owner { path, content, end: Some(end), beats }))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(beats) = self.beats.take() {
            let _ = beats.join();
        }
        if std::fs::read_to_string(&self.path).is_ok_and(|content| content == self.content) {
            let _ = remove(&self.path);
        }
    }
}

/// Whether a process on `machine` wrote this.
fn is_of(content: &str, machine: &str) -> bool {
    content.lines().next() == Some(machine)
}

/// Makes the file with this content where there is none, at one stroke: a process that is killed
/// leaves all of it or nothing, and of two only one succeeds.
fn create(path: &Path, content: &str) -> std::io::Result<()> {
    let beside = temporary_beside(path);
    let linked = std::fs::write(&beside, content).and_then(|()| std::fs::hard_link(&beside, path));
    let _ = std::fs::remove_file(&beside);
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            // A file system without links, or one that is full.
            let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
            let written = file.write_all(content.as_bytes());
            if written.is_err() {
                let _ = std::fs::remove_file(path);
            }
            written
        }
        linked => linked,
    }
}

/// Writes the file at one stroke, whether there is one or not.
fn put(path: &Path, content: &str) -> std::io::Result<()> {
    let beside = temporary_beside(path);
    let written = std::fs::write(&beside, content).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// How long ago the file was written, by the clock of the file system: that of another machine may
/// go wrong. None where it cannot be told.
fn age(path: &Path) -> Option<Duration> {
    let beside = temporary_beside(path);
    let now = File::create(&beside).and_then(|mut file| {
        file.write_all(b".")?;
        file.metadata()?.modified()
    });
    let _ = std::fs::remove_file(&beside);
    let written: SystemTime = std::fs::metadata(path).and_then(|file| file.modified()).ok()?;
    Some(now.ok()?.duration_since(written).unwrap_or_default())
}

/// Takes the owner's file that says `silent` out of the way; false where another process was first.
fn displace(path: &Path, silent: &str) -> bool {
    let beside = temporary_beside(path);
    if std::fs::rename(path, &beside).is_err() {
        return false;
    }
    if std::fs::read_to_string(&beside).is_ok_and(|content| content == silent) {
        let _ = std::fs::remove_file(&beside);
        return true;
    }
    // It was that of one who came in between, and goes back to its place.
    let _ = std::fs::rename(&beside, path);
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn owner(folder: &Path) -> Option<String> {
        std::fs::read_to_string(folder.join(OWNER)).ok()
    }

    #[test]
    fn an_owner_on_another_machine_is_believed_until_it_is_silent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let first = Owner::take(path, "boot-1 node1", LONG).unwrap().unwrap();
        assert!(owner(path).unwrap().starts_with("boot-1 node1\n"));
        let refused = Owner::take(path, "boot-2 node2", LONG).unwrap_err();
        assert!(matches!(&refused, Error::InUse { machine, .. } if machine == "node1"), "{refused:?}");
        assert!(refused.to_string().contains("node1"), "{refused}");
        // Nothing of the refusal stays behind, and the owner is the same.
        assert!(owner(path).unwrap().starts_with("boot-1 node1\n"));
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 1);
        // A silent one is followed, and does not take away what is its follower's.
        let second = Owner::take(path, "boot-2 node2", Duration::ZERO).unwrap().unwrap();
        drop(first);
        assert!(owner(path).unwrap().starts_with("boot-2 node2\n"));
        drop(second);
        assert_eq!(owner(path), None);
    }

    #[test]
    fn an_owner_that_was_killed_on_this_machine_is_followed_at_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(OWNER), format!("{}\n1\n", this_machine())).unwrap();
        let lock = Lock::take(folder.path()).unwrap();
        assert!(owner(folder.path()).unwrap().ends_with(&format!("\n{}\n", std::process::id())));
        drop(lock);
        assert_eq!(owner(folder.path()), None);
    }

    #[test]
    fn one_who_came_in_between_keeps_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OWNER);
        std::fs::write(&path, "boot-3 node3\n1\n").unwrap();
        assert!(!displace(&path, "boot-1 node1\n1\n"));
        assert_eq!(owner(folder.path()).unwrap(), "boot-3 node3\n1\n");
        assert!(displace(&path, "boot-3 node3\n1\n"));
        assert_eq!(owner(folder.path()), None);
    }
}
