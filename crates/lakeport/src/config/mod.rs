//! What to do: `lakeport.toml`, its environments and jobs, precedence, and secrets that never show.
//!
//! Found by walking up from the working directory; `lakeport.local.toml` beside it wins over it, the user's file under XDG
//! loses to it. Variables (`LAKEPORT_…`) win over files, flags over variables. Unknown keys are errors that name the nearest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::convert::manifest::Split;
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::export::Mode;
use crate::export::care::{Care, Rights, Warning};
use crate::nearest::nearest;
use crate::source::Location;
use crate::types::files::{AvroOptions, CsvOptions, FileOptions, ParquetOptions, TextOptions, XlsxOptions};
use crate::types::{ForeignKey, Keys, Lossy, Wish, Wishes};
use crate::verify::Verify;

mod layers;
pub mod reference;
pub mod secret;

pub use layers::{FILE, LOCAL_FILE, Layer, Origin};
pub use reference::Reference;
pub use secret::{Secret, SecretRef, Setting, Settings, ensure_bare_reference};

/// The whole configuration, all layers merged.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Named sources and targets.
    #[serde(default)]
    pub env: BTreeMap<String, Env>,
    /// Named jobs.
    #[serde(default)]
    pub job: BTreeMap<String, Job>,
    /// Values every job starts from.
    #[serde(default)]
    pub defaults: Defaults,
    /// The directory of the project file; relative paths start here.
    #[serde(skip)]
    pub base: PathBuf,
    /// The files read, the winning one first.
    #[serde(skip)]
    pub files: Vec<PathBuf>,
    /// Which layer each value comes from, by dotted key.
    #[serde(skip)]
    pub origins: BTreeMap<String, Origin>,
    /// Each value as TOML text, by dotted key.
    #[serde(skip)]
    pub values: BTreeMap<String, String>,
}

/// Values every job starts from (`[defaults]`).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Memory of the engine, such as `1GiB`.
    pub memory: Option<String>,
    /// Jobs side by side.
    pub jobs: Option<usize>,
    /// How thoroughly results are verified.
    pub verify: Option<Verify>,
}

/// A named source or target (`[env.NAME]`).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Env {
    /// Files in a lake.
    Lake(LakeEnv),
    /// Files to write to, on disk or in an object store.
    Store(LakeEnv),
    /// Tableau Server or Cloud.
    Tableau(Box<TableauConfig>),
    /// An Apache Spark cluster that speaks Spark Connect.
    Spark(SparkEnv),
    /// A database, through its ADBC driver.
    Database(DatabaseEnv),
}

impl Env {
    /// Makes sure that no secret stands in it, where it would be shown and shared.
    fn ensure_no_secret(&self) -> Result<()> {
        match self {
            Self::Lake(env) | Self::Store(env) => {
                secret::ensure_by_reference(&env.options)?;
                secret::ensure_bare("root", &env.root, "write it into `options`, by reference")
            }
            Self::Spark(env) => {
                secret::ensure_by_reference(&env.headers)?;
                secret::ensure_by_reference(&env.stage_options)?;
                secret::ensure_bare("url", &env.url, "write token = { env = \"SPARK_TOKEN\" } instead")?;
                secret::ensure_bare(
                    "stage",
                    env.stage.as_deref().unwrap_or_default(),
                    "write it into `stage_options`, by reference",
                )
            }
            Self::Database(env) => {
                secret::ensure_by_reference(&env.options)?;
                secret::ensure_bare("uri", &env.uri, "write password = { env = \"DB_PASSWORD\" } instead")
            }
            Self::Tableau(env) => {
                secret::ensure_bare("url", &env.url, "write token_name and token_secret, or username and password")?;
                secret::ensure_bare("proxy", env.proxy.as_deref().unwrap_or_default(), "use proxy_user and proxy_password")
            }
        }
    }
}

