//! Trees where nothing can be stacked, on the real file systems that this machine can make: lent sources come back as
//! they were or not at all, whatever a build did to them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use hookmill::runner::flat::{Brought, Installed, Lent, Parted, Places, Returned, Way, bring};
use hookmill::tree::{self, FileSystem};

use crate::support::disks::{Disk, each_disk, each_disk_of};

/// A slot with sources in it, as a checkout leaves them.
struct Slot {
    places: Places,
    files: FileSystem,
}

impl Slot {
    fn new(disk: &Disk) -> Self {
        let data = tempfile::Builder::new().prefix("slot-").tempdir_in(disk.path()).expect("room").keep();
        let slot = data.join("slots/0");
        let places = Places {
            slot: slot.join("repos/shop"),
            tree: slot.join("build"),
            own: slot.join("builds/1"),
            trash: data.join("trash"),
        };
        let src = places.slot.join("src");
        for folder in [".git/objects/info", "lib/deep", "assets"] {
            fs::create_dir_all(src.join(folder)).expect("a folder");
        }
        for file in
            [".git/HEAD", ".git/config", ".git/index", "package.json", "package-lock.json", "lib/a.js", "lib/deep/b.js"]
        {
            fs::write(src.join(file), format!("the text of {file}\n")).expect("a file");
        }
        symlink("package.json", src.join("assets/link")).expect("a link");
        Self { files: FileSystem::probe(&data).expect("ours"), places }
    }

    fn src(&self) -> PathBuf {
        self.places.slot.join("src")
    }

    /// Lends the sources, lets a build do something in them, and takes them back.
    fn build(&self, work: impl FnOnce(&Path)) -> Returned {
        fs::create_dir_all(&self.places.own).expect("a folder");
        let lent = Lent::lend(self.places.clone(), self.files).expect("sources");
        assert_eq!(lent.way(), Way::Renamed);
        assert!(!self.src().exists(), "a build that is killed leaves no sources");
        work(lent.tree());
        let returned = lent.give_back().expect("a tree");
        assert!(!self.places.tree.exists());
        tree::rename_away(&self.places.own, &self.places.trash).expect("ours");
        returned
    }

    /// Everything in the sources: path, mode, inode and contents.
    fn all(&self) -> Vec<(PathBuf, u32, u64, Vec<u8>)> {
        let mut all = Vec::new();
        tree::walk(&self.src(), |entry| {
            let text = match entry.kind {
                tree::Kind::File => fs::read(self.src().join(&entry.path)).expect("readable"),
                _ => Vec::new(),
            };
            all.push((entry.path.clone(), entry.mode, entry.inode, text));
            tree::Visit::Continue
        })
        .expect("sources");
        all
    }
}

/// Writes other bytes of the same length into a file and sets its times back.
fn edit_unseen(path: &Path) {
    let meta = fs::metadata(path).expect("there");
    let mut file = fs::OpenOptions::new().write(true).open(path).expect("ours");
    file.write_all(b"X").expect("room");
    let times = fs::FileTimes::new()
        .set_modified(meta.modified().expect("a time"))
        .set_accessed(meta.accessed().expect("a time"));
    file.set_times(times).expect("ours");
    let after = fs::metadata(path).expect("there");
    assert_eq!((meta.len(), meta.mtime_nsec(), meta.ino()), (after.len(), after.mtime_nsec(), after.ino()));
}

