//! Steps without a fence: what each puts around itself closes the machine, the agent and other steps to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use hookmill::confine::{Holder, Layers};
use hookmill::process::Exit;

use super::{Build, all, bare, until};

const SECRET: &str = "the-secret-of-somebody-else";

/// Looks wherever the secret lies, and prints each place that gave it away. `AGENT` and `SIBLING` are processes, `DATA` a
/// folder, all of the same user.
const PROBE: &str = "for process in $AGENT $SIBLING /proc/[0-9]*; do\n\
    for file in environ mem cwd/secret root/etc/shadow fd/0; do\n\
      cat $process/$file 2> /dev/null | head -c 100000 | tr '\\0' '\\n' | grep -qa $NEEDLE && echo found in $file\n\
    done\n\
  done\n\
  cat $DATA/secret > /dev/null 2>&1 && echo found in data\n\
  ls $DATA > /dev/null 2>&1 && echo listed data\n\
  (echo changed > $DATA/written) 2> /dev/null && echo wrote data\n\
  ln $DATA/secret $HOME/linked 2> /dev/null && echo linked data\n\
  for place in /root /home /var /etc /run /srv /sys /; do ls $place > /dev/null 2>&1 && echo listed $place; done\n\
  for place in $PLACES; do\n\
    (: > $place/hookmill-test-$$) 2> /dev/null && { echo wrote $place; rm -f $place/hookmill-test-$$; }\n\
  done\n\
  for switch in $SWITCH; do (: > $switch) 2> /dev/null && echo opened $switch; done\n\
  head -c 1 /etc/shadow > /dev/null 2>&1 && echo read shadow\n\
  head -c 1 /proc/kcore > /dev/null 2>&1 && echo read kcore\n\
  kill -0 $(basename $SIBLING) 2> /dev/null && echo signalled a sibling\n\
  kill -0 $(basename $AGENT) 2> /dev/null && echo signalled the agent\n\
  grep -q 'CapEff:.*[1-9a-f]' /proc/self/status && echo has capabilities\n\
  echo over";

/// A program of the agent's own that knows the secret, in a folder of the agent's.
struct Agent {
    dir: tempfile::TempDir,
    child: Child,
}

impl Agent {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("secret"), SECRET).expect("written");
        let child = Command::new("sleep").arg("600").current_dir(dir.path()).env("SECRET", SECRET).spawn();
        Self { child: child.expect("started"), dir }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the probe finds as a step of `layers`, beside another step that knows the secret.
async fn found(layers: &Layers, places: &str, switch: &str) -> Vec<String> {
    let (build, agent) = (Build::new(layers), Agent::start());
    let holder = build.open().await;
    let sibling = {
        let mut command = build.command("echo $$ > sibling; echo ready; exec sleep 600");
        command.env.insert("SECRET".to_owned(), SECRET.to_owned());
        let mut sibling = holder.start(&command).await.expect("started");
        until(&mut sibling, "ready\n").await;
        sibling
    };
    let number = fs::read_to_string(build.written("sibling")).expect("written");
    let mut command = build.command(PROBE);
    let path = |path: &Path| path.to_str().expect("plain").to_owned();
    command.env.extend(BTreeMap::from([
        ("AGENT".to_owned(), format!("/proc/{}", agent.child.id())),
        ("SIBLING".to_owned(), format!("/proc/{}", number.trim())),
        ("DATA".to_owned(), path(agent.dir.path())),
        ("PLACES".to_owned(), places.to_owned()),
        ("SWITCH".to_owned(), switch.to_owned()),
        // In two parts, so that it is not found in the probe itself.
        ("NEEDLE".to_owned(), format!("{}[-]", SECRET.trim_end_matches("-else"))),
    ]));
    let (text, exit, _) = all(holder.start(&command).await.expect("started")).await;
    assert!(exit == Exit::Code(0) && text.ends_with("over\n"), "{exit} {text}");
    drop(sibling);
    holder.close().await;
    text.lines().filter(|line| *line != "over").map(str::to_owned).collect()
}

#[tokio::test]
async fn a_step_finds_nothing_of_the_machine_the_agent_and_other_steps() {
    let layers = bare().await;
    let Ok(version) = layers.landlock else {
        eprintln!("NOT TRIED: {}", layers.name());
        return;
    };
    let mut expected: Vec<&str> = Vec::new();
    if version < 6 {
        expected.extend(["signalled a sibling", "signalled the agent"]);
    }
    let found_behind = found(&layers, "/etc /usr /tmp /dev/shm", "/proc/sys/kernel/core_pattern").await;
    assert_eq!(found_behind, expected, "{}", layers.name());

    // The probe can find: without walls it does, the machine's own places and switches left alone.
    let without = found(&Layers::none("a test does without"), "/dev/shm", "").await;
    for way in [
        "found in environ",
        "found in data",
        "listed data",
        "wrote data",
        "linked data",
        "listed /etc",
        "wrote /dev/shm",
        "signalled a sibling",
        "signalled the agent",
    ] {
        assert!(without.iter().any(|line| line == way), "{way}: {without:?}");
    }
}

/// What a build needs is there: programs, names, devices, its own directories, a rename from one into another.
#[tokio::test]
async fn a_step_has_what_a_build_needs() {
    let build = Build::new(&bare().await);
    let script = "set -e\n\
        cat README client/deep && echo x > client/new && mkdir -p $HOME/a $TMPDIR/b && echo y > $TMPDIR/b/file\n\
        mv $TMPDIR/b/file $HOME/a/ && mv client/new moved && ln moved linked && ln -s linked link && test -s link\n\
        getent hosts localhost > /dev/null && id > /dev/null && head -c 1 /dev/urandom > /dev/null && echo z > /dev/null\n\
        cat /etc/passwd /proc/self/status /proc/cpuinfo > /dev/null && (echo out > /dev/stdout)\n\
        node -e 'new (require(\"worker_threads\").Worker)(\"\", { eval: true }).on(\"exit\", () => console.log(\"node ran\"))'";
    let (text, exit) = build.run(script).await;
    assert_eq!(exit, Exit::Code(0), "{text}");
    assert_eq!(text, "the sources\ndeep\nout\nnode ran\n");
}

/// A program that can't be started is told as in a fence.
#[tokio::test]
async fn a_program_that_is_not_there_is_told() {
    let build = Build::new(&bare().await);
    let mut command = build.command("");
    command.argv = vec!["no-such-program".to_owned()];
    let holder = build.open().await;
    let (text, exit, _) = all(holder.start(&command).await.expect("started")).await;
    holder.close().await;
    assert_eq!(
        (text.as_str(), exit),
        ("hookmill: execvp no-such-program: No such file or directory\n", Exit::Code(127))
    );
}

/// Walls that were there when the host was looked at, and then can't be put on.
#[tokio::test]
async fn a_step_without_its_walls_is_not_started() {
    let layers = bare().await;
    if layers.landlock.is_err() {
        eprintln!("NOT TRIED: {}", layers.name());
        return;
    }
    let build = Build::new(&layers);
    let mut view = build.view.clone();
    // No rule can be made for what is not there.
    view.home = build.dir.path().join("not there");
    let holder = Holder::open(super::exe(), &layers, &view).await.expect("a holder");
    let error = holder.start(&build.command("echo ran")).await.expect_err("no walls");
    holder.close().await;
    assert!(error.to_string().contains("Landlock could not be put on: "), "{error}");
    assert!(error.to_string().contains("not there"), "{error}");
}
