use serde_json::{Value, json};
use thv_runtime::Limits;

use super::*;
use crate::address::Address;

/// What an engine with an init program of its own says.
fn docker() -> Info {
    let says = json!({ "LoggingDriver": "json-file", "InitCommit": { "ID": "de40ad0" } });
    serde_json::from_value(says).unwrap()
}

fn asked_for(spec: &DeploySpec) -> Value {
    serde_json::to_value(desired(spec, "n1", &docker())).unwrap()
}

#[test]
fn every_container_is_hardened() {
    let wanted = asked_for(&DeploySpec::new("fetch".parse().unwrap(), "fetch:1"));
    assert_eq!(
        (&wanted["StdinOnce"], &wanted["OpenStdin"]),
        (&json!(true), &json!(true))
    );
    let host = &wanted["HostConfig"];
    for (key, expected) in [
        ("CapDrop", json!(["ALL"])),
        ("SecurityOpt", json!(["label:disable", "no-new-privileges"])),
        ("Init", json!(true)),
        ("RestartPolicy", json!({ "Name": "no" })),
        (
            "LogConfig",
            json!({ "Type": "json-file", "Config": { "max-size": "10m", "max-file": "3" } }),
        ),
    ] {
        assert_eq!(host[key], expected, "{key}");
    }
    for (key, nothing) in [("CapAdd", json!([])), ("Privileged", json!(false))] {
        assert!(
            host[key].is_null() || host[key] == nothing,
            "{key}: {}",
            host[key]
        );
    }
}

#[test]
fn what_is_asked_for_is_limited() {
    let mut spec = DeploySpec::new("fetch".parse().unwrap(), "fetch:1");
    spec.limits = Limits {
        memory: Some(64 << 20),
        cpus: Some(0.5),
        pids: Some(20),
    };
    spec.read_only = true;
    spec.private_output = true;
    let host = &asked_for(&spec)["HostConfig"];
    for (key, expected) in [
        ("Memory", json!(64 << 20)),
        // No swap beside it.
        ("MemorySwap", json!(64 << 20)),
        ("NanoCpus", json!(500_000_000)),
        ("PidsLimit", json!(20)),
        ("ReadonlyRootfs", json!(true)),
    ] {
        assert_eq!(host[key], expected, "{key}");
    }
    assert_eq!(host["LogConfig"]["Type"], "none");
    let temporary = &host["Mounts"][0];
    assert_eq!(
        (&temporary["Type"], &temporary["Target"]),
        (&json!("tmpfs"), &json!("/tmp"))
    );
    assert_eq!(
        temporary["TmpfsOptions"],
        json!({ "SizeBytes": 64 << 20, "Mode": 0o1777 }),
        "it has an end, and is everybody's"
    );
}

#[test]
fn a_server_is_reached_where_its_port_was_asked_for_whatever_else_leads_there() {
    let port = |host: &str| {
        let at: SocketAddr = host.parse().unwrap();
        PortBinding {
            container_port: 8080,
            host_ip: Some(at.ip()),
            host_port: at.port(),
        }
    };
    let mut spec = DeploySpec::new("fetch".parse().unwrap(), "fetch:1");
    spec.transport = TransportType::StreamableHttp;
    spec.target = Some(port("127.0.0.1:0"));
    for (ports, expected) in [
        (
            &["0.0.0.0:400", "[::]:400", "127.0.0.1:401"][..],
            Some("127.0.0.1:401"),
        ),
        (&["0.0.0.0:400"], Some("127.0.0.1:400")),
        (&["[::]:400"], Some("[::1]:400")),
        (&["192.0.2.9:400"], Some("192.0.2.9:400")),
        (&[], None),
    ] {
        let ports: Vec<_> = ports.iter().map(|host| port(host)).collect();
        let expected = expected.map(|host| Endpoint::Http(host.parse().unwrap()));
        assert_eq!(endpoint(&spec, &ports), expected, "{ports:?}");
    }
    let other = PortBinding {
        container_port: 9090,
        ..port("127.0.0.1:400")
    };
    assert_eq!(endpoint(&spec, &[other]), None);
    spec.network = NetworkMode::Host;
    let own = Endpoint::Http("127.0.0.1:8080".parse().unwrap());
    assert_eq!(endpoint(&spec, &[]), Some(own));
    spec.transport = TransportType::Stdio;
    assert_eq!(endpoint(&spec, &[]), Some(Endpoint::Stdio));
}

