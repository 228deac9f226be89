//! The systemd user unit that brings workloads back at boot.

use std::fmt::Write as _;
use std::path::Path;

use thv::core::Env;

use super::Failure;

/// Under which name the unit is installed.
const NAME: &str = "thv-reconcile.service";

/// What says where things are and how they behave: what is brought back is to be as it was. A service has none of a
/// terminal's variables; no value of these is a secret.
const VARIABLES: &[&str] = &[
    "PATH",
    "LANG",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "TOOLHIVE_DOCKER_SOCKET",
    "TOOLHIVE_PODMAN_SOCKET",
    "TOOLHIVE_COLIMA_SOCKET",
    "TOOLHIVE_RUNTIME",
    "TOOLHIVE_SECRETS_PROVIDER",
    "TOOLHIVE_DISABLE_ENV_FALLBACK",
    "TOOLHIVE_EGRESS_HELPER",
    "TOOLHIVE_HEALTH_CHECK_FAILURE_THRESHOLD",
    "TOOLHIVE_HEALTH_CHECK_INTERVAL",
    "TOOLHIVE_HEALTH_CHECK_PING_TIMEOUT",
    "TOOLHIVE_HEALTH_CHECK_RETRY_DELAY",
    "TOOLHIVE_LOG_MAX_FILES",
    "TOOLHIVE_LOG_MAX_SIZE",
    "TOOLHIVE_PROXY_MAX_BODY_BYTES",
    "TOOLHIVE_PROXY_MAX_LINE_BYTES",
    "TOOLHIVE_PROXY_REQUEST_TIMEOUT",
    "TOOLHIVE_REMOTE_HEALTHCHECKS",
    "THV_INSECURE_REGISTRIES",
    "THV_PULL_TIMEOUT",
    "THV_REGISTRY_CREDENTIALS_FOR",
    "THV_REGISTRY_TIMEOUT",
    "THV_TRUSTED_ROOT",
];

/// The unit that runs `program reconcile`, with the commands that enable it as comments at its head.
pub(super) fn unit(program: &Path, env: &Env) -> Result<String, Failure> {
    let program = program
        .to_str()
        .filter(|path| can_be_said(path))
        .ok_or_else(|| Failure::new(format!("systemd cannot be told of {}", program.display())))?;
    let mut environment = String::new();
    for name in VARIABLES {
        if let Some(value) = env.non_empty(name) {
            if !can_be_said(value) {
                // Without it other workloads would be brought back, or in another way.
                return Err(Failure::new(format!(
                    "systemd cannot be told of {name}: {value:?}"
                )));
            }
            let _ = writeln!(environment, "Environment={}", quoted(&format!("{name}={value}")));
        }
    }
    // In a command a dollar sign begins a variable as well.
    let command = quoted(program).replace('$', "$$");
    Ok(format!(
        "# Brings the MCP servers back that should run, at boot. Write this to ~/.config/systemd/user/{NAME}, then:\n\
         #   systemctl --user enable --now {NAME}\n\
         #   loginctl enable-linger\n\
         [Unit]\n\
         Description=MCP servers of thv\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         # The servers' proxies go on when this unit is stopped.\n\
         KillMode=process\n\
         {environment}ExecStart={command} reconcile --wait-runtime=2m\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n"
    ))
}

fn can_be_said(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// One word of a unit file.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_says_how_to_enable_it_and_where_things_are() {
        let env = Env::from_vars([
            ("PATH", "/usr/bin:/bin"),
            ("DOCKER_HOST", "unix:///run/user/1000/docker.sock"),
            ("TOOLHIVE_EGRESS_HELPER", "/opt/thv-egress"),
            ("TOOLHIVE_SECRET_token", "secret"),
            ("HTTPS_PROXY", "http://user:secret@proxy.example"),
            ("EDITOR", "vi"),
        ]);
        insta::assert_snapshot!(unit(Path::new("/opt/100% $HOME \"x\"/thv"), &env).unwrap());
        assert!(unit(Path::new("/opt/\n/thv"), &env).is_err());
        let elsewhere = Env::from_vars([("XDG_STATE_HOME", "/home/new\nline")]);
        assert!(unit(Path::new("/usr/bin/thv"), &elsewhere).is_err());
    }
}
