//! The best linear guess of E_T ẑ from ẑ, as far as images tell that it was not fitted to.
//!
//! The least-squares map is x ↦ m + Σ C⁻¹ (x − m), with C the covariance of views and Σ that of
//! their expectations. Fitted to n images it is x ↦ m + (Σ + ℓ c) (C + ℓ)⁻¹ (x − m): ridge
//! regression towards c times the identity, c = tr Σ / tr C, so that a direction of which the
//! images tell little keeps the share of signal that directions have on average.

use super::Spread;
use crate::error::{Error, Result, go_on};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use std::sync::atomic::AtomicBool;

/// Parts of the images, each judged by maps of the others. Even: they tune each other in pairs.
const FOLDS: usize = 6;
/// Images of a part with which there is something to fit and to judge.
const LEAST: usize = 2;
/// More dimensions than these are first brought down to so many principal ones.
const DIMENSIONS: usize = 256;
/// ℓ as multiples of tr C / n, among which the fitting images choose: from none that shows to all
/// but the identity.
const RIDGES: [f64; 11] = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0];

/// Guesses of the expectation of each row of `z` (N · `views`, d), all of unit length, by maps that
/// are normalised as h is.
///
/// The images are cut into [`FOLDS`] parts. For each the map is fitted to all others; how much it
/// is shrunk is chosen on one of these by a map of the rest. Where even there the normalised map is
/// no better than the identity, the identity is taken, whose R² is 0 exactly: the number falls
/// below 0 only as far as two parts disagree.
///
/// # Errors
/// [`Error::Failure`] when outputs are not finite; [`Error::Stopped`] once `stop` is set.
pub(super) fn guesses(z: &Array2<f64>, views: usize, exact: bool, stop: &AtomicBool) -> Result<Array2<f64>> {
    if !z.iter().all(|value| value.is_finite()) {
        return Err(Error::Failure("the outputs have no linear fit: they are not finite".into()));
    }
    let images = z.nrows() / views;
    let parts: Vec<Vec<usize>> =
        (0..FOLDS).map(|fold| (0..images).filter(|image| fold_of(*image) == fold).collect()).collect();
    if parts.iter().any(|part| part.len() < LEAST) {
        return Ok(z.clone());
    }
    let axes = (z.ncols() > DIMENSIONS && z.nrows() >= DIMENSIONS).then(|| principal(z, stop)).transpose()?;
    let rows_of = |part: &[usize]| -> Vec<usize> {
        part.iter().flat_map(|image| image * views..(image + 1) * views).collect()
    };
    let mut folds = Vec::new();
    for part in &parts {
        let rows = z.select(Axis(0), &rows_of(part));
        let inner = match &axes {
            Some(axes) => product(rows.view(), axes.view(), stop)?,
            None => rows.clone(),
        };
        folds.push(Fold { sums: Sums::of(&inner, views, stop)?, inner, rows });
    }
    let guess = |map: &Map, fold: &Fold| {
        let guess = map.apply(&fold.inner, stop)?;
        let whole = match &axes {
            Some(axes) => product(guess.view(), axes.t(), stop)?,
            None => guess,
        };
        Ok::<_, Error>(unit(whole))
    };
    let mut all = z.clone();
    for pair in 0..FOLDS / 2 {
        let both = [2 * pair, 2 * pair + 1];
        let path = Path::of(Moments::without(&folds, &both, exact), stop)?;
        for (judged, tuned) in [(both[0], both[1]), (both[1], both[0])] {
            let ridge = path.best(&Moments::of(&folds[tuned].sums, [&folds[tuned].sums], exact), stop)?;
            let spread = Spread::of(&folds[tuned].rows, views, exact);
            let r2 = spread.r2(&guess(&path.moments.map(ridge, stop)?, &folds[tuned])?);
            // NaN too, where these images do not vary.
            if r2.is_nan() || r2 <= 0.0 {
                continue;
            }
            let map = Moments::without(&folds, &[judged], exact).map(ridge, stop)?;
            let guessed = guess(&map, &folds[judged])?;
            for (row, guess) in rows_of(&parts[judged]).into_iter().zip(guessed.rows()) {
                all.row_mut(row).assign(&guess);
            }
        }
    }
    Ok(all)
}

/// The part of an image. Multiples of the golden ratio spread over any run of images and any class
/// that comes back at equal distances, so that parts are alike in whatever order images are.
fn fold_of(image: usize) -> usize {
    ((image as f64 * 0.618_033_988_749_894_9).fract() * FOLDS as f64) as usize
}

/// A part of the images.
struct Fold {
    /// ẑ, image by image.
    rows: Array2<f64>,
    /// ẑ in the dimensions in which maps are fitted.
    inner: Array2<f64>,
    sums: Sums,
}

/// Sums over images.
struct Sums {
    images: f64,
    views: f64,
    sum: Array1<f64>,
    /// Σ x xᵀ.
    square: Array2<f64>,
    /// Σ x xᵀ of what views differ from their image's mean.
    within: Array2<f64>,
}

