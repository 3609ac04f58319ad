//! Looking on while a build runs: every line once, also when the connection breaks.

use serde_json::json;

use crate::support::events::{Event, Stream};
use crate::support::forge::Forge;
use crate::support::server::Server;

const LINES: usize = 150;
/// Prints a line, then the next a moment later; the pauses are the build's, not the test's.
const TALKER: &str = "let n = 0;\nconst say = () => {\n  n += 1;\n  console.log(`line ${n} größe`);\n  \
                      if (n < 150) setTimeout(say, 40);\n};\nsay();\n";

fn talk(forge: &Forge, server: &Server) -> i64 {
    let repo = forge.repo("acme/shop");
    let configuration = "[bundle]\ncommand = ['node', 'bundle.js']\n";
    let moved = repo.push("main", &[(".hookmill.toml", configuration), ("bundle.js", TALKER)]);
    server.deliver(&repo.pushed(&moved)).build()
}

fn lines(events: &[Event]) -> Vec<&str> {
    events.iter().filter_map(Event::line).collect()
}

fn expected() -> Vec<String> {
    (1..=LINES).map(|n| format!("line {n} größe")).collect()
}

#[test]
fn a_reader_sees_every_line_as_it_is_written_and_then_the_end() {
    let forge = Forge::start();
    let server = Server::start(&forge);
    let build = talk(&forge, &server);
    let mut stream = Stream::open(&server, build, None);
    assert_eq!(stream.code, 200);
    let mut events = Vec::new();
    while let Some(event) = stream.next() {
        if event.line() == Some("line 5 größe") {
            assert_eq!(server.build(build)["state"], "running", "told while it runs, not afterwards");
        }
        events.push(event);
    }
    assert_eq!(lines(&events), expected());
    let numbers: Vec<_> =
        events.iter().filter(|event| event.line().is_some()).filter_map(|event| event.data["n"].as_u64()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    let end = events.last().expect("an end");
    assert_eq!((end.kind.as_str(), &end.data["outcome"]), ("end", &json!("passed")));
    assert_eq!(events.iter().filter(|event| event.kind == "end").count(), 1);
    assert!(events.iter().all(|event| !event.id.is_empty() && event.id.len() <= 64), "every event can be come back to");
    let started = events.iter().position(|event| event.kind == "step" && event.data["name"] == "bundle");
    let first_line = events.iter().position(|event| event.line().is_some());
    assert!(started < first_line, "a step begins before its lines");

    let after = Stream::open(&server, build, Some(&end.id));
    assert_eq!(after.code, 204, "nothing more will come: a browser stops asking");
    let again = Stream::open(&server, build, None).rest();
    assert_eq!(lines(&again), expected(), "who comes late is told the same");
    forge.finish();
}

#[test]
fn a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice() {
    let forge = Forge::start();
    let mut server = Server::start(&forge);
    let build = talk(&forge, &server);
    let (mut seen, mut last) = (Vec::new(), None);
    // The connection breaks after every seventh event, wherever that is.
    'reading: loop {
        let mut stream = Stream::open(&server, build, last.as_deref());
        assert_eq!(stream.code, 200);
        for _ in 0..7 {
            let Some(event) = stream.next() else { panic!("the stream ended before its end: {seen:#?}") };
            last = Some(event.id.clone());
            let is_end = event.kind == "end";
            seen.push(event);
            if is_end {
                break 'reading;
            }
        }
    }
    assert_eq!(lines(&seen), expected());

    let middle = seen.iter().position(|event| event.line() == Some("line 30 größe")).expect("seen");
    let rest = Stream::open(&server, build, Some(&seen[middle].id)).rest();
    assert_eq!(lines(&rest), lines(&seen[middle + 1..]));
    forge.finish();
    assert_eq!(server.stop(), Some(0));
    server.restart();
    let rest = Stream::open(&server, build, Some(&seen[middle].id)).rest();
    assert_eq!(lines(&rest), lines(&seen[middle + 1..]), "places hold across a restart");
    let whole = Stream::open(&server, build, Some("not an id of ours")).rest();
    assert_eq!(lines(&whole), expected(), "who has an unknown place is told everything");
}

#[test]
fn two_readers_do_not_disturb_each_other_and_one_that_goes_does_no_harm() {
    let forge = Forge::start();
    let server = Server::start(&forge);
    let build = talk(&forge, &server);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| Stream::open(&server, build, None).rest())).collect();
        let mut leaving = Stream::open(&server, build, None);
        while leaving.next().is_some_and(|event| event.line().is_none()) {}
        drop(leaving);
        for reader in readers {
            assert_eq!(lines(&reader.join().expect("read to the end")), expected());
        }
    });
    forge.finish();
}

#[test]
fn a_log_can_be_read_in_parts() {
    let forge = Forge::start();
    let server = Server::start(&forge);
    let build = talk(&forge, &server);
    let path = format!("/api/v1/builds/{build}/log?step=bundle");
    let part = |range: &str| server.get_with(&path, &[("Range", range)]);

    server.wrote(build, "bundle", "line 1 größe\n");
    let first = part("bytes=0-5");
    assert_eq!((first.code, first.body.as_str()), (206, "line 1"));

    assert_eq!(server.finished(build)["outcome"], "passed");
    let whole: String = expected().iter().map(|line| format!("{line}\n")).collect();
    let all = server.get(&path);
    assert_eq!((all.code, &all.body), (200, &whole));
    assert_eq!(all.headers["content-type"], "text/plain; charset=utf-8");
    // Where a reader left off, as `tail -f` over HTTP would.
    let rest = part(&format!("bytes={}-", whole.find("line 31 ").expect("there")));
    assert_eq!(rest.code, 206);
    assert!(rest.body.starts_with("line 31 größe\n") && whole.ends_with(&rest.body), "{}", rest.body);
    let length = whole.len();
    assert_eq!(rest.headers["content-range"], format!("bytes {}-{}/{length}", length - rest.body.len(), length - 1));
    assert_eq!(part("bytes=-8").body, "größe\n", "bytes are counted, not characters");
    let behind = part(&format!("bytes={length}-"));
    assert_eq!(
        (behind.code, &behind.headers["content-range"]),
        (416, &format!("bytes */{length}").parse().expect("a value"))
    );

    let every = server.log(build, "");
    let (checkout, bundle) = (every.find("== checkout ==\n"), every.find("== bundle ==\n"));
    assert!(checkout < bundle && every.ends_with(&whole), "{every}");
    assert_eq!(server.get(&format!("/api/v1/builds/{build}/log?step=nobody")).code, 404);
    forge.finish();
}
