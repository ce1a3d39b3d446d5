//! A server of a hundred lines that speaks enough of the API, remembers every request, and fails when told to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// `append`, `publish`, … see [`Seen::label`].
    pub(super) label: &'static str,
    pub(super) method: String,
    pub(super) target: String,
    head: String,
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|l| {
            let (key, value) = l.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The bytes of the part that is a file.
    pub(super) fn file(&self) -> Vec<u8> {
        let find = |needle: &[u8]| self.body.windows(needle.len()).position(|w| w == needle);
        let Some(start) = find(b"application/octet-stream\r\n\r\n") else { return Vec::new() };
        let boundary = self.header("content-type").unwrap().rsplit_once('=').unwrap().1;
        let end = find(format!("\r\n--{boundary}--\r\n").as_bytes()).unwrap();
        self.body[start + 28..end].to_vec()
    }

    fn label(method: &str, target: &str) -> &'static str {
        let path = target.split('?').next().unwrap();
        match (method, path) {
            (_, p) if p.ends_with("/serverInfo") => "info",
            (_, p) if p.ends_with("/auth/signin") => "signin",
            (_, p) if p.ends_with("/auth/signout") => "signout",
            ("GET", p) if p.ends_with("/projects") => "projects",
            ("POST", p) if p.ends_with("/projects") => "create",
            ("POST", p) if p.ends_with("/fileUploads") => "begin",
            ("PUT", p) if p.contains("/fileUploads/") => "append",
            ("POST", p) if p.ends_with("/datasources") => "publish",
            ("GET", p) if p.ends_with("/datasources") => "find",
            ("GET", p) if p.ends_with("/permissions") => "rights",
            ("PUT", p) if p.ends_with("/permissions") => "grant",
            ("DELETE", p) if p.contains("/permissions/") => "revoke",
            ("GET", p) if p.contains("/dataQualityWarnings/") => "warnings",
            (_, p) if p.contains("/dataQualityWarnings/") => "warn",
            ("GET", p) if p.ends_with("/groups") => "groups",
            ("PATCH", p) if p.ends_with("/data") => "patch",
            ("PUT", p) if p.ends_with("/tags") => "tags",
            ("PUT", p) if p.contains("/datasources/") => "update",
            ("GET", p) if p.contains("/datasources/") => "look",
            ("GET", p) if p.contains("/jobs/") => "job",
            ("GET", p) if p.contains("/users/") => "user",
            _ => "other",
        }
    }
}

/// What a script lets happen to a request.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// The request is handled as if nothing were wrong.
    Normal,
    /// This answer, and nothing else happens.
    Say { status: u16, headers: String, body: String },
    /// The request is handled and its answer is lost.
    LoseAnswer,
    /// The connection ends after the head of the request.
    Reset,
    /// Nothing ever comes.
    Hang,
}

pub(super) fn say(status: u16, body: &str) -> Reply {
    Reply::Say { status, headers: "Content-Type: text/xml\r\n".into(), body: body.into() }
}

pub(super) fn error(code: u32) -> Reply {
    let body = format!("<tsResponse><error code=\"{code}\"><summary>Nope</summary><detail>D{code}</detail></error></tsResponse>");
    say(u16::try_from(code / 1000).unwrap(), &body)
}

type Script = dyn Fn(&Seen, usize) -> Reply + Send + Sync;

#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) project: String,
    pub(super) version: usize,
    pub(super) bytes: Vec<u8>,
    /// `description="…" isCertified="…"`, as written; an overwrite empties it.
    pub(super) attributes: String,
    pub(super) tags: Vec<String>,
    /// A time that is shown instead of the version until something is published over it.
    pub(super) updated: Option<String>,
    /// The id of the owner, where it is not the user of the session.
    pub(super) owner: Option<String>,
}

#[derive(Default)]
pub(super) struct World {
    /// Id, name and parent's id.
    pub(super) projects: Vec<(String, String, Option<String>)>,
    pub(super) sources: Vec<Source>,
    /// Group, capability and mode.
    pub(super) rights: Vec<(String, String, String)>,
    /// The attributes of the data quality warning.
    pub(super) warning: Option<String>,
    /// Ids of changes, and how many bytes each brought.
    pub(super) changes: Vec<(String, usize)>,
    /// Seconds that its clock is ahead of ours; without, its answers tell no time.
    pub(super) clock: Option<i64>,
    uploads: HashMap<String, Vec<u8>>,
    polls: usize,
    sign_ins: usize,
    publishes: usize,
}