impl Sums {
    fn of(x: &Array2<f64>, views: usize, stop: &AtomicBool) -> Result<Sums> {
        let mut apart = x.clone();
        for mut image in apart.axis_chunks_iter_mut(Axis(0), views) {
            let mean = image.sum_axis(Axis(0)) / views as f64;
            image -= &mean;
        }
        Ok(Sums {
            images: (x.nrows() / views) as f64,
            views: views as f64,
            sum: x.sum_axis(Axis(0)),
            square: product(x.t(), x.view(), stop)?,
            within: product(apart.t(), apart.view(), stop)?,
        })
    }
}

/// Mean and covariances of views of some images.
struct Moments {
    images: f64,
    mean: Array1<f64>,
    /// C, of views.
    views: Array2<f64>,
    /// Σ, of their expectations, without bias.
    signal: Array2<f64>,
}

impl Moments {
    /// The moments of the images of `sums`, which are as wide as those of `like`.
    fn of<'a>(like: &Sums, sums: impl IntoIterator<Item = &'a Sums>, exact: bool) -> Moments {
        let (mut images, n) = (0.0, like.views);
        let mut sum = Array1::zeros(like.sum.len());
        let (mut square, mut within) = (Array2::zeros(like.square.dim()), Array2::zeros(like.within.dim()));
        for more in sums {
            images += more.images;
            sum += &more.sum;
            square += &more.square;
            within += &more.within;
        }
        let mean = sum / (images * n);
        let views = square / (images * n) - outer(&mean, &mean);
        let signal = &views - within / (images * if exact { n } else { n - 1.0 });
        Moments { images, mean, views, signal }
    }

    fn without(folds: &[Fold], left_out: &[usize], exact: bool) -> Moments {
        let kept = folds.iter().enumerate().filter(|(fold, _)| !left_out.contains(fold));
        Moments::of(&folds[0].sums, kept.map(|(_, fold)| &fold.sums), exact)
    }

    /// ℓ and c for a ridge of [`RIDGES`].
    fn shrinkage(&self, ridge: f64) -> (f64, f64) {
        let trace = self.views.diag().sum().max(f64::MIN_POSITIVE);
        (ridge * trace / self.images, (self.signal.diag().sum() / trace).clamp(0.0, 1.0))
    }

    /// The map with `ridge`.
    fn map(&self, ridge: f64, stop: &AtomicBool) -> Result<Map> {
        let (level, share) = self.shrinkage(ridge);
        let (mut left, mut right) = (self.views.clone(), self.signal.clone());
        left.diag_mut().mapv_inplace(|v| v + level);
        right.diag_mut().mapv_inplace(|v| v + level * share);
        go_on(stop)?;
        // The ridge is far above what rounding does to a covariance.
        let no_fit = || Error::Failure("the outputs have no linear fit: they do not vary".into());
        let cholesky = to_nalgebra(&left).cholesky().ok_or_else(no_fit)?;
        Ok(Map { mean: self.mean.clone(), slope: from_nalgebra(&cholesky.solve(&to_nalgebra(&right))) })
    }
}

/// x ↦ m + (x − m) A.
struct Map {
    mean: Array1<f64>,
    slope: Array2<f64>,
}

impl Map {
    fn apply(&self, x: &Array2<f64>, stop: &AtomicBool) -> Result<Array2<f64>> {
        Ok(product((x - &self.mean).view(), self.slope.view(), stop)? + &self.mean)
    }
}

/// The maps of some images for all ridges at once, along the eigenvectors of C.
struct Path {
    moments: Moments,
    axes: Array2<f64>,
    variances: Array1<f64>,
    /// Σ along the axes, and its square.
    signal: Array2<f64>,
    square: Array2<f64>,
}

impl Path {
    fn of(moments: Moments, stop: &AtomicBool) -> Result<Path> {
        go_on(stop)?;
        let eigen = to_nalgebra(&moments.views).symmetric_eigen();
        let (axes, values) = (from_nalgebra(&eigen.eigenvectors), eigen.eigenvalues);
        let signal = turned(&moments.signal, &axes, stop)?;
        let square = product(signal.view(), signal.view(), stop)?;
        let variances = values.iter().map(|value| value.max(0.0)).collect();
        Ok(Path { moments, axes, variances, signal, square })
    }

