//! [`Simd`] for x86-64: AVX2 with FMA, AVX-512F, and AVX-512 with products of bf16 numbers.

use std::arch::x86_64::*;

use super::simd::{Job, Simd};

/// Eight lanes, 16 registers: a block of 6 rows × 2 vectors.
#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// Sixteen lanes, 32 registers: a block of 14 rows × 2 vectors.
#[derive(Clone, Copy)]
pub(super) struct Avx512;

/// [`Avx512`] whose products take factors rounded to bf16 and add them up in f32, two at a time.
#[derive(Clone, Copy)]
pub(super) struct Avx512Bf16;

/// Eight ones then eight zeros: read at 8 − n, a mask of the first n lanes.
static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
unsafe fn mask8(first: usize) -> __m256i {
    // SAFETY: `first` ≤ 8 by the trait's contract, so the eight numbers lie inside the table.
    unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - first).cast()) }
}

/// The arithmetic of both sets differs in the intrinsics' names only.
macro_rules! operations {
    ($vector:ty, $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $mul:ident, $fma:ident) => {
        #[inline(always)]
        unsafe fn splat(value: f32) -> $vector {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { $splat(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> $vector {
            // SAFETY: the caller vouches for the instruction set and a vector of readable numbers.
            unsafe { $load(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: $vector) {
            // SAFETY: the caller vouches for the instruction set and a vector of writable numbers.
            unsafe { $store(to, v) }
        }
        #[inline(always)]
        unsafe fn add(a: $vector, b: $vector) -> $vector {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { $add(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: $vector, b: $vector) -> $vector {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { $sub(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: $vector, b: $vector) -> $vector {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { $mul(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: $vector, b: $vector, c: $vector) -> $vector {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { $fma(a, b, c) }
        }
    };
}

impl Simd for Avx2 {
    const NAME: &'static str = "avx2";
    const LANES: usize = 8;
    const ROWS: usize = 6;
    const OUTER_ROWS: usize = 6;
    type Vector = __m256;

    fn supported() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }
    #[inline(always)]
    unsafe fn enter<J: Job>(job: J) {
        #[target_feature(enable = "avx2,fma")]
        unsafe fn inside<J: Job>(job: J) {
            // SAFETY: the features are those of this function; the caller vouches for the job.
            unsafe { job.run::<Avx2>() }
        }
        // SAFETY: the caller vouches for the instruction set and the job.
        unsafe { inside(job) }
    }
    #[inline(always)]
    unsafe fn fetch<const WRITE: bool>(from: *const f32) {
        // SAFETY: a hint, which no address makes fault.
        unsafe {
            if WRITE {
                _mm_prefetch::<_MM_HINT_ET0>(from.cast());
            } else {
                _mm_prefetch::<_MM_HINT_T0>(from.cast());
            }
        }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, first: usize) -> __m256 {
        // SAFETY: masked lanes are not read; the caller vouches for the first ones.
        unsafe { _mm256_maskload_ps(from, mask8(first)) }
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, v: __m256, first: usize) {
        // SAFETY: masked lanes are not written; the caller vouches for the first ones.
        unsafe { _mm256_maskstore_ps(to, mask8(first), v) }
    }
    operations!(
        __m256,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps
    );
}

/// What both sets with sixteen lanes share.
macro_rules! operations_512 {
    () => {
        #[inline(always)]
        unsafe fn load_first(from: *const f32, first: usize) -> __m512 {
            // SAFETY: masked lanes are not read; the caller vouches for the first ones.
            unsafe { _mm512_maskz_loadu_ps(((1u32 << first) - 1) as u16, from) }
        }
        #[inline(always)]
        unsafe fn store_first(to: *mut f32, v: __m512, first: usize) {
            // SAFETY: masked lanes are not written; the caller vouches for the first ones.
            unsafe { _mm512_mask_storeu_ps(to, ((1u32 << first) - 1) as u16, v) }
        }
        operations!(
            __m512,
            _mm512_set1_ps,
            _mm512_loadu_ps,
            _mm512_storeu_ps,
            _mm512_add_ps,
            _mm512_sub_ps,
            _mm512_mul_ps,
            _mm512_fmadd_ps
        );
    };
}

impl Simd for Avx512 {
    const NAME: &'static str = "avx512";
    const LANES: usize = 16;
    const ROWS: usize = 14;
    const OUTER_ROWS: usize = 8;
    type Vector = __m512;

    fn supported() -> bool {
        is_x86_feature_detected!("avx512f") && Avx2::supported()
    }
    #[inline(always)]
    unsafe fn enter<J: Job>(job: J) {
        #[target_feature(enable = "avx512f,avx2,fma")]
        unsafe fn inside<J: Job>(job: J) {
            // SAFETY: the features are those of this function; the caller vouches for the job.
            unsafe { job.run::<Avx512>() }
        }
        // SAFETY: the caller vouches for the instruction set and the job.
        unsafe { inside(job) }
    }
    operations_512!();
}

/// Two vectors of sixteen bf16 numbers, one behind the other, to pairs of one of each.
static PAIRS: [u16; 32] = {
    let mut order = [0; 32];
    let mut word = 0;
    while word < 16 {
        order[2 * word] = word as u16;
        order[2 * word + 1] = 16 + word as u16;
        word += 1;
    }
    order
};

impl Simd for Avx512Bf16 {
    const NAME: &'static str = "avx512-bf16";
    const LANES: usize = Avx512::LANES;
    const ROWS: usize = Avx512::ROWS;
    const OUTER_ROWS: usize = Avx512::OUTER_ROWS;
    const PACK: usize = 2;
    type Vector = __m512;

    fn supported() -> bool {
        is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw") && Avx512::supported()
    }
    #[inline(always)]
    unsafe fn enter<J: Job>(job: J) {
        #[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx2,fma")]
        unsafe fn inside<J: Job>(job: J) {
            // SAFETY: the features are those of this function; the caller vouches for the job.
            unsafe { job.run::<Avx512Bf16>() }
        }
        // SAFETY: the caller vouches for the instruction set and the job.
        unsafe { inside(job) }
    }
    #[inline(always)]
    unsafe fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller vouches for the instruction set; both types are 64 bytes of any
        // content.
        unsafe {
            use std::mem::transmute;
            _mm512_dpbf16_ps(c, transmute::<__m512, __m512bh>(a), transmute::<__m512, __m512bh>(b))
        }
    }
    #[inline(always)]
    unsafe fn store_words(to: *mut f32, v: __m512) {
        // SAFETY: the caller vouches for the instruction set and eight writable words; both types
        // are 32 bytes of any content.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
            _mm256_storeu_si256(to.cast(), rounded);
        }
    }
    #[inline(always)]
    unsafe fn words(first: __m512, second: __m512) -> __m512 {
        // SAFETY: the caller vouches for the instruction set; all three types are 64 bytes of any
        // content.
        unsafe {
            let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
            let order = _mm512_loadu_si512(PAIRS.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, both))
        }
    }
    operations_512!();
}
