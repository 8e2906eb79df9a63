//! What the kernels need of an instruction set: a vector of f32 and a dozen operations on it.
//!
//! Every algorithm is written once over [`Simd`]; an instruction set is one impl of it. A [`Job`]
//! is a piece of such an algorithm; [`Simd::enter`] runs it inside a function compiled for the set,
//! into which everything below is inlined.

/// A piece of work generic over the instruction set. `run` must be `#[inline(always)]`, as must all
/// it calls, so that it is compiled with the features of [`Simd::enter`].
pub(super) trait Job {
    /// Does the work.
    ///
    /// # Safety
    /// The CPU has the instructions of `S`, and what the job's own documentation demands holds.
    unsafe fn run<S: Simd>(self);
}

/// A vector of [`Simd::LANES`] f32 on some instruction set.
///
/// # Safety
/// Every method is unsafe for the same reasons: the CPU must have the instructions, and pointers
/// must be valid for the lanes read or written (`first` many for the `_first` forms). No alignment
/// is needed.
pub(super) trait Simd: Copy + Send + Sync + 'static {
    /// The name users see.
    const NAME: &'static str;
    /// f32 in a vector.
    const LANES: usize;
    /// Rows of the register block of a matrix product, two vectors wide.
    const ROWS: usize;
    /// Rows of the register block of a sum of outer products, two vectors wide; at most 8.
    const OUTER_ROWS: usize;
    /// The register type.
    type Vector: Copy;
    /// Numbers in a word of a product's factors: 1, or 2 where they are rounded to bf16.
    const PACK: usize = 1;

    /// Whether this CPU has it.
    fn supported() -> bool;
    /// Runs a job compiled for this set.
    unsafe fn enter<J: Job>(job: J);

    unsafe fn splat(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn store(to: *mut f32, v: Self::Vector);
    /// Loads the first lanes, the rest being zero.
    unsafe fn load_first(from: *const f32, first: usize) -> Self::Vector;
    /// Stores the first lanes.
    unsafe fn store_first(to: *mut f32, v: Self::Vector, first: usize);
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a·b + c, with one rounding where the set has that instruction.
    unsafe fn fma(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// Asks for the cache line at `from`, to be read soon, or written where WRITE; any address may
    /// be given. A set on which that was not measured to help asks for nothing.
    #[inline(always)]
    unsafe fn fetch<const WRITE: bool>(from: *const f32) {
        let _ = from;
    }
    /// Words a·b + c: of [`Simd::PACK`] numbers each in a and b, one f32 in c.
    #[inline(always)]
    unsafe fn multiply_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        // SAFETY: passed on.
        unsafe { Self::fma(a, b, c) }
    }
    /// Stores a vector's numbers as LANES / PACK words of a factor, neighbours together.
    #[inline(always)]
    unsafe fn store_words(to: *mut f32, v: Self::Vector) {
        // SAFETY: passed on.
        unsafe { Self::store(to, v) }
    }
    /// Words whose first numbers are those of `first` and whose second ones, if there are two,
    /// those of `second`.
    #[inline(always)]
    unsafe fn words(first: Self::Vector, second: Self::Vector) -> Self::Vector {
        let _ = second;
        first
    }
}

/// What both sets of plain Rust share.
macro_rules! portable_operations {
    () => {
        #[inline(always)]
        unsafe fn splat(value: f32) -> [f32; 4] {
            [value; 4]
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> [f32; 4] {
            // SAFETY: the caller vouches for four readable numbers.
            unsafe { from.cast::<[f32; 4]>().read_unaligned() }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: [f32; 4]) {
            // SAFETY: the caller vouches for four writable numbers.
            unsafe { to.cast::<[f32; 4]>().write_unaligned(v) }
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, first: usize) -> [f32; 4] {
            let mut v = [0.0; 4];
            for (lane, value) in v.iter_mut().enumerate().take(first) {
                // SAFETY: lane < first, and the caller vouches for that many.
                *value = unsafe { *from.add(lane) };
            }
            v
        }
        #[inline(always)]
        unsafe fn store_first(to: *mut f32, v: [f32; 4], first: usize) {
            for (lane, value) in v.iter().enumerate().take(first) {
                // SAFETY: lane < first, and the caller vouches for that many.
                unsafe { *to.add(lane) = *value };
            }
        }
        #[inline(always)]
        unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
            zip(a, b, |a, b| a + b)
        }
        #[inline(always)]
        unsafe fn sub(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
            zip(a, b, |a, b| a - b)
        }
        #[inline(always)]
        unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
            zip(a, b, |a, b| a * b)
        }
        #[inline(always)]
        unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
            // Not `mul_add`: without the instruction that is a library call.
            zip(zip(a, b, |a, b| a * b), c, |ab, c| ab + c)
        }
    };
}

/// Plain Rust, four lanes at a time: what every target compiles to its baseline vectors.
#[derive(Clone, Copy)]
pub(super) struct Portable;

#[inline(always)]
fn zip(a: [f32; 4], b: [f32; 4], f: impl Fn(f32, f32) -> f32) -> [f32; 4] {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

impl Simd for Portable {
    const NAME: &'static str = "portable";
    const LANES: usize = 4;
    const ROWS: usize = 6;
    const OUTER_ROWS: usize = 4;
    type Vector = [f32; 4];

    fn supported() -> bool {
        true
    }
    #[inline(always)]
    unsafe fn enter<J: Job>(job: J) {
        // SAFETY: no instruction beyond the target's baseline; the caller vouches for the job.
        unsafe { job.run::<Self>() }
    }
    portable_operations!();
}

/// What AVX512-BF16 computes, in plain Rust: so that a machine without it can test the code that it
/// runs.
#[derive(Clone, Copy)]
pub(super) struct PortableBf16;

/// The nearest bf16 number, to even where two are as near; the upper half of an f32.
fn rounded(value: f32) -> u32 {
    let bits = value.to_bits();
    (bits + 0x7fff + (bits >> 16 & 1)) >> 16
}

/// The two numbers of a word.
fn halves(word: f32) -> [f32; 2] {
    [word.to_bits() << 16, word.to_bits() & 0xffff_0000].map(f32::from_bits)
}

fn word(first: f32, second: f32) -> f32 {
    f32::from_bits(rounded(second) << 16 | rounded(first))
}

impl Simd for PortableBf16 {
    const NAME: &'static str = "portable-bf16";
    const LANES: usize = Portable::LANES;
    const ROWS: usize = Portable::ROWS;
    const OUTER_ROWS: usize = Portable::OUTER_ROWS;
    const PACK: usize = 2;
    type Vector = [f32; 4];

    fn supported() -> bool {
        true
    }
    #[inline(always)]
    unsafe fn enter<J: Job>(job: J) {
        // SAFETY: no instruction beyond the target's baseline; the caller vouches for the job.
        unsafe { job.run::<Self>() }
    }
    #[inline(always)]
    unsafe fn multiply_add(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        let products = zip(a, b, |a, b| {
            let [[a, second_a], [b, second_b]] = [halves(a), halves(b)];
            a * b + second_a * second_b
        });
        zip(products, c, |product, c| product + c)
    }
    #[inline(always)]
    unsafe fn store_words(to: *mut f32, v: [f32; 4]) {
        // SAFETY: the caller vouches for two writable words.
        unsafe { to.cast::<[f32; 2]>().write_unaligned([word(v[0], v[1]), word(v[2], v[3])]) }
    }
    #[inline(always)]
    unsafe fn words(first: [f32; 4], second: [f32; 4]) -> [f32; 4] {
        zip(first, second, word)
    }
    portable_operations!();
}
