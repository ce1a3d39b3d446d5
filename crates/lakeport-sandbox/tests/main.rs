//! The sandbox, judged by the official client and by calls no official client would make.

mod extracts;
mod official;
mod protocol;
mod support;
