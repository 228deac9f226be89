//! The proxies that people use, beside ours and the bare reference, in one run: each before the same echo server, asked
//! by the same clients, each in a process of its own. Every answer is checked; a contestant that gives a wrong one, or
//! none, is out of that load, and it is said why. The ratio is to the one that is the aim, the bare reference or haproxy: the
//! middle one of those of each round, since a machine changes its speed between two rounds more than within one.
//!
//! ```text
//! cargo bench -p thv-benches --bench peers                # all: about six minutes
//! cargo bench -p thv-benches --bench peers -- stdio       # one of the parts: stdio, reverse
//! cargo bench -p thv-benches --bench peers -- quick       # whether each one works: short turns, small loads
//! ```
//!
//! A peer that is not installed is left out. Three programs are called `mcp-proxy`, so each is named by a variable:
//!
//! | variable | program | how it is installed |
//! |---|---|---|
//! | `PEER_CRATE_MCP_PROXY` | `mcp-proxy` of the crate of that name | `cargo install mcp-proxy --root DIR` |
//! | `PEER_NPM_MCP_PROXY` | `mcp-proxy` of npm | `npm install mcp-proxy` |
//! | `PEER_PYPI_MCP_PROXY` | `mcp-proxy` of PyPI | `pip install mcp-proxy` |
//! | `PEER_SUPERGATEWAY` | `supergateway` of npm; else the one in `PATH` | `npm install supergateway` |
//! | `PEER_HAPROXY` | `haproxy`; else the one in `PATH` or `/usr/sbin` | `apt-get install haproxy` |

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on has no figures"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use thv_benches::session::Session;
use thv_benches::{contestants, programs};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How often each takes its turn, one after the other; the middle one counts.
const ROUNDS: usize = 7;
/// How long a peer may take to begin.
const BEGIN: Duration = Duration::from_secs(30);
/// A call that takes longer has failed: somebody waits for somebody who waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is compared; an argument leaves one of them.
const PARTS: [&str; 2] = ["stdio", "reverse"];
/// Sessions and bytes of each call.
const LOADS: [(usize, usize); 9] = [
    (1, 100),
    (8, 100),
    (64, 100),
    (8, 10_000),
    (8, 1_000_000),
    (256, 10_000),
    (16, 1_000_000),
    (256, 100),
    (1000, 100),
];
const QUICK: [(usize, usize); 2] = [(8, 100), (8, 10_000)];

/// One who takes part.
struct Peer {
    name: &'static str,
    address: SocketAddr,
    path: &'static str,
    /// What it calls the tool.
    tool: &'static str,
    sessions: bool,
    child: Child,
    /// A child of its own for each session: so many that the machine would be measured are not asked for.
    child_each: bool,
}

/// How long a turn is, and which loads there are.
struct Plan {
    run: Duration,
    loads: &'static [(usize, usize)],
}

