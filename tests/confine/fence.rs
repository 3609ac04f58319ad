//! What only the fence gives.

use std::fs;
use std::net::TcpListener;

use hookmill::confine::DOOR;
use hookmill::domain::spec::Network;
use hookmill::process::Exit;

use super::{Build, all, confined, until, within};

#[tokio::test]
async fn the_fence_hides_the_host() {
    let Some(layers) = confined().await else { return };
    let build = Build::new(&layers);
    let script = "ls /root /home /var /run 2>&1; cat /etc/shadow 2>&1; \
        ls -d /proc/[0-9]* | wc -l; id -un; id -u; hostname; \
        echo x 2>&1 > /etc/x; echo x 2>&1 > /usr/x; echo x 2>&1 > /x; unshare -U true 2>&1; stat -c %U README .";
    let (text, _) = build.run(script).await;
    let lines: Vec<&str> = text.lines().collect();
    assert!(text.contains("ls: cannot access '/root'"), "{text}");
    assert!(text.contains("/home:\nbuild\n"), "{text}");
    assert!(text.contains("/run:\n\n"), "{text}");
    assert!(text.contains("cat: /etc/shadow: No such file"), "{text}");
    assert!(lines.contains(&"build") && lines.contains(&"1000") && lines.contains(&"hookmill"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 3, "{text}");
    assert!(text.contains("unshare: unshare failed"), "{text}");
    assert!(text.ends_with("build\nbuild\n"), "files belong to the step's user: {text}");
    let processes: usize = lines.iter().find_map(|line| line.parse().ok()).expect("a count");
    assert!(processes <= 6, "only the step's own processes: {text}");
}

#[tokio::test]
async fn readable_paths_are_there_and_read_only() {
    let Some(layers) = confined().await else { return };
    let mut build = Build::new(&layers);
    let tools = build.dir.path().join("tools, with: odd 'name'");
    fs::create_dir(&tools).expect("made");
    fs::write(tools.join("tool"), "#!/bin/sh\necho works\n").expect("written");
    let file = build.dir.path().join("ca.pem");
    fs::write(&file, "certificate\n").expect("written");
    build.view.readable = vec![tools.clone(), file.clone(), "/usr/bin".into()];
    let script = format!("sh \"{0}/tool\"; cat {1}; echo x 2>&1 > \"{0}/tool\"", tools.display(), file.display());
    let (text, _) = build.run(&script).await;
    assert!(text.starts_with("works\ncertificate\n") && text.contains("Read-only file system"), "{text}");
}

#[tokio::test]
async fn a_closed_network_reaches_nothing_and_an_open_one_does() {
    let Some(layers) = confined().await else { return };
    if layers.netns.is_err() {
        eprintln!("NOT TRIED: {}", layers.name());
        return;
    }
    let build = Build::new(&layers);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let holder = build.open().await;
    let mut command = build.command("");
    command.argv =
        ["/bin/bash", "-c", &format!("exec 3<> /dev/tcp/127.0.0.1/{port} && echo reached")].map(str::to_owned).to_vec();
    let (text, exit, _) = all(holder.start(&command).await.expect("started")).await;
    assert!(exit == Exit::Code(1) && text.contains("refused"), "{text}");
    command.network = Network::Open;
    let (text, exit, _) = all(holder.start(&command).await.expect("started")).await;
    assert_eq!((text.as_str(), exit), ("reached\n", Exit::Code(0)));
    holder.close().await;
}

#[tokio::test]
async fn a_network_with_a_door_has_one_way_out() {
    let Some(layers) = confined().await else { return };
    if layers.netns.is_err() {
        eprintln!("NOT TRIED: {}", layers.name());
        return;
    }
    let build = Build::new(&layers);
    let outside = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = outside.local_addr().expect("bound").port();
    let holder = build.open().await;
    let mut command = build.command("");
    let script = format!(
        "exec 4<> /dev/tcp/127.0.0.1/{port}; exec 3<> /dev/tcp/{}/{} && echo knock >&3 && cat <&3",
        DOOR.ip(),
        DOOR.port()
    );
    command.argv = ["/bin/bash", "-c", &script].map(str::to_owned).to_vec();
    command.network = Network::Hosts(vec!["fonts.example:443".to_owned()]);
    let started = holder.start_with_door(&command, &[]).await.expect("started");
    let (running, mut doors) = started.expect("a network of its own");
    let door = doors.remove(0);
    let answered = tokio::task::spawn_blocking(move || {
        use std::io::{BufRead as _, Write as _};
        let (mut stream, _) = door.accept().expect("the step comes to the door");
        let mut said = String::new();
        std::io::BufReader::new(&stream).read_line(&mut said).expect("it knocks");
        stream.write_all(b"come in\n").expect("answered");
        said
    });
    let (text, exit, _) = all(running).await;
    assert_eq!(within(answered).await.expect("answered"), "knock\n");
    assert!(exit == Exit::Code(0) && text.ends_with("come in\n"), "{text}");
    assert!(text.contains("refused"), "nothing but the door: {text}");
    // Without somebody at the door there is no way out at all.
    let (text, exit, _) = all(holder.start(&command).await.expect("started")).await;
    assert!(exit != Exit::Code(0) && !text.contains("come in"), "{text}");
    holder.close().await;
}

#[tokio::test]
async fn writes_stay_in_the_upper_layer() {
    let Some(layers) = confined().await else { return };
    if !layers.stacks() {
        eprintln!("NOT TRIED: {}", layers.name());
        return;
    }
    let mut build = Build::new(&layers);
    let above = build.dir.path().join("a layer, above: the sources");
    fs::create_dir(&above).expect("made");
    fs::write(above.join("above"), "above\n").expect("written");
    build.view.tree.lowers.insert(0, above.clone());
    let script = "set -e; cat above; rm client/deep; rmdir client; mv README moved; echo more >> moved; echo new > new; \
        mkdir dir; mv dir dir2; echo a > above; ln -s x link; chmod 700 new; ls";
    let (text, exit) = build.run(script).await;
    assert_eq!((text.as_str(), exit), ("above\nabove\ndir2\nlink\nmoved\nnew\n", Exit::Code(0)));
    let lower = &build.view.tree.lowers[1];
    assert_eq!(fs::read_to_string(lower.join("README")).expect("there"), "the sources\n");
    assert!(lower.join("client/deep").exists());
    assert_eq!(fs::read_to_string(above.join("above")).expect("there"), "above\n");
    assert_eq!(fs::read_to_string(build.written("moved")).expect("there"), "the sources\nmore\n");
    assert_eq!(
        fs::read_dir(&build.view.tree.joined).expect("read").count(),
        0,
        "the host's directory is only a mount point"
    );
    // The next holder of the same view goes on where the last one ended.
    assert_eq!(
        build.run("cat moved above; ls client").await.0.lines().take(3).collect::<Vec<_>>(),
        ["the sources", "more", "a"]
    );
}

#[tokio::test]
async fn home_and_tmp_are_private_and_writable() {
    let Some(layers) = confined().await else { return };
    let build = Build::new(&layers);
    let (text, exit) = build.run("echo h > $HOME/h; echo t > $TMPDIR/t; cat /var/tmp/t; ls /home /tmp; pwd").await;
    assert_eq!((text.as_str(), exit), ("t\n/home:\nbuild\n\n/tmp:\nt\n/build\n", Exit::Code(0)));
    assert!(build.view.home.join("h").exists() && build.view.tmp.join("t").exists());
}

#[tokio::test]
async fn processes_are_counted_for_each_build() {
    let Some(layers) = confined().await else { return };
    if rustix::process::geteuid().is_root() {
        // The kernel never counts root's; the ordinary user's turn comes below.
        return;
    }
    let build = Build::new(&layers);
    let mut command = build.command("for i in $(seq 40); do sleep 600 & done; echo all");
    command.processes = 20;
    let holder = build.open().await;
    let (text, exit, _) = all(holder.start(&command).await.expect("started")).await;
    assert!(!exit.is_success() && text.contains("Cannot fork"), "{exit} {text}");
    // Over the limit is the build's own trouble, and only while it lasts.
    command.argv = vec!["true".into()];
    assert_eq!(all(holder.start(&command).await.expect("started")).await.1, Exit::Code(0));
    holder.close().await;
}

#[tokio::test]
async fn a_command_line_shows_no_environment() {
    let Some(layers) = confined().await else { return };
    let build = Build::new(&layers);
    let holder = build.open().await;
    let mut command = build.command("echo ready; sleep 600");
    command.env.insert("NPM_TOKEN".into(), "npm_do_not_show_me".into());
    let mut running = holder.start(&command).await.expect("started");
    until(&mut running, "ready\n").await;
    for entry in fs::read_dir("/proc").expect("proc").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains("npm_do_not_show_me"));
    }
    running.kill();
    all(running).await;
    holder.close().await;
}
