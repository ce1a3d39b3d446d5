//! What to do: `lakeport.toml`, its environments and jobs, precedence, and secrets that never show.

pub mod secret;

pub use secret::Secret;