/// A database to write tables to (`type = "database"`).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseEnv {
    /// `postgresql`, `sqlite`, `duckdb`, `snowflake`, … as the Python package `adbc-driver-NAME` calls it, or a library's path.
    pub driver: String,
    /// `postgresql://user@host:5432/database`, without a password; a file for SQLite.
    pub uri: String,
    /// The password, by reference.
    pub password: Option<SecretRef>,
    /// The schema that tables are in, instead of the user's own.
    pub schema: Option<String>,
    /// Further options of the driver; secrets among them by reference.
    #[serde(default)]
    pub options: Settings,
}

/// How the location of a table on a cluster begins: `spark://ENV/catalog.schema.table`.
pub const SPARK_SCHEME: &str = "spark://";

/// A cluster (`type = "spark"`).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SparkEnv {
    /// `sc://host:15002/;use_ssl=true;x-databricks-cluster-id=…`.
    pub url: String,
    /// The bearer token, by reference; with one, TLS is on.
    pub token: Option<SecretRef>,
    /// Further headers of every call; secrets among them by reference.
    #[serde(default)]
    pub headers: Settings,
    /// A PEM file with further certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// Where executors write large results and Lakeport reads them: a path or URL that both reach.
    pub stage: Option<String>,
    /// Object-store options of the stage by their standard names; secrets among them by reference.
    #[serde(default)]
    pub stage_options: Settings,
    /// How results come, instead of by their size.
    pub handoff: Option<Handoff>,
    /// Leave the staged files where they are.
    #[serde(default)]
    pub keep_stage: bool,
}

impl SparkEnv {
    /// The stage as a location; a relative path is relative to the configuration's directory.
    ///
    /// # Errors
    /// `SecretMissing`.
    pub fn stage_location(&self, base: &Path) -> Result<Location> {
        let url = self.stage.clone().unwrap_or_default();
        let local = crate::source::local_path(&url).map(|p| base.join(p).to_string_lossy().into_owned());
        Ok(Location { url: local.unwrap_or(url), options: secret::resolve(&self.stage_options, base)? })
    }
}

/// How the result of a query leaves a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Handoff {
    /// As record batches through the driver.
    Stream,
    /// As Parquet files that the executors write.
    Stage,
}

/// A place where files are (`type = "lake"` or `"store"`).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LakeEnv {
    /// `s3://acme-lake/gold`, `gs://…`, `abfss://…`, or a path.
    pub root: String,
    /// Object-store options by their standard names; secrets among them by reference.
    #[serde(default)]
    pub options: Settings,
    /// The highest Hyper file-format version to write here.
    pub hyper_version: Option<u8>,
}

