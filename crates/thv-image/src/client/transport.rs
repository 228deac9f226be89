//! Requests to a registry: with or without TLS, with or without a token, never more than asked for.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::{Client, NoProxy, Proxy, RequestBuilder, Response, StatusCode, redirect};
use url::Url;

use crate::Reference;
use crate::client::challenge::is_loopback;
use crate::client::credentials::CredentialSource;
use crate::client::tokens::{Authorization, authorize};
use crate::client::{ClientConfig, Fault};
use crate::error::short;

const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Where Docker's own registry is reached.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");
const MAX_REDIRECTS: usize = 5;
/// Tokens of so many repositories are remembered.
const MAX_TOKENS: usize = 64;

#[derive(Debug)]
pub(crate) struct Transport {
    config: ClientConfig,
    credentials: CredentialSource,
    clients: OnceLock<Result<Clients, String>>,
    tokens: Mutex<BTreeMap<String, Authorization>>,
    /// Registries without TLS that turned out to have it.
    secure: Mutex<Vec<String>>,
}

#[derive(Debug)]
struct Clients {
    /// With TLS, and through the environment's proxies.
    usual: Client,
    /// To this machine.
    direct: Client,
}

impl Transport {
    pub(crate) fn new(config: ClientConfig) -> Self {
        Self {
            credentials: CredentialSource::new(config.clone()),
            config,
            clients: OnceLock::new(),
            tokens: Mutex::default(),
            secure: Mutex::default(),
        }
    }

    /// Where the credentials of registries are.
    pub(crate) fn credentials(&self) -> &CredentialSource {
        &self.credentials
    }

    /// The client for what is at `url`. Made at the first use: it reads the system's certificates.
    pub(crate) fn client_for(&self, url: &Url) -> Result<&Client, Fault> {
        let clients = self.clients.get_or_init(|| build(&self.config));
        let clients = clients
            .as_ref()
            .map_err(|detail| Fault::Unusable(detail.clone()))?;
        let direct = url.scheme() == "http" && is_loopback(url);
        Ok(if direct { &clients.direct } else { &clients.usual })
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Fault> {
        request
            .timeout(self.config.timeout)
            .send()
            .await
            .map_err(|error| {
                if error.is_timeout() {
                    Fault::TimedOut(self.config.timeout)
                } else {
                    Fault::Unavailable(causes(&error.without_url()))
                }
            })
    }

    /// What `path` of the repository of `image` has, in at most `limit` bytes, and the digest that its header claims.
    pub(crate) async fn get(
        &self,
        image: &Reference,
        path: &str,
        accept: &str,
        limit: usize,
    ) -> Result<Answer, Fault> {
        let registry = image.registry();
        let insecure = self.may_be_plain(registry) && !lock(&self.secure).iter().any(|it| it == registry);
        let scheme = if insecure { "http" } else { "https" };
        let base = base(scheme, registry)?;
        let answer = self.get_at(&base, image, path, accept, limit).await;
        if insecure
            && answer
                .as_ref()
                .is_ok_and(|answer| answer.status == StatusCode::BAD_REQUEST)
        {
            // This is how servers with TLS answer a client without.
            let secure = crate::client::transport::base("https", registry)?;
            match self.get_at(&secure, image, path, accept, limit).await {
                Ok(answer) => {
                    lock(&self.secure).push(registry.to_owned());
                    return answer.checked();
                }
                Err(Fault::Unavailable(detail)) if detail.contains("certificate") => {
                    return Err(Fault::Bad(format!("it cannot be trusted: {detail}")));
                }
                // It speaks without, and does not like the question.
                Err(_) => {}
            }
        }
        answer?.checked()
    }

    async fn get_at(
        &self,
        base: &Url,
        image: &Reference,
        path: &str,
        accept: &str,
        limit: usize,
    ) -> Result<Answer, Fault> {
        let repository = image.repository();
        let url = base
            .join(&format!("/v2/{repository}/{path}"))
            .map_err(|_| Fault::Unusable("its registry gives no URL".into()))?;
        let key = image.name();
        let token = lock(&self.tokens).get(&key).cloned();
        let mut response = self.get_once(url.clone(), accept, token.as_ref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenges = response.headers().get_all("www-authenticate");
            // The last one that can be followed: servers name the strongest last or alone.
            let header = challenges
                .iter()
                .filter_map(|value| value.to_str().ok())
                .find(|value| value.len() >= 6 && value[..6].eq_ignore_ascii_case("bearer"))
                .or_else(|| challenges.iter().find_map(|value| value.to_str().ok()))
                .ok_or_else(|| Fault::Unauthorized("it does not say what it wants".into()))?
                .to_owned();
            let token = authorize(self, &header, base, image.registry(), repository).await?;
            {
                let mut tokens = lock(&self.tokens);
                if tokens.len() >= MAX_TOKENS {
                    tokens.clear();
                }
                tokens.insert(key, token.clone());
            }
            response = self.get_once(url.clone(), accept, Some(&token)).await?;
        }
        for _ in 0..MAX_REDIRECTS {
            if !response.status().is_redirection() {
                break;
            }
            response = self.follow(&url, response, accept).await?;
        }
        let status = response.status();
        let retry_after = retry_after(&response);
        let claimed = response
            .headers()
            .get("docker-content-digest")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let limit = if status.is_success() { limit } else { MAX_ERROR };
        let body = match bounded(response, limit).await {
            Err(Fault::Bad(_)) if !status.is_success() => Vec::new(),
            other => other?,
        };
        Ok(Answer {
            status,
            retry_after,
            claimed,
            body,
        })
    }

    async fn get_once(
        &self,
        url: Url,
        accept: &str,
        token: Option<&Authorization>,
    ) -> Result<Response, Fault> {
        let mut request = self.client_for(&url)?.get(url).header("accept", accept);
        if let Some(token) = token {
            request = request.header("authorization", &token.header);
        }
        self.send(request).await
    }

    /// Blobs are often elsewhere. Nobody else gets the token, and nothing goes from TLS to none, or to this machine.
    async fn follow(&self, from: &Url, response: Response, accept: &str) -> Result<Response, Fault> {
        let target = response
            .headers()
            .get("location")
            .and_then(|value| value.to_str().ok())
            .and_then(|location| response.url().join(location).ok())
            .ok_or_else(|| Fault::Bad("it redirects to nowhere".into()))?;
        let plain =
            target.scheme() == "http" && from.scheme() == "http" && is_loopback(from) == is_loopback(&target);
        let secure = target.scheme() == "https" && (is_loopback(from) || !is_loopback(&target));
        if !plain && !secure {
            return Err(Fault::Bad("it redirects to where it may not".into()));
        }
        self.get_once(target, accept, None).await
    }

    /// Whether `image` is read with credentials; `None`: it was not asked for yet.
    pub(crate) fn with_credentials(&self, image: &Reference) -> Option<bool> {
        let tokens = lock(&self.tokens);
        tokens.get(&image.name()).map(|token| token.with_credentials)
    }

    fn may_be_plain(&self, registry: &str) -> bool {
        self.config.insecure.iter().any(|host| host == registry)
            || base("http", registry).is_ok_and(|url| is_loopback(&url))
    }
}

/// What a registry answered.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    /// What it says that the digest is.
    pub(crate) claimed: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn checked(self) -> Result<Self, Fault> {
        let status = self.status;
        match status {
            _ if status.is_success() => Ok(self),
            StatusCode::NOT_FOUND => Err(Fault::NotFound),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Fault::Unauthorized(format!(
                "status {} {}",
                status.as_u16(),
                self.reason()
            ))),
            StatusCode::TOO_MANY_REQUESTS => Err(Fault::RateLimited {
                retry_after: self.retry_after,
                detail: format!("status 429 {}", self.reason()),
            }),
            _ if status.is_server_error() => Err(Fault::Unavailable(format!(
                "status {} {}",
                status.as_u16(),
                self.reason()
            ))),
            _ => Err(Fault::Bad(format!(
                "status {} {}",
                status.as_u16(),
                self.reason()
            ))),
        }
    }

    fn reason(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        short(text.trim())
    }
}

