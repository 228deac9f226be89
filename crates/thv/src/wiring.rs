//! The parts that a machine usually has.

use std::sync::Arc;

use thv_config::{ConfigFile, Settings};
use thv_core::{Dirs, Env};
use thv_manager::{Error, InProcess, ManagerBuilder, Result};
use thv_process::Processes;
use thv_runtime::{RuntimeKind, Runtimes};
use thv_state::LocalStateStore;
use thv_status::FileStatusManager;

/// The environment variable that chooses the default runtime.
const RUNTIME_VARIABLE: &str = "TOOLHIVE_RUNTIME";

/// The environment variable that names the program which isolates networks.
#[cfg(feature = "docker")]
const EGRESS_HELPER_VARIABLE: &str = "TOOLHIVE_EGRESS_HELPER";

/// A manager's usual parts, with files in the base directories that `env` names. Nothing is touched, and no engine is
/// looked for, before a verb needs it.
///
/// What remains to be said is [`launcher_id`](ManagerBuilder::launcher_id); any part can be replaced.
///
/// # Errors
/// `Invalid` when the environment names no home directory, or a runtime or a provider of secrets that is not there;
/// `InvalidVariable` when it has something else in place of a number of ours.
pub fn manager_from_env(env: Env) -> Result<ManagerBuilder> {
    let dirs = Dirs::from_env(&env).map_err(|error| Error::Invalid {
        what: "environment".into(),
        detail: error.to_string(),
    })?;
    manager_in(dirs, env)
}

/// The same with files in `dirs`: for applications that keep their workloads to themselves. An engine is shared all the
/// same: containers of workloads that others made are listed, and those of another installation are not changed. Who wants
/// to see nothing of them gives other [`runtimes`](ManagerBuilder::runtimes).
///
/// # Errors
/// As [`manager_from_env`].
pub fn manager_in(dirs: Dirs, env: Env) -> Result<ManagerBuilder> {
    manager_with(Runtimes::new(), dirs, env)
}

/// The same with runtimes of the application's own besides the usual ones: container engines have priority 100, the local
/// runtime 200, and `TOOLHIVE_RUNTIME` may name any of them. One of the same kind as a usual one takes its place.
///
/// # Errors
/// As [`manager_from_env`].
pub fn manager_with(own: Runtimes, dirs: Dirs, env: Env) -> Result<ManagerBuilder> {
    let processes = thv_process::system()?;
    let builder = thv_manager::Manager::builder();
    #[cfg(feature = "image")]
    let builder = builder.image_gate(image_gate(&env, None)?);
    Ok(builder
        .runtimes(runtimes(own, &dirs, &env, &processes)?)
        .state(Arc::new(LocalStateStore::new(&dirs)))
        .status(Arc::new(FileStatusManager::new(&dirs)))
        .processes(processes)
        .secrets(crate::secrets_in(&dirs, &env, None)?)
        .launcher(Arc::new(InProcess))
        .dirs(dirs)
        .env(env))
}

/// The environment variable that names a trusted root to use instead of the embedded ones.
#[cfg(feature = "image")]
const TRUSTED_ROOT_VARIABLE: &str = "THV_TRUSTED_ROOT";

/// Resolves images by asking their registries, and verifies signatures that are beside them, under the embedded roots of trust
/// or the one in the file that `THV_TRUSTED_ROOT` names. `ca_certificates` (PEM) are trusted besides the system's. Nothing
/// is read or asked before an image is.
///
/// # Errors
/// `InvalidVariable` when `THV_REGISTRY_TIMEOUT` is no number of seconds.
#[cfg(feature = "image")]
pub fn image_gate(env: &Env, ca_certificates: Option<Vec<u8>>) -> Result<Arc<dyn thv_image::ImageGate>> {
    use thv_image::{ClientConfig, Gate, ProvenanceVerifier, RegistryClient, TrustRoots};
    let mut config = ClientConfig::from_env(env.clone())?;
    config.ca_certificates = ca_certificates;
    let client = Arc::new(RegistryClient::new(config));
    let roots = match env.non_empty(TRUSTED_ROOT_VARIABLE) {
        Some(path) => TrustRoots::from_file(path),
        None => TrustRoots::embedded(),
    };
    let verifier = ProvenanceVerifier::new(client.clone(), roots);
    Ok(Arc::new(Gate::new(client, Arc::new(verifier))))
}

