//! What `/proc` says.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};
use procfs::{Current, FromRead, ProcError, Uptime};

use super::keeper::KEEPER;
use crate::processes::PortHolder;
use crate::{Effort, ProcessError, ProcessFacts, ProcessIdentity, Result, Snapshot, SnapshotEntry};

/// Command lines and environments are the processes' own text; the kernel's limit for both together is 6 MiB.
const MAX_TEXT: usize = 8 << 20;
/// Most are smaller.
const USUAL_TEXT: usize = 16 << 10;
/// More than the numbers of `/proc/<pid>/stat` can take.
const MAX_STAT: usize = 4096;

/// The process table of the kernel.
#[derive(Debug, Clone)]
pub(super) struct ProcTable {
    boot_id: String,
    ticks_per_second: u64,
}

/// What the kernel tells everybody.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) session: u32,
    pub(super) start_time: u64,
    keeper: bool,
    zombie: bool,
}

impl Stat {
    pub(super) fn is_alive(&self) -> bool {
        !self.zombie
    }

    pub(super) fn identity(&self, boot_id: &str) -> ProcessIdentity {
        ProcessIdentity {
            pid: self.pid,
            start_time: self.start_time,
            boot_id: boot_id.to_owned(),
        }
    }
}

impl ProcTable {
    pub(super) fn new(boot_id: String) -> Result<Self> {
        // Refuse at the start, not at the first question, where /proc is not mounted.
        Process::myself().map_err(|e| failed("read /proc", e))?;
        Ok(Self {
            boot_id,
            ticks_per_second: rustix::param::clock_ticks_per_second(),
        })
    }

    pub(super) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    pub(super) fn facts(&self, pid: u32) -> Result<Option<ProcessFacts>> {
        match process(pid)? {
            Some(process) => self.facts_of(&process),
            None => Ok(None),
        }
    }

    fn facts_of(&self, process: &Process) -> Result<Option<ProcessFacts>> {
        let Some(stat) = stat_of(process)? else {
            return Ok(None);
        };
        let entries = |name| read(process, name).ok().map(|text| split(&text));
        let detached = |vars: Vec<Vec<u8>>| vars.iter().any(|var| var == b"TOOLHIVE_DETACHED=1");
        Ok(Some(ProcessFacts {
            identity: stat.identity(&self.boot_id),
            uid: process.uid().ok(),
            exe: process.exe().ok().map(without_deleted),
            argv: entries("cmdline")
                .unwrap_or_default()
                .iter()
                .map(|arg| String::from_utf8_lossy(arg).into_owned())
                .collect(),
            // The environment of a zombie is gone, which reads as an empty one.
            detached_env: if stat.is_alive() {
                entries("environ").map(detached)
            } else {
                None
            },
            zombie: stat.zombie,
            started_at: self.started_at(stat.start_time)?,
        }))
    }

    /// Uptime and start time count from the same moment, so clock steps since then do not matter.
    fn started_at(&self, start_time: u64) -> Result<Timestamp> {
        let uptime = Uptime::current()
            .map_err(|e| failed("read /proc/uptime", e))?
            .uptime_duration();
        let millis = start_time.saturating_mul(1000) / self.ticks_per_second.max(1);
        let boot = Timestamp::now().saturating_sub(SignedDuration::try_from(uptime).unwrap_or_default());
        let since_boot = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
        boot.and_then(|boot| boot.saturating_add(since_boot))
            .map_err(|_| ProcessError::invalid("the start time of a process is out of range"))
    }

