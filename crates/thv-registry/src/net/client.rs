//! The HTTP client: bounded in time, in redirects and in what it takes.

use std::error::Error as StdError;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{NoProxy, Proxy, StatusCode};
use thv_core::Env;
use url::Url;

use super::Rules;
use super::resolve::{NoAddress, Resolver};
use super::rules::Refusal;
use crate::source::shown_url;
use crate::{Error, Result};

/// How long connecting, and each wait for more, may take.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 5;
/// How much of an error's body is passed on, in bytes.
const MAX_ERROR_BODY: usize = 4096;
const USER_AGENT: &str = concat!("thv/", env!("CARGO_PKG_VERSION"));

/// How much one question may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// From the question to the last byte of the answer.
    pub(crate) time: Duration,
    /// The answer's body.
    pub(crate) bytes: usize,
}

/// Asks URLs under the rules. The connection pool and the roots are made when something is asked for the first time.
#[derive(Debug)]
pub(crate) struct Client {
    rules: Rules,
    proxies: Proxies,
    made: OnceLock<reqwest::Client>,
}

/// An answer that came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) is_json: bool,
    pub(crate) body: Vec<u8>,
}

/// The variables of the environment that name proxies. `Debug` leaves them out: they may have credentials.
#[derive(Clone, Default)]
struct Proxies {
    https: Option<String>,
    http: Option<String>,
    none: Option<String>,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies").finish_non_exhaustive()
    }
}

impl Proxies {
    fn of(env: &Env) -> Self {
        let first = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| env.non_empty(name))
                .map(str::to_owned)
        };
        // `HTTP_PROXY` in capitals may be a header of a request to a CGI program.
        let http = if env.get("REQUEST_METHOD").is_some() {
            first(&["http_proxy", "all_proxy", "ALL_PROXY"])
        } else {
            first(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
        };
        Self {
            https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            http,
            none: first(&["no_proxy", "NO_PROXY"]),
        }
    }

    fn hosts(&self) -> Vec<String> {
        let both = [&self.https, &self.http];
        both.into_iter()
            .flatten()
            .filter_map(|text| {
                let url = Url::parse(text).ok().filter(Url::has_host);
                let url = url.or_else(|| Url::parse(&format!("http://{text}")).ok())?;
                url.host_str().map(str::to_owned)
            })
            .collect()
    }

    fn all(&self) -> reqwest::Result<Vec<Proxy>> {
        let excepted = || self.none.as_deref().and_then(NoProxy::from_string);
        let mut all = Vec::new();
        if let Some(url) = &self.https {
            all.push(Proxy::https(url)?.no_proxy(excepted()));
        }
        if let Some(url) = &self.http {
            all.push(Proxy::http(url)?.no_proxy(excepted()));
        }
        Ok(all)
    }
}

impl Client {
    /// A client with the proxies of `env`.
    pub(crate) fn new(rules: Rules, env: &Env) -> Self {
        Self {
            rules,
            proxies: Proxies::of(env),
            made: OnceLock::new(),
        }
    }

    /// Asks `url`, and gives whatever answer comes.
    pub(crate) async fn get(&self, url: &Url, limits: Limits) -> Result<Answer> {
        let place = shown_url(url.as_str());
        if let Some(refusal) = self.rules.refused(url) {
            return Err(refusal.of(place));
        }
        let request = self
            .client(&place)?
            .get(url.clone())
            .header(ACCEPT, "application/json")
            .timeout(limits.time);
        let response = request.send().await.map_err(|error| failed(&place, error))?;
        let (status, bound) = (response.status(), limits.bytes);
        let is_json = response
            .headers()
            .get(reqwest::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.to_ascii_lowercase().contains("json"));
        let bound = if status.is_success() {
            bound
        } else {
            MAX_ERROR_BODY
        };
        let body = body(response, bound, status.is_success(), &place).await?;
        Ok(Answer {
            status,
            is_json,
            body,
        })
    }

    /// Asks `url` for a document; any answer but success is an error.
    pub(crate) async fn document(&self, url: &Url, limits: Limits) -> Result<Vec<u8>> {
        let answer = self.get(url, limits).await?;
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::AuthRequired {
                place: shown_url(url.as_str()),
            }),
            status if status.is_success() => Ok(answer.body),
            _ => Err(answer.error(url)),
        }
    }

    fn client(&self, place: &str) -> Result<&reqwest::Client> {
        if let Some(client) = self.made.get() {
            return Ok(client);
        }
        let client = self.build().map_err(|error| Error::Unavailable {
            place: place.to_owned(),
            detail: "the HTTP client cannot be made".to_owned(),
            source: Some(error.into()),
        })?;
        Ok(self.made.get_or_init(|| client))
    }

    fn build(&self) -> reqwest::Result<reqwest::Client> {
        let rules = self.rules;
        let resolver = Resolver {
            rules,
            proxies: self.proxies.hosts(),
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(PATIENCE)
            .read_timeout(PATIENCE)
            .redirect(Policy::custom(move |attempt| redirected(attempt, rules)))
            .dns_resolver(resolver)
            .no_proxy();
        for proxy in self.proxies.all()? {
            builder = builder.proxy(proxy);
        }
        builder.build()
    }
}

