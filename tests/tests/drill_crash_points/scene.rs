//! One case: a machine of its own, a kill, a look at what is left, and at what comes of it.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use thv::core::{Workload, WorkloadStatus};
use thv::runtime::InstanceState;
use thv_tests::{Docker, Machine, Output, WAIT, eventually, thv, thv_crash_points};
use tokio::sync::OnceCell;

use crate::cases::{At, Before, Case, End, Verb};
use crate::drill::{self, answers, exec, files_below, kill_9, proxy_pid};

/// What is called after the kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heal {
    Reconcile,
    Next,
}

/// A line of the table at the end.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) points: Vec<&'static str>,
    pub(crate) verb: Verb,
    pub(crate) found: String,
    pub(crate) healed_by: Verb,
    pub(crate) end: End,
}

/// Carries a case out; panics with what is wrong.
pub(crate) async fn play(case: Case, heal: Heal, place: &Place) -> Row {
    let scene = Scene::new(place);
    scene.prepare(case.before, case.at.proxy()).await;
    scene.kill(case.verb, case.at).await;
    let found = scene.look(case.reconciled).await;
    let (verb, end) = match heal {
        Heal::Reconcile => (Verb::Reconcile, case.reconciled),
        Heal::Next => case.next,
    };
    scene.heal(verb, end).await;
    scene.has_come_to(end).await;
    if end != End::Failed {
        let again = scene.machine.thv(["reconcile", "--format", "json"]).await.ok();
        let nothing = Value::Array(Vec::new());
        assert_eq!(again.json(), nothing, "there is more to reconcile: {again}");
    }
    scene.leaves_nothing().await;
    Row {
        points: case.at.points().collect(),
        verb: case.verb,
        found,
        healed_by: verb,
        end,
    }
}

/// Where the server runs.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Local,
    Docker(Docker),
    /// Elsewhere, at this URL.
    Remote(String),
}

pub(crate) struct Scene {
    pub(crate) machine: Machine,
    pub(crate) name: String,
    place: Place,
}

impl Scene {
    pub(crate) fn new(place: &Place) -> Self {
        let machine = match place {
            Place::Docker(docker) => Machine::with_docker(docker),
            Place::Local | Place::Remote(_) => Machine::new(),
        };
        let name = machine.name("crash");
        let place = place.clone();
        Self { machine, name, place }
    }

    fn args(&self, verb: Verb) -> Vec<String> {
        let name = self.name.as_str();
        let server = match &self.place {
            Place::Local => exec(),
            Place::Docker(docker) => docker.image().to_owned(),
            Place::Remote(url) => url.clone(),
        };
        let transport: &[&str] = match self.place {
            Place::Remote(_) => &[],
            Place::Local | Place::Docker(_) => &["--transport", "stdio"],
        };
        let run = [&["run", &server, "--name", name, "--wait=1m"], transport].concat();
        let args: Vec<&str> = match verb {
            Verb::Run => run,
            Verb::RunBroken => vec![
                "run",
                "exec:///bin/false",
                "--name",
                name,
                "--transport",
                "stdio",
                "--wait=1m",
            ],
            Verb::Replace => [&*run, &["--replace", "--env", "GENERATION=new"]].concat(),
            Verb::Start => vec!["start", name, "--wait=1m"],
            Verb::Restart => vec!["restart", name, "--wait=1m"],
            Verb::Stop => vec!["stop", name],
            Verb::Remove => vec!["rm", name],
            Verb::Move => vec!["group", "move", name, "--to", "team"],
            Verb::RemoveGroup => vec!["group", "rm", "team", "--yes"],
            Verb::Reconcile => vec!["reconcile"],
            Verb::KillServer => Vec::new(),
        };
        args.into_iter().map(str::to_owned).collect()
    }

    async fn call(&self, program: &Path, verb: Verb, crash: &[(&str, &str)], further: &[&str]) -> Output {
        let mut command = self.machine.program(program);
        command.args(self.args(verb)).args(further).envs(crash.to_vec());
        self.machine.finish(command).await
    }

