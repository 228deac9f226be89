//! Where supervisors live: in this process, or in one of their own.

use std::ffi::OsString;
use std::fmt::Debug;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thv_core::{Dirs, Env, WorkloadName};
use thv_process::handover::{AsyncChannel, Channel};
use thv_process::{DetachedSpec, Effort, Processes, Signal, TerminateOutcome, terminate};
use thv_secrets::{ExposeSecret, SecretString};
use thv_status::{ClaimId, OwnerGuard, OwnerKind};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Error, Result};

/// How long a child may do nothing at all before it has said that it owns the workload: it hangs then. One that works, or
/// waits for a processor or a disk, does not: a machine that begins all its workloads at once is slow.
const IDLE: Duration = Duration::from_secs(10);
/// How long it may take, however busy it is.
const HELLO: Duration = Duration::from_secs(120);
/// How long a child waits for its order.
const ORDER: Duration = Duration::from_secs(120);

/// How long is waited for a child to end that said that it ends.
const GOODBYE: Duration = Duration::from_secs(10);

/// How much of a server's line an error shows; ten of them fit into one report, whatever their characters.
const LONGEST_LINE: usize = 500;
/// How much is said where a report does not fit.
const SHORT_REASON: usize = 2000;

/// The environment variable that marks a detached proxy, as ToolHive does.
pub(crate) const DETACHED_ENV: &str = "TOOLHIVE_DETACHED";

/// The environment variable by which the local runtime finds the processes of a server. A proxy that a server starts
/// is not one of them.
const INSTANCE_ENV: &str = "TOOLHIVE_INSTANCE";

/// Everything that a supervisor is given by the verb that launches it.
#[derive(Debug)]
#[non_exhaustive]
pub struct LaunchOrder {
    /// The workload.
    pub name: WorkloadName,
    /// The claim under which the supervisor may write.
    pub claim: ClaimId,
    /// The proxy's listening socket.
    pub listener: TcpListener,
    /// The locked `.owner`.
    pub owner: OwnerGuard,
    /// The names of the secrets that the run configuration refers to.
    pub secrets: Vec<String>,
    /// What opens the store of these secrets, if it needs something that only this process may know.
    pub secrets_key: Option<SecretString>,
    /// Log more.
    pub debug: bool,
}

/// How far a launch has come. Each state is final but the first two.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaunchState {
    /// Nobody has taken the order yet.
    Launching,
    /// A supervisor owns the workload: claim and port.
    Owned,
    /// The server answered `initialize`.
    Ready,
    /// It failed; the workload's status says so too.
    Failed {
        /// Why.
        reason: String,
        /// The last lines that the server wrote.
        last_lines: Vec<String>,
    },
    /// The supervisor ended before it was ready, without a failure: it was stopped.
    Ended,
}

/// What a launcher may use of the manager that calls it.
pub trait SupervisorHost: Send + Sync {
    /// Runs the supervisor as a task of this process.
    fn spawn(&self, order: LaunchOrder, kind: OwnerKind) -> watch::Receiver<LaunchState>;
    /// The environment of the application.
    fn env(&self) -> &Env;
    /// Its directories.
    fn dirs(&self) -> &Dirs;
    /// Its view of processes.
    fn processes(&self) -> &dyn Processes;
}

/// Decides where a supervisor lives.
#[async_trait]
pub trait Launcher: Debug + Send + Sync + 'static {
    /// Hands `order` over. On return a supervisor owns the workload, or the error says why not and nothing was
    /// started.
    async fn launch(
        &self,
        order: LaunchOrder,
        host: &dyn SupervisorHost,
    ) -> Result<watch::Receiver<LaunchState>>;

    /// Refuses before anything is touched, where this launcher cannot work at all.
    fn check(&self, env: &Env) -> Result<()> {
        let _ = env;
        Ok(())
    }
}

/// Supervisors are tasks of the embedding application: the library's default.
#[derive(Debug, Clone, Copy, Default)]
pub struct InProcess;

