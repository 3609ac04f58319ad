use std::sync::atomic::AtomicUsize;

use crate::domain::log::Happening;
use crate::domain::step::{Step, StepKind};

use super::*;

const BUILD: BuildId = BuildId(7);
const MIB: u64 = 1024 * 1024;

fn logs() -> (tempfile::TempDir, Logs) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let logs = Logs::new(dir.path().join("logs"));
    (dir, logs)
}

fn npm() -> Step {
    Step::queued("npm", StepKind::Install)
}

/// Writes `chunks` as one step under `cap` and gives what is on disk.
fn written(logs: &Logs, cap: u64, chunks: &[&[u8]]) -> Vec<u8> {
    let log = logs.create(BUILD, 1, cap, || {}).expect("created");
    let mut step = log.begin(0, &npm()).expect("begun");
    for chunk in chunks {
        step.append(chunk).expect("written");
    }
    step.finish(&npm()).expect("finished");
    let file = logs.step_file(BUILD, 0, "npm").expect("readable").expect("there");
    std::fs::read(file.path).expect("readable")
}

fn all(logs: &Logs, from: Cursor) -> Vec<Entry> {
    let mut reader = logs.reader(BUILD, from);
    let mut entries = Vec::new();
    loop {
        let batch = reader.read().expect("readable");
        if batch.is_empty() {
            return entries;
        }
        entries.extend(batch);
    }
}

fn texts(entries: &[Entry]) -> Vec<String> {
    let text = |entry: &Entry| match &entry.happening {
        Happening::Line(line) => Some(format!("{} {}", line.n, line.text)),
        _ => None,
    };
    entries.iter().filter_map(text).collect()
}

#[test]
fn a_step_cannot_name_a_place_on_disk() {
    let check = |name: &str, file: &str| assert_eq!(step_file_name(1, name), file);
    check("npm:client", "01-npm_client.log");
    check("../../etc/passwd", "01-.._.._etc_passwd.log");
    check("é\0\n", "01-___.log");
    assert!(step_file_name(1, &"x".repeat(4000)).len() < 80);
}

#[test]
fn bytes_on_disk_are_exact_and_lines_are_numbered() {
    let (_dir, logs) = logs();
    let bytes = written(&logs, MIB * 2, &[b"one\ntw", b"o\r\n\0\xff\xfe\n\nno line end"]);
    assert_eq!(bytes, b"one\ntwo\r\n\0\xff\xfe\n\nno line end");
    assert_eq!(
        texts(&all(&logs, Cursor::default())),
        ["1 one", "2 two", "3 \0\u{fffd}\u{fffd}", "4 ", "5 no line end"]
    );
}

#[test]
fn reading_goes_on_after_any_event_without_loss_or_doubling() {
    let (_dir, logs) = logs();
    written(&logs, MIB * 2, &[b"a\nb\nc\n", b"d", b"\ne\n"]);
    let whole = all(&logs, Cursor::default());
    assert_eq!(texts(&whole), ["1 a", "2 b", "3 c", "4 d", "5 e"]);
    for (at, entry) in whole.iter().enumerate() {
        assert_eq!(all(&logs, entry.after), whole[at + 1..], "after {}", entry.after);
    }
    assert_eq!(
        all(&logs, Cursor { claim: 9, record: 3, part: 0 }),
        whole,
        "an id of another claim: from the beginning"
    );
    let beyond = Cursor { claim: 1, record: u64::MAX, part: u32::MAX };
    assert_eq!(all(&logs, beyond), []);
}

#[test]
fn an_over_long_log_keeps_its_head_and_its_last_mebibyte() {
    let (_dir, logs) = logs();
    let chunk: Vec<u8> = (0..MIB).map(|at| if at % 64 == 63 { b'\n' } else { b'x' }).collect();
    let mut last = chunk.clone();
    last[..5].copy_from_slice(b"last:");
    let bytes = written(&logs, 2 * MIB, &[&chunk, &chunk, &chunk, &last]);
    let mark = b"[... 2097152 bytes dropped ...]\n";
    assert_eq!(bytes.len() as u64, 2 * MIB + mark.len() as u64);
    assert!(bytes[MIB as usize..].starts_with(&[&mark[..], b"last:"].concat()));
    let lines = texts(&all(&logs, Cursor::default()));
    assert_eq!(lines.len() as u64, 2 * MIB / 64 + 1);
    assert!(lines.last().is_some_and(|line| line.starts_with(&format!("{} ", lines.len()))));

    let exact = written(&logs, 2 * MIB, &[&chunk, &last]);
    assert_eq!(exact, [chunk, last].concat(), "what fits is not marked");
}

