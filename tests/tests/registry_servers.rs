//! Servers by their names in a registry: a document on disk or over HTTP, said by `thv config set-registry`.

use std::path::PathBuf;

use serde_json::{Value, json};
use thv::core::WorkloadStatus;
use thv_tests::{Client, Machine, Upstream, docker};

/// The `server.json` of an image.
fn image(name: &str, identifier: &str, transport: &str, variables: Value, extension: Value) -> Value {
    json!({
        "name": name,
        "description": "an echo server",
        "packages": [{
            "registryType": "oci",
            "identifier": identifier,
            "transport": { "type": transport },
            "environmentVariables": variables,
        }],
        "_meta": { "io.modelcontextprotocol.registry/publisher-provided": {
            "io.github.stacklok": { identifier: extension } } },
    })
}

fn remote(name: &str, url: &str) -> Value {
    json!({ "name": name, "remotes": [{ "type": "streamable-http", "url": url }] })
}

/// Writes a document of these servers and makes it the machine's registry.
async fn registry_of(machine: &Machine, servers: &[Value]) -> PathBuf {
    let path = machine.folder().join("registry.json");
    let document = json!({ "version": "1.0.0", "data": { "servers": servers } });
    std::fs::write(&path, document.to_string()).expect("a file");
    machine
        .thv(["config", "set-registry", &path.display().to_string()])
        .await
        .ok();
    path
}

/// The run configuration of a workload.
fn config(machine: &Machine, name: &str) -> Value {
    let path = machine.dirs().runconfigs().join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(path).expect("a configuration")).expect("JSON")
}

#[tokio::test]
async fn an_image_of_the_registry_runs_by_its_short_name() {
    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    let variables = json!([
        { "name": "GIVEN", "isRequired": true },
        { "name": "MODE", "default": "from the entry" },
    ]);
    let entry = image("io.example/echo", docker.image(), "stdio", variables, json!({}));
    registry_of(&machine, &[entry]).await;
    let name = machine.name("entry");
    machine
        .thv(["run", "echo", "--name", &name])
        .await
        .failed()
        .says(["io.example/echo", "GIVEN", "--env"]);
    assert_eq!(machine.find(&name).await, None, "nothing was kept");
    machine
        .thv([
            "run",
            "echo",
            "--name",
            &name,
            "--env",
            "GIVEN=by me",
            "--wait=1m",
        ])
        .await
        .ok();
    let workload = machine.workload(&name).await;
    assert_eq!(workload.status, WorkloadStatus::Running, "{workload:?}");
    let client = Client::connect(&workload.url).await;
    assert_eq!(client.call("env", json!({ "name": "GIVEN" })).await, "by me");
    assert_eq!(
        client.call("env", json!({ "name": "MODE" })).await,
        "from the entry"
    );
    client.close().await;
    let config = config(&machine, &name);
    assert_eq!(config["registry_server_name"], "io.example/echo");
    assert_eq!(config["image"], docker.image());
    assert_eq!(config["transport"], "stdio");
    assert_eq!(config.get("registry_url"), None, "a file has no URL");
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}

#[tokio::test]
async fn a_remote_server_of_the_registry_runs_under_a_name_of_its_own() {
    let machine = Machine::new();
    let upstream = Upstream::echo(&machine).await;
    registry_of(&machine, &[remote("io.example/far", &upstream.url())]).await;
    machine.thv(["run", "far", "--wait=1m"]).await.ok();
    let workload = machine.workload("io-example-far").await;
    assert!(workload.remote);
    let client = Client::connect(&workload.url).await;
    assert_eq!(client.call("echo", json!({ "text": "hello" })).await, "hello");
    client.close().await;
    let config = config(&machine, "io-example-far");
    assert_eq!(config["registry_server_name"], "io.example/far");
    assert_eq!(config["remote_url"], upstream.url());
    machine.thv(["rm", "io-example-far"]).await.ok();
}

