//! Credentials of registries: the environment's, and those of Docker's configuration and its helpers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use sigstore_verify::types::SignatureBytes;
use thv_core::{Env, RegistryCredentials as Credentials};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::Instant;

use crate::client::ClientConfig;

/// More is no configuration.
const MAX_CONFIG: u64 = 1 << 20;
/// More is no answer of a helper.
const MAX_ANSWER: u64 = 64 << 10;
/// A helper may have to unlock a key ring, but not wait for somebody for ever.
const HELPER_TIME: Duration = Duration::from_secs(8);
/// For so long nobody waits again for one that has not answered in time: an image may need several tokens.
const SILENCE: Duration = Duration::from_mins(1);

#[derive(Default, Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    #[serde(rename = "auth")]
    encoded: String,
    username: String,
    password: String,
    identitytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// Where credentials are looked for.
#[derive(Debug)]
pub(crate) struct CredentialSource {
    config: ClientConfig,
    /// Helpers that have not answered in time, and when that was.
    silent: Mutex<BTreeMap<String, Instant>>,
}

impl CredentialSource {
    pub(crate) fn new(config: ClientConfig) -> Self {
        Self {
            config,
            silent: Mutex::default(),
        }
    }

    /// What is known for `registry` (`host` or `host:port`). What cannot be read is logged and is as if it were not there: most
    /// images need no credentials.
    pub(crate) async fn find(&self, registry: &str) -> Option<Credentials> {
        if let Some(found) = of_environment(&self.config, registry) {
            return Some(found);
        }
        let file = docker_config(&self.config.env).await?;
        if let Some((_, helper)) = file.helpers.iter().find(|(key, _)| is_key_of(key, registry)) {
            return self.ask(helper, registry).await;
        }
        if !file.store.is_empty()
            && let Some(found) = self.ask(&file.store, registry).await
        {
            return Some(found);
        }
        let (_, auth) = file.auths.iter().find(|(key, _)| is_key_of(key, registry))?;
        stored(auth)
    }

    /// Asks `docker-credential-<helper>`.
    async fn ask(&self, helper: &str, registry: &str) -> Option<Credentials> {
        if !is_name(helper) {
            tracing::warn!("Docker's configuration names a credential helper that is no name; ignored");
            return None;
        }
        let silent = self.silent().get(helper).copied();
        if silent.is_some_and(|since| since.elapsed() < SILENCE) {
            return None;
        }
        let asking = answer_of(helper, registry, &self.config.env);
        let Ok(answer) = tokio::time::timeout(HELPER_TIME, asking).await else {
            tracing::warn!(helper, registry, "the credential helper did not answer in time");
            self.silent().insert(helper.to_owned(), Instant::now());
            return None;
        };
        let HelperAnswer { username, secret } = serde_json::from_slice(&answer?).ok()?;
        if secret.is_empty() {
            return None;
        }
        Some(if username == "<token>" {
            Credentials::Identity(secret)
        } else {
            Credentials::Password {
                user: username,
                password: secret,
            }
        })
    }

    fn silent(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `REGISTRY_<HOST>_USERNAME` for one registry, `REGISTRY_USERNAME` for those that may see it.
fn of_environment(config: &ClientConfig, registry: &str) -> Option<Credentials> {
    let pair = |prefix: &str| {
        Some(Credentials::Password {
            user: config.env.non_empty(&format!("{prefix}_USERNAME"))?.to_owned(),
            password: config.env.non_empty(&format!("{prefix}_PASSWORD"))?.to_owned(),
        })
    };
    let host = registry.to_ascii_uppercase().replace(['.', '-', ':'], "_");
    pair(&format!("REGISTRY_{host}")).or_else(|| {
        let global = pair("REGISTRY")?;
        if config.global_credentials_for.iter().any(|host| host == registry) {
            return Some(global);
        }
        tracing::debug!(
            registry,
            "REGISTRY_USERNAME is not shown to a registry that is not listed"
        );
        None
    })
}

async fn docker_config(env: &Env) -> Option<DockerConfig> {
    let folder = match env.non_empty("DOCKER_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env.non_empty("HOME")?).join(".docker"),
    };
    let path = folder.join("config.json");
    // A pipe in its place would never end.
    let is_file = tokio::fs::metadata(&path).await.is_ok_and(|it| it.is_file());
    if !is_file {
        return None;
    }
    let file = tokio::fs::File::open(&path).await.ok()?;
    let mut text = Vec::new();
    file.take(MAX_CONFIG + 1).read_to_end(&mut text).await.ok()?;
    if text.len() as u64 > MAX_CONFIG {
        tracing::warn!(path = %path.display(), "too large for a configuration of Docker; ignored");
        return None;
    }
    match serde_json::from_slice(&text) {
        Ok(config) => Some(config),
        Err(error) => {
            // Not the error itself: it may quote what is in there.
            tracing::warn!(path = %path.display(), line = error.line(), "not a configuration of Docker; ignored");
            None
        }
    }
}

/// Keys are host names, or URLs of the older form.
fn is_key_of(key: &str, registry: &str) -> bool {
    let host = |text: &str| {
        let text = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))
            .unwrap_or(text);
        let host = text.split('/').next().unwrap_or_default().to_ascii_lowercase();
        match host.as_str() {
            "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
            _ => host,
        }
    };
    !key.is_empty() && host(key) == host(registry)
}

