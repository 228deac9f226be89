//! The binary over stdio.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Session {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_echo-server"))
            .args(args)
            .env_remove("MCP_TRANSPORT")
            .env("ECHO_VERSION", "9.9.9")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdin, stdout }
    }

    fn send(&mut self, id: u64, method: &str, params: &Value) {
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        writeln!(self.stdin.as_mut().expect("open"), "{message}").expect("the server reads");
    }

    fn call_tool(&mut self, id: u64, name: &str, arguments: &Value) {
        self.send(id, "tools/call", &json!({ "name": name, "arguments": arguments }));
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("the server writes");
        line
    }

    fn answer(&mut self) -> (Value, Value) {
        let answer: Value = serde_json::from_str(&self.line()).expect("JSON");
        (answer["id"].clone(), answer["result"].clone())
    }

    fn text(&mut self, name: &str, arguments: &Value) -> String {
        self.call_tool(1, name, arguments);
        self.answer().1["content"][0]["text"]
            .as_str()
            .expect("a text")
            .to_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tools_answer() {
    let mut session = Session::start(&[]);
    session.send(0, "initialize", &json!({ "protocolVersion": "2025-06-18" }));
    assert_eq!(session.answer().1["protocolVersion"], "2025-06-18");
    assert_eq!(
        session.text("echo", &json!({ "text": "hé\u{2028}llo" })),
        "hé\u{2028}llo"
    );
    assert_eq!(session.text("add", &json!({ "a": 2, "b": 40 })), "42");
    assert_eq!(session.text("env", &json!({ "name": "ECHO_VERSION" })), "9.9.9");
    assert_eq!(session.text("version", &json!({})), "9.9.9");
    assert_eq!(
        session.text("big", &json!({ "bytes": 1_000_000 })).len(),
        1_000_000
    );
    let whoami: Value = serde_json::from_str(&session.text("whoami", &json!({}))).expect("JSON");
    assert_eq!(whoami["pid"], session.child.id());
}

#[test]
fn every_listed_tool_is_known() {
    let mut session = Session::start(&[]);
    session.send(0, "tools/list", &json!({}));
    let tools = session.answer().1["tools"].clone();
    let names: Vec<_> = tools
        .as_array()
        .expect("a list")
        .iter()
        .map(|tool| tool["name"].clone())
        .collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names
        .iter()
        .filter_map(Value::as_str)
        .filter(|name| *name != "exit")
    {
        session.call_tool(1, name, &json!({}));
        assert!(!session.line().contains("unknown tool"), "{name}");
    }
}

#[test]
fn a_slow_call_delays_no_other() {
    let mut session = Session::start(&[]);
    session.call_tool(1, "slow", &json!({ "ms": 300 }));
    session.send(2, "ping", &json!({}));
    assert_eq!(session.answer().0, 2);
    assert_eq!(session.answer().0, 1);
}

#[test]
fn progress_comes_before_the_answer() {
    let mut session = Session::start(&[]);
    let params = json!({ "name": "progress", "arguments": { "steps": 2, "ms": 0 }, "_meta": { "progressToken": "p" } });
    session.send(7, "tools/call", &params);
    for step in 1..=2 {
        let notification: Value = serde_json::from_str(&session.line()).expect("JSON");
        assert_eq!(
            notification["params"],
            json!({ "progressToken": "p", "progress": step, "total": 2 })
        );
    }
    assert_eq!(session.answer().0, 7);
}

#[test]
fn closing_stdin_ends_it_at_once_even_during_a_slow_call() {
    let mut session = Session::start(&["--ignore-sigterm"]);
    session.call_tool(1, "slow", &json!({ "ms": 60_000 }));
    drop(session.stdin.take());
    assert!(session.child.wait().expect("ends").success());
    assert_eq!(session.line(), "", "the call is not waited for");
}

#[test]
fn faults_happen_as_asked() {
    let mut session = Session::start(&["--exit-at-start", "7", "--stderr-at-start", "no such file"]);
    assert_eq!(session.child.wait().expect("ends").code(), Some(7));
    let mut stderr = String::new();
    session
        .child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut stderr)
        .expect("text");
    assert_eq!(stderr, "no such file\n");

    let mut session = Session::start(&[]);
    session.call_tool(1, "exit", &json!({ "code": 3 }));
    assert_eq!(session.child.wait().expect("ends").code(), Some(3));

    let mut session = Session::start(&["--garbage"]);
    session.send(5, "ping", &json!({}));
    assert!(serde_json::from_str::<Value>(&session.line()).is_err());
    assert_eq!(session.answer().0, 5);

    let mut session = Session::start(&["--no-answer"]);
    session.send(5, "ping", &json!({}));
    drop(session.stdin.take());
    assert_eq!(session.line(), "");

    let mut session = Session::start(&[]);
    session.call_tool(1, "fail", &json!({ "text": "sorry" }));
    assert_eq!(session.answer().1["isError"], true);
}
