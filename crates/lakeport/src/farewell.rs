//! What this process still owes other machines: sessions of clusters to end, uploads in parts to take back.
//!
//! A run that is given up is dropped, and a drop cannot wait; so what has to be ended elsewhere is ended by a task of the runtime, for
//! which the process waits with [`settled`].

use std::sync::LazyLock;

use tokio::sync::watch;

static OWED: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));

/// Waits until nothing is owed any more. Call it before the runtime ends.
pub async fn settled() {
    // It fails only when the sender is gone, and that one is static.
    let _ = OWED.subscribe().wait_for(|owed| *owed == 0).await;
}

/// Something to be ended elsewhere, for as long as this lives.
#[derive(Debug)]
pub struct Owed(());

impl Owed {
    /// Counts one more.
    #[must_use]
    pub fn one() -> Self {
        OWED.send_modify(|owed| *owed += 1);
        Self(())
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        OWED.send_modify(|owed| *owed = owed.saturating_sub(1));
    }
}
