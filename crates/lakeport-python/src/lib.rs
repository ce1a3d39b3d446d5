//! Lakeport inside Spark: the native half of the Python packages `lakeport` and `pyspark_lakeport`.
//!
//! [`prepare`] is called on the driver before any task starts, [`write_part`] in the tasks, [`publish`] in the commit. No
//! DataFusion is linked: the parts are loaded by hyperd itself, or read by the parquet crate.

use std::sync::Arc;

use lakeport::Lakeport;
use lakeport::error::{Error, Kind, Result, Wrap};
use lakeport::limits::Limits;
use lakeport::source::Location;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use tokio::runtime::Runtime;

mod options;
mod parts;
mod stage;

use options::{Options, Request};
use parts::{Part, Parts};
use stage::Stage;

/// A place of the stage as it crosses processes: its URL, and the options of its store.
type Place = (String, std::collections::BTreeMap<String, String>);

/// Plans a publish of a data frame with this schema, and makes a directory in the stage for it; raises what would stop the run.
///
/// Leftovers of dead drivers are removed. The answer is that directory.
#[pyfunction]
fn prepare(py: Python<'_>, schema: Vec<u8>, options: Options, overwrite: bool) -> PyResult<Place> {
    py.detach(|| {
        let runtime = runtime()?;
        let schema = schema_of(&schema)?;
        let request = Request::read(&options, overwrite, &schema)?;
        let (stage, ttl, spool) = (request.stage.clone(), request.ttl, request.spool.clone());
        let (lakeport, job) = request.open(Parts::new(Arc::new(schema), Vec::new()));
        runtime.block_on(async {
            let planned = lakeport.plan(&name(&job.to), &job).await.and_then(|plan| plan.ensure_accepted());
            lakeport.close().await;
            planned?;
            for swept in [&stage, &spool] {
                swept.sweep(ttl).await;
            }
            let directory = stage.fresh();
            directory.create()?;
            Ok(directory.location)
        })
    })
    .map(|location: Location| (location.url, location.options))
    .map_err(|e| raised(&e))
}

/// Writes the batches of one task to a Parquet file of the stage; returns rows, bytes and hash.
///
/// `batches` has `__arrow_c_stream__`: they cross over without a copy. What fails leaves no file.
#[pyfunction]
fn write_part(stage: Place, name: &str, schema: Vec<u8>, batches: &Bound<'_, PyAny>) -> PyResult<(u64, u64, String)> {
    let capsule = batches.call_method0("__arrow_c_stream__")?;
    let capsule = capsule.cast_into::<PyCapsule>().map_err(|_| PyValueError::new_err("no Arrow stream was handed over"))?;
    let pointer = capsule.pointer_checked(Some(c"arrow_array_stream"))?;
    // SAFETY: a capsule of this name holds a valid `ArrowArrayStream` by the Arrow PyCapsule interface; `from_raw` takes it over
    // and marks the one in the capsule as released, so that it is released once.
    let stream = unsafe { arrow::ffi_stream::FFI_ArrowArrayStream::from_raw(pointer.cast().as_ptr()) };
    let reader =
        arrow::ffi_stream::ArrowArrayStreamReader::try_new(stream).map_err(|e| PyRuntimeError::new_err(e.to_string()))?;
    let part = schema_of(&schema).and_then(|schema| parts::write(&Stage::at(stage), name, &Arc::new(schema), reader));
    let part = part.map_err(|e| raised(&e))?;
    Ok((part.rows, part.bytes, part.hash))
}

