//! Entries as ToolHive's commands and HTTP API show them: its internal model, keys in its order.

use thv_core::{EnvVarSpec, Json};

use crate::{Entry, EntryInfo, ImageEntry, Metadata, OAuthConfig, Provenance, RawJson, RemoteEntry};

impl Entry {
    /// The entry in ToolHive's internal model.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Image(entry) => image(entry),
            Self::Remote(entry) => remote(entry),
        }
    }
}

/// An object that grows key by key; the methods that end in `oe` leave out what is empty.
#[derive(Default)]
struct Object(Vec<(String, Json)>);

impl Object {
    fn with(mut self, key: &str, value: impl Into<Json>) -> Self {
        self.0.push((key.to_owned(), value.into()));
        self
    }

    fn text_oe(self, key: &str, text: &str) -> Self {
        if text.is_empty() {
            self
        } else {
            self.with(key, text)
        }
    }

    fn switch_oe(self, key: &str, on: bool) -> Self {
        if on { self.with(key, true) } else { self }
    }

    fn number_oe(self, key: &str, number: i64) -> Self {
        if number == 0 { self } else { self.with(key, number) }
    }

    fn texts_oe(self, key: &str, texts: &[String]) -> Self {
        if texts.is_empty() {
            self
        } else {
            self.with(key, list(texts))
        }
    }

    fn some(self, key: &str, value: Option<Json>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    fn items_oe<T>(self, key: &str, items: &[T], item: impl Fn(&T) -> Json) -> Self {
        if items.is_empty() {
            return self;
        }
        self.with(key, items.iter().map(item).collect::<Json>())
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        object.0.into_iter().collect()
    }
}

fn list(texts: &[String]) -> Json {
    texts.iter().map(|text| Json::from(text.as_str())).collect()
}

fn raw(value: Option<&RawJson>) -> Option<Json> {
    value.map(RawJson::json)
}

fn base(info: &EntryInfo) -> Object {
    let tools = info.tools.as_deref().map_or(Json::Null, list);
    Object::default()
        .text_oe("name", &info.name)
        .text_oe("title", &info.title)
        .with("description", info.description.as_str())
        .with("tier", info.tier.as_str())
        .with("status", info.status.as_str())
        .with("transport", info.transport.as_str())
        .switch_oe("stateless", info.stateless)
        .with("tools", tools)
        .some("metadata", info.metadata.as_ref().map(metadata))
        .text_oe("repository_url", &info.repository_url)
        .texts_oe("tags", &info.tags)
        .text_oe("overview", &info.overview)
        .some("tool_definitions", raw(info.tool_definitions.as_ref()))
        .some("custom_metadata", raw(info.custom_metadata.as_ref()))
}

fn image(entry: &ImageEntry) -> Json {
    let permissions = entry.permissions.as_ref().map(|profile| {
        // A profile that was read can be written and read again.
        Json::parse(profile.to_json().as_bytes()).unwrap_or_default()
    });
    base(&entry.info)
        .with("image", entry.image.as_str())
        .number_oe("target_port", entry.target_port.into())
        .number_oe("proxy_port", entry.proxy_port.into())
        .some("permissions", permissions)
        .items_oe("env_vars", &entry.env_vars, variable)
        .texts_oe("args", &entry.args)
        .texts_oe("docker_tags", &entry.docker_tags)
        .some("provenance", entry.provenance.as_ref().map(provenance))
        .into()
}

fn remote(entry: &RemoteEntry) -> Json {
    base(&entry.info)
        .with("url", entry.url.as_str())
        .number_oe("proxy_port", entry.proxy_port.into())
        .items_oe("headers", &entry.headers, |header| {
            declared(
                &header.name,
                &header.description,
                header.required,
                &header.default,
                header.secret,
            )
            .texts_oe("choices", &header.choices)
            .into()
        })
        .some("oauth_config", entry.oauth_config.as_ref().map(oauth))
        .items_oe("env_vars", &entry.env_vars, variable)
        .into()
}

fn variable(variable: &EnvVarSpec) -> Json {
    let (name, description) = (&variable.name, &variable.description);
    declared(
        name,
        description,
        variable.required,
        &variable.default,
        variable.secret,
    )
    .into()
}

fn declared(name: &str, description: &str, required: bool, default: &str, secret: bool) -> Object {
    Object::default()
        .with("name", name)
        .with("description", description)
        .with("required", required)
        .text_oe("default", default)
        .switch_oe("secret", secret)
}

fn metadata(found: &Metadata) -> Json {
    Object::default()
        .number_oe("stars", found.stars)
        .text_oe("last_updated", &found.last_updated)
        .some("kubernetes", raw(found.kubernetes.as_ref()))
        .into()
}

fn provenance(found: &Provenance) -> Json {
    let attestation = found.attestation.as_ref().map(|attestation| {
        Object::default()
            .text_oe("predicate_type", &attestation.predicate_type)
            .some("predicate", raw(attestation.predicate.as_ref()))
            .into()
    });
    Object::default()
        .with("sigstore_url", found.sigstore_url.as_str())
        .with("repository_uri", found.repository_uri.as_str())
        .text_oe("repository_ref", &found.repository_ref)
        .with("signer_identity", found.signer_identity.as_str())
        .with("runner_environment", found.runner_environment.as_str())
        .with("cert_issuer", found.cert_issuer.as_str())
        .some("attestation", attestation)
        .into()
}

fn oauth(found: &OAuthConfig) -> Json {
    let parameters: Vec<(String, Json)> = found
        .oauth_params
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().into()))
        .collect();
    let parameters = (!parameters.is_empty()).then(|| parameters.into_iter().collect());
    Object::default()
        .text_oe("issuer", &found.issuer)
        .text_oe("authorize_url", &found.authorize_url)
        .text_oe("token_url", &found.token_url)
        .text_oe("client_id", &found.client_id)
        .texts_oe("scopes", &found.scopes)
        .switch_oe("use_pkce", found.use_pkce.unwrap_or_default())
        .some("oauth_params", parameters)
        .number_oe("callback_port", found.callback_port.into())
        .text_oe("resource", &found.resource)
        .into()
}