    pub(super) fn port_holder(&self, port: u16) -> Result<Option<PortHolder>> {
        // A kernel without IPv6 has no second table.
        let v6 = procfs::net::tcp6().or_else(|e| if is_gone(&e) { Ok(Vec::new()) } else { Err(e) });
        let (v4, v6) = (procfs::net::tcp(), v6);
        let sockets = v4
            .and_then(|v4| Ok((v4, v6?)))
            .map_err(|e| failed("read the table of TCP sockets", e))?;
        let mut uid = None;
        let mut inodes = HashSet::new();
        for socket in sockets.0.into_iter().chain(sockets.1) {
            if socket.state == TcpState::Listen && socket.local_address.port() == port {
                uid.get_or_insert(socket.uid);
                inodes.insert(socket.inode);
            }
        }
        let Some(uid) = uid else {
            return Ok(None);
        };
        let mut processes = Vec::new();
        for process in all()? {
            if holds_one_of(&process, &inodes) {
                processes.extend(self.facts_of(&process)?);
            }
        }
        oldest_first(&mut processes);
        Ok(Some(PortHolder { port, uid, processes }))
    }

    pub(super) fn find_by_env(&self, name: &str, value: &str, uid: u32) -> Result<Vec<ProcessIdentity>> {
        let wanted = format!("{name}={value}");
        let mut found = Vec::new();
        for process in all()? {
            // Another user's environment cannot be read; a process may end while it is looked at.
            let Ok(text) = read(&process, "environ") else {
                continue;
            };
            let has = text.split(|byte| *byte == 0).any(|var| var == wanted.as_bytes());
            if has && process.uid().ok() == Some(uid) {
                found.extend(stat_of(&process)?.filter(Stat::is_alive));
            }
        }
        found.sort_by_key(|stat| (stat.start_time, stat.pid));
        Ok(found.iter().map(|stat| stat.identity(&self.boot_id)).collect())
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        let mut processes = Vec::new();
        for process in all()? {
            processes.extend(stat_of(&process)?.map(|stat| {
                let identity = stat.identity(&self.boot_id);
                SnapshotEntry::new(identity, stat.parent, stat.session, stat.zombie).keeper(stat.keeper)
            }));
        }
        Ok(Snapshot::new(processes))
    }
}

/// The facts that never need permission; `None` when there is no such process. One file, read by one call.
pub(super) fn stat(pid: u32) -> Result<Option<Stat>> {
    if i32::try_from(pid).is_err() {
        return Ok(None);
    }
    let text = || {
        let mut text = [0; MAX_STAT];
        let length = std::fs::File::open(format!("/proc/{pid}/stat"))?.read(&mut text)?;
        procfs::process::Stat::from_read(&text[..length])
    };
    Ok(some(text(), || format!("look at process {pid}"))?.map(Stat::from))
}

/// What all threads of a process have done.
pub(super) fn effort(pid: u32) -> Option<Effort> {
    let process = process(pid).ok()??;
    let mut all = Effort { done: 0, busy: false };
    for thread in process.tasks().ok()?.flatten() {
        let Ok(stat) = thread.stat() else { continue };
        // Times are in ticks, in which a page fault or two fit.
        for done in [stat.utime, stat.stime, stat.minflt, stat.majflt] {
            all.done = all.done.wrapping_add(done);
        }
        all.busy |= matches!(stat.state, 'R' | 'D');
    }
    Some(all)
}

fn process(pid: u32) -> Result<Option<Process>> {
    let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 0) else {
        return Ok(None);
    };
    some(Process::new(pid), || format!("look at process {pid}"))
}

/// One at a time: each holds a descriptor while it is looked at.
fn all() -> Result<impl Iterator<Item = Process>> {
    let all = procfs::process::all_processes().map_err(|e| failed("read /proc", e))?;
    Ok(all.filter_map(std::result::Result::ok))
}

fn stat_of(process: &Process) -> Result<Option<Stat>> {
    let stat = some(process.stat(), || format!("look at process {}", process.pid()))?;
    Ok(stat.map(Stat::from))
}

impl From<procfs::process::Stat> for Stat {
    fn from(stat: procfs::process::Stat) -> Self {
        Self {
            pid: stat.pid.cast_unsigned(),
            parent: stat.ppid.cast_unsigned(),
            session: stat.session.cast_unsigned(),
            start_time: stat.starttime,
            keeper: stat.comm.as_bytes() == KEEPER.to_bytes(),
            zombie: matches!(stat.state, 'Z' | 'X' | 'x'),
        }
    }
}

