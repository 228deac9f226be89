//! Each target over its corpus, and over what seeded changes make of it: the same in every run.

use std::path::Path;

/// So many inputs are made of each that is stored.
const CHANGED: usize = 300;
/// What changes put in: what parsers look for.
const WORDS: [&[u8]; 17] = [
    b"\xef\xbb\xbf",
    b"\n",
    b"\r\n",
    b"\r",
    b"\n\n",
    b"data:",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"\0",
    b"\xff",
    b":",
    b"@sha256:",
    b"/",
    b"\"id\":1",
];

/// xorshift64*: no crate is needed for numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap_or(0) % bound.max(1)
    }
}

/// One to four changes: a byte, a cut, a word, a part twice.
fn changed(input: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(5) {
            0 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap_or(0),
            1 => bytes.truncate(at),
            2 => {
                let end = at + random.below(16).min(bytes.len() - at);
                bytes.drain(at..end);
            }
            3 => {
                let end = at + random.below(32).min(bytes.len() - at);
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let word = WORDS[random.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
    bytes
}

fn run(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for file in files {
        let input = std::fs::read(&file).expect("a file");
        target(&input);
        for _ in 0..CHANGED {
            let input = changed(&input, &mut random);
            let outcome = std::panic::catch_unwind(|| target(&input));
            assert!(
                outcome.is_ok(),
                "{name}, from {}: {}",
                file.display(),
                input.escape_ascii()
            );
        }
    }
}

/// A test of each target, and the names of all.
macro_rules! targets {
    ($($name:ident),*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                run(stringify!($name), thv_fuzz_targets::$name);
            }
        )*
    };
}

targets!(
    bundle,
    envelope,
    events,
    image_reference,
    lines,
    registry_document
);

/// The fuzzer's programs are compiled by nobody who has no fuzzer: they are one line each, which calls what is compiled here.
#[test]
fn the_fuzzer_has_a_program_of_each() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    let manifest = read("Cargo.toml");
    for name in NAMES {
        let file = format!("fuzz_targets/{name}.rs");
        let call = format!("libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thv_fuzz_targets::{name}(bytes));");
        assert_eq!(read(&file), format!("#![no_main]\n\n{call}\n"), "{file}");
        let program = format!("[[bin]]\nname = \"{name}\"\npath = \"{file}\"\n");
        assert!(manifest.contains(&program), "{name} is no program");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), NAMES.len());
}
