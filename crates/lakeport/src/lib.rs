//! Lakeport publishes tables of a data lake to the tools people look at.
//!
//! The data's way is the order of the modules: a [`source`] is opened by an engine, [`types`] says what each column becomes,
//! [`convert`] writes one finished file, [`export`] takes it to where people look, [`verify`] compares what left with what
//! arrived. [`plan`] and [`run`] are the only loop; [`config`] says what to do, [`report`] what was done.
//!
//! The data never leaves Arrow between the lake and the target format, memory stays bounded whatever the size of a
//! partition, no value changes without being named, and every publish is verified and can be retried.

pub mod advice;
pub mod config;
pub mod convert;
pub mod error;
pub mod export;
pub mod farewell;
#[doc(hidden)]
pub mod fuzzing;
mod lakeport;
pub mod limits;
mod nearest;
pub mod plan;
pub mod report;
pub mod run;
pub mod source;
pub mod types;
pub mod verify;

pub use error::{Error, Kind, Result};
pub use lakeport::Lakeport;
pub use limits::Limits;
pub use nearest::nearest;
