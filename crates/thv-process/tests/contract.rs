//! Both implementations keep the contract.
#![cfg(feature = "contract")]

use std::net::TcpListener;
use std::sync::Mutex;

use async_trait::async_trait;
use thv_process::contract::{Fixture, check};
use thv_process::{DetachedSpec, MemoryProcesses, ProcessHandle, Processes, Result};

struct InMemory(MemoryProcesses);

#[async_trait]
impl Fixture for InMemory {
    fn processes(&self) -> &dyn Processes {
        &self.0
    }

    fn idle(&self) -> DetachedSpec {
        DetachedSpec::new("/usr/bin/idle")
    }

    async fn start_stubborn(&self) -> Result<Box<dyn ProcessHandle>> {
        let child = self.0.spawn_detached(self.idle())?;
        self.0.make_stubborn(child.identity().pid);
        Ok(child)
    }

    fn listen(&self) -> u16 {
        self.0.listen(8080, self.0.current().pid);
        8080
    }

    fn free_port(&self) -> u16 {
        8081
    }
}

#[tokio::test]
async fn memory_processes_keep_the_contract() {
    check(&InMemory(MemoryProcesses::new())).await;
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{PipeReader, PipeWriter, Read};

    use super::*;

    struct Linux {
        processes: thv_process::LinuxProcesses,
        listeners: Mutex<Vec<TcpListener>>,
        /// The other ends of the children's standard input: they end with this test, whatever happens.
        inputs: Mutex<Vec<PipeWriter>>,
    }

    impl Linux {
        fn input(&self) -> PipeReader {
            let (theirs, ours) = std::io::pipe().expect("a pipe");
            self.inputs.lock().expect("the lock").push(ours);
            theirs
        }
    }

    #[async_trait]
    impl Fixture for Linux {
        fn processes(&self) -> &dyn Processes {
            &self.processes
        }

        fn idle(&self) -> DetachedSpec {
            DetachedSpec::new("/bin/cat").stdin(self.input())
        }

        async fn start_stubborn(&self) -> Result<Box<dyn ProcessHandle>> {
            let (mut ready, theirs) = std::io::pipe().expect("a pipe");
            // `exec` keeps the ignored signal; the line tells that it is ignored by now.
            let script = "trap '' TERM; echo ready; exec >/dev/null; exec cat";
            let spec = DetachedSpec::new("/bin/sh")
                .args(["-c", script])
                .env([("PATH", "/usr/bin:/bin")]);
            let child = self
                .processes
                .spawn_detached(spec.stdin(self.input()).stdout(theirs))?;
            let mut line = String::new();
            ready.read_to_string(&mut line).expect("the line");
            assert_eq!(line, "ready\n");
            Ok(child)
        }

        fn listen(&self) -> u16 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = listener.local_addr().expect("an address").port();
            self.listeners.lock().expect("the lock").push(listener);
            port
        }

        fn free_port(&self) -> u16 {
            // Free again when this returns.
            TcpListener::bind("127.0.0.1:0")
                .and_then(|free| free.local_addr())
                .expect("a port")
                .port()
        }
    }

    #[tokio::test]
    async fn linux_processes_keep_the_contract() {
        let processes = thv_process::LinuxProcesses::new().expect("/proc");
        check(&Linux {
            processes,
            listeners: Mutex::default(),
            inputs: Mutex::default(),
        })
        .await;
    }
}
