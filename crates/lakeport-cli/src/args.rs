//! The command line. Names and meanings are fixed; scripts depend on them.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use lakeport::config::{Job, LossyConfig, RouteWish};
use lakeport::convert::manifest::Split;
use lakeport::error::{Error, Kind, Result};
use lakeport::export::Mode;
use lakeport::verify::Verify;

/// Publishes tables of a data lake to the tools people look at.
#[derive(Debug, Parser)]
#[command(name = "lakeport", version, about, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Read this configuration instead of searching for lakeport.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print exactly one JSON document on stdout.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print errors only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Log more; twice logs everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a commented lakeport.toml and the .gitignore lines.
    Init,
    /// Look whether environments can be reached, signed in to and published to.
    Check {
        /// Environments; all of them when none is named.
        environments: Vec<String>,
        /// Look at this server-side job of the one environment named.
        #[arg(long, value_name = "ID", requires = "environments")]
        job: Option<String>,
        /// Fetch the pinned hyperd into the user's cache first.
        #[arg(long)]
        install_hyperd: bool,
    },
    /// List tables, or data sources, of an environment.
    Ls {
        /// ENV or ENV:PATH, or a path or URL.
        reference: String,
    },
    /// Show columns, rows, snapshot and size of a table, or of a file (.hyper .yxdb .tde .xlsx …).
    Describe {
        /// A reference or a file.
        reference: String,
    },
    /// Show everything a run would do, column by column; write nothing.
    Plan {
        #[command(flatten)]
        what: What,
    },
    /// Convert, export and verify.
    Run {
        #[command(flatten)]
        what: What,
        /// All jobs of the configuration.
        #[arg(long, conflicts_with_all = ["jobs", "from", "to"])]
        all: bool,
    },
    /// Convert a table into a file: the first half of a run.
    Convert {
        /// What to read: ENV:path, a path or a URL.
        from: String,
        /// The file; its extension names the format.
        file: String,
        #[command(flatten)]
        options: Options,
    },
    /// Publish a finished file: the second half of a run.
    Publish {
        /// The file.
        file: PathBuf,
        /// Where to: ENV:Name.
        to: String,
        /// What becomes of what is there.
        #[arg(long, default_value = "full", value_parser = mode)]
        mode: Mode,
        /// How thoroughly to verify; with --action, `full` downloads the data source before and after, and compares all rows.
        #[arg(long, value_enum, default_value = "fingerprint")]
        verify: VerifyArg,
        /// Change the data source in place instead: several make one change, all or nothing.
        #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "mode")]
        action: Vec<ActionArg>,
        /// The columns that identify a row, for update, upsert and delete.
        #[arg(long, value_delimiter = ',', value_name = "COLUMNS", requires = "action")]
        key: Vec<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Print a past run.
    Report {
        /// Its id, or the beginning of it; the last run when left out.
        run: Option<String>,
        /// Write it as a page.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Show or forget what a job remembers.
    State {
        #[command(subcommand)]
        what: StateCommand,
    },
    /// Show the configuration.
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// What each format and target can do.
    Formats,
    /// An error at length.
    Explain {
        /// A code such as E206; all of them when left out.
        code: Option<String>,
    },
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Run the local stand-in for Tableau Server.
    Sandbox {
        /// The port; any free one when 0.
        #[arg(long, default_value_t = 8850)]
        port: u16,
        /// Where it keeps what is published.
        #[arg(long, value_name = "DIR", default_value = ".lakeport/sandbox")]
        data: PathBuf,
        /// Fail on purpose, such as append:2:reset-after; see docs/sandbox.md.
        #[arg(long, value_name = "KIND:CALL:EFFECT")]
        fault: Vec<lakeport_sandbox::Fault>,
        /// How many versions of a data source are kept, the current one included.
        #[arg(long, value_name = "N", default_value_t = 5)]
        revisions: usize,
        /// Hand out data sources as packages (.tdsx), as real servers do, and not as bare extracts.
        #[arg(long)]
        packages: bool,
    },
}

impl Command {
    /// What it is to read and write, as the user named it.
    pub(crate) fn references(&self) -> Vec<&str> {
        match self {
            Self::Ls { reference } | Self::Describe { reference } => vec![reference],
            Self::Plan { what } | Self::Run { what, .. } => what.from.iter().chain(&what.to).map(String::as_str).collect(),
            Self::Convert { from, file, .. } => vec![from, file],
            Self::Publish { to, .. } => vec![to],
            _ => Vec::new(),
        }
    }
}

/// What else there is to say about a change in place.
#[derive(Debug, ClapArgs)]
pub(crate) struct ChangeArgs {
    /// Published whole when the change in place is refused: the table as it is to be afterwards.
    #[arg(long, value_name = "FILE", requires = "action")]
    pub(crate) fallback: Option<PathBuf>,
    /// What tells this change from an equal one of the same day, which the server would take for a repeat.
    #[arg(long, value_name = "TEXT", requires = "action")]
    pub(crate) change_id: Option<String>,
}

/// `lakeport state …`
#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Show what a job remembers.
    Show {
        /// The job.
        job: String,
    },
    /// Forget it.
    Reset {
        /// The job.
        job: String,
    },
}

