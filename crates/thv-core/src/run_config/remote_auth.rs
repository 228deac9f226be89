//! `remote_auth_config`: how the proxy logs in to a remote server.

use std::collections::BTreeMap;
use std::fmt;

use crate::gojson::{GoDuration, GoTime, Json, JsonString, same_key};
use crate::record::{go_struct, go_struct_field};

go_struct! {
    /// How the proxy of a remote workload authenticates, and what it remembers from the last time.
    ///
    /// References to secrets have the form `<secret>,target=<use>`; see [`SecretReference`](crate::SecretReference).
    pub struct RemoteAuthConfig {
        /// OAuth client id.
        client_id: String = "client_id";
        /// OAuth client secret: a reference, or (in files that need migration) the secret itself.
        client_secret: String = "client_secret" [secret];
        /// File with the client secret.
        client_secret_file: String = "client_secret_file";
        /// Scopes to ask for.
        scopes: Vec<String> = "scopes";
        /// Print the login address instead of opening a browser.
        skip_browser: bool = "skip_browser";
        /// How long to wait for the login, as nanoseconds in the file.
        timeout: GoDuration = "timeout";
        /// Local port of the redirect address.
        callback_port: u16 = "callback_port";
        /// Whether to use PKCE; always written.
        use_pkce: bool = "use_pkce" [always];
        /// Resource indicator (RFC 8707).
        resource: String = "resource" [url];
        /// Issuer, where it is not discovered.
        issuer: String = "issuer" [url];
        /// Authorization endpoint, where it is not discovered.
        authorize_url: String = "authorize_url" [url];
        /// Token endpoint, where it is not discovered.
        token_url: String = "token_url" [url];
        /// Headers that the registry entry declares.
        headers: Vec<HeaderSpec> = "headers";
        /// Environment variables that the registry entry declares.
        env_vars: Vec<EnvVarSpec> = "env_vars";
        /// Further parameters of the authorization request.
        oauth_params: BTreeMap<String, String> = "oauth_params" [secret];
        /// Name of the scope parameter, where it is not `scope`.
        scope_param_name: String = "scope_param_name";
        /// Static bearer token: a reference, or (in files that need migration) the token itself.
        bearer_token: String = "bearer_token" [secret];
        /// File with the bearer token.
        bearer_token_file: String = "bearer_token_file";
        /// Secret that holds the refresh token of the last login.
        cached_refresh_token_ref: String = "cached_refresh_token_ref";
        /// When the cached access token ends; always written.
        cached_token_expiry: GoTime = "cached_token_expiry" [always];
        /// Client id from dynamic registration.
        cached_client_id: String = "cached_client_id";
        /// Secret that holds the client secret from dynamic registration.
        cached_client_secret_ref: String = "cached_client_secret_ref";
        /// When that client secret ends; always written.
        cached_secret_expiry: GoTime = "cached_secret_expiry" [always];
        /// Secret that holds the registration access token.
        cached_reg_token_ref: String = "cached_reg_token_ref";
        /// Client id metadata document that was accepted.
        cached_cimd_client_id: String = "cached_cimd_client_id";
        /// Address for managing the dynamic registration.
        cached_reg_client_uri: String = "cached_reg_client_uri" [url];
        /// How the token endpoint wants the client to authenticate.
        cached_token_auth_method: String = "cached_token_auth_method";
        /// Callback port that was registered.
        cached_dcr_callback_port: u16 = "cached_dcr_callback_port";
    }
}

/// The callback port that the builder of run configurations fills in.
pub const DEFAULT_CALLBACK_PORT: u16 = 8666;

/// The keys of old files, and what they are called now.
const LEGACY_KEYS: &[(&str, &str)] = &[
    ("ClientID", "client_id"),
    ("ClientSecret", "client_secret"),
    ("ClientSecretFile", "client_secret_file"),
    ("Scopes", "scopes"),
    ("SkipBrowser", "skip_browser"),
    ("Timeout", "timeout"),
    ("CallbackPort", "callback_port"),
    ("UsePKCE", "use_pkce"),
    ("Issuer", "issuer"),
    ("AuthorizeURL", "authorize_url"),
    ("TokenURL", "token_url"),
    ("Headers", "headers"),
    ("EnvVars", "env_vars"),
    ("OAuthParams", "oauth_params"),
    ("BearerToken", "bearer_token"),
    ("BearerTokenFile", "bearer_token_file"),
];

impl RemoteAuthConfig {
    /// Whether it changes nothing: at most the callback port that the builder fills in by itself.
    pub fn is_without_effect(&self) -> bool {
        let mut rest = self.clone();
        if rest.callback_port == DEFAULT_CALLBACK_PORT {
            rest.callback_port = 0;
        }
        rest.is_default()
    }
}

go_struct_field!(RemoteAuthConfig => read_legacy_keys);

/// In an old object the new spellings mean nothing, and would come to life if they were written again.
fn read_legacy_keys(pairs: &mut Vec<(JsonString, Json)>) {
    if !pairs.iter().any(|(key, _)| *key == *"ClientID") {
        return;
    }
    pairs.retain(|(key, _)| {
        legacy_key(key).is_some() || !RemoteAuthConfig::KEYS.iter().any(|new| same_key(key, new))
    });
    for (key, _) in pairs {
        if let Some(new) = legacy_key(key) {
            *key = new.into();
        }
    }
}

fn legacy_key(key: &str) -> Option<&'static str> {
    LEGACY_KEYS
        .iter()
        .find(|(old, _)| same_key(key, old))
        .map(|(_, new)| *new)
}

go_struct! {
    /// A header that a registry entry declares for a remote server.
    pub struct HeaderSpec {
        /// Name of the header.
        name: String = "name" [always];
        /// What it is for.
        description: String = "description" [always];
        /// Whether the server needs it.
        required: bool = "required" [always];
        /// The value when none is given.
        default: String = "default" [secret];
        /// Whether its value is a secret.
        secret: bool = "secret";
        /// The values that it can have.
        choices: Vec<String> = "choices";
    }
}

go_struct! {
    /// An environment variable that a registry entry declares.
    pub struct EnvVarSpec {
        /// Name of the variable.
        name: String = "name" [always];
        /// What it is for.
        description: String = "description" [always];
        /// Whether the server needs it.
        required: bool = "required" [always];
        /// The value when none is given.
        default: String = "default" [secret];
        /// Whether its value is a secret.
        secret: bool = "secret";
    }
}

go_struct_field!(HeaderSpec, EnvVarSpec);

/// A credential of `remote_auth_config` that is written in the file itself instead of being referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PlainTextSecret {
    /// `client_secret`.
    ClientSecret,
    /// `bearer_token`.
    BearerToken,
}

impl PlainTextSecret {
    /// The key that holds it, for messages.
    pub fn key(self) -> &'static str {
        match self {
            Self::ClientSecret => "remote_auth_config.client_secret",
            Self::BearerToken => "remote_auth_config.bearer_token",
        }
    }

    /// The name under which a secret store keeps it for `workload`.
    pub fn secret_name(self, workload: &str) -> String {
        match self {
            Self::ClientSecret => format!("OAUTH_CLIENT_SECRET_{workload}"),
            Self::BearerToken => format!("BEARER_TOKEN_{workload}"),
        }
    }

    /// The target of the reference that takes its place.
    pub fn target(self) -> &'static str {
        match self {
            Self::ClientSecret => "oauth_secret",
            Self::BearerToken => "bearer_token",
        }
    }
}

impl fmt::Display for PlainTextSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}