/// A Tableau site (`type = "tableau"`).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableauConfig {
    /// `https://tableau.acme.com`.
    pub url: String,
    /// The site's content URL; empty for the default site.
    #[serde(default)]
    pub site: String,
    /// `Finance/Daily`.
    pub project: Option<String>,
    /// Create what is missing of the project's path.
    #[serde(default)]
    pub create_project: bool,
    /// Name of the personal access token.
    pub token_name: Option<String>,
    /// Its secret, by reference.
    pub token_secret: Option<SecretRef>,
    /// Name of a user, instead of a token.
    pub username: Option<String>,
    /// The user's password, by reference.
    pub password: Option<SecretRef>,
    /// Client id of a connected app, instead of a token.
    pub client_id: Option<String>,
    /// Id of the app's secret.
    pub secret_id: Option<String>,
    /// The app's secret, by reference.
    pub secret_value: Option<SecretRef>,
    /// The user the app acts as.
    pub user: Option<String>,
    /// The scopes the app asks for, instead of all that a publish takes.
    pub scopes: Option<Vec<String>>,
    /// A REST API version instead of the negotiated one.
    pub api_version: Option<String>,
    /// Size of an upload block, such as `50MiB`.
    pub chunk_size: Option<String>,
    /// Files up to this size go in one request.
    pub single_request_limit: Option<String>,
    /// The largest payload of a change in place that is sent as one; `100MB` unless told otherwise. Larger ones are cut by rows.
    pub change_limit: Option<String>,
    /// A PEM file with further certificate authorities.
    pub ca_bundle: Option<PathBuf>,
    /// A PEM file with the certificate to show, its chain and its key.
    pub client_certificate: Option<PathBuf>,
    /// A PEM file with that key, where it lies apart.
    pub client_key: Option<PathBuf>,
    /// `http://proxy.acme.com:3128`, instead of `HTTPS_PROXY`.
    pub proxy: Option<String>,
    /// The user the proxy asks for.
    pub proxy_user: Option<String>,
    /// That user's password, by reference.
    pub proxy_password: Option<SecretRef>,
    /// Seconds a connection may take to open.
    pub connect_timeout: Option<u64>,
    /// Seconds the server may be silent within one call.
    pub read_timeout: Option<u64>,
    /// Seconds one call may take in all.
    pub timeout: Option<u64>,
    /// Seconds a server-side job is awaited.
    pub job_timeout: Option<u64>,
    /// Seconds to wait for a token or data source that another process holds; 600 unless told otherwise.
    pub lock_timeout: Option<u64>,
    /// Seconds to go on trying when the server fails, for each call and for the outcome of a lost commit; at most 300 of the
    /// 600 unless told otherwise are spent on the latter.
    pub retry_budget: Option<u64>,
    /// The highest Hyper file-format version the server reads.
    pub hyper_version: Option<u8>,
}

/// A job (`[job.NAME]`): from, to, and how.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// What to read: `ENV:path`, a path or a URL.
    pub from: Option<String>,
    /// Where to put it: `ENV:Name`, a file path or URL.
    #[serde(default)]
    pub to: String,
    /// SQL over it, in which the table of `from` is called `src`.
    pub sql: Option<String>,
    /// A condition on the result.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// At most so many rows.
    pub limit: Option<u64>,
    /// What becomes of what is there.
    #[serde(default)]
    pub mode: Mode,
    /// Columns that identify a row.
    #[serde(default)]
    pub key: Vec<String>,
    /// The column that grows with every change.
    pub cursor: Option<String>,
    /// Types by column.
    #[serde(default)]
    pub types: BTreeMap<String, String>,
    /// Columns that may lose information: `true` or names.
    #[serde(default)]
    pub lossy: LossyConfig,
    /// How thoroughly to verify.
    pub verify: Option<Verify>,
    /// Memory of the engine.
    pub memory: Option<String>,
    /// The format, where the name of `to` does not say it.
    pub format: Option<String>,
    /// Several files instead of one, and a manifest: `partition`, `rows=N` or `size=256MiB`.
    pub split: Option<Split>,
    /// The table's name in the file; `Extract` unless told otherwise.
    pub table: Option<String>,
    /// `direct`, `streamed`, or chosen.
    pub route: Option<RouteWish>,
    /// How the result of a query leaves a cluster, instead of as its environment says.
    pub handoff: Option<Handoff>,
    /// Who may use what is published (Tableau).
    #[serde(default)]
    pub permissions: BTreeMap<String, Rights>,
    /// A data quality warning on it (Tableau).
    pub warning: Option<Warning>,
    /// The dialect of a CSV file.
    #[serde(default)]
    pub csv: CsvOptions,
    /// How an NDJSON file is written.
    #[serde(default)]
    pub ndjson: TextOptions,
    /// How a text file is written.
    #[serde(default)]
    pub text: TextOptions,
    /// How a Parquet file is written.
    #[serde(default)]
    pub parquet: ParquetOptions,
    /// How an Avro file is written.
    #[serde(default)]
    pub avro: AvroOptions,
    /// How an Excel workbook is written.
    #[serde(default)]
    pub xlsx: XlsxOptions,
    /// Several tables in one file, by name, instead of `from`.
    #[serde(default)]
    pub tables: BTreeMap<String, TableJob>,
}

