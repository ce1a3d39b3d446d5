//! A local stand-in for Tableau Server.
//!
//! It speaks the part of the REST API that publishing needs, with the limits and the error codes of the real one, and it is no
//! rubber stamp: every published file is opened with hyperd, the engine Tableau itself runs, and refused when it is no valid
//! extract. A page shows what was published. It is meant for demos, tests and other people's CI, so it binds to the loopback
//! interface only and knows one site and one user.
//!
//! What it knows of the real server comes from recordings, the official client and the official schema; it was not compared
//! with a live one.
//!
//! ```no_run
//! # async fn demo() -> lakeport::Result<()> {
//! let sandbox = lakeport_sandbox::Sandbox::start(lakeport_sandbox::Options::new("sandbox-data")).await?;
//! println!("{}", sandbox.url());
//! sandbox.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod datasources;
mod extract;
mod gate;
mod index;
mod jobs;
mod multipart;
mod page;
mod projects;
mod publish;
mod query;
mod refusal;
mod server;
mod sessions;
mod store;
mod uploads;
mod xml;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lakeport::error::{Kind, Result, Wrap};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use sessions::Token;

/// How long calls and jobs under way may take once the sandbox is asked to stop.
const SHUTDOWN_TIME: Duration = Duration::from_secs(10);

/// How a sandbox is set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The port on 127.0.0.1; 0 takes any that is free.
    pub port: u16,
    /// The directory that keeps what was published.
    pub data: PathBuf,
    /// The personal access tokens that may sign in; `demo` with the secret `demo` unless said otherwise.
    pub tokens: Vec<Token>,
    /// The content URL of the only site; empty for the default site.
    pub site: String,
    /// How long an asynchronous publish takes at least.
    pub job_time: Duration,
}

impl Options {
    /// The defaults, with state in this directory.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            port: 0,
            data: data.into(),
            tokens: vec![Token::new("demo", "demo")],
            site: String::new(),
            job_time: Duration::from_millis(300),
        }
    }
}

/// Everything the endpoints share.
#[derive(Debug)]
struct App {
    options: Options,
    url: String,
    store: store::Store,
    engine: extract::Engine,
    sessions: sessions::Sessions,
    uploads: uploads::Uploads,
    jobs: jobs::Jobs,
    calls: gate::Calls,
}

/// A running sandbox; dropping it stops it without waiting, [`Sandbox::shutdown`] in order.
#[derive(Debug)]
pub struct Sandbox {
    app: Arc<App>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Sandbox {
    /// Starts a sandbox; when this returns, it answers.
    ///
    /// # Errors
    /// `Usage` when the port is taken, `Locked` when another sandbox uses the data directory, `WriteFailed` or `ConfigInvalid`
    /// when that directory cannot be used.
    pub async fn start(options: Options) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))
            .await
            .wrap(Kind::Usage, || format!("the sandbox cannot listen on 127.0.0.1:{}", options.port))?;
        let address = listener.local_addr().wrap(Kind::Unexpected, || "the sandbox has no address".into())?;
        let app = Arc::new(App {
            url: format!("http://{address}"),
            store: store::Store::open(&options.data, &options.site)?,
            engine: extract::Engine::default(),
            sessions: sessions::Sessions::default(),
            uploads: uploads::Uploads::default(),
            jobs: jobs::Jobs::default(),
            calls: gate::Calls::default(),
            options,
        });
        let (stop, stopped) = oneshot::channel();
        let service = axum::serve(listener, server::router(Arc::clone(&app))).with_graceful_shutdown(async {
            // An error means that the sandbox was dropped, which stops it as well.
            let _ = stopped.await;
        });
        let server = tokio::spawn(async move {
            if let Err(error) = service.await {
                tracing::error!(%error, "the sandbox stopped answering");
            }
        });
        tracing::info!(url = app.url, "sandbox started");
        Ok(Self { app, stop: Some(stop), server })
    }

    /// Where it answers, such as `http://127.0.0.1:8765`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.app.url
    }

    /// Waits until it stops answering by itself, which only a failure makes it do.
    pub async fn wait(&mut self) {
        // A panic inside the server ends it as well; either way there is nothing left to wait for.
        let _ = (&mut self.server).await;
    }

    /// Stops it: no new calls, those under way and their jobs finished, hyperd gone, the directory free.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if !self.server.is_finished() && tokio::time::timeout(SHUTDOWN_TIME, &mut self.server).await.is_err() {
            tracing::warn!("calls are still open, stopping without them");
            self.server.abort();
        }
        self.app.jobs.finish(SHUTDOWN_TIME).await;
        let app = Arc::clone(&self.app);
        // Ending hyperd blocks until it has gone.
        let _ = tokio::task::spawn_blocking(move || app.engine.stop()).await;
        self.app.store.release();
    }
}

/// An instant as the API writes it.
fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
