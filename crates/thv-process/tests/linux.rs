//! What only the real kernel can show.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::FdFlags;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use thv_process::{DetachedSpec, Exit, LinuxProcesses, ProcessIdentity, Processes, ToolhiveEvidence};
use thv_process::{is_toolhive_proxy, system};

fn machine() -> LinuxProcesses {
    LinuxProcesses::new().expect("/proc")
}

fn sh(script: &str) -> DetachedSpec {
    DetachedSpec::new("/bin/sh")
        .args(["-c", script])
        .env([("PATH", "/usr/bin:/bin")])
}

/// Asks again until it is so.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !is_so() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_zombie_counts_as_dead() {
    let machine = machine();
    let mut child = Command::new("/bin/cat")
        .stdin(Stdio::piped())
        .spawn()
        .expect("cat");
    let pid = child.id();
    let identity = machine.facts(pid).expect("an answer").expect("it runs").identity;
    let handle = machine.open(&identity).expect("an answer").expect("it runs");

    drop(child.stdin.take());
    let raw = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    waitid(
        WaitId::Pid(raw.expect("a pid")),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    )
    .expect("its end");

    let facts = machine
        .facts(pid)
        .expect("an answer")
        .expect("nobody has collected it");
    assert!(facts.zombie && !facts.is_alive());
    assert!(machine.open(&identity).expect("an answer").is_none());
    let both = async { tokio::join!(handle.exited(), handle.exited()) };
    let (one, two) = tokio::time::timeout(Duration::from_mins(2), both)
        .await
        .expect("a zombie has exited");
    assert_eq!(
        (one.expect("an end"), two.expect("an end")),
        (Exit::Unknown, Exit::Unknown)
    );
    child.wait().expect("its status");
}

#[tokio::test]
async fn a_recycled_pid_is_not_opened_and_its_new_owner_not_signalled() {
    let machine = machine();
    let (stdin, hold) = std::io::pipe().expect("a pipe");
    let stranger = machine
        .spawn_detached(DetachedSpec::new("/bin/cat").stdin(stdin))
        .expect("a child");
    let recorded = ProcessIdentity {
        start_time: 1,
        ..stranger.identity().clone()
    };
    assert!(machine.open(&recorded).expect("an answer").is_none());
    let rebooted = LinuxProcesses::with_boot_id("another boot").expect("/proc");
    assert!(rebooted.open(stranger.identity()).expect("an answer").is_none());
    assert!(
        machine
            .facts(stranger.identity().pid)
            .expect("an answer")
            .expect("it runs")
            .is_alive()
    );
    drop(hold);
    assert_eq!(
        stranger.exited().await.expect("its end"),
        Exit::Code(0),
        "nobody signalled it"
    );
}

#[tokio::test]
async fn a_detached_process_inherits_nothing_but_what_was_named() {
    let machine = machine();
    // What an embedding application may have open without close-on-exec.
    let leaky = std::fs::File::open("/dev/zero").expect("/dev/zero");
    rustix::io::fcntl_setfd(&leaky, FdFlags::empty()).expect("the flag");
    let (answer, theirs) = std::io::pipe().expect("a pipe");
    let (stdin, hold) = std::io::pipe().expect("a pipe");
    let script = "env; pwd; echo ready; read line";
    let spec = sh(script).env([("ONLY", "this")]).stdin(stdin).stdout(theirs);
    let child = machine.spawn_detached(spec).expect("a child");

    let lines: Vec<String> = BufReader::new(answer)
        .lines()
        .map(|line| line.expect("a line"))
        .take_while(|line| line != "ready")
        .collect();
    // The shell itself sets PWD, and some set SHLVL, OLDPWD and _.
    let mut names: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    names.retain(|name| !matches!(*name, "PWD" | "OLDPWD" | "SHLVL" | "_"));
    names.sort_unstable();
    assert_eq!(names, ["ONLY", "PATH"]);
    assert_eq!(lines.last().map(String::as_str), Some("/"));

    let pid = child.identity().pid;
    let mut fds: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("its descriptors")
        .map(|entry| {
            entry
                .expect("a descriptor")
                .file_name()
                .into_string()
                .expect("a number")
        })
        .collect();
    fds.sort();
    assert_eq!(fds, ["0", "1", "2"]);

    drop(hold);
    assert_eq!(child.exited().await.expect("its end"), Exit::Code(1));
}

#[tokio::test]
async fn a_child_whose_handle_was_dropped_is_still_collected() {
    let machine = machine();
    let (stdin, hold) = std::io::pipe().expect("a pipe");
    let child = machine
        .spawn_detached(sh("read line").stdin(stdin))
        .expect("a child");
    let identity = child.identity().clone();
    drop(child);
    assert!(
        machine.open(&identity).expect("an answer").is_some(),
        "dropping a handle ends nobody"
    );
    drop(hold);
    eventually("the child is collected", || {
        machine
            .facts(identity.pid)
            .expect("an answer")
            .is_none_or(|facts| facts.identity != identity)
    })
    .await;
}