impl Answer {
    /// What to say of an answer that is no success.
    pub(crate) fn error(&self, url: &Url) -> Error {
        let body: String = String::from_utf8_lossy(&self.body)
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        let status = self.status;
        let detail = match body.trim() {
            "" => format!("it answers {status}"),
            body => format!("it answers {status}: {body}"),
        };
        Error::unavailable(shown_url(url.as_str()), detail)
    }
}

fn redirected(attempt: Attempt<'_>, rules: Rules) -> Action {
    match refused_redirect(attempt.previous(), attempt.url(), rules) {
        Some(why) => attempt.error(NoAddress(why)),
        None => attempt.follow(),
    }
}

/// Why a redirect is not followed, if it is not: the same rules hold for where it leads, and never from TLS to none.
fn refused_redirect(before: &[Url], next: &Url, rules: Rules) -> Option<Refusal> {
    if before.len() > MAX_REDIRECTS {
        return Some(Refusal::always(format!("more than {MAX_REDIRECTS} redirects")));
    }
    if next.scheme() == "http" && before.last().is_some_and(|before| before.scheme() == "https") {
        return Some(Refusal::always("it redirects from https to plain http"));
    }
    rules.refused(next).map(|refusal| Refusal {
        detail: format!("it redirects elsewhere: {}", refusal.detail),
        ..refusal
    })
}

/// The body within its bound; of an error as much as is passed on.
async fn body(mut response: reqwest::Response, bound: usize, whole: bool, place: &str) -> Result<Vec<u8>> {
    let too_large = || {
        Error::too_large(
            place,
            format!("more than {bound} bytes, which is all that is read"),
        )
    };
    let announced = response.content_length().unwrap_or(0);
    if whole && announced > bound as u64 {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(place, error))? {
        let room = bound - body.len();
        if chunk.len() > room {
            if whole {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk[..room]);
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What failed, with the rule that it broke if it broke one.
fn failed(place: &str, error: reqwest::Error) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(NoAddress(why)) = inner.downcast_ref::<NoAddress>() {
            return why.clone().of(place.to_owned());
        }
        cause = inner.source();
    }
    let detail = if error.is_timeout() {
        "it does not answer in time"
    } else if error.is_connect() {
        "it cannot be connected to"
    } else {
        "the exchange broke off"
    };
    Error::Unavailable {
        place: place.to_owned(),
        detail: detail.to_owned(),
        // Its text has the URL, which may have credentials.
        source: Some(error.without_url().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_under_the_same_rules() {
        let url = |text: &str| Url::parse(text).unwrap();
        let strict = Rules { allow_private: false };
        let refused = |before: &str, next: &str, rules| refused_redirect(&[url(before)], &url(next), rules);
        assert_eq!(
            refused("https://a.example", "https://b.example/r.json", strict),
            None
        );
        for next in [
            "https://10.0.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::ffff:127.0.0.1]/",
            "http://b.example/",
            "file:///etc/passwd",
            "https://me:pw@b.example/",
        ] {
            assert!(refused("https://a.example", next, strict).is_some(), "{next}");
        }
        let lax = Rules { allow_private: true };
        assert_eq!(refused("http://a.example", "http://10.0.0.1/", lax), None);
        assert!(
            refused("https://a.example", "http://a.example/", lax).is_some(),
            "never from TLS to none"
        );
        let many = vec![url("https://a.example"); MAX_REDIRECTS + 1];
        assert!(refused_redirect(&many, &url("https://b.example"), strict).is_some());
    }

    #[test]
    fn proxies_come_from_the_environment_that_is_given() {
        let env = |vars: &[(&str, &str)]| Proxies::of(&Env::from_vars(vars.iter().copied()));
        assert!(env(&[]).hosts().is_empty());
        let both = env(&[
            ("HTTPS_PROXY", "http://me:pw@proxy.example:3128"),
            ("http_proxy", "10.0.0.1:80"),
        ]);
        assert_eq!(both.hosts(), ["proxy.example", "10.0.0.1"]);
        assert!(!format!("{both:?}").contains("pw"));
        assert_eq!(
            env(&[("ALL_PROXY", "http://p.example")]).hosts(),
            ["p.example", "p.example"]
        );
        let cgi = env(&[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil.example")]);
        assert!(cgi.hosts().is_empty());
    }
}
