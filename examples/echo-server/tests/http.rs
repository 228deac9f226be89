//! The binary over streamable HTTP and over SSE.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_echo-server"))
            .args(args)
            .args(["--port", "0", "--host", "127.0.0.1"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        BufReader::new(child.stderr.take().expect("piped"))
            .read_line(&mut line)
            .expect("its first line");
        let address = line
            .trim()
            .strip_prefix("listening on http://")
            .expect("an address");
        let address = address.split('/').next().expect("host and port").to_owned();
        Self { child, address }
    }

    fn request(&self, method: &str, path: &str, session: Option<&str>, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let session = session
            .map(|id| format!("Mcp-Session-Id: {id}\r\n"))
            .unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{session}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        stream
    }

    /// Status and the whole response.
    fn exchange(&self, method: &str, session: Option<&str>, body: &str) -> (u16, String) {
        let mut response = String::new();
        self.request(method, "/mcp", session, body)
            .read_to_string(&mut response)
            .expect("text");
        (response[9..12].parse().expect("a status"), response)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn next_event(stream: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).expect("text") > 0, "the stream ended");
        if let Some(data) = line.strip_prefix("data: ") {
            return data.trim_end().to_owned();
        }
    }
}

const INITIALIZE: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;

fn session_id(response: &str) -> String {
    let line = response
        .lines()
        .find_map(|line| line.strip_prefix("Mcp-Session-Id: "))
        .expect("a session");
    line.to_owned()
}

#[test]
fn streamable_http_keeps_sessions() {
    let server = Running::start(&["--http"]);
    assert_eq!(server.exchange("POST", None, PING).0, 400);
    assert_eq!(server.exchange("POST", Some("nobody"), PING).0, 404);
    let (status, response) = server.exchange("POST", None, INITIALIZE);
    assert_eq!(status, 200);
    let id = session_id(&response);
    let (status, response) = server.exchange("POST", Some(&id), PING);
    assert_eq!(status, 200);
    assert!(
        response.ends_with(r#"{"jsonrpc":"2.0","id":"p","result":{}}"#),
        "{response}"
    );
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert_eq!(server.exchange("POST", Some(&id), notification).0, 202);
    assert_eq!(server.exchange("DELETE", Some(&id), "").0, 204);
    assert_eq!(server.exchange("POST", Some(&id), PING).0, 404);
    assert_eq!(server.exchange("PUT", Some(&id), PING).0, 405);
}

#[test]
fn a_call_with_progress_is_answered_as_an_event_stream() {
    let server = Running::start(&["--http", "--stateless"]);
    let call = r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"progress","arguments":{"steps":1,"ms":0},"_meta":{"progressToken":9}}}"#;
    let mut stream = BufReader::new(server.request("POST", "/mcp", None, call));
    assert!(next_event(&mut stream).contains(r#""progressToken":9"#));
    assert!(next_event(&mut stream).contains(r#""id":4"#));
}

#[test]
fn sse_answers_through_the_stream() {
    let server = Running::start(&["--sse"]);
    let mut stream = BufReader::new(server.request("GET", "/sse", None, ""));
    let endpoint = next_event(&mut stream);
    let mut accepted = String::new();
    server
        .request("POST", &endpoint, None, INITIALIZE)
        .read_to_string(&mut accepted)
        .expect("text");
    assert!(accepted.starts_with("HTTP/1.1 202"), "{accepted}");
    assert!(next_event(&mut stream).contains(r#""protocolVersion":"2025-11-25""#));
}

#[test]
fn a_busy_port_is_an_error_that_names_it() {
    let server = Running::start(&["--http"]);
    let port = server.address.rsplit(':').next().expect("a port");
    let second = Command::new(env!("CARGO_BIN_EXE_echo-server"))
        .args(["--http", "--host", "127.0.0.1", "--port", port])
        .output()
        .expect("the binary starts");
    assert!(!second.status.success());
    assert!(
        String::from_utf8_lossy(&second.stderr).contains(&server.address),
        "{second:?}"
    );
}