#[async_trait]
impl Launcher for InProcess {
    async fn launch(
        &self,
        order: LaunchOrder,
        host: &dyn SupervisorHost,
    ) -> Result<watch::Receiver<LaunchState>> {
        Ok(host.spawn(order, OwnerKind::Application))
    }
}

/// Each supervisor is a process of its own: `<command> start <name> --foreground`, detached from the terminal,
/// with an environment of listed variables and its output in the workload's proxy log.
#[derive(Debug, Clone)]
pub struct Detached {
    command: PathBuf,
    args: Vec<OsString>,
}

impl Detached {
    /// Launches `command` (absolute) with `args` before `start <name> --foreground`. The program calls
    /// [`Manager::run_detached_child`](crate::Manager::run_detached_child) there.
    pub fn new(command: impl Into<PathBuf>, args: impl IntoIterator<Item = OsString>) -> Self {
        Self {
            command: command.into(),
            args: args.into_iter().collect(),
        }
    }

    fn spawn(&self, order: &LaunchOrder, stdin: OwnedFd, host: &dyn SupervisorHost) -> Result<Child> {
        let log = proxy_log(host.dirs(), order.name.as_str())?;
        let log_too = log.try_clone().map_err(|source| Error::Io {
            action: "duplicate the proxy log's descriptor".into(),
            source,
        })?;
        let mut args = self.args.clone();
        args.extend(["start".into(), order.name.as_str().into(), "--foreground".into()]);
        if order.debug {
            args.push("--debug".into());
        }
        let spec = DetachedSpec::new(&self.command)
            .args(args)
            .env(child_env(host.env(), &order.secrets))
            .stdin(stdin)
            .stdout(log)
            .stderr(log_too);
        Ok(host.processes().spawn_detached(spec)?)
    }
}

type Child = Box<dyn thv_process::ProcessHandle>;

/// What the parent says to the child, once, with the listener and the locked `.owner`.
#[derive(Serialize, Deserialize)]
struct Order {
    version: u32,
    claim: ClaimId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secrets_key: Option<String>,
}

/// What the child says to the parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Report {
    Owned,
    Ready,
    Failed { reason: String, last_lines: Vec<String> },
    Ended,
}

#[async_trait]
impl Launcher for Detached {
    fn check(&self, env: &Env) -> Result<()> {
        if env.get(DETACHED_ENV) == Some("1") {
            return Err(Error::Unsupported {
                what: "a detached launch".into(),
                detail: format!("{DETACHED_ENV}=1 is set: this is a detached proxy itself"),
            });
        }
        Ok(())
    }

    async fn launch(
        &self,
        order: LaunchOrder,
        host: &dyn SupervisorHost,
    ) -> Result<watch::Receiver<LaunchState>> {
        let (ours, theirs) = Channel::pair()?;
        let ours = ours.into_async()?;
        let child = self.spawn(&order, theirs.into(), host)?;
        thv_process::crash_point!(LaunchSpawned);
        let message = serde_json::to_vec(&Order {
            version: 1,
            claim: order.claim.clone(),
            secrets_key: order
                .secrets_key
                .as_ref()
                .map(|key| key.expose_secret().to_owned()),
        })
        .map_err(|e| Error::Io {
            action: "write the hand-over".into(),
            source: e.into(),
        })?;
        let name = order.name.clone();
        let owner = order.owner.as_fd().ok_or_else(|| Error::Unsupported {
            what: "a detached launch".into(),
            detail: "the status manager keeps its locks in memory".into(),
        })?;
        let sent = ours.send(&message, &[order.listener.as_fd(), owner]);
        thv_process::crash_point!(LaunchSent);
        // The child has its own descriptors now: ours would keep the lock alive after its death.
        drop(order);
        let began = Instant::now();
        let hello = match sent {
            Ok(()) => hello(next_report(&ours), || child.effort()).await,
            Err(_) => None,
        };
        match hello {
            Some(Report::Owned) => {
                let (state, states) = watch::channel(LaunchState::Owned);
                tokio::spawn(follow(ours, state, child));
                Ok(states)
            }
            Some(Report::Failed { reason, last_lines }) => {
                gone(&child).await;
                Err(Error::StartFailed {
                    name: name.to_string(),
                    reason,
                    last_lines,
                })
            }
            _ => {
                end(child).await;
                let log = host.dirs().proxy_log(name.as_str());
                Err(Error::StartFailed {
                    name: name.to_string(),
                    reason: format!(
                        "its proxy process ended or said nothing for {} s; see {}",
                        began.elapsed().as_secs(),
                        log.display()
                    ),
                    last_lines: last_lines_of(&log),
                })
            }
        }
    }
}

