//! What is said about one workload.

use std::collections::BTreeMap;

use thv_core::gojson::GoTime;
use thv_core::{RunConfig, TransportType, Workload, WorkloadStatus};
use thv_labels::user_labels;
use thv_runtime::{Instance, RuntimeKind};
use thv_status::{Desired, InstanceView, Observation, OwnerState, Snapshot};

use crate::image;

/// What is to be said about one workload.
pub(crate) struct View {
    pub(crate) workload: Workload,
    pub(crate) should_run: bool,
    pub(crate) runtime: Option<RuntimeKind>,
    pub(crate) launcher: Option<String>,
    pub(crate) isolated: bool,
    pub(crate) proxy_pid: Option<u32>,
}

impl View {
    pub(crate) fn new(
        name: &str,
        observation: Observation,
        snapshot: Option<&Snapshot>,
        config: Option<&RunConfig>,
        instance: Option<&Instance>,
        runtime: Option<RuntimeKind>,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Self {
        let companion = snapshot.and_then(|snapshot| snapshot.companion.as_deref());
        let mut workload = Workload::new(name, observation.status);
        workload.status_context = observation.context;
        if let Some(config) = config {
            describe(&mut workload, config);
        } else if let Some(instance) = instance {
            describe_by_labels(&mut workload, instance);
        }
        workload.labels = labels.map(user_labels).unwrap_or_default();
        if let Some(created) = snapshot
            .and_then(|snapshot| snapshot.status.as_ref())
            .map(|s| s.created_at)
        {
            workload.created_at = created;
        } else if let Some(created) = instance.and_then(|instance| instance.created) {
            workload.created_at = GoTime::from(created);
        }
        if let Some(started) = instance.and_then(|instance| instance.started) {
            workload.started_at = GoTime::from(started);
        }
        let isolated = instance.is_some_and(|instance| instance.network_isolated);
        workload.thv.runtime = runtime.as_ref().map(ToString::to_string);
        workload.thv.isolated = (!workload.remote).then_some(isolated);
        workload.thv.launcher = companion
            .map(|companion| companion.launcher.clone())
            .filter(|launcher| !launcher.is_empty());
        workload.thv.image = companion.and_then(image::record);
        Self {
            should_run: snapshot.is_some_and(|snapshot| snapshot.desired() == Desired::Running),
            runtime,
            launcher: workload.thv.launcher.clone(),
            isolated,
            proxy_pid: snapshot
                .filter(|snapshot| snapshot.owner == OwnerState::Alive)
                .and_then(|snapshot| snapshot.companion.as_ref()?.owner.as_ref())
                .map(|owner| owner.identity.pid),
            workload,
        }
    }
}

fn describe(workload: &mut Workload, config: &RunConfig) {
    workload.remote = config.is_remote();
    workload.package = if workload.remote {
        "remote".into()
    } else {
        config.image.clone()
    };
    workload.url = config.client_url("127.0.0.1").unwrap_or_default();
    workload.port = config.port;
    workload.transport_type = Some(config.transport);
    workload.proxy_mode = Some(config.effective_proxy_mode());
    workload.group.clone_from(&config.group);
    workload.tools.clone_from(&config.tools_filter);
}

/// What an instance says of itself, in ToolHive's words: how a proxy of stdio speaks is not among it.
fn describe_by_labels(workload: &mut Workload, instance: &Instance) {
    workload.package.clone_from(&instance.image);
    workload.port = thv_labels::port(&instance.labels).unwrap_or(0);
    workload.transport_type = thv_labels::transport(&instance.labels);
    let proxy = RunConfig {
        base_name: workload.name.clone(),
        port: workload.port,
        transport: workload.transport_type.unwrap_or(TransportType::Sse),
        ..RunConfig::default()
    };
    workload.url = proxy.client_url("127.0.0.1").unwrap_or_default();
}

/// What is said of a workload without any record: what the runtime says.
pub(crate) fn from_runtime(instance: &InstanceView<'_>) -> Observation {
    match instance {
        InstanceView::Present(instance) => Observation {
            status: instance.state.into(),
            context: instance.status_text.clone(),
        },
        _ => Observation {
            status: WorkloadStatus::Stopped,
            context: String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use thv_runtime::{InstanceId, InstanceState};

    use super::*;

    #[test]
    fn a_container_without_a_configuration_says_by_its_labels_where_it_is_found() {
        for (transport, port, url) in [
            ("stdio", "28733", "http://127.0.0.1:28733/mcp"),
            ("streamable-http", "28733", "http://127.0.0.1:28733/mcp"),
            ("sse", "28733", "http://127.0.0.1:28733/sse#theirs"),
            ("odd", "28733", "http://127.0.0.1:28733/sse#theirs"),
            ("stdio", "odd", ""),
        ] {
            let mut instance = Instance::new(
                "theirs",
                InstanceId::new("1"),
                "docker".into(),
                "mcp/fetch:1",
                InstanceState::Running,
            );
            instance.labels = [("toolhive-transport", transport), ("toolhive-port", port)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
            let seen = from_runtime(&InstanceView::Present(&instance));
            let view = View::new("theirs", seen, None, None, Some(&instance), None, None);
            assert_eq!(view.workload.url, url, "{transport} {port}");
            assert_eq!(view.workload.package, "mcp/fetch:1");
        }
    }
}
