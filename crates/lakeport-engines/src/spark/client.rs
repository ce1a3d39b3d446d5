//! The calls of one session with a Spark Connect server, and their retries.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use lakeport::config::SparkEnv;
use lakeport::error::{Error, Kind, Result, Wrap};
use lakeport::limits::Limits;
use spark_connect_proto as proto;
use spark_connect_proto::spark_connect_service_client::SparkConnectServiceClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status, Streaming};

use super::endpoint::Address;
use super::fault;

/// What the server is told of its client.
pub(super) const CLIENT: &str = concat!("lakeport/", env!("CARGO_PKG_VERSION"));
/// Largest message taken; a batch is far smaller, a chunk smaller still.
const MESSAGE: usize = 256 * 1024 * 1024;
/// Rows of a batch; several batches are held at a time, each in one or two copies.
const ROWS: &str = "10000";
/// How often a broken call is made again.
const TRIES: u32 = 6;

/// A session; the server keeps views and settings per session, so each query has its own.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) stub: SparkConnectServiceClient<Channel>,
    pub(super) session: String,
    address: Address,
}

impl Client {
    /// Connects; nothing is asked of the server yet.
    pub(super) async fn connect(
        env: &SparkEnv,
        headers: &BTreeMap<String, String>,
        token: Option<&str>,
        limits: &Limits,
    ) -> Result<Self> {
        let address = Address::of(env, headers, token)?;
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
        let channel = endpoint.connect().await.map_err(|e| unreachable(e, &address.uri))?;
        let stub = SparkConnectServiceClient::new(channel).max_decoding_message_size(MESSAGE).max_encoding_message_size(MESSAGE);
        Ok(Self { stub, session: uuid::Uuid::new_v4().to_string(), address })
    }

    /// Pins what must not depend on the cluster's own settings: instants in UTC, and how Parquet holds them.
    pub(super) async fn pin(&self) -> Result<()> {
        let needed = [("spark.sql.session.timeZone", "UTC"), ("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")];
        self.set(&needed, false).await?;
        // Spark 4.1 and later has TIME behind a setting. A server that lets nobody set these does well without.
        let wanted = [("spark.sql.execution.arrow.maxRecordsPerBatch", ROWS), ("spark.sql.timeType.enabled", "true")];
        self.set(&wanted, true).await
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

    /// Changes settings of the session; `silent` leaves out those that cannot be changed.
    async fn set(&self, pairs: &[(&str, &str)], silent: bool) -> Result<()> {
        use proto::config_request::{Operation, Set, operation::OpType};
        let pairs = pairs.iter().map(|(k, v)| proto::KeyValue { key: (*k).to_owned(), value: Some((*v).to_owned()) }).collect();
        let request = proto::ConfigRequest {
            session_id: self.session.clone(),
            user_context: self.user(),
            client_type: Some(CLIENT.into()),
            operation: Some(Operation { op_type: Some(OpType::Set(Set { pairs, silent: Some(silent) })) }),
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

    /// Stops an operation that is still at work.
    pub(super) async fn interrupt(&self, operation: &str) {
        use proto::interrupt_request::{Interrupt, InterruptType};
        let request = proto::InterruptRequest {
            session_id: self.session.clone(),
            user_context: self.user(),
            client_type: Some(CLIENT.into()),
            interrupt_type: InterruptType::OperationId.into(),
            interrupt: Some(Interrupt::OperationId(operation.to_owned())),
            ..Default::default()
        };
        if let Err(status) = self.stub.clone().interrupt(self.request(request)).await {
            tracing::warn!(%status, operation, "Spark did not take the interrupt");
        }
    }

    /// Takes an operation's answers up behind the last one that came.
    pub(super) async fn reattach(
        &self,
        operation: &str,
        server_session: Option<String>,
        last_response: Option<String>,
    ) -> std::result::Result<Streaming<proto::ExecutePlanResponse>, Status> {
        let request = proto::ReattachExecuteRequest {
            session_id: self.session.clone(),
            client_observed_server_side_session_id: server_session,
            user_context: self.user(),
            operation_id: operation.to_owned(),
            client_type: Some(CLIENT.into()),
            last_response_id: last_response,
        };
        self.stub.clone().reattach_execute(self.request(request)).await.map(tonic::Response::into_inner)
    }

    /// Ends the session, and what still runs in it.
    pub(super) async fn end(&self) {
        let request = proto::ReleaseSessionRequest {
            session_id: self.session.clone(),
            user_context: self.user(),
            client_type: Some(CLIENT.into()),
            ..Default::default()
        };
        if let Err(status) = self.stub.clone().release_session(self.request(request)).await {
            tracing::debug!(%status, "Spark did not release the session");
        }
    }
}

/// The error of a server that does not answer; a certificate that nobody vouches for is told apart.
fn unreachable(error: tonic::transport::Error, uri: &str) -> Error {
    let first: &dyn std::error::Error = &error;
    let untrusted = std::iter::successors(Some(first), |e| e.source()).any(|e| e.to_string().contains("certificate"));
    let error = Error::new(Kind::Unreachable, format!("the Spark server at {uri} cannot be reached")).because(error);
    if untrusted {
        error.help("set ca_file to a PEM file with the authority that signed the server's certificate")
    } else {
        error
    }
}

/// The pause before a try, longer each time.
pub(super) fn pause(tries: u32) -> Duration {
    Duration::from_millis(100 << tries.min(6))
}
