use serde_json::{Value, json};
use thv_runtime::PortBinding;

use super::*;

#[test]
fn rules_and_ports_are_the_helpers_arguments() {
    let mut spec = DeploySpec::new("fetch".parse().unwrap(), "fetch:1");
    let denied = BTreeSet::from([[172, 17, 0, 1].into(), [10, 0, 0, 9].into()]);
    let shown = |spec: &DeploySpec| outer_arguments(spec, &denied, false).join(" ");
    assert_eq!(shown(&spec), "outer --deny 10.0.0.9 --deny 172.17.0.1");
    let with_table = outer_arguments(&spec, &BTreeSet::new(), true);
    assert_eq!(with_table.join(" "), "outer --deny-in /host/net/fib_trie");
    spec.egress.hosts = vec![".example.com".to_owned()];
    spec.egress.ports = vec![443];
    spec.transport = TransportType::StreamableHttp;
    spec.target = Some(PortBinding {
        container_port: 8080,
        host_ip: None,
        host_port: 0,
    });
    let expected =
        "outer --deny 10.0.0.9 --deny 172.17.0.1 --allow-host .example.com --allow-port 443 --ingress 8080";
    assert_eq!(shown(&spec), expected);
    assert_eq!(inner_arguments(&spec).join(" "), "inner --ingress 8080");
    // The helpers listen at a port once, however often it is published.
    spec.publish = [(9000, 1), (8080, 2), (9000, 3)]
        .map(|(container_port, host_port)| PortBinding {
            container_port,
            host_ip: None,
            host_port,
        })
        .into();
    assert!(shown(&spec).ends_with(" 443 --open-ingress 8080 --open-ingress 9000"));
    assert_eq!(
        inner_arguments(&spec).join(" "),
        "inner --ingress 8080 --ingress 9000"
    );
}

#[test]
fn a_helper_with_other_rules_is_another_one_and_other_addresses_of_the_host_are_none() {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for (have, want, expected) in [
        (
            "outer --deny a --deny b --allow-all",
            "outer --deny b --allow-all",
            true,
        ),
        (
            "outer --deny b --allow-all",
            "outer --deny a --deny b --allow-all",
            true,
        ),
        ("outer --deny a --allow-all", "outer --deny a", false),
        (
            "outer --allow-all",
            "outer --deny-in /host/net/fib_trie --allow-all",
            true,
        ),
        (
            "outer --deny a --allow-host x",
            "outer --deny a --allow-host y",
            false,
        ),
    ] {
        assert_eq!(rules(&words(have)) == rules(&words(want)), expected, "{have}");
    }
}

#[test]
fn the_workload_has_no_network_of_its_own() {
    let mut spec = DeploySpec::new("fetch".parse().unwrap(), "fetch:1");
    spec.env
        .insert("HTTP_PROXY".to_owned(), "http://elsewhere".to_owned());
    let wanted = workload(&spec, "abc", &Info::default());
    assert_eq!(wanted.host_config.network_mode, "container:abc");
    assert!(wanted.host_config.port_bindings.is_empty());
    assert!(wanted.config.env.contains(&format!("HTTP_PROXY={PROXY}")));
}

#[test]
fn helpers_have_as_few_rights_as_there_are() {
    let spec = DeploySpec::new("fetch".parse().unwrap(), "fetch:1");
    let info = Info::default();
    let outer = outer_helper(
        &spec,
        "fetch-egress",
        "helper:1",
        "n1",
        &BTreeSet::new(),
        true,
        &info,
    );
    let inner = inner_helper(&spec, "fetch-ingress", "helper:1", "abc", &info);
    for (wanted, network) in [(outer, "n1"), (inner, "none")] {
        let wanted: Value = serde_json::to_value(wanted).unwrap();
        assert_eq!(wanted["StopSignal"], "SIGKILL");
        assert_eq!(wanted["OpenStdin"], false);
        let host = &wanted["HostConfig"];
        for (key, expected) in [
            ("NetworkMode", json!(network)),
            ("CapDrop", json!(["ALL"])),
            ("SecurityOpt", json!(["label:disable", "no-new-privileges"])),
            ("ReadonlyRootfs", json!(true)),
            ("Memory", json!(MEMORY)),
            ("PidsLimit", json!(PIDS)),
        ] {
            assert_eq!(host[key], expected, "{network}: {key}");
        }
    }
}

#[test]
fn a_host_that_the_helper_would_not_take_or_never_match_is_refused() {
    for (host, expected) in [
        ("a.example", true),
        ("A.example.", true),
        (".a.example", true),
        ("*.a.example", true),
        ("xn--bcher-kva.example", true),
        ("_service.a", true),
        ("203.0.113.7", true),
        ("", false),
        (" ", false),
        (".", false),
        ("*", false),
        ("*.", false),
        ("a.*.example", false),
        ("**.example", false),
        ("https://a.example", false),
        ("a.example:443", false),
        ("a.example/path", false),
        ("b\u{fc}cher.example", false),
        ("10.0.0.0/8", false),
        ("[2001:db8::1]", false),
    ] {
        assert_eq!(is_host(host), expected, "{host:?}");
    }
}
