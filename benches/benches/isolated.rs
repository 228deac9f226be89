//! Many isolated containers at once on one engine, beside as many that are not: until all run, and until all are gone.
//!
//! `cargo bench -p thv-benches --bench isolated [COUNT]`

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use thv::runtime::{DeploySpec, InstanceRef, InstanceState, Runtime as _};
use thv::runtime_docker::{DockerConfig, DockerRuntime};
use thv_benches::engine::Engine;
use thv_benches::programs;

const COUNT: usize = 200;
/// An engine does not get faster by more.
const AT_ONCE: usize = 8;

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
            "localhost/thv-bench/isolated",
            &tag,
        )
        .await;
    let helper = programs::static_program("static-egress");
    let runtime = DockerRuntime::new(DockerConfig::at(engine.socket()).with_egress_helper(helper));
    println!("{count} containers, {AT_ONCE} at a time");
    for isolated in [false, true] {
        let specs: Vec<_> = (0..count)
            .map(|number| {
                let name = format!("bench-{tag}-{isolated}-{number}");
                let mut spec = DeploySpec::new(name.parse().expect("a name"), &image);
                spec.isolate_network = isolated;
                spec
            })
            .collect();
        let (up, running, down) = all(&runtime, &specs).await;
        let word = if isolated { "isolated" } else { "open" };
        println!(
            "  {word:<9} up {:>7.1} s, {running} run at once, gone {:>7.1} s",
            up.as_secs_f64(),
            down.as_secs_f64()
        );
    }
    engine.remove_image(&image).await;
}

/// How long it takes until they run, how many do at once, and how long until they are gone.
async fn all(runtime: &DockerRuntime, specs: &[DeploySpec]) -> (Duration, usize, Duration) {
    let began = Instant::now();
    let deployed = stream::iter(specs)
        .map(|spec| runtime.deploy(spec))
        .buffer_unordered(AT_ONCE);
    let failed: Vec<_> = deployed.filter_map(async |result| result.err()).collect().await;
    let up = began.elapsed();
    let listed = runtime.list().await.expect("a list");
    let ours = |instance: &str| specs.iter().any(|spec| spec.instance_name == instance);
    let running = listed
        .iter()
        .filter(|it| it.state == InstanceState::Running && ours(&it.instance_name))
        .count();
    let began = Instant::now();
    let which = |spec: &DeploySpec| InstanceRef::named(spec.name.clone());
    let removed = stream::iter(specs)
        .map(|spec| async move { runtime.remove(&which(spec)).await })
        .buffer_unordered(AT_ONCE);
    let not_removed: Vec<_> = removed.filter_map(async |result| result.err()).collect().await;
    let down = began.elapsed();
    assert!(
        failed.is_empty() && not_removed.is_empty(),
        "{failed:?} {not_removed:?}"
    );
    (up, running, down)
}
