//! What this binary itself was loaded with: in a root of its own a step's libraries are others, or of another C library.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::bind::open;

/// The dynamic loader of this process and the libraries that it mapped, to start the launcher with.
pub(super) struct Loader {
    /// A program that is given the libraries and the program to start (ld.so(8)).
    pub(super) program: File,
    /// Each is found by the name that it says of itself.
    pub(super) libraries: Vec<File>,
}

impl Loader {
    /// This process's; `None` where everything is in the binary.
    pub(super) fn of_this_process() -> io::Result<Option<Loader>> {
        // SAFETY: the call reads a number that the kernel left for the process.
        let base = unsafe { libc::getauxval(libc::AT_BASE) };
        let maps = fs::read_to_string("/proc/self/maps")?;
        let exe = fs::read_link("/proc/self/exe")?;
        let Some(program) = mapped(&maps).find(|(start, _, _)| *start == base).map(|(_, _, path)| path) else {
            return Ok(None);
        };
        let is_library = |(_, code, path): &(libc::c_ulong, bool, &str)| {
            *code && *path != program && Path::new(path) != exe.as_path()
        };
        let libraries: BTreeSet<&str> = mapped(&maps).filter(is_library).map(|(_, _, path)| path).collect();
        let opened = |path: &str| open(Path::new(path)).map(File::from);
        Ok(Some(Loader {
            program: opened(program)?,
            libraries: libraries.into_iter().map(opened).collect::<io::Result<_>>()?,
        }))
    }
}

/// Files in memory (`proc_pid_maps(5)`): where each begins, whether it is code, its path.
fn mapped(maps: &str) -> impl Iterator<Item = (libc::c_ulong, bool, &str)> {
    maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let path = &rest[rest.find('/')?..];
        let start = libc::c_ulong::from_str_radix(range.split_once('-')?.0, 16).ok()?;
        Some((start, rest.get(..4)?.contains('x'), path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_was_loaded_with_something() {
        let loader = Loader::of_this_process().expect("/proc is there");
        if cfg!(target_feature = "crt-static") {
            return;
        }
        assert!(!loader.expect("a dynamic binary has one").libraries.is_empty());
    }

    #[test]
    fn lines_of_maps_are_read() {
        let maps = "55d0-55d1 r-xp 00000000 fe:00 12 /opt/a b/hookmill\n7f00-7f01 r--p 00000000 fe:00 13                         /lib/ld.so\n\
                    7f02-7f03 rw-p 00000000 00:00 0 \n7ffc-7ffd r-xp 00000000 00:00 0  [vdso]\n";
        let read: Vec<_> = mapped(maps).collect();
        assert_eq!(read, [(0x55d0, true, "/opt/a b/hookmill"), (0x7f00, false, "/lib/ld.so")]);
    }
}
