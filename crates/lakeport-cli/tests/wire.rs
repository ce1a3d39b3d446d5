//! What goes over the wire: every request and answer judged by the official client, TLS with client certificates, proxies.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::support::{Desk, Done, Sandbox, judge, python};

/// A server of `wire.py`, ended with the test.
pub(crate) struct Wire {
    child: Child,
    pub(crate) url: String,
    log: PathBuf,
}

impl Wire {
    /// Starts it with a log of this name in the desk's directory; the log's path takes the place of `LOG`.
    pub(crate) fn start(desk: &Desk, log: &str, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let log = desk.path().join("sandbox").join(log);
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        let mut command = python();
        command.arg(format!("{}/tests/wire.py", env!("CARGO_MANIFEST_DIR"))).current_dir(desk.path());
        command.args(args.iter().map(|a| if *a == "LOG" { log.to_str().unwrap() } else { a }));
        command.envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("http"), "wire.py {args:?} did not start");
        Self { child, url: url.trim().to_owned(), log }
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The calls it saw.
    pub(crate) fn calls(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The calls of one method whose path contains this.
    pub(crate) fn of(&self, method: &str, path: &str) -> Vec<Value> {
        self.calls().into_iter().filter(|c| c["method"] == method && c["path"].as_str().unwrap().contains(path)).collect()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run(desk: &Desk, args: &[&str]) -> Done {
    Done::of(desk.command(args).env("TOKEN", "demo").output().unwrap())
}

/// An environment of these keys on a server.
pub(crate) fn toml(url: &str, keys: &str) -> String {
    format!(
        "[env.tab]\ntype = \"tableau\"\nurl = \"{url}\"\ntoken_name = \"demo\"\ntoken_secret = {{ env = \"TOKEN\" }}\n{keys}\n"
    )
}

#[test]
fn the_official_client_sends_the_same_requests_and_takes_the_same_answers() {
    let (desk, far) = (Desk::new(), Desk::new());
    let sandbox = Sandbox::start(&far);
    let ours = Wire::start(&desk, "ours", &["record", &sandbox.url, "LOG"], &[]);
    let jobs = "[job.kept]\nfrom = \"t.csv\"\nto = \"tab:Kept\"\n[job.kept.permissions.\"group:All Users\"]\nallow = [\"Read\", \"Connect\"]\n\
                deny = [\"Write\"]\n[job.kept.warning]\ntype = \"stale\"\nmessage = \"late <&>\"\n";
    let once = "project = \"Ours/Bélow, 1: x\"\ncreate_project = true";
    desk.write("lakeport.toml", toml(&ours.url, once) + jobs);
    desk.write("t.csv", "id,name\n1,a\n2,b\n");
    run(&desk, &["check", "tab"]).ok();
    run(&desk, &["run", "kept"]).ok();
    // What an overwrite takes is set by the official client, and given back by Lakeport.
    judge(&desk, "judge_wire", &["prepare", &sandbox.url]);
    let chunked = format!("{once}\nsingle_request_limit = \"1KiB\"\nchunk_size = \"8KiB\"");
    desk.write(
        "lakeport.toml",
        toml(&ours.url, &chunked) + &jobs.replace("late", "later").replace("\"Write\"", "\"Write\", \"Delete\""),
    );
    run(&desk, &["run", "kept"]).ok().says("restored after the overwrite");
    let kept = sandbox.datasources();
    let tags = kept[0]["tags"].as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned());
    assert_eq!(tags.collect::<std::collections::BTreeSet<_>>(), ["a,b", "one", "two words"].map(String::from).into(), "{kept:?}");
    for mode in ["append", "create"] {
        run(&desk, &["run", "--from", "t.csv", "--to", "tab:Other", "--mode", mode]);
    }
    desk.run(&["convert", "t.csv", "t.hyper"]).ok();
    run(&desk, &["publish", "t.hyper", "tab:Kept", "--action", "delete,insert", "--key", "id"]).ok();
    run(&desk, &["ls", "tab"]).ok();
    // The other ways to sign in.
    let without = |keys: &str| format!("[env.tab]\ntype = \"tableau\"\nurl = \"{}\"\n{keys}\n", ours.url);
    desk.write("user.toml", without("username = \"demo\"\npassword = { env = \"TOKEN\" }"));
    run(&desk, &["--config", "user.toml", "check", "tab"]).ok();

    let theirs = Wire::start(&desk, "theirs", &["record", &sandbox.url, "LOG"], &[]);
    let file = desk.path().join("t.hyper");
    judge(&desk, "judge_wire", &["drive", &theirs.url, file.to_str().unwrap()]);
    let logs = [ours.log().to_str().unwrap(), theirs.log().to_str().unwrap()];
    print!("{}", judge(&desk, "judge_wire", &[&["requests"][..], &logs[..]].concat()));
    let assets = judge(&desk, "wire", &["assets"]);
    print!("{}", judge(&desk, "judge_wire", &[&["answers", assets.trim()][..], &logs[..]].concat()));
}

#[test]
fn a_server_that_wants_a_certificate_gets_it() {
    let (desk, far) = (Desk::new(), Desk::new());
    let sandbox = Sandbox::start(&far);
    let directory = desk.path().to_str().unwrap();
    let tls = Wire::start(&desk, "tls", &["tls", &sandbox.url, "LOG", directory], &[]);
    desk.write("a.csv", "a\n1\n");
    let attempt = |keys: &str| {
        desk.write("lakeport.toml", toml(&tls.url, keys));
        run(&desk, &["run", "--from", "a.csv", "--to", "tab:A"])
    };
    // A certificate with its key in one file, and in two.
    attempt("ca_bundle = \"ca.pem\"\nclient_certificate = \"client.pem\"").ok();
    attempt("ca_bundle = \"ca.pem\"\nclient_certificate = \"client-cert.pem\"\nclient_key = \"client-key.pem\"").ok();
    assert_eq!(sandbox.datasources()[0]["publishes"], 2);
    assert!(
        tls.calls().iter().all(|c| c["subject"].as_str().is_some_and(|s| s.contains("lakeport"))),
        "the certificate is shown"
    );
    let before = tls.calls().len();
    // Without the authority, and with another one: said so, and not called a network fault.
    attempt("client_certificate = \"client.pem\"").fails(5, "E150").says("is not trusted").says("ca_bundle");
    attempt("ca_bundle = \"other-ca.pem\"\nclient_certificate = \"client.pem\"")
        .fails(5, "E150")
        .says("localhost")
        .says("is not trusted");
    // Without a certificate, and with one of another authority: the server refuses the handshake.
    attempt("ca_bundle = \"ca.pem\"").fails(5, "E150").says("client_certificate");
    attempt("ca_bundle = \"ca.pem\"\nclient_certificate = \"stranger.pem\"").fails(5, "E150").says("client_certificate");
    attempt("ca_bundle = \"ca.pem\"\nclient_certificate = \"client-key.pem\"").fails(2, "E121").says("client-key.pem");
    attempt("ca_bundle = \"missing.pem\"").fails(2, "E121").says("missing.pem");
    assert_eq!(tls.calls().len(), before, "nothing was sent in any of these");
    assert_eq!(sandbox.datasources()[0]["publishes"], 2);
}

#[test]
fn proxies_are_used_and_passed_by() {
    let (desk, far) = (Desk::new(), Desk::new());
    let sandbox = Sandbox::start(&far);
    let tls = Wire::start(&desk, "tls", &["tls", &sandbox.url, "LOG", desk.path().to_str().unwrap()], &[]);
    let proxy = Wire::start(&desk, "proxy", &["forward", "LOG"], &[]);
    let closed = Wire::start(&desk, "closed", &["forward", "LOG"], &[("PROXY_WANTS", "anna:let-me-in")]);
    let check = |url: &str, keys: &str, variables: &[(&str, &str)]| {
        desk.write("lakeport.toml", toml(url, keys));
        let mut command = desk.command(&["check", "tab"]);
        command.env("TOKEN", "demo").env("SECRET", "let-me-in").envs(variables.iter().copied());
        Done::of(command.output().unwrap())
    };
    let used = |proxy: &Wire, before: usize| proxy.calls().len() > before;
    let mut seen = 0;
    let mut through = |proxy: &Wire| {
        let before = std::mem::replace(&mut seen, proxy.calls().len());
        used(proxy, before)
    };
    // Plain, by variable and by key; for TLS by CONNECT.
    check(&sandbox.url, "", &[("HTTP_PROXY", &proxy.url)]).ok();
    assert!(through(&proxy), "HTTP_PROXY is used");
    check(&sandbox.url, "", &[("http_proxy", &proxy.url)]).ok();
    assert!(through(&proxy), "http_proxy is used");
    check(&sandbox.url, &format!("proxy = \"{}\"", proxy.url), &[]).ok();
    assert!(through(&proxy), "proxy = … is used");
    let trusted = "ca_bundle = \"ca.pem\"\nclient_certificate = \"client.pem\"";
    check(&tls.url, trusted, &[("HTTPS_PROXY", &proxy.url)]).ok();
    assert!(through(&proxy) && proxy.calls().iter().any(|c| c["method"] == "CONNECT"), "HTTPS_PROXY is used");
    // What NO_PROXY names goes straight, whichever way the proxy was told.
    for no in ["localhost,127.0.0.1", "*", "example.com, 127.0.0.0/8,localhost"] {
        check(&sandbox.url, "", &[("http_proxy", &proxy.url), ("NO_PROXY", no)]).ok();
        check(&sandbox.url, &format!("proxy = \"{}\"", proxy.url), &[("NO_PROXY", no)]).ok();
        check(&tls.url, trusted, &[("HTTPS_PROXY", &proxy.url), ("no_proxy", no)]).ok();
        assert!(!through(&proxy), "NO_PROXY={no} is heeded");
    }
    // A proxy that wants credentials, without, and with.
    let keys = format!("proxy = \"{}\"", closed.url);
    check(&sandbox.url, &keys, &[]).fails(5, "E150").says("proxy_user");
    check(&sandbox.url, &format!("{keys}\nproxy_user = \"anna\"\nproxy_password = {{ env = \"SECRET\" }}"), &[]).ok();
    assert!(!closed.calls().is_empty());
    // Nobody there: the error names the proxy's absence, not the server's.
    check(&sandbox.url, "proxy = \"http://127.0.0.1:1\"\nretry_budget = 1", &[]).fails(5, "E150");
}
