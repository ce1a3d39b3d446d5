//! Writes one `.hyper` file: batches as Arrow IPC in COPYs of bounded size, or plain reads that hyperd loads itself.
//!
//! A thread owns the connection. The caller encodes batches while that thread sends the former ones and hyperd takes them
//! in, so the three work side by side with at most a few blocks between them.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use arrow::array::RecordBatch;
use arrow::ipc::writer::StreamWriter;
use hyperdb_api::Connection;

use super::process::{Hyperd, absolute, release};
use super::{read_back, sql};
use crate::convert::{Measuring, Writer, Written};
use crate::error::{Error, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::source::PlainScan;
use crate::types::Mapping;
use crate::verify::{Accumulator, Verify};

/// Bytes of encoded batches handed over at a time.
const BLOCK: usize = 1024 * 1024;
/// Blocks waiting between the encoder and the sender.
const BLOCKS: usize = 4;
/// The temporary table through which geographies go: hyperd reads them from text, not from Arrow.
const STAGING: &str = "\"lakeport staging\"";

/// What the thread that owns the connection is told.
enum Order {
    /// Begin a COPY into a table.
    Begin(usize),
    /// Bytes of its Arrow stream.
    Block(Vec<u8>),
    /// End the COPY.
    End,
    /// Run a statement and answer with the rows it touched.
    Execute(String, SyncSender<Result<u64>>),
}

/// The writer.
pub(super) struct HyperWriter {
    path: PathBuf,
    tables: Arc<Vec<Mapping>>,
    copy_bytes: u64,
    orders: Option<SyncSender<Order>>,
    worker: Option<JoinHandle<Result<()>>>,
    /// Empty blocks to fill again.
    spare: Arc<Mutex<VecDeque<Vec<u8>>>>,
    open: Option<OpenCopy>,
    rows: Vec<u64>,
    /// Kept so that hyperd outlives the writer's connection.
    hyperd: Arc<Hyperd>,
}

/// A COPY under way.
struct OpenCopy {
    table: usize,
    stream: StreamWriter<Vec<u8>>,
    sent: u64,
}

impl HyperWriter {
    pub(super) fn create(hyperd: Arc<Hyperd>, path: &Path, tables: &[&Mapping], limits: &Limits) -> Result<Self> {
        let path = absolute(path)?;
        let failed = || format!("hyperd cannot create {}", path.display());
        let version = tables.iter().filter_map(|t| t.facts.get("hyper_version")).max().cloned().unwrap_or_else(|| "2".into());
        let bare = hyperd.connect_bare()?;
        bare.execute_command(&format!("CREATE DATABASE {} WITH VERSION {version}", sql::name(&path.to_string_lossy())))
            .wrap(Kind::WriteFailed, failed)?;
        drop(bare);
        let connection = hyperd.write(&path)?;
        for statement in sql::declare(tables) {
            connection.execute_command(&statement).wrap(Kind::WriteFailed, failed)?;
        }
        let tables: Arc<Vec<Mapping>> = Arc::new(tables.iter().map(|m| (*m).clone()).collect());
        let (orders, inbox) = sync_channel(BLOCKS);
        let spare = Arc::new(Mutex::new(VecDeque::new()));
        let worker = std::thread::Builder::new()
            .name("to hyperd".into())
            .spawn({
                let (tables, spare) = (Arc::clone(&tables), Arc::clone(&spare));
                move || work(&connection, &tables, &inbox, &spare)
            })
            .wrap(Kind::Unexpected, || "cannot start a thread".into())?;
        let rows = vec![0; tables.len()];
        Ok(Self {
            path,
            tables,
            copy_bytes: limits.copy,
            orders: Some(orders),
            worker: Some(worker),
            spare,
            open: None,
            rows,
            hyperd,
        })
    }

    /// Tells the worker; when it is gone, its own error says why.
    fn tell(&mut self, order: Order) -> Result<()> {
        let sent = self.orders.as_ref().is_some_and(|o| o.send(order).is_ok());
        if sent { Ok(()) } else { Err(self.post_mortem()) }
    }

    fn post_mortem(&mut self) -> Error {
        self.orders = None;
        match self.worker.take().map(JoinHandle::join) {
            Some(Ok(Err(e))) => e,
            _ => {
                let gone = Error::new(Kind::WriteFailed, "hyperd is gone");
                match self.hyperd.ended() {
                    Some(how) => gone.because(how),
                    None => gone,
                }
            }
        }
    }

    fn spare_block(&self) -> Vec<u8> {
        let spare = self.spare.lock().ok().and_then(|mut s| s.pop_front());
        spare.unwrap_or_else(|| Vec::with_capacity(BLOCK + BLOCK / 4))
    }

    /// Hands the encoded bytes over when they make a block, or all of them at the end of a COPY.
    fn hand_over(&mut self, all: bool) -> Result<()> {
        let next = self.spare_block();
        let Some(open) = &mut self.open else { return Ok(()) };
        let encoded = open.stream.get_mut();
        if encoded.is_empty() || (!all && encoded.len() < BLOCK) {
            return Ok(());
        }
        open.sent += encoded.len() as u64;
        let block = std::mem::replace(encoded, next);
        self.tell(Order::Block(block))
    }

    fn end_copy(&mut self) -> Result<()> {
        if let Some(open) = &mut self.open {
            open.stream.finish().wrap(Kind::Unexpected, || "cannot end an Arrow stream".into())?;
            self.hand_over(true)?;
            self.open = None;
            self.tell(Order::End)?;
        }
        Ok(())
    }

    fn ask<T>(&mut self, order: impl FnOnce(SyncSender<Result<T>>) -> Order) -> Result<T> {
        let (answer, answered) = sync_channel(1);
        self.tell(order(answer))?;
        answered.recv().unwrap_or_else(|_| Err(self.post_mortem()))
    }
}

impl Writer for HyperWriter {
    fn write(&mut self, table: usize, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.open.as_ref().is_some_and(|open| open.table != table || open.sent >= self.copy_bytes) {
            self.end_copy()?;
        }
        if self.open.is_none() {
            self.tell(Order::Begin(table))?;
            let stream = StreamWriter::try_new(self.spare_block(), &batch.schema())
                .wrap(Kind::Unexpected, || "cannot begin an Arrow stream".into())?;
            self.open = Some(OpenCopy { table, stream, sent: 0 });
        }
        if let Some(open) = &mut self.open {
            open.stream.write(batch).wrap(Kind::Unexpected, || "cannot encode a batch".into())?;
        }
        self.rows[table] += batch.num_rows() as u64;
        self.hand_over(false)
    }

    fn load(&mut self, table: usize, scan: &PlainScan, group: usize) -> Result<u64> {
        self.end_copy()?;
        let mapping = &self.tables[table];
        let select = sql::plain_select(mapping, scan, group)
            .ok_or_else(|| Error::new(Kind::Unexpected, "a plain read names a column or group it does not have"))?;
        let insert = format!("INSERT INTO {} {select}", sql::table(mapping));
        let rows = self.ask(|answer| Order::Execute(insert, answer)).map_err(|e| {
            let files = scan.groups.get(group).map(|g| g.files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>());
            e.at("file", files.unwrap_or_default().first().cloned().unwrap_or_default())
        })?;
        self.rows[table] += rows;
        Ok(rows)
    }

    fn measure_source(&self, table: usize, scan: &PlainScan, verify: Verify) -> Result<Measuring> {
        // All groups as one relation, so that one query measures them.
        let selects: Vec<_> = (0..scan.groups.len())
            .map(|group| sql::plain_select(&self.tables[table], scan, group))
            .collect::<Option<_>>()
            .ok_or_else(|| Error::new(Kind::Unexpected, "a plain read names a column or group it does not have"))?;
        let tables = Arc::clone(&self.tables);
        if selects.is_empty() {
            return Ok(Box::new(move || Ok(Accumulator::new(&tables[table], verify).finish())));
        }
        let from = format!("({})", selects.join(" UNION ALL "));
        // On a connection of its own, so that hyperd measures with the cores its loader leaves idle.
        let connection = self.hyperd.connect_bare()?;
        Ok(Box::new(move || read_back::fingerprint(&connection, &from, &tables[table], verify)))
    }

    fn finish(mut self: Box<Self>) -> Result<Written> {
        self.end_copy()?;
        self.orders = None;
        match self.worker.take().map(JoinHandle::join) {
            Some(Ok(done)) => done?,
            _ => return Err(Error::new(Kind::Unexpected, "the thread writing to hyperd panicked")),
        }
        let bytes = std::fs::metadata(&self.path).wrap(Kind::WriteFailed, || format!("{} is gone", self.path.display()))?.len();
        Ok(Written { path: self.path.clone(), bytes, format: "hyper".into(), rows: self.rows.clone() })
    }
}

/// Serves orders until there are no more, then lets go of the file.
fn work(connection: &Connection, tables: &[Mapping], inbox: &Receiver<Order>, spare: &Mutex<VecDeque<Vec<u8>>>) -> Result<()> {
    while let Ok(order) = inbox.recv() {
        match order {
            Order::Begin(table) => copy(connection, &tables[table], inbox, spare)?,
            Order::Execute(statement, answer) => {
                let done = connection.execute_command(&statement);
                let _ = answer.send(done.wrap(Kind::SourceUnreadable, || "hyperd cannot load the files".into()));
            }
            Order::Block(_) | Order::End => return Err(Error::new(Kind::Unexpected, "a block came outside of a COPY")),
        }
    }
    release(connection)
}

/// One COPY, from `Begin` to `End`.
fn copy(connection: &Connection, mapping: &Mapping, inbox: &Receiver<Order>, spare: &Mutex<VecDeque<Vec<u8>>>) -> Result<()> {
    let failed = || format!("hyperd cannot take in rows of table `{}`", mapping.table);
    let client =
        connection.tcp_client().ok_or_else(|| Error::new(Kind::Unexpected, "the connection to hyperd is no TCP connection"))?;
    let staged = mapping.columns.iter().any(|c| c.target_type == "GEOGRAPHY");
    let into = if staged {
        let columns: Vec<_> = mapping
            .columns
            .iter()
            .map(|c| format!("{} {}", sql::name(&c.name), if c.target_type == "GEOGRAPHY" { "TEXT" } else { &c.target_type }))
            .collect();
        connection
            .execute_command(&format!("CREATE TEMPORARY TABLE {STAGING} ({})", columns.join(", ")))
            .wrap(Kind::WriteFailed, failed)?;
        STAGING.to_owned()
    } else {
        sql::table(mapping)
    };
    let names: Vec<_> = mapping.columns.iter().map(|c| sql::name(&c.name)).collect();
    let names = names.join(", ");
    let mut writer = client
        .copy_in_raw(&format!("COPY {into} ({names}) FROM STDIN WITH (FORMAT ARROWSTREAM)"))
        .wrap(Kind::WriteFailed, failed)?;
    loop {
        match inbox.recv() {
            Ok(Order::Block(mut block)) => {
                // A refused row breaks the connection's stream; hyperd's own words come with `finish`.
                if writer.send_direct(&block).is_err() {
                    break;
                }
                block.clear();
                if block.capacity() <= 4 * BLOCK
                    && let Ok(mut spare) = spare.lock()
                {
                    spare.push_back(block);
                }
            }
            Ok(Order::End) => break,
            // The caller is gone: what was sent must not count.
            _ => {
                let _ = writer.cancel("the run was given up");
                return Ok(());
            }
        }
    }
    writer.finish().wrap(Kind::WriteFailed, failed)?;
    if staged {
        let values: Vec<_> =
            mapping.columns.iter().map(|c| format!("CAST({} AS {})", sql::name(&c.name), c.target_type)).collect();
        connection
            .execute_command(&format!(
                "INSERT INTO {} ({names}) SELECT {} FROM {STAGING}",
                sql::table(mapping),
                values.join(", ")
            ))
            .wrap(Kind::ValueRefused, || format!("hyperd cannot read a geography of table `{}`", mapping.table))?;
        connection.execute_command(&format!("DROP TABLE {STAGING}")).wrap(Kind::WriteFailed, failed)?;
    }
    Ok(())
}