#[test]
fn what_a_build_adds_goes_and_the_sources_stay() {
    each_disk(|disk| {
        let slot = Slot::new(disk);
        let before = slot.all();
        let returned = slot.build(|tree| {
            fs::create_dir_all(tree.join("node_modules/a")).expect("a folder");
            fs::write(tree.join("node_modules/a/index.js"), "").expect("a file");
            fs::create_dir_all(tree.join("lib/deep/dist/closed")).expect("a folder");
            fs::write(tree.join("lib/deep/dist/closed/x"), "").expect("a file");
            for closed in ["lib/deep/dist/closed", "lib/deep/dist"] {
                fs::set_permissions(tree.join(closed), fs::Permissions::from_mode(0o555)).expect("ours");
            }
            symlink("/", tree.join("root")).expect("a link");
            rustix::fs::mknodat(
                rustix::fs::CWD,
                tree.join("lib/pipe"),
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o600),
                0,
            )
            .expect("a pipe");
        });
        assert_eq!(returned, Returned::Back, "{disk}");
        assert_eq!(slot.all(), before, "{disk}");
        tree::empty_trash(&slot.places.trash).expect("ours");
    });
}

#[test]
fn nothing_that_was_written_into_git_stays() {
    each_disk(|disk| {
        let slot = Slot::new(disk);
        let before = slot.all();
        let returned = slot.build(|tree| {
            fs::create_dir(tree.join(".git/hooks")).expect("a folder");
            fs::write(tree.join(".git/hooks/post-checkout"), "#!/bin/sh\n").expect("a file");
            fs::write(tree.join(".git/config"), "[core]\n\tfsmonitor = ./evil\n").expect("a file");
            fs::write(tree.join(".git/index"), "another").expect("a file");
        });
        assert_eq!(returned, Returned::Back, "{disk}");
        assert_eq!(slot.all(), before, "{disk}");
        let returned = slot.build(|tree| {
            fs::remove_dir_all(tree.join(".git")).expect("ours");
            symlink("/etc", tree.join(".git")).expect("a link");
        });
        assert_eq!((returned, slot.all()), (Returned::Back, before), "{disk}");
    });
}

#[test]
fn whoever_touches_a_tracked_file_ends_the_sources() {
    type Attack = fn(&Path);
    let attacks: [(&str, Attack); 12] = [
        ("lib/a.js", |tree| edit_unseen(&tree.join("lib/a.js"))),
        ("lib/a.js", |tree| {
            fs::set_permissions(tree.join("lib/a.js"), fs::Permissions::from_mode(0o777)).expect("ours")
        }),
        ("lib/a.js", |tree| fs::hard_link(tree.join("lib/a.js"), tree.join("lib/twin.js")).expect("one file system")),
        ("lib/a.js", |tree| {
            // Away and back again, as git itself could not tell.
            fs::rename(tree.join("lib/a.js"), tree.join("kept")).expect("ours");
            fs::copy(tree.join("kept"), tree.join("lib/a.js")).expect("room");
        }),
        ("lib/a.js", |tree| {
            fs::write(tree.join("evil"), "the text of lib/a.jX\n").expect("room");
            fs::remove_file(tree.join("lib/a.js")).expect("ours");
            fs::hard_link(tree.join("evil"), tree.join("lib/a.js")).expect("one file system");
        }),
        ("lib/a.js", |tree| fs::remove_file(tree.join("lib/a.js")).expect("ours")),
        ("assets/link", |tree| {
            fs::remove_file(tree.join("assets/link")).expect("ours");
            symlink("/etc/passwd", tree.join("assets/link")).expect("a link");
        }),
        ("lib/deep", |tree| {
            fs::rename(tree.join("lib/deep"), tree.join("elsewhere")).expect("ours");
            symlink("../elsewhere", tree.join("lib/deep")).expect("a link");
        }),
        ("lib/deep", |tree| {
            fs::rename(tree.join("lib/deep"), tree.join("elsewhere")).expect("ours");
            fs::create_dir(tree.join("lib/deep")).expect("ours");
            fs::rename(tree.join("elsewhere/b.js"), tree.join("lib/deep/b.js")).expect("ours");
        }),
        ("lib", |tree| fs::set_permissions(tree.join("lib"), fs::Permissions::from_mode(0o2775)).expect("ours")),
        ("lib/deep", |tree| fs::remove_dir_all(tree.join("lib/deep")).expect("ours")),
        ("lib", |tree| {
            // Of such an attribute neither a mode nor a name tells.
            let set = rustix::fs::setxattr(tree.join("lib"), "user.evil", b"x", rustix::fs::XattrFlags::empty());
            set.expect("this file system has them");
        }),
    ];
    each_disk(|disk| {
        for (at, (path, attack)) in attacks.iter().enumerate() {
            let slot = Slot::new(disk);
            let returned = slot.build(attack);
            assert_eq!(returned, Returned::GivenUp(vec![PathBuf::from(path)]), "{disk}: attack {at}");
            assert!(!slot.src().exists());
        }
    });
}

