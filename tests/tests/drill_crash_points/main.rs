//! Drill: `kill -9` of the real program between any two effects. What it leaves can be read, nothing is lost, and
//! `reconcile` (or the next command) brings it to one end, with nothing left over.

#[path = "../drill/mod.rs"]
mod drill;

mod cases;
mod scene;
mod toolhive;
mod update;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;

use cases::{Case, Verb};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use scene::{Heal, Place, Row, play};
use thv_tests::{Machine, Upstream, docker, thv_crash_points};

/// How many machines there are at a time: they mostly wait.
const AT_A_TIME: usize = 8;

/// All points that the program has.
async fn all_points() -> BTreeSet<String> {
    let machine = Machine::new();
    let mut command = machine.program(thv_crash_points());
    command.arg("all");
    let output = machine.finish(command).await.ok();
    output.stdout.lines().map(str::to_owned).collect()
}

/// Plays cases in two ways each; a row for each, or what was wrong.
async fn play_all(cases: Vec<Case>, place: &Place) -> Vec<Result<Row, String>> {
    let only = std::env::var("THV_CRASH_CASES").unwrap_or_default();
    let chosen = cases
        .into_iter()
        .filter(|case| format!("{case:?}").contains(&only));
    let plays = chosen.flat_map(|case| {
        let same = case.next.0 == Verb::Reconcile;
        let ways: &[Heal] = if same {
            &[Heal::Reconcile]
        } else {
            &[Heal::Reconcile, Heal::Next]
        };
        ways.iter().map(move |heal| (case, *heal))
    });
    let played = stream::iter(plays.map(async |(case, heal)| {
        let played = AssertUnwindSafe(play(case, heal, place)).catch_unwind().await;
        played.map_err(|why| {
            let text = why.downcast_ref::<String>().map(String::as_str);
            let why = text
                .or_else(|| why.downcast_ref::<&str>().copied())
                .unwrap_or("a panic");
            format!("{case:?} then {heal:?}: {why}")
        })
    }));
    played.buffer_unordered(AT_A_TIME).collect().await
}

fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let points = row.points.join(" + ");
        let _ = writeln!(
            text,
            "{points:32} {:12} {:10} {:12} {:?}",
            format!("{:?}", row.verb),
            row.found,
            format!("{:?}", row.healed_by),
            row.end
        );
    }
    text
}

/// Plays cases, prints what came of each, and fails with all that was wrong.
async fn plays_well(cases: Vec<Case>, place: &Place) {
    let played = play_all(cases, place).await;
    let wrong: Vec<_> = played
        .iter()
        .filter_map(|row| row.as_ref().err())
        .cloned()
        .collect();
    let mut rows: Vec<_> = played.into_iter().filter_map(Result::ok).collect();
    rows.sort_by(|a, b| (&a.points, a.verb).cmp(&(&b.points, b.verb)));
    print(&table(&rows));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// To the test's own output, whether it is captured or not.
#[expect(clippy::print_stdout, reason = "the table of the drill")]
fn print(text: &str) {
    println!("{text}");
}

#[tokio::test]
async fn each_point_is_reached_by_a_case() {
    let cases = cases::local();
    let points = cases.iter().flat_map(|case| case.at.points());
    let named: BTreeSet<_> = points
        .chain(update::POINTS.iter().map(|(point, _)| *point))
        .map(|point| point.split(':').next().unwrap_or(point).to_owned())
        .collect();
    let all = all_points().await;
    let unreached: Vec<_> = all.difference(&named).collect();
    assert!(unreached.is_empty(), "nobody is killed at {unreached:?}");
    let unknown: Vec<_> = named.difference(&all).collect();
    assert!(unknown.is_empty(), "the program has no {unknown:?}");
}

#[tokio::test]
async fn a_kill_between_any_two_effects_is_healed_on_the_local_runtime() {
    plays_well(cases::local(), &Place::Local).await;
}

#[tokio::test]
async fn a_kill_between_two_effects_is_healed_on_docker() {
    let Some(docker) = docker().await else { return };
    plays_well(cases::docker(), &Place::Docker(docker)).await;
}

#[tokio::test]
async fn a_kill_between_two_effects_is_healed_of_a_remote_server() {
    let elsewhere = Machine::new();
    let server = Upstream::echo(&elsewhere).await;
    plays_well(cases::remote(), &Place::Remote(server.url())).await;
    assert!(server.answers().await, "the server is somebody else's");
}
