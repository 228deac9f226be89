//! How soon the end of a container is known, its supervisor says so, and a call in flight fails; and a stdio server in a container behind our bridge,
//! beside a bare bridge on the same engine's attach call.
//!
//! `cargo bench -p thv-benches --bench attach [ends] [calls]`, about a minute and a half each; without a word both. Client,
//! proxy, engine and server share the machine, so of calls the ratio is what counts. Every answer is checked.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot go on has no figures")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::json;
use thv::core::{Dirs, Env, TransportType, WorkloadName, WorkloadStatus};
use thv::manager::{RunOptions, RunRequest, StopOptions, WaitFor, WatchEvent, WatchFrom};
use thv::runtime::{DeploySpec, EventFilter, EventKind, InstanceRef, Runtime as _, RuntimeKind};
use thv::runtime_docker::{DockerConfig, DockerRuntime};
use thv_benches::engine::Engine;
use thv_benches::session::Session;
use thv_benches::{bare, median, programs};
use thv_proxy::{BackendIo, BridgeConfig, ServeOptions, StdioBridge, serve};
use tokio::io::{AsyncBufRead as _, AsyncRead, BufReader, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// How often each takes its turn; the middle one counts.
const ROUNDS: usize = 5;
const RUN: Duration = Duration::from_millis(800);
/// How often a container's end is measured.
const ENDS: usize = 20;
/// How long its events are listened to before that.
const LISTENED: Duration = Duration::from_millis(200);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Some(engine) = Engine::find().await else {
        return println!("no engine: nothing is measured");
    };
    let tag = std::process::id().to_string();
    let image = engine
        .import(&programs::static_echo(), "localhost/thv-bench/attach", &tag)
        .await;
    let runtime = DockerRuntime::new(DockerConfig::at(engine.socket()));
    let named: Vec<_> = std::env::args().skip(1).collect();
    let wanted = |part: &str| {
        let mut parts = named
            .iter()
            .filter(|word| ["ends", "calls"].contains(&word.as_str()));
        let all = parts.clone().next().is_none();
        all || parts.any(|word| word == part)
    };
    if wanted("ends") {
        ends(&engine, &runtime, &image, &tag).await;
        reactions(&engine, &image, &tag).await;
    }
    if wanted("calls") {
        throughput(&engine, &runtime, &image, &tag).await;
    }
    engine.remove_image(&image).await;
}

async fn throughput(engine: &Engine, runtime: &DockerRuntime, image: &str, tag: &str) {
    let mut containers = Vec::new();
    let mut addresses = Vec::new();
    for driver in ["", "none"] {
        let name = format!("thv-bench-bare-{tag}-{driver}0");
        let container = engine.create_logged_by(&name, image, driver).await;
        let bare = on_one_thread(|| async {
            let stream = container.start(&hello()).await;
            let (read, write) = tokio::io::split(stream);
            (bare::start(Unframed::new(read), write), container)
        });
        let (address, container) = bare.await;
        addresses.push(address);
        containers.push(container);
    }
    let (own, image, tag) = (runtime.clone(), image.to_owned(), tag.to_owned());
    let (ours, spec, stop) = on_one_thread(|| our_bridge(own, image, tag)).await;
    addresses.push(ours);
    println!("calls per second");
    println!(
        "{:>8} {:>7} {:>11} {:>9} {:>9} {:>7}",
        "sessions", "bytes", "bare, logs", "bare", "bridge", "ratio"
    );
    for (sessions, bytes) in [
        (1, 100),
        (8, 100),
        (64, 100),
        (8, 10_000),
        (64, 10_000),
        (8, 1_000_000),
    ] {
        let mut rates = vec![Vec::new(); addresses.len()];
        for _ in 0..ROUNDS {
            for (address, rates) in addresses.iter().zip(&mut rates) {
                rates.push(rate(*address, *address == ours, sessions, bytes).await);
            }
        }
        let middle = rates.into_iter().map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[ROUNDS / 2]
        });
        let middle: Vec<_> = middle.collect();
        println!(
            "{sessions:>8} {bytes:>7} {:>11.0} {:>9.0} {:>9.0} {:>7.2}",
            middle[0],
            middle[1],
            middle[2],
            middle[2] / middle[1]
        );
    }
    stop.cancel();
    runtime
        .remove(&InstanceRef::named(spec.name.clone()))
        .await
        .expect("removed");
    for container in containers {
        container.remove().await;
    }
}

