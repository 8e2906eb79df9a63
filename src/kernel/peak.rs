//! The ceiling that benches print beside their numbers: multiply-adds that never leave the
//! registers.

use super::simd::{Job, Portable, Simd};
use super::work::for_each;

/// Independent chains: enough to hide the latency of two multiply-add units.
const CHAINS: usize = 12;

struct Burst(usize);

impl Job for Burst {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: arithmetic, and a store into an array as long as the longest vector.
        unsafe {
            let (a, b) = (S::splat(std::hint::black_box(0.999)), S::splat(std::hint::black_box(1e-3)));
            let mut sums = [a; CHAINS];
            for _ in 0..self.0 {
                for sum in &mut sums {
                    *sum = S::multiply_add(a, b, *sum);
                }
            }
            let mut seen = [0.0; 16];
            for sum in sums {
                S::store(seen.as_mut_ptr(), sum);
                std::hint::black_box(&seen);
            }
        }
    }
}

/// Runs `rounds` rounds of multiply-adds on every thread of the current pool with the instructions
/// of the kernel called `name`; returns how many operations that was, 0 if this CPU lacks them.
pub fn multiply_adds(name: &str, rounds: usize) -> f64 {
    fn on<S: Simd>(rounds: usize) -> f64 {
        if !S::supported() {
            return 0.0;
        }
        let threads = rayon::current_num_threads();
        // SAFETY: the CPU has `S`.
        for_each(threads, |_| unsafe { S::enter(Burst(rounds)) });
        (threads * rounds * CHAINS * S::LANES * S::PACK * 2) as f64
    }
    match name {
        #[cfg(target_arch = "x86_64")]
        "avx512-bf16" => on::<super::x86::Avx512Bf16>(rounds),
        #[cfg(target_arch = "x86_64")]
        "avx512" => on::<super::x86::Avx512>(rounds),
        #[cfg(target_arch = "x86_64")]
        "avx2" => on::<super::x86::Avx2>(rounds),
        _ => on::<Portable>(rounds),
    }
}