    /// A proxy that is there before dies at `proxy`, later.
    pub(crate) async fn prepare(&self, before: Before, proxy: Option<&str>) {
        let later: Vec<_> = proxy.map(|point| (PROXY, point)).into_iter().collect();
        match before {
            Before::Nothing => {}
            Before::Runs => {
                self.call(thv_crash_points(), Verb::Run, &later, &[]).await.ok();
            }
            Before::Stopped => {
                self.call(thv(), Verb::Run, &[], &[]).await.ok();
                self.call(thv(), Verb::Stop, &[], &[]).await.ok();
            }
            Before::Orphaned => {
                // One that does not end with its input, as a container does not.
                self.call(thv(), Verb::Run, &[], &["--", "--ignore-eof"])
                    .await
                    .ok();
                kill_9(proxy_pid(&self.machine, &self.name).await);
            }
            Before::InGroup => {
                self.machine.thv(["group", "create", "team"]).await.ok();
                self.call(thv(), Verb::Run, &[], &[]).await.ok();
                self.call(thv(), Verb::Move, &[], &[]).await.ok();
            }
            Before::CutOff(before, verb, point) => {
                Box::pin(self.prepare(*before, None)).await;
                self.kill(verb, At::Command(point)).await;
            }
        }
    }

    /// Calls the verb and is there when who is to be killed is dead.
    pub(crate) async fn kill(&self, verb: Verb, at: At) {
        if verb == Verb::Move {
            self.machine.thv(["group", "create", "team"]).await.ok();
        }
        if verb == Verb::KillServer {
            for pid in self.machine.processes() {
                let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
                if program.ends_with("echo-server") {
                    kill_9(pid);
                }
            }
        } else {
            let command = at.command().map(|point| ("THV_CRASH_AT", point));
            let proxy = at.proxy().map(|point| (PROXY, point));
            let crash: Vec<_> = command.into_iter().chain(proxy).collect();
            let output = self.call(thv_crash_points(), verb, &crash, &[]).await;
            if let Some(point) = at.command() {
                assert_eq!(output.code, None, "not killed at {point}: {output}");
                assert!(output.stderr.contains(&epitaph(point)), "{output}");
            }
        }
        if let Some(point) = at.proxy() {
            let log = self
                .machine
                .dirs()
                .proxy_logs()
                .join(format!("{}.log", self.name));
            eventually(WAIT, &epitaph(point), async || {
                let text = fs::read_to_string(&log).ok()?;
                text.contains(&epitaph(point)).then_some(())
            })
            .await;
            if verb == Verb::Restart {
                // It went on, and another proxy has the lock.
                return;
            }
            self.is_unowned().await;
        }
    }

    /// The kernel frees the lock of a proxy as it buries the process.
    pub(crate) async fn is_unowned(&self) {
        let lock = self
            .machine
            .dirs()
            .lifecycle()
            .join(format!("{}.owner", self.name));
        eventually(WAIT, "the proxy is gone", async || {
            let Ok(file) = File::open(&lock) else {
                return Some(());
            };
            flock(&file, FlockOperation::NonBlockingLockShared).ok()
        })
        .await;
    }

    /// All files parse, nothing is lost, and the list can be had. What it says.
    async fn look(&self, reconciled: End) -> String {
        let dirs = self.machine.dirs();
        for (path, (_, _, bytes)) in files_below(&dirs.state)
            .into_iter()
            .chain(files_below(&dirs.data))
        {
            if let Some(bytes) = bytes.filter(|_| path.extension().is_some_and(|end| end == "json")) {
                let parsed = serde_json::from_slice::<Value>(&bytes);
                assert!(parsed.is_ok(), "{}: {parsed:?}", path.display());
            }
        }
        let workloads = self.machine.workloads().await;
        let found = workloads.iter().find(|workload| workload.name == self.name);
        if reconciled != End::Gone {
            assert!(self.config().is_some(), "the configuration is lost");
            assert!(found.is_some(), "it is not listed");
        }
        found.map_or_else(|| "nothing".to_owned(), |workload| workload.status.to_string())
    }