/// What `make` makes, on a thread of its own that goes on with it: so `thv` runs a proxy.
async fn on_one_thread<T, F>(make: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let _gone = tell.send(make().await);
            std::future::pending::<()>().await;
        });
    });
    told.await.expect("it is made")
}

/// Our adapter's streams and our bridge, as a supervisor has them.
async fn our_bridge(
    runtime: DockerRuntime,
    image: String,
    tag: String,
) -> (SocketAddr, DeploySpec, CancellationToken) {
    let spec = spec(&image, &format!("bench-attach-{tag}"));
    runtime.deploy(&spec).await.expect("it runs");
    let streams = runtime.attach(&InstanceRef::named(spec.name.clone())).await;
    let streams = streams.expect("streams");
    if let Some(mut stderr) = streams.stderr {
        tokio::spawn(async move { tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await });
    }
    let streams = BackendIo::new(streams.stdout, streams.stdin);
    let bridge = StdioBridge::new(streams, BridgeConfig::default()).expect("a bridge");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let stop = CancellationToken::new();
    let serving = serve(
        listener,
        bridge.into_service(),
        ServeOptions::default(),
        stop.clone(),
    );
    tokio::spawn(serving);
    (address, spec, stop)
}

fn spec(image: &str, name: &str) -> DeploySpec {
    let mut spec = DeploySpec::new(name.parse().expect("a name"), image);
    spec.private_output = true;
    spec
}

fn hello() -> String {
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "bench", "version": "1" } } });
    hello.to_string()
}

/// Calls per second of so many clients, each of which asks again when it is answered.
async fn rate(address: SocketAddr, with_sessions: bool, sessions: usize, bytes: usize) -> f64 {
    let mut clients = tokio::task::JoinSet::new();
    let payload: String = "x".repeat(bytes);
    let mut open = Vec::new();
    for _ in 0..sessions {
        open.push(
            Session::open(address, "/mcp", with_sessions)
                .await
                .expect("a session"),
        );
    }
    let begin = Instant::now();
    for (number, mut session) in open.into_iter().enumerate() {
        let payload = payload.clone();
        clients.spawn(async move {
            let mut calls = 0_u32;
            while begin.elapsed() < RUN {
                session.call(number, "echo", &payload).await.expect("an answer");
                calls += 1;
            }
            calls
        });
    }
    let calls: u32 = clients.join_all().await.into_iter().sum();
    f64::from(calls) / begin.elapsed().as_secs_f64()
}

/// How soon it is known that a container ended: that was killed, by the engine's own call and by our events; and one that
/// ignores SIGTERM, from the end of its input on.
async fn ends(engine: &Engine, runtime: &DockerRuntime, image: &str, tag: &str) {
    let (mut plain, mut told, mut input) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ENDS {
        let container = engine
            .create(&format!("thv-bench-end-{tag}-{round}"), image)
            .await;
        let stream = container.start(&hello()).await;
        let began = Instant::now();
        container.kill().await;
        plain.push(began.elapsed());
        drop(stream);
        container.remove().await;
        for by_input in [false, true] {
            let mut spec = spec(image, &format!("bench-end-{tag}-{by_input}-{round}"));
            spec.command = vec!["--ignore-sigterm".to_owned()];
            let filter = EventFilter::of(spec.name.clone());
            let mut events = runtime.events(filter).await.expect("events");
            runtime.deploy(&spec).await.expect("it runs");
            let which = InstanceRef::named(spec.name.clone());
            let streams = runtime.attach(&which).await.expect("streams");
            let mut ends = async || loop {
                let event = events.next().await.expect("an event").expect("an event");
                if matches!(event.kind, EventKind::Ending | EventKind::Exited { .. }) {
                    return;
                }
            };
            // A supervisor listens from the start on.
            let early = tokio::time::timeout(LISTENED, ends()).await;
            early.expect_err("it runs");
            let began = Instant::now();
            if by_input {
                drop(streams);
                ends().await;
                input.push(began.elapsed());
            } else {
                let killed = engine.kill(spec.instance_name.as_str());
                tokio::join!(killed, async {
                    ends().await;
                    told.push(began.elapsed());
                });
            }
            runtime.remove(&which).await.expect("removed");
        }
    }
    println!("from the cause to the news of the end, middle and longest of {ENDS}");
    print("killed, the engine's own wait", plain);
    print("killed, our event", told);
    print("input closed, SIGTERM ignored, our event", input);
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let longest = times.last().copied().unwrap_or_default();
    println!("  {what:<42} {:>8.1?} {longest:>8.1?}", median(times));
}

