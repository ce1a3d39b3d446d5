//! The engines of Lakeport: what runs a query over a lake and hands out record batches.
//!
//! They live apart from the library because they carry the heavy dependencies: `lakeport` itself builds without them.

pub mod embedded;
mod engines;
pub mod spark;

pub use engines::Engines;