#[tokio::test]
async fn a_detached_process_is_told_from_others() {
    let machine = machine();
    let dir = tempfile::tempdir().expect("a folder");
    let thv = dir.path().join("thv");
    // A shell under the name of ToolHive's program, whose script is called `start`.
    std::fs::copy(std::fs::canonicalize("/bin/sh").expect("sh"), &thv).expect("a copy");
    let script = dir.path().join("start");
    std::fs::write(&script, "echo ready; read line").expect("a script");
    let (answer, theirs) = std::io::pipe().expect("a pipe");
    let (stdin, hold) = std::io::pipe().expect("a pipe");
    let spec = DetachedSpec::new(&thv)
        .args(["start", "foo"])
        .cwd(dir.path())
        .stdin(stdin)
        .stdout(theirs);
    let child = machine.spawn_detached(spec).expect("a child");
    BufReader::new(answer)
        .read_line(&mut String::new())
        .expect("ready");

    let facts = machine
        .facts(child.identity().pid)
        .expect("an answer")
        .expect("it runs");
    assert_eq!(facts.argv[1..], ["start", "foo"]);
    assert_eq!(facts.detached_env, Some(false));
    let now = jiff::Timestamp::now();
    assert!(facts.started_at.duration_since(now).abs() < jiff::SignedDuration::from_mins(2));
    let evidence = ToolhiveEvidence::Recorded {
        pid: facts.identity.pid,
        at: now,
    };
    let is = |name: &str| is_toolhive_proxy(&facts, &name.parse().expect("a name"), machine.uid(), evidence);
    assert!(is("foo"));
    assert!(!is("fo"));
    std::fs::remove_file(&thv).expect("the program is removed, as an upgrade does");
    let facts = machine
        .facts(child.identity().pid)
        .expect("an answer")
        .expect("it runs");
    assert_eq!(facts.exe.as_deref(), Some(&*thv));
    drop(hold);
    child.exited().await.expect("its end");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_not_found() {
    let error = machine()
        .spawn_detached(DetachedSpec::new("/no/such/program"))
        .expect_err("no program");
    assert_eq!(error.code(), "process_program_not_found");
    assert!(error.to_string().contains("/no/such/program"));
}

/// What executes another program has neither arguments nor environment for a moment.
#[tokio::test]
async fn a_process_is_found_while_it_becomes_another_program() {
    let machine = machine();
    let value = format!("of-{}", std::process::id());
    let again = r#"exec sh -c 'eval "$AGAIN"'"#;
    let spec =
        sh(r#"ulimit -t 20; eval "$AGAIN""#).env([("THV_TEST_BECOMES", value.as_str()), ("AGAIN", again)]);
    let child = machine.spawn_detached(spec).expect("a child");
    for _ in 0..100 {
        let found = machine.find_by_env("THV_TEST_BECOMES", &value);
        assert_eq!(found.expect("an answer"), [child.identity().clone()]);
    }
    child.signal(thv_process::Signal::Kill).expect("it is ours");
    child.exited().await.expect("its end");
}

#[test]
fn outside_an_async_runtime_spawn_is_refused() {
    let machine = system().expect("/proc");
    let error = machine
        .spawn_detached(DetachedSpec::new("/bin/true"))
        .expect_err("no runtime");
    assert_eq!(error.code(), "process_invalid");
}

#[test]
fn debug_of_a_spec_hides_values() {
    let spec = DetachedSpec::new("/bin/true").env([("TOKEN", "hunter2")]);
    let shown = format!("{spec:?}");
    assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn an_odd_pid_is_nobody() {
    let machine = machine();
    for pid in [0, u32::MAX, 1 << 31] {
        assert!(machine.facts(pid).expect("an answer").is_none(), "{pid}");
    }
    let mut rest = String::new();
    std::fs::File::open("/proc/self/stat")
        .and_then(|mut f| f.read_to_string(&mut rest))
        .expect("stat");
    let start = rest
        .rsplit(')')
        .next()
        .and_then(|r| r.split_whitespace().nth(19))
        .expect("field 22");
    assert_eq!(machine.current().start_time.to_string(), start);
}

#[test]
fn the_id_of_a_thread_is_no_process() {
    let machine = machine();
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid().as_raw_pid().cast_unsigned())
            .expect("told");
        wait.recv().expect_err("released");
    });
    let tid = told.recv().expect("an id");
    let facts = machine
        .facts(tid)
        .expect("an answer")
        .expect("a thread has a /proc entry");
    assert!(machine.open(&facts.identity).expect("an answer").is_none());
    drop(release);
    thread.join().expect("its end");
}

#[test]
fn a_holder_that_cannot_be_looked_at_is_named_by_its_user() {
    let machine = thv_process::MemoryProcesses::new();
    machine.listen_hidden(80, 33);
    let holder = machine.port_holder(80).expect("an answer").expect("somebody");
    assert_eq!(holder.to_string(), "another user's process (user 33)");
    let thv = thv_process::MemoryProcess::new("/usr/bin/thv").args(["start", "fetch"]);
    let pid = machine.add(thv).pid;
    machine.listen(81, pid);
    let holder = machine.port_holder(81).expect("an answer").expect("somebody");
    assert_eq!(
        holder.to_string(),
        format!("process {pid} (/usr/bin/thv start fetch)")
    );
}

/// One that computes or is starved goes on; one that waits for input, or was stopped, does not.
#[tokio::test]
async fn a_process_that_works_is_told_from_one_that_hangs() {
    let machine = machine();
    for (script, works) in [("while :; do :; done", true), ("exec sleep 1000", false)] {
        let child = machine.spawn_detached(sh(script)).expect("a shell");
        let goes_on = || {
            let before = child.effort().expect("it lives");
            std::thread::sleep(Duration::from_millis(100));
            child.effort().expect("it lives").goes_on(before)
        };
        eventually(script, || goes_on() == works).await;
        child.signal(thv_process::Signal::Kill).expect("a signal");
        child.exited().await.expect("its end");
    }
}
