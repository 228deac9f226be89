//! An isolated workload reaches what it is allowed to, over the proxy, and nothing else, whatever it tries.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use support::meddler::{Do, Meddler};
use support::raw::api;
use support::{TestEngine, soon, until};
use thv_core::TransportType;
use thv_runtime::{
    DeployOutcome, DeploySpec, Endpoint, EventFilter, EventKind, Expect, InstanceRef, InstanceState,
    NetworkMode, PortBinding, Runtime, Stdio, StopOptions,
};
use thv_runtime_docker::{DockerConfig, DockerRuntime, Flavour};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

const SHORT: StopOptions = StopOptions {
    grace: Duration::from_secs(2),
};

/// An engine with the helper, compiled as it is for images.
struct Isolating {
    engine: TestEngine,
    runtime: DockerRuntime,
    helper: std::path::PathBuf,
}

impl Isolating {
    async fn get() -> Option<Self> {
        static HELPER: tokio::sync::OnceCell<std::path::PathBuf> = tokio::sync::OnceCell::const_new();
        let engine = TestEngine::get().await?;
        if engine.runtime.engine_info().await.unwrap().flavour == Flavour::Podman {
            return None;
        }
        let helper = HELPER.get_or_init(async || compile()).await.clone();
        let config = DockerConfig::at(engine.socket()).with_egress_helper(&helper);
        Some(Self {
            runtime: DockerRuntime::new(config),
            engine,
            helper,
        })
    }

    fn spec(&self, command: &[&str]) -> DeploySpec {
        let mut spec = self.engine.spec(command);
        spec.isolate_network = true;
        spec
    }

    /// Names of containers that begin with this one.
    async fn containers(&self, name: &str) -> Vec<String> {
        let (_, answer) = api(
            self.engine.socket(),
            "GET",
            "/v1.41/containers/json?all=true",
            &Value::Null,
        )
        .await;
        let rows: Vec<Value> = serde_json::from_str(&answer).unwrap();
        let names = rows.iter().map(|row| {
            row["Names"][0]
                .as_str()
                .unwrap()
                .trim_start_matches('/')
                .to_owned()
        });
        names.filter(|found| found.starts_with(name)).collect()
    }

    /// The volumes of a container that may not be there.
    async fn volumes(&self, container: &str) -> Vec<String> {
        let path = format!("/v1.41/containers/{container}/json");
        let (_, answer) = api(self.engine.socket(), "GET", &path, &Value::Null).await;
        let found: Value = serde_json::from_str(&answer).unwrap();
        let mounts = found["Mounts"].as_array().into_iter().flatten();
        mounts
            .filter_map(|mount| Some(mount["Name"].as_str()?.to_owned()))
            .collect()
    }

    /// Removes a workload, and sees that nothing of it stays.
    async fn remove(&self, spec: &DeploySpec) {
        let volumes = self.volumes(&format!("{}-egress", spec.name)).await;
        let which = InstanceRef::named(spec.name.clone());
        self.runtime.remove(&which).await.unwrap();
        let left = self.containers(spec.name.as_str()).await;
        assert!(left.is_empty(), "left: {left:?}");
        for volume in volumes {
            let path = format!("/v1.41/volumes/{volume}");
            let (status, _) = api(self.engine.socket(), "GET", &path, &Value::Null).await;
            assert_eq!(status, 404, "the volume {volume} is left");
        }
    }
}

