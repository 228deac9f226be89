//! Giving back the pages of this program's code that nobody executes any more.
//!
//! A start touches most of a program: it reads a command line, wires what there is, asks who else is there. Whoever then
//! waits for hours needs little of it, and the kernel keeps the rest mapped until memory is short.

use std::io;

/// Forgets the mapped pages of this program's own code. Each comes back from the file when it is executed again.
pub(super) fn give_back() -> io::Result<()> {
    let program = std::fs::read_link("/proc/self/exe")?;
    let Some(program) = program.to_str() else {
        return Ok(());
    };
    for (start, length) in code_of(program, &std::fs::read_to_string("/proc/self/maps")?) {
        forget(start, length)?;
    }
    Ok(())
}

/// Where the code of `program` is mapped, and how long: privately, to be read and executed and not to be written.
fn code_of<'a>(program: &'a str, maps: &'a str) -> impl Iterator<Item = (usize, usize)> + 'a {
    maps.lines().filter_map(move |line| {
        // `start-end perms offset device inode path`
        let (range, rest) = line.split_once(' ')?;
        let mut fields = rest.splitn(5, ' ');
        let permissions = fields.next()?;
        let path = fields.nth(3)?.trim_start();
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        (permissions == "r-xp" && path == program).then(|| (start, end.saturating_sub(start)))
    })
}

#[expect(unsafe_code, reason = "the system has no safe call for it")]
fn forget(start: usize, length: usize) -> io::Result<()> {
    let address = std::ptr::without_provenance_mut(start);
    // SAFETY: the range is this program's own code, which is never unmapped. It is private and cannot be written, so each
    // of its pages is what the file has there, before and after.
    match unsafe { libc::madvise(address, length, libc::MADV_DONTNEED) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_of_the_program_itself_is_found() {
        let maps = "\
55ffd4cfe000-55ffd52bb000 r--p 00000000 fe:00 10651844                   /opt/a b/thv
55ffd52bb000-55ffd52bd000 r-xp 005bc000 fe:00 10651844                   /opt/a b/thv
55ffd52c0000-55ffd52c1000 rwxp 005bc000 fe:00 10651844                   /opt/a b/thv
55ffd6681000-55ffd66ff000 r--p 01981000 fe:00 10651844                   /opt/a b/thv
55ffdfd2b000-55ffdfd9a000 rw-p 00000000 00:00 0                          [heap]
7f4d9ec0d000-7f4d9ed63000 r-xp 00026000 fe:00 326269                     /usr/lib/libc.so.6
7ffd00000000-7ffd00004000 r-xp 00000000 00:00 0                          [vdso]
";
        let found: Vec<_> = code_of("/opt/a b/thv", maps).collect();
        assert_eq!(found, [(0x55ff_d52b_b000, 0x2000)]);
        assert_eq!(code_of("/opt/b", maps).count(), 0);
    }
}