/// How a `.hyper` is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RouteWish {
    /// By hyperd itself; an error where it cannot.
    Direct,
    /// Through the engine, always.
    Streamed,
}

/// `lossy = true | ["a"]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "`lossy` is true, false, or a list of columns")]
pub enum LossyConfig {
    /// All or none.
    All(bool),
    /// These columns.
    Columns(Vec<String>),
}

impl Default for LossyConfig {
    fn default() -> Self {
        Self::All(false)
    }
}

impl LossyConfig {
    /// As the mapping takes it.
    #[must_use]
    pub fn to_lossy(&self) -> Lossy {
        match self {
            Self::All(true) => Lossy::All,
            Self::All(false) => Lossy::None,
            Self::Columns(names) => Lossy::Columns(names.iter().cloned().collect()),
        }
    }
}

/// One of several tables of a job (`[job.x.tables.NAME]`).
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableJob {
    /// What to read.
    pub from: Option<String>,
    /// SQL over it.
    pub sql: Option<String>,
    /// A condition on the result.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// At most so many rows.
    pub limit: Option<u64>,
    /// Types by column.
    #[serde(default)]
    pub types: BTreeMap<String, String>,
    /// Columns of the primary key, declared and not enforced.
    #[serde(default)]
    pub primary_key: Vec<String>,
    /// Foreign keys to other tables of the file.
    #[serde(default)]
    pub foreign_keys: Vec<ForeignKeyConfig>,
}

/// `{ columns = ["carrier"], references = "airlines", to = ["carrier"] }`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForeignKeyConfig {
    /// Columns of this table.
    pub columns: Vec<String>,
    /// The other table.
    pub references: String,
    /// Its columns; the same names when left out.
    #[serde(default)]
    pub to: Vec<String>,
}

/// One table of a job, single or one of several, ready for planning.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// Its name in the file.
    pub name: String,
    /// What to read.
    pub from: Option<String>,
    /// SQL over it.
    pub sql: Option<String>,
    /// A condition on the result.
    pub filter: Option<String>,
    /// At most so many rows.
    pub limit: Option<u64>,
    /// How the result leaves a cluster.
    pub handoff: Option<Handoff>,
    /// What the user asks for, column by column.
    pub wishes: Wishes,
}

impl Job {
    /// What is seen to after a publish.
    #[must_use]
    pub fn care(&self) -> Care {
        Care { permissions: self.permissions.clone(), warning: self.warning.clone() }
    }

    /// The tables this job writes: one called `Extract` (or `table = …`), or those of `[job.x.tables]`.
    ///
    /// # Errors
    /// `ConfigInvalid` when `tables` stands beside `from` or `sql`, or neither is given.
    pub fn tables(&self) -> Result<Vec<TableSpec>> {
        let wishes = |types: &BTreeMap<String, String>| Wishes {
            columns: types.iter().map(|(column, wish)| (column.clone(), Wish::parse(wish))).collect(),
            lossy: self.lossy.to_lossy(),
            files: FileOptions {
                csv: self.csv.clone(),
                ndjson: self.ndjson.clone(),
                text: self.text.clone(),
                parquet: self.parquet.clone(),
                avro: self.avro.clone(),
                xlsx: self.xlsx.clone(),
                name: self.to.clone(),
            },
            ..Wishes::default()
        };
        if self.tables.is_empty() {
            if self.from.is_none() && self.sql.is_none() {
                return Err(Error::new(Kind::ConfigInvalid, "the job says neither `from` nor `sql`"));
            }
            return Ok(vec![TableSpec {
                name: self.table.clone().unwrap_or_else(|| "Extract".into()),
                from: self.from.clone(),
                sql: self.sql.clone(),
                filter: self.filter.clone(),
                limit: self.limit,
                handoff: self.handoff,
                wishes: wishes(&self.types),
            }]);
        }
        if self.from.is_some() || self.sql.is_some() || !self.types.is_empty() || self.filter.is_some() || self.limit.is_some() {
            return Err(Error::new(
                Kind::ConfigInvalid,
                "`tables` takes the place of `from`, `sql`, `where`, `limit` and `types`",
            )
            .help("move them into the tables"));
        }
        self.tables
            .iter()
            .map(|(name, table)| {
                if table.from.is_none() && table.sql.is_none() {
                    return Err(Error::new(Kind::ConfigInvalid, format!("table `{name}` says neither `from` nor `sql`"))
                        .at("table", name));
                }
                let foreign = table
                    .foreign_keys
                    .iter()
                    .map(|k| {
                        if !self.tables.contains_key(&k.references) {
                            let e = Error::new(
                                Kind::ConfigInvalid,
                                format!("a foreign key refers to table `{}`, which the job does not have", k.references),
                            );
                            return Err(e.at("table", name));
                        }
                        let references = if k.to.is_empty() { k.columns.clone() } else { k.to.clone() };
                        Ok(ForeignKey { columns: k.columns.clone(), table: k.references.clone(), references })
                    })
                    .collect::<Result<_>>()?;
                let keys = Keys { primary: table.primary_key.clone(), foreign };
                Ok(TableSpec {
                    name: name.clone(),
                    from: table.from.clone(),
                    sql: table.sql.clone(),
                    filter: table.filter.clone(),
                    limit: table.limit,
                    handoff: self.handoff,
                    wishes: Wishes { keys, ..wishes(&table.types) },
                })
            })
            .collect()
    }
}

