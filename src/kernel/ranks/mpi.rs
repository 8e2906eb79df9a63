//! Ranks as processes, by the standard ABI of MPI-5.
//!
//! The library is opened when it is asked for: no MPI is needed to build this program, and any
//! library with the standard ABI (`libmpi_abi.so.1`; MPICH from version 5 on) serves it. Names,
//! types, and the values of handles are the standard's.

use super::Ranks;
use crate::error::{Error, Result};
use crate::threads::lock;
use libloading::{Library, Symbol};
use std::ffi::{c_int, c_void};
use std::fmt;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::{Mutex, OnceLock};

/// A handle; its values are fixed by the ABI.
type Handle = *const c_void;
const WORLD: Handle = 0x101 as Handle;
const BYTE: Handle = 0x247 as Handle;
/// Calls may come from one thread after another.
const THREAD_SERIALIZED: c_int = 2048;

type Init = unsafe extern "C" fn(*mut c_int, *mut c_void, c_int, *mut c_int) -> c_int;
type Asked = unsafe extern "C" fn(Handle, *mut c_int) -> c_int;
type Collective = unsafe extern "C" fn(*const c_void, i64, Handle, *mut c_void, i64, Handle, Handle) -> c_int;
type Broadcast = unsafe extern "C" fn(*mut c_void, i64, Handle, c_int, Handle) -> c_int;
type Abort = unsafe extern "C" fn(Handle, c_int) -> c_int;
type Finalize = unsafe extern "C" fn() -> c_int;

/// The functions that are called.
struct Table {
    gather: Collective,
    exchange: Collective,
    broadcast: Broadcast,
}

/// What ends all ranks at once, and what leaves the job, from the moment on at which there is one.
static ENDS: OnceLock<(Abort, Finalize)> = OnceLock::new();

/// One process of a job.
pub struct Mpi {
    rank: usize,
    size: usize,
    /// One call at a time.
    table: Mutex<Table>,
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "rank {} of {} by MPI", self.rank, self.size)
    }
}

impl Mpi {
    /// Opens the first of `libraries` that is there, and joins the job. Once in a process.
    ///
    /// # Errors
    /// [`Error::Usage`] where the library cannot be opened, or is none of the standard ABI;
    /// [`Error::Failure`] where it fails.
    pub fn open(libraries: &[PathBuf]) -> Result<Mpi> {
        let absent = |e: libloading::Error| {
            Error::Usage(format!(
                "--ranks: no MPI of the standard ABI: {e}; pip install mpich==5.0.2 and start with its mpiexec, or name the \
                 library in SIM_MPI"
            ))
        };
        // SAFETY: opening a library runs its initialisers; that it is an MPI is what its name, or
        // the person who named it, says.
        let mut opened = libraries.iter().map(|name| unsafe { open_globally(name) });
        let first = opened.next().unwrap_or(Err(libloading::Error::DlOpenUnknown));
        let library =
            first.or_else(|error| opened.find_map(|library| library.ok()).ok_or(error)).map_err(absent)?;
        // The library stays for as long as the process: MPI can be joined once only.
        let library: &'static Library = Box::leak(Box::new(library));
        // SAFETY: these are the types that MPI-5's ABI gives these functions.
        unsafe {
            let init: Symbol<Init> = library.get(b"MPI_Init_thread\0").map_err(absent)?;
            let rank_of: Symbol<Asked> = library.get(b"MPI_Comm_rank\0").map_err(absent)?;
            let size_of: Symbol<Asked> = library.get(b"MPI_Comm_size\0").map_err(absent)?;
            let table = Table {
                gather: *library.get(b"MPI_Allgather_c\0").map_err(absent)?,
                exchange: *library.get(b"MPI_Alltoall_c\0").map_err(absent)?,
                broadcast: *library.get(b"MPI_Bcast_c\0").map_err(absent)?,
            };
            let finalize: Symbol<Finalize> = library.get(b"MPI_Finalize\0").map_err(absent)?;
            let abort: Symbol<Abort> = library.get(b"MPI_Abort\0").map_err(absent)?;
            let (mut level, mut rank, mut size) = (0, 0, 1);
            check("MPI_Init_thread", init(null_mut(), null_mut(), THREAD_SERIALIZED, &mut level))?;
            check("MPI_Comm_rank", rank_of(WORLD, &mut rank))?;
            check("MPI_Comm_size", size_of(WORLD, &mut size))?;
            let _ = ENDS.set((*abort, *finalize));
            if level < THREAD_SERIALIZED {
                return Err(Error::Failure("this MPI takes calls from its first thread only".into()));
            }
            Ok(Mpi { rank: rank as usize, size: size as usize, table: Mutex::new(table) })
        }
    }
}

