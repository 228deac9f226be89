//! What happens to instances.

use thv_core::WorkloadName;
use thv_runtime::{EventKind, InstanceId, RuntimeEvent};
use tokio::sync::broadcast;

/// The events of one runtime value, for any number of subscribers.
#[derive(Debug)]
pub(crate) struct Events(broadcast::Sender<RuntimeEvent>);

impl Events {
    pub(crate) fn new() -> Self {
        Self(broadcast::channel(1024).0)
    }

    pub(crate) fn send(&self, name: &WorkloadName, id: &InstanceId, kind: EventKind) {
        // Nobody listening is fine.
        let _ = self
            .0
            .send(RuntimeEvent::new(name.as_str(), Some(id.clone()), kind));
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.0.subscribe()
    }
}
