//! One file per family of commands; each gets the arguments and prints through [`Output`].

use std::sync::Arc;

use lakeport::config::{Config, ensure_bare_reference};
use lakeport::error::{Kind, Result, Wrap};
use lakeport::export::Places;
use lakeport::{Lakeport, Limits};
use lakeport_sandbox::Options;
use serde_json::{Value, json};

use crate::args::{Args, Command};
use crate::output::{Output, human};

mod changes;
mod configure;
mod explore;
mod jobs;
mod learn;
mod past;
mod serve;

/// Runs the command and gives the exit code.
pub(crate) async fn dispatch(args: Args, output: &Output) -> u8 {
    let done = match &args.command {
        Command::Init => configure::init(output),
        Command::Config { what } => load(&args).and_then(|config| configure::config(&config, what, output)),
        Command::Formats => learn::formats(output),
        Command::Explain { code } => learn::explain(code.as_deref(), output),
        Command::Completions { shell } => learn::completions(*shell),
        Command::Sandbox { port, data, fault, revisions, packages } => {
            let mut options = Options::new(data);
            (options.port, options.revisions, options.packages) = (*port, *revisions, *packages);
            options.faults.clone_from(fault);
            serve::sandbox(options, output).await
        }
        command => match command.references().into_iter().try_for_each(ensure_bare_reference).and_then(|()| open(&args)) {
            Ok(lakeport) => return with_lakeport(args, lakeport, output).await,
            Err(e) => Err(e),
        },
    };
    finish(done, output)
}

/// The commands that need environments; sessions and helper processes end before the exit code is given.
async fn with_lakeport(args: Args, mut lakeport: Lakeport, output: &Output) -> u8 {
    let code = match args.command {
        Command::Run { what, all } => jobs::run(&mut lakeport, &what, all, output).await,
        Command::Convert { from, file, options } => jobs::convert(&lakeport, &from, &file, &options, output).await,
        Command::Plan { what } => match jobs::plan(&mut lakeport, &what, output).await {
            Ok(code) => code,
            Err(e) => finish(Err(e), output),
        },
        Command::Publish { file, to, action, key, change, verify, .. } if !action.is_empty() => {
            let wanted =
                changes::Wanted { file: &file, to: &to, actions: &action, key: &key, verify: verify.into(), more: &change };
            finish(changes::change(&lakeport, &wanted, output).await, output)
        }
        Command::Publish { file, to, mode, verify, .. } => {
            finish(jobs::publish(&lakeport, &file, &to, mode, verify.into(), output).await, output)
        }
        Command::Check { environments, job: Some(job), .. } => {
            finish(explore::job(&lakeport, &environments, &job, output).await, output)
        }
        Command::Check { environments, install_hyperd, .. } => {
            match explore::check(&lakeport, &environments, install_hyperd, output).await {
                Ok(code) => code,
                Err(e) => finish(Err(e), output),
            }
        }
        Command::Ls { reference } => finish(explore::ls(&lakeport, &reference, output).await, output),
        Command::Describe { reference } => finish(explore::describe(&lakeport, &reference, output).await, output),
        Command::Report { run, html } => finish(past::report(&lakeport, run.as_deref(), html.as_deref(), output), output),
        Command::State { what } => finish(past::state(&lakeport, &what, output), output),
        _ => 0,
    };
    lakeport.close().await;
    code
}

fn finish(done: Result<()>, output: &Output) -> u8 {
    match done {
        Ok(()) => 0,
        Err(e) => output.failure(&e, json!({})),
    }
}

/// The kinds of tables that have a place of their own.
fn places() -> Vec<Arc<dyn Places>> {
    vec![Arc::new(lakeport_delta::DeltaPlaces)]
}

fn load(args: &Args) -> Result<Config> {
    Config::load(&directory()?, args.config.as_deref())
}

fn directory() -> Result<std::path::PathBuf> {
    std::env::current_dir().wrap(Kind::Unexpected, || "there is no working directory".into())
}

fn open(args: &Args) -> Result<Lakeport> {
    let config = load(args)?;
    let engine = Arc::new(lakeport_engines::Engines::new(&config));
    Ok(Lakeport::new(config, engine, Limits::default(), directory()?).with_places(places()))
}

/// A value as JSON; what Lakeport serialises always can be.
fn value(of: &impl serde::Serialize) -> Value {
    serde_json::to_value(of).unwrap_or(Value::Null)
}

/// Rows of `key value`, aligned.
fn facts(rows: &[(String, String)]) -> String {
    human::table(&rows.iter().map(|(k, v)| vec![k.clone(), v.clone()]).collect::<Vec<_>>(), "  ")
}
