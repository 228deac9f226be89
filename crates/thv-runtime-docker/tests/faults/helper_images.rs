//! Images of helper programs that nobody uses any more.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use thv_runtime::{DeploySpec, Runtime};
use tokio::sync::Notify;

use crate::support::fake::{Fake, usual};
use crate::support::meddler::Do;
use crate::support::{soon, unique_name};

const REPOSITORY: &str = "localhost/toolhive/egress";

/// A program for Linux that asks for no interpreter, as far as its head says: an engine that is none runs nothing of it.
struct Helper {
    program: PathBuf,
    _folder: tempfile::TempDir,
}

impl Helper {
    fn new() -> Self {
        let mut head = [0; 120];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[32] = 64;
        (head[54], head[56], head[64]) = (56, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("thv-egress");
        std::fs::write(&program, head).unwrap();
        Self {
            program,
            _folder: folder,
        }
    }

    /// An engine that is none, for an isolated workload.
    fn on(&self, decide: impl Fn(&str) -> Do + Send + Sync + 'static) -> (Fake, DeploySpec) {
        let mut spec = DeploySpec::new(unique_name(), "fetch");
        spec.isolate_network = true;
        let fake = Fake::with(|config| config.egress_helper = Some(self.program.clone()), decide);
        (fake, spec)
    }
}

fn seconds_ago(days: u64) -> u64 {
    let time = SystemTime::now() - Duration::from_hours(24 * days);
    time.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The images on an engine that has this one too.
fn images(current: &str) -> Value {
    let image = |tags: &[&str], days| json!({"RepoTags": tags, "Created": seconds_ago(days)});
    json!([
        image(&[current], 9),
        image(&[&format!("{REPOSITORY}:0000000000a1")], 0),
        image(&[&format!("{REPOSITORY}:0000000000a2")], 9),
        image(&[&format!("{REPOSITORY}:mine"), "another:0000000000a3"], 9),
        json!({"RepoTags": null, "Created": 0}),
        image(&[&format!("{REPOSITORY}:0000000000a4")], 9),
    ])
}

/// The engine refuses the first and never answers about the second; both times that is nobody's trouble.
#[tokio::test]
async fn images_of_earlier_helper_programs_go_while_a_workload_is_made_and_nobody_waits_for_it() {
    let helper = Helper::new();
    let asked = Arc::new(Notify::new());
    let current = Mutex::new(String::new());
    let (fake, spec) = helper.on(move |call| match call {
        call if call.starts_with("GET /images/localhost") => {
            let reference = call.trim_start_matches("GET /images/").trim_end_matches("/json");
            reference.clone_into(&mut current.lock().unwrap());
            Do::Answer(200, json!({"Id": "helper"}))
        }
        call if call.starts_with("GET /images/json") => Do::Answer(200, images(&current.lock().unwrap())),
        call if call.starts_with("DELETE /images/") && call.ends_with("a2") => {
            Do::Answer(409, json!({"message": "a container is using it"}))
        }
        call if call.starts_with("DELETE /images/") => {
            asked.notify_one();
            Do::After(Arc::new(Notify::new()), Box::new(Do::CutBefore))
        }
        call if call.starts_with("POST /containers/create") && call.contains("-egress") => {
            Do::After(Arc::clone(&asked), Box::new(usual(call)))
        }
        call => usual(call),
    });
    soon("the workload", fake.runtime.deploy(&spec)).await.unwrap();
    let calls = fake.engine.calls();
    let removed: Vec<_> = calls
        .iter()
        .filter_map(|call| call.strip_prefix("DELETE /images/"))
        .collect();
    let expected = ["0000000000a2", "0000000000a4"].map(|tag| format!("{REPOSITORY}:{tag}"));
    assert_eq!(removed, expected, "{calls:?}");
}

/// Another program of another version may take it for an earlier one just then.
#[tokio::test]
async fn an_image_that_goes_before_its_helper_is_made_is_loaded_again() {
    let helper = Helper::new();
    let (loaded, gone) = (AtomicBool::new(false), AtomicBool::new(false));
    let (fake, spec) = helper.on(move |call| match call {
        call if call.starts_with("GET /images/localhost") && loaded.load(Ordering::Relaxed) => {
            Do::Answer(200, json!({"Id": "helper"}))
        }
        call if call.starts_with("POST /images/load") => {
            loaded.store(true, Ordering::Relaxed);
            Do::Answer(200, json!({"stream": "Loaded image: helper"}))
        }
        call if call.starts_with("POST /containers/create") && !gone.swap(true, Ordering::Relaxed) => {
            loaded.store(false, Ordering::Relaxed);
            Do::Answer(404, json!({"message": "No such image"}))
        }
        call => usual(call),
    });
    soon("the workload", fake.runtime.deploy(&spec)).await.unwrap();
    assert_eq!(fake.count("POST /images/load"), 2);
}