#[tokio::test]
async fn an_entry_that_names_a_program_of_this_host_is_refused() {
    let machine = Machine::new();
    let witness = machine.folder().join("it-ran");
    let program = format!("exec:///usr/bin/touch?{}", witness.display());
    let good = remote("io.example/good", "https://mcp.example.com/mcp");
    let hostile = [
        ("exec:///bin/sh", "one"),
        (program.as_str(), "two"),
        ("uvx://mcp-server-time", "three"),
        ("npx://@scope/server", "four"),
    ];
    let mut servers = vec![good];
    servers.extend(hostile.map(|(identifier, name)| {
        let name = format!("io.example/{name}");
        image(&name, identifier, "stdio", json!([]), json!({}))
    }));
    registry_of(&machine, &servers).await;
    for name in ["one", "io.example/two", "three", "four"] {
        for runtime in [&[][..], &["--runtime", "local"]] {
            let run = ["run", name, "--accept-permissions"];
            machine
                .thv(run.iter().chain(runtime))
                .await
                .failed()
                .says(["cannot be used", "an entry names an image"]);
        }
    }
    assert_eq!(machine.workloads().await, []);
    assert!(!witness.exists());
    let list = machine
        .thv(["registry", "list", "--format", "json"])
        .await
        .ok()
        .json();
    assert_eq!(list.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn permissions_beyond_the_built_in_profiles_have_to_be_accepted() {
    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    let data = machine.folder().join("data");
    std::fs::create_dir(&data).expect("a folder");
    let network = json!({ "outbound": { "insecure_allow_all": true } });
    let extension =
        json!({ "permissions": { "read": [format!("{}:/data", data.display())], "network": network } });
    let host = json!({ "permissions": { "privileged": true, "network": { "mode": "host" } } });
    let entry = |name: &str, extension| image(name, docker.image(), "stdio", json!([]), extension);
    registry_of(&machine, &[entry("a/reads", extension), entry("a/rules", host)]).await;
    let name = machine.name("granted");
    let error = machine.thv(["run", "rules", "--name", &name]).await.failed();
    error.says(["privileged", "network mode host", "--accept-permissions"]);
    machine
        .thv(["run", "reads", "--name", &name])
        .await
        .failed()
        .says(["read", ":/data"]);
    assert_eq!(machine.find(&name).await, None);
    machine
        .thv([
            "run",
            "reads",
            "--name",
            &name,
            "--accept-permissions",
            "--wait=1m",
        ])
        .await
        .ok();
    let profile = &config(&machine, &name)["permission_profile"];
    assert_eq!(profile["read"], json!([format!("{}:/data", data.display())]));
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}

#[tokio::test]
async fn only_a_registry_that_answers_makes_an_image_of_a_name() {
    let machine = Machine::new();
    let far = "https://mcp.example.com/mcp";
    let path = registry_of(&machine, &[remote("a/twice", far), remote("b/twice", far)]).await;
    let ambiguous = machine.thv(["run", "twice"]).await.failed();
    ambiguous.says(["multiple servers match 'twice': a/twice, b/twice"]);
    machine
        .thv(["run", "nobody"])
        .await
        .failed()
        .says(["is not in", "it is no image reference"]);
    // Known to nobody, and with a path: an image, for which there is no engine here.
    machine.thv(["run", "mcp/nobody"]).await.failed().says(["engine"]);
    std::fs::remove_file(path).expect("it was there");
    for name in ["nobody", "mcp/nobody", "a/twice"] {
        machine
            .thv(["run", name])
            .await
            .failed()
            .says(["registry", "is not reachable"]);
    }
    // What cannot be a name in a registry is not asked for.
    machine
        .thv(["run", "mcp/nobody:1"])
        .await
        .failed()
        .says(["engine"]);
    assert_eq!(machine.workloads().await, []);
    machine.thv(["config", "unset-registry"]).await.ok();
    machine
        .thv(["run", "nobody"])
        .await
        .failed()
        .says(["built-in catalogue"]);
}

#[tokio::test]
async fn a_registry_that_is_refused_changes_no_setting() {
    let machine = Machine::new();
    let path = registry_of(&machine, &[remote("a/one", "https://mcp.example.com/mcp")]).await;
    let file = machine.dirs().config_file();
    let mut text = std::fs::read_to_string(&file).expect("a file");
    text.push_str("# mine\nsomething_new: {kept: 1.50}\n");
    std::fs::write(&file, &text).expect("written");
    let other = machine.folder().join("other.json");
    for (content, words) in [
        (r#"{"servers": {}}"#.to_owned(), "legacy"),
        (r#"{"data": {"servers": []}}"#.to_owned(), "no servers"),
        ("[".repeat(100_000), "nested deeper"),
        ("not JSON".to_owned(), "invalid"),
    ] {
        std::fs::write(&other, content).expect("written");
        let set = ["config", "set-registry", &other.display().to_string()];
        machine.thv(set).await.failed().says([words]);
    }
    for url in [
        "http://registry.example.com/r.json",
        "https://127.0.0.1/r.json",
        "https://localhost:1/r.json",
    ] {
        machine
            .thv(["config", "set-registry", url])
            .await
            .failed()
            .says(["is refused", "--allow-private-ip"]);
    }
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), text);
    let now = machine
        .thv(["config", "get-registry", "--format", "json"])
        .await
        .ok()
        .json();
    assert_eq!(now["type"], "file");
    assert_eq!(now["source"], path.display().to_string());

    let now = machine
        .thv(["config", "unset-registry", "--format", "json"])
        .await
        .ok()
        .json();
    assert_eq!(now["type"], "default");
    let after = std::fs::read_to_string(&file).expect("a file");
    assert!(
        after.ends_with("# mine\nsomething_new: {kept: 1.50}\n"),
        "{after}"
    );
}

#[tokio::test]
async fn the_built_in_catalogue_is_listed_searched_and_shown() {
    let machine = Machine::new();
    let list = machine
        .thv(["registry", "list", "--format", "json"])
        .await
        .ok()
        .json();
    assert_eq!(list.as_array().map(Vec::len), Some(109));
    let table = machine.thv(["registry", "list"]).await.ok().stdout;
    assert!(
        table.starts_with("NAME ") && table.lines().count() == 110,
        "{table}"
    );
    let found = machine
        .thv(["search", "fetch", "--format", "json"])
        .await
        .ok()
        .json();
    let names = found
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| &entry["name"]);
    assert!(names.into_iter().any(|name| name == "io.github.stacklok/fetch"));
    let info = machine
        .thv(["registry", "info", "fetch", "--format", "json"])
        .await
        .ok()
        .json();
    assert_eq!(info["transport"], "streamable-http");
    assert_eq!(info["target_port"], 8080);
    assert!(
        info["image"]
            .as_str()
            .is_some_and(|image| image.contains("gofetch"))
    );
    machine
        .thv(["registry", "info", "no-such-server"])
        .await
        .failed()
        .says(["server not found"]);
    assert_eq!(
        machine
            .thv(["search", "no-such-server", "--format", "json"])
            .await
            .ok()
            .json(),
        json!([])
    );
    assert!(!machine.dirs().config_file().exists(), "reading writes nothing");
}
