//! The upstream format: what becomes of a document.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail loudly")]

use thv_core::TransportType;
use thv_registry::{Accept, Catalogue, Error, MAX_DOCUMENT_BYTES, parse_document};

const EXAMPLE: &str = include_str!("data/example.json");

fn parse(text: &str) -> Result<Catalogue, Error> {
    parse_document(text.as_bytes(), "a test", Accept::default())
}

/// A document of servers, each the body of an object.
fn servers(bodies: &[&str]) -> String {
    let bodies: Vec<String> = bodies.iter().map(|body| format!("{{{body}}}")).collect();
    format!(r#"{{"data": {{"servers": [{}]}}}}"#, bodies.join(","))
}

fn image(identifier: &str) -> String {
    format!(r#""name": "a/x", "packages": [{{"registryType": "oci", "identifier": "{identifier}"}}]"#)
}

fn why(body: &str) -> String {
    let catalogue = parse(&servers(&[body])).unwrap();
    match catalogue.get("a/x") {
        Err(Error::Unusable { detail, .. }) => detail,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_entry_is_read_with_all_that_it_says() {
    let catalogue = parse(EXAMPLE).unwrap();
    assert_eq!(catalogue.len(), 2);
    assert_eq!(catalogue.version, "1.0.0");
    assert_eq!(catalogue.last_updated, "2026-08-17T00:00:00Z");
    let entry = catalogue.get("example").unwrap();
    let image = entry.as_image().unwrap();
    assert_eq!(image.image, "ghcr.io/acme/example-mcp:1.4.0");
    assert_eq!(image.info.transport, TransportType::StreamableHttp);
    assert_eq!(image.target_port, 8080);
    assert_eq!(image.info.tools.as_deref(), Some(&["query".to_owned()][..]));
    assert_eq!(
        (image.info.status.as_str(), image.info.tier.as_str()),
        ("Active", "Community")
    );
    let variable = &image.env_vars[0];
    assert_eq!(variable.name, "EXAMPLE_KEY");
    assert!(variable.required && variable.secret);
    let outbound = image
        .permissions
        .clone()
        .unwrap()
        .network
        .unwrap()
        .outbound
        .unwrap();
    assert_eq!(
        (outbound.allow_host, outbound.allow_port),
        (vec!["api.example.com".into()], vec![443])
    );
    let provenance = image.provenance.as_ref().unwrap();
    assert_eq!(provenance.sigstore_url, "tuf-repo-cdn.sigstore.dev");
    assert_eq!(provenance.repository_uri, "https://github.com/acme/example-mcp");
    assert_eq!(provenance.signer_identity, "/.github/workflows/release.yml");
    assert_eq!(provenance.runner_environment, "github-hosted");
    assert_eq!(
        provenance.cert_issuer,
        "https://token.actions.githubusercontent.com"
    );
    assert_eq!(image.info.metadata.as_ref().unwrap().stars, 10);
}

#[test]
fn a_remote_entry_is_read_with_all_that_it_says() {
    let catalogue = parse(EXAMPLE).unwrap();
    let entry = catalogue.get("example-remote").unwrap();
    let remote = entry.as_remote().unwrap();
    assert_eq!(remote.url, "https://mcp.example.com/mcp");
    let oauth = remote.oauth_config.as_ref().unwrap();
    assert_eq!(
        (oauth.issuer.as_str(), oauth.use_pkce),
        ("https://auth.example.com", Some(true))
    );
    assert_eq!(oauth.scopes, ["openid"]);
    let header = &remote.headers[0];
    assert_eq!(
        (header.name.as_str(), header.required, header.secret),
        ("X-Api-Key", true, true)
    );
    assert_eq!(header.choices, ["a", "b"]);
}

#[test]
fn a_server_with_a_remote_is_remote_whatever_packages_it_has() {
    let both = r#""name": "a/x", "remotes": [{"type": "sse", "url": "https://one.example"}, {"type": "nonsense", "url": ""}],
        "packages": [{"registryType": "oci", "identifier": "a/b"}]"#;
    let catalogue = parse(&servers(&[both])).unwrap();
    assert_eq!(
        catalogue.get("x").unwrap().as_remote().unwrap().url,
        "https://one.example"
    );
}

#[test]
fn arguments_come_from_the_package_before_the_extension() {
    let extension = r#""_meta": {"io.modelcontextprotocol.registry/publisher-provided": {"io.github.stacklok":
        {"another/key:1": {"args": ["from", "extension"], "status": "Active"}}}}"#;
    let package = |arguments: &str| {
        format!(
            r#""name": "a/x", {extension}, "packages": [
                {{"registryType": "npm", "identifier": "ignored"}},
                {{"registryType": "oci", "identifier": "a/b:1", "packageArguments": [{arguments}]}}]"#
        )
    };
    let args = |body: &str| {
        let catalogue = parse(&servers(&[body])).unwrap();
        catalogue.get("x").unwrap().as_image().unwrap().args.clone()
    };
    assert_eq!(
        args(&package("")),
        ["from", "extension"],
        "the key of a single extension does not matter"
    );
    let two =
        r#"{"type": "named", "name": "--port", "value": "80"}, {"type": "positional", "value": "stdio"}"#;
    assert_eq!(args(&package(two)), ["--port", "80", "stdio"]);
}

#[test]
fn variables_of_the_containers_command_are_variables() {
    let body = r#""name": "a/x", "packages": [{"registryType": "oci", "identifier": "a/b:1",
        "environmentVariables": [{"name": "FIRST", "default": "1"}],
        "runtimeArguments": [
            {"type": "named", "name": "-e", "value": "TOKEN={token}", "isRequired": true,
             "variables": {"token": {"description": "a token", "isSecret": true, "default": "none"}}},
            {"type": "named", "name": "--env", "value": "MODE=fast", "description": "how"},
            {"type": "named", "name": "--volume", "value": "/:/host"},
            {"type": "named", "name": "--privileged"}]}]"#;
    let catalogue = parse(&servers(&[body])).unwrap();
    let entry = catalogue.get("x").unwrap();
    let shown: Vec<_> = entry
        .env_vars()
        .iter()
        .map(|v| {
            (
                v.name.as_str(),
                v.default.as_str(),
                v.required,
                v.secret,
                v.description.as_str(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("FIRST", "1", false, false, ""),
            ("TOKEN", "none", true, true, "a token"),
            ("MODE", "fast", false, false, "how"),
        ]
    );
    assert_eq!(
        entry.as_image().unwrap().permissions,
        None,
        "no argument grants anything"
    );
}

#[test]
fn null_means_absent() {
    let body = r#""name": "a/x", "description": null, "remotes": null, "_meta": null, "repository": null,
        "packages": [{"registryType": "oci", "identifier": "a/b:1", "transport": null, "environmentVariables": null}]"#;
    let catalogue = parse(&servers(&[body])).unwrap();
    assert_eq!(catalogue.get("x").unwrap().info().transport, TransportType::Stdio);
}

#[test]
fn an_entry_whose_image_would_run_something_of_this_host_is_never_used() {
    for identifier in [
        "exec:///bin/sh",
        "uvx://package",
        "npx://package",
        "go://x",
        "https://a.example",
        "/bin/sh",
        "--privileged",
        "A/b",
        "",
    ] {
        assert!(why(&image(identifier)).contains("its image is"), "{identifier}");
    }
}

#[test]
fn an_entry_that_makes_no_sense_says_why() {
    for (body, part) in [
        (r#""name": "a/x""#, "neither an image nor a remote server"),
        (
            r#""name": "a/x", "packages": [{"registryType": "npm", "identifier": "y"}]"#,
            "neither an image",
        ),
        (
            r#""name": "a/x", "packages": [{"registryType": "oci", "identifier": "y"}, {"registryType": "oci", "identifier": "z"}]"#,
            "several images",
        ),
        (
            r#""name": "a/x", "packages": [{"registryType": "oci", "identifier": "y", "transport": {"type": "carrier-pigeon"}}]"#,
            "carrier-pigeon",
        ),
        (
            r#""name": "a/x", "packages": [{"registryType": "oci", "identifier": "y", "transport": {"type": "sse", "url": "http://localhost:99999"}}]"#,
            "99999",
        ),
        (
            r#""name": "a/x", "packages": [{"registryType": "oci", "identifier": "y", "environmentVariables": [{"name": "A=B"}]}]"#,
            "no name of a variable",
        ),
        (
            r#""name": "a/x", "packages": [{"registryType": "oci", "identifier": "y", "environmentVariables": [{"name": "A"}, {"name": "A"}]}]"#,
            "twice",
        ),
        (r#""name": "a/x", "packages": 7"#, "cannot be read"),
        (
            r#""name": "a/x", "remotes": [{"type": "stdio", "url": "https://a.example"}]"#,
            "stdio",
        ),
        (
            r#""name": "a/x", "remotes": [{"type": "sse", "url": "http://a.example"}]"#,
            "plain HTTP",
        ),
        (
            r#""name": "a/x", "remotes": [{"type": "sse", "url": "file:///etc/passwd"}]"#,
            "URL",
        ),
        (
            r#""name": "a/x", "remotes": [{"type": "sse", "url": "exec:///bin/sh"}]"#,
            "URL",
        ),
        (
            r#""name": "a/x", "remotes": [{"type": "sse", "url": "https://u:p@a.example"}]"#,
            "credentials",
        ),
        (
            r#""name": "a/x", "remotes": [{"type": "sse", "url": "https://{tenant}.a.example"}]"#,
            "variables",
        ),
        (
            r#""name": "a/x", "remotes": [{"type": "sse", "url": "https://a.example", "headers": [{"name": "X Y"}]}]"#,
            "header",
        ),
    ] {
        let why = why(body);
        assert!(why.contains(part), "{body}: {why}");
    }
}

#[test]
fn an_extension_that_cannot_be_read_is_not_taken_for_an_empty_one() {
    let body = r#""name": "a/x", "packages": [{"registryType": "oci", "identifier": "y"}],
        "_meta": {"io.modelcontextprotocol.registry/publisher-provided": {"io.github.stacklok":
        {"y": {"permissions": "none"}}}}"#;
    assert!(why(body).contains("cannot be read"));
}

#[test]
fn of_several_extensions_the_one_of_the_image_counts() {
    let body = |first: &str, second: &str| {
        format!(
            r#""name": "a/x", "packages": [{{"registryType": "oci", "identifier": "y"}}],
            "_meta": {{"io.modelcontextprotocol.registry/publisher-provided": {{"io.github.stacklok":
            {{"{first}": {{"tier": "1"}}, "{second}": {{"tier": "2"}}}}}}}}"#
        )
    };
    let catalogue = parse(&servers(&[&body("other", "y")])).unwrap();
    assert_eq!(catalogue.get("x").unwrap().info().tier, "2");
    assert!(why(&body("one", "two")).contains("several extensions"));
}

#[test]
fn a_plain_remote_server_is_accepted_where_that_is_allowed_and_on_this_machine() {
    let remote = |url: &str| format!(r#""name": "a/x", "remotes": [{{"type": "sse", "url": "{url}"}}]"#);
    for url in [
        "http://127.0.0.1:80/mcp",
        "http://localhost/mcp",
        "http://[::1]/mcp",
    ] {
        assert!(
            parse(&servers(&[&remote(url)])).unwrap().get("x").is_ok(),
            "{url}"
        );
    }
    let accept = Accept { plain_http: true };
    let text = servers(&[&remote("http://a.example")]);
    assert!(
        parse_document(text.as_bytes(), "a test", accept)
            .unwrap()
            .get("x")
            .is_ok()
    );
}

#[test]
fn hostile_names_are_left_out() {
    let package = r#""packages": [{"registryType": "oci", "identifier": "y"}]"#;
    let long = "n".repeat(300);
    for name in [
        "../../etc/passwd",
        "a b",
        "-rf",
        "a/-rf",
        "a/.b",
        "/a",
        "a/",
        "a//b",
        r"a\u001b[2J",
        r"a\u0000b",
        "a;b",
        "ü/x",
        "",
        &long,
    ] {
        let body = format!(r#""name": "{name}", {package}"#);
        let catalogue = parse(&servers(&[&body, &image("y")])).unwrap();
        assert_eq!((catalogue.len(), catalogue.unusable().len()), (1, 0), "{name:?}");
    }
}

#[test]
fn the_legacy_format_is_refused_with_a_way_out() {
    for text in [
        r#"{"servers": {}}"#,
        r#"{"remote_servers": {}}"#,
        r#"{"version": "1", "groups": []}"#,
        r#"{"data": {"servers": []}, "servers": {}}"#,
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.code(), "registry_legacy", "{text}");
        assert!(error.to_string().contains("convert"));
    }
}

#[test]
fn what_is_no_document_is_refused() {
    for text in [
        "",
        "[]",
        "{}",
        "null",
        "7",
        r#"{"data": 7}"#,
        r#"{"data": {"servers": {}}}"#,
        "<html>",
        r#"{"data": {"servers": []}"#,
    ] {
        assert_eq!(parse(text).unwrap_err().code(), "registry_invalid", "{text}");
    }
    assert!(parse(r#"{"data": {}}"#).unwrap().is_empty());
}

#[test]
fn bounds_hold() {
    let nest = |open: &str, close: &str| {
        format!(
            r#"{{"data": {{"servers": []}}, "x": {}{}}}"#,
            open.repeat(200_000),
            close.repeat(200_000)
        )
    };
    for text in [nest("[", "]"), nest("[", ""), nest(r#"{"a":"#, "")] {
        let error = parse(&text).unwrap_err();
        assert!(error.to_string().contains("nested deeper than 64"), "{error}");
    }
    let many = vec![r#""name": "a/x""#; 10_001];
    let error = parse(&servers(&many)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("exceeded maximum server limit (10000)"),
        "{error}"
    );
    let huge = " ".repeat(MAX_DOCUMENT_BYTES + 1);
    assert_eq!(parse(&huge).unwrap_err().code(), "registry_too_large");
}

#[test]
fn skills_and_plugins_are_counted() {
    let catalogue = parse(r#"{"data": {"servers": [], "skills": [{}, {}], "plugins": [{}]}}"#).unwrap();
    assert_eq!(catalogue.others, 3);
}
