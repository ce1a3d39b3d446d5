//! Lakeport inside Spark: the native half of the Python module `pyspark_lakeport`.
//!
//! Tasks call [`write_part`], the commit calls [`publish`]; [`check`] is called before any task starts. No DataFusion is linked:
//! the parts are read by the parquet crate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lakeport::Lakeport;
use lakeport::config::{Config, Job, LossyConfig};
use lakeport::error::{Error, Kind, Result, Wrap};
use lakeport::export::Mode;
use lakeport::limits::Limits;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

mod parts;

use parts::{Part, Parts};

/// Options that a data frame is written with, as Spark hands them over: all texts.
type Options = BTreeMap<String, String>;

/// Writes the batches of one task to a Parquet file; returns rows, bytes and hash.
///
/// `batches` has `__arrow_c_stream__`: they cross over without a copy.
#[pyfunction]
fn write_part(path: PathBuf, batches: &Bound<'_, PyAny>) -> PyResult<(u64, u64, String)> {
    let capsule = batches.call_method0("__arrow_c_stream__")?;
    let capsule = capsule.cast_into::<PyCapsule>().map_err(|_| PyValueError::new_err("no Arrow stream was handed over"))?;
    let name = c"arrow_array_stream";
    let pointer = capsule.pointer_checked(Some(name))?;
    // SAFETY: a capsule of this name holds a valid `ArrowArrayStream` by the Arrow PyCapsule interface; `from_raw` takes it over
    // and marks the one in the capsule as released, so that it is released once.
    let stream = unsafe { arrow::ffi_stream::FFI_ArrowArrayStream::from_raw(pointer.cast().as_ptr()) };
    let reader =
        arrow::ffi_stream::ArrowArrayStreamReader::try_new(stream).map_err(|e| PyRuntimeError::new_err(e.to_string()))?;
    let part = parts::write(&path, reader).map_err(|e| raised(&e))?;
    Ok((part.rows, part.bytes, part.hash))
}

/// Plans a publish of a data frame with this schema, writing nothing; raises what would stop the run.
#[pyfunction]
#[pyo3(signature = (schema, options, overwrite))]
fn check(py: Python<'_>, schema: Vec<u8>, options: Options, overwrite: bool) -> PyResult<()> {
    py.detach(|| {
        let run = Publish::new(&schema, Vec::new(), options, overwrite)?;
        run.block_on(|lakeport, job| Box::pin(async move { lakeport.plan("dataframe", job).await?.ensure_accepted() }))?
    })
    .map_err(|e| raised(&e))
}

/// Converts the announced parts once, publishes, verifies; returns the report as JSON.
#[pyfunction]
#[pyo3(signature = (schema, parts, options, overwrite))]
fn publish(
    py: Python<'_>,
    schema: Vec<u8>,
    parts: Vec<(PathBuf, u64, u64, String)>,
    options: Options,
    overwrite: bool,
) -> PyResult<String> {
    let parts = parts.into_iter().map(|(path, rows, bytes, hash)| Part { path, rows, bytes, hash }).collect();
    py.detach(|| {
        let run = Publish::new(&schema, parts, options, overwrite)?;
        let outcome = run.block_on(|lakeport, job| Box::pin(async move { lakeport.run("dataframe", job, &|_, _| {}).await }))?;
        match outcome.error {
            Some(error) => Err(error),
            None => serde_json::to_string(&outcome.report).wrap(Kind::Unexpected, || "the report is no JSON".into()),
        }
    })
    .map_err(|e| raised(&e))
}

/// A publish of staged parts, ready to be planned or run.
struct Publish {
    lakeport: Lakeport,
    job: Job,
}

/// Work on a publish.
type Work<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + 'a>>;

impl Publish {
    fn new(schema: &[u8], parts: Vec<Part>, options: Options, overwrite: bool) -> Result<Self> {
        let schema = arrow::ipc::convert::try_schema_from_ipc_buffer(schema)
            .wrap(Kind::Unexpected, || "the schema of the data frame cannot be read".into())?;
        let directory = std::env::current_dir().wrap(Kind::Unexpected, || "there is no working directory".into())?;
        let config = Config::load(&directory, options.get("config").map(Path::new))?;
        let job = job(&options, overwrite)?;
        let engine = Arc::new(Parts::new(Arc::new(schema), parts));
        Ok(Self { lakeport: Lakeport::new(config, engine, Limits::default(), directory), job })
    }

    fn block_on<T>(&self, work: impl for<'a> FnOnce(&'a Lakeport, &'a Job) -> Work<'a, T>) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .wrap(Kind::Unexpected, || "no threads can be started".into())?;
        Ok(runtime.block_on(async {
            let done = work(&self.lakeport, &self.job).await;
            self.lakeport.close().await;
            done
        }))
    }
}

/// The job that the options of a data frame describe.
///
/// Options are seen in plans and logs, so none is a secret: those stand in `lakeport.toml`, by reference.
fn job(options: &Options, overwrite: bool) -> Result<Job> {
    let mut job =
        Job { from: Some("dataframe".into()), mode: if overwrite { Mode::Full } else { Mode::Append }, ..Job::default() };
    for (name, value) in options {
        let name = name.as_str();
        match name {
            "to" => value.clone_into(&mut job.to),
            "format" => job.format = Some(value.clone()),
            "table" => job.table = Some(value.clone()),
            "mode" => job.mode = word(name, value)?,
            "key" => job.key = value.split(',').map(|k| k.trim().to_owned()).collect(),
            "verify" => job.verify = Some(word(name, value)?),
            "lossy" => {
                job.lossy = match value.as_str() {
                    "true" => LossyConfig::All(true),
                    "false" => LossyConfig::All(false),
                    names => LossyConfig::Columns(names.split(',').map(|n| n.trim().to_owned()).collect()),
                }
            }
            "config" | "stage" => {}
            other => match other.strip_prefix("types.") {
                Some(column) => {
                    job.types.insert(column.to_owned(), value.clone());
                }
                None if ["token", "secret", "password", "key_id"].iter().any(|s| other.contains(s)) => {
                    let what = format!("option `{other}` looks like a secret, and options are seen in plans and logs");
                    return Err(Error::new(Kind::Usage, what)
                        .help("write it into the environment in lakeport.toml, by reference: { env = \"NAME\" }"));
                }
                None => {
                    return Err(Error::new(Kind::Usage, format!("there is no option `{other}`"))
                        .help("the options are to, format, table, mode, key, verify, lossy, types.COLUMN, config and stage"));
                }
            },
        }
    }
    if job.to.is_empty() {
        return Err(
            Error::new(Kind::Usage, "the option `to` is missing").help("write .option(\"to\", \"tableau:Orders\") or a file")
        );
    }
    Ok(job)
}

/// An option that is one of a few words.
fn word<T: serde::de::DeserializeOwned>(name: &str, value: &str) -> Result<T> {
    serde_json::from_value(serde_json::Value::String(value.to_owned()))
        .wrap(Kind::Usage, || format!("`{value}` is no value of option `{name}`"))
}

/// An error as Python's, with everything the command line would say.
fn raised(error: &Error) -> PyErr {
    let mut text = format!("[{}] {error}", error.code());
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
    use super::{check, publish, write_part};
}