#[test]
fn a_write_through_a_shared_mapping_is_seen() {
    each_disk(|disk| {
        let slot = Slot::new(disk);
        let returned = slot.build(|tree| {
            let script = "import mmap,os,sys\nf=os.open(sys.argv[1],os.O_RDWR)\ns=os.fstat(f)\nm=mmap.mmap(f,0)\nm[0]=88\nm.close()\nos.utime(f,ns=(s.st_atime_ns,s.st_mtime_ns))";
            let ran = std::process::Command::new("python3").arg("-c").arg(script).arg(tree.join("lib/a.js")).status();
            if !ran.is_ok_and(|status| status.success()) {
                eprintln!("NOT TRIED: python3 is missing");
                edit_unseen(&tree.join("lib/a.js"));
            }
        });
        assert_eq!(returned, Returned::GivenUp(vec![PathBuf::from("lib/a.js")]), "{disk}");
    });
}

#[test]
fn a_file_that_builds_edit_is_set_aside_from_the_second_build_on() {
    each_disk(|disk| {
        let slot = Slot::new(disk);
        let pristine = slot.all();
        let edit = |tree: &Path| fs::write(tree.join("package-lock.json"), "rewritten").expect("ours");
        assert_eq!(slot.build(edit), Returned::GivenUp(vec![PathBuf::from("package-lock.json")]));
        let again = Slot::new(disk);
        fs::rename(again.src(), slot.src()).expect("a checkout");
        for _ in 0..2 {
            assert_eq!(slot.build(edit), Returned::Back, "{disk}");
            let texts = |all: Vec<(PathBuf, u32, u64, Vec<u8>)>| {
                all.into_iter().map(|(path, mode, _, text)| (path, mode, text)).collect::<Vec<_>>()
            };
            assert_eq!(texts(slot.all()), texts(pristine.clone()), "{disk}");
        }
        assert_eq!(slot.build(|tree| edit_unseen(&tree.join("lib/a.js"))), Returned::GivenUp(vec!["lib/a.js".into()]));
    });
}

#[test]
fn a_build_without_a_fence_may_reach_what_was_set_aside() {
    each_disk(|disk| {
        let slot = Slot::new(disk);
        let aside = slot.places.own.join("aside/0/.git/config");
        let returned = slot.build(|_| edit_unseen(&aside));
        assert_eq!(returned, Returned::GivenUp(vec![PathBuf::from(".git")]), "{disk}");
    });
}

#[test]
fn a_killed_build_leaves_no_sources_and_the_next_one_no_trace_of_it() {
    each_disk(|disk| {
        let slot = Slot::new(disk);
        fs::create_dir_all(&slot.places.own).expect("a folder");
        let lent = Lent::lend(slot.places.clone(), slot.files).expect("sources");
        fs::write(lent.tree().join("planted"), "").expect("ours");
        drop(lent);
        assert!(!slot.src().exists() && slot.places.tree.join("planted").exists());
        tree::rename_away(&slot.places.own, &slot.places.trash).expect("ours");
        let again = Slot::new(disk);
        fs::rename(again.src(), slot.src()).expect("a checkout");
        let before = slot.all();
        let returned = slot.build(|tree| assert!(!tree.join("planted").exists()));
        assert_eq!((returned, slot.all()), (Returned::Back, before), "{disk}");
    });
}

