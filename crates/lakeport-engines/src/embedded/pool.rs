//! The memory of one query, shared out so that what cannot spill still finds room.
//!
//! DataFusion's own fair pool lets sorts and aggregates fill it to the brim; the step that merges their spilled runs then
//! finds nothing left and the query fails although it could have spilled. Here what can spill shares a part of the pool
//! fairly, merges share another, and the rest is only for what would fail.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use lakeport::limits::show_size;

/// Of twenty parts of the pool, those that spilling steps share.
const SPILLING: usize = 7;
/// Of twenty parts of the pool, those that merges of sorted runs share: more than the sorts, because what a sort holds is
/// merged beside itself, with a batch or two of each run that are drained but not yet let go.
const MERGING: usize = 11;
const PARTS: usize = 20;

/// How DataFusion calls the merges: they take all they are given and work with less as well.
const MERGE: &str = "ExternalSorterMerge";

/// What becomes of a step that gets no more memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// It writes to disk and goes on.
    Spills,
    /// It merges fewer runs at a time.
    Merges,
    /// It fails.
    Fails,
}

impl Class {
    fn of(consumer: &MemoryConsumer) -> Self {
        if consumer.can_spill() {
            Self::Spills
        } else if consumer.name().starts_with(MERGE) {
            Self::Merges
        } else {
            Self::Fails
        }
    }
}

/// A memory pool of fixed size.
#[derive(Debug)]
pub(super) struct Pool {
    size: usize,
    used: Mutex<Used>,
}

/// How many there are of a class, and what they hold together.
#[derive(Debug, Default, Clone, Copy)]
struct Held {
    consumers: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Used {
    spilling: Held,
    merging: Held,
    failing: Held,
}

impl Used {
    fn of(&mut self, class: Class) -> &mut Held {
        match class {
            Class::Spills => &mut self.spilling,
            Class::Merges => &mut self.merging,
            Class::Fails => &mut self.failing,
        }
    }

    fn bytes(&self) -> usize {
        self.spilling.bytes + self.merging.bytes + self.failing.bytes
    }
}

impl Pool {
    pub(super) fn new(size: usize) -> Self {
        Self { size, used: Mutex::default() }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        // Plain counters: whoever panicked left them consistent.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many of the twenty parts, in bytes.
    fn part(&self, parts: usize) -> usize {
        self.size / PARTS * parts
    }

    /// What a reservation that holds so much may grow by.
    fn free(&self, class: Class, reserved: usize, used: &Used) -> usize {
        let left = self.size.saturating_sub(used.bytes());
        // What others took beyond their own part is not the sorts' any more; merges keep theirs, for they have to end.
        let lent = used.failing.bytes.saturating_sub(self.part(PARTS - SPILLING - MERGING));
        let (part, held, sharers) = match class {
            Class::Fails => return left,
            // A merge outlives the sort it came from; no sort may hold what would then be too much for its own merge.
            Class::Spills => {
                let sharers = used.spilling.consumers.max(used.merging.consumers);
                (self.part(SPILLING).saturating_sub(lent), used.spilling, sharers)
            }
            Class::Merges => (self.part(MERGING), used.merging, used.merging.consumers),
        };
        let share = (part / sharers.max(1)).saturating_sub(reserved);
        share.min(part.saturating_sub(held.bytes)).min(left)
    }

    fn refused(&self, reservation: &MemoryReservation, more: usize, free: usize) -> DataFusionError {
        let show = |bytes| show_size(u64::try_from(bytes).unwrap_or(u64::MAX));
        DataFusionError::ResourcesExhausted(format!(
            "{} holds {} and needs {} more, {} of {} are free for it",
            reservation.consumer().name(),
            show(reservation.size()),
            show(more),
            show(free),
            show(self.size)
        ))
    }
}

impl MemoryPool for Pool {
    fn name(&self) -> &str {
        "lakeport"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.used().of(Class::of(consumer)).consumers += 1;
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        let mut used = self.used();
        let held = used.of(Class::of(consumer));
        held.consumers = held.consumers.saturating_sub(1);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used().of(Class::of(reservation.consumer())).bytes += additional;
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        let mut used = self.used();
        let held = used.of(Class::of(reservation.consumer()));
        held.bytes = held.bytes.saturating_sub(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let class = Class::of(reservation.consumer());
        let mut used = self.used();
        let free = self.free(class, reservation.size(), &used);
        if additional > free {
            return Err(self.refused(reservation, additional, free));
        }
        used.of(class).bytes += additional;
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.used().bytes()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.size)
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lakeport(pool_size: {})", self.size)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_cannot_spill_finds_room_beside_full_spillers() {
        let pool: Arc<dyn MemoryPool> = Arc::new(Pool::new(1000));
        let sort = MemoryConsumer::new("sort").with_can_spill(true).register(&pool);
        let other = MemoryConsumer::new("other").with_can_spill(true).register(&pool);
        sort.try_grow(175).unwrap();
        assert!(sort.try_grow(1).is_err(), "half of the spillers' part is the other's");
        drop(other);
        sort.try_grow(175).unwrap();
        let merge = MemoryConsumer::new("ExternalSorterMerge[0]").register(&pool);
        merge.try_grow(550).unwrap();
        assert!(merge.try_grow(1).is_err());
        let firm = MemoryConsumer::new("join").register(&pool);
        firm.try_grow(100).unwrap();
        assert!(firm.try_grow(1).unwrap_err().to_string().contains("join holds 100 B and needs 1 B more"));
        assert_eq!(pool.reserved(), 1000);
    }

    #[test]
    fn a_sort_holds_no_more_than_its_merge_can_take() {
        let pool: Arc<dyn MemoryPool> = Arc::new(Pool::new(1000));
        let merges = [0, 1].map(|part| MemoryConsumer::new(format!("ExternalSorterMerge[{part}]")).register(&pool));
        let sort = MemoryConsumer::new("sort").with_can_spill(true).register(&pool);
        assert!(sort.try_grow(176).is_err(), "two merges are under way, whatever became of their sorts");
        sort.try_grow(175).unwrap();
        let firm = MemoryConsumer::new("join").register(&pool);
        firm.try_grow(250).unwrap();
        merges[0].try_grow(275).unwrap();
        merges[1].try_grow(275).unwrap();
        assert!(sort.try_grow(1).is_err());
    }
}