/// The local runtime's: after container engines.
#[cfg(feature = "local")]
const LOCAL_PRIORITY: u32 = 200;

/// A container engine, else the local runtime, unless the environment says which is the default.
fn runtimes(own: Runtimes, dirs: &Dirs, env: &Env, processes: &Arc<dyn Processes>) -> Result<Runtimes> {
    let runtimes = own;
    #[cfg(feature = "docker")]
    let runtimes = {
        use thv_runtime_docker::{DockerConfig, DockerRuntime};
        let mut config = DockerConfig::discover(env.clone(), dirs.clone())?;
        config.egress_helper = egress_helper(env);
        if runtimes.get(&config.kind).is_ok() {
            runtimes
        } else {
            runtimes.with(Arc::new(DockerRuntime::new(config)))
        }
    };
    #[cfg(feature = "local")]
    let runtimes = {
        use thv_runtime_local::{LocalConfig, LocalRuntime};
        let config = LocalConfig::new(dirs.clone(), env.clone(), processes.clone())?;
        let local = LocalRuntime::new(config);
        if runtimes.get(thv_runtime::Runtime::kind(&local)).is_ok() {
            runtimes
        } else {
            runtimes.with_priority(Arc::new(local), LOCAL_PRIORITY)
        }
    };
    let _ = (dirs, processes);
    let named = env
        .get(RUNTIME_VARIABLE)
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let Some(kind) = named.map(RuntimeKind::new) else {
        return Ok(runtimes);
    };
    runtimes.get(&kind).map_err(|error| Error::Invalid {
        what: RUNTIME_VARIABLE.into(),
        detail: error.to_string(),
    })?;
    Ok(runtimes.with_default(kind))
}

/// The configuration file in `dirs`, as it is now.
///
/// # Errors
/// `Invalid` when it cannot be read.
pub fn config_in(dirs: &Dirs) -> Result<Settings> {
    ConfigFile::new(dirs).read().map_err(|error| match error {
        thv_config::Error::Invalid { path, detail } => Error::Invalid {
            what: format!("configuration file {}", path.display()),
            detail,
        },
        other => Error::Invalid {
            what: "configuration".into(),
            detail: chain(&other),
        },
    })
}

/// A message and its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The static program that isolates networks: where the environment says, else beside this program.
#[cfg(feature = "docker")]
fn egress_helper(env: &Env) -> Option<std::path::PathBuf> {
    if let Some(named) = env.non_empty(EGRESS_HELPER_VARIABLE) {
        return Some(named.into());
    }
    let beside = std::env::current_exe().ok()?.with_file_name("thv-egress");
    beside.is_file().then_some(beside)
}

#[cfg(all(test, feature = "docker", feature = "local"))]
mod tests {
    use thv_runtime::MemoryRuntime;

    use super::*;

    #[test]
    fn an_applications_own_runtime_is_chosen_by_the_same_rule() {
        let folder = tempfile::tempdir().unwrap();
        let default = |priority: Option<u32>, named: &str| {
            let own = priority.map_or_else(Runtimes::new, |priority| {
                let mine = MemoryRuntime::new().with_kind("mine");
                Runtimes::new().with_priority(Arc::new(mine), priority)
            });
            let env = Env::from_vars([(RUNTIME_VARIABLE, named)]);
            let builder = manager_with(own, Dirs::under(folder.path()), env)?;
            let manager = builder.launcher_id("com.example.app").build()?;
            Ok::<_, Error>(manager.runtimes().default_kind().unwrap().to_string())
        };
        for (priority, named, chosen) in [
            (None, "", "docker"),
            (None, " local ", "local"),
            (Some(50), "", "mine"),
            (Some(150), "", "docker"),
            (Some(150), "mine", "mine"),
            (Some(50), "docker", "docker"),
        ] {
            assert_eq!(default(priority, named).unwrap(), chosen, "{priority:?} {named}");
        }
        let error = default(None, "mine").unwrap_err().to_string();
        for part in [RUNTIME_VARIABLE, "mine", "docker", "local"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