#[test]
fn where_change_times_tell_nothing_the_sources_are_copied() {
    each_disk(|disk| {
        let slot = Slot::new(disk);
        let before = slot.all();
        let files = FileSystem { tells_changes: false, ..slot.files };
        fs::create_dir_all(&slot.places.own).expect("a folder");
        let lent = Lent::lend(slot.places.clone(), files).expect("sources");
        assert_eq!(lent.way(), if files.reflinks { Way::Reflinked } else { Way::Copied });
        edit_unseen(&lent.tree().join("lib/a.js"));
        assert_eq!(lent.give_back().expect("a tree"), Returned::Untouched);
        assert_eq!(slot.all(), before, "{disk}");
    });
}

#[test]
fn the_topmost_layer_wins_however_it_comes() {
    each_disk(|disk| {
        for moved in [[false, false], [true, false], [false, true], [true, true]] {
            let slot = Slot::new(disk);
            let layer = |number: usize, files: &[(&str, &str)]| {
                let dir = slot.places.trash.with_file_name(format!("layer-{number}"));
                for (path, text) in files {
                    let path = dir.join(path);
                    fs::create_dir_all(path.parent().expect("in the layer")).expect("a folder");
                    fs::write(path, text).expect("a file");
                }
                dir
            };
            let top =
                layer(1, &[("node_modules/a/x", "top"), ("node_modules/b", "a file now"), ("lib/node_modules/c", "c")]);
            let bottom =
                layer(2, &[("node_modules/a/x", "bottom"), ("node_modules/a/y", "y"), ("node_modules/b/z", "z")]);
            let closed = bottom.join("node_modules/closed");
            fs::create_dir_all(closed.join("in")).expect("a folder");
            fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).expect("ours");
            let before = fs::metadata(bottom.join("node_modules/a/y")).expect("there");
            fs::create_dir_all(&slot.places.own).expect("a folder");
            let lent = Lent::lend(slot.places.clone(), slot.files).expect("sources");
            let brought = |dir: &Path, moved| match moved {
                true => Brought::Moved(dir.to_owned()),
                false => Brought::Shared(dir.to_owned()),
            };
            bring(&[brought(&top, moved[0]), brought(&bottom, moved[1])], lent.tree()).expect("room");
            let text = |path: &str| fs::read_to_string(lent.tree().join(path)).expect(path);
            let found =
                ["node_modules/a/x", "node_modules/a/y", "node_modules/b", "lib/node_modules/c", "lib/a.js"].map(text);
            assert_eq!(found, ["top", "y", "a file now", "c", "the text of lib/a.js\n"], "{disk} {moved:?}");
            assert_eq!(fs::metadata(lent.tree().join("node_modules/closed")).expect("there").mode() & 0o777, 0o555);
            let after = fs::metadata(lent.tree().join("node_modules/a/y")).expect("there");
            assert_eq!((before.mtime_nsec(), before.mode()), (after.mtime_nsec(), after.mode()));
            assert_eq!(before.ino() == after.ino(), moved[1], "a copy has its own inodes");
            assert_eq!([top.exists(), bottom.exists()], moved.map(|moved| !moved));
            assert_eq!(lent.give_back().expect("a tree"), Returned::Back, "the sources are as they were");
        }
    });
}