/// Converts the announced parts once, publishes, verifies; returns the report as JSON, and leaves it in the stage where asked.
#[pyfunction]
fn publish(
    py: Python<'_>,
    schema: Vec<u8>,
    stage: Place,
    parts: Vec<(String, u64, u64, String)>,
    options: Options,
    overwrite: bool,
) -> PyResult<String> {
    let parts: Vec<_> = parts.into_iter().map(|(name, rows, bytes, hash)| Part { name, rows, bytes, hash }).collect();
    py.detach(|| {
        let runtime = runtime()?;
        let schema = schema_of(&schema)?;
        let request = Request::read(&options, overwrite, &schema)?;
        let (root, keep, report_id) = (request.stage.clone(), request.keep, request.report.clone());
        let spool = request.spool.fresh();
        let directory = Stage::at(stage);
        let done = runtime.block_on(async {
            let local = parts::fetch(&directory, &spool, &parts).await?;
            let (lakeport, job) = request.open(Parts::new(Arc::new(schema), local));
            let outcome = lakeport.run(&name(&job.to), &job, &|_, _| {}).await;
            lakeport.close().await;
            if let Some(error) = outcome.error {
                return Err(error);
            }
            let report = serde_json::to_string(&outcome.report).wrap(Kind::Unexpected, || "the report is no JSON".into())?;
            if let Some(id) = report_id {
                root.leave_report(&id, &report).await;
            }
            Ok(report)
        });
        runtime.block_on(async {
            spool.remove().await;
            if done.is_ok() && !keep {
                directory.remove().await;
            }
        });
        done
    })
    .map_err(|e| raised(&e))
}

/// Removes the directory of a write that was given up, unless its stage is to be kept.
#[pyfunction]
fn give_up(py: Python<'_>, stage: Place, options: Options) -> PyResult<()> {
    if options::kept(&options) {
        return Ok(());
    }
    py.detach(|| runtime().map(|runtime| runtime.block_on(Stage::at(stage).remove()))).map_err(|e| raised(&e))
}

/// Where the stage is that these options name; for the driver, which knows the configuration.
#[pyfunction]
fn locate(options: Options) -> PyResult<Place> {
    options::stage(&options).map(|stage| (stage.location.url, stage.location.options)).map_err(|e| raised(&e))
}

/// Takes the report of a write out of the stage; none where it is not there.
#[pyfunction]
fn take_report(py: Python<'_>, stage: Place, id: &str) -> PyResult<Option<String>> {
    py.detach(|| runtime()?.block_on(Stage::at(stage).take_report(id))).map_err(|e| raised(&e))
}

/// Removes what dead drivers left in a stage, older than this (`24h`); returns the names.
#[pyfunction]
fn sweep(py: Python<'_>, options: Options, older_than: &str) -> PyResult<Vec<String>> {
    py.detach(|| {
        let (stage, ttl) = (options::stage(&options)?, options::duration(older_than)?);
        Ok(runtime()?.block_on(stage.sweep(ttl)))
    })
    .map_err(|e| raised(&e))
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().wrap(Kind::Unexpected, || "no threads can be started".into())
}

fn schema_of(schema: &[u8]) -> Result<arrow::datatypes::Schema> {
    arrow::ipc::convert::try_schema_from_ipc_buffer(schema)
        .wrap(Kind::Unexpected, || "the schema of the data frame cannot be read".into())
}

/// What a run is called in reports and state: writes to several targets must not share what they remember.
fn name(to: &str) -> String {
    format!("dataframe to {to}")
}

impl Request {
    /// Lakeport over the parts, and the job to run.
    fn open(self, parts: Parts) -> (Lakeport, lakeport::config::Job) {
        (Lakeport::new(self.config, Arc::new(parts), Limits::default(), self.directory), self.job)
    }
}

/// An error as Python's, with everything the command line would say.
fn raised(error: &Error) -> PyErr {
    let mut text = format!("[{}] {}", error.code(), error.message());
    let context: Vec<_> = error.context().iter().map(|(key, value)| format!("{key} {value}")).collect();
    if !context.is_empty() {
        text.push_str(&format!("\n  {}", context.join(" · ")));
    }
    for cause in error.causes() {
        text.push_str(&format!("\n  caused by: {cause}"));
    }
    text.push_str(&format!("\n  help: {}", error.help_line()));
    PyRuntimeError::new_err(text)
}

/// The native module.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::{give_up, locate, prepare, publish, sweep, take_report, write_part};

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
