//! Another root file system as that of steps.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use hookmill::confine::Holder;
use hookmill::process::Exit;

use super::{Build, all, bare, confined, exe, within};
use crate::support::roots::{self, ONLY_HERE, ONLY_HERE_SAYS};

#[tokio::test]
async fn what_a_step_needs_of_ours_lies_in_front_of_it() {
    let Some(layers) = confined().await else { return };
    let root = roots::with_node();
    let inside = |path: &str| root.path().join(path);
    fs::create_dir_all(inside("home/somebody")).expect("a folder");
    fs::create_dir_all(inside("dev/ours")).expect("a folder");
    fs::create_dir_all(inside("run/ours")).expect("a folder");
    fs::create_dir_all(inside("usr/local/share")).expect("a folder");
    fs::write(inside("etc/passwd"), "somebody:x:1000:1000::/:/bin/sh\n").expect("a file");
    fs::write(inside("usr/local/share/of-the-root"), "").expect("a file");
    // Followed from outside, all of these would lead to this machine's.
    let outside = root.path().join("outside");
    fs::create_dir(&outside).expect("a folder");
    symlink(&outside, inside("srv")).expect("a link");
    symlink(&outside, inside("build")).expect("a link");
    symlink(outside.join("resolv.conf"), inside("etc/resolv.conf")).expect("a link");
    let mut build = Build::new(&layers);
    build.view.root = Some(root.path().to_owned());
    let ca = build.dir.path().join("ca.pem");
    fs::write(&ca, "certificate\n").expect("a file");
    // At a path that the root has not, and that is nobody's to write.
    build.view.readable = vec![ca.clone()];
    let script = format!(
        "{ONLY_HERE}; cat {ca}; ls /dev /run /home /usr/local/share; id -un; echo w > $HOME/w; echo w > /tmp/w; echo w > w; \
         cat /var/tmp/w; ls /srv; cat README; node -p 6*7; ls -d /proc/[0-9]* | cat > /dev/null && stat -c %F /dev/null",
        ca = ca.display()
    );
    let (text, exit) = build.run(&script).await;
    assert_eq!(exit, Exit::Code(0), "{text}");
    assert!(text.starts_with(&format!("{ONLY_HERE_SAYS}\ncertificate\n")), "{text}");
    for (there, what) in [("core\nfd\nfull", "/dev"), ("/home:\nbuild\nsomebody\n", "/home"), ("of-the-root", "/usr")] {
        assert!(text.contains(there), "{what}: {text}");
    }
    assert!(text.contains("/run:\n\n") && !text.contains("ours"), "{text}");
    assert!(text.contains("\nbuild\nw\n") && text.contains("the sources\n42\n"), "{text}");
    assert!(text.ends_with("character special file\n"), "{text}");
    assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 0, "no link of it was followed");
    assert!(build.view.home.join("w").exists() && build.view.tmp.join("w").exists() && build.written("w").exists());
}

#[tokio::test]
async fn a_root_without_any_library_will_do() {
    let Some(layers) = confined().await else { return };
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(root.path().join("usr/bin")).expect("a folder");
    let source = root.path().join("sh.c");
    fs::write(&source, "#include <stdio.h>\nint main(void) { puts(\"static\"); return 7; }\n").expect("a file");
    let program = root.path().join("usr/bin/sh");
    let compiled = Command::new("cc").arg("-static").arg("-o").arg(&program).arg(&source).output().expect("cc runs");
    if !compiled.status.success() {
        eprintln!("NOT TRIED, this machine has no static C library: {}", String::from_utf8_lossy(&compiled.stderr));
        return;
    }
    symlink("/usr/bin", root.path().join("bin")).expect("a link");
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("set");
    let mut build = Build::new(&layers);
    build.view.root = Some(root.path().to_owned());
    let (text, exit) = build.run("").await;
    assert_eq!((text.as_str(), exit), ("static\n", Exit::Code(7)), "the launcher ran without libraries of the root");
}

#[tokio::test]
async fn what_is_no_root_is_told_and_nothing_runs() {
    let Some(layers) = confined().await else { return };
    let mut build = Build::new(&layers);
    build.view.root = Some("/nowhere at all".into());
    let error = within(Holder::open(exe(), &layers, &build.view)).await.expect_err("no such root");
    assert!(error.to_string().contains("/nowhere at all"), "{error}");
    // Without namespaces a step would run on the host.
    let mut build = Build::new(&bare().await);
    build.view.root = Some("/usr".into());
    let error = within(Holder::open(exe(), &bare().await, &build.view)).await.expect_err("no fence");
    assert!(error.to_string().contains("show /usr to steps as their root without namespaces"), "{error}");
    // A program that the root lacks.
    let root = tempfile::tempdir().expect("a folder");
    let mut build = Build::new(&layers);
    build.view.root = Some(root.path().to_owned());
    let holder = build.open().await;
    let (text, exit, _) = all(holder.start(&build.command("true")).await.expect("started")).await;
    assert_eq!(exit, Exit::Code(127), "{text}");
    assert!(text.contains("execvp /bin/sh: No such file") && Path::new("/bin/sh").exists(), "{text}");
    holder.close().await;
}
