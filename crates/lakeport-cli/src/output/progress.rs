//! Progress on stderr: one living line on a terminal, a plain line every ten seconds elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lakeport::limits::show_size;
use lakeport::run::Event;
use lakeport::source::Work;

use super::Output;
use super::human::grouped;

/// How often a plain line is printed.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// How often the living line is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Shows how far the jobs of a run are.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    silent: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    jobs: BTreeMap<String, Line>,
    printed: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Line {
    phase: &'static str,
    detail: String,
    /// What a cluster does for it.
    work: String,
    since: Instant,
}

impl Line {
    fn of(phase: &'static str) -> Self {
        Self { phase, detail: String::new(), work: String::new(), since: Instant::now() }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phase, detail, work, since } = self;
        match since.elapsed().as_secs() {
            seconds if detail.is_empty() && seconds > 0 => write!(f, "{phase} {work}{} s", grouped(seconds)),
            _ => write!(f, "{phase} {work}{detail}"),
        }
    }
}

/// A cluster's work in a few words; nothing once all of it is done.
fn spark(work: Work) -> String {
    let Work { stages, stages_done, tasks, tasks_done, running } = work;
    if tasks_done >= tasks && running == 0 {
        return String::new();
    }
    let stage = grouped((stages_done + 1).min(stages));
    format!(
        "Spark stage {stage} of {}, {} of {} tasks, {running} at work · ",
        grouped(stages),
        grouped(tasks_done),
        grouped(tasks)
    )
}

impl Progress {
    pub(crate) fn new(output: &Output) -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            silent: output.quiet,
            state: Mutex::new(State { jobs: BTreeMap::new(), printed: None }),
        }
    }

    /// Takes an event in and draws when it is time.
    pub(crate) fn on(&self, job: &str, event: Event) {
        let Ok(mut state) = self.state.lock() else { return };
        if self.silent {
            return;
        }
        let line = state.jobs.entry(job.to_owned()).or_insert_with(|| Line::of("open"));
        match event {
            Event::Phase(phase) => *line = Line::of(phase),
            Event::Work(work) => line.work = spark(work),
            Event::Rows(rows, total) => {
                let seconds = line.since.elapsed().as_secs_f64().max(0.001);
                let of = total.filter(|t| *t >= rows).map_or_else(String::new, |t| format!(" of {}", grouped(t)));
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for people")]
                let rate = (rows as f64 / seconds) as u64;
                line.detail = format!("{}{of} rows, {} rows/s", grouped(rows), grouped(rate));
            }
            Event::Uploaded(done, total) => line.detail = format!("{} of {}", show_size(done), show_size(total)),
        }
        self.draw(&mut state);
    }

    /// Draws when it is time, also where nothing was told since: a phase may be long and silent.
    pub(crate) fn tick(&self) {
        if let Ok(mut state) = self.state.lock()
            && !self.silent
            && !state.jobs.is_empty()
        {
            self.draw(&mut state);
        }
    }

    fn draw(&self, state: &mut State) {
        let every = if self.terminal { DRAW_EVERY } else { PLAIN_EVERY };
        let first = *state.printed.get_or_insert_with(Instant::now);
        if first.elapsed() < every {
            return;
        }
        state.printed = Some(Instant::now());
        let all: Vec<_> = state.jobs.iter().map(|(job, line)| format!("{job}: {line}")).collect();
        let mut stderr = std::io::stderr();
        let _ = if self.terminal {
            let text: String = all.join(" · ").chars().take(110).collect();
            write!(stderr, "\r\x1b[2K{text}")
        } else {
            writeln!(stderr, "{}", all.join(" · "))
        };
        let _ = stderr.flush();
    }

    /// Takes a finished job off the line.
    pub(crate) fn done(&self, job: &str) {
        if let Ok(mut state) = self.state.lock() {
            state.jobs.remove(job);
        }
        self.clear();
    }

    /// Wipes the living line, so that a result does not stand behind it.
    pub(crate) fn clear(&self) {
        if self.terminal && !self.silent {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clusters_work_is_told_until_it_is_done() {
        let work = Work { stages: 3, stages_done: 1, tasks: 1200, tasks_done: 14, running: 2 };
        assert_eq!(spark(work), "Spark stage 2 of 3, 14 of 1,200 tasks, 2 at work · ");
        assert_eq!(spark(Work { tasks_done: 1200, stages_done: 3, running: 0, ..work }), "");
        assert_eq!(spark(Work::default()), "");
    }
}
