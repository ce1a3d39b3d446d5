//! What went wrong, in terms a person can act on.
//!
//! One struct for the whole library: a [`Kind`] that decides exit code and advice (see [`crate::advice`]), a message
//! that says what, an ordered context that says where (job, table, file, column), and the chain of causes that says why.
//! Errors are wrapped with the operation that failed, never flattened to text.

use std::error::Error as StdError;
use std::fmt;

/// The result of every fallible function of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Names what kind of failure this is; [`crate::advice`] gives each its code, exit code and help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A broken invariant or a failure nobody foresaw.
    Unexpected,
    /// A command line that contradicts itself or names something unknown.
    Usage,
    /// A configuration file that cannot be read or understood.
    ConfigInvalid,
    /// A key in the configuration that Lakeport does not know.
    UnknownKey,
    /// A secret whose variable, file or command gives nothing.
    SecretMissing,
    /// A named environment or job that the configuration does not have.
    UnknownName,
    /// `hyperd` is not installed or does not start.
    HyperdMissing,
    /// SQL that does not parse or names unknown columns.
    SqlInvalid,
    /// A feature that this build or this target does not have.
    Unsupported,
    /// A table, path or file that is not there.
    SourceMissing,
    /// A source that is there and cannot be read: corrupt, truncated, malformed.
    SourceUnreadable,
    /// A source directory in which no data file lies.
    SourceEmpty,
    /// A table without a single column.
    NoColumns,
    /// Two columns of one name.
    DuplicateColumn,
    /// A column type that the target cannot hold.
    TypeRefused,
    /// A value that does not fit although its column was expected to.
    ValueRefused,
    /// Files of one table whose schemas cannot be merged.
    SchemaConflict,
    /// A column that would lose information and was not accepted as lossy.
    NotExact,
    /// A file the server read and refused.
    FileRefused,
    /// Credentials that were not accepted.
    SignIn,
    /// A right that the signed-in user lacks.
    Forbidden,
    /// A project, site or workspace that does not exist.
    TargetMissing,
    /// A name that is already taken and may not be overwritten.
    TargetExists,
    /// A server that cannot be reached.
    Unreachable,
    /// An answer that did not come in time.
    TimedOut,
    /// A server that asks to slow down.
    Throttled,
    /// A server that failed, or answered with something that is not its API.
    ServerFailed,
    /// A server-side job still running when its deadline passed.
    JobUnfinished,
    /// A lock that another process holds.
    Locked,
    /// A disk, quota or memory limit that was reached.
    OutOfSpace,
    /// A local file that cannot be written.
    WriteFailed,
    /// What arrived is not what left.
    VerifyFailed,
    /// The run was interrupted by the user.
    Interrupted,
}

/// A failure: what, where, why.
pub struct Error {
    kind: Kind,
    message: String,
    operation: &'static str,
    context: Vec<(&'static str, String)>,
    help: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync + 'static>>,
}

impl Error {
    /// Makes an error of this kind with a one-line message in lower case.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), operation: "", context: Vec::new(), help: None, source: None }
    }

    /// Names the operation that failed, as a verb and its object: `"open source"`.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        if self.operation.is_empty() {
            self.operation = operation;
        }
        self
    }

    /// Adds where it happened; outer layers add after inner ones and are shown first.
    #[must_use]
    pub fn at(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        if !self.context.iter().any(|(k, _)| *k == key) {
            self.context.insert(0, (key, value.to_string()));
        }
        self
    }

    /// Replaces the help line of the kind by one that knows this case.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync + 'static>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind, which decides exit code and advice.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The one-line message, without context and causes.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The operation that failed, or an empty text.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Where it happened, outermost first: job, environment, table, file, column.
    #[must_use]
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.context
    }

    /// The value of one context key.
    #[must_use]
    pub fn context_value(&self, key: &str) -> Option<&str> {
        self.context.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str())
    }

    /// The chain of causes, nearest first, each on one line, with repeats left out.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut next: Option<&(dyn StdError + 'static)> = self.source.as_deref().map(|e| e as _);
        while let Some(cause) = next {
            let text = cause.to_string().lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ");
            // Wrappers that print their source inside their own text would show it twice.
            if !causes.iter().any(|shown| shown.contains(&text)) {
                causes.push(text);
            }
            next = cause.source();
        }
        causes
    }

    /// What to do now: this error's own line, else the one of its kind.
    #[must_use]
    pub fn help_line(&self) -> &str {
        self.help.as_deref().unwrap_or(crate::advice::of(self.kind).help)
    }

    /// The stable code, such as `E206`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        crate::advice::of(self.kind).code
    }

    /// The exit code of a process that ends with this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        crate::advice::of(self.kind).exit_code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{:?}] {}", self.code(), self.kind, self.message)?;
        if !self.operation.is_empty() {
            write!(f, " (during {})", self.operation)?;
        }
        for (key, value) in &self.context {
            write!(f, "\n  {key}: {value}")?;
        }
        for cause in self.causes() {
            write!(f, "\n  caused by: {cause}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

/// Turns a foreign error into ours at the place where the operation is known.
pub trait Wrap<T> {
    /// Wraps the error with a kind and a message.
    ///
    /// # Errors
    /// The wrapped error, if there was one.
    fn wrap(self, kind: Kind, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync + 'static>>> Wrap<T> for std::result::Result<T, E> {
    fn wrap(self, kind: Kind, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| {
            let cause = e.into();
            let kind = if is_out_of_space(cause.as_ref()) { Kind::OutOfSpace } else { kind };
            Error::new(kind, message()).because(cause)
        })
    }
}

/// Adds context to an error of ours on its way out.
pub trait Context<T> {
    /// Adds where it happened.
    ///
    /// # Errors
    /// The same error with one more context pair.
    fn at(self, key: &'static str, value: impl fmt::Display) -> Result<T>;
    /// Names the operation that failed, unless an inner layer already did.
    ///
    /// # Errors
    /// The same error, its operation named.
    fn during(self, operation: &'static str) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn at(self, key: &'static str, value: impl fmt::Display) -> Result<T> {
        self.map_err(|e| e.at(key, value))
    }
    fn during(self, operation: &'static str) -> Result<T> {
        self.map_err(|e| e.during(operation))
    }
}

/// Whether "no space left" stands anywhere in a chain; a full disk deserves its own advice wherever it was met.
fn is_out_of_space(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(e) = next {
        if let Some(io) = e.downcast_ref::<std::io::Error>()
            && matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        {
            return true;
        }
        next = e.source();
    }
    let text = error.to_string();
    // hyperd's own words for a full disk and for its memory limit.
    ["No space left on device", "growing the database file failed", "(53100)", "(53S02)"].iter().any(|t| text.contains(t))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_is_shown_outermost_first_and_never_twice() {
        let e = Error::new(Kind::NotExact, "x").at("column", "amount").at("job", "orders").at("job", "inner loses");
        assert_eq!(e.context(), [("job", "orders".to_owned()), ("column", "amount".to_owned())]);
    }

    #[test]
    fn a_full_disk_is_recognised_below_any_wrapper() {
        let io = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let e = Err::<(), _>(io).wrap(Kind::WriteFailed, || "cannot write".into()).unwrap_err();
        assert_eq!(e.kind(), Kind::OutOfSpace);
    }
}
