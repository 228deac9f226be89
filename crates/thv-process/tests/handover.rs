//! A lock and a listening socket go to a real child process.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use thv_process::handover::{AsyncChannel, Channel, MAX_FDS, MAX_MESSAGE, Message};
use thv_process::{DetachedSpec, Exit, ProcessHandle, Signal, system};

const TIMEOUT: Duration = Duration::from_mins(2);
const ROLE: &str = "THV_TEST_HANDOVER_ROLE";

/// Not a test: the child's program, when this file is started with a role.
#[test]
fn child_program() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let parent = Channel::from_stdin().expect("standard input is the hand-over");
    let Some(message) = parent.recv(TIMEOUT).expect("a message") else {
        std::process::exit(7);
    };
    let mut fds = message.fds.into_iter();
    let _lock = File::from(fds.next().expect("the lock"));
    let listener = TcpListener::from(fds.next().expect("the socket"));
    parent
        .send(&[b"hello ", message.bytes.as_slice()].concat(), &[])
        .expect("the parent hears");
    loop {
        let (mut client, _) = listener.accept().expect("a client");
        client.write_all(b"from the child").expect("an answer");
    }
}

fn start_child() -> (AsyncChannel, Box<dyn ProcessHandle>) {
    let (ours, theirs) = Channel::pair().expect("a pair");
    let program = std::env::current_exe().expect("this program");
    let spec = DetachedSpec::new(program)
        .args(["--exact", "child_program", "--nocapture"])
        .env([(ROLE, "child")])
        .stdin(theirs);
    let child = system()
        .and_then(|processes| processes.spawn_detached(spec))
        .expect("a child");
    (ours.into_async().expect("an async end"), child)
}

async fn next(channel: &AsyncChannel) -> Option<Message> {
    tokio::time::timeout(TIMEOUT, channel.recv())
        .await
        .expect("in time")
        .expect("a message")
}

#[tokio::test]
async fn lock_and_socket_survive_the_parents_close_and_end_with_the_child() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("workload.owner");
    let lock = File::create(&path).expect("a file");
    lock.try_lock().expect("the lock");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");

    let (channel, child) = start_child();
    channel
        .send(b"claim-1", &[lock.as_fd(), listener.as_fd()])
        .expect("sent");
    drop((lock, listener));
    let other = File::open(&path).expect("the file");
    assert!(other.try_lock().is_err(), "held while in flight");

    let hello = next(&channel).await.expect("the child lives");
    assert_eq!(hello.bytes, b"hello claim-1");
    assert!(other.try_lock().is_err(), "held by the child");
    let mut answer = String::new();
    let mut client = TcpStream::connect(address).expect("the child listens");
    client.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "from the child");

    child.signal(Signal::Kill).expect("the signal");
    assert_eq!(child.exited().await.expect("its end"), Exit::Signal(9));
    other.try_lock().expect("free at the child's death");
    TcpStream::connect(address).expect_err("nobody listens any more");
    assert!(
        next(&channel).await.is_none(),
        "the parent notices the child's death"
    );
}

#[tokio::test]
async fn a_child_whose_parent_ends_before_the_message_ends_too() {
    let (channel, child) = start_child();
    drop(channel);
    assert_eq!(child.exited().await.expect("its end"), Exit::Code(7));
}

#[test]
fn messages_are_bounded_and_keep_their_boundaries() {
    let (a, b) = Channel::pair().expect("a pair");
    let null = File::open("/dev/null").expect("/dev/null");
    let refused = |bytes: &[u8], fds: usize| {
        let fds = vec![null.as_fd(); fds];
        a.send(bytes, &fds).expect_err("refused").code()
    };
    assert_eq!(refused(b"", 0), "process_invalid");
    assert_eq!(refused(&vec![0; MAX_MESSAGE + 1], 0), "process_invalid");
    assert_eq!(refused(b"x", MAX_FDS + 1), "process_invalid");

    a.send(&vec![1; MAX_MESSAGE], &[null.as_fd(); MAX_FDS])
        .expect("the largest");
    a.send(b"x", &[]).expect("the next");
    let largest = b.recv(TIMEOUT).expect("a message").expect("not the end");
    assert_eq!((largest.bytes.len(), largest.fds.len()), (MAX_MESSAGE, MAX_FDS));
    for fd in &largest.fds {
        let flags = rustix::io::fcntl_getfd(fd).expect("flags");
        assert!(
            flags.contains(rustix::io::FdFlags::CLOEXEC),
            "received descriptors are not inherited"
        );
    }
    assert_eq!(
        b.recv(TIMEOUT).expect("a message").expect("not the end").bytes,
        b"x"
    );

    assert_eq!(
        b.recv(Duration::from_millis(1))
            .expect_err("nothing there")
            .code(),
        "process_no_answer"
    );
    drop(a);
    assert!(b.recv(TIMEOUT).expect("the end").is_none());
    assert_eq!(
        b.send(b"x", &[]).expect_err("nobody there").code(),
        "process_no_answer"
    );
}

#[test]
fn what_is_not_the_end_of_a_pair_is_refused() {
    let null = File::open("/dev/null").expect("/dev/null");
    assert_eq!(
        Channel::from_fd(null.into()).expect_err("a file").code(),
        "process_invalid"
    );
    let (stream, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
    assert_eq!(
        Channel::from_fd(stream.into()).expect_err("a stream").code(),
        "process_invalid"
    );
}

#[test]
fn too_many_descriptors_from_a_stranger_are_an_error() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let (a, b) = Channel::pair().expect("a pair");
    let a = std::os::fd::OwnedFd::from(a);
    let null = File::open("/dev/null").expect("/dev/null");
    let fds = [null.as_fd(); MAX_FDS + 1];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(
        &a,
        &[std::io::IoSlice::new(b"x")],
        &mut control,
        SendFlags::empty(),
    )
    .expect("sent");
    assert_eq!(b.recv(TIMEOUT).expect_err("too many").code(), "process_invalid");
}
