//! The rows of a query as they come over Spark Connect.
//!
//! A server ends its answer cleanly when a size or a time is reached and expects to be asked on: only `ResultComplete` is the
//! end of the data. Nothing is gathered here: a batch is decoded when the one before it was taken, and the HTTP/2 window holds
//! the server back.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use bytes::{Bytes, BytesMut};
use lakeport::error::{Error, Kind, Result, Wrap};
use lakeport::source::Work;
use spark_connect_proto as proto;
use spark_connect_proto::execute_plan_response::{ArrowBatch, ResponseType};
use tonic::Streaming;

use super::client::{CLIENT, Client, pause};
use super::fault;
use super::session::{Session, Unfinished};

/// How often a broken stream is taken up again without an answer in between.
const TRIES: u32 = 8;
/// Answers after which the server is told that they arrived.
const RELEASE_EVERY: u32 = 16;
const OPERATION: &str = "run the query on Spark";

/// An execution on the server.
#[derive(Debug)]
pub(super) struct Execution {
    session: Arc<Session>,
    plan: proto::Plan,
    operation: String,
    stream: Option<Streaming<proto::ExecutePlanResponse>>,
    /// Whether the server was asked to begin, and may be at work.
    asked: bool,
    /// Whether the server has the operation, so that it is taken up and not begun.
    begun: bool,
    server_session: Option<String>,
    last_response: Option<String>,
    since_release: u32,
    tries: u32,
    rows: i64,
    chunks: BytesMut,
    next_chunk: i64,
    /// Whether the server is done with it, for better or worse.
    over: bool,
    /// Numbers the server observed while it ran (`CollectMetrics`).
    pub(super) observed: Vec<i64>,
}

impl Execution {
    /// Prepares it; the server hears of it when the first answer is asked for.
    pub(super) fn new(session: Arc<Session>, plan: proto::Plan) -> Self {
        Self {
            session,
            plan,
            operation: uuid::Uuid::new_v4().to_string(),
            stream: None,
            asked: false,
            begun: false,
            server_session: None,
            last_response: None,
            since_release: 0,
            tries: 0,
            rows: 0,
            chunks: BytesMut::new(),
            next_chunk: 0,
            over: false,
            observed: Vec::new(),
        }
    }

    fn client(&self) -> &Client {
        &self.session.client
    }

