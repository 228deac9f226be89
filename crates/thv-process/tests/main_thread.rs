//! A program whose only thread starts a contained one, as a proxy does: its keeper shows nothing of it.

use std::time::{Duration, Instant};

use thv_process::{DetachedSpec, Processes, Signal};

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .expect("a runtime")
        .block_on(keepers_show_neither_arguments_nor_environment());
}

async fn keepers_show_neither_arguments_nor_environment() {
    let machine = thv_process::LinuxProcesses::new().expect("/proc");
    for machine in [machine.clone(), machine.without_pid_namespaces()] {
        let spec = DetachedSpec::new("/bin/sleep").args(["1000"]).contained();
        let keeper = machine.spawn_detached(spec).expect("a child");
        let snapshot = machine.snapshot().expect("an answer");
        let program = keeper
            .contained()
            .expect("asked for")
            .program
            .clone()
            .expect("it runs");
        let mut shown = vec![keeper.identity().clone()];
        shown.extend(snapshot.descendants(keeper.identity()));
        shown.retain(|process| *process != program);
        for process in &shown {
            for name in ["cmdline", "environ"] {
                let text = std::fs::read(format!("/proc/{}/{name}", process.pid)).expect("the text");
                assert!(
                    text.iter().all(|byte| *byte == 0),
                    "{name}: {}",
                    String::from_utf8_lossy(&text)
                );
            }
        }
        assert_eq!(
            machine
                .facts(program.pid)
                .expect("an answer")
                .expect("it runs")
                .argv,
            ["/bin/sleep", "1000"]
        );
        assert!(keeper.signal(Signal::Kill).expect("an answer"));
        keeper.exited().await.expect("its end");
        let deadline = Instant::now() + Duration::from_mins(2);
        while machine.open(&program).expect("an answer").is_some() {
            assert!(Instant::now() < deadline, "the program ends with its keeper");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
