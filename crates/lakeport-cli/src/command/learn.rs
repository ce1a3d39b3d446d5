//! `formats`, `explain`, `completions`: what Lakeport can do, and what its errors mean.

use std::io::Write;

use clap::CommandFactory;
use lakeport::advice;
use lakeport::convert::Formats;
use lakeport::error::{Error, Kind, Result};
use serde_json::json;

use super::value;
use crate::args::Args;
use crate::output::{Output, human};

/// `lakeport formats`.
pub(super) fn formats(output: &Output) -> Result<()> {
    // What only a database ingests is no file of anyone's.
    let formats =
        Formats::new().iter().map(lakeport::convert::Format::capability).filter(|f| !f.extensions.is_empty()).collect::<Vec<_>>();
    let mut targets = lakeport::export::capabilities();
    targets.extend(super::places().iter().map(|p| p.capability()));
    let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
    let mut rows = vec![["format", "write", "read", "tables", "digits", "rows", ""].map(str::to_owned).to_vec()];
    rows.extend(formats.iter().map(|f| {
        vec![
            f.name.to_owned(),
            yes(f.write),
            yes(f.read),
            if f.many_tables { "many" } else { "one" }.to_owned(),
            f.max_decimal.to_string(),
            f.max_rows.map_or_else(|| "unbounded".to_owned(), human::grouped),
            f.summary.to_owned(),
        ]
    }));
    let mut text = human::table(&rows, "");
    let mut rows = vec![["target", "takes", "modes", ""].map(str::to_owned).to_vec()];
    rows.extend(targets.iter().map(|t| {
        let takes = if t.formats.is_empty() { "any".to_owned() } else { t.formats.join(" ") };
        let modes: Vec<_> = t.modes.iter().map(|m| m.name()).collect();
        vec![t.name.to_owned(), takes, modes.join(" "), t.summary.to_owned()]
    }));
    text.push('\n');
    text.push_str(&human::table(&rows, ""));
    output.result(&text, json!({ "formats": value(&formats), "targets": value(&targets) }));
    Ok(())
}

/// `lakeport explain`.
pub(super) fn explain(code: Option<&str>, output: &Output) -> Result<()> {
    let Some(code) = code else {
        let rows: Vec<_> =
            advice::ALL.iter().map(|a| vec![a.code.to_owned(), format!("exit {}", a.exit_code), a.title.to_owned()]).collect();
        let all: Vec<_> = advice::ALL
            .iter()
            .map(|a| json!({ "code": a.code, "exit_code": a.exit_code, "title": a.title, "retry": a.retry }))
            .collect();
        output.result(&human::table(&rows, ""), json!({ "errors": all }));
        return Ok(());
    };
    let a = advice::by_code(code).ok_or_else(|| {
        Error::new(Kind::Usage, format!("there is no error `{code}`")).help("`lakeport explain` lists them all")
    })?;
    let again = if a.retry { "the same command may succeed when run again" } else { "running it again changes nothing" };
    let text =
        format!("{}: {}\n\n{}\n\nexit code {} · {again}\nhelp: {}\n", a.code, a.title, wrapped(a.explain), a.exit_code, a.help);
    output.result(&text, json!({ "code": a.code, "title": a.title, "explain": a.explain, "exit_code": a.exit_code, "retry": a.retry, "help": a.help }));
    Ok(())
}

/// Breaks a text into lines of at most 96 characters.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let n = word.chars().count();
        if length > 0 && length + 1 + n > 96 {
            out.push('\n');
            length = 0;
        } else if length > 0 {
            out.push(' ');
            length += 1;
        }
        out.push_str(word);
        length += n;
    }
    out
}

/// `lakeport completions`.
#[expect(clippy::unnecessary_wraps, reason = "every command has one shape")]
pub(super) fn completions(shell: clap_complete::Shell) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "lakeport", &mut text);
    // A reader that has seen enough is no failure.
    let _ = std::io::stdout().write_all(&text);
    Ok(())
}
