//! θ on a device: weights on their way into the convolutions, their gradients on the way back, and
//! the step.

use super::{Buffer, Device, Launch, Span, THREADS, int, long, place};
use crate::error::Result;
use crate::kernel::Precision;

/// One layer's weights and where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Where they begin in θ.
    pub theta: usize,
    /// Where they begin among the staged ones.
    pub staged: usize,
    /// K·K·I.
    pub rows: usize,
    /// O.
    pub columns: usize,
    /// Rows that are staged, of which those beyond `rows` are zeros.
    pub filled: usize,
    /// Whether they are staged as (O, K, K, I); as rows × columns otherwise.
    pub transposed: bool,
}

/// Side of a tile, as in `cu/theta.cu`.
const TILE: usize = 32;

/// The table of layers in device memory.
pub struct Layers {
    table: Buffer,
    count: usize,
    tiles: usize,
    staged_len: usize,
    theta_len: usize,
}

impl Layers {
    /// The table of `layers`, none of which may be empty, on `device`.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] for a θ of 2³¹ numbers or more.
    pub fn new(device: &dyn Device, layers: &[Layer]) -> Result<Self> {
        let (mut tiles, mut numbers) = (0, Vec::new());
        for layer in layers {
            let Layer { theta, staged, rows, columns, filled, transposed } = *layer;
            assert!(filled >= rows);
            let row = [theta, staged, rows, columns, filled, usize::from(transposed), tiles];
            for number in row {
                numbers.push(place(number)?);
            }
            tiles += filled.div_ceil(TILE) * columns.div_ceil(TILE);
        }
        let end = |of: fn(&Layer) -> usize| layers.iter().map(of).max().unwrap_or(0);
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let table = device.allocate(bytes.len().max(4))?;
        if !bytes.is_empty() {
            device.upload(&bytes, table.span(Precision::F32, 0, bytes.len() / 4))?;
        }
        let theta_len = end(|layer| layer.theta + layer.rows * layer.columns);
        let staged_len = end(|layer| layer.staged + layer.filled * layer.columns);
        Ok(Self { table, count: layers.len(), tiles, staged_len, theta_len })
    }

    /// Numbers of all staged weights.
    pub fn staged_len(&self) -> usize {
        self.staged_len
    }

    fn launch(&self, kernel: &str, theta: Span, staged: Span, to_theta: bool) -> Launch {
        assert!(theta.len() >= self.theta_len && theta.precision() == Precision::F32);
        assert!(staged.len() >= self.staged_len);
        let table = self.table.span(Precision::F32, 0, 7 * self.count);
        let (from, to) = if to_theta { (staged, theta) } else { (theta, staged) };
        Launch {
            kernel: format!("{kernel}_{}", staged.suffix()),
            grid: [self.tiles, 1, 1],
            block: [TILE, 8],
            args: vec![from.into(), to.into(), table.into(), int(self.count)],
        }
    }
}

/// One parameter of θ, for the step; parameters follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Numbers.
    pub len: usize,
    /// Whether the penalty and LARS concern it.
    pub penalised: bool,
}

/// The table of parts in device memory, with room for a rate of each.
pub struct Parts {
    table: Buffer,
    rates: Buffer,
    count: usize,
    len: usize,
    longest: usize,
}

impl Parts {
    /// The table of `parts` on `device`.
    ///
    /// # Errors
    /// As [`Layers::new`].
    pub fn new(device: &dyn Device, parts: &[Part]) -> Result<Self> {
        let (mut begin, mut bytes) = (0, Vec::new());
        for part in parts {
            let row = [begin, part.len, usize::from(part.penalised)];
            for number in row {
                bytes.extend(place(number)?.to_le_bytes());
            }
            begin += part.len;
        }
        let table = device.allocate(bytes.len().max(4))?;
        device.upload(&bytes, table.span(Precision::F32, 0, bytes.len() / 4))?;
        let longest = parts.iter().map(|part| part.len).max().unwrap_or(0);
        let rates = device.allocate(4 * parts.len().max(1))?;
        Ok(Self { table, rates, count: parts.len(), len: begin, longest })
    }
}

/// Blocks of a kernel whose threads walk over an array.
const MOST_BLOCKS: usize = 4096;
/// Blocks of a kernel for each tensor of parameters, whose threads walk over the tensor.
const BLOCKS_OF_A_PART: usize = 64;

