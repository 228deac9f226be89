//! A document elsewhere.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thv_core::Env;
use url::Url;

use crate::net::{Client, Limits, Rules};
use crate::{Accept, Catalogue, MAX_DOCUMENT_BYTES, Registry, Result, Source, parse_document};

/// How long a document may take.
const TIME: Duration = Duration::from_secs(30);

/// A registry document behind a URL, which is fetched anew for each question.
#[derive(Debug)]
pub struct UrlRegistry {
    source: Source,
    url: Url,
    accept: Accept,
    client: Client,
}

impl UrlRegistry {
    /// The document at `url`. Nothing is asked yet. Proxies are those of `env`.
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) and [`Denied`](crate::Error::Denied).
    pub fn new(url: &str, allow_private: bool, env: &Env) -> Result<Self> {
        let rules = Rules { allow_private };
        Ok(Self {
            source: Source::Url(url.to_owned()),
            url: rules.read(url)?,
            accept: Accept {
                plain_http: allow_private,
            },
            client: Client::new(rules, env),
        })
    }
}

#[async_trait]
impl Registry for UrlRegistry {
    fn source(&self) -> &Source {
        &self.source
    }

    async fn catalogue(&self) -> Result<Arc<Catalogue>> {
        let limits = Limits {
            time: TIME,
            bytes: MAX_DOCUMENT_BYTES,
        };
        let bytes = self.client.document(&self.url, limits).await?;
        parse_document(&bytes, &self.source.to_string(), self.accept).map(Arc::new)
    }
}
