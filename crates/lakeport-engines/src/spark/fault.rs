//! What Spark says when it refuses, as Lakeport's errors.

use std::collections::HashMap;

use lakeport::error::{Error, Kind};
use prost::Message;
use tonic::{Code, Status};

/// `google.rpc.Status`, as it lies in the trailer `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Packed>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Packed {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes, tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

/// The id under which the server keeps the whole message.
pub(super) fn error_id(status: &Status) -> Option<String> {
    let details = RpcStatus::decode(status.details()).ok()?.details;
    let info = details.into_iter().find(|d| d.type_url.ends_with("google.rpc.ErrorInfo"))?;
    ErrorInfo::decode(info.value.as_slice()).ok()?.metadata.remove("errorId")
}

/// Whether the same call may succeed when made again: the connection broke, or the server said so.
pub(super) fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        // What a broken HTTP/2 stream looks like from here; Spark's own errors carry details.
        Code::Unknown | Code::Internal | Code::Cancelled | Code::DataLoss => {
            status.details().is_empty() && (status.message().contains("h2") || status.message().contains("transport"))
        }
        _ => false,
    }
}

/// Whether the server does not know the operation: it never began, or is gone.
pub(super) fn is_unknown_operation(status: &Status) -> bool {
    status.message().contains("INVALID_HANDLE.OPERATION_NOT_FOUND")
}

/// Whether the server has the operation already.
pub(super) fn is_known_operation(status: &Status) -> bool {
    status.message().contains("INVALID_HANDLE.OPERATION_ALREADY_EXISTS")
}

/// The error of a refused call; `whole` is the full message where it could be fetched.
pub(super) fn error(status: &Status, whole: Option<&str>, operation: &'static str) -> Error {
    let text = whole.unwrap_or_else(|| status.message());
    let says = |classes: &[&str]| classes.iter().any(|c| text.contains(c));
    let (kind, message) = match status.code() {
        Code::Unauthenticated => (Kind::SignIn, "Spark did not accept the credentials"),
        Code::PermissionDenied => (Kind::Forbidden, "Spark does not permit this"),
        Code::DeadlineExceeded => (Kind::TimedOut, "Spark did not answer in time"),
        Code::Unavailable => (Kind::Unreachable, "the Spark server cannot be reached"),
        _ if says(&["TABLE_OR_VIEW_NOT_FOUND", "PATH_NOT_FOUND", "SCHEMA_NOT_FOUND", "FAILED_READ_FILE.FILE_NOT_EXIST"]) => {
            (Kind::SourceMissing, "Spark does not find the table")
        }
        _ if says(&[
            "PARSE_SYNTAX_ERROR",
            "UNRESOLVED_",
            "PARSE_EMPTY_STATEMENT",
            "DATATYPE_MISMATCH",
            "MISSING_AGGREGATION",
        ]) =>
        {
            (Kind::SqlInvalid, "Spark does not accept the SQL")
        }
        _ if says(&["UNSUPPORTED_TIME_TYPE"]) => {
            (Kind::TypeRefused, "a column is TIME, which does not pass through Spark Connect")
        }
        // Sail's word for `CollectMetrics`, which it does not have.
        _ if text.trim() == "collect metrics" => (Kind::Unsupported, "the server does not count rows while it writes them"),
        _ if says(&["INSUFFICIENT_PERMISSIONS"]) => (Kind::Forbidden, "Spark does not permit this"),
        _ if is_transient(status) => (Kind::Unreachable, "the connection to Spark broke more often than it is mended"),
        _ => (Kind::SourceUnreadable, "Spark could not run the query"),
    };
    let mut error = Error::new(kind, message).during(operation).because(text.trim().to_owned());
    if kind == Kind::SourceUnreadable {
        error = error.help("the cause is the cluster's own word; its log says more");
    }
    if says(&["UNSUPPORTED_TIME_TYPE"]) {
        error = error.help("select cast(COLUMN as string) in --sql");
    }
    if says(&["maxResultSize"]) {
        error = error.help("let the executors write the result: set `stage` in the environment and handoff = \"stage\"");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_id_is_found_in_the_details() {
        let info = ErrorInfo { reason: "x".into(), metadata: HashMap::from([("errorId".to_owned(), "42".to_owned())]) };
        let packed = Packed { type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(), value: info.encode_to_vec() };
        let details = RpcStatus { details: vec![packed] }.encode_to_vec();
        let status = Status::with_details(Code::Internal, "short", details.into());
        assert_eq!(error_id(&status).as_deref(), Some("42"));
        assert_eq!(error_id(&Status::internal("none")), None);
        assert!(!is_transient(&status));
    }

    #[test]
    fn refusals_have_their_exit_codes() {
        let exit = |code, text: &str| error(&Status::new(code, text), None, "run the query").exit_code();
        assert_eq!(exit(Code::Unauthenticated, ""), 4);
        assert_eq!(exit(Code::Unavailable, ""), 5);
        assert_eq!(exit(Code::Internal, "[TABLE_OR_VIEW_NOT_FOUND] x"), 3);
        assert_eq!(exit(Code::Internal, "[PARSE_SYNTAX_ERROR] x"), 2);
        assert_eq!(exit(Code::Internal, "[DIVIDE_BY_ZERO] x"), 3);
    }
}