impl dyn Device + '_ {
    /// The weights of all layers from `theta` into `staged`, rounded to its precision.
    pub fn stage_weights(&self, layers: &Layers, theta: Span, staged: Span) -> Result<()> {
        if layers.count == 0 {
            return Ok(());
        }
        // SAFETY: the table was made for these lengths, which `launch` has checked; the arguments
        // are those of cu/theta.cu.
        unsafe { self.launch(&layers.launch("stage_weights", theta, staged, false)) }
    }

    /// The gradients of transposed layers from `staged` into `theta`.
    pub fn unstage_gradients(&self, layers: &Layers, staged: Span, theta: Span) -> Result<()> {
        if layers.count == 0 {
            return Ok(());
        }
        // SAFETY: as above.
        unsafe { self.launch(&layers.launch("unstage_gradients", theta, staged, true)) }
    }

    /// Copies `from` to `to`, rounding or widening where they are stored differently.
    pub fn copy(&self, from: Span, to: Span) -> Result<()> {
        assert_eq!(from.len(), to.len());
        let kernel = format!("copy_{}_{}", from.suffix(), to.suffix());
        let args = vec![from.into(), to.into(), long(from.len())];
        // SAFETY: the lengths were just checked; the arguments are those of cu/theta.cu.
        unsafe { self.launch(&Launch { kernel, grid: walking(from.len()), block: [THREADS, 1], args }) }
    }

    /// v ← μ·v + (g + λ·θ), θ ← θ − lr·v, all f32; `numbers` are lr, μ and λ.
    pub fn sgd_step(&self, theta: Span, velocity: Span, gradient: Span, numbers: [f32; 3]) -> Result<()> {
        let [lr, momentum, weight_decay] = numbers;
        let spans = [theta, velocity, gradient];
        assert!(spans.iter().all(|s| s.len() == theta.len() && s.precision() == Precision::F32));
        let args = vec![
            theta.into(),
            velocity.into(),
            gradient.into(),
            long(theta.len()),
            lr.into(),
            momentum.into(),
            weight_decay.into(),
        ];
        let launch =
            Launch { kernel: "sgd_step".into(), grid: walking(theta.len()), block: [THREADS, 1], args };
        // SAFETY: the lengths were just checked; the arguments are those of cu/theta.cu.
        unsafe { self.launch(&launch) }
    }

    /// One step of SGD part by part: v ← μ·v + s·(g + λ·θ), with the penalty on penalised parts
    /// only, and s LARS's rate of each where `lars` says (trust, λ).
    pub fn sgd_parts(
        &self,
        parts: &Parts,
        theta: Span,
        velocity: Span,
        gradient: Span,
        numbers: [f32; 3],
        lars: Option<(f64, f64)>,
    ) -> Result<()> {
        let [lr, momentum, weight_decay] = numbers;
        let spans = [theta, velocity, gradient];
        assert!(spans.iter().all(|s| s.len() == parts.len && s.precision() == Precision::F32));
        if parts.count == 0 {
            return Ok(());
        }
        let table = parts.table.span(Precision::F32, 0, 3 * parts.count);
        let rates = parts.rates.span(Precision::F32, 0, parts.count);
        if let Some((trust, decay)) = lars {
            let args =
                vec![theta.into(), gradient.into(), table.into(), rates.into(), trust.into(), decay.into()];
            let (grid, block) = ([parts.count, 1, 1], [THREADS, 1]);
            // SAFETY: the table was made for these lengths, which were just checked; the arguments
            // are those of cu/theta.cu.
            unsafe { self.launch(&Launch { kernel: "lars_rates".into(), grid, block, args })? };
        }
        let args = vec![
            theta.into(),
            velocity.into(),
            gradient.into(),
            table.into(),
            lars.map(|_| rates).into(),
            lr.into(),
            momentum.into(),
            weight_decay.into(),
        ];
        let across = parts.longest.div_ceil(THREADS).clamp(1, BLOCKS_OF_A_PART);
        let (grid, block) = ([across, parts.count, 1], [THREADS, 1]);
        // SAFETY: as above.
        unsafe { self.launch(&Launch { kernel: "sgd_parts".into(), grid, block, args }) }
    }
}

fn walking(len: usize) -> [usize; 3] {
    [len.div_ceil(THREADS).clamp(1, MOST_BLOCKS), 1, 1]
}
