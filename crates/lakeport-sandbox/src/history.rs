//! What was called: the last calls with what became of them.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::fault::{Call, Fault};
use crate::store::held;

/// How many calls are remembered.
const KEPT: usize = 1000;

/// The last calls of one sandbox.
#[derive(Debug, Default)]
pub(crate) struct History {
    calls: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    count: u64,
    last: VecDeque<Entry>,
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) call: Call,
    /// What struck it.
    pub(crate) fault: Option<String>,
    /// What was answered, as far as the sandbox knows; none while it is under way, and for ever when the client left.
    pub(crate) status: Option<u16>,
    pub(crate) took: Option<Duration>,
    begun: Instant,
}

impl History {
    /// Enters a call and gives its number.
    pub(crate) fn begin(&self, method: &str, target: &str, call: Call, fault: Option<&Fault>) -> u64 {
        let mut log = held(&self.calls);
        log.count += 1;
        let entry = Entry {
            number: log.count,
            at: Utc::now(),
            method: method.to_owned(),
            target: target.to_owned(),
            call,
            fault: fault.map(Fault::to_string),
            status: None,
            took: None,
            begun: Instant::now(),
        };
        if log.last.len() == KEPT {
            log.last.pop_front();
        }
        log.last.push_back(entry);
        log.count
    }

    /// Enters what was answered.
    pub(crate) fn end(&self, number: u64, status: Option<u16>) {
        // It is near the end, unless a thousand calls came meanwhile.
        if let Some(entry) = held(&self.calls).last.iter_mut().rev().find(|e| e.number == number) {
            entry.status = status;
            entry.took = Some(entry.begun.elapsed());
        }
    }

    /// The last calls, oldest first, and how many there ever were.
    pub(crate) fn list(&self) -> (Vec<Entry>, u64) {
        let log = held(&self.calls);
        (log.last.iter().cloned().collect(), log.count)
    }

    /// Forgets the calls; their numbers go on.
    pub(crate) fn clear(&self) {
        held(&self.calls).last.clear();
    }
}

impl Entry {
    /// As `GET /sandbox/calls` shows it.
    pub(crate) fn json(&self) -> Value {
        json!({
            "number": self.number,
            "at": self.at.to_rfc3339_opts(SecondsFormat::Millis, true),
            "method": self.method,
            "path": self.target,
            "kind": self.call.word(),
            "status": self.status,
            "milliseconds": self.took.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            "fault": self.fault,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_calls_are_kept() {
        let history = History::default();
        for _ in 0..KEPT + 10 {
            history.begin("GET", "/", Call::Any, None);
        }
        history.end(1, Some(200));
        history.end(1010, Some(204));
        let (calls, count) = history.list();
        assert_eq!((calls.len(), count, calls[0].number), (KEPT, 1010, 11));
        assert_eq!(calls[KEPT - 1].status, Some(204));
    }
}
