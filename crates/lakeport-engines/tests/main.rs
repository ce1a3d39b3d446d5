//! What the engines promise, on real files.

#[path = "embedded/bad_input.rs"]
mod bad_input;
#[path = "embedded/lake.rs"]
mod lake;
#[path = "embedded/layouts.rs"]
mod layouts;
#[path = "embedded/limits.rs"]
mod limits;
#[path = "embedded/plain.rs"]
mod plain;
#[path = "embedded/sql.rs"]
mod sql;
#[path = "embedded/text.rs"]
mod text;
