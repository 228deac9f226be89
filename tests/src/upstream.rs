//! Servers that are there already: what remote workloads are about.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::{Machine, WAIT, echo_server, eventually, request};

/// An MCP server over streamable HTTP on loopback; it ends when it is dropped.
#[derive(Debug)]
pub struct Upstream {
    port: u16,
    child: Child,
}

impl Upstream {
    /// The echo server, on a free port.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn echo(machine: &Machine) -> Self {
        Self::echo_at(machine, 0).await
    }

    /// The echo server on this port.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn echo_at(machine: &Machine, port: u16) -> Self {
        let mut command = machine.program(echo_server());
        command
            .args(["--http", "--port", &port.to_string()])
            .stdout(Stdio::null());
        let mut child = command.spawn().expect("the echo server starts");
        let stderr = child.stderr.take().expect("it was asked for");
        let mut lines = BufReader::new(stderr).lines();
        let first = tokio::time::timeout(WAIT, lines.next_line())
            .await
            .expect("it says where it listens");
        let first = first.expect("readable").expect("it says where it listens");
        let port = first
            .trim_end_matches("/mcp")
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        // Nobody reads on: what it says later must not stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            port: port.unwrap_or_else(|| panic!("no port in {first:?}")),
            child,
        }
    }

    /// `@modelcontextprotocol/server-everything`, installed in this folder.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn everything(machine: &Machine, node: &Path) -> Self {
        // It cannot be told to take a free port and say which. Whom somebody was quicker than ends, and is followed by another.
        loop {
            let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
            let port = free.expect("a free port").port();
            let mut command = machine.program(node.join("node_modules/.bin/mcp-server-everything"));
            command.arg("streamableHttp").env("PORT", port.to_string());
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().expect("node runs");
            let listens = eventually(WAIT, "server-everything listens", async || {
                if child.try_wait().expect("it is a child").is_some() {
                    return Some(false);
                }
                let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
                connected.is_ok().then_some(true)
            });
            if listens.await {
                return Self { port, child };
            }
        }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it still answers.
    pub async fn answers(&self) -> bool {
        request(
            self.port,
            "POST",
            "/mcp",
            &[("content-type", "application/json")],
            "{",
        )
        .await
        .status
            >= 400
    }

    /// Kills it.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("a child can be killed");
    }
}
