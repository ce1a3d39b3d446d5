//! `kill -9` at ten points of a run, then the run again: the target old or new and never between, nothing left behind.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Desk, Done, hyperds_of};

const POINTS: u32 = 10;

#[test]
fn killed_at_ten_points_the_next_run_heals() {
    let desk = Desk::new();
    desk.numbered(600_000);
    desk.write("small.csv", "id,t\n1,x\n");
    let args = ["convert", "k.parquet", "out/k.hyper", "--route", "streamed"];
    let began = Instant::now();
    desk.run(&args).ok();
    let whole = began.elapsed();
    let rows = |desk: &Desk| desk.run(&["describe", "out/k.hyper", "--json"]).ok().json()["tables"][0]["rows"].clone();

    let (mut before, mut after) = (0, 0);
    for point in 0..POINTS {
        // An old file with other content, so that half of the new one would show.
        desk.run(&["convert", "small.csv", "out/k.hyper"]).ok();
        let mut child = desk.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * point / POINTS + Duration::from_millis(5));
        let _ = Command::new("kill").args(["-9", &child.id().to_string()]).status();
        let _ = child.wait();
        let gone = Instant::now();
        while hyperds_of(&desk) > 0 {
            assert!(gone.elapsed() < Duration::from_secs(20), "hyperd outlives its parent");
            std::thread::sleep(Duration::from_millis(50));
        }
        match rows(&desk) {
            r if r == 1 => before += 1,
            r if r == 600_000 => after += 1,
            other => panic!("killed at point {point}, the target holds {other} rows"),
        }
        desk.run(&args).ok();
        assert_eq!(rows(&desk), 600_000, "after the rerun");
        let left: Vec<_> = desk.files().into_iter().filter(|f| f.contains("lakeport-") || f.contains(".tmp")).collect();
        assert!(left.is_empty(), "killed at point {point}, the rerun leaves {left:?}");
    }
    println!("killed {POINTS} times: {before} times the old file, {after} times the new one, never between");
}

#[test]
fn what_it_spilled_when_it_was_killed_goes_with_the_next_run() {
    let desk = Desk::new();
    desk.parquet("k.parquet", "{'id': range(2000000), 't': [f'row {i * 7919 % 2000000}' for i in range(2000000)]}");
    let temporary = desk.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let sort = ["convert", "k.parquet", "k.csv", "--sql", "SELECT * FROM src ORDER BY t DESC", "--memory", "32MiB"];
    let spilled = || {
        let made = std::fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        made.filter(|name| name.starts_with(".lakeport-spill.")).count()
    };
    let mut child = desk.command(&sort).env("TMPDIR", &temporary).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while spilled() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended without spilling");
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = Command::new("kill").args(["-9", &child.id().to_string()]).status();
    let _ = child.wait();
    assert_eq!(spilled(), 1, "killed while it spilled");
    // One that spills nothing itself, and then the same once more.
    for args in [&["convert", "k.parquet", "few.csv", "--limit", "1"][..], &sort] {
        Done::of(desk.command(args).env("TMPDIR", &temporary).output().unwrap()).ok();
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "after {args:?}");
    }
}

#[test]
fn interrupted_politely_it_leaves_nothing() {
    let desk = Desk::new();
    desk.numbered(3_000_000);
    desk.write("k.hyper", "the old file");
    for route in ["streamed", "direct"] {
        let mut child = desk
            .command(&["convert", "k.parquet", "k.hyper", "--route", route])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while hyperds_of(&desk) == 0 {
            assert!(child.try_wait().unwrap().is_none(), "{route}: it ended without a hyperd");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(100));
        let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        let done = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(130), "{route}: {text}");
        assert!(text.contains("error[E400]"), "{text}");
        assert_eq!(hyperds_of(&desk), 0, "{route} leaves a hyperd");
        assert_eq!(std::fs::read_to_string(desk.path().join("k.hyper")).unwrap(), "the old file");
        assert!(!desk.files().iter().any(|f| f.contains(".tmp")), "{route} leaves {:?}", desk.files());
    }
}

#[test]
fn two_jobs_of_one_run_do_not_write_one_file_at_once() {
    let desk = Desk::new();
    desk.numbered(300_000);
    desk.write(
        "lakeport.toml",
        "[job.a]\nfrom = \"k.parquet\"\nto = \"out/k.csv\"\n[job.b]\nfrom = \"k.parquet\"\nto = \"out/k.csv\"\n",
    );
    for jobs in [["a", "b"], ["a", "a"]] {
        let done = desk.run(&["run", jobs[0], jobs[1], "--jobs", "2"]).fails(5, "E155").says("another job of this run writes");
        assert_eq!(done.stderr.matches("error[").count(), 1, "{}", done.stderr);
        assert_eq!(desk.files().iter().filter(|f| f.starts_with("out/")).count(), 1, "{:?}", desk.files());
        let lines = std::fs::read_to_string(desk.path().join("out/k.csv")).unwrap().lines().count();
        assert_eq!(lines, 300_001, "the file of the job that wrote it is whole");
    }
    desk.run(&["run", "a", "b", "--jobs", "1"]).ok();
}
