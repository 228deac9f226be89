//! The memory runtime passes the contract suite, and a set of runtimes survives one that is down.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use thv_core::jiff::{Timestamp, ZonedDateTime, tz::TimeZone};
use thv_core::{Clock, TransportType, WorkloadName};
use thv_runtime::contract::{self, EXIT_CODE, Fixture, LAST_WORDS, READY_LINE, Server};
use thv_runtime::{
    Call, DeploySpec, Error, InstanceRef, LogOptions, MemoryRuntime, PortBinding, Runtime, Runtimes,
};

#[derive(Debug)]
struct Memory(MemoryRuntime);

impl Memory {
    fn new() -> Self {
        let runtime = MemoryRuntime::new()
            .with_images(["echo", "stubborn", "exits", "http"])
            .with_capabilities(|can| {
                can.memory_limit = false;
                can.network_isolation = false;
            })
            .with_server(|mut server| async move {
                if server.image == "exits" {
                    server.log(LAST_WORDS);
                    return EXIT_CODE;
                }
                server.log(READY_LINE);
                let term = server.term.clone();
                if server.image == "http" {
                    term.cancelled().await;
                    return 143;
                }
                let stubborn = server.image == "stubborn";
                loop {
                    tokio::select! {
                        () = term.cancelled(), if !stubborn => return 143,
                        line = server.next_line() => match line {
                            Some(line) => server.write_line(&line).await,
                            None => return 0,
                        },
                    }
                }
            });
        Self(runtime)
    }
}

impl Fixture for Memory {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.0.clone())
    }

    fn second(&self) -> Option<Arc<dyn Runtime>> {
        Some(Arc::new(self.0.clone()))
    }

    fn another_image(&self) -> Option<String> {
        Some("stubborn".to_owned())
    }

    fn spec(&self, name: WorkloadName, server: Server) -> Option<DeploySpec> {
        let image = match server {
            Server::Echo => "echo",
            Server::IgnoresTerm => "stubborn",
            Server::ExitsAtOnce => "exits",
            Server::Http => "http",
            _ => "missing",
        };
        let mut spec = DeploySpec::new(name, image);
        if server == Server::Http {
            spec.transport = TransportType::StreamableHttp;
            spec.target = Some(PortBinding {
                container_port: 8080,
                host_ip: None,
                host_port: 0,
            });
        }
        Some(spec)
    }
}

#[tokio::test]
async fn the_memory_runtime_keeps_the_contract() {
    let report = contract::run(&Memory::new()).await;
    assert!(
        report.skipped.iter().all(|(name, _)| [
            "a_refused_name_touches_nothing",
            "private_output_is_for_who_attaches_alone"
        ]
        .contains(name)),
        "{report:?}"
    );
}

#[tokio::test]
async fn one_runtime_that_is_down_does_not_fail_the_list() {
    let (up, down) = (
        MemoryRuntime::new().with_kind("up"),
        MemoryRuntime::new().with_kind("down"),
    );
    let runtimes = Runtimes::new()
        .with(Arc::new(up.clone()))
        .with(Arc::new(down.clone()));
    up.deploy(&DeploySpec::new("here".parse().unwrap(), "echo"))
        .await
        .unwrap();
    down.set_down(true);
    let listings = runtimes.list().await;
    let of = |kind: &str| {
        listings
            .iter()
            .find(|listing| listing.runtime.as_str() == kind)
            .unwrap()
    };
    assert_eq!(of("up").instances.as_ref().unwrap().len(), 1);
    assert!(of("down").instances.as_ref().unwrap_err().is_retryable());
}

#[tokio::test]
async fn one_runtime_that_hangs_does_not_hold_up_the_list() {
    let (quick, stuck) = (
        MemoryRuntime::new().with_kind("quick"),
        MemoryRuntime::new().with_kind("stuck"),
    );
    stuck.delay(Call::List, Duration::from_hours(1));
    let runtimes = Runtimes::new()
        .with(Arc::new(quick))
        .with(Arc::new(stuck))
        .with_list_timeout(Duration::from_millis(300));
    let listings = tokio::time::timeout(Duration::from_mins(1), runtimes.list())
        .await
        .unwrap();
    assert_eq!(listings.len(), 2);
    for listing in listings {
        match listing.runtime.as_str() {
            "quick" => assert!(listing.instances.is_ok()),
            _ => assert!(listing.instances.unwrap_err().is_retryable()),
        }
    }
}

#[tokio::test]
async fn injected_faults_come_once_and_a_lost_answer_has_its_effect() {
    let runtime = MemoryRuntime::new();
    let spec = DeploySpec::new("faulty".parse().unwrap(), "echo");
    let fault = || Error::Invalid {
        what: "test".into(),
        detail: "on purpose".into(),
    };
    runtime.fail_next(Call::Deploy, fault());
    assert_eq!(runtime.deploy(&spec).await.unwrap_err().code(), "invalid");
    assert!(runtime.inspect(&spec.name).await.unwrap().is_none());
    runtime.lose_answer(Call::Deploy, fault());
    assert_eq!(runtime.deploy(&spec).await.unwrap_err().code(), "invalid");
    assert!(runtime.inspect(&spec.name).await.unwrap().is_some());
    assert_eq!(runtime.calls(Call::Deploy), 2);
    assert!(runtime.exit(&spec.name, 7));
    runtime.remove(&InstanceRef::named(spec.name)).await.unwrap();
}

#[derive(Debug)]
struct At(Timestamp);

impl Clock for At {
    fn now(&self) -> ZonedDateTime {
        self.0.to_zoned_datetime(TimeZone::UTC)
    }
}

#[tokio::test]
async fn instances_and_logs_have_the_times_of_the_clock_that_was_given() {
    let noon = Timestamp::from_second(43_200).unwrap();
    let runtime = MemoryRuntime::new()
        .with_clock(Arc::new(At(noon)))
        .with_server(|server| async move {
            server.log("hello");
            0
        });
    let spec = DeploySpec::new("timed".parse().unwrap(), "echo");
    let instance = runtime.deploy(&spec).await.unwrap().instance;
    assert_eq!((instance.created, instance.started), (Some(noon), Some(noon)));
    let follow = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let mut logs = runtime
        .logs(&InstanceRef::named(spec.name), follow)
        .await
        .unwrap();
    assert_eq!(logs.next().await.unwrap().unwrap().time, Some(noon));
}
