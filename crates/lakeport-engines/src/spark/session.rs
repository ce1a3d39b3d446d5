//! A session's life, and its end: what still runs on the cluster is stopped there, what lies in the stage is removed.
//!
//! A query given up, on Ctrl-C or after an error of ours, leaves work behind on other machines. It is ended in a task of its
//! own, in this order: `Interrupt`, the end of the operation awaited, `ReleaseExecute`, the stage removed, `ReleaseSession`.
//! The process waits for it with [`lakeport::farewell::settled`].

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lakeport::config::SparkEnv;
use lakeport::error::Result;
use lakeport::farewell::Owed;
use lakeport::limits::Limits;
use lakeport::source::{Location, Work};
use spark_connect_proto as proto;
use tokio::sync::watch;
use tonic::Streaming;

use super::client::Client;
use super::{fault, stage};

/// How long one call of the farewell may take.
const CALL: Duration = Duration::from_secs(3);
/// How long an interrupted operation may take to end.
const STOPPING: Duration = Duration::from_secs(8);

/// A session that ends when nobody uses it any more.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    /// What the cluster says of its work.
    pub(super) work: watch::Sender<Work>,
    left: Mutex<Left>,
    open: Option<Owed>,
}

/// What a session leaves to be seen to at its end.
#[derive(Debug, Default)]
struct Left {
    running: Vec<Unfinished>,
    stages: Vec<Location>,
}

/// An operation that was given up while the server may still work on it.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) operation: String,
    /// Where its answers come, if they do at the moment.
    pub(super) stream: Option<Streaming<proto::ExecutePlanResponse>>,
    pub(super) last_response: Option<String>,
}

impl Session {
    /// Connects, and pins what must not depend on the cluster's own settings.
    pub(super) async fn begin(
        env: &SparkEnv,
        headers: &BTreeMap<String, String>,
        token: Option<&str>,
        limits: &Limits,
    ) -> Result<Self> {
        let client = Client::connect(env, headers, token, limits).await?;
        // Before the first call: one that is interrupted may have made the session.
        let session = Self { client, work: watch::Sender::new(Work::default()), left: Mutex::default(), open: Some(Owed::one()) };
        session.client.pin().await?;
        Ok(session)
    }

    /// Leaves an operation to be stopped at the end.
    pub(super) fn stop_later(&self, unfinished: Unfinished) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).running.push(unfinished);
    }

    /// Leaves a directory of the stage to be removed at the end.
    pub(super) fn remove_later(&self, stage: Location) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).stages.push(stage);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let client = self.client.clone();
        let left = std::mem::take(self.left.get_mut().unwrap_or_else(PoisonError::into_inner));
        let open = self.open.take();
        // Without a runtime the server gives the session up by itself, after its own time.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            end(&client, left).await;
            drop(open);
        });
    }
}

async fn end(client: &Client, left: Left) {
    let stopped = !left.running.is_empty();
    for unfinished in left.running {
        let operation = unfinished.operation.clone();
        tracing::info!(operation, "the work on the cluster is stopped");
        within("interrupt the operation", CALL, client.interrupt(&operation)).await;
        // Until then its tasks may still write to the stage.
        within("wait for the operation's end", STOPPING, unfinished.ended(client)).await;
        within("release the operation", CALL, client.release(&operation)).await;
    }
    for stage in left.stages {
        stage::remove_for_good(&stage, stopped).await;
    }
    within("release the session", CALL, client.end()).await;
}

async fn within(what: &'static str, time: Duration, work: impl Future<Output = ()>) {
    if tokio::time::timeout(time, work).await.is_err() {
        tracing::warn!(what, "Spark did not answer in time");
    }
}

impl Unfinished {
    /// Waits until the server says that the operation is over, in whatever way.
    async fn ended(mut self, client: &Client) {
        loop {
            let Some(stream) = &mut self.stream else {
                match client.reattach(&self.operation, None, self.last_response.clone()).await {
                    Ok(stream) => self.stream = Some(stream),
                    Err(status) if fault::is_transient(&status) => tokio::time::sleep(Duration::from_millis(200)).await,
                    Err(_) => return,
                }
                continue;
            };
            match stream.message().await {
                Ok(Some(response)) => {
                    use proto::execute_plan_response::ResponseType;
                    if matches!(response.response_type, Some(ResponseType::ResultComplete(_))) {
                        return;
                    }
                    self.last_response = Some(response.response_id);
                }
                Ok(None) => self.stream = None,
                Err(status) if fault::is_transient(&status) => self.stream = None,
                Err(_) => return,
            }
        }
    }
}
