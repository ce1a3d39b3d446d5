//! A local stand-in for Tableau Server.
//!
//! It speaks the part of the REST API that publishing needs, with the limits and the error codes of the real one, and it is no
//! rubber stamp: every published file is opened with hyperd, the engine Tableau itself runs, and refused when it is no valid
//! extract. A page shows what was published. It is meant for demos, tests and other people's CI, so it binds to the loopback
//! interface only. It can be told to fail: a [`Fault`] strikes certain calls in a certain way.
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

mod activity;
mod admin;
mod attributes;
mod change;
mod condition;
mod datasources;
mod extract;
mod fault;
mod gate;
mod history;
mod index;
mod inject;
mod jobs;
mod jwt;
mod line;
mod model;
mod multipart;
mod package;
mod page;
mod permissions;
mod projects;
mod publish;
mod query;
mod refusal;
mod revisions;
mod server;
mod sessions;
mod statements;
mod store;
mod uploads;
mod warnings;
mod xml;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lakeport::error::{Kind, Result, Wrap};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub use fault::{Call, Effect, Fault, When, Which};
pub use jwt::ConnectedApp;
pub use sessions::{Login, Token};

/// How long calls and jobs under way may take once the sandbox is asked to stop.
const SHUTDOWN_TIME: Duration = Duration::from_secs(10);

/// How a sandbox is set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The port on 127.0.0.1; 0 takes any that is free.
    pub port: u16,
    /// The directory that keeps what was published; empty or new, or that of an earlier sandbox.
    pub data: PathBuf,
    /// The personal access tokens that may sign in; `demo` with the secret `demo` unless said otherwise.
    pub tokens: Vec<Token>,
    /// The users who may sign in with a password; `demo` with the password `demo` unless said otherwise.
    pub users: Vec<Login>,
    /// The connected apps whose JWTs may sign in; the client `demo` with the secret `demo` of the id `demo` unless said
    /// otherwise. They sign in any of `users`.
    pub connected_apps: Vec<ConnectedApp>,
    /// How long a sign-in session lives; 240 minutes, as on Tableau Server. It is counted from the sign-in, not from the last
    /// call, so that nothing keeps it alive.
    pub session_time: Duration,
    /// The content URL of the first site; empty for the default site.
    pub site: String,
    /// The content URLs of further sites.
    pub more_sites: Vec<String>,
    /// How long an asynchronous publish takes at least.
    pub job_time: Duration,
    /// The most bytes of the file of a data update; 100 MB, as on servers of today.
    pub data_limit: u64,
    /// How many revisions of a data source are kept, the current one included.
    pub revisions: usize,
    /// Whether a data source is downloaded as a package (`.tdsx`), as from real servers, and not as the bare extract.
    pub packages: bool,
    /// What goes wrong from the start.
    pub faults: Vec<Fault>,
}

impl Options {
    /// The defaults, with state in this directory.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            port: 0,
            data: data.into(),
            tokens: vec![Token::new("demo", "demo")],
            users: vec![Login::new("demo", "demo")],
            connected_apps: vec![ConnectedApp::new("demo", "demo", "demo")],
            session_time: Duration::from_secs(240 * 60),
            site: String::new(),
            more_sites: Vec::new(),
            job_time: Duration::from_millis(300),
            data_limit: 100_000_000,
            revisions: 5,
            packages: false,
            faults: Vec::new(),
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
    faults: inject::Faults,
    history: history::History,
    changes: change::Changes,
    /// Becomes true when the sandbox is to end, which is what calls and jobs that never end wait for.
    stopping: watch::Sender<bool>,
}

impl App {
    /// Waits until the sandbox is to end.
    async fn stopping(&self) {
        // The sender lives as long as this does, so there is no error to expect.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }
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
    /// `Usage` when the port is taken or the data directory holds something and is no sandbox's, `Locked` when another sandbox
    /// uses that directory, `WriteFailed` or `ConfigInvalid` when it cannot be used.
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
            faults: inject::Faults::default(),
            history: history::History::default(),
            changes: change::Changes::default(),
            stopping: watch::Sender::new(false),
            options,
        });
        let usage = |refusal: refusal::Refusal| lakeport::Error::new(Kind::Usage, refusal.detail());
        app.faults.add(app.options.faults.iter().cloned()).map_err(usage)?;
        let users: Vec<String> = app.options.users.iter().map(|user| user.name.clone()).collect();
        app.store
            .change(|index| {
                index.settle(&app.options.more_sites, &users);
                Ok(())
            })
            .map_err(|refusal| lakeport::Error::new(Kind::WriteFailed, refusal.detail()))?;
        let (stop, stopped) = oneshot::channel();
        let router = server::router(Arc::clone(&app)).into_make_service_with_connect_info::<line::Line>();
        let service = axum::serve(line::Lines(listener), router).with_graceful_shutdown(async {
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

    /// Sets a fault in addition to those that are set; its calls are counted from now on.
    ///
    /// # Errors
    /// `Usage` when there are too many.
    pub fn fault(&self, fault: Fault) -> Result<()> {
        self.app.faults.add([fault]).map_err(|refusal| lakeport::Error::new(Kind::Usage, refusal.detail()))
    }

    /// Removes every fault.
    pub fn clear_faults(&self) {
        self.app.faults.clear(None);
    }

    /// Ends every sign-in session, as if its time were over.
    pub fn expire_sessions(&self) {
        self.app.sessions.expire(None);
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
        self.app.stopping.send_replace(true);
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
