//! MCP over HTTP: a stdio bridge, a reverse proxy and middleware as tower layers.
//!
//! A [`StdioBridge`] gives a server that speaks JSON-RPC lines to many clients at once; it knows nothing of where the
//! server's streams come from. A [`ReverseProxy`] does the same for a server that speaks HTTP. Both are ordinary tower
//! services and axum routers; [`serve`] runs them on a listener, behind a [`Front`] where their server comes and goes.
//!
//! ```
//! use thv_proxy::{BackendIo, BridgeConfig, ServeOptions, StdioBridge, serve};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut child = tokio::process::Command::new("my-mcp-server")
//!     .stdin(std::process::Stdio::piped())
//!     .stdout(std::process::Stdio::piped())
//!     .spawn()?;
//! let (Some(stdout), Some(stdin)) = (child.stdout.take(), child.stdin.take()) else { return Ok(()) };
//! let bridge = StdioBridge::new(BackendIo::new(stdout, stdin), BridgeConfig::default())?;
//! println!("ready: {}", bridge.initialize().await?.name);
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! let stop = CancellationToken::new();
//! serve(listener, bridge.into_router(), ServeOptions::default(), stop).await;
//! # Ok(())
//! # }
//! ```
//!
//! An application has them among its own routes, once those have their state, and ends their event streams before it
//! waits for its connections:
//!
//! ```
//! use axum::Router;
//! use axum::extract::State;
//! use axum::routing::get;
//! use thv_proxy::{ReverseProxy, ReverseProxyConfig, TransportType};
//!
//! # async fn example(stop: impl Future<Output = ()> + Send + 'static) -> Result<(), Box<dyn std::error::Error>> {
//! let config = ReverseProxyConfig { transport: TransportType::Sse, ..ReverseProxyConfig::default() };
//! let proxy = ReverseProxy::new("http://127.0.0.1:9000".parse()?, config)?;
//! let app = Router::new()
//!     .route("/", get(async |State(name): State<&'static str>| name))
//!     .with_state("mine")
//!     .nest("/tools", proxy.clone().into_router());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! let ending = async move {
//!     stop.await;
//!     proxy.end_streams();
//! };
//! axum::serve(listener, app).with_graceful_shutdown(ending).await?;
//! # Ok(())
//! # }
//! ```

mod answer;
mod body;
mod bridge;
mod budget;
mod certificate;
mod error;
mod forwarded;
mod framer;
mod front;
mod guard;
mod health;
pub mod jsonrpc;
mod mcp_headers;
mod middleware;
mod probe;
mod reverse;
mod seldom;
mod serve;
mod suspension;
mod timers;
mod whole_events;

#[doc(no_inline)]
pub use async_trait::async_trait;
#[doc(no_inline)]
pub use axum;
pub use body::{Body, BodyError};
pub use bridge::{Backend, BackendIo, BridgeConfig, BridgeEnd, BridgeStats, Once, StdioBridge};
pub use error::ProxyError;
pub use framer::{Frame, LineFramer};
pub use front::Front;
pub use guard::{GuardConfig, Refusal};
pub use middleware::{Answering, Layer, MiddlewareFactory, ProxyService, ToolPolicy};
pub use probe::ServerInfo;
pub use reverse::{ReverseProxy, ReverseProxyConfig};
pub use serve::{Drain, EndsItself, ServeOptions, listener, serve};
pub use suspension::Suspended;
#[doc(no_inline)]
pub use thv_core::{Json, MiddlewareConfig, ProxyMode, ToolOverride, TransportType};
#[doc(no_inline)]
pub use tokio_util::sync::CancellationToken;
#[doc(no_inline)]
pub use tower;
#[doc(no_inline)]
pub use url::Url;
