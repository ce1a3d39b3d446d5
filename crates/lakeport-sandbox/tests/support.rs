//! A sandbox in a temporary directory, and a bare client for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyperdb_api::CreateMode;
use lakeport::convert::hyper::process::{Hyperd, Watchers};
use lakeport_sandbox::{Options, Sandbox};
use reqwest::{Client, Method, Response};

/// A running sandbox with its own directory.
pub(crate) struct Rig {
    pub(crate) sandbox: Sandbox,
    pub(crate) directory: tempfile::TempDir,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = options(directory.path());
        change(&mut options);
        let sandbox = Sandbox::start(options).await.unwrap();
        Self { sandbox, directory }
    }

    pub(crate) async fn restart(self) -> Self {
        self.sandbox.shutdown().await;
        let sandbox = Sandbox::start(options(self.directory.path())).await.unwrap();
        Self { sandbox, directory: self.directory }
    }

    pub(crate) fn url(&self) -> &str {
        self.sandbox.url()
    }

    /// Calls an endpoint of the sandbox's own.
    pub(crate) async fn own(&self, method: Method, path: &str, body: &str) -> serde_json::Value {
        let request = Client::new().request(method, format!("{}/sandbox/{path}", self.url())).body(body.to_owned());
        let text = request.send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap_or(serde_json::Value::Null)
    }

    /// What the sandbox says about what was published.
    pub(crate) async fn datasources(&self) -> Vec<serde_json::Value> {
        let text = reqwest::get(format!("{}/sandbox/datasources", self.url())).await.unwrap().text().await.unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["datasources"].as_array().unwrap().clone()
    }
}

fn options(data: &Path) -> Options {
    let mut options = Options::new(data.join("state"));
    options.job_time = Duration::from_millis(200);
    options.more_sites = vec!["finance".to_owned()];
    options.data_limit = 4 << 20;
    options
}

/// A signed-in client that says exactly what it is told to.
pub(crate) struct Caller {
    pub(crate) client: Client,
    pub(crate) site: String,
    pub(crate) token: String,
}

/// An answer, read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        Self { status: response.status().as_u16(), body: response.text().await.unwrap() }
    }

    /// The value of the first attribute of a name, wherever it stands.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.body.split_once(&format!(" {name}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    }

    pub(crate) fn code(&self) -> Option<&str> {
        self.body.contains("<error ").then(|| self.attribute("code")).flatten()
    }
}

impl Caller {
    pub(crate) async fn sign_in(rig: &Rig) -> Self {
        let client = Client::new();
        let body = "<tsRequest><credentials personalAccessTokenName=\"demo\" personalAccessTokenSecret=\"demo\">\
                    <site contentUrl=\"\"/></credentials></tsRequest>";
        let answer = client.post(format!("{}/api/3.21/auth/signin", rig.url())).body(body).send().await.unwrap();
        let answer = Answer::of(answer).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let id = answer.attribute("id").unwrap();
        Self { client, site: format!("{}/api/3.21/sites/{id}", rig.url()), token: answer.attribute("token").unwrap().to_owned() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.site)).header("X-Tableau-Auth", &self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        Answer::of(self.request(Method::POST, path).body(body.to_owned()).send().await.unwrap()).await
    }

    pub(crate) async fn parts(&self, method: Method, path: &str, parts: &[(&str, &[u8])]) -> Answer {
        let request = self.request(method, path).header("Content-Type", "multipart/mixed; boundary=BOUNDARY");
        Answer::of(request.body(multipart(parts)).send().await.unwrap()).await
    }

    pub(crate) async fn publish(&self, query: &str, name: &str, file: &[u8]) -> Answer {
        let payload = format!("<tsRequest><datasource name=\"{name}\"/></tsRequest>");
        let path = format!("/datasources?datasourceType=hyper{query}");
        self.parts(Method::POST, &path, &[("request_payload", payload.as_bytes()), ("tableau_datasource", file)]).await
    }

    /// Polls a job until it has ended.
    pub(crate) async fn job(&self, id: &str) -> Answer {
        for _ in 0..200 {
            let answer = self.get(&format!("/jobs/{id}")).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            if answer.attribute("completedAt").is_some() {
                return answer;
            }
            assert_eq!(answer.attribute("finishCode"), None, "a running job has no finish code");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("job {id} does not end");
    }
}

pub(crate) fn multipart(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, data) in parts {
        body.extend_from_slice(format!("--BOUNDARY\r\nContent-Disposition: name=\"{name}\"\r\n\r\n").as_bytes());
        body.extend_from_slice(data);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--BOUNDARY--\r\n");
    body
}

/// Writes an extract with these statements and gives its bytes.
pub(crate) fn extract(directory: &Path, name: &str, statements: &[&str]) -> Vec<u8> {
    let path: PathBuf = directory.join(name);
    let hyperd = Hyperd::start(512 << 20, 2, Watchers::default()).unwrap();
    let connection = hyperd.connect(&path, CreateMode::CreateAndReplace).unwrap();
    for statement in statements {
        connection.execute_command(statement).unwrap();
    }
    connection.close().unwrap();
    drop(hyperd);
    std::fs::read(path).unwrap()
}

/// One table of two columns and three rows.
pub(crate) const SMALL: [&str; 3] = [
    "create schema \"Extract\"",
    "create table \"Extract\".\"Extract\" (\"id\" bigint not null, \"it's \"\"named\"\"\" text)",
    "insert into \"Extract\".\"Extract\" values (1, 'one'), (2, null), (3, '<b>three</b>')",
];