/// Opens a library whose symbols the libraries that it loads itself can see, as MPI's need.
///
/// # Safety
/// As [`Library::new`].
unsafe fn open_globally(name: &Path) -> std::result::Result<Library, libloading::Error> {
    #[cfg(unix)]
    // SAFETY: the caller's.
    return unsafe {
        use libloading::os::unix::{Library as Unix, RTLD_GLOBAL, RTLD_NOW};
        Unix::open(Some(name), RTLD_NOW | RTLD_GLOBAL).map(Library::from)
    };
    #[cfg(not(unix))]
    // SAFETY: the caller's.
    return unsafe { Library::new(name) };
}

/// Ends all ranks of this process's job with the exit code `code`; returns where there are none.
/// For a rank that cannot go on: the others would wait for it.
pub fn abort(code: i32) {
    if let Some((abort, _)) = ENDS.get() {
        // SAFETY: the library was joined before the function was kept.
        unsafe { abort(WORLD, code) };
    }
}

/// Leaves the job, where this process joined one; nothing may be told to other ranks afterwards.
pub fn leave() {
    if let Some((_, finalize)) = ENDS.get() {
        // SAFETY: as in `abort`; the caller is at the end of the program.
        unsafe { finalize() };
    }
}

fn check(call: &str, code: c_int) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(Error::Failure(format!("{call} failed with code {code}"))) }
}

impl Mpi {
    fn collect(&self, call: &str, of: fn(&Table) -> Collective, own: &[u8], piece: usize) -> Result<Vec<u8>> {
        let mut all = vec![0u8; piece * self.size];
        let table = lock(&self.table);
        // SAFETY: `own` has the bytes that the call reads (one piece, or one for each rank), `all`
        // those that it writes; both live until it returns. The lock lets no second call in.
        let code = unsafe {
            of(&table)(
                own.as_ptr().cast(),
                piece as i64,
                BYTE,
                all.as_mut_ptr().cast(),
                piece as i64,
                BYTE,
                WORLD,
            )
        };
        check(call, code).map(|()| all)
    }
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<u8>> {
        self.collect("MPI_Allgather", |table| table.gather, own, own.len())
    }

    fn exchange(&self, own: &[u8]) -> Result<Vec<u8>> {
        self.collect("MPI_Alltoall", |table| table.exchange, own, own.len() / self.size)
    }

    fn broadcast(&self, own: &[u8]) -> Result<Vec<u8>> {
        let send = |bytes: &mut [u8]| {
            let table = lock(&self.table);
            // SAFETY: as in `collect`; rank 0 is read, the others are written.
            let code =
                unsafe { (table.broadcast)(bytes.as_mut_ptr().cast(), bytes.len() as i64, BYTE, 0, WORLD) };
            check("MPI_Bcast", code)
        };
        let mut len = (own.len() as u64).to_le_bytes();
        send(&mut len)?;
        let mut bytes = if self.rank == 0 { own.to_vec() } else { Vec::new() };
        bytes.resize(u64::from_le_bytes(len) as usize, 0);
        send(&mut bytes)?;
        Ok(bytes)
    }
}
