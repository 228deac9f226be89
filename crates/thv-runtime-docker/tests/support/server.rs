//! The server that the tests run in containers: a single static file, made of `std` only.
//!
//! `server echo [--ignore-term]`, `server about`, `server exit TEXT CODE`, `server http`, `server eat` (which eats
//! memory without end once it has read one byte), `server look PATH...` (says what it finds there, and whether it can write).

use std::io::{Read, Write};

unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
    fn _exit(code: i32) -> !;
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
        let line = status.lines().find(|line| line.starts_with("NoNewPrivs:")).unwrap();
        eprintln!("process {} {line}", std::process::id());
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
