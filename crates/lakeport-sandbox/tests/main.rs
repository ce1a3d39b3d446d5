//! The sandbox, judged by the official client and by calls no official client would make.

mod changes;
mod extracts;
mod faults;
mod official;
mod protocol;
mod support;
