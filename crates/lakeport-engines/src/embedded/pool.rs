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
const SPILLING: usize = 10;
/// Of twenty parts of the pool, those that merges of sorted runs share; what they work on is at most half of what the
/// sorts hold, because a sort reserves each batch twice.
const MERGING: usize = 7;
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

#[derive(Debug, Default)]
struct Used {
    spillers: usize,
    merges: usize,
    /// Bytes reserved by those that fail without them.
    firm: usize,
    /// Bytes reserved by all others.
    soft: usize,
}

impl Used {
    fn bytes(&mut self, class: Class) -> &mut usize {
        if class == Class::Fails { &mut self.firm } else { &mut self.soft }
    }

    fn consumers(&mut self, class: Class) -> Option<&mut usize> {
        match class {
            Class::Spills => Some(&mut self.spillers),
            Class::Merges => Some(&mut self.merges),
            Class::Fails => None,
        }
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

    /// What a reservation may grow by.
    fn free(&self, class: Class, held: usize, used: &Used) -> usize {
        let (parts, consumers) = match class {
            Class::Fails => return self.size.saturating_sub(used.firm.saturating_add(used.soft)),
            Class::Spills => (SPILLING, used.spillers),
            Class::Merges => (MERGING, used.merges),
        };
        // What firm reservations took beyond their own part is shared out no more.
        let lent = used.firm.saturating_sub(self.size / PARTS * (PARTS - SPILLING - MERGING));
        let part = (self.size / PARTS * parts).saturating_sub(lent);
        (part / consumers.max(1)).saturating_sub(held)
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
        if let Some(count) = self.used().consumers(Class::of(consumer)) {
            *count += 1;
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if let Some(count) = self.used().consumers(Class::of(consumer)) {
            *count = count.saturating_sub(1);
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        *self.used().bytes(Class::of(reservation.consumer())) += additional;
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        let mut used = self.used();
        let bytes = used.bytes(Class::of(reservation.consumer()));
        *bytes = bytes.saturating_sub(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let class = Class::of(reservation.consumer());
        let mut used = self.used();
        let free = self.free(class, reservation.size(), &used);
        if additional > free {
            return Err(self.refused(reservation, additional, free));
        }
        *used.bytes(class) += additional;
        Ok(())
    }

    fn reserved(&self) -> usize {
        let used = self.used();
        used.soft + used.firm
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
        sort.try_grow(250).unwrap();
        assert!(sort.try_grow(1).is_err(), "half of the spillers' part is the other's");
        drop(other);
        sort.try_grow(250).unwrap();
        let merge = MemoryConsumer::new("ExternalSorterMerge[0]").register(&pool);
        merge.try_grow(350).unwrap();
        assert!(merge.try_grow(1).is_err());
        let firm = MemoryConsumer::new("join").register(&pool);
        firm.try_grow(150).unwrap();
        assert!(firm.try_grow(1).unwrap_err().to_string().contains("join holds 150 B and needs 1 B more"));
        assert_eq!(pool.reserved(), 1000);
    }
}