fn stored(auth: &Auth) -> Option<Credentials> {
    if !auth.identitytoken.is_empty() {
        return Some(Credentials::Identity(auth.identitytoken.clone()));
    }
    if !auth.username.is_empty() {
        return Some(Credentials::Password {
            user: auth.username.clone(),
            password: auth.password.clone(),
        });
    }
    let decoded = SignatureBytes::from_base64(&auth.encoded).ok()?.into_bytes();
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    (!user.is_empty()).then(|| Credentials::Password {
        user: user.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
    })
}

fn is_name(helper: &str) -> bool {
    !helper.is_empty()
        && helper
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// What `docker-credential-<helper>` says.
async fn answer_of(helper: &str, registry: &str, env: &Env) -> Option<Vec<u8>> {
    let program = format!("docker-credential-{helper}");
    let path = std::env::split_paths(env.get("PATH").unwrap_or_default())
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(&program))
        .find(|path| path.is_file())?;
    let server = match registry {
        "docker.io" => "https://index.docker.io/v1/",
        other => other,
    };
    let mut child = Command::new(path)
        .arg("get")
        .env_clear()
        .envs(env.iter())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take()?;
    // A helper that does not read has its reasons.
    let _ = stdin.write_all(server.as_bytes()).await;
    drop(stdin);
    let mut answer = Vec::new();
    child
        .stdout
        .take()?
        .take(MAX_ANSWER)
        .read_to_end(&mut answer)
        .await
        .ok()?;
    let status = child.wait().await.ok()?;
    status.success().then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password {
            user: user.into(),
            password: password.into(),
        }
    }

    fn source(vars: &[(&str, &str)]) -> CredentialSource {
        let config = ClientConfig::from_env(Env::from_vars(vars.iter().copied()));
        CredentialSource::new(config.unwrap())
    }

    #[tokio::test]
    async fn global_credentials_are_for_listed_registries_only() {
        let vars = [
            ("REGISTRY_USERNAME", "me"),
            ("REGISTRY_PASSWORD", "secret"),
            ("REGISTRY_GHCR_IO_USERNAME", "cat"),
            ("REGISTRY_GHCR_IO_PASSWORD", "milk"),
            ("THV_REGISTRY_CREDENTIALS_FOR", "quay.io, a.example:5000"),
        ];
        let source = source(&vars);
        assert_eq!(source.find("ghcr.io").await, Some(password("cat", "milk")));
        assert_eq!(source.find("quay.io").await, Some(password("me", "secret")));
        assert_eq!(
            source.find("a.example:5000").await,
            Some(password("me", "secret"))
        );
        assert_eq!(source.find("evil.example").await, None);
    }

    #[tokio::test]
    async fn docker_s_configuration_is_read_in_its_forms() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"bWU6c2VjcmV0"},
            "a.example:5000":{"username":"u","password":"p"},
            "b.example":{"identitytoken":"t"},
            "c.example":{"auth":"not base64"}}}"#;
        std::fs::write(folder.path().join("config.json"), text).expect("written");
        let source = source(&[("DOCKER_CONFIG", folder.path().to_str().expect("text"))]);
        assert_eq!(source.find("docker.io").await, Some(password("me", "secret")));
        assert_eq!(source.find("a.example:5000").await, Some(password("u", "p")));
        assert_eq!(
            source.find("b.example").await,
            Some(Credentials::Identity("t".into()))
        );
        assert_eq!(source.find("c.example").await, None);
        assert_eq!(source.find("d.example").await, None);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_credential_helper_is_asked_and_its_answer_is_bounded() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let helper = |name: &str, script: &str| {
            let path = folder.path().join(format!("docker-credential-{name}"));
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        };
        helper(
            "good",
            r#"read server; echo "{\"Username\":\"u\",\"Secret\":\"$server\"}""#,
        );
        helper("endless", "yes");
        helper("none", "echo credentials not found; exit 1");
        let text = r#"{"credHelpers":{"a.example":"good","b.example":"endless","c.example":"none","d.example":"../x"}}"#;
        std::fs::write(folder.path().join("config.json"), text).expect("written");
        let folder = folder.path().to_str().expect("text");
        let path = format!("{folder}:/usr/bin:/bin");
        let source = source(&[("DOCKER_CONFIG", folder), ("PATH", &path)]);
        assert_eq!(source.find("a.example").await, Some(password("u", "a.example")));
        for registry in ["b.example", "c.example", "d.example"] {
            assert_eq!(source.find(registry).await, None, "{registry}");
        }
    }

    /// The time is not real: what waits for the helper waits for nothing else.
    #[tokio::test(start_paused = true)]
    async fn a_credential_helper_that_does_not_answer_is_waited_for_once() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("docker-credential-asleep");
        std::fs::write(&path, "#!/bin/sh\nexec sleep 1000\n").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        let text = r#"{"credsStore":"asleep","auths":{"a.example":{"username":"u","password":"p"}}}"#;
        std::fs::write(folder.path().join("config.json"), text).expect("written");
        let folder = folder.path().to_str().expect("text");
        let path = format!("{folder}:/usr/bin:/bin");
        let source = source(&[("DOCKER_CONFIG", folder), ("PATH", &path)]);
        for waited in [HELPER_TIME, Duration::ZERO] {
            let began = Instant::now();
            assert_eq!(source.find("a.example").await, Some(password("u", "p")));
            assert_eq!(began.elapsed().as_secs(), waited.as_secs());
        }
        tokio::time::advance(SILENCE).await;
        let began = Instant::now();
        assert_eq!(source.find("b.example").await, None);
        assert_eq!(began.elapsed().as_secs(), HELPER_TIME.as_secs());
    }

    #[test]
    fn credentials_are_not_shown() {
        let shown = format!("{:?}", Some(password("me", "secret")));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
