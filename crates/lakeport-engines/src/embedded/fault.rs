//! Foreign errors in our words: what kind of failure it is, with the cause kept.

use std::error::Error as StdError;

use datafusion::error::DataFusionError;
use lakeport::error::{Error, Kind};
use lakeport::export::store::status_of;
use parquet::errors::ParquetError;

/// A failure of the store itself.
pub(super) fn store(error: object_store::Error) -> Error {
    let judged = judged(&error);
    told(judged, error)
}

/// A failure that may be the store's: then told as such, otherwise by these words.
pub(super) fn reading(error: impl StdError + Send + Sync + 'static, kind: Kind, message: impl Into<String>) -> Error {
    match of_store(&error).map(judged) {
        Some(judged) => told(judged, error),
        None => Error::new(kind, message).because(error),
    }
}

/// The failure of a store that an error comes from, however deep it stands.
pub(super) fn of_store<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a object_store::Error> {
    let mut next = Some(error);
    while let Some(e) = next {
        if let Some(found) = e.downcast_ref::<object_store::Error>() {
            return Some(found);
        }
        // An I/O error leaves what it was made of out of its chain.
        next = match e.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => e.source(),
        };
    }
    None
}

fn judged(error: &object_store::Error) -> (Kind, &'static str) {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => (Kind::SourceMissing, "a file is not there"),
        E::PermissionDenied { .. } => (Kind::Forbidden, "the store does not permit reading"),
        E::Unauthenticated { .. } => (Kind::SignIn, "the store did not accept the credentials"),
        E::Generic { store: "LocalFileSystem", .. } if denied(error) => (Kind::Forbidden, "the file may not be read"),
        E::Generic { store: "LocalFileSystem", .. } => (Kind::SourceUnreadable, "the file cannot be read"),
        E::Generic { .. } => match status_of(error) {
            Some(404) => (Kind::SourceMissing, "the bucket or container is not there"),
            Some(401) => (Kind::SignIn, "the store did not accept the credentials"),
            Some(403) => (Kind::Forbidden, "the store does not permit reading"),
            Some(_) => (Kind::ServerFailed, "the object store failed"),
            None => (Kind::Unreachable, "the object store cannot be reached"),
        },
        _ => (Kind::SourceUnreadable, "the store cannot be read"),
    }
}

fn told((kind, message): (Kind, &'static str), error: impl StdError + Send + Sync + 'static) -> Error {
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
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
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
    let error = match ours(error) {
        Ok(ours) => return ours,
        Err(error) => error,
    };
    if let Some(judged) = of_store(&error).map(judged) {
        return told(judged, error);
    }
    let root = error.find_root();
    let (kind, message) = match root {
        DataFusionError::ResourcesExhausted(_) => {
            return Error::new(Kind::OutOfSpace, "the query needs more memory than it may use")
                .help("raise --memory, run fewer jobs side by side, or make the query smaller: fewer columns, a condition, an aggregate before a join")
                .because(error);
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

/// An error of ours that travelled through the engine, taken out of what it was wrapped in.
fn ours(error: DataFusionError) -> Result<Error, DataFusionError> {
    match error {
        DataFusionError::External(e) => e.downcast::<Error>().map(|e| *e).map_err(DataFusionError::External),
        DataFusionError::ParquetError(e) => match *e {
            ParquetError::External(e) => {
                e.downcast::<Error>().map(|e| *e).map_err(|e| DataFusionError::ParquetError(Box::new(ParquetError::External(e))))
            }
            other => Err(DataFusionError::ParquetError(Box::new(other))),
        },
        DataFusionError::Context(words, e) => ours(*e).map_err(|e| DataFusionError::Context(words, Box::new(e))),
        other => Err(other),
    }
}

/// Whether an Arrow error comes from the query's arithmetic and casts, not from the file.
fn computing(error: &arrow::error::ArrowError) -> bool {
    use arrow::error::ArrowError as A;
    matches!(error, A::CastError(_) | A::ComputeError(_) | A::DivideByZero | A::ArithmeticOverflow(_))
}

fn is_full(error: &DataFusionError) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
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

#[cfg(test)]
mod tests {
    use super::*;

    type Boxed = Box<dyn StdError + Send + Sync>;

    fn generic(store: &'static str, source: impl Into<Boxed>) -> object_store::Error {
        object_store::Error::Generic { store, source: source.into() }
    }

    /// The ways on which a store's failure comes to us.
    fn ways(fails: impl Fn() -> object_store::Error) -> Vec<Error> {
        let parquet = || ParquetError::External(Box::new(fails()));
        let footer = ParquetError::External(Box::new(DataFusionError::ObjectStore(Box::new(fails()))));
        let data = [
            DataFusionError::ObjectStore(Box::new(fails())),
            DataFusionError::ParquetError(Box::new(parquet())),
            DataFusionError::ParquetError(Box::new(footer)),
            DataFusionError::ParquetError(Box::new(parquet())).context("reading"),
            DataFusionError::External(Box::new(parquet())),
            DataFusionError::ArrowError(Box::new(arrow::error::ArrowError::ExternalError(Box::new(parquet()))), None),
            DataFusionError::Shared(std::sync::Arc::new(DataFusionError::ParquetError(Box::new(parquet())))),
        ];
        let text = reading(std::io::Error::other(fails()), Kind::SourceUnreadable, "the file cannot be read");
        data.into_iter().map(rows).chain([text, store(fails())]).collect()
    }

    #[test]
    fn a_failure_of_the_store_is_told_as_such_on_every_way() {
        let path = || "t/1.parquet".to_owned();
        let status = |status: &str| generic("S3", format!("Server returned non-2xx status code: {status}: "));
        let kinds = |fails: &dyn Fn() -> object_store::Error, kind: Kind| {
            for error in ways(fails) {
                assert_eq!(error.kind(), kind, "{error:?}");
            }
        };
        let denied = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        kinds(&|| object_store::Error::PermissionDenied { path: path(), source: "403".into() }, Kind::Forbidden);
        kinds(&|| object_store::Error::NotFound { path: path(), source: "404".into() }, Kind::SourceMissing);
        kinds(&|| status("500"), Kind::ServerFailed);
        kinds(&|| status("403"), Kind::Forbidden);
        kinds(&|| generic("S3", std::io::Error::from(std::io::ErrorKind::ConnectionReset)), Kind::Unreachable);
        // A local file without the right to read.
        kinds(&|| generic("LocalFileSystem", denied()), Kind::Forbidden);
        kinds(&|| generic("LocalFileSystem", std::io::Error::other("gone")), Kind::SourceUnreadable);
    }

    #[test]
    fn an_error_of_ours_comes_through_the_engine_as_it_was() {
        let ours = || Box::new(Error::new(Kind::ValueRefused, "a value").at("column", "at"));
        for error in [
            DataFusionError::External(ours()),
            DataFusionError::ParquetError(Box::new(ParquetError::External(ours()))).context("reading"),
        ] {
            let error = rows(error);
            assert_eq!((error.kind(), error.context_value("column")), (Kind::ValueRefused, Some("at")), "{error:?}");
        }
    }
}