/// The first report of a child; `None` when it hangs, or ended. One that works goes on until [`HELLO`] is over.
async fn hello<T>(
    report: impl Future<Output = Option<T>>,
    mut effort: impl FnMut() -> Option<Effort>,
) -> Option<T> {
    let mut report = pin!(report);
    let deadline = Instant::now() + HELLO;
    let mut before = effort();
    loop {
        if let Ok(report) = tokio::time::timeout(IDLE, &mut report).await {
            return report;
        }
        let now = effort();
        let goes_on = before.zip(now).is_some_and(|(before, now)| now.goes_on(before));
        if !goes_on || Instant::now() >= deadline {
            return None;
        }
        tracing::debug!("a proxy process is slow to begin");
        before = now;
    }
}

/// Relays what the child reports until it is final, and owns the child's handle that long. That it failed or ended is
/// told when its process is gone: whoever hears it finds nothing left.
async fn follow(channel: AsyncChannel, state: watch::Sender<LaunchState>, child: Child) {
    loop {
        let next = tokio::select! {
            report = next_report(&channel) => match report {
                Some(Report::Owned) => continue,
                Some(Report::Ready) => LaunchState::Ready,
                Some(Report::Failed { reason, last_lines }) => LaunchState::Failed { reason, last_lines },
                Some(Report::Ended) => LaunchState::Ended,
                None => LaunchState::Failed {
                    reason: format!("its proxy process ({}) ended unexpectedly", child.identity()),
                    last_lines: Vec::new(),
                },
            },
            () = state.closed() => return,
        };
        if next != LaunchState::Ready {
            tokio::select! {
                () = gone(&child) => {}
                () = state.closed() => return,
            }
        }
        let _ = state.send(next);
        return;
    }
}

async fn next_report(channel: &AsyncChannel) -> Option<Report> {
    let message = channel.recv().await.ok()??;
    serde_json::from_slice(&message.bytes).ok()
}

/// Waits for a child that said its last.
async fn gone(child: &Child) {
    if !matches!(tokio::time::timeout(GOODBYE, child.exited()).await, Ok(Ok(_))) {
        tracing::warn!(pid = child.identity().pid, "a proxy that failed has not ended");
    }
}

async fn end(child: Child) {
    match terminate(&*child, Duration::from_secs(1)).await {
        Ok(TerminateOutcome::Exited { .. }) => {}
        other => {
            tracing::warn!(
                pid = child.identity().pid,
                ?other,
                "a launched proxy could not be ended"
            );
            let _ = child.signal(Signal::Kill);
        }
    }
}

/// The child's side of a hand-over.
#[derive(Debug)]
pub(crate) struct Parent {
    channel: Channel,
}

impl Parent {
    /// Receives the order from standard input, which is `/dev/null` from then on. `None`: the parent is gone, and the
    /// child ends without an effect.
    pub(crate) fn receive(name: &WorkloadName) -> Result<Option<(Self, LaunchOrder)>> {
        let channel = Channel::from_stdin()?;
        // The end of the parent is told at once; this is for one that was stopped.
        let Some(message) = channel.recv(ORDER)? else {
            return Ok(None);
        };
        let invalid = |detail: &str| Error::Invalid {
            what: "hand-over".into(),
            detail: detail.into(),
        };
        let order: Order = serde_json::from_slice(&message.bytes)
            .map_err(|_| invalid("it is not an order of this version"))?;
        if order.version != 1 {
            return Err(invalid(
                "it has another version: parent and child are different programs",
            ));
        }
        let [listener, owner]: [OwnedFd; 2] = message
            .fds
            .try_into()
            .map_err(|_| invalid("it does not carry a listener and a lock"))?;
        let order = LaunchOrder {
            name: name.clone(),
            claim: order.claim,
            listener: listener.into(),
            owner: OwnerGuard::from_fd(name.clone(), owner),
            secrets: Vec::new(),
            secrets_key: order.secrets_key.map(SecretString::from),
            debug: false,
        };
        Ok(Some((Self { channel }, order)))
    }

