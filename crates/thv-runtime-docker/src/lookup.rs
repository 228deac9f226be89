//! Which container is a workload's, and what is told about it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use thv_core::WorkloadName;
use thv_runtime::{Error, Instance, InstanceId, InstanceRef, InstanceState, PortBinding, Result};

use crate::engine::Engine;
use crate::entries::Entries;
use crate::error::EngineError;
use crate::http::quoted;
use crate::quirks;
use crate::wire::{Binding, Config, Container, Image, Summary};

/// The path of a container, and of what can be done to it.
pub(crate) fn container(id: &str, what: &str) -> String {
    format!("/containers/{id}{what}")
}

/// The path of a list of containers with all of `labels` and, if given, a name and what is behind it, as an expression.
fn listing(labels: &[String], name: Option<(&str, &str)>) -> String {
    let mut filters = BTreeMap::from([("label", labels.to_vec())]);
    if let Some((name, behind)) = name {
        filters.insert("name", vec![format!("^/?{}{behind}$", literal(name))]);
    }
    let filters = serde_json::json!(filters).to_string();
    format!("/containers/json?all=true&filters={}", quoted(&filters))
}

/// An expression that means this text alone. It may be of a label, which anybody writes who makes an image.
fn literal(text: &str) -> String {
    let mut expression = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() {
            expression.push('\\');
        }
        expression.push(c);
    }
    expression
}

/// Everything that carries the label, helpers included, but what is too long to be read. One call.
pub(crate) async fn all(engine: &Engine) -> Result<Vec<Summary>, EngineError> {
    let path = listing(&[format!("{}=true", thv_labels::TOOLHIVE)], None);
    let entries = entries(engine, &path).await?;
    for name in entries.too_long {
        tracing::warn!(error = %EngineError::TooLong(name), "a container is left out of the list");
    }
    Ok(entries.whole)
}

/// How often a list is asked for anew of which a container went away meanwhile.
const LISTS: usize = 5;

async fn entries(engine: &Engine, path: &str) -> Result<Entries<Summary>, EngineError> {
    for _ in 1..LISTS {
        match engine.list(path).await {
            Err(cause) if cause.is_lost_race() || cause.is_passing() => {}
            listed => return listed,
        }
    }
    engine.list(path).await
}

/// Each of a list that is asked for to do something with what is in it.
async fn rows(engine: &Engine, path: &str) -> Result<Vec<Summary>, EngineError> {
    let entries = entries(engine, path).await?;
    match entries.too_long.into_iter().next() {
        None => Ok(entries.whole),
        Some(name) => Err(EngineError::TooLong(name)),
    }
}

