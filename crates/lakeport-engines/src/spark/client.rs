//! One session with a Spark Connect server: unary calls, their retries, and the end of the session.

use std::future::Future;
use std::time::Duration;

use lakeport::config::SparkEnv;
use lakeport::error::{Error, Kind, Result, Wrap};
use lakeport::limits::Limits;
use spark_connect_proto as proto;
use spark_connect_proto::spark_connect_service_client::SparkConnectServiceClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use super::endpoint::Address;
use super::fault;

/// What the server is told of its client.
pub(super) const CLIENT: &str = concat!("lakeport/", env!("CARGO_PKG_VERSION"));
/// Largest message taken; a batch is far smaller, a chunk smaller still.
const MESSAGE: usize = 256 * 1024 * 1024;
/// How often a broken call is made again.
const TRIES: u32 = 6;
/// How long the end of a session may take.
const FAREWELL: Duration = Duration::from_secs(3);

/// A session; the server keeps views and settings per session, so each query has its own.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) stub: SparkConnectServiceClient<Channel>,
    pub(super) session: String,
    address: Address,
}

impl Client {
    /// Connects and pins what must not depend on the cluster's own settings: instants in UTC, and how Parquet holds them.
    pub(super) async fn connect(env: &SparkEnv, token: Option<&str>, limits: &Limits) -> Result<Self> {
        let address = Address::of(env, token)?;
        let invalid = || format!("{} is no address of a Spark server", address.uri);
        let mut endpoint = Endpoint::from_shared(address.uri.clone())
            .wrap(Kind::ConfigInvalid, invalid)?
            .connect_timeout(limits.connect_timeout)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_while_idle(true);
        if address.tls {
            let mut tls = ClientTlsConfig::new().with_enabled_roots();
            if let Some(file) = &env.ca_file {
                let pem = std::fs::read(file).wrap(Kind::ConfigInvalid, || format!("cannot read ca_file {}", file.display()))?;
                tls = tls.ca_certificate(Certificate::from_pem(pem));
            }
            endpoint = endpoint.tls_config(tls).wrap(Kind::ConfigInvalid, invalid)?;
        }
        let channel = endpoint
            .connect()
            .await
            .wrap(Kind::Unreachable, || format!("the Spark server at {} cannot be reached", address.uri))?;
        let stub = SparkConnectServiceClient::new(channel).max_decoding_message_size(MESSAGE).max_encoding_message_size(MESSAGE);
        let client = Self { stub, session: uuid::Uuid::new_v4().to_string(), address };
        client
            .set(&[
                ("spark.sql.session.timeZone", "UTC"),
                ("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS"),
                ("spark.sql.execution.arrow.maxRecordsPerBatch", "20000"),
            ])
            .await?;
        Ok(client)
    }

