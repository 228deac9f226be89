//! The keeper of a contained program, made between `fork` and `exec`.
//!
//! What std forked does not become the program but its **keeper**: it forks the program, waits for its end, ends all
//! that it left behind, and ends as the program did. It holds no descriptor of the program or of the caller, and no
//! signal but SIGKILL and SIGSTOP reaches it.
//!
//! Where the kernel allows it (`CAP_SYS_ADMIN`), program and descendants are in a pid namespace of their own, whose
//! process 1 is a second, idle process. The keeper is outside, so the program has no parent that it could see (its
//! parent is 0, as in a container), and the end of process 1 ends everybody in it. Elsewhere the keeper is the subreaper
//! of its descendants: orphans become its children, and it kills its children until none is left.
//!
//! No user namespace is made: it would change what the program sees as its user and its files' owners.
//!
//! Keepers are copies of the calling process and never exec. Their copy of its memory is given back at once, so they
//! neither hold pages that the caller changes later nor show its arguments and environment.

use std::ffi::{CStr, c_int, c_long, c_ulong};
use std::io;
use std::os::fd::RawFd;

use super::forked_memory;

/// How long the message is that the keeper sends before the program runs: whether there is a namespace, and the
/// program's pid in the machine's byte order.
pub(super) const REPORT: usize = 5;

/// The name under which a keeper is listed.
pub(super) const KEEPER: &CStr = c"thv-keeper";

/// Becomes the keeper and returns in the program alone, which is to be executed next.
///
/// On an error neither program nor helper is left, and the caller is the process that it was, still without a keeper.
///
/// # Safety
/// Only in the forked, single-threaded child of `fork`. `report` is an open descriptor of that process, marked
/// close-on-exec, that nobody else in it uses.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
pub(super) unsafe fn keep(report: RawFd, namespaces: bool) -> io::Result<()> {
    // SAFETY: the caller's duty is this module's: a single thread after fork. Everything below is raw system calls and
    // arithmetic on the stack; nothing allocates, locks or panics. Descriptors that are closed here belong to a copy
    // of the caller that never returns to their owners.
    unsafe {
        block_signals();
        forked_memory::wipe_arguments();
        let own = libc::getpid();
        // Later `/proc` may be the namespace's, in which this process is not.
        let memory = forked_memory::open();
        let init = if namespaces { enter_namespace() } else { None };
        if init.is_none() {
            libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as c_ulong, 0, 0, 0);
        }
        let program = fork();
        if program == 0 {
            return become_program(init.is_none().then_some(own));
        }
        if program < 0 {
            let error = io::Error::last_os_error();
            if let Some(init) = init {
                libc::kill(init, libc::SIGKILL);
                wait_for(init);
            }
            return Err(error);
        }
        tell(report, init.is_some(), program);
        become_idle(KEEPER, memory);
        let status;
        if let Some(init) = init {
            status = wait_for(program);
            libc::kill(init, libc::SIGKILL);
            // It ends after all others in its namespace.
            wait_for(init);
        } else {
            status = wait_among_orphans(program);
            end_children();
        }
        end_as(status)
    }
}

/// Makes a namespace for the children to come, and its process 1 with a `/proc` of its own. `None` where that is not
/// allowed; then children are where they were before.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn enter_namespace() -> Option<libc::pid_t> {
    // SAFETY: as in `keep`. Strings are constants that end with a zero byte; `pipe` has room for two descriptors, and
    // `byte` for the one that is read.
    unsafe {
        let before = libc::open(c"/proc/self/ns/pid".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if before < 0 || libc::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS) != 0 {
            return None;
        }
        let mut pipe = [0; 2];
        let ready = change_mount(c"/", libc::MS_REC | libc::MS_SLAVE)
            && libc::pipe2(&raw mut pipe[0], libc::O_CLOEXEC) == 0;
        let init = if ready { fork() } else { -1 };
        if init == 0 {
            libc::close(pipe[0]);
            be_init(pipe[1]);
        }
        let mut byte = 0_u8;
        if init > 0 {
            libc::close(pipe[1]);
            if read(pipe[0], &mut byte) {
                return Some(init);
            }
            wait_for(init);
        }
        // The namespace died with its process 1; the next child is to be where we are.
        libc::setns(before, libc::CLONE_NEWPID);
        None
    }
}

/// Process 1 of the namespace: adopts orphans and lives until its keeper ends it or dies.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn be_init(ready: RawFd) -> ! {
    // SAFETY: as in `keep`; `ready` is the pipe's end of this process.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong, 0, 0, 0);
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let mounted = libc::mount(
            c"proc".as_ptr(),
            c"/proc".as_ptr(),
            c"proc".as_ptr(),
            flags,
            std::ptr::null(),
        );
        // Children that end are collected by the kernel.
        set_signal(libc::SIGCHLD, libc::SIG_IGN);
        // A keeper that died before it could be watched has closed the other end.
        let byte = 1_u8;
        if mounted != 0 || libc::write(ready, (&raw const byte).cast(), 1) != 1 {
            libc::_exit(1);
        }
        become_idle(c"thv-init", forked_memory::open());
        loop {
            libc::pause();
        }
    }
}