fn main() {
    if !contestants::serve_if_asked() {
        run();
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn run() {
    let given = |name: &str| std::env::args().any(|argument| argument == name);
    let wanted = |part: &str| given(part) || !PARTS.iter().any(|part| given(part));
    let plan = if given("quick") {
        Plan {
            run: Duration::from_millis(200),
            loads: &QUICK,
        }
    } else {
        Plan {
            run: Duration::from_millis(400),
            loads: &LOADS,
        }
    };
    let folder = tempfile::tempdir().expect("a folder");
    if wanted("stdio") {
        println!("stdio server behind HTTP");
        let echo = programs::release("echo-server", "echo-server");
        let echo = echo.to_str().expect("a plain path");
        let mut peers = vec![
            ours("bare reference", "reference", echo, false).await,
            ours("thv-proxy", "bridge", echo, true).await,
        ];
        peers.extend(programs_there(echo, folder.path()).await);
        compare(&peers, "bare reference", &plan).await;
    }
    if wanted("reverse") {
        println!("HTTP server behind a reverse proxy");
        let direct = ours("no proxy", "http", "", false).await;
        let server = direct.address;
        let mut peers = vec![
            direct,
            ours("thv-proxy", "reverse", &server.to_string(), false).await,
            ours("bare reference", "pass-on", &server.to_string(), false).await,
        ];
        peers.extend(haproxy(server, folder.path()).await);
        compare(&peers, "haproxy", &plan).await;
    }
}

/// What one turn of one contestant showed.
struct Turn {
    /// How long the calls took, sorted.
    times: Vec<Duration>,
    /// Processor time of the contestant.
    cpu: Duration,
}

async fn compare(peers: &[Peer], aim: &str, plan: &Plan) {
    println!(
        "{:>20} {:>9} {:>9} {:>10} {:>7} {:>10} {:>10} {:>9} {:>8}",
        "", "sessions", "bytes", "calls/s", "ratio", "middle", "p99", "µs/call", "MiB"
    );
    let aim = peers.iter().position(|peer| peer.name == aim);
    for &(sessions, bytes) in plan.loads {
        let mut turns: Vec<Result<Vec<Turn>, String>> = peers.iter().map(|_| Ok(Vec::new())).collect();
        for _ in 0..ROUNDS {
            for (peer, turns) in peers.iter().zip(&mut turns) {
                if peer.child_each && sessions > 64 {
                    *turns = Err("it starts a server for each session: left out".into());
                }
                let Ok(done) = turns else { continue };
                match load(peer, sessions, bytes, plan.run).await {
                    Ok(turn) => done.push(turn),
                    Err(reason) => *turns = Err(format!("failed: {reason}")),
                }
            }
        }
        let aimed: Vec<usize> = match aim.map(|aim| &turns[aim]) {
            Some(Ok(turns)) => turns.iter().map(|turn| turn.times.len()).collect(),
            _ => Vec::new(),
        };
        for (peer, turns) in peers.iter().zip(turns) {
            let mut turns = match turns {
                Ok(turns) => turns,
                Err(reason) => {
                    println!("{:>20} {sessions:>9} {bytes:>9} {reason}", peer.name);
                    continue;
                }
            };
            let ratio = ratio(&turns, &aimed);
            turns.sort_by_key(|turn| turn.times.len());
            let Turn { times, cpu } = &turns[ROUNDS / 2];
            let calls = u32::try_from(times.len()).unwrap();
            let rate = f64::from(calls) / plan.run.as_secs_f64();
            let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
            println!(
                "{:>20} {sessions:>9} {bytes:>9} {rate:>10.0} {ratio:>7} {:>10.2?} {:>10.2?} {:>9.1} {:>8}",
                peer.name,
                at(50),
                at(99),
                cpu.as_secs_f64() * 1e6 / f64::from(calls.max(1)),
                peer.resident()
            );
        }
    }
}

/// The middle one of the ratios of each round.
fn ratio(turns: &[Turn], aimed: &[usize]) -> String {
    let count = |calls: usize| f64::from(u32::try_from(calls.max(1)).unwrap());
    let pairs = turns.iter().zip(aimed);
    let mut ratios: Vec<_> = pairs
        .map(|(turn, aimed)| count(turn.times.len()) / count(*aimed))
        .collect();
    ratios.sort_by(f64::total_cmp);
    ratios
        .get(ratios.len() / 2)
        .map_or_else(String::new, |ratio| format!("{ratio:.2}"))
}

impl Peer {
    fn proc_file(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id()?)).ok()
    }

    /// What its process holds, in MiB.
    fn resident(&self) -> String {
        let status = self.proc_file("status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u32>().ok());
        kibibytes.map_or_else(String::new, |kib| format!("{:.1}", f64::from(kib) / 1024.0))
    }

    /// The processor time that its process has had, in steps of 10 ms.
    fn cpu(&self) -> Duration {
        let stat = self.proc_file("stat").unwrap_or_default();
        let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
        let numbers = behind.split_whitespace().skip(11).take(2);
        let ticks: u64 = numbers.filter_map(|number| number.parse::<u64>().ok()).sum();
        Duration::from_millis(10 * ticks)
    }
}

async fn load(peer: &Peer, sessions: usize, bytes: usize, run: Duration) -> Result<Turn, String> {
    let mut clients = tokio::task::JoinSet::new();
    let (opened, all_open) = (
        std::sync::Arc::new(tokio::sync::Barrier::new(sessions + 1)),
        tokio_util::sync::CancellationToken::new(),
    );
    for number in 0..sessions {
        let (address, path, tool, opens) = (peer.address, peer.path, peer.tool, peer.sessions);
        let (opened, failed) = (std::sync::Arc::clone(&opened), all_open.clone());
        clients.spawn(async move {
            // All begin at one time, and nobody waits for one who cannot.
            let _failed = failed.drop_guard();
            let opening = tokio::time::timeout(BEGIN, Session::open(address, path, opens)).await;
            let mut client = opening.map_err(|_| format!("no session in {BEGIN:?}"))??;
            let payload = format!("{number}-{}", "x".repeat(bytes.saturating_sub(20)));
            opened.wait().await;
            let (mut times, begin) = (Vec::new(), Instant::now());
            while begin.elapsed() < run {
                let asked = Instant::now();
                let calling = client.call(number, tool, &payload);
                let called = tokio::time::timeout(PATIENCE, calling).await;
                called.map_err(|_| format!("no answer in {PATIENCE:?}"))??;
                times.push(asked.elapsed());
            }
            Ok::<_, String>(times)
        });
    }
    tokio::select! {
        _ = opened.wait() => {}
        () = all_open.cancelled() => {}
    }
    let before = peer.cpu();
    let mut all = Vec::new();
    while let Some(outcome) = clients.join_next().await {
        all.extend(outcome.map_err(|error| error.to_string())??);
    }
    all.sort_unstable();
    Ok(Turn {
        times: all,
        cpu: peer.cpu().saturating_sub(before),
    })
}

/// A contestant of this workspace: this program once more.
async fn ours(name: &'static str, kind: &str, behind: &str, sessions: bool) -> Peer {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([contestants::SERVE, kind, behind])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("this program starts once more");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines.next_line().await.unwrap().expect("an address");
    Peer {
        name,
        address: address.parse().unwrap(),
        path: "/mcp",
        tool: "echo",
        sessions,
        child,
        child_each: false,
    }
}

/// A program that is installed: named by a variable, or in `PATH` where its name is its own.
fn installed(variable: &str, in_path: Option<&str>) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable) {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(in_path.unwrap_or_default()))
        .find(|program| in_path.is_some() && program.is_file())
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The proxies that are installed, each before an echo server of its own.
async fn programs_there(echo: &str, folder: &Path) -> Vec<Peer> {
    let mut peers = Vec::new();
    for (name, variable, in_path) in [
        ("mcp-proxy (crate)", "PEER_CRATE_MCP_PROXY", None),
        ("mcp-proxy (npm)", "PEER_NPM_MCP_PROXY", None),
        ("mcp-proxy (PyPI)", "PEER_PYPI_MCP_PROXY", None),
        ("supergateway", "PEER_SUPERGATEWAY", Some("supergateway")),
    ] {
        let Some(program) = installed(variable, in_path) else {
            println!("{name} is not installed ({variable}): left out");
            continue;
        };
        let port = free_port();
        let text = port.to_string();
        let mut command = Command::new(program);
        let (mut path, mut tool, mut child_each) = ("/mcp", "echo", false);
        match name {
            "mcp-proxy (crate)" => {
                let config = folder.join("proxy.toml");
                let text = format!(
                    "[proxy]\nname = \"bench\"\nversion = \"1\"\nseparator = \"/\"\n[proxy.listen]\nhost = \"127.0.0.1\"\nport = {port}\n[[backends]]\nname = \"bench\"\ntransport = \"stdio\"\ncommand = \"{echo}\"\n"
                );
                std::fs::write(&config, text).unwrap();
                command.arg("--config").arg(config);
                (path, tool) = ("/", "bench/echo");
            }
            "mcp-proxy (npm)" => {
                command.args([
                    "--port",
                    &text,
                    "--host",
                    "127.0.0.1",
                    "--server",
                    "stream",
                    "--",
                    echo,
                ]);
            }
            "mcp-proxy (PyPI)" => {
                command.args(["--port", &text, "--host", "127.0.0.1", "--", echo]);
            }
            _ => {
                command.args(["--stdio", echo, "--port", &text, "--logLevel", "none"]);
                command.args(["--outputTransport", "streamableHttp", "--stateful"]);
                child_each = true;
            }
        }
        let begun = begun(name, command, port, path, tool, true).await;
        peers.extend(begun.map(|peer| Peer { child_each, ..peer }));
    }
    peers
}