    /// The ridge whose map is nearest to the expectations of `other` images in the mean square.
    fn best(&self, other: &Moments, stop: &AtomicBool) -> Result<f64> {
        let shift = &other.mean - &self.moments.mean;
        let about = outer(&shift, &shift);
        let views = turned(&(&other.views + &about), &self.axes, stop)?;
        let signal = turned(&(&other.signal + &about), &self.axes, stop)?;
        // With P = Σ + ℓ c and w = 1 / (variance + ℓ), of tr A C Aᵀ − 2 tr A Σ what depends on ℓ.
        let error = |ridge: f64| {
            let (level, share) = self.moments.shrinkage(ridge);
            let added = level * share;
            let weight: Vec<f64> = self.variances.iter().map(|variance| 1.0 / (variance + level)).collect();
            let mut sum = 0.0;
            for ((j, k), value) in self.signal.indexed_iter() {
                let diagonal = if j == k { added } else { 0.0 };
                let square = self.square[[j, k]] + 2.0 * added * value + added * diagonal;
                sum += weight[j] * weight[k] * views[[j, k]] * square;
                sum -= 2.0 * weight[k] * (value + diagonal) * signal[[k, j]];
            }
            sum
        };
        let errors = RIDGES.map(|ridge| (error(ridge), ridge));
        Ok(errors.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or(RIDGES[0], |(_, ridge)| ridge))
    }
}

/// Orthonormal columns (d, [`DIMENSIONS`]) that hold nearly all of the second moment of `z`:
/// subspace iteration from rows of z. It sees the judging images too, but not which views are of
/// one image.
fn principal(z: &Array2<f64>, stop: &AtomicBool) -> Result<Array2<f64>> {
    let spaced: Vec<usize> = (0..DIMENSIONS).map(|i| i * z.nrows() / DIMENSIONS).collect();
    let orthonormal = |a: &Array2<f64>| from_nalgebra(&to_nalgebra(a).qr().q());
    let mut axes = orthonormal(&z.select(Axis(0), &spaced).reversed_axes());
    for _ in 0..2 {
        let outputs = product(z.view(), axes.view(), stop)?;
        axes = orthonormal(&product(z.t(), outputs.view(), stop)?);
    }
    Ok(axes)
}

/// Rows divided by their length (at least 1e-12).
fn unit(mut x: Array2<f64>) -> Array2<f64> {
    for mut row in x.axis_iter_mut(Axis(0)) {
        let length = row.dot(&row).sqrt().max(1e-12);
        row /= length;
    }
    x
}

/// `axes`ᵀ `a` `axes`.
fn turned(a: &Array2<f64>, axes: &Array2<f64>, stop: &AtomicBool) -> Result<Array2<f64>> {
    product(axes.t(), product(a.view(), axes.view(), stop)?.view(), stop)
}

fn outer(a: &Array1<f64>, b: &Array1<f64>) -> Array2<f64> {
    Array2::from_shape_fn((a.len(), b.len()), |(i, j)| a[i] * b[j])
}

fn to_nalgebra(a: &Array2<f64>) -> nalgebra::DMatrix<f64> {
    nalgebra::DMatrix::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]])
}

fn from_nalgebra(a: &nalgebra::DMatrix<f64>) -> Array2<f64> {
    Array2::from_shape_fn(a.shape(), |at| a[at])
}

/// Columns of a product between two looks whether to stop: a second's work for thousands of
/// dimensions.
const COLUMNS: usize = 256;

/// `a` times `b`, to the bits of `a.dot(&b)`.
fn product(a: ArrayView2<f64>, b: ArrayView2<f64>, stop: &AtomicBool) -> Result<Array2<f64>> {
    let mut product = Array2::zeros((a.nrows(), b.ncols()));
    let columns = b.axis_chunks_iter(Axis(1), COLUMNS);
    for (b, mut product) in columns.zip(product.axis_chunks_iter_mut(Axis(1), COLUMNS)) {
        go_on(stop)?;
        general_mat_mul(1.0, &a, &b, 0.0, &mut product);
    }
    Ok(product)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn a_product_in_pieces_has_the_bits_of_the_whole_and_can_be_stopped() {
        let mut rng = stream(0, Purpose::Test, 1, 0);
        let mut normal = |_| -> f64 { StandardNormal.sample(&mut rng) };
        for (n, k, m) in [(70, 600, 2 * COLUMNS + 37), (33, 5, COLUMNS), (2 * COLUMNS + 1, 300, 3)] {
            let (a, b) =
                (Array2::from_shape_fn((k, n), &mut normal), Array2::from_shape_fn((k, m), &mut normal));
            let whole = a.t().dot(&b);
            let pieces = product(a.t(), b.view(), &AtomicBool::new(false)).unwrap();
            assert!(whole.iter().zip(&pieces).all(|(whole, piece)| whole.to_bits() == piece.to_bits()));
            let (a, whole) = (a.t().as_standard_layout().into_owned(), whole);
            let again = product(a.view(), b.view(), &AtomicBool::new(false)).unwrap();
            assert!(a.dot(&b).iter().zip(&again).all(|(whole, piece)| whole.to_bits() == piece.to_bits()));
            assert_eq!(whole.dim(), again.dim());
        }
        let a = Array2::zeros((2, 2));
        assert!(matches!(product(a.view(), a.view(), &AtomicBool::new(true)), Err(Error::Stopped)));
    }
}
