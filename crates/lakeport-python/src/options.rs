//! The options of `df.write`: what they mean as a job, and what is refused before any work.
//!
//! Options are seen in plans and logs, so none is a secret: those stand in `lakeport.toml`, by reference, or in the variables
//! that cloud tools read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::datatypes::Schema;
use lakeport::config::secret::names_a_secret;
use lakeport::config::{Config, Job, LossyConfig, Reference};
use lakeport::error::{Context, Error, Kind, Result, Wrap};
use lakeport::export::Mode;
use lakeport::source::Location;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::stage::Stage;

/// Options as Spark hands them over: all texts, their names in lower case.
pub(crate) type Options = BTreeMap<String, String>;

/// The options there are; `stage.`, `types.` and the formats' own take a name after the dot.
const KNOWN: [&str; 15] = [
    "to",
    "path",
    "job",
    "format",
    "table",
    "mode",
    "key",
    "verify",
    "route",
    "lossy",
    "types",
    "config",
    "stage",
    "stage_ttl",
    "keep_stage",
];
/// The options of formats, as in a job.
const FORMATS: [&str; 4] = ["avro", "csv", "parquet", "xlsx"];
/// Leftovers older than this are removed by the next write.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// What the options ask for.
pub(crate) struct Request {
    pub(crate) config: Config,
    pub(crate) directory: PathBuf,
    pub(crate) job: Job,
    /// The stage that driver and executors share.
    pub(crate) stage: Stage,
    /// Where parts of an object store are brought to, on the driver.
    pub(crate) spool: Stage,
    pub(crate) ttl: Duration,
    pub(crate) keep: bool,
    /// The name under which the report is left in the stage.
    pub(crate) report: Option<String>,
}

impl Request {
    /// Reads the options of a data frame with this schema.
    ///
    /// # Errors
    /// `Usage` for what is no option, no value of one, or a secret; what the configuration makes impossible.
    pub(crate) fn read(options: &Options, overwrite: bool, schema: &Schema) -> Result<Self> {
        for (name, value) in options {
            ensure_no_secret(name, value)?;
            ensure_known(name)?;
        }
        let (config, directory) = configuration(options)?;
        let job = job(options, overwrite, schema, &config)?;
        let stage = stage_in(options, &config, &directory)?;
        let ttl = options.get("stage_ttl").map(|text| duration(text)).transpose()?.unwrap_or(TTL);
        let base = if config.files.is_empty() { &directory } else { &config.base };
        let spool = Stage::at((base.join(".lakeport/work").to_string_lossy().into_owned(), BTreeMap::new()));
        Ok(Self { config, directory, job, stage, spool, ttl, keep: kept(options), report: options.get("report").cloned() })
    }
}

/// Whether the stage is to be kept.
pub(crate) fn kept(options: &Options) -> bool {
    options.get("keep_stage").is_some_and(|value| value == "true")
}

/// The stage alone, for what comes after a write.
pub(crate) fn stage(options: &Options) -> Result<Stage> {
    let (config, directory) = configuration(options)?;
    stage_in(options, &config, &directory)
}

fn configuration(options: &Options) -> Result<(Config, PathBuf)> {
    let directory = std::env::current_dir().wrap(Kind::Unexpected, || "there is no working directory".into())?;
    let config = Config::load(&directory, options.get("config").map(Path::new))?;
    Ok((config, directory))
}

fn ensure_known(name: &str) -> Result<()> {
    let family = name.split_once('.').map(|(family, _)| family);
    if KNOWN.contains(&name) || name == "report" || family.is_some_and(|f| f == "types" || f == "stage" || FORMATS.contains(&f)) {
        return Ok(());
    }
    let error = Error::new(Kind::Usage, format!("there is no option `{name}`"));
    let all =
        format!("the options are {}, types.COLUMN, stage.OPTION, and those of a format such as csv.delimiter", KNOWN.join(", "));
    Err(match lakeport::nearest(name, KNOWN.into_iter()) {
        Some(near) => error.help(format!("did you mean `{near}`? {all}")),
        None => error.help(all),
    })
}

