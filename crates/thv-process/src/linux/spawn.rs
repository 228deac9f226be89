//! Starting a detached process.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Stdio;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::process::{Child, Command};

use super::handle::LinuxHandle;
use super::keeper::{self, REPORT};
use super::proc_table;
use crate::{Contained, Containment, DetachedSpec, ProcessError, ProcessHandle, ProcessIdentity, Result};

/// Starts `spec`; see [`Processes::spawn_detached`](crate::Processes::spawn_detached).
pub(super) fn spawn(spec: DetachedSpec, boot_id: &str, namespaces: bool) -> Result<Box<dyn ProcessHandle>> {
    spec.check()?;
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(ProcessError::invalid(format!(
            "cannot start {}: no async runtime is entered that could collect it at its end",
            spec.program.display()
        )));
    }
    let program = spec.program.display().to_string();
    let mut command = Command::new(spec.program);
    command
        .args(spec.args)
        .env_clear()
        .envs(spec.env)
        .current_dir(spec.cwd)
        .stdin(stdio(spec.stdin))
        .stdout(stdio(spec.stdout))
        .stderr(stdio(spec.stderr))
        .kill_on_drop(false);
    let mut report = None;
    let mut keep = None;
    if spec.contained {
        let (ours, theirs) =
            io::pipe().map_err(|source| ProcessError::from_io(format!("start {program}"), source))?;
        report = Some(ours);
        keep = Some((theirs, namespaces));
    }
    detach(&mut command, keep);
    let mut child = command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ProcessError::NotFound {
            program: program.clone(),
            source,
        },
        _ => ProcessError::from_io(format!("start {program}"), source),
    })?;
    // With it goes our copy of the keeper's end of the pipe.
    drop(command);
    let referred = refer_to(&child, boot_id).and_then(|(identity, pidfd)| {
        let contained = report.map(|report| contained(report, &identity)).transpose()?;
        Ok((identity, pidfd, contained))
    });
    match referred {
        Ok((identity, pidfd, contained)) => {
            Ok(Box::new(LinuxHandle::of_child(identity, pidfd, child, contained)))
        }
        Err(source) => {
            // Without a reference it would run on unknown to anybody.
            let _ = child.start_kill();
            Err(ProcessError::from_io(
                format!("hold on to the started {program}"),
                source,
            ))
        }
    }
}

/// Nobody has waited for the child yet, so its pid is its own whether it still runs or not.
fn refer_to(child: &Child, boot_id: &str) -> io::Result<(ProcessIdentity, OwnedFd)> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let pid = child.id().ok_or_else(gone)?;
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
    let pidfd = pidfd_open(raw, PidfdFlags::empty())?;
    let start_time = proc_table::stat(pid)
        .map_err(io::Error::other)?
        .ok_or_else(gone)?
        .start_time;
    Ok((
        ProcessIdentity {
            pid,
            start_time,
            boot_id: boot_id.to_owned(),
        },
        pidfd,
    ))
}

/// What the keeper said before the program was executed, which it has been by now.
fn contained(mut report: PipeReader, keeper: &ProcessIdentity) -> io::Result<Contained> {
    let mut message = [0; REPORT];
    report.read_exact(&mut message)?;
    let [namespace, pid @ ..] = message;
    let stat = proc_table::stat(u32::from_ne_bytes(pid)).map_err(io::Error::other)?;
    // Ended and collected, it may have given its pid to another already.
    let program = stat.filter(|stat| stat.parent == keeper.pid);
    Ok(Contained {
        containment: if namespace == 1 {
            Containment::PidNamespace
        } else {
            Containment::Subreaper
        },
        program: program.map(|stat| stat.identity(&keeper.boot_id)),
    })
}

fn stdio(fd: Option<OwnedFd>) -> Stdio {
    fd.map_or_else(Stdio::null, Stdio::from)
}

/// Between `fork` and `exec`: a session of its own, no descriptor beyond the three streams, and a keeper if asked for.
#[expect(
    unsafe_code,
    reason = "nothing else runs code in the child before exec, and setsid must run there"
)]
fn detach(command: &mut Command, keep: Option<(PipeWriter, bool)>) {
    // SAFETY: the closure runs in the forked child of a process that may have many threads, where only
    // async-signal-safe functions may be called. It makes system calls (setsid, close_range, fcntl, and those of the
    // keeper) and neither allocates, locks nor panics; rustix's setsid is the bare system call. The two calls of libc
    // take integers only, no pointers; they mark descriptors close-on-exec and close none, so no owner of a
    // descriptor in this copy of the process is surprised. For `keeper::keep`: this is the one thread of a forked
    // child, and the pipe's end is the closure's own.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            // What an embedding application opened without close-on-exec would be inherited otherwise.
            const FIRST: libc::c_uint = 3;
            if libc::syscall(
                libc::SYS_close_range,
                FIRST,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            ) != 0
            {
                // Before Linux 5.11. Descriptors are given away from the lowest, so the bound is far away.
                for fd in 3..65_536 {
                    libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
                }
            }
            match &keep {
                Some((report, namespaces)) => keeper::keep(report.as_raw_fd(), *namespaces),
                None => Ok(()),
            }
        });
    }
}
