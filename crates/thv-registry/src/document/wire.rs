//! The shapes of the upstream format, as far as anything is read of them. `null` means absent everywhere, as in Go.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, IgnoredAny};
use serde_json::value::RawValue;
use thv_core::PermissionProfile;

use crate::RawJson;

/// A value, or its default where `null` stands.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

macro_rules! wire {
    ($( $(#[$meta:meta])* $name:ident { $( $(#[$field_meta:meta])* $field:ident : $ty:ty, )* } )*) => {$(
        #[derive(Debug, Default, serde::Deserialize)]
        $(#[$meta])*
        pub(super) struct $name {
            $( #[serde(default, deserialize_with = "or_default")] $(#[$field_meta])* pub(super) $field: $ty, )*
        }
    )*};
}

/// The whole document; the servers are read one by one, so that one that is wrong does not hide the others.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Document<'a> {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) version: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) meta: DocumentMeta,
    #[serde(default, borrow)]
    pub(super) data: Option<Data<'a>>,
    #[serde(default)]
    pub(super) servers: Option<IgnoredAny>,
    #[serde(default)]
    pub(super) remote_servers: Option<IgnoredAny>,
    #[serde(default)]
    pub(super) groups: Option<IgnoredAny>,
}

#[derive(Debug, serde::Deserialize)]
pub(super) struct Data<'a> {
    #[serde(default, borrow)]
    pub(super) servers: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    pub(super) skills: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    pub(super) plugins: Option<Vec<IgnoredAny>>,
}

wire! {
    DocumentMeta {
        last_updated: String,
    }

    /// A `server.json`.
    #[serde(rename_all = "camelCase")]
    Server {
        name: String,
        description: String,
        title: String,
        repository: Repository,
        version: String,
        packages: Vec<Package>,
        remotes: Vec<Remote>,
        #[serde(rename = "_meta")]
        meta: Meta,
    }

    Named {
        name: String,
    }

    Repository {
        url: String,
    }

    #[serde(rename_all = "camelCase")]
    Package {
        registry_type: String,
        identifier: String,
        transport: Transport,
        runtime_arguments: Vec<Argument>,
        #[serde(rename = "packageArguments")]
        server_arguments: Vec<Argument>,
        environment_variables: Vec<KeyValue>,
    }

    Transport {
        #[serde(rename = "type")]
        kind: String,
        url: String,
    }

    /// An argument; named ones have a name.
    #[serde(rename_all = "camelCase")]
    Argument {
        #[serde(rename = "type")]
        kind: String,
        name: String,
        value: String,
        default: String,
        description: String,
        is_required: bool,
        variables: BTreeMap<String, KeyValue>,
    }

    /// A variable, or a header.
    #[serde(rename_all = "camelCase")]
    KeyValue {
        name: String,
        description: String,
        is_required: bool,
        is_secret: bool,
        default: String,
        choices: Vec<String>,
    }

    Remote {
        #[serde(rename = "type")]
        kind: String,
        url: String,
        headers: Vec<KeyValue>,
    }

    Meta {
        #[serde(rename = "io.modelcontextprotocol.registry/publisher-provided")]
        publisher: Publisher,
    }

    Publisher {
        #[serde(rename = "io.github.stacklok")]
        extensions: BTreeMap<String, Extension>,
    }

    /// What ToolHive adds, by image or URL. Its keys are in snake case.
    Extension {
        status: String,
        tier: String,
        tools: Option<Vec<String>>,
        tags: Vec<String>,
        overview: String,
        metadata: Option<Metadata>,
        custom_metadata: Option<RawJson>,
        permissions: Option<PermissionProfile>,
        args: Vec<String>,
        provenance: Option<Provenance>,
        docker_tags: Vec<String>,
        proxy_port: u16,
        stateless: bool,
        oauth_config: Option<OAuthConfig>,
        env_vars: Vec<EnvVar>,
        tool_definitions: Option<RawJson>,
    }

    Metadata {
        stars: i64,
        last_updated: String,
        kubernetes: Option<RawJson>,
    }

    Provenance {
        sigstore_url: String,
        repository_uri: String,
        repository_ref: String,
        signer_identity: String,
        runner_environment: String,
        cert_issuer: String,
        attestation: Option<Attestation>,
    }

    Attestation {
        predicate_type: String,
        predicate: Option<RawJson>,
    }

    OAuthConfig {
        issuer: String,
        authorize_url: String,
        token_url: String,
        client_id: String,
        scopes: Vec<String>,
        use_pkce: Option<bool>,
        oauth_params: BTreeMap<String, String>,
        callback_port: u16,
        resource: String,
    }

    EnvVar {
        name: String,
        description: String,
        required: bool,
        default: String,
        secret: bool,
    }
}