    /// The next batches, those of one message; `None` when the result is complete.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        loop {
            if self.over {
                return Ok(None);
            }
            let Some(stream) = &mut self.stream else {
                self.attach().await?;
                continue;
            };
            match stream.message().await {
                Ok(Some(response)) => {
                    self.tries = 0;
                    if let Some(batches) = self.take(response).await? {
                        return Ok(Some(batches));
                    }
                }
                // A clean end without ResultComplete: the server waits to be asked on.
                Ok(None) => self.stream = None,
                Err(status) => self.broken(&status).await?,
            }
        }
    }

    /// Runs a command to its end.
    pub(super) async fn finish(&mut self) -> Result<()> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    async fn broken(&mut self, status: &tonic::Status) -> Result<()> {
        self.stream = None;
        // The call was lost before the server took it, or its answer was: the operation's id keeps it from running twice.
        let never_began = fault::is_unknown_operation(status) && self.last_response.is_none();
        let had_begun = fault::is_known_operation(status) && !self.begun;
        if !(fault::is_transient(status) || never_began || had_begun) || self.tries >= TRIES {
            // A server that refused has ended the operation; one that is out of reach may go on with it.
            self.over = !fault::is_transient(status);
            let error = self.client().explain(status, OPERATION).await;
            if self.over {
                self.client().release(&self.operation).await;
            }
            return Err(error);
        }
        self.tries += 1;
        self.begun = (self.begun || had_begun) && !never_began;
        tracing::warn!(%status, tries = self.tries, "the stream from Spark broke and is taken up again");
        tokio::time::sleep(pause(self.tries)).await;
        Ok(())
    }

    /// Starts the execution, or takes it up behind the last answer.
    async fn attach(&mut self) -> Result<()> {
        let client = self.client().clone();
        let answer = if self.begun {
            client.reattach(&self.operation, self.server_session.clone(), self.last_response.clone()).await
        } else {
            use proto::execute_plan_request::{RequestOption, request_option::RequestOption as Choice};
            let option = |choice| RequestOption { request_option: Some(choice) };
            let request = proto::ExecutePlanRequest {
                session_id: client.session.clone(),
                user_context: client.user(),
                operation_id: Some(self.operation.clone()),
                plan: Some(self.plan.clone()),
                client_type: Some(CLIENT.into()),
                request_options: vec![
                    option(Choice::ReattachOptions(proto::ReattachOptions { reattachable: true })),
                    option(Choice::ResultChunkingOptions(proto::ResultChunkingOptions {
                        allow_arrow_batch_chunking: true,
                        preferred_arrow_chunk_size: None,
                    })),
                ],
                ..Default::default()
            };
            self.asked = true;
            client.stub.clone().execute_plan(client.request(request)).await.map(tonic::Response::into_inner)
        };
        match answer {
            Ok(stream) => self.stream = Some(stream),
            Err(status) => self.broken(&status).await?,
        }
        Ok(())
    }

    async fn take(&mut self, response: proto::ExecutePlanResponse) -> Result<Option<Vec<RecordBatch>>> {
        match &self.server_session {
            Some(known) if *known != response.server_side_session_id => {
                return Err(Error::new(Kind::Unreachable, "the Spark server was restarted while the query ran").during(OPERATION));
            }
            Some(_) => {}
            None => self.server_session = Some(response.server_side_session_id),
        }
        self.last_response = Some(response.response_id);
        self.begun = true;
        for observed in &response.observed_metrics {
            use proto::expression::literal::LiteralType;
            self.observed.extend(observed.values.iter().filter_map(|v| match v.literal_type {
                Some(LiteralType::Long(n)) => Some(n),
                _ => None,
            }));
        }
        let batches = match response.response_type {
            Some(ResponseType::ArrowBatch(batch)) => self.batch(batch)?,
            Some(ResponseType::ResultComplete(_)) => {
                if self.next_chunk != 0 {
                    return Err(torn("the result ends inside a batch"));
                }
                self.over = true;
                self.stream = None;
                self.client().release(&self.operation).await;
                None
            }
            Some(ResponseType::ExecutionProgress(progress)) => {
                let work = work(&progress);
                tracing::debug!(?work, "Spark works");
                self.session.work.send_replace(work);
                None
            }
            _ => None,
        };
        self.since_release += 1;
        if self.since_release >= RELEASE_EVERY && !self.over {
            self.since_release = 0;
            self.release_until();
        }
        Ok(batches)
    }

    /// Joins the chunks of a batch, checks that it follows the one before, and decodes it.
    fn batch(&mut self, batch: ArrowBatch) -> Result<Option<Vec<RecordBatch>>> {
        let (chunk, chunks) = (batch.chunk_index.unwrap_or(0), batch.num_chunks_in_batch.unwrap_or(1));
        if chunk != self.next_chunk {
            return Err(torn(format!("chunk {chunk} of a batch came instead of chunk {}", self.next_chunk)));
        }
        if chunk == 0
            && let Some(start) = batch.start_offset
            && start != self.rows
        {
            return Err(torn(format!("a batch starts at row {start} where row {} is next", self.rows)));
        }
        let data = if chunks > 1 {
            self.chunks.extend_from_slice(&batch.data);
            self.next_chunk += 1;
            if self.next_chunk < chunks {
                return Ok(None);
            }
            self.chunks.split().freeze()
        } else {
            batch.data
        };
        self.next_chunk = 0;
        let batches = decode(data)?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if i64::try_from(rows).ok() != Some(batch.row_count) {
            return Err(torn(format!("a batch of {} rows holds {rows}", batch.row_count)));
        }
        self.rows += batch.row_count;
        Ok(Some(batches))
    }

    /// Lets the server forget what arrived; whether it hears it does not matter.
    fn release_until(&self) {
        use proto::release_execute_request::{Release, ReleaseUntil};
        let (client, Some(response_id)) = (self.client().clone(), self.last_response.clone()) else { return };
        let request = proto::ReleaseExecuteRequest {
            session_id: client.session.clone(),
            user_context: client.user(),
            operation_id: self.operation.clone(),
            client_type: Some(CLIENT.into()),
            release: Some(Release::ReleaseUntil(ReleaseUntil { response_id })),
            ..Default::default()
        };
        tokio::spawn(async move {
            let _ = client.stub.clone().release_execute(client.request(request)).await;
        });
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        if self.asked && !self.over {
            self.session.stop_later(Unfinished {
                operation: std::mem::take(&mut self.operation),
                stream: self.stream.take(),
                last_response: self.last_response.take(),
            });
        }
    }
}

/// What the server says of its stages, in whole numbers.
fn work(progress: &proto::execute_plan_response::ExecutionProgress) -> Work {
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    let mut work = Work { running: count(progress.num_inflight_tasks), ..Work::default() };
    for stage in &progress.stages {
        work.stages += 1;
        work.stages_done += u64::from(stage.done);
        work.tasks += count(stage.num_tasks);
        work.tasks_done += count(stage.num_completed_tasks);
    }
    work
}

fn torn(why: impl Into<String>) -> Error {
    Error::new(Kind::SourceUnreadable, "the result from Spark is torn").because(why.into()).during(OPERATION)
}

/// Each batch is an Arrow IPC stream of its own: schema, then the batch.
fn decode(data: Bytes) -> Result<Vec<RecordBatch>> {
    let failed = || "a batch from Spark is no Arrow IPC stream".to_owned();
    let mut decoder = StreamDecoder::new();
    let mut buffer = Buffer::from(data);
    let mut batches = Vec::new();
    while !buffer.is_empty() {
        if let Some(batch) = decoder.decode(&mut buffer).wrap(Kind::SourceUnreadable, failed)? {
            batches.push(batch);
        }
    }
    decoder.finish().wrap(Kind::SourceUnreadable, failed)?;
    Ok(batches)
}

/// A batch in the schema that was announced: the same types, `Etc/UTC` by its shorter name.
pub(super) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let (came, announced) = (batch.num_columns(), schema.fields().len());
    if came != announced {
        return Err(torn(format!("a batch has {came} columns, {announced} were announced")));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields()).map(|(array, field)| {
        if array.data_type() == field.data_type() {
            return Ok(Arc::clone(array));
        }
        cast_with_options(array, field.data_type(), &options).wrap(Kind::SourceUnreadable, || {
            format!("column `{}` came as {} instead of {}", field.name(), array.data_type(), field.data_type())
        })
    });
    let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows)
        .wrap(Kind::SourceUnreadable, || "a batch from Spark does not fit its schema".into())
}