/// A program that has begun to answer; none when it does not, which is said.
async fn begun(
    name: &'static str,
    mut command: Command,
    port: u16,
    path: &'static str,
    tool: &'static str,
    sessions: bool,
) -> Option<Peer> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("{name} does not start ({error}): left out");
            return None;
        }
    };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let (begin, mut last) = (Instant::now(), String::new());
    while begin.elapsed() < BEGIN {
        let trying = async {
            Session::open(address, path, sessions)
                .await?
                .call(1, tool, "hello")
                .await
        };
        match tokio::time::timeout(Duration::from_secs(5), trying).await {
            Ok(Ok(())) => {
                return Some(Peer {
                    name,
                    address,
                    path,
                    tool,
                    sessions,
                    child,
                    child_each: false,
                });
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = "no answer".into(),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{name} does not answer ({last}): left out");
    None
}

async fn haproxy(server: SocketAddr, folder: &Path) -> Option<Peer> {
    let Some(program) = installed("PEER_HAPROXY", Some("haproxy")) else {
        println!("haproxy is not installed (PEER_HAPROXY): left out");
        return None;
    };
    let (port, config) = (free_port(), folder.join("haproxy.cfg"));
    let text = format!(
        "global\n  nbthread 2\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  http-reuse always\nlisten bench\n  bind 127.0.0.1:{port}\n  server one {server}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(config);
    begun("haproxy", command, port, "/mcp", "echo", false).await
}
