//! What delta-rs says went wrong, as errors of the house.

use std::error::Error as StdError;

use deltalake_core::DeltaTableError;
use lakeport::error::{Error, Kind};
use lakeport::export::store::{store_error, without_secrets};
use lakeport::source::Location;

/// Turns an error of delta-rs into ours, with the location's secrets taken out.
pub(crate) fn of(e: &DeltaTableError, at: &Location, operation: &'static str) -> Error {
    foreign(e, at, operation)
}

/// The same for any error of its layers.
pub(crate) fn foreign(e: &(dyn StdError + 'static), at: &Location, operation: &'static str) -> Error {
    let mut causes = Vec::new();
    let mut next = Some(e);
    while let Some(cause) = next {
        if let Some(store) = cause.downcast_ref::<object_store::Error>() {
            let otherwise = if at.is_local() { Kind::WriteFailed } else { Kind::ServerFailed };
            return store_error(store, at, operation, otherwise);
        }
        let text = cause.to_string();
        if !causes.iter().any(|c: &String| c.contains(&text)) {
            causes.push(text);
        }
        next = cause.source();
    }
    let text = without_secrets(&causes.join(": "), at);
    let kind = if text.contains("No space left on device") {
        Kind::OutOfSpace
    } else if text.contains("Unsupported") || text.contains("unsupported") || text.contains("not supported") {
        Kind::Unsupported
    } else {
        Kind::SourceUnreadable
    };
    let error = Error::new(kind, format!("the Delta table {} cannot be used", at.url)).because(text).during(operation);
    match kind {
        Kind::Unsupported => error.help("the table needs something of its readers or writers that Lakeport does not do"),
        Kind::SourceUnreadable => error.help("another Delta reader should open it; if none does, its log is damaged"),
        _ => error,
    }
}