/// Who opened a socket comes before the children that have it too, be it only between their fork and exec. Process ids
/// tell no age: they wrap.
fn oldest_first(processes: &mut [ProcessFacts]) {
    processes.sort_by_key(|facts| (facts.identity.start_time, facts.identity.pid));
}

fn holds_one_of(process: &Process, inodes: &HashSet<u64>) -> bool {
    let Ok(fds) = process.fd() else { return false };
    fds.flatten()
        .any(|fd| matches!(fd.target, FDTarget::Socket(inode) if inodes.contains(&inode)))
}

pub(crate) fn environment(pid: u32) -> Option<Vec<u8>> {
    read(&process(pid).ok()??, "environ").ok()
}

/// Arguments or environment. While a process becomes another program it has none for a moment.
fn read(process: &Process, name: &str) -> Result<Vec<u8>> {
    const TRIES: usize = 100;
    const PAUSE: Duration = Duration::from_millis(1);
    let failed = |e| failed(format!("read {name} of process {}", process.pid()), e);
    for _ in 0..TRIES {
        let text = process
            .open_relative(name)
            .and_then(|file| Ok(read_at_once(file)?));
        let text = text.map_err(failed)?;
        if !text.is_empty() || !has_memory(process) {
            return Ok(text);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(Vec::new())
}

/// By one call, if there is room: between two the memory that the text is in may be gone, and the rest with it.
fn read_at_once(mut file: impl Read) -> io::Result<Vec<u8>> {
    let (mut text, mut filled) = (vec![0; USUAL_TEXT], 0);
    loop {
        let read = file.read(&mut text[filled..])?;
        filled += read;
        if read == 0 || filled < text.len() || filled >= MAX_TEXT {
            text.truncate(filled);
            return Ok(text);
        }
        text.resize(filled * 2, 0);
    }
}

/// Neither a zombie nor a thread of the kernel has any.
fn has_memory(process: &Process) -> bool {
    process.stat().is_ok_and(|stat| stat.vsize > 0)
}

/// The entries of a text in which each ends with a zero byte.
fn split(text: &[u8]) -> Vec<Vec<u8>> {
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    if text.is_empty() {
        Vec::new()
    } else {
        text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
    }
}

fn without_deleted(exe: PathBuf) -> PathBuf {
    match exe.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(path) => PathBuf::from(OsString::from_vec(path.to_vec())),
        None => exe,
    }
}

/// A process that ended meanwhile is an absence, not an error.
fn some<T>(answer: std::result::Result<T, ProcError>, what: impl Fn() -> String) -> Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(failed(what(), error)),
    }
}

fn is_gone(error: &ProcError) -> bool {
    match error {
        ProcError::NotFound(_) => true,
        ProcError::Io(error, _) => error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()),
        _ => false,
    }
}

fn failed(what: impl Into<String>, error: ProcError) -> ProcessError {
    let source = match error {
        ProcError::PermissionDenied(_) => io::ErrorKind::PermissionDenied.into(),
        ProcError::NotFound(_) => io::ErrorKind::NotFound.into(),
        ProcError::Io(error, _) => error,
        other => io::Error::other(other),
    };
    ProcessError::from_io(what, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_comes_first_whatever_its_id() {
        let started = |pid, start_time| ProcessFacts {
            identity: ProcessIdentity {
                pid,
                start_time,
                boot_id: "boot".into(),
            },
            uid: None,
            exe: None,
            argv: Vec::new(),
            detached_env: None,
            zombie: false,
            started_at: Timestamp::UNIX_EPOCH,
        };
        let mut processes = [started(7, 300), started(20_000, 100), started(30_000, 300)];
        oldest_first(&mut processes);
        assert_eq!(processes.map(|facts| facts.identity.pid), [20_000, 7, 30_000]);
    }
}
