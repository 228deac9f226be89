//! Many containers at once on one engine: by the engine's own API with as many calls at a time, through our adapter, and
//! isolated. Until all run, one list of them, until all have ended, until all are gone.
//!
//! `cargo bench -p thv-benches --bench containers [COUNT]`

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use thv::runtime::{DeploySpec, InstanceRef, InstanceState, Runtime as _, StopOptions};
use thv::runtime_docker::{DockerConfig, DockerRuntime};
use thv_benches::engine::{Container, Engine};
use thv_benches::{median, programs};

const COUNT: usize = 200;
/// An engine does not get faster by more.
const AT_ONCE: usize = 8;
const LISTS: usize = 9;

#[tokio::main]
async fn main() {
    let count = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(COUNT);
    let Some(engine) = Engine::find().await else {
        return println!("no engine: nothing is measured");
    };
    let tag = std::process::id().to_string();
    let image = engine
        .import(
            &programs::static_program("static-echo"),
            "localhost/thv-bench/containers",
            &tag,
        )
        .await;
    let helper = programs::static_program("static-egress");
    let runtime = DockerRuntime::new(DockerConfig::at(engine.socket()).with_egress_helper(helper));
    println!("{count} containers, {AT_ONCE} at a time");
    println!(
        "  {:<9} {:>8} {:>9} {:>8} {:>8}",
        "", "up", "list", "stopped", "gone"
    );
    let name = |kind: &str, number: usize| format!("bench-{tag}-{kind}-{number}");
    let names: Vec<_> = (0..count).map(|number| name("raw", number)).collect();
    by_api(&engine, &image, &names).await.print("raw API");
    for (kind, isolated) in [("open", false), ("isolated", true)] {
        let specs: Vec<_> = (0..count)
            .map(|number| {
                let mut spec = DeploySpec::new(name(kind, number).parse().expect("a name"), &image);
                spec.isolate_network = isolated;
                spec
            })
            .collect();
        by_adapter(&runtime, &specs).await.print(kind);
    }
    engine.remove_image(&image).await;
}

struct Figures {
    up: Duration,
    list: Duration,
    stopped: Duration,
    gone: Duration,
}

impl Figures {
    fn print(&self, who: &str) {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let list = format!("{:.1} ms", self.list.as_secs_f64() * 1e3);
        println!(
            "  {who:<9} {:>8} {list:>9} {:>8} {:>8}",
            seconds(self.up),
            seconds(self.stopped),
            seconds(self.gone)
        );
    }
}

/// Does `job` for each, so many at a time, and says how long all took.
async fn each<T, R>(items: &[T], job: impl AsyncFn(&T) -> R) -> (Vec<R>, Duration) {
    let began = Instant::now();
    let job = &job;
    let done = stream::iter(items)
        .map(|item| job(item))
        .buffer_unordered(AT_ONCE);
    (done.collect().await, began.elapsed())
}

/// How long one list takes.
async fn listing<R>(list: impl AsyncFn() -> R) -> Duration {
    let mut times = Vec::new();
    for _ in 0..LISTS {
        let began = Instant::now();
        list().await;
        times.push(began.elapsed());
    }
    median(times)
}

/// As our adapter has them: with an init process, and without a log.
async fn by_api(engine: &Engine, image: &str, names: &[String]) -> Figures {
    let host = json!({ "Init": true, "LogConfig": { "Type": "none" } });
    let (containers, up) = each(names, async |name| {
        let container = engine.create_with(name, image, &host).await;
        container.launch().await;
        container
    })
    .await;
    let list = listing(async || engine.list().await).await;
    let (_, stopped) = each(&containers, Container::end).await;
    let (_, gone) = each(&containers, Container::remove).await;
    Figures {
        up,
        list,
        stopped,
        gone,
    }
}

async fn by_adapter(runtime: &DockerRuntime, specs: &[DeploySpec]) -> Figures {
    let (deployed, up) = each(specs, async |spec| runtime.deploy(spec).await).await;
    let failed: Vec<_> = deployed.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let list = listing(async || {
        let listed = runtime.list().await.expect("a list");
        let ours = |instance: &str| specs.iter().any(|spec| spec.instance_name == instance);
        let running = listed.iter().filter(|it| it.state == InstanceState::Running);
        let running = running.filter(|it| ours(&it.instance_name)).count();
        assert_eq!(running, specs.len(), "all run at once");
    })
    .await;
    let which = |spec: &DeploySpec| InstanceRef::named(spec.name.clone());
    let (ended, stopped) = each(specs, async |spec| {
        runtime.stop(&which(spec), StopOptions::default()).await
    })
    .await;
    let (removed, gone) = each(specs, async |spec| runtime.remove(&which(spec)).await).await;
    let failed = ended.into_iter().filter_map(Result::err);
    let failed: Vec<_> = failed
        .chain(removed.into_iter().filter_map(Result::err))
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    Figures {
        up,
        list,
        stopped,
        gone,
    }
}
