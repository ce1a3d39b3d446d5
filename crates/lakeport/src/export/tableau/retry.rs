//! When a call is repeated, how long is waited before, and the list of it all for the report.

use std::time::{Duration, Instant};

use super::fault::Failed;

/// The pace of repeats and polls; tests make it quick.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// Most times one call is sent.
    pub(super) tries: u32,
    /// The wait before the first repeat; each further one waits twice as long, up to `longest`.
    pub(super) first: Duration,
    /// The longest wait between two tries, unless the server asks for more.
    pub(super) longest: Duration,
    /// What one call and its repeats may take before no further repeat is begun, and what a whole publish may wait.
    pub(super) budget: Duration,
    /// Most times an upload is begun anew.
    pub(super) uploads: u32,
    /// The wait before a job is first asked for; each further one waits 1.4 times as long, up to `slowest_poll`.
    pub(super) first_poll: Duration,
    /// The longest wait between two looks at a job: the cloud counts them (20,000 a day).
    pub(super) slowest_poll: Duration,
    /// How long to look for the outcome of a commit whose answer was lost.
    pub(super) look: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            tries: 6,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            budget: Duration::from_secs(600),
            uploads: 5,
            first_poll: Duration::from_millis(100),
            slowest_poll: Duration::from_secs(30),
            look: Duration::from_secs(300),
        }
    }
}

impl Pace {
    /// The pace that keeps to a budget: no wait, and no look at a lost commit, outlasts it.
    pub(super) fn within(budget: Option<Duration>) -> Self {
        let usual = Self::default();
        let Some(budget) = budget else { return usual };
        Self { budget, look: usual.look.min(budget), longest: usual.longest.min(budget), ..usual }
    }
}

/// Which failures of a call allow to send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It reads, or does no harm when done twice: repeated after everything that may pass.
    Harmless,
    /// It must not be done twice: repeated only when the server certainly did not act.
    OnlyIfNotTaken,
}

/// The repeats of one publish: how many, why, and how much waiting is left.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    notes: Vec<String>,
    waited: Duration,
}

impl Repeats {
    /// Says how long to wait before try number `done + 1`, or that it is time to stop.
    pub(super) fn wait(&mut self, pace: &Pace, begun: Instant, done: u32, what: &str, failed: &Failed) -> Option<Duration> {
        if done >= pace.tries {
            return None;
        }
        let wait = failed.retry_after.unwrap_or_else(|| backoff(pace, done));
        let left = pace.budget.checked_sub(begun.elapsed().max(self.waited))?;
        if wait > left {
            return None;
        }
        self.waited += wait;
        self.note(format!("{what}: {}, repeated after {} ms", failed.reason(), wait.as_millis()));
        Some(wait)
    }

    /// Adds a line.
    pub(super) fn note(&mut self, line: String) {
        tracing::warn!("{line}");
        self.notes.push(line);
    }

    /// The lines so far.
    pub(super) fn into_notes(self) -> Vec<String> {
        self.notes
    }
}

/// The wait before repeat number `done`: doubling, and between half and all of it by chance, so that many clients that
/// failed together do not come back together.
pub(super) fn backoff(pace: &Pace, done: u32) -> Duration {
    let full = pace.first.saturating_mul(2u32.saturating_pow(done.saturating_sub(1))).min(pace.longest);
    let half = full / 2;
    let [chance, ..] = *uuid::Uuid::new_v4().as_bytes();
    half + half * u32::from(chance) / 255
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use crate::export::tableau::fault::How;

    fn throttled(seconds: Option<u64>) -> Failed {
        Failed {
            error: Error::new(Kind::Throttled, ""),
            how: How::Answered { status: 429, code: 429_000 },
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    #[test]
    fn waits_grow_within_bounds() {
        let pace = Pace::default();
        for done in 1..100 {
            let wait = backoff(&pace, done);
            assert!(wait >= pace.first / 2 && wait <= pace.longest, "{done}: {wait:?}");
        }
    }

    #[test]
    fn a_small_budget_bounds_every_wait() {
        let second = Duration::from_secs(1);
        let pace = Pace::within(Some(second));
        assert_eq!((pace.budget, pace.look, pace.longest), (second, second, second));
        assert_eq!(Pace::within(Some(second * 3600)).look, Pace::default().look);
        assert_eq!(Pace::within(None).budget, Pace::default().budget);
    }

    #[test]
    fn tries_and_budget_end_and_the_server_is_heeded() {
        let pace = Pace::default();
        let mut repeats = Repeats::default();
        let now = Instant::now();
        assert_eq!(repeats.wait(&pace, now, 1, "x", &throttled(Some(7))), Some(Duration::from_secs(7)));
        assert_eq!(repeats.wait(&pace, now, pace.tries, "x", &throttled(None)), None);
        assert_eq!(repeats.wait(&pace, now, 1, "x", &throttled(Some(3600))), None);
        assert_eq!(repeats.into_notes().len(), 1);
    }
}
