//! Batches that a thread makes, a little ahead of whoever takes them.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use arrow::array::RecordBatch;

use super::Batches;
use crate::error::{Error, Kind, Result};

/// Batches that wait to be taken.
const AHEAD: usize = 2;

/// Takes each batch as it is made.
pub(in crate::convert) type Send<'a> = &'a mut dyn FnMut(RecordBatch) -> Result<()>;

/// Has a thread make batches; it ends when nobody takes them, and an error of its own is the last that comes.
pub(in crate::convert) fn made_ahead(make: impl FnOnce(Send<'_>) -> Result<()> + std::marker::Send + 'static) -> Batches {
    let (queue, batches) = sync_channel(AHEAD);
    let thread = std::thread::spawn(move || {
        let mut send = |batch| queue.send(Ok(batch)).map_err(|_| Error::new(Kind::Unexpected, "nobody reads"));
        if let Err(e) = make(&mut send) {
            // A reader that is gone needs no reason.
            let _ = queue.send(Err(e));
        }
    });
    Box::new(Ahead { batches, thread: Some(thread) })
}

struct Ahead {
    batches: Receiver<Result<RecordBatch>>,
    thread: Option<JoinHandle<()>>,
}

impl Iterator for Ahead {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(batch) = self.batches.recv() {
            return Some(batch);
        }
        // A thread that broke down closes the queue as one does that has come to the end.
        let broken = self.thread.take()?.join().is_err();
        broken.then(|| Err(Error::new(Kind::SourceUnreadable, "the reader of the file broke down")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_breaks_down_is_no_end() {
        let mut batches = made_ahead(|_| panic!("as if a file were damaged"));
        assert_eq!(batches.next().unwrap().unwrap_err().kind(), Kind::SourceUnreadable);
        assert!(batches.next().is_none() && made_ahead(|_| Ok(())).next().is_none());
    }
}
