//! From a challenge to an `Authorization` header.

use reqwest::StatusCode;
use serde::Deserialize;
use thv_core::RegistryCredentials as Credentials;
use url::Url;
use url::form_urlencoded;

use crate::client::Fault;
use crate::client::challenge::{Challenge, is_loopback, is_own_realm};
use crate::client::transport::{Transport, bounded, retry_after};

/// More is no token.
const MAX_ANSWER: usize = 64 << 10;
const CLIENT_ID: &str = "thv";

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// An `Authorization` header. Not for `Debug`.
#[derive(Clone)]
pub(crate) struct Authorization {
    pub(crate) header: String,
    /// Whether the registry, or its token service, was shown credentials for it.
    pub(crate) with_credentials: bool,
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authorization")
    }
}

/// Does what `header` asks for, to read `repository` of `registry`, which was asked at `base`.
pub(crate) async fn authorize(
    transport: &Transport,
    header: &str,
    base: &Url,
    registry: &str,
    repository: &str,
) -> Result<Authorization, Fault> {
    let refuse = |detail: &str| Fault::Unauthorized(detail.to_owned());
    let challenge = Challenge::parse(header).map_err(refuse)?;
    let known = transport.credentials().find(registry).await;
    let (realm, service) = match challenge {
        Challenge::Basic => {
            let Some(Credentials::Password { user, password }) = known else {
                return Err(refuse("it wants credentials, and none are known"));
            };
            return Ok(Authorization {
                header: basic(&user, &password),
                with_credentials: true,
            });
        }
        Challenge::Bearer { realm, service } => (realm, service),
    };
    if is_loopback(&realm) && !is_loopback(base) {
        return Err(refuse("its challenge points to this machine"));
    }
    let known = known.filter(|_| {
        let own = is_own_realm(base, &realm);
        if !own {
            tracing::warn!(
                registry,
                realm = realm.host_str(),
                "the registry's challenge names a stranger, who is not shown its credentials"
            );
        }
        own
    });
    let scope = format!("repository:{repository}:pull");
    let service = service.unwrap_or_default();
    let request = if let Some(Credentials::Identity(token)) = &known {
        let form: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", &service)
            .append_pair("scope", &scope)
            .append_pair("client_id", CLIENT_ID)
            .append_pair("refresh_token", token)
            .finish();
        transport
            .client_for(&realm)?
            .post(realm)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
    } else {
        let mut url = realm;
        url.query_pairs_mut()
            .append_pair("service", &service)
            .append_pair("scope", &scope);
        let request = transport.client_for(&url)?.get(url);
        if let Some(Credentials::Password { user, password }) = &known {
            request.header("authorization", basic(user, password))
        } else {
            request
        }
    };
    let response = transport.send(request).await?;
    let status = response.status();
    let answered = || format!("its token service answers with status {}", status.as_u16());
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Err(Fault::RateLimited {
            retry_after: retry_after(&response),
            detail: answered(),
        });
    }
    if status.is_server_error() {
        return Err(Fault::Unavailable(answered()));
    }
    let body = bounded(response, MAX_ANSWER).await?;
    if !status.is_success() {
        let whom = if known.is_some() {
            "the known credentials"
        } else {
            "somebody without credentials"
        };
        return Err(Fault::Unauthorized(format!(
            "its token service refuses {whom} (status {})",
            status.as_u16()
        )));
    }
    let Answer { token, access_token } =
        serde_json::from_slice(&body).map_err(|_| Fault::Bad("its token service gives no token".into()))?;
    let token = if token.is_empty() { access_token } else { token };
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Fault::Bad("its token service gives no token".into()));
    }
    Ok(Authorization {
        header: format!("Bearer {token}"),
        with_credentials: known.is_some(),
    })
}

fn basic(user: &str, password: &str) -> String {
    use sigstore_verify::types::SignatureBytes;
    let pair = SignatureBytes::from_bytes(format!("{user}:{password}").as_bytes());
    format!("Basic {}", pair.to_base64())
}
