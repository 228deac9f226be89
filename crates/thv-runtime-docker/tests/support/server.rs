//! The server that the tests run in containers: a single static file, made of `std` only.
//!
//! `server echo [--ignore-term]`, `server about`, `server exit TEXT CODE`, `server http`, `server eat` (which eats
//! memory without end once it has read one byte), `server look PATH...` (says what it finds there, and whether it can write),
//! `server pieces COUNT` (so many lines, each in two pieces), `server serve TEXT [PORT]` (HTTP on 8080, or there), `server probe` (tries the
//! network as the lines on its standard input say).

use std::io::{Read, Write};

unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
    fn _exit(code: i32) -> !;
    fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    fn setsockopt(fd: i32, level: i32, name: i32, value: *const u8, length: u32) -> i32;
}

extern "C" fn terminate(_: i32) {
    unsafe { _exit(0) }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mode = args.first().map_or("echo", String::as_str);
    if mode == "exit" {
        eprintln!("{}", args[1]);
        std::process::exit(args[2].parse().unwrap());
    }
    // Without a handler process 1 ignores the signal, and any other ends by it.
    let ignore = 1;
    let handler = if args.iter().any(|arg| arg == "--ignore-term") {
        ignore
    } else {
        terminate as *const () as usize
    };
    unsafe { signal(15, handler) };
    if mode == "about" {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = |name| status.lines().find(|line| line.starts_with(name)).unwrap();
        eprintln!("process {} {} {}", std::process::id(), line("CapBnd:"), line("NoNewPrivs:"));
    }
    if mode == "pieces" {
        for number in 0..args[1].parse().unwrap() {
            let text: String = format!("line {number}");
            for piece in [text.as_str(), "\n"] {
                std::io::stderr().write_all(piece.as_bytes()).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
        }
    }
    if mode == "look" {
        for path in &args[1..] {
            look(path);
        }
    }
    eprintln!("thv-contract ready");
    match mode {
        "http" => loop {
            std::thread::park();
        },
        "serve" => serve(&args[1], args.get(2).map_or("8080", String::as_str)),
        "probe" => {
            for line in std::io::stdin().lines() {
                let line = line.unwrap();
                let words: Vec<&str> = line.split(' ').collect();
                println!("{}", probe(&words).replace('\n', " "));
            }
        }
        // Told to, not at once: an engine may miss what becomes of a container that it is still starting.
        "eat" => {
            std::io::stdin().read_exact(&mut [0]).unwrap();
            let mut eaten: Vec<Vec<u8>> = Vec::new();
            loop {
                eaten.push(vec![1; 1 << 20]);
            }
        }
        _ => {
            let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
            let mut buffer = vec![0; 65536];
            while let Ok(read @ 1..) = input.read(&mut buffer) {
                output.write_all(&buffer[..read]).unwrap();
                output.flush().unwrap();
            }
        }
    }
}

/// A line of a folder's names or a file's content, and whether something can be put there.
fn look(path: &str) {
    let (seen, probe) = match std::fs::read_dir(path) {
        Ok(entries) => {
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            (names.join(","), format!("{path}/probe"))
        }
        Err(_) => match std::fs::read_to_string(path) {
            Ok(text) => (text, path.to_owned()),
            Err(error) => (format!("({})", error.kind()), path.to_owned()),
        },
    };
    let written = std::fs::OpenOptions::new().append(true).create(true).open(probe).is_ok();
    eprintln!("{path} [{seen}] {}", if written { "writable" } else { "read-only" });
}

fn serve(text: &str, port: &str) {
    let listener = std::net::TcpListener::bind(format!("0.0.0.0:{port}")).unwrap();
    for client in listener.incoming() {
        let mut client = client.unwrap();
        let _ = client.read(&mut [0; 4096]);
        let _ = write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len());
    }
}

const WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// One attempt, and how it went: `ok …` or `no …`.
fn probe(words: &[&str]) -> String {
    let tried = match words {
        ["interfaces"] => std::fs::read_dir("/sys/class/net").map(|entries| {
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names.join(",")
        }),
        ["tcp", address] => address
            .parse()
            .map_err(std::io::Error::other)
            .and_then(|address| std::net::TcpStream::connect_timeout(&address, WAIT))
            .map(|_| String::new()),
        ["udp", address] => udp(address, None),
        // Bound to an interface, a socket needs no route.
        ["udp", address, interface] => udp(address, Some(interface)),
        ["raw"] => raw(2, 3, 1),
        ["packet"] => raw(17, 3, 0x0300),
        ["vsock"] => raw(40, 1, 0),
        ["resolve", name] => resolve(name),
        ["proxy", request, target] => proxy(request, target),
        _ => Err(std::io::Error::other("what?")),
    };
    match tried {
        Ok(text) => format!("ok {text}"),
        Err(error) => format!("no {error}"),
    }
}

fn udp(address: &str, interface: Option<&str>) -> std::io::Result<String> {
    use std::os::fd::AsRawFd;
    let local = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = std::net::UdpSocket::bind(local)?;
    if let Some(interface) = interface {
        let name = interface.as_bytes();
        if unsafe { setsockopt(socket.as_raw_fd(), 1, 25, name.as_ptr(), name.len() as u32) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    socket.send_to(b"escaped", address).map(|_| String::new())
}

fn raw(domain: i32, kind: i32, protocol: i32) -> std::io::Result<String> {
    match unsafe { socket(domain, kind, protocol) } {
        -1 => Err(std::io::Error::last_os_error()),
        fd => Ok(fd.to_string()),
    }
}

/// Asks each resolver that the container was given.
fn resolve(name: &str) -> std::io::Result<String> {
    let file = std::fs::read_to_string("/etc/resolv.conf")?;
    let mut question = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    let mut last = std::io::Error::other("no resolver");
    for server in file.lines().filter_map(|line| line.strip_prefix("nameserver ")) {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(WAIT))?;
        let asked = socket.send_to(&question, (server.trim(), 53)).and_then(|_| {
            let mut answer = [0; 512];
            let read = socket.recv(&mut answer)?;
            Ok(format!("{} answers", answer[..read][7]))
        });
        match asked {
            Ok(text) => return Ok(text),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Through the proxy that the environment names: the status and the last line of the answer.
fn proxy(request: &str, target: &str) -> std::io::Result<String> {
    let address = std::env::var("HTTP_PROXY").map_err(std::io::Error::other)?;
    let mut stream = std::net::TcpStream::connect(address.trim_start_matches("http://"))?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
    write!(stream, "{request} {target} HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut answer = String::new();
    if request == "CONNECT" {
        let mut byte = [0];
        while !answer.ends_with("\r\n\r\n") && stream.read(&mut byte)? == 1 {
            answer.push(byte[0] as char);
        }
        if answer.starts_with("HTTP/1.1 200") {
            write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
        }
    }
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).unwrap_or("nothing").to_owned();
    Ok(format!("{status} {}", answer.lines().last().unwrap_or_default()))
}