pub(super) struct Stub {
    pub(super) url: String,
    pub(super) seen: Arc<Mutex<Vec<Seen>>>,
    pub(super) world: Arc<Mutex<World>>,
}

impl Stub {
    /// Starts; the script is asked with each request and the number of earlier ones of its label.
    pub(super) async fn start(script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let world: Arc<Mutex<World>> = Arc::default();
        world.lock().unwrap().projects = vec![
            ("p0".into(), "Default".into(), None),
            ("p1".into(), "Finance".into(), None),
            ("p2".into(), "Daily".into(), Some("p1".into())),
            ("p3".into(), "Daily".into(), Some("p0".into())),
            ("p4".into(), "a, b: c/d".into(), Some("p1".into())),
        ];
        let script: Arc<Script> = Arc::new(script);
        let (s, w) = (seen.clone(), world.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script.clone(), s.clone(), w.clone()));
            }
        });
        Self { url, seen, world }
    }

    pub(super) fn count(&self, label: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|s| s.label == label).count()
    }

    pub(super) fn all(&self, label: &str) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|s| s.label == label).cloned().collect()
    }

    pub(super) fn source(&self, name: &str) -> Option<Source> {
        self.world.lock().unwrap().sources.iter().find(|s| s.name == name).cloned()
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Script>, seen: Arc<Mutex<Vec<Seen>>>, world: Arc<Mutex<World>>) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
        let mut words = head.split_whitespace();
        let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let label = Seen::label(&method, &target);
        let mut request = Seen { label, method, target, head, body: Vec::new() };
        let earlier = seen.lock().unwrap().iter().filter(|s| s.label == label).count();
        let reply = script(&request, earlier);
        if matches!(reply, Reply::Reset) {
            seen.lock().unwrap().push(request);
            return;
        }
        assert!(request.header("transfer-encoding").is_none(), "bodies have a length");
        let length: usize = request.header("content-length").map_or(0, |l| l.parse().unwrap());
        while buffer.len() < length {
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
        request.body = buffer.drain(..length).collect();
        seen.lock().unwrap().push(request.clone());
        let (status, headers, body) = match reply {
            Reply::Say { status, headers, body } => (status, headers, body),
            Reply::Hang => return tokio::time::sleep(Duration::from_secs(60)).await,
            Reply::LoseAnswer => {
                world.lock().unwrap().handle(&request);
                return;
            }
            Reply::Normal | Reply::Reset => {
                let (status, body) = world.lock().unwrap().handle(&request);
                (
                    status,
                    "Content-Type: application/xml\r\n".to_owned(),
                    format!("<tsResponse xmlns=\"http://tableau.com/api\">{body}</tsResponse>"),
                )
            }
        };
        let clock = world.lock().unwrap().clock;
        let date = clock.map_or_else(String::new, |ahead| {
            let there = chrono::Utc::now() + chrono::TimeDelta::seconds(ahead);
            there.format("Date: %a, %d %b %Y %H:%M:%S GMT\r\n").to_string()
        });
        let answer = format!("HTTP/1.1 {status} X\r\n{headers}{date}Content-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

impl World {
    fn handle(&mut self, request: &Seen) -> (u16, String) {
        let query = |key: &str| {
            let query = request.target.split_once('?').map_or("", |(_, q)| q);
            query.split('&').find_map(|p| p.strip_prefix(&format!("{key}="))).map(str::to_owned)
        };
        let fail = |code: u32| {
            let body = format!("<error code=\"{code}\"><summary>S</summary><detail>D</detail></error>");
            (u16::try_from(code / 1000).unwrap(), body)
        };
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let attribute = |name: &str| {
            let rest = text.split_once(&format!(" {name}=\""))?.1;
            Some(rest.split_once('"')?.0.to_owned())
        };
        match request.label {
            "info" => (200, "<serverInfo><productVersion build=\"1\">2026.2</productVersion><restApiVersion>3.31</restApiVersion></serverInfo>".into()),
            "signin" => {
                self.sign_ins += 1;
                let token = format!("to|ken-{}", self.sign_ins);
                (200, format!("<credentials token=\"{token}\"><site id=\"s1\" contentUrl=\"fin\"/><user id=\"u1\"/></credentials>"))
            }
            "signout" => (204, String::new()),
            "user" => (200, "<user id=\"u1\" name=\"pat\" siteRole=\"Creator\"/>".into()),
            "projects" => {
                let filter = query("filter").unwrap_or_default();
                let hit = |p: &&(String, String, Option<String>)| match filter.split_once(":eq:") {
                    Some(("name", name)) => super::super::session::encode(&p.1) == name,
                    Some(("parentProjectId", id)) => p.2.as_deref() == Some(id),
                    _ => true,
                };
                let all: Vec<_> = self.projects.iter().filter(hit).collect();
                // Two to a page, whatever was asked for: pages must be followed.
                let page: usize = query("pageNumber").unwrap().parse().unwrap();
                let list: String = all.iter().skip((page - 1) * 2).take(2).map(|(id, name, parent)| {
                    let parent = parent.as_ref().map(|p| format!(" parentProjectId=\"{p}\"")).unwrap_or_default();
                    format!("<project id=\"{id}\" name=\"{name}\"{parent}/>")
                }).collect();
                (200, format!("<pagination pageNumber=\"{page}\" pageSize=\"2\" totalAvailable=\"{}\"/><projects>{list}</projects>", all.len()))
            }
            "create" => {
                let (name, parent) = (attribute("name").unwrap(), attribute("parentProjectId"));
                if self.projects.iter().any(|p| p.1 == name && p.2 == parent) {
                    return fail(409_006);
                }
                let id = format!("p{}", self.projects.len());
                self.projects.push((id.clone(), name.clone(), parent));
                (201, format!("<project id=\"{id}\" name=\"{name}\"/>"))
            }
            "begin" => {
                let id = format!("7720:{}-1:0", self.uploads.len());
                self.uploads.insert(id.clone(), Vec::new());
                (201, format!("<fileUpload uploadSessionId=\"{id}\" fileSize=\"0\"/>"))
            }
            "append" => {
                let id = request.target.rsplit_once('/').unwrap().1;
                let Some(upload) = self.uploads.get_mut(id) else { return fail(404_015) };
                upload.extend(request.file());
                (200, "<fileUpload uploadSessionId=\"3877:other-1:0\" fileSize=\"5\"/>".into())
            }
            "publish" => {
                let name = attribute("datasource name").or_else(|| attribute("name")).unwrap();
                let project = text.split_once("<project id=\"").map_or("p0", |(_, r)| r.split_once('"').unwrap().0).to_owned();
                let bytes = match query("uploadSessionId") {
                    Some(id) => match self.uploads.remove(&id) {
                        Some(bytes) => bytes,
                        None => return fail(404_015),
                    },
                    None => request.file(),
                };
                self.publishes += 1;
                let version = self.publishes;
                let name = text.split_once("<datasource name=\"").map_or(name, |(_, r)| r.split_once('"').unwrap().0.to_owned());
                match self.sources.iter_mut().find(|s| s.name == name && s.project == project) {
                    Some(_) if query("overwrite").is_none() && query("append").is_none() && query("replace").is_none() => return fail(403_007),
                    Some(old) if query("append").is_some() => {
                        old.bytes.extend(bytes);
                        (old.version, old.updated) = (version, None);
                    }
                    Some(old) => {
                        (old.bytes, old.version, old.updated) = (bytes, version, None);
                        (old.attributes, old.tags, old.owner) = (String::new(), Vec::new(), None);
                    }
                    None => self.sources.push(Source { name: name.clone(), project: project.clone(), version, bytes, ..Source::default() }),
                }
                if query("asJob").is_some() {
                    self.polls = 0;
                    return (202, "<job id=\"j1\" mode=\"Asynchronous\" type=\"PublishDatasource\" progress=\"0\" createdAt=\"x\" finishCode=\"1\"/>".into());
                }
                (201, self.show(&name))
            }
            "job" => {
                self.polls += 1;
                let ended = if self.polls > 2 { "completedAt=\"2026-01-01T00:00:00Z\" finishCode=\"0\"" } else { "finishCode=\"1\"" };
                (200, format!("<job id=\"j1\" type=\"PublishDatasource\" progress=\"0\" {ended}/>"))
            }
            "find" => {
                let list: String = self.sources.iter().map(|s| self.show(&s.name)).collect();
                (200, format!("<pagination pageNumber=\"1\" pageSize=\"1000\" totalAvailable=\"{}\"/><datasources>{list}</datasources>", self.sources.len()))
            }
            "look" => match request.target.rsplit_once("/ds-") {
                Some((_, name)) if self.sources.iter().any(|s| s.name == name) => (200, self.show(name)),
                _ => fail(404_004),
            },
            "update" | "tags" => {
                let name = request.target.split_once("/ds-").unwrap().1.trim_end_matches("/tags").to_owned();
                let source = self.sources.iter_mut().find(|s| s.name == name).unwrap();
                if request.label == "tags" {
                    source.tags.extend(text.split(" label=\"").skip(1).map(|t| t.split_once('"').unwrap().0.to_owned()));
                    return (200, "<tags/>".into());
                }
                let attributes = text.split_once("<datasource").unwrap().1.split_once('>').unwrap().0;
                source.attributes.push_str(attributes);
                source.owner = text.split_once("<owner id=\"").map(|(_, r)| r.split_once('"').unwrap().0.to_owned()).or(source.owner.take());
                (200, self.show(&name))
            }
            "groups" => (200, "<pagination totalAvailable=\"1\"/><groups><group id=\"g1\" name=\"Analysts\"/></groups>".into()),
            "rights" => {
                let list: String = self.rights.iter().map(|(group, name, mode)| format!(
                    "<granteeCapabilities><group id=\"{group}\"/><capabilities><capability name=\"{name}\" mode=\"{mode}\"/></capabilities></granteeCapabilities>"
                )).collect();
                (200, format!("<permissions><datasource id=\"x\"/>{list}</permissions>"))
            }
            "grant" => {
                for one in text.split("<granteeCapabilities>").skip(1) {
                    let of = |key: &str| one.split_once(&format!(" {key}=\"")).unwrap().1.split_once('"').unwrap().0.to_owned();
                    let (group, name, mode) = (of("id"), of("name"), of("mode"));
                    if self.rights.iter().any(|(g, n, m)| *g == group && *n == name && *m != mode) {
                        return fail(400_009);
                    }
                    self.rights.push((group, name, mode));
                }
                (200, "<permissions/>".into())
            }
            "revoke" => {
                let words: Vec<&str> = request.target.rsplit('/').take(3).collect();
                self.rights.retain(|(g, n, m)| [m.as_str(), n.as_str(), g.as_str()] != words[..]);
                (204, String::new())
            }
            "warnings" => (200, format!("<dataQualityWarningList>{}</dataQualityWarningList>",
                self.warning.as_ref().map(|w| format!("<dataQualityWarning{w}/>")).unwrap_or_default())),
            "warn" => {
                self.warning = Some(text.split_once("<dataQualityWarning").unwrap().1.split_once('/').unwrap().0.to_owned());
                (200, String::new())
            }
            "patch" => {
                let id = request.header("requestid").unwrap().to_owned();
                let bytes = query("uploadSessionId").and_then(|id| self.uploads.remove(&id)).unwrap_or_default().len();
                if bytes > 1500 {
                    return fail(413_000);
                }
                if !self.changes.iter().any(|(known, _)| *known == id) {
                    self.changes.push((id, bytes));
                    self.publishes += 1;
                    self.sources[0].version = self.publishes;
                }
                self.polls = 0;
                (202, "<job id=\"j2\" mode=\"Asynchronous\" type=\"UpdateUploadedFile\"/>".into())
            }
            _ => fail(404_001),
        }
    }

    fn show(&self, name: &str) -> String {
        let s = self.sources.iter().find(|s| s.name == name).unwrap();
        let (updated, owner) = (s.updated.clone().unwrap_or(format!("v{}", s.version)), s.owner.as_deref().unwrap_or("u1"));
        let tags: String = s.tags.iter().map(|t| format!("<tag label=\"{t}\"/>")).collect();
        format!(
            "<datasource id=\"ds-{name}\" name=\"{name}\" contentUrl=\"{name}\" type=\"hyper\" size=\"1\" updatedAt=\"{updated}\" \
             webpageUrl=\"http://t/{name}\"{}><project id=\"{}\" name=\"x\"/><owner id=\"{owner}\"/><tags>{tags}</tags></datasource>",
            s.attributes, s.project
        )
    }
}
