//! JSON-RPC lines on standard input and output.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc;

use crate::session::{Peer, Session};

pub(crate) async fn serve() -> Result<(), Box<dyn Error>> {
    let (out, mut messages) = mpsc::unbounded_channel::<Value>();
    let writing = tokio::spawn(async move {
        let mut output = tokio::io::stdout();
        while let Some(message) = messages.recv().await {
            let mut lines = format!("{message}\n");
            // What is asked at the same time is written at once, as the proxy asks together what comes together.
            while let Ok(message) = messages.try_recv() {
                let _ = writeln!(lines, "{message}");
            }
            output.write_all(lines.as_bytes()).await?;
            output.flush().await?;
        }
        Ok::<_, std::io::Error>(())
    });
    let peer = Peer {
        session: Arc::new(Session::default()),
        out,
    };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let Ok(message) = serde_json::from_str(&line) else {
            continue;
        };
        let peer = peer.clone();
        tokio::spawn(async move { peer.take(message).await });
    }
    drop(peer);
    writing.abort();
    Ok(())
}
