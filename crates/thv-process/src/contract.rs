//! What every implementation of [`Processes`] promises, as tests (feature `contract`).
//!
//! An implementation's `tests/contract.rs` gives a [`Fixture`] and calls [`check`], in an async runtime with I/O and
//! time.

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    DetachedSpec, Exit, ProcessHandle, ProcessIdentity, Processes, Result, Signal, TerminateOutcome,
    terminate,
};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// What the suite needs to know about an implementation.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The implementation.
    fn processes(&self) -> &dyn Processes;

    /// A program that runs until a signal ends it.
    fn idle(&self) -> DetachedSpec;

    /// A started program that nothing but SIGKILL ends; returns once that is so.
    async fn start_stubborn(&self) -> Result<Box<dyn ProcessHandle>>;

    /// A port on which the asking process listens by now, until the fixture is dropped.
    fn listen(&self) -> u16;

    /// A port on which nobody listens.
    fn free_port(&self) -> u16;
}

/// Runs the suite.
///
/// # Panics
/// When a promise is broken; the message says which.
pub async fn check(fixture: &dyn Fixture) {
    asks_about_itself(fixture);
    a_handle_stays_with_its_process(fixture).await;
    another_process_of_the_same_pid_is_not_it(fixture).await;
    its_environment_finds_it(fixture).await;
    a_detached_process_leads_its_own_session(fixture).await;
    a_contained_program_ends_as_itself(fixture).await;
    terminate_asks_first(fixture).await;
    terminate_kills_who_does_not_listen(fixture).await;
    a_port_names_its_holder(fixture);
    a_relative_program_is_refused(fixture);
}

fn asks_about_itself(fixture: &dyn Fixture) {
    let processes = fixture.processes();
    let current = processes.current();
    assert_eq!(
        current.boot_id,
        processes.boot_id(),
        "the asking process lives in this boot"
    );
    let facts = ok(processes.facts(current.pid)).expect("the asking process is there");
    assert_eq!(facts.identity, current, "facts are about the asked process");
    assert!(facts.is_alive(), "who asks lives");
    assert_eq!(
        facts.uid,
        Some(processes.uid()),
        "the asking process is this user's"
    );
    assert!(ok(processes.open(&current)).is_some(), "who lives can be opened");
    assert!(ok(processes.is_alive(&current)), "who asks lives");
}

async fn a_handle_stays_with_its_process(fixture: &dyn Fixture) {
    let processes = fixture.processes();
    let child = ok(processes.spawn_detached(fixture.idle()));
    let identity = child.identity().clone();
    let opened = ok(processes.open(&identity)).expect("a started process can be opened");
    assert_eq!(opened.identity(), &identity, "a handle knows its process");

    // Waiting can be given up and taken up again.
    let waited = tokio::time::timeout(Duration::from_millis(1), child.exited()).await;
    assert!(waited.is_err(), "who lives has not exited");
    assert!(ok(child.signal(Signal::Kill)), "who lives gets the signal");
    assert_eq!(
        within(child.exited()).await,
        Exit::Signal(9),
        "its parent learns how it ended"
    );
    assert_eq!(
        within(child.exited()).await,
        Exit::Signal(9),
        "it can be asked again"
    );
    assert_eq!(
        within(opened.exited()).await,
        Exit::Unknown,
        "others learn only that it ended"
    );
    assert!(!ok(opened.signal(Signal::Term)), "who is gone gets no signal");
    assert!(
        ok(processes.open(&identity)).is_none() && !ok(processes.is_alive(&identity)),
        "who is gone cannot be opened, and does not live"
    );
    assert!(
        ok(processes.facts(identity.pid)).is_none_or(|facts| facts.identity != identity),
        "no zombie stays"
    );
}

async fn another_process_of_the_same_pid_is_not_it(fixture: &dyn Fixture) {
    let processes = fixture.processes();
    let child = ok(processes.spawn_detached(fixture.idle()));
    let it = child.identity().clone();
    let earlier = ProcessIdentity {
        start_time: it.start_time - 1,
        ..it.clone()
    };
    let is_nobody = |identity| ok(processes.open(identity)).is_none() && !ok(processes.is_alive(identity));
    assert!(ok(processes.is_alive(&it)), "a started process lives");
    assert!(is_nobody(&earlier), "another start time is another process");
    let boot = ProcessIdentity {
        boot_id: "another boot".into(),
        ..it.clone()
    };
    assert!(is_nobody(&boot), "another boot is another process");
    let nobody = ProcessIdentity { pid: 0, ..it };
    assert!(is_nobody(&nobody), "pid 0 is nobody");
    end(&*child).await;
}