fn ensure_no_secret(name: &str, value: &str) -> Result<()> {
    const HELP: &str = "write it into the environment in lakeport.toml, by reference: { env = \"NAME\" }, or set the variables that \
                        cloud tools read (AWS_…, AZURE_…, GOOGLE_…) on driver and executors";
    // A column may have any name. Who one is need not be seen in plans either.
    if !name.starts_with("types.") && (names_a_secret(name) || name.contains("key_id")) {
        let what = format!("option `{name}` looks like a secret, and options are seen in plans and logs");
        return Err(Error::new(Kind::Usage, what).help(HELP));
    }
    let authority = value.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    // Azure writes container@account; a colon before it is what makes it user and password.
    let signed_in = authority.and_then(|a| a.split_once('@')).is_some_and(|(user, _)| user.contains(':'));
    let signed = ["sig=", "Signature=", "token=", "password="].iter().any(|mark| value.contains(mark));
    if signed_in || (value.contains("://") && signed) {
        let what = format!("the value of option `{name}` holds a secret, and options are seen in plans and logs");
        return Err(Error::new(Kind::Usage, what).help(HELP));
    }
    Ok(())
}

/// The job that the options of a data frame describe.
fn job(options: &Options, overwrite: bool, schema: &Schema, config: &Config) -> Result<Job> {
    let mut job = match options.get("job") {
        Some(name) => based_on(name, config)?,
        None => Job::default(),
    };
    job.from = Some("dataframe".into());
    let adds = matches!(job.mode, Mode::Append | Mode::Upsert | Mode::DeleteInsert);
    if adds == overwrite {
        job.mode = if overwrite { Mode::Full } else { Mode::Append };
    }
    let mut formats: BTreeMap<&str, serde_json::Map<String, Value>> = BTreeMap::new();
    for (name, value) in options {
        match name.as_str() {
            "to" => value.clone_into(&mut job.to),
            "path" if !options.contains_key("to") => value.clone_into(&mut job.to),
            "format" => job.format = Some(value.clone()),
            "table" => job.table = Some(value.clone()),
            "mode" => job.mode = word(name, value)?,
            "key" => job.key = list(value),
            "verify" => job.verify = Some(word(name, value)?),
            "route" => job.route = Some(word(name, value)?),
            "lossy" => {
                job.lossy = match value.as_str() {
                    "true" => LossyConfig::All(true),
                    "false" => LossyConfig::All(false),
                    names => LossyConfig::Columns(list(names)),
                }
            }
            "types" => job.types.extend(pairs(value)?),
            "keep_stage" if value != "true" && value != "false" => {
                return Err(
                    Error::new(Kind::Usage, format!("`{value}` is no value of option `keep_stage`")).help("write true or false")
                );
            }
            other => match other.split_once('.') {
                Some(("types", column)) => {
                    job.types.insert(column_of(column, schema)?, value.clone());
                }
                Some((family, key)) if FORMATS.contains(&family) => {
                    formats.entry(family).or_default().insert(key.to_owned(), typed(value));
                }
                _ => {}
            },
        }
    }
    if let Some(given) = formats.remove("avro") {
        job.avro = of_format("avro", given)?;
    }
    if let Some(given) = formats.remove("csv") {
        job.csv = of_format("csv", given)?;
    }
    if let Some(given) = formats.remove("parquet") {
        job.parquet = of_format("parquet", given)?;
    }
    if let Some(given) = formats.remove("xlsx") {
        job.xlsx = of_format("xlsx", given)?;
    }
    if job.to.is_empty() {
        return Err(Error::new(Kind::Usage, "the option `to` is missing")
            .help("write .option(\"to\", \"tableau:Orders\"), or name a file: .option(\"to\", \"orders.hyper\")"));
    }
    Ok(job)
}

/// A job of `lakeport.toml` whose rows are to be the data frame's.
fn based_on(name: &str, config: &Config) -> Result<Job> {
    let job = config.job(name)?.clone();
    let asks = [
        ("sql", job.sql.is_some()),
        ("where", job.filter.is_some()),
        ("limit", job.limit.is_some()),
        ("tables", !job.tables.is_empty()),
    ];
    if let Some((key, _)) = asks.iter().find(|(_, asked)| *asked) {
        return Err(Error::new(Kind::Usage, format!("job `{name}` has `{key}`, which does not go with a data frame"))
            .help("do in Spark what it says, and keep target, types and mode in the job"));
    }
    Ok(job)
}

