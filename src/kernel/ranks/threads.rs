//! Ranks within one process: threads that meet. Tests and studies of what ranks change need no
//! launcher so.

use super::{One, Ranks};
use crate::error::{Error, Result};
use crate::threads::lock;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// One of several threads that meet.
pub struct Threads {
    rank: usize,
    size: usize,
    meeting: Arc<Meeting>,
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "rank {} of {} threads", self.rank, self.size)
    }
}

#[derive(Default)]
struct Meeting {
    table: Mutex<Table>,
    /// A round has ended, or somebody has gone.
    turn: Condvar,
}

/// What lies on the table of a round.
#[derive(Default)]
struct Table {
    round: u64,
    /// What each rank has given in this round.
    given: Vec<Option<Vec<u8>>>,
    /// What all gave in the round before.
    all: Arc<Vec<Vec<u8>>>,
    /// Whether a rank has gone.
    left: bool,
}

impl Threads {
    /// `size` ranks that meet each other.
    pub fn group(size: usize) -> Vec<Threads> {
        let meeting = Arc::new(Meeting::default());
        lock(&meeting.table).given = vec![None; size];
        (0..size).map(|rank| Threads { rank, size, meeting: meeting.clone() }).collect()
    }

    /// Gives `own`, waits for the others, and gets what all have given.
    fn meet(&self, own: &[u8]) -> Result<Arc<Vec<Vec<u8>>>> {
        let mut table = lock(&self.meeting.table);
        let round = table.round;
        table.given[self.rank] = Some(own.to_vec());
        if table.given.iter().all(Option::is_some) {
            table.all = Arc::new(table.given.iter_mut().filter_map(Option::take).collect());
            table.round += 1;
            self.meeting.turn.notify_all();
            return Ok(table.all.clone());
        }
        while table.round == round {
            if table.left {
                return Err(Error::Failure("another rank has ended".into()));
            }
            table = self.meeting.turn.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
        // The next round cannot have ended: it needs this rank.
        Ok(table.all.clone())
    }

    /// [`Threads::meet`] where all give as many bytes.
    fn meet_alike(&self, own: &[u8]) -> Result<Arc<Vec<Vec<u8>>>> {
        let all = self.meet(own)?;
        if all.iter().any(|given| given.len() != own.len()) {
            return Err(Error::Failure("ranks give each other different numbers of bytes".into()));
        }
        Ok(all)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        lock(&self.meeting.table).left = true;
        self.meeting.turn.notify_all();
    }
}

impl Ranks for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<u8>> {
        Ok(self.meet_alike(own)?.concat())
    }

    fn exchange(&self, own: &[u8]) -> Result<Vec<u8>> {
        let piece = own.len() / self.size;
        let all = self.meet_alike(own)?;
        Ok(all.iter().flat_map(|given| &given[self.rank * piece..][..piece]).copied().collect())
    }

    fn broadcast(&self, own: &[u8]) -> Result<Vec<u8>> {
        let all = self.meet(if self.rank == 0 { own } else { &[] })?;
        Ok(all[0].clone())
    }
}

/// Runs `body` on `size` threads, each with its rank; what they give, in the order of ranks.
///
/// # Errors
/// Each thread's own, and [`Error::Failure`] in the place of one that has fallen.
pub fn together<T: Send>(size: usize, body: impl Fn(Arc<dyn Ranks>) -> Result<T> + Sync) -> Vec<Result<T>> {
    if size == 1 {
        return vec![body(Arc::new(One))];
    }
    let fallen = || Err(Error::Failure("a rank has fallen".into()));
    std::thread::scope(|scope| {
        let body = &body;
        let ranks = Threads::group(size).into_iter();
        let threads: Vec<_> = ranks.map(|rank| scope.spawn(move || body(Arc::new(rank)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| fallen())).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_where_they_are_sent() {
        for (rank, given) in together(4, |ranks| {
            let own = [10 * ranks.rank() as u8, 1, 2, 3];
            let (all, to_each) = (ranks.gather(&own)?, ranks.exchange(&own)?);
            let first = ranks.broadcast(&own)?;
            Ok((all, to_each, first, ranks.any(ranks.rank() == 2)?, ranks.any(false)?))
        })
        .into_iter()
        .enumerate()
        {
            let (all, to_each, first, some, none) = given.unwrap();
            assert_eq!(all, [0, 1, 2, 3, 10, 1, 2, 3, 20, 1, 2, 3, 30, 1, 2, 3]);
            assert_eq!(to_each, if rank == 0 { [0, 10, 20, 30] } else { [rank as u8; 4] });
            assert_eq!((first, some, none), (vec![0, 1, 2, 3], true, false));
        }
    }

    #[test]
    fn nobody_waits_for_a_rank_that_has_gone() {
        let ends = together(3, |ranks| {
            if ranks.rank() == 1 {
                return Err(Error::Usage("no".into()));
            }
            ranks.gather(&[0])
        });
        assert!(matches!(ends[1], Err(Error::Usage(_))));
        assert!(matches!((&ends[0], &ends[2]), (Err(Error::Failure(_)), Err(Error::Failure(_)))));
    }
}
