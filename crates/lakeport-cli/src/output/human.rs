//! Results and errors as text for people.

use std::fmt::Write;

use lakeport::error::Error;
use lakeport::limits::show_size;
use lakeport::plan::PlanSummary;
use lakeport::report::Report;
use lakeport::types::Verdict;
use serde_json::Value;

/// `336,776`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// An error in the four lines everyone should get: what, where, why, what now.
pub(crate) fn error(e: &Error, colour: bool) -> String {
    let (red, bold, dim, reset) = if colour { ("\x1b[1;31m", "\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "", "") };
    let mut out = format!("{red}error[{}]{reset}: {bold}{}{reset}\n", e.code(), e.message());
    let place: Vec<_> = e
        .context()
        .iter()
        .filter(|(key, value)| !(matches!(*key, "column" | "key") && e.message().contains(value.as_str())))
        .map(|(key, value)| format!("{key} {value}"))
        .collect();
    if !place.is_empty() {
        let _ = writeln!(out, "  {}", place.join(" · "));
    }
    for cause in e.causes() {
        let _ = writeln!(out, "  {dim}caused by:{reset} {cause}");
    }
    let _ = writeln!(out, "  help: {}", e.help_line());
    out
}

/// Columns of text, each padded to its widest cell.
pub(crate) fn table(rows: &[Vec<String>], indent: &str) -> String {
    let width = |s: &str| s.chars().count();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..columns).map(|c| rows.iter().filter_map(|r| r.get(c)).map(|s| width(s).min(60)).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::from(indent);
        for (cell, widest) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', widest.saturating_sub(width(cell)) + 2));
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// A plan, column by column.
pub(crate) fn plan(plan: &PlanSummary, colour: bool) -> String {
    let paint = |verdict: &Verdict, text: String| {
        let code = match verdict {
            _ if !colour => return text,
            Verdict::Exact => "32",
            Verdict::Widened(_) => "36",
            Verdict::Checked(_) => "33",
            Verdict::Lossy(_) | Verdict::Refused(_) => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    };
    let mut out = format!("{}\n  {} → {}\n", plan.job, plan.from, plan.to);
    let _ = writeln!(
        out,
        "  mode {} · format .{} · verify {}",
        plan.mode.name(),
        plan.format,
        format!("{:?}", plan.verify).to_lowercase()
    );
    let among = if plan.limits.jobs > 1 { format!(", one of {} jobs side by side", plan.limits.jobs) } else { String::new() };
    let _ = writeln!(out, "  memory {} for the engine{among}", show_size(plan.limits.memory));
    if let Some(split) = &plan.split {
        let _ = writeln!(out, "  split {} · {}, … · then {}", split.by, split.first, split.manifest);
    }
    for note in &plan.notes {
        let _ = writeln!(out, "  note: {note}");
    }
    for t in &plan.tables {
        let s = &t.snapshot;
        let rows = s.rows.map_or_else(|| "rows not known yet".to_owned(), |n| format!("{} rows", grouped(n)));
        let _ = writeln!(out, "\n  table {}  from {}", t.table, t.from);
        // A query on a cluster reads what only the cluster knows.
        let files =
            if s.files == 0 { String::new() } else { format!(" in {} file(s), {}", grouped(s.files), show_size(s.bytes)) };
        let _ = writeln!(out, "    reads   {}{files}, {} partition stream(s)", s.layout, t.partitions);
        let snapshot = if s.id.is_empty() { String::new() } else { format!(" · snapshot {}", s.id) };
        let _ = writeln!(out, "            {rows}{snapshot}");
        let (route, why) = match &t.route {
            lakeport::plan::Route::Direct(why) => ("direct", why),
            lakeport::plan::Route::Streamed(why) => ("streamed", why),
        };
        let _ = writeln!(out, "    route   {route}: {why}");
        for (fact, value) in &t.facts {
            let _ = writeln!(out, "    {fact} {value}");
        }
        if !t.primary_key.is_empty() {
            let _ = writeln!(out, "    primary key ({})", t.primary_key.join(", "));
        }
        for key in &t.foreign_keys {
            let (columns, references) = (key.columns.join(", "), key.references.join(", "));
            let _ = writeln!(out, "    foreign key ({columns}) → {} ({references})", key.table);
        }
        for dropped in &t.dropped {
            let _ = writeln!(out, "    left out by wish: {dropped}");
        }
        // Painted after padding, so that escapes do not count as width.
        let cells: Vec<_> = t
            .columns
            .iter()
            .map(|c| {
                let null = if c.nullable { "" } else { " not null" };
                vec![
                    c.name.clone(),
                    c.source_type.clone(),
                    "→".into(),
                    format!("{}{null}", c.target_type),
                    c.verdict.name().to_owned(),
                    {
                        let why = c.verdict.why().unwrap_or_default();
                        let note = c.note.as_deref().unwrap_or_default();
                        let accepted = if c.accepted && matches!(c.verdict, Verdict::Lossy(_) | Verdict::Checked(_)) {
                            "accepted"
                        } else {
                            ""
                        };
                        [why, note, accepted].iter().filter(|t| !t.is_empty()).copied().collect::<Vec<_>>().join(" · ")
                    },
                ]
            })
            .collect();
        for (line, column) in table(&cells, "    ").lines().zip(&t.columns) {
            let word = column.verdict.name();
            let painted = match line.rfind(&format!("  {word}")) {
                Some(at) => {
                    format!("{}  {}{}", &line[..at], paint(&column.verdict, word.to_owned()), &line[at + 2 + word.len()..])
                }
                None => line.to_owned(),
            };
            let _ = writeln!(out, "{painted}");
        }
    }
    if !plan.accepted {
        let _ = writeln!(out, "\n  a run would stop here (exit 6): a column cannot be kept exactly and is not accepted");
    }
    out
}

/// What a run did, short enough to paste.
pub(crate) fn report(report: &Report) -> String {
    let mut out = String::new();
    let (job, from, to) = report.plan.as_ref().map_or(("", "", ""), |p| (p.job.as_str(), p.from.as_str(), p.to.as_str()));
    let _ = writeln!(out, "{} {job}", if report.ok { "done" } else { "failed" });
    let _ = writeln!(out, "  {from} → {to}");
    let size = report.file.as_ref().map_or_else(String::new, |f| format!(" · {} .{}", show_size(f.bytes), f.format));
    let partitions: usize = report.tables.iter().map(|t| t.partitions.len()).sum();
    let _ = writeln!(out, "  {} rows from {partitions} partition(s){size} · {:.1} s", grouped(report.rows()), report.seconds);
    if let Some(plan) = &report.plan {
        for t in &plan.tables {
            let (route, why) = match &t.route {
                lakeport::plan::Route::Direct(why) => ("direct", why),
                lakeport::plan::Route::Streamed(why) => ("streamed", why),
            };
            let _ = writeln!(out, "  {}: {route} ({why})", t.table);
        }
    }
    for line in &report.verified {
        let mark = if line.starts_with("not verified") || line.starts_with("nothing") { "note" } else { "verified" };
        let _ = writeln!(out, "  {mark}: {}", line.trim_start_matches("not verified: "));
    }
    if report.changed_values() > 0 {
        for t in &report.tables {
            for (column, n) in &t.changed_values {
                let _ = writeln!(out, "  changed with consent: {} value(s) of `{column}`", grouped(n.as_u64().unwrap_or(0)));
            }
        }
    }
    if let Some(path) = report.file.as_ref().and_then(|f| f.path.as_ref()) {
        let _ = writeln!(out, "  written: {}", path.display());
    }
    if let (Some(first), Some(last)) = (report.parts.first(), report.parts.last()) {
        let _ = writeln!(out, "  {} file(s): {} … {}", report.parts.len(), first.name, last.name);
    }
    if let Some(receipt) = &report.receipt {
        let _ = writeln!(
            out,
            "  published: {} ({}, {})",
            receipt.url.as_deref().unwrap_or(&receipt.id),
            show_size(receipt.bytes),
            receipt.way
        );
        for note in &receipt.notes {
            let _ = writeln!(out, "  note: {note}");
        }
        for retry in &receipt.retries {
            let _ = writeln!(out, "  repeated: {retry}");
        }
    }
    let memory = report.peak_memory;
    if memory.lakeport > 0 {
        let helper = if memory.hyperd > 0 { format!(", {} hyperd", show_size(memory.hyperd)) } else { String::new() };
        let _ = writeln!(out, "  peak memory: {} lakeport{helper}", show_size(memory.lakeport));
    }
    let _ = writeln!(out, "  run {}", report.id);
    out
}

/// A past run's `run.json` as text, at length.
pub(crate) fn past(run: &Value) -> String {
    let text = |pointer: &str| match run.pointer(pointer) {
        Some(Value::String(s)) => s.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let number = |v: Option<&Value>| v.and_then(Value::as_u64).unwrap_or(0);
    let seconds = |v: Option<&Value>| format!("{:.2} s", v.and_then(Value::as_f64).unwrap_or(0.0));
    let mut out = format!("run {} · {} · {}\n", text("/id"), text("/started"), seconds(run.get("seconds")));
    let ok = run["ok"].as_bool().unwrap_or(false);
    let _ = writeln!(out, "{} {} (exit {})", if ok { "done" } else { "failed" }, text("/job"), number(run.get("exit_code")));
    // A run that could not be planned got no further than its name.
    if run.get("plan").is_some() {
        let _ = writeln!(out, "{} → {}", text("/plan/from"), text("/plan/to"));
    }
    if !ok {
        let _ = writeln!(out, "error[{}]: {}", text("/error/code"), text("/error/message"));
        let places: Vec<_> = (run.pointer("/error/context").and_then(Value::as_array).into_iter().flatten())
            .filter_map(|pair| Some(format!("{} {}", pair[0].as_str()?, pair[1].as_str()?)))
            .collect();
        if !places.is_empty() {
            let _ = writeln!(out, "  {}", places.join(" · "));
        }
        for cause in run.pointer("/error/causes").and_then(Value::as_array).into_iter().flatten() {
            let _ = writeln!(out, "  caused by: {}", cause.as_str().unwrap_or_default());
        }
        let _ = writeln!(out, "  help: {}", text("/error/help"));
    }
    let empty = Vec::new();
    let list = |pointer: &str| run.pointer(pointer).and_then(Value::as_array).unwrap_or(&empty);
    for (planned, done) in list("/plan/tables").iter().zip(list("/tables").iter().map(Some).chain(std::iter::repeat(None))) {
        let _ = writeln!(
            out,
            "\ntable {} · {} · {} · snapshot {}",
            planned["table"].as_str().unwrap_or_default(),
            planned["route"].as_str().unwrap_or_default(),
            done.map_or_else(|| "not finished".into(), |d| format!("{} rows", grouped(number(d.get("rows"))))),
            planned.pointer("/snapshot/id").and_then(Value::as_str).unwrap_or_default(),
        );
        if let Some(why) = planned["why"].as_str() {
            let _ = writeln!(out, "  {}: {why}", planned["route"].as_str().unwrap_or_default());
        }
        let mut rows =
            vec![["column", "from", "to", "verdict", "nulls", "least", "greatest", "sum", ""].map(str::to_owned).to_vec()];
        for (i, column) in planned["columns"].as_array().into_iter().flatten().enumerate() {
            let of = |side: &str| done.and_then(|d| d.pointer(&format!("/{side}/columns/{i}"))).cloned().unwrap_or(Value::Null);
            let (left, arrived) = (of("left"), of("arrived"));
            let whole = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            let cell = |v: &Value| {
                let value = whole(v);
                if value.chars().count() > 24 { value.chars().take(23).chain(['…']).collect() } else { value }
            };
            let mark = if left.is_null() {
                ""
            } else if left == arrived {
                "same on both sides"
            } else {
                "DIFFERS"
            };
            rows.push(vec![
                whole(&column["name"]),
                whole(&column["source_type"]),
                whole(&column["target_type"]),
                whole(&column["verdict"]),
                left.get("nulls").map_or_else(String::new, |n| grouped(n.as_u64().unwrap_or(0))),
                cell(&left["min"]),
                cell(&left["max"]),
                cell(&left["sum"]),
                mark.to_owned(),
            ]);
            if mark == "DIFFERS" {
                let there = |key: &str| cell(&arrived[key]);
                let nulls = arrived.get("nulls").map_or_else(String::new, |n| grouped(n.as_u64().unwrap_or(0)));
                let arrived = [String::new(), String::new(), String::new(), "arrived".into(), nulls];
                rows.push(arrived.into_iter().chain(["min", "max", "sum"].map(there)).collect());
            }
        }
        out.push_str(&table(&rows, "  "));
        for column in planned["columns"].as_array().into_iter().flatten() {
            let said: Vec<_> = ["why", "note"].iter().filter_map(|key| column[key].as_str()).filter(|t| !t.is_empty()).collect();
            if !said.is_empty() {
                let _ = writeln!(out, "  {}: {}", column["name"].as_str().unwrap_or_default(), said.join(" · "));
            }
        }
        for (column, n) in done.and_then(|d| d["changed_values"].as_object()).into_iter().flatten() {
            let _ = writeln!(out, "  changed with consent: {} value(s) of `{column}`", grouped(n.as_u64().unwrap_or(0)));
        }
        let parts = done.and_then(|d| d["partitions"].as_array()).unwrap_or(&empty);
        let rows: Vec<_> = parts
            .iter()
            .map(|p| {
                let name = p["name"].as_str().unwrap_or_default().to_owned();
                vec![
                    format!("partition {name}"),
                    format!("{} rows", grouped(number(p.get("rows")))),
                    show_size(number(p.get("bytes"))),
                    seconds(p.get("seconds")),
                ]
            })
            .collect();
        out.push_str(&table(&rows, "  "));
    }
    let parts: Vec<_> = list("/parts")
        .iter()
        .map(|p| {
            let text = |key: &str| p[key].as_str().unwrap_or_default().to_owned();
            vec![
                text("name"),
                format!("{} rows", grouped(number(p.get("rows")))),
                show_size(number(p.get("bytes"))),
                format!("sha256 {}", text("sha256")),
            ]
        })
        .collect();
    out.push_str(&table(&parts, "  "));
    let _ = writeln!(out);
    if run.get("file").is_some() {
        let _ = writeln!(
            out,
            "file: {} .{} {}",
            show_size(number(run.pointer("/file/bytes"))),
            text("/file/format"),
            text("/file/path")
        );
    }
    if run.get("receipt").is_some() {
        let bytes = show_size(number(run.pointer("/receipt/bytes")));
        let stage = text("/receipt/stage");
        // One that failed tells how far it came.
        let how = if stage == "published" { "published" } else { "not known to be published" };
        let _ = writeln!(out, "{how}: {} · id {} · {bytes}, {}", text("/receipt/url"), text("/receipt/id"), text("/receipt/way"));
        if run.pointer("/receipt/job").is_some_and(Value::is_string) {
            let _ = writeln!(out, "server job: {}", text("/receipt/job"));
        }
        for (word, pointer) in [("note", "/receipt/notes"), ("repeated", "/receipt/retries")] {
            for line in list(pointer) {
                let _ = writeln!(out, "{word}: {}", line.as_str().unwrap_or_default());
            }
        }
    }
    for line in list("/verified") {
        let _ = writeln!(out, "verified: {}", line.as_str().unwrap_or_default());
    }
    let phases: Vec<_> = list("/phases")
        .iter()
        .map(|p| format!("{} {}", p["name"].as_str().unwrap_or_default(), seconds(p.get("seconds"))))
        .collect();
    let _ = writeln!(out, "phases: {}", phases.join(" · "));
    let _ = writeln!(
        out,
        "peak memory: {} lakeport, {} hyperd",
        show_size(number(run.pointer("/peak_memory/lakeport"))),
        show_size(number(run.pointer("/peak_memory/hyperd")))
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use lakeport::error::Kind;

    #[test]
    fn an_error_says_what_where_why_and_what_now() {
        let e = Error::new(Kind::NotExact, "column `amount` cannot be kept exactly in tableau-prod")
            .at("column", "amount")
            .at("snapshot", "412")
            .at("job", "orders")
            .because("decimal(38,10) needs hyper file format 3, the environment allows 2")
            .help("set `hyper_version = 3` in [env.tableau-prod]");
        assert_eq!(
            error(&e, false),
            "error[E206]: column `amount` cannot be kept exactly in tableau-prod\n  job orders · snapshot 412\n  caused by: \
             decimal(38,10) needs hyper file format 3, the environment allows 2\n  help: set `hyper_version = 3` in [env.tableau-prod]\n"
        );
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 336_776].map(grouped), ["0", "999", "1,000", "336,776"]);
    }
}