impl Config {
    /// Finds and reads the configuration for a working directory, all layers merged.
    ///
    /// `explicit` is a file given with `--config`; then nothing is searched for.
    ///
    /// # Errors
    /// `ConfigInvalid` or `UnknownKey`, with the file in the context.
    pub fn load(working_directory: &Path, explicit: Option<&Path>) -> Result<Self> {
        Self::merged(&layers::find(working_directory, explicit)?, working_directory)
    }

    /// Makes one configuration of its layers, the weakest first.
    pub(crate) fn merged(layers: &[Layer], working_directory: &Path) -> Result<Self> {
        let mut merged = toml::Table::new();
        let mut origins = BTreeMap::new();
        // Each file is also checked by itself, so that an error names the file it stands in.
        for layer in layers {
            if matches!(layer.origin, Origin::File(_)) {
                read_as::<Partial>(layer.values.clone(), |_| Some(&layer.origin))?;
            }
            layers::merge(&mut merged, &layer.values, &layer.origin, "", &mut origins);
        }
        forget_strangers(&mut merged, layers);
        let values = origins.keys().filter_map(|key| Some((key.clone(), layers::value(&merged, key)?))).collect();
        let mut config: Self = read_as(merged, |key| origin_of(&origins, key))?;
        config.files =
            layers.iter().rev().filter_map(|l| if let Origin::File(p) = &l.origin { Some(p.clone()) } else { None }).collect();
        config.base = layers
            .iter()
            .rev()
            .find_map(|l| match &l.origin {
                Origin::File(p) if !l.user => p.parent().map(Path::to_owned),
                _ => None,
            })
            .unwrap_or_else(|| working_directory.to_owned());
        config.origins = origins;
        config.values = values;
        for (name, env) in &config.env {
            env.ensure_no_secret().at("environment", name)?;
        }
        for (name, job) in &config.job {
            if job.to.is_empty() {
                return Err(Error::new(Kind::ConfigInvalid, format!("job `{name}` does not say `to`")).at("job", name));
            }
            let tables = job.tables.values().filter_map(|t| t.from.as_ref());
            for reference in tables.chain(&job.from).chain(std::iter::once(&job.to)) {
                ensure_bare_reference(reference).at("job", name)?;
            }
        }
        Ok(config)
    }

    /// The JSON schema of `lakeport.toml`, for editors.
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// The environment of this name.
    ///
    /// # Errors
    /// `UnknownName` that names the nearest.
    pub fn environment(&self, name: &str) -> Result<&Env> {
        self.env.get(name).ok_or_else(|| unknown("environment", name, self.env.keys()))
    }

