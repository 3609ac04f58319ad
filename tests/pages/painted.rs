//! What a reader sees live is what the page shows later: both paint the same lines, and neither takes long over any.

use std::io::Write;
use std::process::{Command, Stdio};

use hookmill::domain::build::Build;
use hookmill::domain::outcome::Outcome;
use hookmill::domain::step::StepKind;
use serde_json::json;

use super::fake::{Server, Setup, finished, step};
use super::{HOME, claim, ground};

/// A document of one log, as far as the page's own script asks for it; it prints each line's runs.
const BROWSER: &str = r#"
const fs = require('fs');
const lines = JSON.parse(fs.readFileSync(0, 'utf8'));
const painted = [];
const element = () => ({ dataset: {}, runs: [], append(run) { this.runs.push(run); } });
const pane = {
  scrollHeight: 0, scrollTop: 0, clientHeight: 0, childElementCount: 0,
  querySelector: () => null, append: row => painted.push(row), replaceChildren() {},
};
const log = { dataset: { step: 'test' }, querySelector: () => pane };
globalThis.document = {
  querySelectorAll: what => (what === 'details[data-step]' ? [log] : []),
  getElementById: () => ({ dataset: { events: '', state: 'running' } }),
  createElement: element,
};
const heard = {};
globalThis.window = globalThis;
globalThis.EventSource = class { addEventListener(kind, hear) { heard[kind] = hear; } close() {} };
globalThis.setInterval = () => {};
eval(fs.readFileSync(process.argv[1], 'utf8'));
lines.forEach((text, at) => heard.line({ data: JSON.stringify({ step: 'test', n: at + 1, text }) }));
console.log(JSON.stringify(painted.map(row => row.runs.map(run => [run.className, run.textContent]))));
"#;

/// What the page's script makes of these lines.
fn live(lines: &[String]) -> Vec<Vec<(String, String)>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web/assets/live.js");
    // A script that does not end is ended, and has then said nothing.
    let mut node = Command::new("timeout")
        .args(["60", "node", "-e", BROWSER, script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node is installed");
    let mut stdin = node.stdin.take().expect("a pipe");
    stdin.write_all(json!(lines).to_string().as_bytes()).expect("written");
    drop(stdin);
    let output = node.wait_with_output().expect("ended");
    let told: Vec<Vec<(String, String)>> = serde_json::from_slice(&output.stdout).expect("it came to its end");
    told.into_iter().map(together).collect()
}

/// What the server's page shows of them.
fn later(lines: &[String]) -> Vec<Vec<(String, String)>> {
    let (_dir, logs, memory) = ground();
    let server = Server::start(Setup { public_url: HOME, ..Setup::default() }, memory, &logs);
    let check = step("test", StepKind::Check, Some(Outcome::Passed), 100, 900);
    let mut file = claim(&server, 12, 1).begin(0, &check).expect("begun");
    for line in lines {
        file.append(format!("{line}\n").as_bytes()).expect("written");
    }
    file.finish(&check).expect("finished");
    server.memory.put(Build { steps: vec![check], ..finished(12, Outcome::Passed) });
    let page = server.get("/builds/12").text();
    let rows = page.split("<div class=\"line\" data-n=\"").skip(1);
    rows.map(|row| together(runs(row.split_once("\">").expect("a row").1.split_once("</div>").expect("ended").0)))
        .collect()
}

/// Of `plain<span class="b f1">styled</span>plain`.
fn runs(html: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = html;
    while let Some((plain, styled)) = rest.split_once("<span class=\"") {
        found.push((String::new(), text(plain)));
        let (class, styled) = styled.split_once("\">").expect("a class");
        let (styled, after) = styled.split_once("</span>").expect("ended");
        found.push((class.to_owned(), text(styled)));
        rest = after;
    }
    found.push((String::new(), text(rest)));
    found
}

fn text(html: &str) -> String {
    let escapes = [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")];
    escapes.iter().fold(html.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

/// Neighbours of one style as one, whatever order their classes have, and none that is empty.
fn together(runs: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut joined: Vec<(String, String)> = Vec::new();
    for (class, text) in runs.into_iter().filter(|(_, text)| !text.is_empty()) {
        let mut classes: Vec<&str> = class.split(' ').collect();
        classes.sort_unstable();
        let class = classes.join(" ");
        match joined.last_mut() {
            Some((last, so_far)) if *last == class => so_far.push_str(&text),
            _ => joined.push((class, text)),
        }
    }
    joined
}

#[test]
fn a_line_is_painted_live_as_it_is_shown_later() {
    const WORDS: [&str; 34] = [
        "\u{1b}",
        "\u{1b}",
        "\u{1b}[",
        "\u{1b}[31m",
        "\u{1b}[1;4;92m",
        "\u{1b}]8;;http://x\u{7}",
        "\u{1b}]0;t\u{1b}\\",
        "\u{1b}P",
        "[",
        "]",
        "0",
        "1",
        "22",
        "38;5;9",
        "48;5;200",
        "38;2;1;2;3",
        "300",
        "31:1",
        "m",
        ";",
        "?25h",
        "\u{7}",
        "\\",
        "X",
        "a",
        "<b>",
        " ",
        "/",
        "é",
        "\u{202e}",
        "\u{7f}",
        "\u{9b}",
        "K",
        "&\"'",
    ];
    for seed in 0..5 {
        let mut random = fastrand::Rng::with_seed(seed);
        let line = |_| (0..random.usize(1..12)).map(|_| WORDS[random.usize(..WORDS.len())]).collect();
        // As many as a page has of one log.
        let lines: Vec<String> = (0..200).map(line).collect();
        let (live, later) = (live(&lines), later(&lines));
        assert_eq!((live.len(), later.len()), (lines.len(), lines.len()));
        for (at, (live, later)) in live.iter().zip(&later).enumerate() {
            assert_eq!(live, later, "seed {seed}, line {at}: {:?}", &lines[at.saturating_sub(1)..=at]);
        }
    }
}

/// Looking for the end of each anew would take half an hour.
#[test]
fn a_line_full_of_what_never_ends_is_painted_at_once() {
    const MANY: usize = 500_000;
    let painted = live(&["\u{1b}]".repeat(MANY)]);
    assert_eq!(painted, [[(String::new(), "␛]".repeat(MANY))]]);
}
