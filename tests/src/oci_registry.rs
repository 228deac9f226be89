//! An image registry that nobody here wrote, on loopback.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr};

use crate::image::{Image, digest};
use crate::requirements::docker_registry;
use crate::signing::{Attached, INDEX, MANIFEST, Signature, tls};
use crate::{Machine, Response, request};

/// Debian's `docker-registry`; it ends with its machine at the latest.
#[derive(Debug)]
pub struct OciRegistry {
    port: u16,
    programs: Vec<Child>,
}

/// One on a free port, with nothing in it. `None`: skip.
///
/// # Panics
/// When it does not start, or there is none and `THV_REQUIRE` names `registry`.
pub async fn oci_registry(machine: &Machine) -> Option<OciRegistry> {
    docker_registry()?;
    let folder = machine.folder().join("registry");
    std::fs::create_dir(&folder).expect("a folder in a temporary folder");
    let (port, program) = serve(machine, "plain", "").await;
    Some(OciRegistry {
        port,
        programs: vec![program],
    })
}

/// The program over the machine's one store of images, with more to say about how it serves.
async fn serve(machine: &Machine, name: &str, more: &str) -> (u16, Child) {
    let folder = machine.folder().join("registry");
    let config = folder.join(format!("{name}.yml"));
    // It chooses its port itself, so that nobody can take it in between, and its log says which.
    let text = format!(
        "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: \"127.0.0.1:0\"\n{more}",
        folder.join("data").display()
    );
    std::fs::write(&config, text).expect("a file");
    let mut command = machine.program(docker_registry().expect("asked for before"));
    command
        .arg("serve")
        .arg(&config)
        .stdout(std::process::Stdio::null());
    let mut program = command.spawn().expect("the registry starts");
    let log = program.stderr.take().expect("it is piped");
    (listening(log).await, program)
}

/// The port that the log tells. What it says besides is read, and thrown away.
async fn listening(log: ChildStderr) -> u16 {
    let mut lines = BufReader::new(log).lines();
    let mut said = String::new();
    let port = async {
        while let Ok(Some(line)) = lines.next_line().await {
            let after = line.split_once("listening on 127.0.0.1:").map(|(_, after)| after);
            let port = after.map(|text| text.chars().take_while(char::is_ascii_digit).collect::<String>());
            if let Some(port) = port.and_then(|text| text.parse().ok()) {
                return Some(port);
            }
            said = line;
        }
        None
    };
    let port = tokio::time::timeout(std::time::Duration::from_mins(1), port).await;
    let port = port.ok().flatten();
    let port = port.unwrap_or_else(|| panic!("the registry does not listen: {said}"));
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    port
}

impl OciRegistry {
    /// A repository of it.
    pub fn repository(&self, path: &str) -> String {
        format!("127.0.0.1:{}/{path}", self.port)
    }

    /// The same images on another port, with TLS: a repository there, and the certificate of the authority behind it.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn also_with_tls(&mut self, machine: &Machine, path: &str) -> (String, PathBuf) {
        let folder = machine.folder().join("registry");
        let files = ["authority.pem", "certificate.pem", "key.pem"].map(|name| folder.join(name));
        for (file, content) in files.iter().zip(tls()) {
            std::fs::write(file, content).expect("a file");
        }
        let [authority, certificate, key] = files;
        let more = format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            certificate.display(),
            key.display()
        );
        let (port, program) = serve(machine, "tls", &more).await;
        self.programs.push(program);
        (format!("127.0.0.1:{port}/{path}"), authority)
    }

    /// Pushes the echo server whose tool `version` answers `version`; its digest.
    ///
    /// # Panics
    /// When the registry does not take it, or the static echo server was not asked for before.
    pub async fn push_echo(&self, repository: &str, tag: &str, version: &str) -> String {
        let image = Image::with_layer_of_its_own(version);
        for blob in [&image.config, &image.layer] {
            self.push_blob(repository, blob).await;
        }
        self.push_manifest(repository, tag, MANIFEST, &image.manifest())
            .await
    }

    /// Pushes a signature beside the image that it is about, as a client does where there is no API of referrers.
    ///
    /// # Panics
    /// When the registry does not take it.
    pub async fn push_signature(&self, repository: &str, signature: &Signature) {
        let attached = Attached::of(signature);
        for blob in &attached.blobs {
            self.push_blob(repository, blob).await;
        }
        if let Some(tag) = &attached.tag {
            self.push_manifest(repository, tag, MANIFEST, &attached.manifest)
                .await;
            return;
        }
        let by_digest = digest(attached.manifest.to_string().as_bytes());
        self.push_manifest(repository, &by_digest, MANIFEST, &attached.manifest)
            .await;
        let list = signature.about.replace(':', "-");
        let known = self
            .ask(
                "GET",
                &format!("/v2/{repository}/manifests/{list}"),
                &[("accept", INDEX)],
                b"",
            )
            .await;
        let mut index = match known.status {
            200 => known.json(),
            _ => json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }),
        };
        index["manifests"]
            .as_array_mut()
            .expect("a list")
            .push(attached.listed);
        self.push_manifest(repository, &list, INDEX, &index).await;
    }

    async fn push_blob(&self, repository: &str, content: &[u8]) {
        let begun = self
            .ask("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"")
            .await;
        assert_eq!(begun.status, 202, "{}", begun.text());
        let place = begun.header("location").expect("a place to put it");
        let origin = format!("http://127.0.0.1:{}", self.port);
        let path = place.strip_prefix(&origin).unwrap_or(place);
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}digest={}", digest(content));
        let kind = [("content-type", "application/octet-stream")];
        let put = self.ask("PUT", &path, &kind, content).await;
        assert_eq!(put.status, 201, "{}", put.text());
    }

    async fn push_manifest(&self, repository: &str, target: &str, kind: &str, manifest: &Value) -> String {
        let content = manifest.to_string();
        let path = format!("/v2/{repository}/manifests/{target}");
        let put = self
            .ask("PUT", &path, &[("content-type", kind)], content.as_bytes())
            .await;
        assert_eq!(put.status, 201, "{}", put.text());
        digest(content.as_bytes())
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        request(self.port, method, path, headers, body).await
    }
}
