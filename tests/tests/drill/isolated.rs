//! Isolated workloads on a real engine, and what stands around them.

use serde_json::Value;
use thv_tests::{Docker, Machine, docker, static_egress};

/// An engine, and a machine whose `thv` knows its helper. `None`: skip.
pub(crate) async fn isolating() -> Option<(Docker, Machine)> {
    let (docker, helper) = (docker().await?, static_egress()?);
    let mut machine = Machine::with_docker(&docker);
    machine.set("TOOLHIVE_EGRESS_HELPER", helper);
    Some((docker, machine))
}

/// The containers whose names begin so, with their states.
pub(crate) async fn containers(docker: &Docker, name: &str) -> Vec<(String, String)> {
    let answer = docker.get("/containers/json?all=true").await;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let rows: Vec<Value> = serde_json::from_str(body).expect("rows");
    let text = |value: &Value| value.as_str().expect("a text").trim_start_matches('/').to_owned();
    let mut found: Vec<_> = rows
        .iter()
        .map(|row| (text(&row["Names"][0]), text(&row["State"])))
        .filter(|(found, _)| found.starts_with(name))
        .collect();
    found.sort();
    found
}
