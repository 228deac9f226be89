//! What a registry says of one MCP server.

use std::collections::BTreeMap;

use thv_core::{EnvVarSpec, HeaderSpec, PermissionProfile, TransportType};

use crate::RawJson;

/// A server of a registry.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "an entry lives behind an `Arc`")]
pub enum Entry {
    /// A server that is run from an image.
    Image(ImageEntry),
    /// A server that runs elsewhere.
    Remote(RemoteEntry),
}

/// What all entries have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EntryInfo {
    /// The full name, `namespace/name` as a rule. It is made of letters, digits, `.`, `_`, `-` and `/` only.
    pub name: String,
    /// A name for people.
    pub title: String,
    /// What the server is for.
    pub description: String,
    /// `Official` or `Community`.
    pub tier: String,
    /// `Active` or `Deprecated`.
    pub status: String,
    /// The version of the description itself, which is not the version of the image.
    pub version: String,
    /// How the server is spoken to.
    pub transport: TransportType,
    /// Whether the server keeps no sessions.
    pub stateless: bool,
    /// The names of its tools; `None` where the entry does not say.
    pub tools: Option<Vec<String>>,
    /// How known it is.
    pub metadata: Option<Metadata>,
    /// Where its source is.
    pub repository_url: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// A longer text, in Markdown.
    pub overview: String,
    /// Its tools with their schemas, as MCP lists them.
    pub tool_definitions: Option<RawJson>,
    /// What the publisher says besides.
    pub custom_metadata: Option<RawJson>,
}

/// A server that is run from an image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageEntry {
    /// What all entries have.
    pub info: EntryInfo,
    /// The image reference; never a program, a package or a URL.
    pub image: String,
    /// The server's port; 0 where the entry does not say.
    pub target_port: u16,
    /// The proxy's port that the publisher would like; 0 for none.
    pub proxy_port: u16,
    /// What the server may do; `None` where the entry does not say.
    pub permissions: Option<PermissionProfile>,
    /// The variables that the server reads.
    pub env_vars: Vec<EnvVarSpec>,
    /// Its arguments when the user gives none.
    pub args: Vec<String>,
    /// Other tags of the image.
    pub docker_tags: Vec<String>,
    /// Who built the image.
    pub provenance: Option<Provenance>,
}

/// A server that runs elsewhere.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RemoteEntry {
    /// What all entries have.
    pub info: EntryInfo,
    /// Its URL, `http` or `https`.
    pub url: String,
    /// The proxy's port that the publisher would like; 0 for none.
    pub proxy_port: u16,
    /// The headers that the server reads.
    pub headers: Vec<HeaderSpec>,
    /// How to log in to it.
    pub oauth_config: Option<OAuthConfig>,
    /// The variables that an entry declares for its proxy.
    pub env_vars: Vec<EnvVarSpec>,
}

/// How known a server is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    /// Stars of its repository.
    pub stars: i64,
    /// When this was counted.
    pub last_updated: String,
    /// Where it runs in a cluster.
    pub kubernetes: Option<RawJson>,
}

/// Who built an image, as its signature has to say. What is empty is not compared.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Provenance {
    /// The host of the trust root; empty means the public one, `tuf-repo-cdn.sigstore.dev`.
    pub sigstore_url: String,
    /// The repository that the image was built from.
    pub repository_uri: String,
    /// The branch or tag, `refs/tags/v1` for example.
    pub repository_ref: String,
    /// The workflow's path in the repository (`/.github/workflows/release.yml`), or the whole identity.
    pub signer_identity: String,
    /// `github-hosted` or `self-hosted`.
    pub runner_environment: String,
    /// Who issued the identity.
    pub cert_issuer: String,
    /// A statement that the signature has to carry.
    pub attestation: Option<Attestation>,
}

/// A statement about an image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attestation {
    /// The type of the predicate.
    pub predicate_type: String,
    /// The predicate.
    pub predicate: Option<RawJson>,
}

/// How to log in to a remote server.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OAuthConfig {
    /// The issuer, where it is not discovered.
    pub issuer: String,
    /// The authorization endpoint, where it is not discovered.
    pub authorize_url: String,
    /// The token endpoint, where it is not discovered.
    pub token_url: String,
    /// The client id.
    pub client_id: String,
    /// Scopes to ask for.
    pub scopes: Vec<String>,
    /// Whether to use PKCE; the default is yes.
    pub use_pkce: Option<bool>,
    /// Further parameters of the authorization request.
    pub oauth_params: BTreeMap<String, String>,
    /// The local port of the redirect address; 0 for the default.
    pub callback_port: u16,
    /// The resource indicator.
    pub resource: String,
}

impl Entry {
    /// What all entries have.
    pub fn info(&self) -> &EntryInfo {
        match self {
            Self::Image(entry) => &entry.info,
            Self::Remote(entry) => &entry.info,
        }
    }

    /// The full name.
    pub fn name(&self) -> &str {
        &self.info().name
    }

    /// The image entry, if it is one.
    pub fn as_image(&self) -> Option<&ImageEntry> {
        match self {
            Self::Image(entry) => Some(entry),
            Self::Remote(_) => None,
        }
    }

    /// The remote entry, if it is one.
    pub fn as_remote(&self) -> Option<&RemoteEntry> {
        match self {
            Self::Remote(entry) => Some(entry),
            Self::Image(_) => None,
        }
    }

    /// The variables that it declares.
    pub fn env_vars(&self) -> &[EnvVarSpec] {
        match self {
            Self::Image(entry) => &entry.env_vars,
            Self::Remote(entry) => &entry.env_vars,
        }
    }

    /// Whether name, description or a tag contains `query`, without regard to case.
    pub fn matches(&self, query: &str) -> bool {
        let query = query.to_lowercase();
        let info = self.info();
        let contains = |text: &str| text.to_lowercase().contains(&query);
        contains(&info.name) || contains(&info.description) || info.tags.iter().any(|tag| contains(tag))
    }
}
