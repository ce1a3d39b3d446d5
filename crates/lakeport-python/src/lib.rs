//! Lakeport inside Spark: the native half of the Python module `pyspark_lakeport`.

use pyo3::prelude::*;

/// The native module.
#[pymodule]
mod _native {}
