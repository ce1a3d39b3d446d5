//! Foreign errors in our words: what kind of failure it is, with the cause kept.

use datafusion::error::DataFusionError;
use lakeport::error::{Error, Kind};
use lakeport::export::store::status_of;

/// A failure of the store itself.
pub(super) fn store(error: object_store::Error) -> Error {
    use object_store::Error as E;
    let (kind, message) = match &error {
        E::NotFound { .. } => (Kind::SourceMissing, "a file is not there"),
        E::PermissionDenied { .. } => (Kind::Forbidden, "the store does not permit reading"),
        E::Unauthenticated { .. } => (Kind::SignIn, "the store did not accept the credentials"),
        E::Generic { store: "LocalFileSystem", .. } if denied(&error) => (Kind::Forbidden, "the file may not be read"),
        E::Generic { store: "LocalFileSystem", .. } => (Kind::SourceUnreadable, "the file cannot be read"),
        E::Generic { .. } => match status_of(&error) {
            Some(404) => (Kind::SourceMissing, "the bucket or container is not there"),
            Some(401) => (Kind::SignIn, "the store did not accept the credentials"),
            Some(403) => (Kind::Forbidden, "the store does not permit reading"),
            Some(_) => (Kind::ServerFailed, "the object store failed"),
            None => (Kind::Unreachable, "the object store cannot be reached"),
        },
        _ => (Kind::SourceUnreadable, "the store cannot be read"),
    };
    let error = Error::new(kind, message).because(error);
    match kind {
        Kind::Forbidden => error.help("grant read and list rights on this path to the user or role Lakeport runs as"),
        Kind::SignIn => {
            error.help("check the credentials in the environment (AWS_…, AZURE_…, GOOGLE_…) and the options of [env]")
        }
        _ => error,
    }
}

fn denied(error: &object_store::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = next {
        if e.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied) {
            return true;
        }
        next = e.source();
    }
    false
}

/// A path no store accepts.
pub(super) fn path(shown: &str, error: object_store::path::Error) -> Error {
    Error::new(Kind::SourceMissing, format!("`{shown}` is no path")).because(error)
}

/// A failure while the query is understood.
pub(super) fn sql(error: DataFusionError) -> Error {
    let said = error.strip_backtrace();
    if let Some(name) = named_twice(&said) {
        let message = format!("two columns of the query are called `{name}`");
        return Error::new(Kind::DuplicateColumn, message).at("column", name).help("rename one of them in SQL");
    }
    let help = suggestion(&said);
    let error = plain(error, Kind::SqlInvalid, "the SQL is not valid");
    match help {
        Some(name) if error.kind() == Kind::SqlInvalid => error.help(format!("did you mean `{name}`?")),
        _ => error,
    }
}

/// The name of which DataFusion says that two expressions of one SELECT have it.
fn named_twice(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("Projections require unique expression names but the expression \"")?;
    let expression = rest.split_once("\" at position")?.0;
    let name =
        expression.rsplit_once(" AS ").map_or_else(|| expression.rsplit('.').next().unwrap_or(expression), |(_, name)| name);
    Some(name.trim_matches('"').to_owned())
}

/// A failure while rows are read.
pub(super) fn rows(error: DataFusionError) -> Error {
    plain(error, Kind::SourceUnreadable, "the rows cannot be read")
}

fn plain(error: DataFusionError, kind: Kind, message: &str) -> Error {
    let root = error.find_root();
    let (kind, message) = match root {
        DataFusionError::ResourcesExhausted(_) => {
            return Error::new(Kind::OutOfSpace, "the query needs more memory than it may use")
                .help("raise --memory, run fewer jobs side by side, or make the query smaller: fewer columns, a condition, an aggregate before a join")
                .because(error);
        }
        DataFusionError::ObjectStore(_) => {
            if let DataFusionError::ObjectStore(e) = error {
                return store(*e);
            }
            (Kind::SourceUnreadable, "a file cannot be read")
        }
        DataFusionError::External(e) if e.is::<Error>() => {
            // An error of ours that travelled through the engine.
            if let DataFusionError::External(e) = error {
                return match e.downcast::<Error>() {
                    Ok(ours) => *ours,
                    Err(other) => Error::new(kind, message).because(other),
                };
            }
            (kind, message)
        }
        DataFusionError::Internal(_) => (Kind::Unexpected, "the engine met a state it does not know"),
        DataFusionError::ArrowError(e, _) if computing(e) => (Kind::ValueRefused, "a value cannot be computed"),
        DataFusionError::Execution(_) if kind == Kind::SourceUnreadable => (Kind::ValueRefused, "a value cannot be computed"),
        _ => (kind, message),
    };
    let full = is_full(&error);
    if full {
        return Error::new(Kind::OutOfSpace, "no space left for spilling")
            .help("free space, or point TMPDIR at a larger disk")
            .because(error);
    }
    Error::new(kind, message).because(error)
}

/// Whether an Arrow error comes from the query's arithmetic and casts, not from the file.
fn computing(error: &arrow::error::ArrowError) -> bool {
    use arrow::error::ArrowError as A;
    matches!(error, A::CastError(_) | A::ComputeError(_) | A::DivideByZero | A::ArithmeticOverflow(_))
}

fn is_full(error: &DataFusionError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = next {
        if let Some(io) = e.downcast_ref::<std::io::Error>()
            && matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        {
            return true;
        }
        next = e.source();
    }
    error.to_string().contains("No space left on device")
}

/// The name DataFusion would have expected, from its own "Did you mean 'x'?".
fn suggestion(said: &str) -> Option<String> {
    let rest = said.split_once("Did you mean '")?.1;
    let name = rest.split_once('\'')?.0;
    Some(name.strip_prefix("src.").unwrap_or(name).to_owned())
}