/// How soon a supervisor has written that its container was killed, and whoever watches was told; and how soon the client of a
/// call in flight was.
async fn reactions(engine: &Engine, image: &str, tag: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let dirs = Dirs::under(folder.path());
    for needed in [&dirs.home, &dirs.temp] {
        std::fs::create_dir_all(needed).expect("a folder");
    }
    let host = format!("unix://{}", engine.socket().display());
    let env = Env::from_vars([("DOCKER_HOST", host)]);
    let manager = thv::manager_in(dirs, env)
        .and_then(|builder| builder.launcher_id("bench").build())
        .expect("a manager");
    let (mut times, mut calls) = (Vec::new(), Vec::new());
    for round in 0..ENDS {
        let name: WorkloadName = format!("bench-told-{tag}-{round}").parse().expect("a name");
        let mut request = RunRequest::new(image);
        request.name = Some(name.to_string());
        request.transport = Some(TransportType::Stdio);
        request.runtime = Some(RuntimeKind::new("docker"));
        request.isolate_network = Some(false);
        let options = RunOptions {
            wait: WaitFor::Ready(Duration::from_secs(30)),
            ..RunOptions::default()
        };
        Box::pin(manager.run(request, options)).await.expect("run");
        let mut watch = manager.watch(WatchFrom::Now).await.expect("a watch");
        let mut told = async || loop {
            match watch.next().await.expect("it goes on").event {
                WatchEvent::Changed(state)
                    if state.name == name && state.status != WorkloadStatus::Running =>
                {
                    return;
                }
                _ => {}
            }
        };
        let port = manager.status(&name).await.expect("it runs").workload.port;
        let session = Session::open(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "/mcp", true).await;
        let call = session.expect("a session").begin().await.expect("a call");
        let began = Instant::now();
        let fails = async {
            call.failed().await.expect("an error");
            calls.push(began.elapsed());
        };
        tokio::join!(engine.kill(name.as_str()), fails, async {
            told().await;
            times.push(began.elapsed());
        });
        Box::pin(manager.delete(&name, StopOptions::default()))
            .await
            .expect("rm");
    }
    print("killed, the word of its supervisor", times);
    print("killed, a call in flight fails", calls);
}

/// The payload of an attached stream, and nothing else done.
struct Unframed<R> {
    from: BufReader<R>,
    head: [u8; 8],
    have: usize,
    left: usize,
}

impl<R: AsyncRead + Unpin> Unframed<R> {
    fn new(from: R) -> Self {
        Self {
            from: BufReader::with_capacity(64 << 10, from),
            head: [0; 8],
            have: 0,
            left: 0,
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Unframed<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = out.filled().len();
        while out.filled().len() == before {
            let mut from = Pin::new(&mut this.from);
            let input = ready!(from.as_mut().poll_fill_buf(cx))?;
            if input.is_empty() {
                break;
            }
            let mut taken = 0;
            while taken < input.len() && out.remaining() > 0 {
                let rest = &input[taken..];
                if this.left == 0 {
                    this.head[this.have] = rest[0];
                    this.have += 1;
                    taken += 1;
                    if this.have == 8 {
                        let [.., a, b, c, d] = this.head;
                        (this.have, this.left) = (0, u32::from_be_bytes([a, b, c, d]) as usize);
                    }
                    continue;
                }
                let part = rest.len().min(this.left).min(out.remaining());
                out.put_slice(&rest[..part]);
                this.left -= part;
                taken += part;
            }
            from.consume(taken);
        }
        Poll::Ready(Ok(()))
    }
}