fn compile() -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Tests of several processes may do this at once.
    let binary = folder.join(format!("thv-egress-{}", std::process::id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../helpers/egress/src/main.rs");
    let status = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args([
            "--edition=2024",
            "-Copt-level=1",
            "-Ctarget-feature=+crt-static",
            "-Cstrip=symbols",
        ])
        .args(["--crate-name", "thv_egress", "-o"])
        .arg(&binary)
        .arg(source)
        .status()
        .expect("rustc runs");
    assert!(status.success(), "the helper does not compile");
    binary
}

/// The workload from the inside.
struct Inside(Stdio);

impl Inside {
    async fn of(on: &Isolating, spec: &DeploySpec) -> Self {
        let which = InstanceRef::named(spec.name.clone());
        Self(on.runtime.attach(&which).await.unwrap())
    }

    async fn tries(&mut self, line: &str) -> String {
        self.0
            .stdin
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
        let mut answer = Vec::new();
        let reading = async {
            while answer.last() != Some(&b'\n') {
                answer.push(self.0.stdout.read_u8().await.unwrap());
            }
        };
        soon("the answer", reading).await;
        String::from_utf8(answer).unwrap().trim_end().to_owned()
    }
}

/// A container on the shared network, which isolated workloads reach through the proxy or not at all.
async fn outside(on: &Isolating) -> (DeploySpec, String) {
    let mut spec = on.engine.spec(&["serve", "from outside"]);
    spec.transport = TransportType::StreamableHttp;
    spec.target = Some(http_port());
    on.runtime.deploy(&spec).await.unwrap();
    let path = format!("/v1.41/containers/{}/json", spec.name);
    let (_, answer) = api(on.engine.socket(), "GET", &path, &Value::Null).await;
    let found: Value = serde_json::from_str(&answer).unwrap();
    let address = found["NetworkSettings"]["Networks"]["toolhive-external"]["IPAddress"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(!address.is_empty(), "{found}");
    (spec, address)
}

fn http_port() -> PortBinding {
    PortBinding {
        container_port: 8080,
        host_ip: Some([127, 0, 0, 1].into()),
        host_port: 0,
    }
}

#[tokio::test]
async fn what_is_allowed_is_reached_through_the_proxy_and_nothing_else_by_any_way() {
    let Some(on) = Isolating::get().await else { return };
    let (server, address) = outside(&on).await;
    let name = server.name.as_str();
    let mut other = on.spec(&["serve", "of another workload"]);
    other.transport = TransportType::StreamableHttp;
    other.target = Some(http_port());
    on.runtime.deploy(&other).await.unwrap();

    // Services of the host, where the engine's host is this machine: on every address of it, and a resolver.
    let extra = ExtraAddress::add();
    let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
    tcp.set_nonblocking(true).unwrap();
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    udp.set_nonblocking(true).unwrap();
    let resolver = extra.as_ref().map(|_| UdpSocket::bind((EXTRA, 53)).unwrap());
    let (tcp_port, udp_port) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());

    let mut spec = on.spec(&["probe"]);
    spec.egress.hosts = vec![name.to_owned()];
    spec.egress.ports = vec![8080];
    on.runtime.deploy(&spec).await.unwrap();
    let mut inside = Inside::of(&on, &spec).await;

    // The way that is open.
    until("the helpers", async || {
        let answer = inside.tries(&format!("proxy GET http://{name}:8080/")).await;
        (answer == "ok 200 from outside").then_some(())
    })
    .await;
    assert_eq!(
        inside.tries(&format!("proxy CONNECT {name}:8080")).await,
        "ok 200 from outside"
    );

    // The proxy's rules.
    for target in [
        format!("{name}:8081"),
        format!("{address}:8080"),
        format!("{}-egress:8080", other.name),
        "host.docker.internal:8080".to_owned(),
        "127.0.0.1:8080".to_owned(),
        "localhost:8080".to_owned(),
    ] {
        let answer = inside.tries(&format!("proxy CONNECT {target}")).await;
        assert!(answer.starts_with("ok 403 "), "{target}: {answer}");
    }

    // Around it: there is nothing but loopback.
    let interfaces = inside.tries("interfaces").await;
    assert!(
        interfaces.starts_with("ok ") && interfaces.contains("lo"),
        "{interfaces}"
    );
    for refused in ["raw", "packet"] {
        let answer = inside.tries(refused).await;
        assert!(answer.starts_with("no "), "{refused}: {answer}");
    }
    assert!(inside.tries(&format!("resolve {name}")).await.starts_with("no "));
    let mut everywhere = host_addresses(&on).await;
    everywhere.extend([
        address,
        "203.0.113.1".to_owned(),
        "169.254.169.254".to_owned(),
        "224.0.0.1".to_owned(),
    ]);
    everywhere.extend(extra.iter().map(|_| EXTRA.to_owned()));
    everywhere.extend(["[fe80::1]", "[ff02::1]", "[2001:db8::1]"].map(str::to_owned));
    for to in &everywhere {
        for attempt in [
            format!("tcp {to}:8080"),
            format!("tcp {to}:{tcp_port}"),
            format!("udp {to}:{udp_port}"),
            format!("udp {to}:{udp_port} lo"),
            format!("udp {to}:{udp_port} eth0"),
            format!("udp {to}:53"),
        ] {
            let answer = inside.tries(&attempt).await;
            // Bound to loopback a packet goes to the workload itself.
            assert!(
                answer.starts_with("no ") || attempt.ends_with(" lo"),
                "{attempt}: {answer}"
            );
        }
    }
    assert!(udp.recv(&mut [0; 16]).is_err(), "a packet came out");
    assert!(tcp.accept().is_err(), "a connection came out");
    if let Some(resolver) = resolver {
        resolver.set_nonblocking(true).unwrap();
        assert!(resolver.recv(&mut [0; 512]).is_err(), "a question came out");
    }

    drop(inside);
    for spec in [&spec, &other] {
        on.remove(spec).await;
    }
    on.engine.remove(&server.name).await;
}

/// An address of a range for documentation.
const EXTRA: &str = "198.51.100.77";
const EXTRA_INTERFACE: &str = "thv-test-dummy";

/// One more address of this machine, until it is dropped.
struct ExtraAddress;

impl ExtraAddress {
    /// `None` where this user may not, or the kernel has no such interface.
    fn add() -> Option<Self> {
        let added = ip(&["link", "add", EXTRA_INTERFACE, "type", "dummy"]).then_some(Self)?;
        let up = ip(&["addr", "add", &format!("{EXTRA}/32"), "dev", EXTRA_INTERFACE])
            && ip(&["link", "set", EXTRA_INTERFACE, "up"]);
        up.then_some(added)
    }
}

impl Drop for ExtraAddress {
    fn drop(&mut self) {
        ip(&["link", "del", EXTRA_INTERFACE]);
    }
}

fn ip(args: &[&str]) -> bool {
    let output = Command::new("ip").args(args).output();
    output.is_ok_and(|output| output.status.success())
}

/// The addresses by which the host is on the engine's networks, and those of this machine.
async fn host_addresses(on: &Isolating) -> Vec<String> {
    let (_, answer) = api(on.engine.socket(), "GET", "/v1.41/networks", &Value::Null).await;
    let networks: Vec<Value> = serde_json::from_str(&answer).unwrap();
    let gateways = networks
        .iter()
        .flat_map(|network| network["IPAM"]["Config"].as_array().cloned().unwrap_or_default());
    let mut found: Vec<_> = gateways
        .filter_map(|config| Some(config["Gateway"].as_str()?.to_owned()))
        .collect();
    // The address that this machine would use to go out; nothing is sent.
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    if probe.connect("203.0.113.1:9").is_ok()
        && let Ok(SocketAddr::V4(own)) = probe.local_addr()
    {
        found.push(own.ip().to_string());
    }
    found.retain(|address| !address.contains(':'));
    found.sort();
    found.dedup();
    found.truncate(6);
    assert!(!found.is_empty());
    found
}

#[tokio::test]
async fn everything_is_all_but_the_engines_host() {
    let Some(on) = Isolating::get().await else { return };
    let (server, address) = outside(&on).await;
    let mut other = on.spec(&["serve", "of another workload"]);
    other.transport = TransportType::StreamableHttp;
    other.target = Some(http_port());
    on.runtime.deploy(&other).await.unwrap();
    let mut spec = on.spec(&["probe"]);
    spec.egress.everything = true;
    on.runtime.deploy(&spec).await.unwrap();
    let mut inside = Inside::of(&on, &spec).await;
    until("the helpers", async || {
        let answer = inside.tries(&format!("proxy CONNECT {address}:8080")).await;
        (answer == "ok 200 from outside").then_some(())
    })
    .await;
    for target in [
        "172.17.0.1:80",
        "host.docker.internal:80",
        "127.0.0.1:3128",
        "169.254.169.254:80",
    ] {
        let answer = inside.tries(&format!("proxy CONNECT {target}")).await;
        assert!(answer.starts_with("ok 403 "), "{target}: {answer}");
    }
    // Its port is for the engine's host alone.
    let target = format!("{}-egress:8080", other.name);
    let answer = inside.tries(&format!("proxy CONNECT {target}")).await;
    assert!(!answer.contains("of another workload"), "{answer}");
    drop(inside);
    on.remove(&spec).await;
    on.remove(&other).await;
    on.engine.remove(&server.name).await;
}

#[tokio::test]
async fn an_isolated_http_server_is_reached_by_its_port_and_lives_its_whole_life() {
    let Some(on) = Isolating::get().await else { return };
    let mut spec = on.spec(&["serve", "hello"]);
    spec.transport = TransportType::StreamableHttp;
    spec.target = Some(http_port());
    let first = on.runtime.deploy(&spec).await.unwrap();
    assert!(first.instance.network_isolated);
    let Endpoint::Http(at) = first.endpoint else {
        panic!("{:?}", first.endpoint)
    };
    answers(at, "hello").await;
    assert_eq!(on.containers(spec.name.as_str()).await.len(), 3);
    let listed = on.runtime.list().await.unwrap();
    assert_eq!(
        listed
            .iter()
            .filter(|it| it.instance_name.starts_with(spec.name.as_str()))
            .count(),
        1
    );

    spec.expect = Expect::Instance(first.instance.id.clone());
    let again = on.runtime.deploy(&spec).await.unwrap();
    assert_eq!(
        (again.outcome, again.endpoint),
        (DeployOutcome::AlreadyRunning, Endpoint::Http(at))
    );

    // Other rules are other helpers, and another container.
    spec.egress.hosts = vec!["a.example".to_owned()];
    let other = on.runtime.deploy(&spec).await.unwrap();
    assert_eq!(other.outcome, DeployOutcome::Replaced);
    spec.expect = Expect::Instance(other.instance.id);

    let which = InstanceRef::named(spec.name.clone());
    on.runtime.stop(&which, SHORT).await.unwrap();
    // The engine's list lags behind its answers.
    until("the end of the helpers", async || {
        let running = "/v1.41/containers/json";
        let (_, rows) = api(on.engine.socket(), "GET", running, &Value::Null).await;
        (!rows.contains(spec.name.as_str())).then_some(())
    })
    .await;
    let back = on.runtime.deploy(&spec).await.unwrap();
    let Endpoint::Http(at) = back.endpoint else {
        panic!("{:?}", back.endpoint)
    };
    answers(at, "hello").await;

    // A helper that died is noticed, and made anew with the next deployment.
    let mut events = on
        .runtime
        .events(EventFilter::of(spec.name.clone()))
        .await
        .unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().kind, EventKind::Synced);
    let well = on.runtime.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!(well.impaired, None);
    let kill = format!("/v1.41/containers/{}-egress/kill", spec.name);
    assert_eq!(api(on.engine.socket(), "POST", &kill, &Value::Null).await.0, 204);
    let told = soon("word of it", events.next()).await.unwrap().unwrap();
    assert_eq!(
        (told.workload.as_str(), told.kind),
        (spec.name.as_str(), EventKind::Impaired)
    );
    let cut_off = on.runtime.inspect(&spec.name).await.unwrap().unwrap();
    assert!(cut_off.impaired.is_some(), "{cut_off:?}");
    spec.expect = Expect::Instance(back.instance.id);
    let healed = on.runtime.deploy(&spec).await.unwrap();
    assert_eq!(healed.outcome, DeployOutcome::Replaced);
    let Endpoint::Http(at) = healed.endpoint else {
        panic!("{:?}", healed.endpoint)
    };
    answers(at, "hello").await;
    on.remove(&spec).await;
}