    /// The job of this name.
    ///
    /// # Errors
    /// `UnknownName` that names the nearest.
    pub fn job(&self, name: &str) -> Result<&Job> {
        self.job.get(name).ok_or_else(|| unknown("job", name, self.job.keys()))
    }
}

/// Leaves out what the user's own file says of environments that this project does not have: without a type they are none.
fn forget_strangers(merged: &mut toml::Table, layers: &[Layer]) {
    let of = |table: &toml::Table, name: &str| table.get("env").and_then(|e| e.get(name)).is_some();
    let Some(environments) = merged.get_mut("env").and_then(toml::Value::as_table_mut) else { return };
    environments.retain(|name, env| env.get("type").is_some() || layers.iter().any(|l| !l.user && of(&l.values, name)));
}

/// Reads a table as what it should be; an error names the key it is about, and where that comes from.
fn read_as<'a, T: serde::de::DeserializeOwned>(table: toml::Table, origin: impl Fn(&str) -> Option<&'a Origin>) -> Result<T> {
    serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|e| {
        let key = e.path().to_string();
        let error = explain(e.inner());
        // An unknown key names itself.
        let error = if error.kind() == Kind::UnknownKey || key == "." { error } else { error.at("key", &key) };
        match origin(&key) {
            Some(Origin::File(path)) => error.at("file", path.display()),
            Some(Origin::Variable(name)) => error.at("variable", name),
            None => error,
        }
    })
}

/// Where a key, or what lies below it, comes from.
fn origin_of<'a>(origins: &'a BTreeMap<String, Origin>, key: &str) -> Option<&'a Origin> {
    let below = format!("{key}.");
    origins.iter().find(|(known, _)| *known == key || known.starts_with(&below)).map(|(_, origin)| origin)
}

/// A file that may leave out what another layer gives; only its keys and types are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "deserialised for its errors")]
struct Partial {
    #[serde(default)]
    env: BTreeMap<String, toml::Value>,
    #[serde(default)]
    job: BTreeMap<String, Job>,
    #[serde(default)]
    defaults: Defaults,
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String> + Clone) -> Error {
    let e = Error::new(Kind::UnknownName, format!("there is no {what} `{name}`"));
    match nearest(name, known.clone().map(String::as_str)) {
        Some(near) => e.help(format!("did you mean `{near}`?")),
        None if known.clone().next().is_some() => e.help(format!("there are: {}", known.cloned().collect::<Vec<_>>().join(", "))),
        None => e.help("write one into lakeport.toml; `lakeport init` makes a commented file"),
    }
}

/// Turns serde's words into ours: an unknown key names the nearest one, an unknown type lists the types.
fn explain(e: &toml::de::Error) -> Error {
    let message = e.message();
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") {
        let key = quoted.next().unwrap_or_default().to_owned();
        let known: Vec<_> = quoted.map(str::to_owned).collect();
        let e = Error::new(Kind::UnknownKey, format!("unknown key `{key}`")).at("key", &key);
        return match nearest(&key, known.iter().map(String::as_str)) {
            Some(near) => e.help(format!("did you mean `{near}`? the keys here are {}", known.join(", "))),
            None => e.help(format!("the keys here are {}", known.join(", "))),
        };
    }
    if message.contains(secret::LITERAL) {
        return Error::new(Kind::ConfigInvalid, secret::LITERAL).help(secret::BY_REFERENCE);
    }
    Error::new(Kind::ConfigInvalid, format!("the configuration is not valid: {}", message.lines().next().unwrap_or_default()))
}

/// Reads one file as a table.
fn read(path: &Path) -> Result<toml::Table> {
    let text = std::fs::read_to_string(path).wrap(Kind::ConfigInvalid, || format!("cannot read {}", path.display()))?;
    parse(&text).at("file", path.display())
}

