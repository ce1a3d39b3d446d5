//! The rows of a plan become one file, and what arrived in it is compared with what left.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::{Event, Listener, blocking, direct, flow};
use crate::convert::{Format, Writer, Written};
use crate::error::{Context, Result};
use crate::limits::Limits;
use crate::plan::{PlannedTable, Route};
use crate::report::Report;
use crate::source::Work;
use crate::types::Mapping;
use crate::verify::Verify;

/// How the file of one job is made.
pub(super) struct Conversion<'a> {
    /// What writes it and reads it back.
    pub(super) format: Arc<dyn Format>,
    /// How closely it is compared.
    pub(super) verify: Verify,
    /// Memory and cores.
    pub(super) limits: Limits,
    /// Who is told.
    pub(super) listen: Listener<'a>,
    /// Of which job.
    pub(super) name: &'a str,
}

impl Conversion<'_> {
    /// Writes all tables, each by its route; the writer comes back, with what is still being measured of the sources.
    pub(super) async fn fill(
        &self,
        mut writer: Box<dyn Writer>,
        tables: Vec<PlannedTable>,
        report: &mut Report,
    ) -> Result<(Box<dyn Writer>, Vec<Pending>)> {
        let &Self { ref format, verify, ref limits, listen, name } = self;
        let mut pending = Vec::new();
        let total = tables.iter().map(|t| t.table.snapshot.rows).sum::<Option<u64>>();
        let done = Arc::new(AtomicU64::new(0));
        for (index, planned) in tables.into_iter().enumerate() {
            let PlannedTable { table, mapping, route, from } = planned;
            let shown = Shown { listen, name, done: &done, total };
            let converted = match (route, table.plain) {
                (Route::Direct(_), Ok(scan)) => {
                    // Nobody reads the streams; what they hold must not outlive the decision.
                    drop(table.partitions);
                    let staged = match table.staging {
                        Some(staging) => shown.during(staging, table.work).await.map(|s| (s.scan, Some(s.keep))),
                        None => Ok((scan, None)),
                    };
                    match staged {
                        Ok((scan, files)) => {
                            let unseen = files.is_some().then(|| Arc::clone(format));
                            direct::load(writer, index, mapping, scan, verify, unseen).await.map(|(writer, report, left)| {
                                pending.extend(left.map(|left| Pending { table: index, left, files }));
                                (writer, report)
                            })
                        }
                        Err(e) => Err(e),
                    }
                }
                _ => {
                    drop(table.staging);
                    let sink = flow::OfTable { writer, table: index };
                    let flow = async {
                        let (sink, report) =
                            flow::stream(sink, mapping, table.partitions, verify, limits, Arc::clone(&done)).await?;
                        Ok((sink.writer, report))
                    };
                    shown.during(flow, table.work).await
                }
            };
            let (back, table_report) = converted.at("source", &from).during("convert")?;
            writer = back;
            report.tables.push(table_report);
        }
        listen(name, Event::Rows(report.rows(), total));
        Ok((writer, pending))
    }

    /// Reads the finished file back and compares it with what left the sources.
    ///
    /// # Errors
    /// `VerifyFailed`, and what reading either side says.
    pub(super) async fn read_back(
        self,
        written: &Written,
        mappings: Vec<Mapping>,
        pending: Vec<Pending>,
        report: &mut Report,
    ) -> Result<()> {
        let Self { format, verify, limits, .. } = self;
        if verify == Verify::None {
            report.verified.push("nothing was verified, as asked".into());
            return Ok(());
        }
        let (tables, columns) = (mappings.len(), mappings.iter().map(|m| m.columns.len()).sum::<usize>());
        let (measured, kept): (Vec<_>, Vec<_>) = pending.into_iter().map(|p| ((p.table, p.left), p.files)).unzip();
        let path = written.path.clone();
        // On a thread of its own: a run that is given up lets go at once, and other jobs go on.
        let (arrived, measured) = blocking(move || {
            let arrived = format.read_back(&path, &mappings.iter().collect::<Vec<_>>(), verify, &limits)?;
            let known = measured.into_iter().map(|(table, left)| Ok((table, left.known()?))).collect::<Result<Vec<_>>>()?;
            Ok((arrived, known))
        })
        .await?;
        drop(kept);
        for (table, left) in measured {
            report.tables[table].left = Some(left);
        }
        for (table, arrived) in report.tables.iter_mut().zip(arrived) {
            let same = table.left.as_ref().map(|left| left.ensure_same(&arrived, &table.table));
            table.arrived = Some(arrived);
            same.transpose()?;
        }
        report.verified.push(match verify {
            Verify::None | Verify::Counts => format!("rows of {tables} table(s) read back from the finished file"),
            Verify::Fingerprint => {
                format!("rows, and NULLs, least, greatest and sum of {columns} columns read back from the finished file")
            }
            Verify::Full => format!("every value of {columns} columns read back from the finished file and hashed"),
        });
        Ok(())
    }
}

/// What left the source of a table, not yet known.
pub(super) struct Pending {
    table: usize,
    left: direct::Left,
    /// Keeps the files that are still read.
    files: Option<Box<dyn Any + Send>>,
}

/// How far a conversion is, as it is told while it goes on.
struct Shown<'a> {
    listen: Listener<'a>,
    name: &'a str,
    done: &'a AtomicU64,
    total: Option<u64>,
}

impl Shown<'_> {
    /// Tells rows and the cluster's work until this is done.
    async fn during<T>(&self, doing: impl Future<Output = T>, mut work: Option<watch::Receiver<Work>>) -> T {
        tokio::pin!(doing);
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(200));
        loop {
            tokio::select! {
                result = &mut doing => return result,
                _ = tick.tick() => {
                    if let Some(work) = work.as_mut().filter(|w| w.has_changed().unwrap_or(false)) {
                        (self.listen)(self.name, Event::Work(*work.borrow_and_update()));
                    }
                    (self.listen)(self.name, Event::Rows(self.done.load(Ordering::Relaxed), self.total));
                }
            }
        }
    }
}