async fn its_environment_finds_it(fixture: &dyn Fixture) {
    let processes = fixture.processes();
    let token = format!(
        "contract-{}-{}",
        processes.current().pid,
        processes.current().start_time
    );
    let spec = fixture
        .idle()
        .env([("THV_CONTRACT_TOKEN", token.as_str()), ("TOOLHIVE_DETACHED", "1")]);
    let child = ok(processes.spawn_detached(spec));
    let found = ok(processes.find_by_env("THV_CONTRACT_TOKEN", &token));
    assert_eq!(
        found,
        [child.identity().clone()],
        "exactly the process with the variable is found"
    );
    assert!(
        ok(processes.find_by_env("THV_CONTRACT_TOKEN", &token[1..])).is_empty(),
        "a part is not the value"
    );
    let facts = ok(processes.facts(child.identity().pid)).expect("it runs");
    assert_eq!(facts.detached_env, Some(true), "TOOLHIVE_DETACHED=1 is seen");
    end(&*child).await;
    assert!(
        ok(processes.find_by_env("THV_CONTRACT_TOKEN", &token)).is_empty(),
        "who is gone is not found"
    );
}

async fn a_detached_process_leads_its_own_session(fixture: &dyn Fixture) {
    let processes = fixture.processes();
    let child = ok(processes.spawn_detached(fixture.idle()));
    let identity = child.identity();
    let snapshot = ok(processes.snapshot());
    assert_eq!(
        snapshot.session_of(identity),
        std::slice::from_ref(identity),
        "it is alone in its session"
    );
    let descendants = snapshot.descendants(&processes.current());
    assert!(descendants.contains(identity), "it is a child of who started it");
    let other = ProcessIdentity {
        start_time: identity.start_time - 1,
        ..identity.clone()
    };
    assert!(
        snapshot.session_of(&other).is_empty(),
        "a session is its leader's, not the pid's"
    );
    end(&*child).await;
    let after = ok(processes.snapshot());
    assert!(after.get(identity).is_none(), "who was collected is not there");
}

async fn a_contained_program_ends_as_itself(fixture: &dyn Fixture) {
    let processes = fixture.processes();
    let plain = ok(processes.spawn_detached(fixture.idle()));
    assert!(
        plain.contained().is_none(),
        "nothing is contained unless asked for"
    );
    end(&*plain).await;

    let keeper = ok(processes.spawn_detached(fixture.idle().contained()));
    let contained = keeper.contained().expect("it was asked for");
    let program = contained.program.clone().expect("it runs");
    let program = ok(processes.open(&program)).expect("it runs");
    let snapshot = ok(processes.snapshot());
    assert_eq!(
        snapshot.session_of(program.identity()),
        std::slice::from_ref(program.identity()),
        "the program leads its own session"
    );
    assert!(ok(program.signal(Signal::Kill)), "who lives gets the signal");
    assert_eq!(
        within(keeper.exited()).await,
        Exit::Signal(9),
        "its keeper ends as it did"
    );
    within(program.exited()).await;

    let missing = DetachedSpec::new("/no/such/program").contained();
    if let Err(error) = processes.spawn_detached(missing) {
        assert_eq!(error.code(), "process_program_not_found", "as without a keeper");
    }
}

async fn terminate_asks_first(fixture: &dyn Fixture) {
    let child = ok(fixture.processes().spawn_detached(fixture.idle()));
    let outcome = within(terminate(&*child, DEADLINE)).await;
    assert_eq!(
        outcome,
        TerminateOutcome::Exited { killed: false },
        "SIGTERM is enough for who listens to it"
    );
    assert_eq!(within(child.exited()).await, Exit::Signal(15), "it was SIGTERM");
    let again = within(terminate(&*child, DEADLINE)).await;
    assert_eq!(
        again,
        TerminateOutcome::Exited { killed: false },
        "who is gone has exited"
    );
}

async fn terminate_kills_who_does_not_listen(fixture: &dyn Fixture) {
    let child = ok(fixture.start_stubborn().await);
    let outcome = within(terminate(&*child, Duration::from_millis(20))).await;
    assert_eq!(
        outcome,
        TerminateOutcome::Exited { killed: true },
        "SIGKILL follows when the grace is over"
    );
    assert_eq!(within(child.exited()).await, Exit::Signal(9), "it was SIGKILL");
}

fn a_port_names_its_holder(fixture: &dyn Fixture) {
    let processes = fixture.processes();
    let port = fixture.listen();
    let holder = ok(processes.port_holder(port)).expect("somebody listens");
    assert_eq!(
        (holder.port, holder.uid),
        (port, processes.uid()),
        "the holder's user is known"
    );
    let pids: Vec<_> = holder
        .processes
        .iter()
        .map(|facts| facts.identity.clone())
        .collect();
    assert!(
        pids.contains(&processes.current()),
        "the listening process is named"
    );
    assert!(
        ok(processes.port_holder(fixture.free_port())).is_none(),
        "a free port has no holder"
    );
}

fn a_relative_program_is_refused(fixture: &dyn Fixture) {
    let error = fixture
        .processes()
        .spawn_detached(DetachedSpec::new("true"))
        .expect_err("a relative program");
    assert_eq!(
        error.code(),
        "process_invalid",
        "a relative program is the caller's mistake"
    );
}

async fn end(process: &dyn ProcessHandle) {
    ok(process.signal(Signal::Kill));
    within(process.exited()).await;
}

async fn within<T>(what: impl Future<Output = Result<T>>) -> T {
    ok(tokio::time::timeout(DEADLINE, what)
        .await
        .expect("an answer within the deadline"))
}

fn ok<T>(answer: Result<T>) -> T {
    answer.unwrap_or_else(|error| panic!("{error}: {error:?}"))
}