    /// Tells the parent, if it still listens.
    pub(crate) fn report(&self, state: &LaunchState) {
        let report = match state {
            LaunchState::Launching => return,
            LaunchState::Owned => Report::Owned,
            LaunchState::Ready => Report::Ready,
            LaunchState::Failed { reason, last_lines } => Report::Failed {
                reason: reason.clone(),
                last_lines: last_lines.iter().map(|line| cut_line(line)).collect(),
            },
            LaunchState::Ended => Report::Ended,
        };
        if let Err(error) = self.send(&report)
            && let Report::Failed { reason, .. } = report
        {
            // The parent may have gone: then nobody needs to know. Or it was too much: then the reason is worth most.
            tracing::debug!(%error, "a report was not sent");
            let short = Report::Failed {
                reason: cut(&reason, SHORT_REASON),
                last_lines: Vec::new(),
            };
            let _ = self.send(&short);
        }
    }

    fn send(&self, report: &Report) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(report)?;
        self.channel.send(&bytes, &[]).map_err(std::io::Error::other)
    }
}

/// A server's line as an error shows it.
pub(crate) fn cut_line(line: &str) -> String {
    cut(line, LONGEST_LINE)
}

fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The environment of a detached proxy: an allow-list, and the secrets that the configuration names.
fn child_env(env: &Env, secrets: &[String]) -> Vec<(String, String)> {
    const EXACT: &[&str] = &[
        "HOME",
        "PATH",
        "LANG",
        "TZ",
        "TMPDIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
    ];
    let allowed = |name: &str| match name {
        "TOOLHIVE_SECRETS_PASSWORD" | DETACHED_ENV | INSTANCE_ENV => false,
        _ => match name.strip_prefix("TOOLHIVE_SECRET_") {
            Some(secret) => secrets.iter().any(|wanted| wanted == secret),
            None => {
                EXACT.contains(&name)
                    || ["XDG_", "DOCKER_", "TOOLHIVE_"]
                        .iter()
                        .any(|prefix| name.starts_with(prefix))
            }
        },
    };
    env.iter()
        .filter(|(name, _)| allowed(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .chain([(DETACHED_ENV.to_owned(), "1".to_owned())])
        .collect()
}

/// Opens the workload's proxy log for appending: `$XDG_DATA_HOME/toolhive/logs/<name>.log`, 0600.
fn proxy_log(dirs: &Dirs, name: &str) -> Result<std::fs::File> {
    let folder = dirs.proxy_logs();
    let path = folder.join(format!("{name}.log"));
    thv_files::atomic::create_folder(&folder, 0o750)
        .and_then(|()| thv_runtime::open_log(&path))
        .map_err(|source| Error::Io {
            action: format!("open the proxy log {}", path.display()),
            source,
        })
}

/// The end of a log, for an error message: at most ten lines of its last 4 KiB.
fn last_lines_of(log: &std::path::Path) -> Vec<String> {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        let mut bytes = Vec::new();
        file.take(4096).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<_> = text.lines().map(cut_line).collect();
    lines[lines.len().saturating_sub(10)..].to_vec()
}

#[cfg(test)]
mod tests {
    use thv_process::{Exit, MemoryProcess, MemoryProcesses};

    use super::*;

    /// A child that says hello after `late`, and works until then if it does not hang.
    async fn says_hello(late: u64, hangs: bool) -> (bool, u64) {
        let began = Instant::now();
        let report = async {
            tokio::time::sleep(Duration::from_secs(late)).await;
            Some(())
        };
        let said = hello(report, || {
            let done = if hangs { 1 } else { began.elapsed().as_secs() };
            Some(Effort { done, busy: false })
        });
        (said.await.is_some(), began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_is_slow_is_waited_for_and_one_that_hangs_is_not() {
        assert_eq!(says_hello(9, true).await, (true, 9));
        assert_eq!(says_hello(60, true).await, (false, IDLE.as_secs()));
        assert_eq!(says_hello(60, false).await, (true, 60));
        assert_eq!(says_hello(500, false).await, (false, HELLO.as_secs()));
        // Of whom nothing is known, nothing is expected.
        let nobody = hello(std::future::pending::<Option<()>>(), || None);
        let began = Instant::now();
        assert_eq!((nobody.await, began.elapsed()), (None, IDLE));
    }

    #[test]
    fn a_child_gets_listed_variables_and_only_its_own_secrets() {
        let env = Env::from_vars([
            ("HOME", "/home/me"),
            ("AWS_SECRET_ACCESS_KEY", "no"),
            ("XDG_STATE_HOME", "/state"),
            ("TOOLHIVE_RUNTIME", "local"),
            ("TOOLHIVE_SECRETS_PASSWORD", "no"),
            ("TOOLHIVE_INSTANCE", "no"),
            ("TOOLHIVE_SECRET_mine", "yes"),
            ("TOOLHIVE_SECRET_other", "no"),
        ]);
        let names: Vec<_> = child_env(&env, &["mine".to_owned()])
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            names,
            [
                "HOME",
                "TOOLHIVE_RUNTIME",
                "TOOLHIVE_SECRET_mine",
                "XDG_STATE_HOME",
                "TOOLHIVE_DETACHED"
            ]
        );
    }

    #[test]
    fn a_detached_proxy_does_not_detach_again() {
        let env = Env::from_vars([(DETACHED_ENV, "1")]);
        assert_eq!(
            Detached::new("/bin/thv", []).check(&env).unwrap_err().code(),
            "unsupported"
        );
    }

    /// What the parent hears of a failure.
    async fn heard(reason: String, last_lines: Vec<String>) -> Option<Report> {
        let (theirs, channel) = Channel::pair().unwrap();
        Parent { channel }.report(&LaunchState::Failed { reason, last_lines });
        next_report(&theirs.into_async().unwrap()).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_when_the_process_is_gone() {
        let processes = MemoryProcesses::new();
        let identity = processes.add(MemoryProcess::new("/bin/thv"));
        let child = processes.open(&identity).unwrap().unwrap();
        let (ours, channel) = Channel::pair().unwrap();
        let (state, mut states) = watch::channel(LaunchState::Owned);
        let follow = tokio::spawn(follow(ours.into_async().unwrap(), state, child));

        let failed = LaunchState::Failed {
            reason: "no".into(),
            last_lines: Vec::new(),
        };
        Parent { channel }.report(&failed);
        let early = tokio::time::timeout(GOODBYE / 2, states.changed()).await;
        assert!(early.is_err(), "{:?}", states.borrow());
        processes.exit(identity.pid, Exit::Code(1));
        states.changed().await.unwrap();
        assert_eq!(*states.borrow(), failed);
        follow.await.unwrap();
    }

    #[tokio::test]
    async fn a_failure_is_heard_however_much_the_server_wrote() {
        // A control character is six bytes of JSON.
        let lines = vec!["\u{1}".repeat(100_000); 10];
        let Some(Report::Failed { reason, last_lines }) = heard("it ended".into(), lines).await else {
            panic!("nothing was heard");
        };
        assert_eq!((reason.as_str(), last_lines.len()), ("it ended", 10));
        assert_eq!(last_lines[0].chars().count(), LONGEST_LINE + 1);

        let too_much = heard("ü".repeat(100_000), vec!["a line".into()]).await;
        let Some(Report::Failed { reason, last_lines }) = too_much else {
            panic!("nothing was heard");
        };
        assert!(reason.starts_with("üü") && reason.ends_with('…'));
        assert!(last_lines.is_empty());
    }
}