#[test]
fn a_container_that_differs_in_anything_is_another_one() {
    let engine = EngineInfo::docker(Address::Socket("/run/docker.sock".into()));
    let mut spec = DeploySpec::new("fetch".parse().unwrap(), "fetch:1");
    spec.command = vec!["serve".to_owned()];
    spec.env.insert("A".to_owned(), "1".to_owned());
    spec.transport = TransportType::StreamableHttp;
    spec.target = Some(PortBinding {
        container_port: 8080,
        host_ip: None,
        host_port: 0,
    });
    let wanted = desired(&spec, "n1", &docker());
    let image = Config {
        exposed_ports: ["53/udp", "7000-7001/tcp"].map(str::to_owned).into(),
        ..Config::default()
    };
    let mut asked = serde_json::to_value(&wanted).unwrap();
    asked["ExposedPorts"] = json!({"8080/tcp": {}, "53/udp": {}, "7000-7001/tcp": {}});
    let same = |changes: &[(&str, Value)]| {
        let mut told = json!({
            "Id": "c1", "Name": "/fetch", "State": {}, "Config": asked, "HostConfig": asked["HostConfig"],
        });
        for (place, value) in changes {
            let (parent, key) = place.rsplit_once('/').unwrap();
            told.pointer_mut(parent).unwrap()[key.replace("~1", "/")] = value.clone();
        }
        let found: Container = serde_json::from_value(told).unwrap();
        is_identical(&engine, &found, &image, &wanted, "n1")
    };
    assert!(same(&[]));
    // What engines write in two ways, or add.
    for (place, value) in [
        ("/HostConfig/NetworkMode", json!(SHARED_NETWORK)),
        ("/HostConfig/CapDrop", json!(["CAP_ALL"])),
        (
            "/HostConfig/SecurityOpt",
            json!(["no-new-privileges:true", "label=disable"]),
        ),
        ("/HostConfig/RestartPolicy/Name", json!("")),
        ("/HostConfig/LogConfig/Config/labels", json!("x")),
        (
            "/Config/ExposedPorts",
            json!({"8080/tcp": {}, "53/udp": {}, "7000/tcp": {}, "7001/tcp": {}}),
        ),
        ("/HostConfig/PortBindings/53~1udp", Value::Null),
    ] {
        assert!(same(&[(place, value)]), "{place}");
    }
    for (place, value) in [
        ("/Config/Image", json!("fetch:2")),
        ("/Config/Cmd", json!(["serve", "more"])),
        ("/Config/Env", json!(["A=2"])),
        ("/Config/Labels/other", json!("x")),
        ("/Config/AttachStdin", json!(true)),
        ("/Config/AttachStdout", json!(true)),
        ("/Config/AttachStderr", json!(true)),
        ("/Config/OpenStdin", json!(true)),
        ("/Config/StdinOnce", json!(true)),
        ("/Config/Tty", json!(true)),
        ("/Config/ExposedPorts", json!({})),
        (
            "/Config/ExposedPorts",
            json!({"8080/tcp": {}, "53/udp": {}, "7000/tcp": {}}),
        ),
        ("/HostConfig/NetworkMode", json!("host")),
        ("/HostConfig/CapDrop", json!([])),
        ("/HostConfig/CapAdd", json!(["NET_ADMIN"])),
        ("/HostConfig/SecurityOpt", json!(["label:disable"])),
        ("/HostConfig/Init", json!(false)),
        ("/HostConfig/LogConfig/Type", json!("local")),
        ("/HostConfig/LogConfig/Config/max-size", json!("1g")),
        ("/HostConfig/Privileged", json!(true)),
        ("/HostConfig/ReadonlyRootfs", json!(true)),
        ("/HostConfig/RestartPolicy/Name", json!("always")),
        (
            "/HostConfig/Mounts",
            json!([{"Type": "bind", "Source": "/", "Target": "/host"}]),
        ),
        (
            "/HostConfig/PortBindings",
            json!({"8080/tcp": [{"HostIp": "0.0.0.0", "HostPort": "80"}]}),
        ),
        ("/HostConfig/Memory", json!(6 << 20)),
        ("/HostConfig/MemorySwap", json!(-1)),
        ("/HostConfig/NanoCpus", json!(1_000_000)),
        ("/HostConfig/PidsLimit", json!(5)),
    ] {
        assert!(!same(&[(place, value)]), "{place}");
    }
}

#[test]
fn on_podman_the_volumes_of_the_image_are_told_among_those_that_were_asked_for() {
    let mut engine = EngineInfo::docker(Address::Socket("/run/podman/podman.sock".into()));
    engine.flavour = crate::Flavour::Podman;
    let mut spec = DeploySpec::new("fetch".parse().unwrap(), "fetch:1");
    let volume = |name: &str, target: &str| thv_runtime::NamedVolume {
        name: name.to_owned(),
        target: target.to_owned(),
        read_only: false,
    };
    spec.volumes = vec![volume("kept", "/kept")];
    let wanted = desired(&spec, "n1", &docker());
    let same = |told: &[(&str, &str)]| {
        let told = told.iter().map(|(name, at)| {
            json!({ "Type": "volume", "Name": name, "Source": "/x/_data", "Destination": at, "RW": true })
        });
        let mut told = json!({
            "Id": "c1", "Name": "/fetch", "State": {}, "Config": asked_for(&spec),
            "HostConfig": asked_for(&spec)["HostConfig"], "Mounts": told.collect::<Vec<_>>(),
        });
        told["HostConfig"]["Mounts"] = Value::Null;
        let found: Container = serde_json::from_value(told).unwrap();
        is_identical(&engine, &found, &Config::default(), &wanted, "n1")
    };
    let made_up = "5cca6c1c355a366228967cebe9edc01cac1921593aa9c69e7787db7e67724d60";
    assert!(same(&[("kept", "/kept")]));
    assert!(same(&[("kept", "/kept"), (made_up, "/data")]));
    assert!(!same(&[("kept", "/kept"), ("another", "/data")]));
    assert!(!same(&[(made_up, "/kept")]));
    assert!(!same(&[(made_up, "/data")]));
}