/// The server needs a moment to listen, and the helpers one to find it.
async fn answers(at: SocketAddr, text: &str) {
    until("an answer", async || {
        let mut stream = tokio::net::TcpStream::connect(at).await.ok()?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .ok()?;
        let mut lines = BufReader::new(stream).lines();
        let mut last = String::new();
        while let Ok(Some(line)) = lines.next_line().await {
            last = line;
        }
        (last == text).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_isolated_is_refused() {
    let Some(on) = Isolating::get().await else { return };
    let changes: [fn(&mut DeploySpec); 2] = [
        |spec| spec.privileged = true,
        |spec| spec.network = NetworkMode::Host,
    ];
    for change in changes {
        let mut spec = on.spec(&["echo"]);
        change(&mut spec);
        let error = on.runtime.deploy(&spec).await.unwrap_err();
        assert_eq!(error.code(), "unsupported", "{error:?}");
        assert!(on.containers(spec.name.as_str()).await.is_empty());
    }
    let error = on.engine.runtime.deploy(&on.spec(&["echo"])).await.unwrap_err();
    assert_eq!(error.code(), "unsupported", "without the helper: {error:?}");
}

impl Isolating {
    /// Deploys through a socket that cuts the call of this number, before or after the engine heard it. The calls that were
    /// made, and whether the deployment succeeded.
    async fn deploy_cut(&self, spec: &DeploySpec, cut: Option<(usize, bool)>) -> (Vec<String>, bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let socket = Meddler::open(&path, self.engine.socket(), move |at, _| match cut {
            Some((number, true)) if number == at => Do::CutAfter,
            Some((number, false)) if number == at => Do::CutBefore,
            _ => Do::Forward,
        });
        let config = DockerConfig::at(&path).with_egress_helper(&self.helper);
        let deployed = soon("the deployment", DockerRuntime::new(config).deploy(spec)).await;
        (socket.calls(), deployed.is_ok())
    }
}

#[tokio::test]
async fn an_isolated_deployment_that_is_cut_anywhere_leaves_nothing_that_the_next_does_not_heal() {
    let Some(on) = Isolating::get().await else { return };
    let spec = on.spec(&["echo"]);
    let (calls, deployed) = on.deploy_cut(&spec, None).await;
    assert!(deployed, "{calls:?}");
    on.remove(&spec).await;
    // Each call that changes something once it is heard, the first of them before that, and some that look.
    let first = calls.iter().position(|call| !call.starts_with("GET "));
    let changed = (0..calls.len()).filter(|&number| !calls[number].starts_with("GET "));
    let looked = (0..calls.len()).filter(|&number| calls[number].starts_with("GET ") && number % 6 == 0);
    let before = first.into_iter().chain(looked).map(|number| (number, false));
    let cuts: Vec<_> = changed.map(|number| (number, true)).chain(before).collect();
    assert!(cuts.len() > 8, "{calls:?}");
    for (number, heard) in cuts {
        let spec = on.spec(&["echo"]);
        let what = format!("{} (heard: {heard})", calls[number]);
        let (_, deployed) = on.deploy_cut(&spec, Some((number, heard))).await;
        if !deployed {
            let left = on.containers(spec.name.as_str()).await;
            assert!(left.is_empty(), "{what} left {left:?}");
            let healed = on.runtime.deploy(&spec).await.unwrap();
            assert_eq!(healed.instance.state, InstanceState::Running, "{what}");
        }
        on.remove(&spec).await;
    }
}