const MAX_ERROR: usize = 4096;

/// How long a server wants to be left alone. Larger numbers are no seconds: some write a date in that form.
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_hours(7 * 24);
    let header = response.headers().get("retry-after")?.to_str().ok()?;
    let after = Duration::from_secs(header.trim().parse().ok()?);
    Some(after).filter(|after| *after <= LONGEST)
}

/// A body of at most `limit` bytes.
pub(crate) async fn bounded(mut response: Response, limit: usize) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| {
            if error.is_timeout() {
                Fault::Unavailable("it stopped in the middle of its answer".into())
            } else {
                Fault::Unavailable(causes(&error.without_url()))
            }
        })?;
        let Some(chunk) = chunk else { return Ok(body) };
        if body.len() + chunk.len() > limit {
            return Err(Fault::Bad(format!("its answer is larger than {limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
}

fn base(scheme: &str, registry: &str) -> Result<Url, Fault> {
    let host = if registry == DOCKER.0 { DOCKER.1 } else { registry };
    Url::parse(&format!("{scheme}://{host}"))
        .map_err(|_| Fault::Unusable(format!("\"{}\" is no host", short(registry))))
}

fn build(config: &ClientConfig) -> Result<Clients, String> {
    let builder = || {
        Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIME)
            .user_agent(concat!("thv/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
    };
    let mut usual = builder();
    if let Some(pem) = &config.ca_certificates {
        let certificates = reqwest::Certificate::from_pem_bundle(pem)
            .map_err(|error| format!("the CA certificates cannot be read: {error}"))?;
        usual = usual.tls_certs_merge(certificates);
    }
    let variable = |names: [&str; 2]| names.into_iter().find_map(|name| config.env.non_empty(name));
    let without = variable(["NO_PROXY", "no_proxy"]).and_then(NoProxy::from_string);
    let all = variable(["ALL_PROXY", "all_proxy"]);
    let proxies = [
        (variable(["HTTPS_PROXY", "https_proxy"]).or(all), true),
        (variable(["HTTP_PROXY", "http_proxy"]).or(all), false),
    ];
    for (address, secure) in proxies {
        let Some(address) = address else { continue };
        let proxy = if secure {
            Proxy::https(address)
        } else {
            Proxy::http(address)
        };
        // Not the error: it quotes the address, which may have a password.
        let proxy = proxy.map_err(|_| "a proxy variable of the environment is no URL".to_owned())?;
        usual = usual.proxy(proxy.no_proxy(without.clone()));
    }
    let made = |client: reqwest::Result<Client>| client.map_err(|error| causes(&error));
    Ok(Clients {
        usual: made(usual.build())?,
        direct: made(builder().tls_certs_only([]).build())?,
    })
}

/// An error with what caused it, on one line.
fn causes(error: &reqwest::Error) -> String {
    use std::error::Error as _;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    short(&text)
}

fn lock<T>(what: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
