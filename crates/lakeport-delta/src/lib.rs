//! Delta tables as a target, through delta-rs.
