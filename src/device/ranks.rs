//! Who shares a run: what a launcher says of its processes, and the library by which they meet.

use crate::error::{Error, Result};
use crate::kernel::ranks::{Mpi, gather_words};
use crate::threads::lock;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

pub use crate::kernel::ranks::{One, Ranks, abort, leave, together};

/// What [`join`] gave: a process joins one job, once.
static JOINED: Mutex<Option<Arc<dyn Ranks>>> = Mutex::new(None);
/// The environment variable that names the library of MPI.
const VARIABLE: &str = "SIM_MPI";
/// The file that MPI's standard names.
const LIBRARY: &str = "libmpi_abi.so.1";
/// What launchers say of the number of processes: MPICH's mpiexec (and Slurm's PMI), Open MPI's,
/// srun.
const SIZES: [&str; 3] = ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"];
/// What they say of those on this machine.
const SIZES_HERE: [&str; 3] = ["MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_STEP_TASKS_PER_NODE"];

/// What they say of this process's place among those on this machine.
const RANKS_HERE: [&str; 3] = ["MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"];

/// The number at the beginning of an environment variable's value.
fn number(name: &str) -> Option<usize> {
    let text = std::env::var(name).ok()?;
    // "2(x3)" are two on each of three machines.
    text.split('(').next()?.parse().ok().filter(|number| *number > 0)
}

/// Where MPI may be: what SIM_MPI names, or else what the system finds, or else what lies beside
/// `mpiexec`, as in a Python environment with MPICH.
fn libraries() -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        return vec![named.into()];
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beside = std::env::split_paths(&path)
        .filter(|folder| folder.join("mpiexec").is_file())
        .filter_map(|folder| Some(folder.parent()?.join("lib").join(LIBRARY)));
    std::iter::once(LIBRARY.into()).chain(beside).collect()
}

/// How many processes a launcher has started, and by which variable it says so.
fn launched() -> Option<(&'static str, usize)> {
    let said = SIZES.into_iter().filter_map(|name| Some((name, number(name)?)));
    // Slurm's step may have one task that is a launcher itself: the largest is the innermost.
    said.max_by_key(|(_, size)| *size)
}

/// How many processes share this machine's cores.
pub fn ranks_here(ranks: &dyn Ranks) -> usize {
    let here = SIZES_HERE.into_iter().find_map(number);
    here.unwrap_or(ranks.size()).clamp(1, ranks.size())
}

/// This process's place among those of its launcher on this machine, from 0.
pub fn rank_here() -> usize {
    let said = |name: &str| std::env::var(name).ok()?.parse().ok();
    RANKS_HERE.into_iter().find_map(said).unwrap_or(0)
}

/// Refuses ranks that compute on different `kinds` of devices: they would not have the same bytes.
///
/// # Errors
/// [`Error::Usage`] with both kinds.
pub fn alike(ranks: &dyn Ranks, kind: &str) -> Result<()> {
    let kinds = gather_words(ranks, kind)?;
    match kinds.iter().find(|other| **other != kinds[0]) {
        None => Ok(()),
        Some(other) => Err(Error::Usage(format!(
            "--ranks: ranks compute on different devices, whose bytes differ: {}; {other}",
            kinds[0]
        ))),
    }
}

/// The ranks of the job that this process belongs to: as many as `asked`, or as its launcher has
/// started.
///
/// # Errors
/// [`Error::Usage`] where launcher, library and flag do not agree, where there is no launcher or no
/// library, and for a number of ranks that is no power of two.
pub fn join(asked: Option<usize>) -> Result<Arc<dyn Ranks>> {
    let mut joined = lock(&JOINED);
    if let Some(joined) = &*joined {
        return Ok(joined.clone());
    }
    let ranks = newly_joined(asked)?;
    Ok(joined.insert(ranks).clone())
}

fn newly_joined(asked: Option<usize>) -> Result<Arc<dyn Ranks>> {
    let usage = |what: String| Err(Error::Usage(format!("--ranks: {what}")));
    let launched = launched();
    let size = asked.or(launched.map(|(_, size)| size)).unwrap_or(1);
    match launched {
        Some((name, started)) if started != size => {
            return usage(format!("{size} asked for, and the launcher has started {started} ({name})"));
        }
        None if size > 1 => {
            return usage(format!(
                "{size} ranks are {size} processes; start them with `mpiexec -n {size} sim …` of MPICH, or with srun"
            ));
        }
        _ => {}
    }
    if size == 1 {
        return Ok(Arc::new(One));
    }
    if !size.is_power_of_two() {
        return usage(format!("{size} is no power of two, as the shards are that ranks share"));
    }
    let ranks = Mpi::open(&libraries())?;
    if ranks.size() != size {
        let (name, _) = launched.unwrap_or(("--ranks", size));
        return usage(format!(
            "{size} processes by {name}, and MPI knows of {}: launcher and library do not belong together (srun wants \
             --mpi=pmi2 for MPICH)",
            ranks.size()
        ));
    }
    Ok(Arc::new(ranks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_on_different_devices_are_refused_on_all_of_them() {
        let kinds = ["GPU A", "GPU A", "GPU B", "GPU A"];
        for refused in together(4, |ranks| alike(ranks.as_ref(), kinds[ranks.rank()])) {
            let said = refused.unwrap_err().to_string();
            assert!(said.contains("GPU A") && said.contains("GPU B"), "{said}");
        }
        assert!(together(4, |ranks| alike(ranks.as_ref(), "GPU A")).into_iter().all(|alike| alike.is_ok()));
    }
}