/// `lakeport config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the merged configuration.
    Show {
        /// Say which file or variable each value comes from.
        #[arg(long)]
        origin: bool,
    },
    /// Print the files that are read, the winning one first.
    Path,
    /// Print the JSON schema of lakeport.toml.
    Schema,
}

/// Which jobs: named ones, or one made of flags.
#[derive(Debug, ClapArgs)]
pub(crate) struct What {
    /// Jobs of the configuration.
    #[arg(conflicts_with_all = ["from", "to"])]
    pub(crate) jobs: Vec<String>,
    /// What to read: ENV:path, a path or a URL.
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Where to put it: ENV:Name, a file path or URL.
    #[arg(long)]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// What a flag may say over a job.
#[derive(Debug, ClapArgs)]
pub(crate) struct Options {
    /// SQL over the source; the table of --from is called src.
    #[arg(long)]
    pub(crate) sql: Option<String>,
    /// A condition on the result.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) filter: Option<String>,
    /// At most so many rows.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// What becomes of what is there: full, append, upsert, delete-insert (also create, replace).
    #[arg(long, value_parser = mode)]
    pub(crate) mode: Option<Mode>,
    /// Columns that identify a row.
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    pub(crate) key: Vec<String>,
    /// The column that grows with every change.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) cursor: Option<String>,
    /// The type of a column in the target; nested ones take json, flatten, drop or refuse.
    #[arg(long, value_name = "COLUMN=TYPE", value_parser = pair)]
    pub(crate) types: Vec<(String, String)>,
    /// Accept changed values in all columns, or in these.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "COLUMNS", value_parser = lossy)]
    pub(crate) lossy: Option<LossyConfig>,
    /// How thoroughly to verify.
    #[arg(long, value_enum)]
    pub(crate) verify: Option<VerifyArg>,
    /// Memory of the engine, such as 1GiB.
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Jobs side by side.
    #[arg(long = "jobs", value_name = "N")]
    pub(crate) parallel: Option<usize>,
    /// The format, where the name does not say it.
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// The table's name in the file.
    #[arg(long)]
    pub(crate) table: Option<String>,
    /// Several files and a manifest instead of one file: partition, rows=1000000 or size=256MiB.
    #[arg(long, value_name = "BY", value_parser = split)]
    pub(crate) split: Option<Split>,
    /// How a .hyper is loaded, instead of choosing.
    #[arg(long, value_enum)]
    pub(crate) route: Option<RouteArg>,
}

/// `--verify`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum VerifyArg {
    /// Not at all.
    None,
    /// Rows.
    Counts,
    /// Rows, and NULLs, least, greatest and sum of each column.
    Fingerprint,
    /// Every value.
    Full,
}

impl From<VerifyArg> for Verify {
    fn from(arg: VerifyArg) -> Self {
        match arg {
            VerifyArg::None => Self::None,
            VerifyArg::Counts => Self::Counts,
            VerifyArg::Fingerprint => Self::Fingerprint,
            VerifyArg::Full => Self::Full,
        }
    }
}

/// `--action`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ActionArg {
    /// Rows are added.
    Insert,
    /// Rows with a known key are changed.
    Update,
    /// Rows with a known key are changed, others added.
    Upsert,
    /// Rows with the key of a row of the file are removed.
    Delete,
    /// All rows are exchanged.
    Replace,
}

/// `--route`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RouteArg {
    /// hyperd loads the Parquet files itself.
    Direct,
    /// Record batches pass through Lakeport.
    Streamed,
}