#[test]
fn a_line_without_end_comes_in_pieces_that_split_no_character() {
    let (_dir, logs) = logs();
    let line = "aé€😀".repeat(40_000);
    let chunks: Vec<&[u8]> = line.as_bytes().chunks(30_011).collect();
    assert_eq!(written(&logs, 64 * MIB, &chunks), line.as_bytes());
    let entries = all(&logs, Cursor::default());
    let pieces: Vec<&str> = entries
        .iter()
        .filter_map(|entry| match &entry.happening {
            Happening::Line(line) => Some(line.text.as_str()),
            _ => None,
        })
        .collect();
    assert!(pieces.iter().all(|piece| piece.len() <= crate::domain::log::LINE_MAX));
    assert_eq!(pieces.concat(), line);
}

#[test]
fn a_journal_cut_anywhere_reads_to_its_last_whole_record() {
    let (dir, logs) = logs();
    written(&logs, MIB * 2, &[b"a\n", b"b\n", b"c\n"]);
    let path = dir.path().join("logs/7/1/journal");
    let whole = std::fs::read(&path).expect("readable");
    let full = all(&logs, Cursor::default()).len();
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).expect("written");
        let there = all(&logs, Cursor::default()).len();
        assert_eq!(there, (len.saturating_sub(8) / journal::RECORD).min(full), "cut at {len}");
    }
    std::fs::write(&path, whole).expect("written");
    std::fs::write(dir.path().join("logs/7/1/00-npm.log"), b"a\n").expect("written");
    assert_eq!(texts(&all(&logs, Cursor::default()))[0], "1 a", "a log cut short harms nothing");
    std::fs::write(dir.path().join("logs/7/1/texts"), b"{").expect("written");
    assert_eq!(all(&logs, Cursor::default()), [], "without names no lines, and no panic");
}

#[test]
fn a_new_claim_replaces_the_old_one_and_readers_begin_again() {
    let (_dir, logs) = logs();
    written(&logs, MIB * 2, &[b"old\n"]);
    let mut reader = logs.reader(BUILD, Cursor::default());
    assert_eq!(reader.read().expect("readable").len(), 3);
    let news = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&news);
    let on_new = move || {
        count.fetch_add(1, Ordering::Relaxed);
    };
    let log = logs.create(BUILD, 2, MIB * 2, on_new).expect("created");
    assert_eq!(reader.read().expect("readable"), []);
    log.begin(0, &npm()).expect("begun").append(b"new\n").expect("written");
    assert_eq!(texts(&reader.read().expect("readable")), ["1 new"]);
    assert_eq!(news.load(Ordering::Relaxed), 2);
    assert_eq!(logs.builds().expect("readable"), [BUILD]);
    logs.remove(BUILD).expect("removed");
    logs.remove(BUILD).expect("removing nothing is fine");
    assert_eq!(reader.read().expect("readable"), []);
}

#[test]
fn tails_are_the_last_lines_of_each_step_and_say_where_to_go_on() {
    let (_dir, logs) = logs();
    let log = logs.create(BUILD, 1, MIB * 2, || {}).expect("created");
    let mut steps: Vec<StepLog> = (0..2)
        .map(|index| log.begin(index, &Step::queued(format!("s{index}"), StepKind::Check)).expect("begun"))
        .collect();
    for n in 1..=50 {
        steps[0].append(format!("{n}\n").as_bytes()).expect("written");
    }
    steps[1].append(b"x\ny\n").expect("written");
    let tails = logs.tails(BUILD, 3, 10_000).expect("readable");
    let shown: Vec<_> = tails.steps.iter().map(|step| (step.name.as_str(), step.cut, step.lines.len())).collect();
    assert_eq!(shown, [("s0", true, 3), ("s1", false, 2)]);
    assert_eq!(tails.steps[0].lines.last().map(|line| (line.n, line.text.as_str())), Some((50, "50")));
    steps[1].append(b"z\n").expect("written");
    assert_eq!(texts(&all(&logs, tails.cursor)), ["3 z"]);

    // Much at once, then little: the little is not all that is shown.
    steps[1].append("much\n".repeat(2_000).as_bytes()).expect("written");
    steps[1].append(b"little\n").expect("written");
    let tails = logs.tails(BUILD, 100, 206).expect("readable");
    let shown: Vec<u64> = tails.steps[1].lines.iter().map(|line| line.n).collect();
    assert_eq!(shown, (1954..=2004).collect::<Vec<_>>());
}

#[test]
fn a_step_of_nothing_but_line_ends_has_a_small_journal() {
    let (dir, logs) = logs();
    let ends = vec![&b"\n"[..]; 300_000];
    written(&logs, 4 * MIB, &ends);
    let size = std::fs::metadata(dir.path().join("logs/7/1/journal")).expect("there").len();
    assert!(size < 5 * MIB, "{size}");
    assert_eq!(texts(&all(&logs, Cursor::default())).len(), 300_000);
}
