//! The mapping table of .hyper.
