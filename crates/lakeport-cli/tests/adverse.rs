//! A publish while the machine misbehaves: a disk that fills up, a clock that is wrong or jumps.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Desk, Done, Sandbox, hyperds_of};
use crate::wire::{run, toml};

/// A small file system of its own, unmounted with the test.
struct Small(std::path::PathBuf);

impl Small {
    /// `None` where mounting is not permitted, which CI must be.
    fn mount(desk: &Desk, name: &str, size: &str) -> Option<Self> {
        let at = desk.path().join(name);
        std::fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&at).status();
        if !mounted.is_ok_and(|s| s.success()) {
            assert!(std::env::var_os("CI").is_none(), "CI must be able to mount a small tmpfs");
            return None;
        }
        Some(Self(at))
    }

    /// Leaves not one page.
    fn fill(&self) {
        use std::io::Write;
        let mut filler = std::fs::File::create(self.0.join("filler")).unwrap();
        while filler.write_all(&[1; 4096]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn call(url: &str, method: &str, path: &str, body: &str) {
    let code = format!(
        "import urllib.request as u; u.urlopen(u.Request({:?}, {body:?}.encode(), method={method:?})).read()",
        format!("{url}/sandbox/{path}")
    );
    Done::of(crate::support::python().arg("-c").arg(code).output().unwrap()).ok();
}

/// Waits until the sandbox has seen a call of a kind.
fn seen(sandbox: &Sandbox, kind: &str) {
    let began = Instant::now();
    let code = format!("import urllib.request as u;print(u.urlopen('{}/sandbox/calls').read().decode())", sandbox.url);
    loop {
        let calls = Done::of(crate::support::python().arg("-c").arg(&code).output().unwrap()).ok();
        if calls.stdout.contains(&format!("\"{kind}\"")) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no call of kind {kind}");
    }
}

#[test]
fn a_disk_that_fills_up_during_the_upload_leaves_the_old_content() {
    let (desk, far) = (Desk::new(), Desk::new());
    let Some(small) = Small::mount(&desk, ".lakeport", "8m") else { return };
    let sandbox = Sandbox::start(&far);
    desk.write("lakeport.toml", toml(&sandbox.url, "single_request_limit = \"1KiB\"\nchunk_size = \"64KiB\""));
    desk.write("one.csv", "a\n".to_owned() + &"1\n".repeat(1000));
    desk.write("two.csv", "a\n".to_owned() + &"2\n".repeat(2000));
    let publish = |file: &str| desk.command(&["run", "--from", file, "--to", "tab:A"]).env("TOKEN", "demo").output();
    Done::of(publish("one.csv").unwrap()).ok();
    // While the upload begins, the disk under `.lakeport` fills: the receipt cannot be kept, and nothing is committed without.
    call(&sandbox.url, "POST", "faults", "upload-start:1:slow=5s");
    call(&sandbox.url, "DELETE", "calls", "");
    let mut command = desk.command(&["run", "--from", "two.csv", "--to", "tab:A"]);
    let child = command.env("TOKEN", "demo").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    seen(&sandbox, "projects");
    std::thread::sleep(Duration::from_secs(1));
    small.fill();
    Done::of(child.wait_with_output().unwrap()).fails(1, "E102");
    let there = sandbox.datasources();
    assert_eq!((&there[0]["tables"][0]["rows"], &there[0]["publishes"]), (&1000.into(), &1.into()));
    assert_eq!(hyperds_of(&desk), 0);
    // With room again, the next run does what this one did not.
    small.free();
    Done::of(publish("two.csv").unwrap()).ok();
    let there = sandbox.datasources();
    assert_eq!((&there[0]["tables"][0]["rows"], &there[0]["publishes"]), (&2000.into(), &2.into()));
    let left: Vec<_> =
        desk.files().into_iter().filter(|f| f.contains(".tmp") || f.contains("/work/") || f.contains("/publish/")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_disk_that_is_full_while_converting_leaves_the_old_content() {
    let (desk, far) = (Desk::new(), Desk::new());
    let Some(_small) = Small::mount(&desk, ".lakeport", "3m") else { return };
    let sandbox = Sandbox::start(&far);
    desk.write("lakeport.toml", toml(&sandbox.url, ""));
    desk.write("one.csv", "a\n1\n");
    desk.python(
        "import pyarrow as pa, pyarrow.parquet as pq, random\n\
         pq.write_table(pa.table({'a': [random.random() for _ in range(2000000)]}), 'big.parquet')",
    );
    run(&desk, &["run", "--from", "one.csv", "--to", "tab:A"]).ok();
    run(&desk, &["run", "--from", "big.parquet", "--to", "tab:A"]).fails(1, "E102");
    assert_eq!(sandbox.datasources()[0]["publishes"], 1);
    let left: Vec<_> = desk.files().into_iter().filter(|f| f.contains(".tmp") || f.contains("/work/")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The library that makes a process see another wall clock; `make setup` installs it.
fn faketime() -> &'static str {
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    assert!(std::path::Path::new(LIBRARY).is_file(), "there is no {LIBRARY}; run `make setup` (package faketime)");
    LIBRARY
}

/// A command whose wall clock is what the file `clock` says; the clock that only counts is left alone, as in reality.
fn astray(desk: &Desk, args: &[&str]) -> Child {
    let mut command = desk.command(args);
    command.env("TOKEN", "demo").env("LD_PRELOAD", faketime()).env("FAKETIME_TIMESTAMP_FILE", desk.path().join("clock"));
    command.env("FAKETIME_NO_CACHE", "1").env("DONT_FAKE_MONOTONIC", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_clock_that_is_wrong_or_jumps_changes_nothing() {
    let (desk, far) = (Desk::new(), Desk::new());
    let sandbox = Sandbox::start(&far);
    let blocks = "single_request_limit = \"1KiB\"\nchunk_size = \"8KiB\"\nlock_timeout = 5";
    let app = format!(
        "[env.tab]\ntype = \"tableau\"\nurl = \"{}\"\nclient_id = \"demo\"\nsecret_id = \"demo\"\nsecret_value = {{ env = \"TOKEN\" }}\n\
         user = \"demo\"\n{blocks}\n",
        sandbox.url
    );
    desk.write("app.toml", app);
    desk.write("lakeport.toml", toml(&sandbox.url, blocks));
    desk.write("a.csv", "a\n".to_owned() + &"1\n".repeat(5000));
    desk.run(&["convert", "a.csv", "a.hyper"]).ok();
    let mut publishes = 0;
    for clock in ["-400d", "+3h", "+20y"] {
        desk.write("clock", clock);
        for config in ["lakeport.toml", "app.toml"] {
            let done = astray(&desk, &["--config", config, "publish", "a.hyper", "tab:A", "--verify", "none", "--json"]);
            let done = Done::of(done.wait_with_output().unwrap()).ok();
            publishes += 1;
            // A signed word is minted by the server's time, and that is told.
            let told = done.json()["receipt"]["retries"].to_string().contains("clock");
            assert_eq!(told, config == "app.toml", "{clock} {config}: {}", done.stdout);
        }
    }
    assert_eq!(sandbox.datasources()[0]["publishes"], publishes);
    // It jumps while blocks are sent and a job is awaited: no wait grows or shrinks, no deadline passes.
    for jump in ["+5d", "-5d"] {
        desk.write("clock", "+0");
        call(&sandbox.url, "DELETE", "faults", "");
        call(&sandbox.url, "POST", "faults", "append:2:slow=2s");
        call(&sandbox.url, "POST", "faults", "job:1:throttled=1s");
        call(&sandbox.url, "DELETE", "calls", "");
        let began = Instant::now();
        let child = astray(&desk, &["publish", "a.hyper", "tab:A", "--verify", "none"]);
        seen(&sandbox, "append");
        desk.write("clock", jump);
        Done::of(child.wait_with_output().unwrap()).ok();
        publishes += 1;
        assert!(began.elapsed() < Duration::from_secs(100), "the jump by {jump} is waited for");
    }
    assert_eq!(sandbox.datasources()[0]["publishes"], publishes);
    // A lock says since when it is held by the clock of its holder, and is no lease that a clock could end.
    desk.write("clock", "-10d");
    call(&sandbox.url, "DELETE", "faults", "");
    call(&sandbox.url, "POST", "faults", "publish:1:slow=9s");
    call(&sandbox.url, "DELETE", "calls", "");
    let holder = astray(&desk, &["publish", "a.hyper", "tab:A", "--verify", "none"]);
    seen(&sandbox, "signin");
    desk.write("clock", "+10d");
    desk.write("hasty.toml", toml(&sandbox.url, "lock_timeout = 1"));
    run(&desk, &["--config", "hasty.toml", "publish", "a.hyper", "tab:B", "--verify", "none"]).fails(5, "E155");
    Done::of(holder.wait_with_output().unwrap()).ok();
}
