//! The streamed route: partitions read side by side, one converter, a queue bounded in bytes between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arrow::array::RecordBatch;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{blocking, changed_map};
use crate::convert::Writer;
use crate::convert::parts::Parts;
use crate::error::{Error, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::report::{PartitionReport, TableReport};
use crate::source::Partition;
use crate::types::Mapping;
use crate::types::shape::Shaper;
use crate::verify::{Accumulator, Verify};

/// One permit of the queue's budget.
const PERMIT: u64 = 1024;

/// A batch with the room it takes in the queue.
type Queued = (Result<RecordBatch>, Option<OwnedSemaphorePermit>);

/// Takes the shaped batches of one table.
pub(super) trait Sink: Send + 'static {
    /// Takes one.
    fn take(&mut self, batch: &RecordBatch) -> Result<()>;
}

/// One table of a file.
pub(super) struct OfTable {
    /// The file.
    pub(super) writer: Box<dyn Writer>,
    /// The table's number.
    pub(super) table: usize,
}

impl Sink for OfTable {
    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(self.table, batch)
    }
}

impl Sink for Parts {
    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        self.write(batch)
    }
}

/// Reads all partitions, shapes their batches and hands them to the sink, which comes back.
pub(super) async fn stream<S: Sink>(
    mut sink: S,
    mapping: Mapping,
    partitions: Vec<Partition>,
    verify: Verify,
    limits: &Limits,
    done: Arc<AtomicU64>,
) -> Result<(S, TableReport)> {
    let capacity = u32::try_from(limits.queue / PERMIT).unwrap_or(u32::MAX >> 3).max(1);
    let room = Arc::new(Semaphore::new(capacity as usize));
    let (queue, mut batches) = mpsc::channel::<Queued>(1024);
    // Aborted with the set, so that a run given up leaves no reader behind.
    let mut readers = tokio::task::JoinSet::new();
    for partition in partitions {
        readers.spawn(read(partition, queue.clone(), Arc::clone(&room), capacity));
    }
    drop(queue);

    let converted = blocking(move || {
        let mut shaper = Shaper::new(&mapping);
        let mut left = Accumulator::new(&mapping, verify);
        let mut rows = 0;
        while let Some((batch, permit)) = batches.blocking_recv() {
            let batch = batch?;
            shaper.shape(&batch, &mut |shaped| {
                left.add(&shaped);
                rows += shaped.num_rows() as u64;
                done.fetch_add(shaped.num_rows() as u64, Ordering::Relaxed);
                sink.take(&shaped)
            })?;
            drop(permit);
        }
        let report = TableReport {
            table: mapping.table,
            rows,
            changed_values: changed_map(shaper.changed()),
            partitions: Vec::new(),
            left: (verify > Verify::None).then(|| left.finish()),
            arrived: None,
        };
        Ok((sink, report))
    });
    let (sink, mut report) = converted.await?;
    while let Some(read) = readers.join_next().await {
        report.partitions.push(read.wrap(Kind::Unexpected, || "a partition's reader panicked".into())?);
    }
    report.partitions.sort_by(|a, b| a.name.len().cmp(&b.name.len()).then_with(|| a.name.cmp(&b.name)));
    let read: u64 = report.partitions.iter().map(|p| p.rows).sum();
    // The queue closes when every reader is done; a reader that died without a word must not pass as the end of data.
    if read != report.rows {
        return Err(Error::new(Kind::Unexpected, "rows were lost between reading and converting")
            .because(format!("{read} rows were read, {} were converted", report.rows)));
    }
    Ok((sink, report))
}

/// Reads one partition into the queue until its end, an error, or nobody listens.
async fn read(partition: Partition, queue: mpsc::Sender<Queued>, room: Arc<Semaphore>, capacity: u32) -> PartitionReport {
    let Partition { name, mut stream } = partition;
    let began = Instant::now();
    let (mut rows, mut bytes) = (0, 0);
    while let Some(batch) = stream.next().await {
        let size = batch.as_ref().map_or(0, |b| b.get_array_memory_size() as u64);
        // A batch larger than the whole queue still passes, alone.
        let permits = u32::try_from(size / PERMIT).unwrap_or(u32::MAX).clamp(1, capacity);
        let permit = Arc::clone(&room).acquire_many_owned(permits).await.ok();
        let failed = batch.is_err();
        if let Ok(batch) = &batch {
            rows += batch.num_rows() as u64;
            bytes += size;
        }
        if queue.send((batch, permit)).await.is_err() || failed {
            break;
        }
    }
    PartitionReport { name, rows, bytes, seconds: began.elapsed().as_secs_f64() }
}
