//! What a proxy records: `audit_config` and `telemetry_config`.

use std::collections::BTreeMap;

use crate::gojson::{Json, JsonString, same_key};
use crate::record::{go_struct, go_struct_field};

go_struct! {
    /// `audit_config`: which events go to the audit log.
    pub struct AuditConfig {
        /// Deprecated; audit is on when this section is there.
        enabled: bool = "enabled";
        /// Component name in the events.
        component: String = "component";
        /// Only these types; empty means all.
        event_types: Vec<String> = "eventTypes";
        /// Never these types.
        exclude_event_types: Vec<String> = "excludeEventTypes";
        /// Whether requests are recorded.
        include_request_data: bool = "includeRequestData";
        /// Whether responses are recorded.
        include_response_data: bool = "includeResponseData";
        /// Whether JSON-RPC errors in successful responses count as errors.
        detect_application_errors: Option<bool> = "detectApplicationErrors";
        /// Recorded data is cut after this many bytes.
        max_data_size: i64 = "maxDataSize";
        /// How many steps of a delegation chain are recorded.
        max_delegation_depth: Option<i64> = "maxDelegationDepth";
        /// File to append to; empty means standard output.
        log_file: String = "logFile";
    }
}

go_struct! {
    /// `telemetry_config`: traces and metrics of the proxy.
    pub struct TelemetryConfig {
        /// OTLP endpoint.
        endpoint: String = "endpoint" [url];
        /// Service name.
        service_name: String = "serviceName";
        /// Service version.
        service_version: String = "serviceVersion";
        /// Whether traces are sent.
        tracing_enabled: bool = "tracingEnabled" [always];
        /// Whether metrics are sent.
        metrics_enabled: bool = "metricsEnabled" [always];
        /// Share of traces that are sent, as text; old files have a number, which is read too.
        sampling_rate: String = "samplingRate";
        /// Headers of OTLP requests.
        headers: BTreeMap<String, String> = "headers" [secret];
        /// Whether OTLP goes over plain HTTP.
        insecure: bool = "insecure";
        /// Whether Prometheus metrics are served.
        enable_prometheus_metrics_path: bool = "enablePrometheusMetricsPath";
        /// Port for Prometheus metrics; 0 means 9464.
        prometheus_port: u16 = "prometheusPort";
        /// Whether metrics are served on the proxy's port too; absent means yes.
        metrics_on_transport_port: Option<bool> = "metricsOnTransportPort";
        /// Environment variables that become attributes.
        environment_variables: Vec<String> = "environmentVariables";
        /// Further attributes.
        custom_attributes: BTreeMap<String, String> = "customAttributes" [secret];
        /// Whether old attribute names are sent too.
        use_legacy_attributes: bool = "useLegacyAttributes" [always];
        /// File with certificate authorities for OTLP.
        ca_cert_path: String = "caCertPath";
    }
}

go_struct_field!(AuditConfig);

impl TelemetryConfig {
    /// Whether anything leaves or opens: an OTLP endpoint or Prometheus metrics.
    pub fn has_exporter(&self) -> bool {
        !self.endpoint.is_empty() || self.enable_prometheus_metrics_path
    }
}

go_struct_field!(TelemetryConfig => |pairs| {
    sampling_rate_to_text(pairs);
});

/// Old files have the sampling rate as a number. Says whether it was one.
pub(super) fn sampling_rate_to_text(pairs: &mut [(JsonString, Json)]) -> bool {
    let mut changed = false;
    for (key, value) in pairs {
        if same_key(key, "samplingRate")
            && let Json::Number(number) = value
        {
            *value = number.as_str().into();
            changed = true;
        }
    }
    changed
}