    async fn heal(&self, verb: Verb, end: End) {
        let output = self.call(thv(), verb, &[], &[]).await;
        match verb {
            // What was cut off may go on: the proxy was launched.
            Verb::Run if output.stderr.contains("already exists") => {}
            Verb::RunBroken => drop(output.failed()),
            // It starts what fails, and may return before it does.
            Verb::Reconcile if end == End::Failed => {}
            Verb::RemoveGroup if output.stderr.contains("not found") => {}
            _ => drop(output.ok()),
        }
        if verb == Verb::RemoveGroup {
            let groups = self.machine.thv(["group", "list"]).await.ok();
            assert!(!groups.stdout.contains("team"), "{groups}");
        }
    }

    /// It comes to this, and to nothing besides: no further process, and one server that answers if one should run.
    async fn has_come_to(&self, end: End) {
        let (status, processes) = match end {
            // Where the server is not a process of the machine, its proxy is the only one.
            End::Runs | End::RunsAnew => {
                let processes = match self.place {
                    Place::Local => of_a_running_one().await,
                    Place::Docker(_) | Place::Remote(_) => 1,
                };
                (Some(WorkloadStatus::Running), processes)
            }
            End::Stopped => (Some(WorkloadStatus::Stopped), 0),
            End::Failed => (Some(WorkloadStatus::Error), 0),
            End::Gone => (None, 0),
        };
        let mut seen = None;
        let came = tokio::time::timeout(WAIT, async {
            loop {
                let workload = self.machine.find(&self.name).await;
                let now = (
                    workload.as_ref().map(|workload| workload.status),
                    self.machine.processes().len(),
                );
                if now == (status, processes) {
                    return workload;
                }
                seen = Some((now, workload));
            }
        })
        .await;
        let Ok(workload) = came else {
            panic!("it did not become {end:?} with {processes} processes: {seen:?}");
        };
        if let Place::Docker(docker) = &self.place {
            let runs = docker
                .instance(&self.name)
                .await
                .is_some_and(|instance| instance.state == InstanceState::Running);
            assert_eq!(runs, status == Some(WorkloadStatus::Running), "its container");
        }
        let config = self.config();
        match end {
            End::Gone => assert_eq!(config, None),
            End::RunsAnew => assert!(config.is_some_and(|text| text.contains("GENERATION"))),
            _ => assert!(config.is_some_and(|text| !text.contains("GENERATION"))),
        }
        if let Some(workload) = workload.filter(|_| status == Some(WorkloadStatus::Running)) {
            answers(&workload).await;
        }
    }

    fn config(&self) -> Option<String> {
        let path = self
            .machine
            .dirs()
            .runconfigs()
            .join(format!("{}.json", self.name));
        fs::read_to_string(path).ok()
    }

    /// Removed, it leaves nothing but the log of its proxy.
    async fn leaves_nothing(&self) {
        // A process that gave its lock up takes a moment to go.
        let port = self
            .machine
            .find(&self.name)
            .await
            .map(|workload: Workload| workload.port);
        self.machine.thv(["rm", &self.name]).await.ok();
        eventually(WAIT, "nothing lives", async || {
            self.machine.processes().is_empty().then_some(())
        })
        .await;
        self.machine.assert_nothing_lives(port.as_slice());
        if let Place::Docker(docker) = &self.place {
            docker.assert_gone(&self.name).await;
        }
        drill::assert_no_files_of(&self.machine, &self.name);
    }
}

/// Where a detached proxy is to be killed; `THV_CRASH_AT` is for the command.
const PROXY: &str = "TOOLHIVE_PROXY_CRASH_AT";

/// What a process says last.
fn epitaph(point: &str) -> String {
    let name = point.split(':').next().unwrap_or(point);
    format!("killed at crash point {name}")
}

/// How many processes a workload has that runs on the local runtime.
async fn of_a_running_one() -> usize {
    static COUNT: OnceCell<usize> = OnceCell::const_new();
    *COUNT
        .get_or_init(async || {
            let machine = Machine::new();
            drill::run_echo(&machine, &machine.name("crash-none")).await;
            machine.processes().len()
        })
        .await
}