    /// A request with the headers of the environment.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.address.headers.clone();
        request
    }

    /// Who asks; the same in every call, because sessions are kept by user and id.
    pub(super) fn user(&self) -> Option<proto::UserContext> {
        Some(proto::UserContext {
            user_id: self.address.user.clone(),
            user_name: self.address.user.clone(),
            extensions: Vec::new(),
        })
    }

    async fn set(&self, pairs: &[(&str, &str)]) -> Result<()> {
        use proto::config_request::{Operation, Set, operation::OpType};
        let pairs = pairs.iter().map(|(k, v)| proto::KeyValue { key: (*k).to_owned(), value: Some((*v).to_owned()) }).collect();
        let request = proto::ConfigRequest {
            session_id: self.session.clone(),
            user_context: self.user(),
            client_type: Some(CLIENT.into()),
            operation: Some(Operation { op_type: Some(OpType::Set(Set { pairs, silent: None })) }),
            ..Default::default()
        };
        self.retried("open a Spark session", || {
            let mut stub = self.stub.clone();
            let request = self.request(request.clone());
            async move { stub.config(request).await.map(|_| ()) }
        })
        .await
    }

    /// Asks the server about a plan without running it.
    pub(super) async fn analyze(
        &self,
        analyze: proto::analyze_plan_request::Analyze,
        operation: &'static str,
    ) -> Result<proto::analyze_plan_response::Result> {
        let request = proto::AnalyzePlanRequest {
            session_id: self.session.clone(),
            user_context: self.user(),
            client_type: Some(CLIENT.into()),
            analyze: Some(analyze),
            ..Default::default()
        };
        let answer = self
            .retried(operation, || {
                let mut stub = self.stub.clone();
                let request = self.request(request.clone());
                async move { Box::pin(stub.analyze_plan(request)).await.map(tonic::Response::into_inner) }
            })
            .await?;
        answer.result.ok_or_else(|| Error::new(Kind::Unexpected, "Spark answered without a result").during(operation))
    }

    /// Calls until it succeeds, fails for good, or failed too often.
    async fn retried<T, F: Future<Output = std::result::Result<T, Status>>>(
        &self,
        operation: &'static str,
        mut call: impl FnMut() -> F,
    ) -> Result<T> {
        let mut tries = 0;
        loop {
            match call().await {
                Ok(value) => return Ok(value),
                Err(status) if fault::is_transient(&status) && tries + 1 < TRIES => {
                    tries += 1;
                    tracing::warn!(%status, tries, operation, "the call to Spark is made again");
                    tokio::time::sleep(pause(tries)).await;
                }
                Err(status) => return Err(self.explain(&status, operation).await),
            }
        }
    }

    /// The error of a status, with the whole message where the server keeps it.
    pub(super) async fn explain(&self, status: &Status, operation: &'static str) -> Error {
        let mut whole = None;
        if let Some(error_id) = fault::error_id(status) {
            let request = proto::FetchErrorDetailsRequest {
                session_id: self.session.clone(),
                user_context: self.user(),
                error_id,
                client_type: Some(CLIENT.into()),
                ..Default::default()
            };
            if let Ok(answer) = self.stub.clone().fetch_error_details(self.request(request)).await {
                let answer = answer.into_inner();
                let root = usize::try_from(answer.root_error_idx.unwrap_or(0)).unwrap_or(0);
                let mut at = Some(root);
                let mut texts: Vec<String> = Vec::new();
                while let Some(e) = at.and_then(|i| answer.errors.get(i)) {
                    if texts.len() > 8 {
                        break;
                    }
                    let line = e.message.lines().map(str::trim).filter(|l| !l.is_empty()).take(6).collect::<Vec<_>>().join(" ");
                    if !texts.contains(&line) {
                        texts.push(line);
                    }
                    at = e.cause_idx.and_then(|i| usize::try_from(i).ok());
                }
                whole = (!texts.is_empty()).then(|| texts.join("; "));
            }
        }
        fault::error(status, whole.as_deref(), operation)
    }

    /// Ends an operation on the server, whether it runs or is done.
    pub(super) async fn release(&self, operation: &str) {
        use proto::release_execute_request::{Release, ReleaseAll};
        let request = proto::ReleaseExecuteRequest {
            session_id: self.session.clone(),
            user_context: self.user(),
            operation_id: operation.to_owned(),
            client_type: Some(CLIENT.into()),
            release: Some(Release::ReleaseAll(ReleaseAll {})),
            ..Default::default()
        };
        if let Err(status) = self.stub.clone().release_execute(self.request(request)).await {
            tracing::debug!(%status, operation, "Spark did not release the operation");
        }
    }

    async fn end(&self) {
        let request = proto::ReleaseSessionRequest {
            session_id: self.session.clone(),
            user_context: self.user(),
            client_type: Some(CLIENT.into()),
            ..Default::default()
        };
        // Ends what still runs in the session, too.
        if let Err(status) = self.stub.clone().release_session(self.request(request)).await {
            tracing::debug!(%status, "Spark did not release the session");
        }
    }
}

/// The pause before a try, longer each time.
pub(super) fn pause(tries: u32) -> Duration {
    Duration::from_millis(100 << tries.min(6))
}

/// Waits for work inside a `drop`, on whatever thread; on a runtime of one thread nobody could do it, so it is left.
pub(super) fn wait<T>(runtime: &tokio::runtime::Handle, work: impl Future<Output = T>) -> Option<T> {
    let several = runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread;
    several.then(|| tokio::task::block_in_place(|| runtime.block_on(work)))
}

/// A session that is released when nobody uses it any more, also on Ctrl-C.
#[derive(Debug)]
pub(super) struct Session(pub(super) Client);

impl Drop for Session {
    fn drop(&mut self) {
        let client = self.0.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        wait(&runtime, async { tokio::time::timeout(FAREWELL, client.end()).await.is_ok() });
    }
}
