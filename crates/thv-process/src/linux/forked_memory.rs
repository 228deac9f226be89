//! Giving back the memory that a forked process shares with its parent and never uses, and what others would read in it.
//!
//! Each page that the parent changes would otherwise be kept as it was at the fork, for as long as the child lives; and
//! the child would show the parent's arguments and environment as its own.

use std::os::fd::RawFd;

/// The list of this process's mappings; negative where it cannot be read.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
pub(super) unsafe fn open() -> RawFd {
    // SAFETY: in the forked child only; the path ends with a zero byte.
    unsafe { libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }
}

/// Empties all private anonymous memory but this thread's stack and its thread-local variables (errno is one).
///
/// # Safety
/// Only in a forked, single-threaded child that from here on makes system calls alone: nothing that was allocated, and
/// no static variable that was zero at the start of the program, has its value any more. Mappings of files, code and
/// relocated addresses among them, stay.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
pub(super) unsafe fn give_back(maps: RawFd) {
    let mut buffer = [0_u8; 512];
    let here = (&raw const buffer).addr();
    // SAFETY: the address of errno is this thread's.
    let errno = unsafe { libc::__errno_location() }.addr();
    let mut line = Line::default();
    loop {
        // SAFETY: `buffer` has room for what is read.
        let read = unsafe { libc::read(maps, buffer.as_mut_ptr().cast(), buffer.len()) };
        let Some(bytes) = usize::try_from(read).ok().and_then(|read| buffer.get(..read)) else {
            return;
        };
        if bytes.is_empty() {
            return;
        }
        for byte in bytes {
            if let Some((start, end)) = line.push(*byte)
                && !(start..end).contains(&here)
                && !(start..end).contains(&errno)
            {
                let address = std::ptr::without_provenance_mut(start);
                // SAFETY: the range is one mapping of this process, in which by the caller's word nothing is used.
                unsafe { libc::madvise(address, end - start, libc::MADV_DONTNEED) };
            }
        }
    }
}

/// Overwrites this process's copy of the arguments and the environment that its program was started with, where others
/// read them.
///
/// # Safety
/// Only in a forked, single-threaded child that reads neither from here on.
#[expect(unsafe_code, reason = "between fork and exec there are only raw system calls")]
pub(super) unsafe fn wipe_arguments() {
    let mut text = [0_u8; 1024];
    // SAFETY: the path ends with a zero byte, and `text` has room for what is read.
    let read = unsafe {
        let stat = libc::open(c"/proc/self/stat".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        let read = libc::read(stat, text.as_mut_ptr().cast(), text.len());
        libc::close(stat);
        read
    };
    let text = usize::try_from(read).ok().and_then(|read| text.get(..read));
    let [arguments, arguments_end, environment, environment_end] = places(text.unwrap_or_default());
    for (start, end) in [(arguments, arguments_end), (environment, environment_end)] {
        if start < end {
            // SAFETY: the kernel says that this process's strings are there: bytes of its stack that nothing else is
            // in, and by the caller's word nobody reads.
            unsafe {
                std::ptr::write_bytes(std::ptr::with_exposed_provenance_mut::<u8>(start), 0, end - start);
            };
        }
    }
}

/// Where arguments and environment begin and end: fields 48 to 51 of `stat`, zeros where it does not say.
fn places(stat: &[u8]) -> [usize; 4] {
    // The second field may contain anything, but no other has a bracket.
    let name_end = stat.iter().rposition(|byte| *byte == b')').unwrap_or(stat.len());
    let mut places = [0_usize; 4];
    let mut field = 2;
    for byte in stat.iter().skip(name_end) {
        if *byte == b' ' {
            field += 1;
        } else if let Some(place) = places.get_mut(usize::wrapping_sub(field, 48))
            && byte.is_ascii_digit()
        {
            *place = place.wrapping_mul(10).wrapping_add(digit(*byte));
        }
    }
    places
}

/// One line of the list: `start-end perms offset device inode path`.
#[derive(Default)]
struct Line {
    field: u8,
    start: usize,
    end: usize,
    /// How much of `rw-p` came, in order.
    private: u8,
    file: bool,
}

impl Line {
    /// Takes the next byte. At the end of a line: the range, if it is private, writable and of no file.
    fn push(&mut self, byte: u8) -> Option<(usize, usize)> {
        match (self.field, byte) {
            (_, b'\n') => {
                let line = std::mem::take(self);
                return (line.private == 4 && !line.file).then_some((line.start, line.end));
            }
            (0, b'-') | (1..=5, b' ') => self.field += 1,
            (0, _) => self.start = self.start.wrapping_shl(4) | digit(byte),
            (1, _) => self.end = self.end.wrapping_shl(4) | digit(byte),
            (2, _) if b"rw-p".get(usize::from(self.private)) == Some(&byte) => self.private += 1,
            (2, _) => self.private = u8::MAX,
            (5, byte) if byte != b'0' => self.file = true,
            _ => {}
        }
        None
    }
}

fn digit(byte: u8) -> usize {
    match byte {
        b'0'..=b'9' => usize::from(byte - b'0'),
        b'a'..=b'f' => usize::from(byte - b'a') + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, places};

    #[test]
    fn arguments_and_environment_are_found_behind_any_name() {
        let fields: Vec<String> = (4..=52).map(|field| (field * 10).to_string()).collect();
        let stat = format!("7 (a) b 1 2) S {}", fields.join(" "));
        assert_eq!(places(stat.as_bytes()), [480, 490, 500, 510]);
        assert_eq!(places(b""), [0; 4]);
        assert_eq!(places(b"7 (short) S 1"), [0; 4]);
    }

    #[test]
    fn only_private_writable_memory_of_no_file_is_given_back() {
        let text = "\
55d0c0000000-55d0c0021000 rw-p 00000000 00:00 0                          [heap]
7f1100000000-7f1100021000 rw-p 00000000 00:00 0
7f1200000000-7f1200021000 rw-s 00000000 00:00 0
7f1300000000-7f1300021000 ---p 00000000 00:00 0
7f1400000000-7f1400021000 r-xp 00001000 fe:00 1048602                    /usr/lib/libc.so.6
7f1500000000-7f1500021000 rw-p 00001000 fe:00 100                        /usr/lib/a 0
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
7ffd00000000-7ffd00004000 r--p 00000000 00:00 0                          [vvar]
";
        let mut line = Line::default();
        let found: Vec<_> = text.bytes().filter_map(|byte| line.push(byte)).collect();
        let range = |start: usize| (start, start + 0x21000);
        assert_eq!(
            found,
            [
                range(0x55d0_c000_0000),
                range(0x7f11_0000_0000),
                range(0x7ffc_0000_0000)
            ]
        );
    }
}
