//! What a name means in a registry.

use thv_registry::Registry;
use thv_secrets::{ExposeSecret as _, SecretString};

use crate::request::{self, EntryPlan};
use crate::{Error, Manager, Result, RunRequest};

/// What the server of a request turned out to be.
#[derive(Debug)]
pub enum LookUp {
    /// A registry entry. What it needs besides can be asked for before it becomes a request.
    Entry(Box<EntryPlan>),
    /// Something else: the request as it was.
    Other(Box<RunRequest>),
}

/// Whether a text can be the name of a registry entry at all. What has a scheme, a tag or a digest is not, so that no
/// registry has to be asked.
pub fn may_be_entry(server: &str) -> bool {
    !server.is_empty()
        && server
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"._-/".contains(&c))
}

impl Manager {
    /// Finds out whether the server of `request` is an entry of `registry`, and what the entry adds to the request.
    /// Nothing is touched.
    ///
    /// Only a registry that says "not found" makes an image reference of a name, and only of one with a `/` or a `.` in
    /// it.
    ///
    /// # Errors
    /// [`Registry`](Error::Registry) when the registry is away, the name is ambiguous or its entry cannot be used;
    /// [`UnknownServer`](Error::UnknownServer) for a bare name that nobody knows; `Invalid` for what the request says.
    pub async fn look_up(&self, request: RunRequest, registry: &dyn Registry) -> Result<LookUp> {
        if !may_be_entry(&request.server) {
            return Ok(LookUp::Other(request.into()));
        }
        let entry = match registry.get(&request.server).await {
            Ok(entry) => entry,
            Err(error) if !error.is_not_found() => return Err(error.into()),
            Err(_) if request.server.contains(['/', '.']) => return Ok(LookUp::Other(request.into())),
            Err(_) => {
                return Err(Error::UnknownServer {
                    name: request.server,
                    place: registry.source().to_string(),
                });
            }
        };
        let source = registry.source().clone();
        let plan = request::reading(&self.parts, move |sources| {
            let given = request::given_names(&request, &entry, sources)?;
            request::plan(request, &entry, &source, &given)
        });
        Ok(LookUp::Entry(plan.await?.into()))
    }

    /// Whether a secret that somebody types in can be kept.
    pub fn keeps_secrets(&self) -> bool {
        self.parts.secrets.capabilities().set
    }

    /// Keeps the value of a secret variable that `plan` lacks, and refers to it in the plan.
    ///
    /// # Errors
    /// Those of [`keep_secret_for`](Self::keep_secret_for); `Invalid` when the plan lacks no such variable.
    pub async fn keep_missing_secret(
        &self,
        plan: &mut EntryPlan,
        name: &str,
        value: SecretString,
    ) -> Result<()> {
        let secret = self.keep_secret_for(&plan.workload_name(), name, value).await?;
        plan.supply_secret(name, &secret)
    }

    /// Keeps the value that somebody typed in for a `variable` of `workload`, and tells the secret's name. That is
    /// `registry-user-<variable>`, as ToolHive calls it; another value under that name is not replaced, the secret then
    /// also has the workload's name.
    ///
    /// # Errors
    /// `Secret` when the store does not keep it.
    pub async fn keep_secret_for(
        &self,
        workload: &str,
        variable: &str,
        value: SecretString,
    ) -> Result<String> {
        let mut secret = format!("registry-user-{}", variable.to_lowercase());
        match self.parts.secrets.get(&secret).await {
            Ok(there) if there.expose_secret() == value.expose_secret() => {}
            Ok(_) => secret = format!("{secret}-{workload}"),
            Err(_) => {}
        }
        match self.set_secret(&secret, value).await {
            Ok(()) => Ok(secret),
            Err(source) => Err(Error::Secret {
                name: workload.to_owned(),
                secret,
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_an_image_or_a_program_is_no_entry() {
        for name in ["fetch", "io.github.stacklok/fetch", "a_b-c.d/e"] {
            assert!(may_be_entry(name), "{name}");
        }
        for other in [
            "",
            "a:1",
            "a@sha256:0",
            "exec:///bin/sh",
            "uvx://x",
            "https://a.example",
            "a b",
            "ü",
            "a\n",
        ] {
            assert!(!may_be_entry(other), "{other:?}");
        }
    }
}