/// The column meant by an option's name, whose case Spark does not keep.
fn column_of(option: &str, schema: &Schema) -> Result<String> {
    let same: Vec<_> = schema.fields().iter().filter(|f| f.name().to_lowercase() == option.to_lowercase()).collect();
    match same[..] {
        [only] => Ok(only.name().clone()),
        // The mapping tells which column it does not find.
        [] => Ok(option.to_owned()),
        _ => Err(Error::new(
            Kind::Usage,
            format!("option `types.{option}` may mean several columns, since Spark does not keep its case"),
        )
        .help("name the column in the value instead: .option(\"types\", \"Amount=text\")")),
    }
}

/// `a, b`, or a JSON list where names have commas.
fn list(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_| text.split(',').map(|name| name.trim().to_owned()).collect())
}

/// `a=json, b=text`, or a JSON object.
fn pairs(text: &str) -> Result<BTreeMap<String, String>> {
    if let Ok(pairs) = serde_json::from_str(text) {
        return Ok(pairs);
    }
    let pair = |part: &str| {
        let (column, wish) = part.rsplit_once('=').ok_or_else(|| {
            Error::new(Kind::Usage, format!("`{part}` is no value of option `types`"))
                .help("write COLUMN=TYPE, several with commas")
        })?;
        Ok((column.trim().to_owned(), wish.trim().to_owned()))
    };
    // A comma within parentheses belongs to the type: numeric(38,10).
    let mut depth = 0;
    text.split(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    })
    .map(pair)
    .collect()
}

/// An option that is one of a few words.
fn word<T: DeserializeOwned>(name: &str, value: &str) -> Result<T> {
    serde_json::from_value(Value::String(value.to_owned()))
        .wrap(Kind::Usage, || format!("`{value}` is no value of option `{name}`"))
}

/// A value as configuration would read it: `true`, `12`, else text.
fn typed(text: &str) -> Value {
    match text.parse::<toml::Value>() {
        Ok(toml::Value::Boolean(value)) => Value::Bool(value),
        Ok(toml::Value::Integer(value)) => Value::from(value),
        _ => Value::String(text.to_owned()),
    }
}

/// The options of a format, where a text may look like a number or a truth value.
fn of_format<T: DeserializeOwned>(family: &'static str, given: serde_json::Map<String, Value>) -> Result<T> {
    let texts = given.iter().map(|(key, value)| match value {
        Value::String(_) => (key.clone(), value.clone()),
        other => (key.clone(), Value::String(other.to_string())),
    });
    let texts = Value::Object(texts.collect());
    let first = serde_json::from_value(Value::Object(given));
    first
        .or_else(|error| serde_json::from_value(texts).map_err(|_| error))
        .wrap(Kind::Usage, || format!("the options {family}.… cannot be read"))
}

/// `24h`, `90m`, `30s`, `7d`; a number alone is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].trim() {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(60 * 60),
        "d" => Some(24 * 60 * 60),
        _ => None,
    };
    let seconds = digits.trim().parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        Error::new(Kind::Usage, format!("`{text}` is no time")).help("write a number with a unit, such as 24h or 7d")
    })
}

/// The stage that the options name: a directory, a URL, or `ENV:path` of an environment whose options reach the store.
fn stage_in(options: &Options, config: &Config, directory: &Path) -> Result<Stage> {
    let temporary = || std::env::temp_dir().join("lakeport-stage").to_string_lossy().into_owned();
    let named = options.get("stage").cloned().unwrap_or_else(temporary);
    let Location { url, options: mut store } = Reference::parse(&named).locate(config, directory).at("option", "stage")?;
    let more = options.iter().filter_map(|(name, value)| Some((name.strip_prefix("stage.")?.to_owned(), value.clone())));
    store.extend(more);
    let url = match lakeport::source::local_path(&url) {
        Some(path) => path.to_string_lossy().into_owned(),
        None => url.trim_end_matches('/').to_owned(),
    };
    let stage = Stage::at((url, store));
    stage.ensure_reachable().at("option", "stage")?;
    Ok(stage)
}
