//! What is said about one workload.

use std::collections::BTreeMap;

use thv_core::gojson::GoTime;
use thv_core::{RunConfig, Workload, WorkloadStatus};
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
            workload.package.clone_from(&instance.image);
            workload.port = thv_labels::port(&instance.labels).unwrap_or(0);
            workload.transport_type = thv_labels::transport(&instance.labels);
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
