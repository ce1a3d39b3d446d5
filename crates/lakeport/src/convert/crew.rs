//! Threads that work side by side; results come back in the order in which the work was given.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, RecordBatch};

use crate::error::{Error, Kind, Result};

/// A crew at one kind of work. It goes home when dropped.
pub(super) struct Crew<W, R> {
    work: SyncSender<(W, SyncSender<R>)>,
    waiting: VecDeque<Receiver<R>>,
    most: usize,
}

impl<W: Send + 'static, R: Send + 'static> Crew<W, R> {
    /// Starts `threads` threads; `hand` makes what each of them works with.
    pub(super) fn new<F: FnMut(W) -> R + Send + 'static>(threads: usize, hand: impl Fn() -> F) -> Self {
        let threads = threads.max(1);
        let (work, jobs) = sync_channel::<(W, SyncSender<R>)>(threads);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..threads {
            let (jobs, mut hand) = (Arc::clone(&jobs), hand());
            std::thread::spawn(move || {
                loop {
                    let job = jobs.lock().map(|jobs| jobs.recv());
                    let Ok(Ok((work, done))) = job else { return };
                    // Whoever no longer waits has said why.
                    let _ = done.send(hand(work));
                }
            });
        }
        // One piece in each hand, and one ready for whoever is done first.
        Self { work, waiting: VecDeque::new(), most: threads + 1 }
    }

    /// Gives a piece of work; the oldest result comes back once enough is under way.
    ///
    /// # Errors
    /// `Unexpected` when a thread panicked.
    pub(super) fn give(&mut self, work: W) -> Result<Option<R>> {
        let (done, result) = sync_channel(1);
        self.work.send((work, done)).map_err(|_| gone())?;
        self.waiting.push_back(result);
        if self.waiting.len() > self.most { self.oldest() } else { Ok(None) }
    }

    /// Waits for the oldest result; `None` when nothing is under way.
    ///
    /// # Errors
    /// `Unexpected` when a thread panicked.
    pub(super) fn oldest(&mut self) -> Result<Option<R>> {
        self.waiting.pop_front().map(|result| result.recv().map_err(|_| gone())).transpose()
    }
}

fn gone() -> Error {
    Error::new(Kind::Unexpected, "a thread that encodes panicked")
}

/// How many rows of a batch make a slice of about so many bytes; one at least.
pub(super) fn slice_rows(batch: &RecordBatch, bytes: usize) -> usize {
    let size: usize = batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum();
    (batch.num_rows() * bytes / size.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_work() {
        let mut crew = Crew::new(4, || {
            |n: u64| {
                std::thread::sleep(std::time::Duration::from_millis(n % 7));
                n
            }
        });
        let mut results = Vec::new();
        for n in 0..100 {
            results.extend(crew.give(n).unwrap());
        }
        while let Some(n) = crew.oldest().unwrap() {
            results.push(n);
        }
        assert_eq!(results, (0..100).collect::<Vec<_>>());
    }
}
