//! Numbers from one GPU to another by NVIDIA's NCCL, on the run's stream.
//!
//! The library is opened at run time, as the driver is: a build needs none, and ranks without it
//! hand numbers on through the processor's memory. NCCL moves numbers here and adds none: in which
//! order its reductions add, it does not say.

use super::failed;
use crate::error::Result;
use crate::kernel::device::{Carrier, Span};
use crate::kernel::ranks::{Ranks, gather_words};
use cudarc::driver::CudaStream;
use libloading::Library;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

/// ncclFloat32.
const F32: c_int = 7;

type Communicator = *mut c_void;

/// What the first rank draws and all join by.
#[repr(C)]
#[derive(Clone, Copy)]
struct UniqueId([u8; 128]);

type GetUniqueId = unsafe extern "C" fn(*mut UniqueId) -> c_int;
type InitRank = unsafe extern "C" fn(*mut Communicator, c_int, UniqueId, c_int) -> c_int;
type AllGather =
    unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, Communicator, *mut c_void) -> c_int;
type Send = unsafe extern "C" fn(*const c_void, usize, c_int, c_int, Communicator, *mut c_void) -> c_int;
type Receive = unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, Communicator, *mut c_void) -> c_int;
type Group = unsafe extern "C" fn() -> c_int;
type Destroy = unsafe extern "C" fn(Communicator) -> c_int;
type ErrorString = unsafe extern "C" fn(c_int) -> *const c_char;

/// The functions that are called.
struct Table {
    unique_id: GetUniqueId,
    init: InitRank,
    all_gather: AllGather,
    send: Send,
    receive: Receive,
    group_start: Group,
    group_end: Group,
    destroy: Destroy,
    error: ErrorString,
    /// Outlives the functions.
    _library: Library,
}

impl Table {
    fn open(library: &OsStr) -> Option<Table> {
        macro_rules! function {
            ($library:ident, $name:literal) => {
                *$library.get($name).ok()?
            };
        }
        // SAFETY: opening the library runs its initialisers, which are NVIDIA's; the functions have
        // the types that nccl.h gives them, the same in all versions from 2.7 on.
        unsafe {
            let library = Library::new(library).ok()?;
            Some(Table {
                unique_id: function!(library, b"ncclGetUniqueId"),
                init: function!(library, b"ncclCommInitRank"),
                all_gather: function!(library, b"ncclAllGather"),
                send: function!(library, b"ncclSend"),
                receive: function!(library, b"ncclRecv"),
                group_start: function!(library, b"ncclGroupStart"),
                group_end: function!(library, b"ncclGroupEnd"),
                destroy: function!(library, b"ncclCommDestroy"),
                error: function!(library, b"ncclGetErrorString"),
                _library: library,
            })
        }
    }

    /// `code` of a call that does `what`.
    fn done(&self, what: &str, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: NCCL has a text that ends with a zero byte for every code.
        let text = unsafe { CStr::from_ptr((self.error)(code)) };
        Err(failed(what, text.to_string_lossy()))
    }
}

/// One rank's end of NCCL.
pub struct Nccl {
    table: Table,
    communicator: Communicator,
    stream: Arc<CudaStream>,
    size: usize,
}

// SAFETY: a communicator may be used by one thread after another; calls of several threads at once
// do not occur, because a run's ranks do the same calls in the same order (`Ranks`).
unsafe impl std::marker::Send for Nccl {}
// SAFETY: as above.
unsafe impl Sync for Nccl {}

impl Nccl {
    /// Joins `ranks`, each with a GPU of its own, told by `gpu`, and a stream on it. None on every
    /// rank where one of them lacks the `library`, or two have the same GPU.
    pub fn join(
        library: Option<&OsStr>,
        ranks: &dyn Ranks,
        gpu: &str,
        stream: &Arc<CudaStream>,
    ) -> Result<Option<Nccl>> {
        let table = library.and_then(Table::open);
        let mut gpus = gather_words(ranks, gpu)?;
        gpus.sort_unstable();
        if ranks.any(table.is_none())? || gpus.windows(2).any(|pair| pair[0] == pair[1]) {
            return Ok(None);
        }
        let Some(table) = table else { return Ok(None) };
        let mut id = UniqueId([0; 128]);
        if ranks.is_first() {
            // SAFETY: the result has the type that is written.
            table.done("beginning NCCL", unsafe { (table.unique_id)(&mut id) })?;
        }
        let drawn = ranks.broadcast(&id.0)?;
        id.0.copy_from_slice(&drawn);
        let mut communicator = null_mut();
        let (size, rank) = (ranks.size() as c_int, ranks.rank() as c_int);
        stream.context().bind_to_thread().map_err(|e| failed("choosing the device", e))?;
        // SAFETY: the result has the type that is written; the context is the thread's.
        let joined = unsafe { (table.init)(&mut communicator, size, id, rank) };
        table.done("joining by NCCL", joined)?;
        Ok(Some(Nccl { table, communicator, stream: stream.clone(), size: ranks.size() }))
    }

    fn bind(&self) -> Result<*mut c_void> {
        self.stream.context().bind_to_thread().map_err(|e| failed("choosing the device", e))?;
        Ok(self.stream.cu_stream().cast())
    }
}

impl Carrier for Nccl {
    fn exchange(&self, own: Span, to: Span) -> Result<()> {
        assert!(own.len() == to.len() && own.len().is_multiple_of(self.size));
        let (piece, stream, what) = (own.len() / self.size, self.bind()?, "exchanging by NCCL");
        // SAFETY: sends and receives of a group belong together; every piece lies within its span,
        // which holds addresses of this GPU, and all ranks have pieces of the same length.
        unsafe {
            self.table.done(what, (self.table.group_start)())?;
            for rank in 0..self.size {
                let at = |span: Span| (span.address() + 4 * (rank * piece) as u64) as *mut c_void;
                let peer = rank as c_int;
                let sent = (self.table.send)(at(own), piece, F32, peer, self.communicator, stream);
                self.table.done(what, sent)?;
                let received = (self.table.receive)(at(to), piece, F32, peer, self.communicator, stream);
                self.table.done(what, received)?;
            }
            self.table.done(what, (self.table.group_end)())
        }
    }

    fn gather(&self, own: Span, to: Span) -> Result<()> {
        assert!(own.len() * self.size == to.len());
        let stream = self.bind()?;
        let (from, to) = (own.address() as *const c_void, to.address() as *mut c_void);
        // SAFETY: the lengths were just checked; the spans hold addresses of this GPU.
        let gathered =
            unsafe { (self.table.all_gather)(from, to, own.len(), F32, self.communicator, stream) };
        self.table.done("gathering by NCCL", gathered)
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        // SAFETY: the communicator was made by `join` and is used no more. What it fails with at
        // the end of a run is of no use to anybody.
        unsafe { (self.table.destroy)(self.communicator) };
    }
}