/// Whether anything carries the label. Podman leaves what goes away meanwhile out of a list that is cut by then: where one is
/// not told of, all are asked for.
pub(crate) async fn any(engine: &Engine) -> Result<bool, EngineError> {
    let path = listing(&[format!("{}=true", thv_labels::TOOLHIVE)], None);
    for path in [format!("{path}&limit=1"), path] {
        let found = entries(engine, &path).await?;
        if !found.whole.is_empty() || !found.too_long.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What carries the label and has this name with something behind it that the expression means.
pub(crate) async fn beside(engine: &Engine, name: &str, behind: &str) -> Result<Vec<Summary>, EngineError> {
    let label = format!("{}=true", thv_labels::TOOLHIVE);
    rows(engine, &listing(&[label], Some((name, behind)))).await
}

/// The container of a workload: by its labels, a running one first; else by its exact name.
pub(crate) async fn of_workload(
    engine: &Engine,
    name: &WorkloadName,
) -> Result<Option<Summary>, EngineError> {
    let toolhive = format!("{}=true", thv_labels::TOOLHIVE);
    let labels = [toolhive.clone(), format!("{}={name}", thv_labels::BASE_NAME)];
    let mut rows = self::rows(engine, &listing(&labels, None)).await?;
    rows.retain(|row| !thv_labels::is_auxiliary(&row.labels));
    let running = rows.iter().position(|row| row.state == "running").unwrap_or(0);
    if running < rows.len() {
        return Ok(Some(rows.swap_remove(running)));
    }
    let mut rows = self::rows(engine, &listing(&[toolhive], Some((name.as_str(), "")))).await?;
    rows.retain(|row| row.name() == name.as_str() && !thv_labels::is_auxiliary(&row.labels));
    Ok(rows.into_iter().next())
}

/// The container that `which` means: `None` when there is none, `Conflict` when it is another one.
pub(crate) async fn exactly(engine: &Engine, which: &InstanceRef) -> Result<Option<Summary>> {
    let found = of_workload(engine, &which.name)
        .await
        .map_err(|e| engine.error(e, format!("look for workload \"{}\"", which.name)))?;
    match (&found, &which.id) {
        (Some(row), Some(id)) if row.id != id.as_str() => Err(Error::Conflict {
            name: which.name.clone(),
            runtime: engine.kind().clone(),
            found: Some(InstanceId::new(&row.id)),
        }),
        _ => Ok(found),
    }
}

/// As [`exactly`], where nothing can be done without one.
pub(crate) async fn required(engine: &Engine, which: &InstanceRef) -> Result<Summary> {
    exactly(engine, which).await?.ok_or_else(|| Error::NotFound {
        name: which.name.clone(),
        runtime: engine.kind().clone(),
    })
}

/// The exit code of what SIGKILL ended.
const KILLED: i64 = 137;
const JUST_NOW: SignedDuration = SignedDuration::from_secs(1);
/// How often, and how far apart, the engine is asked once more whether memory was the reason of an end.
const WORD_OF_MEMORY: u32 = 10;
const WORD_OF_MEMORY_PAUSE: Duration = Duration::from_millis(50);

/// Everything about a container; `None` if it went away.
pub(crate) async fn details(engine: &Engine, id: &str) -> Result<Option<Container>, EngineError> {
    for _ in 0..WORD_OF_MEMORY {
        let found: Option<Container> = engine.find(&container(id, "/json")).await?;
        let unsure = |found: &Container| found.may_have_run_out_of_memory(Timestamp::now());
        if !found.as_ref().is_some_and(unsure) {
            return Ok(found);
        }
        tokio::time::sleep(WORD_OF_MEMORY_PAUSE).await;
    }
    engine.find(&container(id, "/json")).await
}

/// What the image of this container brings; `None` if it went away.
pub(crate) async fn image_of(engine: &Engine, found: &Container) -> Result<Option<Config>, EngineError> {
    let Some(id) = &found.image else { return Ok(None) };
    let image: Option<Image> = engine.find(&format!("/images/{id}/json")).await?;
    Ok(image.map(|image| image.config))
}

impl Summary {
    /// Its name, without the engine's slash.
    pub(crate) fn name(&self) -> &str {
        self.names.first().map_or("", |name| name.trim_start_matches('/'))
    }

    /// The name that it was made under.
    pub(crate) fn first_name(&self) -> &str {
        first_name(&self.labels, self.name())
    }

    /// What a list tells.
    pub(crate) fn into_instance(self, engine: &Engine) -> Instance {
        let state = state_of(&self.state);
        let ports = self.ports.iter().filter_map(|port| {
            let tcp = port.protocol.as_deref().is_none_or(|p| p == "tcp");
            let host_port = port.public_port.filter(|_| tcp)?;
            let host_ip = port.ip.as_deref().and_then(|ip| ip.parse().ok());
            Some(PortBinding {
                container_port: port.private_port,
                host_ip,
                host_port,
            })
        });
        let workload = workload_of(&self.labels, self.name());
        let id = InstanceId::new(&self.id);
        let mut instance = Instance::new(workload, id, engine.kind().clone(), self.image.as_str(), state);
        self.name().clone_into(&mut instance.instance_name);
        instance.exit_code = (state == InstanceState::Stopped)
            .then(|| exit_code_in(&self.status))
            .flatten();
        instance.created = self
            .created
            .and_then(|seconds| Timestamp::from_second(seconds).ok());
        instance.ports = ports.collect();
        instance.network_isolated = thv_labels::is_isolated(&self.labels);
        instance.status_text = match state {
            InstanceState::Paused => paused(engine, self.name()),
            _ => self.status,
        };
        instance.image_id = self.image_id;
        instance.labels = self.labels;
        instance
    }
}

impl Container {
    /// Whether it was killed just now, under a limit of memory, and the engine has not said why: it hears of the end and
    /// of the reason in two events, in any order.
    fn may_have_run_out_of_memory(&self, now: Timestamp) -> bool {
        let finished = self.state.finished_at.as_deref();
        let finished = finished.and_then(|time| time.parse::<Timestamp>().ok());
        self.state.exit_code == Some(KILLED)
            && self.state.status == "exited"
            && !self.state.oom_killed
            && self.host_config.memory > 0
            // A time in the future is another clock's, or from before this one was set back.
            && finished.is_some_and(|at| now.duration_since(at).abs() < JUST_NOW)
    }

    pub(crate) fn name(&self) -> &str {
        self.name.trim_start_matches('/')
    }

    /// The name that it was made under.
    pub(crate) fn first_name(&self) -> &str {
        first_name(&self.config.labels, self.name())
    }

    /// Whether it was made and never started.
    pub(crate) fn never_started(&self) -> bool {
        let made = matches!(
            self.state.status.as_str(),
            "created" | "configured" | "initialized"
        );
        let started = self.state.started_at.as_deref();
        made && started.is_none_or(|time| time.is_empty() || time.starts_with("0001-"))
    }

    /// What an inspection tells.
    pub(crate) fn into_instance(self, engine: &Engine) -> Instance {
        let state = state_of(&self.state.status);
        let ended = matches!(self.state.status.as_str(), "exited" | "dead" | "stopped");
        let exit_code = self.state.exit_code.filter(|_| ended);
        let status_text = match exit_code {
            Some(_) if self.state.oom_killed => match u64::try_from(self.host_config.memory) {
                Ok(bytes) if bytes > 0 => format!("out of memory (limit {})", readable(bytes)),
                _ => "out of memory".to_owned(),
            },
            Some(code) if self.state.error.is_empty() => format!("exited with code {code}"),
            Some(code) => format!("exited with code {code}: {}", self.state.error),
            None if state == InstanceState::Paused => paused(engine, self.name()),
            None => self.state.status.clone(),
        };
        let time = |text: &Option<String>| {
            text.as_deref()
                .filter(|text| !text.starts_with("0001-"))
                .and_then(|text| text.parse().ok())
        };
        let workload = workload_of(&self.config.labels, self.name());
        let (id, kind) = (InstanceId::new(&self.id), engine.kind().clone());
        let mut instance = Instance::new(workload, id, kind, self.config.image.as_str(), state);
        self.name().clone_into(&mut instance.instance_name);
        instance.status_text = status_text;
        instance.exit_code = exit_code;
        instance.created = time(&self.created);
        instance.started = time(&self.state.started_at);
        instance.network_isolated = thv_labels::is_isolated(&self.config.labels);
        instance.ports = self.ports();
        instance.image_id = self.image;
        instance.labels = self.config.labels;
        instance
    }

    /// The TCP ports that are reachable from the host.
    pub(crate) fn ports(&self) -> Vec<PortBinding> {
        let bound = self.network_settings.iter().flat_map(|settings| &settings.ports);
        bound
            .filter_map(|(port, bindings)| Some((port.strip_suffix("/tcp")?.parse().ok()?, bindings)))
            .flat_map(|(container_port, bindings)| {
                bindings
                    .iter()
                    .flatten()
                    .filter_map(move |b| b.reached(container_port))
            })
            .collect()
    }
}

impl Binding {
    fn reached(&self, container_port: u16) -> Option<PortBinding> {
        let host_port = self.host_port.parse().ok()?;
        Some(PortBinding {
            container_port,
            host_ip: self.host_ip.parse::<IpAddr>().ok(),
            host_port,
        })
    }
}

fn paused(engine: &Engine, name: &str) -> String {
    let unpausing = quirks::unpausing(engine.known().as_deref(), name);
    format!("its container is paused: {unpausing} lets it go on")
}

/// What is around a container is called after this name; somebody may have renamed the container.
fn first_name<'a>(labels: &'a BTreeMap<String, String>, name: &'a str) -> &'a str {
    labels.get(thv_labels::NAME).map_or(name, String::as_str)
}

fn workload_of(labels: &BTreeMap<String, String>, name: &str) -> String {
    thv_labels::base_name(labels).unwrap_or(name).to_owned()
}

pub(crate) fn state_of(word: &str) -> InstanceState {
    match word {
        "running" => InstanceState::Running,
        "created" | "restarting" | "configured" | "initialized" => InstanceState::Starting,
        "paused" => InstanceState::Paused,
        "exited" | "dead" | "stopped" => InstanceState::Stopped,
        "removing" => InstanceState::Removing,
        _ => InstanceState::Unknown,
    }
}

/// `Exited (137) 3 seconds ago`.
fn exit_code_in(status: &str) -> Option<i64> {
    let (code, _) = status.strip_prefix("Exited (")?.split_once(')')?;
    code.parse().ok()
}

fn readable(bytes: u64) -> String {
    [("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift))
        .map_or_else(
            || format!("{bytes} bytes"),
            |(unit, shift)| format!("{} {unit}", bytes >> shift),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_states_have_their_meaning() {
        use InstanceState as S;
        for (word, expected) in [
            ("running", S::Running),
            ("created", S::Starting),
            ("restarting", S::Starting),
            ("paused", S::Paused),
            ("exited", S::Stopped),
            ("dead", S::Stopped),
            ("removing", S::Removing),
            ("something new", S::Unknown),
            // Podman's own.
            ("configured", S::Starting),
            ("initialized", S::Starting),
            ("stopped", S::Stopped),
        ] {
            assert_eq!(state_of(word), expected, "{word}");
        }
    }

    #[test]
    fn a_name_stands_for_itself_in_an_expression() {
        for (name, expected) in [
            ("fetch-1_a.b", "fetch\\-1\\_a\\.b"),
            (".*", "\\.\\*"),
            ("a|(b", "a\\|\\(b"),
            ("\\Eä", "\\\\Eä"),
        ] {
            assert_eq!(literal(name), expected, "{name}");
        }
    }

    #[test]
    fn the_exit_code_is_read_from_the_status_of_a_list() {
        assert_eq!(exit_code_in("Exited (137) 3 seconds ago"), Some(137));
        assert_eq!(exit_code_in("Up 3 minutes"), None);
        assert_eq!(exit_code_in("Exited (x"), None);
    }

    #[test]
    fn only_a_death_of_just_now_may_have_a_reason_that_is_not_told_yet() {
        let container = serde_json::json!({
            "Id": "1", "Config": {}, "HostConfig": { "Memory": 1 },
            "State": { "Status": "exited", "ExitCode": KILLED, "FinishedAt": "2026-01-01T12:00:00Z" },
        });
        let container: Container = serde_json::from_value(container).unwrap();
        for (now, expected) in [
            ("2026-01-01T12:00:00.5Z", true),
            ("2026-01-01T13:00:00Z", false),
            // The clock was set back.
            ("2026-01-01T11:00:00Z", false),
        ] {
            let now = now.parse().unwrap();
            assert_eq!(container.may_have_run_out_of_memory(now), expected, "{now}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_whole_unit() {
        assert_eq!(readable(64 << 20), "64 MiB");
        assert_eq!(readable(1 << 30), "1 GiB");
        assert_eq!(readable((64 << 20) + 1), "67108865 bytes");
    }
}
