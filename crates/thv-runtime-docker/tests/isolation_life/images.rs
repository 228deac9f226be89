//! The image of the helpers, which comes and goes.

use std::fmt::Write;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use thv_runtime::{DeployOutcome, Error, Expect, Runtime};
use thv_runtime_docker::{DockerConfig, DockerRuntime};

use crate::support::isolating::Isolating;
use crate::support::meddler::{Do, Meddler};
use crate::support::raw::api;
use crate::support::{unique_name, until};

/// A clean-up may take it away at any moment.
#[tokio::test]
async fn of_a_helper_whose_image_is_gone_that_image_is_told() {
    let Some(on) = Isolating::get().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let _front = Meddler::open(&path, on.engine.socket(), move |_, call| {
        if call.starts_with("POST /containers/create") {
            return Do::Answer(
                404,
                json!({"message": "No such image: localhost/toolhive/egress:1"}),
            );
        }
        Do::Forward
    });
    let runtime = DockerRuntime::new(DockerConfig::at(&path).with_egress_helper(&on.helper));
    let error = runtime.deploy(&on.spec(&["echo"])).await.unwrap_err();
    assert!(
        matches!(&error, Error::ImageNotFound { image, .. } if image.contains("/egress:")),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_image_of_the_helpers_is_loaded_again_when_it_is_gone_and_when_their_program_is_another() {
    let Some(on) = Isolating::get().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("thv-egress");
    // What follows a program in its file makes another image of it, which no other test has.
    let write = |what: &str| {
        let program_of_all = std::fs::read(&on.helper).unwrap();
        std::fs::write(&program, [&program_of_all, what.as_bytes()].concat()).unwrap();
    };
    let mut spec = on.spec(&["echo"]);
    write(spec.name.as_str());
    let runtime = DockerRuntime::new(DockerConfig::at(on.engine.socket()).with_egress_helper(&program));
    let helper = format!("/v1.41/containers/{}-egress/json", spec.name);
    let image = async || {
        let (_, answer) = api(on.engine.socket(), "GET", &helper, &Value::Null).await;
        let found: Value = serde_json::from_str(&answer).unwrap();
        found["Config"]["Image"].as_str().unwrap().to_owned()
    };
    let clean_up = async |image: &str| {
        let path = format!("/v1.41/images/{image}?force=true");
        let (status, answer) = api(on.engine.socket(), "DELETE", &path, &Value::Null).await;
        assert_eq!(status, 200, "{answer}");
    };
    runtime.deploy(&spec).await.unwrap();
    let first = image().await;
    on.remove(&spec).await;
    clean_up(&first).await;
    spec.expect = Expect::Instance(runtime.deploy(&spec).await.unwrap().instance.id);
    assert_eq!(image().await, first);

    write(&format!("{}, changed", spec.name));
    let deployed = runtime.deploy(&spec).await.unwrap();
    assert_eq!(deployed.outcome, DeployOutcome::Replaced);
    let second = image().await;
    assert_ne!(second, first);
    on.remove(&spec).await;
    clean_up(&first).await;
    clean_up(&second).await;
}

/// An image as those of the helpers are, of other content and of long ago.
async fn load_earlier(on: &Isolating, content: &str) -> String {
    let layer = tar(&[("thv-egress", content.as_bytes())]);
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z",
        "config": { "Entrypoint": ["/thv-egress"], "Labels": { "toolhive-auxiliary-workload": "true" } },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))] },
    })
    .to_string();
    let reference = format!("localhost/toolhive/egress:{}", &sha256(config.as_bytes())[..12]);
    let manifest = json!([{ "Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"] }]);
    let archive = tar(&[
        ("manifest.json", manifest.to_string().as_bytes()),
        ("config.json", config.as_bytes()),
        ("layer.tar", &layer),
    ]);
    let images = on.runtime.images().unwrap();
    images
        .load(stream::iter([Ok(archive.into())]).boxed())
        .await
        .unwrap();
    reference
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// On each engine; also where the container never ran.
#[tokio::test]
async fn an_earlier_image_of_the_helpers_goes_unless_a_container_has_it() {
    let Some(on) = Isolating::get().await else { return };
    let spec = on.spec(&["echo"]);
    let unused = load_earlier(&on, spec.name.as_str()).await;
    let user = unique_name();
    let used = load_earlier(&on, &format!("{}, used", spec.name)).await;
    let path = format!("/v1.41/containers/create?name={user}");
    let (status, made) = api(on.engine.socket(), "POST", &path, &json!({ "Image": used })).await;
    assert_eq!(status, 201, "{made}");
    let images = on.runtime.images().unwrap();
    until("the end of the image", async || {
        let config = DockerConfig::at(on.engine.socket()).with_egress_helper(&on.helper);
        DockerRuntime::new(config).deploy(&spec).await.unwrap();
        on.remove(&spec).await;
        (!images.present(&unused).await.unwrap()).then_some(())
    })
    .await;
    assert!(images.present(&used).await.unwrap());
    for path in [format!("containers/{user}"), format!("images/{used}")] {
        let (status, answer) = api(
            on.engine.socket(),
            "DELETE",
            &format!("/v1.41/{path}"),
            &Value::Null,
        )
        .await;
        assert!(status < 300, "{answer}");
    }
}
