//! A registry of servers that offers one server, in this version and then in that.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{Machine, Workflow};

/// A document on disk that is the registry of a machine.
#[derive(Debug)]
pub struct Offers {
    path: PathBuf,
    transport: &'static str,
    variables: Value,
    provenance: Value,
}

impl Offers {
    /// What it offers.
    pub const SERVER: &str = "io.example/echo";

    /// A document that will say `transport`.
    pub fn new(machine: &Machine, transport: &'static str) -> Self {
        Self {
            path: machine.folder().join("registry.json"),
            transport,
            variables: json!([]),
            provenance: Value::Null,
        }
    }

    /// The same, whose images are signed by `workflow`.
    #[must_use]
    pub fn signed_by(mut self, workflow: &Workflow) -> Self {
        self.provenance = json!({
            "repository_uri": workflow.repository,
            "repository_ref": workflow.repository_ref,
            "signer_identity": workflow.path,
            "runner_environment": workflow.runner,
            "cert_issuer": workflow.issuer,
        });
        self
    }

    /// The same, with variables that the server declares.
    #[must_use]
    pub fn with_variables(mut self, variables: Value) -> Self {
        self.variables = variables;
        self
    }

    /// From now on this image is the newest, in every command of the machine.
    ///
    /// # Panics
    /// When the document is not taken.
    pub async fn offer(&self, machine: &Machine, image: &str) {
        let is_new = !self.path.exists();
        let mut extension = json!({});
        if !self.provenance.is_null() {
            extension["provenance"] = self.provenance.clone();
        }
        let document = json!({ "version": "1.0.0", "data": { "servers": [{
            "name": Self::SERVER,
            "description": "an echo server",
            "packages": [{ "registryType": "oci", "identifier": image,
                "transport": { "type": self.transport }, "environmentVariables": self.variables }],
            "_meta": { "io.modelcontextprotocol.registry/publisher-provided": {
                "io.github.stacklok": { image: extension } } },
        }] } });
        std::fs::write(&self.path, document.to_string()).expect("a file");
        if is_new {
            let path = self.path.display().to_string();
            machine.thv(["config", "set-registry", &path]).await.ok();
        }
    }
}