/// Reads the text of a file.
pub(crate) fn parse(text: &str) -> Result<toml::Table> {
    text.parse::<toml::Table>().map_err(|e| {
        let before = e.span().and_then(|s| text.get(..s.start));
        let line = before.map_or(0, |b| b.matches('\n').count() + 1);
        let message = e.message().lines().next().unwrap_or_default();
        Error::new(Kind::ConfigInvalid, format!("line {line} is not valid TOML: {message}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), text).unwrap();
        Config::load(dir.path(), None)
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let e = load("[job.x]\nto = \"a.hyper\"\nform = \"b\"\n").unwrap_err();
        assert_eq!(e.kind(), Kind::UnknownKey);
        assert!(e.help_line().starts_with("did you mean `from`?"), "{}", e.help_line());
        let e = load("[env.t]\ntype = \"tableau\"\nurl = \"http://x\"\nprojct = \"p\"\n").unwrap_err();
        assert!(e.help_line().starts_with("did you mean `project`?"), "{e:?} {}", e.help_line());
    }

    #[test]
    fn a_literal_secret_is_refused_and_not_shown() {
        let e = load("[env.t]\ntype = \"tableau\"\nurl = \"http://x\"\ntoken_name = \"a\"\ntoken_secret = \"hunter2\"\n")
            .unwrap_err();
        assert_eq!(e.kind(), Kind::ConfigInvalid);
        assert!(!format!("{e:?}{}", e.help_line()).contains("hunter2"), "{e:?}");
        assert!(e.help_line().contains("by reference"), "{e:?} {}", e.help_line());
    }

    #[test]
    fn settings_that_are_secrets_are_given_by_reference() {
        let lake = |options: &str| load(&format!("[env.l]\ntype = \"lake\"\nroot = \"s3://b\"\noptions = {{ {options} }}\n"));
        for literal in ["aws_secret_access_key = \"hunter2\"", "AWS_SESSION_TOKEN = \"hunter2\"", "azure_storage_account_key = 3"]
        {
            let e = lake(literal).unwrap_err();
            assert_eq!(e.kind(), Kind::ConfigInvalid, "{literal}");
            assert!(!format!("{e:?}{}", e.help_line()).contains("hunter2"), "{e:?}");
        }
        let config = lake("aws_access_key_id = \"AKIA\", aws_secret_access_key = { command = [\"echo\", \"hush\"] }").unwrap();
        let Env::Lake(lake) = config.environment("l").unwrap() else { panic!("not a lake") };
        let settings = secret::resolve(&lake.options, Path::new(".")).unwrap();
        assert_eq!((settings["aws_access_key_id"].as_str(), settings["aws_secret_access_key"].as_str()), ("AKIA", "hush"));
        for address in [
            "type = \"database\"\ndriver = \"postgresql\"\nuri = \"postgresql://me:hunter2@h/d\"",
            "type = \"tableau\"\nurl = \"https://t\"\nproxy = \"http://me:hunter2@p:3128\"",
            "type = \"spark\"\nurl = \"sc://h\"\nheaders = { authorization = \"hunter2\" }",
            "type = \"spark\"\nurl = \"sc://h\"\nheaders = { x-api-key = \"hunter2\" }",
            "type = \"spark\"\nurl = \"sc://h:1/;use_ssl=true;token=hunter2\"",
            "type = \"database\"\ndriver = \"postgresql\"\nuri = \"postgresql://h/d?password=hunter2\"",
            "type = \"database\"\ndriver = \"postgresql\"\nuri = \"host=h password=hunter2\"",
            "type = \"database\"\ndriver = \"snowflake\"\nuri = \"me:hunter2@account/db\"",
            "type = \"tableau\"\nurl = \"https://t/?token=hunter2\"",
            "type = \"lake\"\nroot = \"https://h/p?sv=1&sig=hunter2\"",
        ] {
            let e = load(&format!("[env.x]\n{address}\n")).unwrap_err();
            assert!(e.kind() == Kind::ConfigInvalid && !format!("{e:?}").contains("hunter2"), "{e:?}");
        }
        let e = load("[job.x]\nfrom = \"https://me:hunter2@h/p.csv\"\nto = \"a.hyper\"\n").unwrap_err();
        assert!(e.kind() == Kind::ConfigInvalid && !format!("{e:?}").contains("hunter2"), "{e:?}");
        // What only looks like one.
        for harmless in
            ["s3://b/t/token=5/x.parquet", "abfss://box@account.dfs.core.windows.net/t", "lake:a@b:c", "https://h/t?v=1"]
        {
            ensure_bare_reference(harmless).unwrap();
        }
        for uri in ["postgresql://me@h:5432/d?sslmode=require", "host=h dbname=d passfile=x", "C:/data/a@b.db", "me@account/db"] {
            load(&format!("[env.x]\ntype = \"database\"\ndriver = \"d\"\nuri = \"{uri}\"\n")).unwrap();
        }
    }

    #[test]
    fn an_error_names_its_key_and_where_it_stands() {
        for (text, key, words) in [
            ("[job.x]\nto = \"a.hyper\"\nkey = \"id\"\n", "job.x.key", "expected a sequence"),
            ("[job.x]\nto = \"a.hyper\"\nlossy = \"a\"\n", "job.x.lossy", "true, false, or a list of columns"),
            ("[env.t]\nurl = \"http://x\"\n", "env.t", "missing field `type`"),
        ] {
            let e = load(text).unwrap_err();
            assert_eq!((e.kind(), e.context_value("key")), (Kind::ConfigInvalid, Some(key)), "{e:?}");
            assert!(e.message().contains(words) && e.context_value("file").is_some_and(|f| f.ends_with(FILE)), "{e:?}");
        }
    }

    #[test]
    fn what_a_user_says_of_the_environments_of_one_project_is_no_matter_in_another() {
        let values = |text: &str| text.parse::<toml::Table>().unwrap();
        let layer = |user: bool, text: &str| Layer { origin: Origin::File("x".into()), values: values(text), user };
        let mine = layer(true, "[env.t]\nproject = \"U\"\n");
        let config = Config::merged(std::slice::from_ref(&mine), Path::new("/")).unwrap();
        assert!(config.env.is_empty());
        let here = layer(false, "[env.t]\ntype = \"tableau\"\nurl = \"http://x\"\n");
        let config = Config::merged(&[mine.clone(), here], Path::new("/")).unwrap();
        let Env::Tableau(site) = config.environment("t").unwrap() else { panic!("no site") };
        assert_eq!(site.project.as_deref(), Some("U"));
        let half = layer(false, "[env.t]\nurl = \"http://x\"\n");
        assert_eq!(Config::merged(&[mine, half], Path::new("/")).unwrap_err().context_value("key"), Some("env.t"));
    }

    #[test]
    fn local_wins_over_project_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "[env.lake]\ntype = \"lake\"\nroot = \"a\"\n").unwrap();
        std::fs::write(dir.path().join(LOCAL_FILE), "[env.lake]\nroot = \"b\"\n").unwrap();
        let below = dir.path().join("x/y");
        std::fs::create_dir_all(&below).unwrap();
        let config = Config::load(&below, None).unwrap();
        let Env::Lake(lake) = config.environment("lake").unwrap() else { panic!("not a lake") };
        assert_eq!(lake.root, "b");
        assert_eq!(config.base, dir.path());
        assert!(config.origins["env.lake.root"].to_string().ends_with(LOCAL_FILE));
        assert_eq!(config.environment("lkae").unwrap_err().help_line(), "did you mean `lake`?");
    }

    #[test]
    fn a_syntax_error_names_file_and_line() {
        let e = load("[job.x]\nto = \n").unwrap_err();
        assert!(e.message().contains("line 2"), "{e:?}");
        assert!(e.context_value("file").is_some());
    }
}
