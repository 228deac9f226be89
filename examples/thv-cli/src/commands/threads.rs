//! How many threads a process needs.

use thv::core::{Dirs, Env, TransportType, WorkloadName};
use thv::state::{LocalStateStore, StateStoreExt as _};

use super::is_detached;
use crate::cli::{Cli, Command};

/// So many requests are worked on side by side at most.
const MOST: usize = 4;

/// One is enough to wait, keeps a detached proxy small, and is the fastest before a stdio server: all clients meet in one
/// pipe. Only the requests to an HTTP server have nothing to do with one another.
pub(crate) fn needed(cli: &Cli) -> usize {
    let Command::Start(args) = &cli.command else {
        return 1;
    };
    let dirs = Dirs::from_env(&Env::from_vars(std::env::vars_os()));
    let (true, Ok(dirs), Some(name)) = (is_detached(), dirs, &args.name) else {
        return 1;
    };
    if !is_http(&dirs, name) {
        return 1;
    }
    std::thread::available_parallelism().map_or(1, |all| all.get().min(MOST))
}

/// Whether the server of a workload speaks HTTP, as far as its configuration can be read; what is wrong with that is told
/// elsewhere.
fn is_http(dirs: &Dirs, name: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let (Ok(name), Ok(runtime)) = (WorkloadName::new(name), runtime) else {
        return false;
    };
    let store = LocalStateStore::new(dirs);
    let config = runtime.block_on(store.read_run_config(&name));
    config.is_ok_and(|config| config.is_some_and(|config| config.transport != TransportType::Stdio))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_of_an_http_server_has_several_and_what_cannot_be_read_has_one() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = Dirs::under(folder.path());
        std::fs::create_dir_all(dirs.runconfigs()).unwrap();
        for (name, config, expected) in [
            ("piped", r#"{"transport": "stdio"}"#, false),
            ("http", r#"{"transport": "streamable-http"}"#, true),
            ("sse", r#"{"transport": "sse"}"#, true),
            ("broken", r#"{"transport": "#, false),
        ] {
            std::fs::write(dirs.runconfigs().join(format!("{name}.json")), config).unwrap();
            assert_eq!(is_http(&dirs, name), expected, "{name}");
        }
        assert!(!is_http(&dirs, "absent") && !is_http(&dirs, "../http"));
    }
}