fn mode(text: &str) -> std::result::Result<Mode, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| "the modes are full, append, upsert, delete-insert, create and replace".to_owned())
}

/// `true` or nothing means all columns; an empty list, as of a variable that is not set, must not.
fn lossy(text: &str) -> std::result::Result<LossyConfig, String> {
    let columns: Vec<String> = text.split(',').map(|c| c.trim().to_owned()).collect();
    if columns.iter().any(String::is_empty) {
        return Err("it names no column: write --lossy for all columns, or --lossy=a,b".to_owned());
    }
    Ok(if text == "true" { LossyConfig::All(true) } else { LossyConfig::Columns(columns) })
}

fn split(text: &str) -> std::result::Result<Split, String> {
    Split::try_from(text.to_owned())
}

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (column, wish) = text.split_once('=').ok_or("write COLUMN=TYPE, such as amount=numeric(38,10)")?;
    Ok((column.to_owned(), wish.to_owned()))
}

impl Options {
    /// Lays the flags over a job; what is not given stays.
    pub(crate) fn over(&self, job: &mut Job) {
        let set = |slot: &mut Option<String>, flag: &Option<String>| {
            if flag.is_some() {
                slot.clone_from(flag);
            }
        };
        set(&mut job.sql, &self.sql);
        set(&mut job.filter, &self.filter);
        set(&mut job.cursor, &self.cursor);
        set(&mut job.memory, &self.memory);
        set(&mut job.format, &self.format);
        set(&mut job.table, &self.table);
        job.limit = self.limit.or(job.limit);
        job.mode = self.mode.unwrap_or(job.mode);
        job.split = self.split.or(job.split);
        job.verify = self.verify.map(Verify::from).or(job.verify);
        if !self.key.is_empty() {
            job.key.clone_from(&self.key);
        }
        for (column, wish) in &self.types {
            job.types.insert(column.clone(), wish.clone());
        }
        if let Some(lossy) = &self.lossy {
            job.lossy.clone_from(lossy);
        }
        job.route = match self.route {
            Some(RouteArg::Direct) => Some(RouteWish::Direct),
            Some(RouteArg::Streamed) => Some(RouteWish::Streamed),
            None => job.route,
        };
    }
}

impl What {
    /// The jobs meant, each with its name, flags laid over them.
    pub(crate) fn jobs(&self, config: &lakeport::config::Config, all: bool) -> Result<Vec<(String, Job)>> {
        let named: Vec<String> = if all { config.job.keys().cloned().collect() } else { self.jobs.clone() };
        let mut jobs = Vec::new();
        for name in named {
            let mut job = config.job(&name)?.clone();
            self.options.over(&mut job);
            jobs.push((name, job));
        }
        if let Some(to) = &self.to {
            if self.from.is_none() && self.options.sql.is_none() {
                return Err(Error::new(Kind::Usage, "--to needs --from or --sql"));
            }
            let mut job = Job { from: self.from.clone(), to: to.clone(), ..Job::default() };
            self.options.over(&mut job);
            let from = self.from.as_deref().unwrap_or("sql");
            jobs.push((format!("{from} → {to}"), job));
        } else if self.from.is_some() {
            return Err(Error::new(Kind::Usage, "--from needs --to"));
        }
        if jobs.is_empty() {
            let e = Error::new(Kind::Usage, "no job is named");
            return Err(if config.job.is_empty() {
                e.help("no configuration has one: write it into lakeport.toml, or give --from and --to")
            } else {
                e.help(format!("the jobs are {}; --all runs them all", config.job.keys().cloned().collect::<Vec<_>>().join(", ")))
            });
        }
        Ok(jobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn lossy_takes_nothing_or_columns() {
        let parsed = |args: &[&str]| Args::try_parse_from([&["lakeport", "plan", "x"], args].concat());
        let lossy = |args: &[&str]| match parsed(args).unwrap().command {
            Command::Plan { what } => what.options.lossy,
            _ => None,
        };
        assert_eq!(lossy(&[]), None);
        assert_eq!(lossy(&["--lossy"]), Some(LossyConfig::All(true)));
        assert_eq!(lossy(&["--lossy=a,b"]), Some(LossyConfig::Columns(vec!["a".into(), "b".into()])));
        assert!(parsed(&["--lossy="]).unwrap_err().to_string().contains("names no column"));
        assert!(parsed(&["--lossy=a,"]).is_err());
    }
}