#[test]
fn dependencies_go_out_as_they_were_installed_or_not_at_all() {
    each_disk(|disk| {
        let parted = |work: &dyn Fn(&Path)| {
            let slot = Slot::new(disk);
            fs::create_dir_all(&slot.places.own).expect("a folder");
            let lent = Lent::lend(slot.places.clone(), slot.files).expect("sources");
            for folder in ["node_modules/a", "lib/node_modules/b"] {
                fs::create_dir_all(lent.tree().join(folder)).expect("a folder");
                fs::write(lent.tree().join(folder).join("index.js"), folder).expect("a file");
            }
            let trees = ["node_modules", "lib/node_modules", "none/node_modules"].map(PathBuf::from);
            let installed = Installed::note(lent.tree(), &trees, &[]).expect("a tree");
            work(lent.tree());
            let into = slot.places.own.join("layer");
            let parted = installed.part(lent.tree(), &into, &slot.places.own.join("added")).expect("a tree");
            let index = fs::read_to_string(into.join("lib/node_modules/b/index.js")).ok();
            let whole = into.join("node_modules/a/index.js").exists() && !into.join("node_modules/.cache").exists();
            assert_eq!(index.is_some() && whole, matches!(parted, Parted::Whole(_)), "{disk}: {parted:?}");
            assert_eq!(lent.give_back().expect("a tree"), Returned::Back);
            parted
        };
        assert_eq!(parted(&|_| ()), Parted::Whole(Vec::new()));
        // What a tool adds is no part of what was installed.
        assert_eq!(
            parted(&|tree| fs::create_dir_all(tree.join("node_modules/.cache/babel")).expect("ours")),
            Parted::Whole(vec![PathBuf::from("node_modules/.cache")])
        );
        let edited = Parted::Changed(vec![PathBuf::from("lib/node_modules/b/index.js")]);
        assert_eq!(parted(&|tree| edit_unseen(&tree.join("lib/node_modules/b/index.js"))), edited);
        let gone = Parted::Changed(vec![PathBuf::from("node_modules")]);
        let replace = |tree: &Path| {
            fs::rename(tree.join("node_modules"), tree.join("moved")).expect("ours");
            symlink("moved", tree.join("node_modules")).expect("a link");
        };
        assert_eq!(parted(&replace), gone);
    });
}

/// Milliseconds by number of files, for a person to read: `cargo nextest run flat::trees:: --run-ignored only --no-capture`.
#[test]
#[ignore = "measures"]
fn figures() {
    each_disk_of(3 << 30, |disk| {
        for files in [800, 9_000, 37_000] {
            let slot = Slot::new(disk);
            let layer = slot.places.trash.with_file_name("layer");
            for root in [slot.src(), layer.join("node_modules")] {
                for at in 0..files {
                    let folder = root.join(format!("p{}/lib", at / 20));
                    if at % 20 == 0 {
                        fs::create_dir_all(&folder).expect("a folder");
                    }
                    fs::write(folder.join(format!("{at}.js")), [b'x'; 900]).expect("room");
                }
            }
            fs::create_dir_all(&slot.places.own).expect("a folder");
            let timed = |what: &str, work: &mut dyn FnMut()| {
                let began = std::time::Instant::now();
                work();
                println!("{disk}, {files} files, {what}: {:.1} ms", began.elapsed().as_secs_f64() * 1000.0);
            };
            let mut lent = None;
            timed("sources lent", &mut || lent = Lent::lend(slot.places.clone(), slot.files).ok());
            let lent = lent.expect("sources");
            let copies = if slot.files.reflinks { "layer by reflink" } else { "layer copied" };
            timed(copies, &mut || bring(&[Brought::Shared(layer.clone())], lent.tree()).expect("room"));
            let mut installed = None;
            let trees = [PathBuf::from("node_modules")];
            timed("installed noted", &mut || installed = Installed::note(lent.tree(), &trees, &[]).ok());
            let (out, left) = (slot.places.own.join("out"), slot.places.own.join("added"));
            let installed = installed.expect("a tree");
            timed("parted", &mut || {
                assert_eq!(installed.part(lent.tree(), &out, &left).expect("ours"), Parted::Whole(vec![]))
            });
            timed("layer by rename", &mut || bring(&[Brought::Moved(out.clone())], lent.tree()).expect("ours"));
            let mut lent = Some(lent);
            timed("sources back", &mut || {
                assert_eq!(lent.take().map(Lent::give_back).expect("lent").expect("ours"), Returned::Back);
            });
        }
    });
}
