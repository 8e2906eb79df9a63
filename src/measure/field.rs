//! How far a Jacobian is from a symmetric one, by random directions.

/// An antisymmetric share with its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// ‖J − Jᵀ‖² / (‖J − Jᵀ‖² + ‖J + Jᵀ‖²), between 0 and 1.
    pub share: f64,
    /// Its standard error over directions, by the jackknife.
    pub error: f64,
}

/// A direction and what J = −(H + M) makes of it, in two parts.
#[derive(Clone, Debug)]
pub struct Product {
    /// w, independent normal numbers.
    pub direction: Vec<f32>,
    /// M w, the part that may be anything.
    pub by_eta: Vec<f32>,
    /// H w with H symmetric, measured with an error that is independent from direction to
    /// direction.
    pub by_theta: Vec<f32>,
}

/// The antisymmetric share of J from what it makes of a few directions: for two of them, u and w,
/// E(uᵀJw ∓ wᵀJu)² = ‖J ∓ Jᵀ‖², so that the means over all pairs estimate both (Hutchinson 1990).
/// None below three directions, or where J moves none of them.
///
/// H drops out of uᵀJw − wᵀJu. In the sum uᵀHw is known twice, by H w and by H u; the square is
/// taken as the product of the two, whose errors then cancel in the mean.
///
/// Sums in f64, in a fixed order.
pub fn share(products: &[Product]) -> Option<Share> {
    let n = products.len();
    if n < 3 {
        return None;
    }
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let (mut odd, mut even) = (vec![0.0; n], vec![0.0; n]);
    for (i, u) in products.iter().enumerate() {
        for (j, w) in products[..i].iter().enumerate() {
            let m = [dot(&u.direction, &w.by_eta), dot(&w.direction, &u.by_eta)];
            let h = [dot(&u.direction, &w.by_theta), dot(&w.direction, &u.by_theta)];
            let both = m[0] + m[1];
            for at in [i, j] {
                odd[at] += (m[0] - m[1]).powi(2);
                even[at] += (2.0 * h[0] + both) * (2.0 * h[1] + both);
            }
        }
    }
    // Each pair counts for both of its directions.
    let (whole_odd, whole_even) = (odd.iter().sum::<f64>() / 2.0, even.iter().sum::<f64>() / 2.0);
    let of = |odd: f64, even: f64| (odd + even > 0.0).then(|| (odd / (odd + even)).clamp(0.0, 1.0));
    let share = of(whole_odd, whole_even)?;
    let without = |at: usize| of(whole_odd - odd[at], whole_even - even[at]).unwrap_or(share);
    let left: Vec<f64> = (0..n).map(without).collect();
    let mean = left.iter().sum::<f64>() / n as f64;
    let squares: f64 = left.iter().map(|one| (one - mean).powi(2)).sum();
    Some(Share { share, error: (squares * (n - 1) as f64 / n as f64).sqrt() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use rand_distr::{Distribution, StandardNormal};

    const DIM: usize = 40;

    /// The share of −(H + M) by `count` directions, H w being off by normal numbers of this size.
    fn of(
        count: usize,
        m: impl Fn(usize, usize) -> f64,
        h: impl Fn(usize, usize) -> f64,
        noise: f32,
    ) -> Share {
        let mut rng = stream(3, Purpose::Test, 0, 0);
        let mut normal = || -> Vec<f32> { (0..DIM).map(|_| StandardNormal.sample(&mut rng)).collect() };
        let by = |matrix: &dyn Fn(usize, usize) -> f64, w: &[f32]| -> Vec<f32> {
            let row = |i: usize| (0..DIM).map(|j| matrix(i, j) * f64::from(w[j])).sum::<f64>() as f32;
            (0..DIM).map(row).collect()
        };
        let mut product = || {
            let direction = normal();
            let (by_eta, exact) = (by(&m, &direction), by(&h, &direction));
            let by_theta = exact.iter().zip(normal()).map(|(h, error)| h + noise * error).collect();
            Product { direction, by_eta, by_theta }
        };
        share(&(0..count).map(|_| product()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_symmetric_matrix_has_none_and_a_rotation_nothing_else() {
        let even = of(8, |i, j| ((i * j) as f64).cos(), |i, j| (i + j) as f64, 0.0);
        assert!(even.share < 1e-9, "{even:?}");
        let odd = of(8, |i, j| (i as f64 - j as f64).sin(), |_, _| 0.0, 0.0);
        assert!(odd.share > 1.0 - 1e-9, "{odd:?}");
    }

    /// 1 above and below the diagonal of H + M, M also ½ above and −½ below: norms of J ∓ Jᵀ are
    /// those of ±1 and of 2, DIM (DIM − 1) of each.
    const EXPECTED: f64 = 1.0 / (1.0 + 4.0);

    fn mixture(count: usize, noise: f32) -> Share {
        let part = |i: usize, j: usize| match i.cmp(&j) {
            std::cmp::Ordering::Less => 0.5,
            std::cmp::Ordering::Equal => 0.0,
            std::cmp::Ordering::Greater => -0.5,
        };
        of(count, part, |i, j| if i == j { 0.0 } else { 1.0 }, noise)
    }

    #[test]
    fn a_mixture_has_its_share_within_the_error() {
        // The error falls with the root of the number of directions: 0.05 of 64, half of it of 256.
        let found = mixture(256, 0.0);
        assert!((found.share - EXPECTED).abs() < 4.0 * found.error, "{found:?}");
        assert!(found.error > 0.0 && found.error < 0.2 * EXPECTED, "{found:?}");
    }

    #[test]
    fn errors_of_h_do_not_pass_for_a_part_of_it() {
        // Errors as large as H itself; taken as squares they would halve the share.
        let noisy = mixture(64, 6.0);
        assert!((noisy.share - EXPECTED).abs() < 4.0 * noisy.error, "{noisy:?}");
        assert!(noisy.share > 0.8 * EXPECTED, "{noisy:?}");
    }

    #[test]
    fn two_directions_give_no_number() {
        let product = || Product { direction: vec![1.0], by_eta: vec![1.0], by_theta: vec![0.0] };
        assert!(share(&[product(), product()]).is_none());
    }
}
