//! JSON-RPC lines on standard input and output.

use std::error::Error;
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
            output.write_all(format!("{message}\n").as_bytes()).await?;
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