/// What is left to do before exec: a session of its own, and signals as a program expects them.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn become_program(keeper: Option<libc::pid_t>) -> io::Result<()> {
    // SAFETY: as in `keep`; the signal set is initialised by `sigemptyset`.
    unsafe {
        if let Some(keeper) = keeper {
            // With its keeper goes who could end its descendants.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong, 0, 0, 0);
            if libc::getppid() != keeper {
                libc::_exit(1);
            }
        }
        libc::setsid();
        for signal in 1..=64 {
            set_signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Gives back what the copy of the caller has: its name, its descriptors, its memory.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn become_idle(name: &CStr, memory: RawFd) {
    // SAFETY: as in `keep`; `name` ends with a zero byte. All descriptors are closed but `memory`, which moves to 0.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0);
        let keep = memory >= 0 && libc::dup2(memory, 0) == 0;
        let first = c_int::from(keep);
        if libc::syscall(
            libc::SYS_close_range,
            c_long::from(first),
            c_long::from(c_int::MAX),
            0 as c_long,
        ) != 0
        {
            // Before Linux 5.9. Descriptors are given away from the lowest, so the bound is far away.
            for fd in first..65_536 {
                libc::close(fd);
            }
        }
        if keep {
            forked_memory::give_back(0);
            libc::close(0);
        }
    }
}

/// Tells the caller's end of the pipe who the program is. Nobody listening is fine.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn tell(report: RawFd, namespace: bool, program: libc::pid_t) {
    let [a, b, c, d] = program.to_ne_bytes();
    let message: [u8; REPORT] = [u8::from(namespace), a, b, c, d];
    // SAFETY: as in `keep`; `message` has the given length. A pipe takes so few bytes whole.
    unsafe {
        libc::write(report, message.as_ptr().cast(), REPORT);
    }
}

/// Collects orphans until the program has ended.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn wait_among_orphans(program: libc::pid_t) -> c_int {
    loop {
        // SAFETY: as in `keep`.
        let (ended, status) = unsafe { collect(-1, 0) };
        if ended == program || ended < 0 {
            return status;
        }
    }
}

/// Kills and collects children until there are none: the orphans of a child that is killed are the next ones.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn end_children() {
    // SAFETY: as in `keep`; the time is initialised.
    unsafe {
        while kill_children() {
            let mut collected = false;
            loop {
                match collect(-1, libc::WNOHANG).0 {
                    0 => break,
                    ended if ended < 0 => return,
                    _ => collected = true,
                }
            }
            if !collected {
                // Killed, and not dead yet.
                let moment = libc::timespec {
                    tv_sec: 0,
                    tv_nsec: 1_000_000,
                };
                libc::nanosleep(&raw const moment, std::ptr::null_mut());
            }
        }
    }
}

/// Kills all children that there are now. They are ours to collect, so no pid is another's. `false` where the kernel
/// does not list them.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn kill_children() -> bool {
    // SAFETY: as in `keep`; the path ends with a zero byte.
    unsafe {
        let list = libc::open(
            c"/proc/thread-self/children".as_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC,
        );
        if list < 0 {
            return false;
        }
        let (mut pid, mut byte) = (0, 0_u8);
        while read(list, &mut byte) {
            if byte.is_ascii_digit() {
                pid = pid * 10 + libc::pid_t::from(byte - b'0');
            } else {
                if pid > 0 {
                    libc::kill(pid, libc::SIGKILL);
                }
                pid = 0;
            }
        }
        libc::close(list);
        true
    }
}

/// Ends this process as `status` says that another one ended, without a core dump of it.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn end_as(status: c_int) -> ! {
    // SAFETY: as in `keep`; the signal set is initialised by `sigemptyset`.
    unsafe {
        if libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status);
            libc::prctl(libc::PR_SET_DUMPABLE, 0 as c_ulong, 0, 0, 0);
            set_signal(signal, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::kill(libc::getpid(), signal);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            libc::_exit(128 + signal);
        }
        libc::_exit(libc::WEXITSTATUS(status))
    }
}

#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn block_signals() {
    // SAFETY: as in `keep`; the signal set is initialised by `sigfillset`.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        // Ignored, it would let the kernel collect children unseen.
        set_signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn set_signal(signal: c_int, what: libc::sighandler_t) {
    // SAFETY: as in `keep`; zero is a valid value of each field, and `what` is no function but SIG_DFL or SIG_IGN.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = what;
        // Refused for SIGKILL, SIGSTOP and those of the C library.
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn change_mount(path: &CStr, flags: c_ulong) -> bool {
    // SAFETY: as in `keep`; a change of propagation reads the path alone.
    unsafe {
        let none = std::ptr::null();
        libc::mount(none, path.as_ptr(), none, flags, std::ptr::null()) == 0
    }
}

/// `fork` without what a C library does around it.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn fork() -> libc::pid_t {
    let flags = c_long::from(libc::SIGCHLD);
    // On this machine alone the stack comes first.
    let (first, second) = if cfg!(target_arch = "s390x") {
        (0, flags)
    } else {
        (flags, 0)
    };
    // SAFETY: as in `keep`; without CLONE_VM the child has a copy of this stack.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            first,
            second,
            0 as c_long,
            0 as c_long,
            0 as c_long,
        )
    };
    pid as libc::pid_t
}

#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn wait_for(pid: libc::pid_t) -> c_int {
    // SAFETY: as in `keep`.
    unsafe { collect(pid, 0).1 }
}

/// Who ended, and how; a negative number when there is nobody.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn collect(pid: libc::pid_t, flags: c_int) -> (libc::pid_t, c_int) {
    let mut status = 0;
    loop {
        // SAFETY: as in `keep`; `status` outlives the call.
        let ended = unsafe { libc::waitpid(pid, &raw mut status, flags) };
        // SAFETY: errno is this thread's.
        if ended >= 0 || unsafe { *libc::__errno_location() } != libc::EINTR {
            return (ended, status);
        }
    }
}

/// Reads one byte. `false` at the end, and on an error.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
unsafe fn read(fd: RawFd, byte: &mut u8) -> bool {
    // SAFETY: as in `keep`; there is room for one byte.
    unsafe { libc::read(fd, std::ptr::from_mut(byte).cast(), 1) == 1 }
}
