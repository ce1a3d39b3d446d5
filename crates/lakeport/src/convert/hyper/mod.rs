//! `.hyper`, written by `hyperd`, the engine Tableau itself runs.

pub mod install;
pub mod process;

/// The format.
#[derive(Debug, Default)]
pub struct Hyper;

impl Hyper {
    /// Makes it.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}
