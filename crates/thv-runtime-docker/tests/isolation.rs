//! An isolated workload reaches what it is allowed to, over the proxy, and nothing else, whatever it tries.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;

use serde_json::{Value, json};
use support::isolating::{Inside, Isolating, http_port, outside};
use support::raw::{api, start_container};
use support::{TestEngine, until};
use thv_core::TransportType;
use thv_runtime::Runtime;

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
        "host.containers.internal:8080".to_owned(),
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
    let before = host_addresses(&on).await;
    on.runtime.deploy(&spec).await.unwrap();
    let mut inside = Inside::of(&on, &spec).await;
    until("the helpers", async || {
        let answer = inside.tries(&format!("proxy CONNECT {address}:8080")).await;
        (answer == "ok 200 from outside").then_some(())
    })
    .await;
    // By whatever address, and however that is written: where it is read as one at all, it is refused.
    let mut host = host_addresses(&on).await;
    // Networks of other tests come and go; the rules are those of the deployment.
    host.retain(|address| before.contains(address));
    host.extend(
        [
            "172.17.0.1",
            "host.docker.internal",
            "host.containers.internal",
            "127.0.0.1",
            "127.1.2.3",
            "0.0.0.0",
            "169.254.169.254",
        ]
        .map(str::to_owned),
    );
    for target in host {
        let answer = inside.tries(&format!("proxy CONNECT {target}:80")).await;
        assert!(answer.starts_with("ok 403 "), "{target}: {answer}");
        let answer = inside.tries(&format!("proxy GET http://{target}:80/")).await;
        assert!(answer.starts_with("ok 403 "), "{target}: {answer}");
    }
    for target in ["127.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        let answer = inside.tries(&format!("proxy CONNECT {target}")).await;
        assert!(!answer.starts_with("ok 200 "), "{target}: {answer}");
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
async fn a_name_that_is_allowed_leads_nowhere_else() {
    let Some(on) = Isolating::get().await else { return };
    let (server, address) = outside(&on).await;
    // Whoever keeps the name has it lead to another workload.
    let body = json!({
        "Image": on.engine.image, "Cmd": ["serve", "of another workload"],
        "HostConfig": { "NetworkMode": "toolhive-external" },
        "NetworkingConfig": { "EndpointsConfig": { "toolhive-external": { "Aliases": [REBOUND] } } },
    });
    let other = start_container(on.engine.socket(), &format!("{}-other", server.name), &body).await;

    let mut spec = on.spec(&["probe"]);
    spec.egress.hosts = vec![
        format!("*.{}", &REBOUND[1 + REBOUND.find('.').unwrap()..]),
        server.name.to_string(),
    ];
    on.runtime.deploy(&spec).await.unwrap();
    let mut inside = Inside::of(&on, &spec).await;
    until("the helpers", async || {
        let answer = inside.tries(&format!("proxy CONNECT {}:8080", server.name)).await;
        (answer == "ok 200 from outside").then_some(())
    })
    .await;
    for target in [
        REBOUND.to_owned(),
        REBOUND.to_uppercase(),
        format!("{REBOUND}."),
        address,
    ] {
        let answer = inside.tries(&format!("proxy CONNECT {target}:8080")).await;
        assert!(answer.starts_with("ok 403 "), "{target}: {answer}");
    }
    drop(inside);
    on.remove(&spec).await;
    let path = format!("/v1.41/containers/{other}?force=true");
    assert_eq!(
        api(on.engine.socket(), "DELETE", &path, &Value::Null).await.0,
        204
    );
    on.engine.remove(&server.name).await;
}

/// The host of an engine in a virtual machine is behind one, and is on no network of the engine.
#[tokio::test]
async fn what_the_engine_calls_its_host_is_out_of_reach_by_its_address_too() {
    let Some(on) = Isolating::get().await else { return };
    let (server, address) = outside(&on).await;
    let body = json!({
        "Image": on.engine.image, "Cmd": ["serve", "of the host"],
        "HostConfig": { "NetworkMode": "toolhive-external" },
        "NetworkingConfig": { "EndpointsConfig": { "toolhive-external": { "Aliases": ["host.docker.internal"] } } },
    });
    let host = start_container(on.engine.socket(), &format!("{}-host", server.name), &body).await;
    let path = format!("/v1.41/containers/{host}/json");
    let (_, answer) = api(on.engine.socket(), "GET", &path, &Value::Null).await;
    let seen: Value = serde_json::from_str(&answer).unwrap();
    let network = &seen["NetworkSettings"]["Networks"]["toolhive-external"];
    let host_address = network["IPAddress"].as_str().unwrap().to_owned();

    for (allowed, expected) in [(false, "ok 403 "), (true, "ok 200 of the host")] {
        let mut spec = on.spec(&["probe"]);
        spec.egress.everything = true;
        spec.egress.engine_host = allowed;
        on.runtime.deploy(&spec).await.unwrap();
        let mut inside = Inside::of(&on, &spec).await;
        until("the helpers", async || {
            let answer = inside.tries(&format!("proxy CONNECT {address}:8080")).await;
            (answer == "ok 200 from outside").then_some(())
        })
        .await;
        let answer = inside.tries(&format!("proxy CONNECT {host_address}:8080")).await;
        assert!(answer.starts_with(expected), "{answer}");
        drop(inside);
        on.remove(&spec).await;
    }
    let path = format!("/v1.41/containers/{host}?force=true");
    assert_eq!(
        api(on.engine.socket(), "DELETE", &path, &Value::Null).await.0,
        204
    );
    on.engine.remove(&server.name).await;
}

/// Each network that is made gives the host one more address.
#[tokio::test]
async fn an_address_that_the_host_gets_later_is_out_of_reach_too() {
    let Some(on) = Isolating::get().await else { return };
    // Where the engine's host is this machine, in the network of its first process.
    let network_of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    if network_of("1").is_none() || network_of("1") != network_of("self") {
        return;
    }
    let (server, address) = outside(&on).await;
    let specs = [false, true].map(|allowed| {
        let mut spec = on.spec(&["probe"]);
        spec.egress.everything = true;
        spec.egress.engine_host = allowed;
        spec
    });
    for spec in &specs {
        on.runtime.deploy(spec).await.unwrap();
    }
    let body = json!({ "Name": format!("{}-later", server.name) });
    let (status, answer) = api(on.engine.socket(), "POST", "/v1.41/networks/create", &body).await;
    assert_eq!(status, 201, "{answer}");
    let made: Value = serde_json::from_str(&answer).unwrap();
    let network = format!("/v1.41/networks/{}", made["Id"].as_str().unwrap());
    let (_, answer) = api(on.engine.socket(), "GET", &network, &Value::Null).await;
    let seen: Value = serde_json::from_str(&answer).unwrap();
    let gateway = seen["IPAM"]["Config"][0]["Gateway"].as_str().unwrap();
    // An engine in a virtual machine has its own.
    if let Ok(service) = TcpListener::bind((gateway, 0)) {
        let later = service.local_addr().unwrap();
        std::thread::spawn(move || {
            for client in service.incoming().flatten() {
                let mut client = client;
                let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\nof the host");
            }
        });
        for (spec, expected) in specs.iter().zip(["ok 403 ", "ok 200 of the host"]) {
            let mut inside = Inside::of(&on, spec).await;
            until("the helpers", async || {
                let answer = inside.tries(&format!("proxy CONNECT {address}:8080")).await;
                (answer == "ok 200 from outside").then_some(())
            })
            .await;
            let answer = inside.tries(&format!("proxy CONNECT {later}")).await;
            assert!(answer.starts_with(expected), "{expected}: {answer}");
        }
    }
    assert_eq!(
        api(on.engine.socket(), "DELETE", &network, &Value::Null).await.0,
        204
    );
    for spec in &specs {
        on.remove(spec).await;
    }
    on.engine.remove(&server.name).await;
}

/// On each engine: what takes it away under its containers takes their names along, for good.
#[tokio::test]
async fn a_network_that_somebody_is_on_stays() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let spec = engine.spec(&["serve", "of somebody"]);
    let name = format!("toolhive-{}-internal", spec.name);
    let body = json!({ "Name": name, "Labels": { "toolhive": "true" } });
    let (status, answer) = api(engine.socket(), "POST", "/v1.41/networks/create", &body).await;
    assert_eq!(status, 201, "{answer}");
    let body = json!({
        "Image": engine.image, "Cmd": spec.command, "HostConfig": { "NetworkMode": name },
    });
    let somebody = start_container(engine.socket(), &format!("{}-somebody", spec.name), &body).await;
    let network = format!("/v1.41/networks/{name}");
    let container = format!("/v1.41/containers/{somebody}?force=true");
    let there = async || api(engine.socket(), "GET", &network, &Value::Null).await.0;

    engine.remove(&spec.name).await;
    assert_eq!(there().await, 200);
    let (status, _) = api(engine.socket(), "DELETE", &container, &Value::Null).await;
    assert_eq!(status, 204);
    engine.remove(&spec.name).await;
    assert_eq!(there().await, 404);
}

const REBOUND: &str = "evil.allowed.example";
