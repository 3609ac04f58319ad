use super::search::{Form, Meets};
use super::*;

fn masked(secrets: &[&str], text: &str) -> String {
    Mask::of(secrets.iter().map(|secret| secret.as_bytes())).text(text.to_owned())
}

/// The same, however the bytes come in pieces.
#[track_caller]
fn check(secrets: &[&str], text: &str, expected: &str) {
    let mask = Mask::of(secrets.iter().map(|secret| secret.as_bytes()));
    assert_eq!(mask.text(text.to_owned()), expected, "in one piece");
    let in_pieces = |pieces: &[&[u8]]| {
        let mut stream = mask.stream();
        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| stream.push(piece).into_owned()).collect();
        out.extend(stream.finish());
        String::from_utf8_lossy(&out).into_owned()
    };
    assert_eq!(in_pieces(&text.as_bytes().chunks(1).collect::<Vec<_>>()), expected, "byte by byte");
    for at in 0..text.len() {
        let (first, rest) = text.as_bytes().split_at(at);
        assert_eq!(in_pieces(&[first, rest]), expected, "cut at {at}");
        let middle = rest.len() / 2;
        assert_eq!(in_pieces(&[first, &rest[..middle], &rest[middle..]]), expected, "cut at {at} and behind");
    }
}

#[test]
fn a_secret_is_hidden_wherever_it_is_cut() {
    check(&["hunter2hunter2"], "a hunter2hunter2 b hunter2hunter", "a *** b ***");
    check(&["s3cret-of-ours"], "s3cret-of-ourss3cret-of-ours", "******");
    check(&["hunter2hunter2"], "hunter2hunter2hunter2hunter2", "***");
    check(&["hunter2hunter2"], "hunter2hunter3 hunter2", "hunter2hunter3 hunter2");
    check(&["hunter2hunter2"], "", "");
    check(&["zażółć gęślą"], "x zażółć gęślą y", "x *** y");
}

#[test]
fn secrets_that_overlap_leave_nothing() {
    check(&["abcdefgh", "efghijkl"], "-abcdefghijkl-", "-***-");
    check(&["abcdefgh", "abcdefghij"], "abcdefghi abcdefghij", "***i ***");
    check(&["abcdefgh", "bcdefghijklmnop", "fghijklmno"], "abcdefghijklmnoX", "***X");
    check(&["aaaaaaaa"], "aaaaaaaaaaaa b", "*** b");
}

#[test]
fn what_is_short_is_left_alone() {
    assert!(Mask::of([b"seven77".as_slice(), b""]).is_empty());
    assert_eq!(masked(&["seven77", "eight888"], "seven77 eight888"), "seven77 ***");
}

#[test]
fn every_usual_form_is_hidden() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    let secret = "p/4s?s+w ö:rd>~\"é\\x";
    let hides = |text: String| {
        let shown = masked(&[secret], &format!("<{text}>"));
        assert!(shown.contains(HIDDEN), "{text} is shown as {shown}");
        shown
    };
    // Up to two characters on either side hold bits of what stands around it.
    for before in ["", "u", "us", "use", "user"] {
        for after in ["", "\n", "ab", "abc"] {
            let bytes = format!("{before}{secret}{after}");
            for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
                let text = engine.encode(&bytes);
                let shown = hides(text.clone());
                let kept = shown.len() - HIDDEN.len() - 2;
                assert!(kept <= (before.len() + after.len()) * 4 / 3 + 4, "{text} is shown as {shown}");
            }
        }
    }
    for encoded in [
        "p%2F4s%3Fs%2Bw%20%C3%B6%3Ard%3E~%22%C3%A9%5Cx",
        "p%2f4s%3fs%2bw%20%c3%b6%3ard%3e~%22%c3%a9%5cx",
        "p%2F4s%3Fs%2Bw+%C3%B6%3Ard%3E%7E%22%C3%A9%5Cx",
        "p/4s?s+w%20%C3%B6:rd%3E~%22%C3%A9%5Cx",
        "p/4s?s+w ö:rd>~\\\"é\\\\x",
    ] {
        assert_eq!(hides(encoded.to_owned()), "<***>");
    }
    assert_eq!(hides(hex::encode(secret)), "<***>");
    assert_eq!(hides(hex::encode_upper(secret)), "<***>");
}

/// `base64` and `openssl enc` break at 76 and 64 columns, `xxd -p` at 60; a mail does so with CRLF.
#[test]
fn base64_and_digits_are_hidden_across_the_ends_of_lines() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let wrapped = |text: &str, columns: usize, end: &str| {
        let lines: Vec<&str> =
            text.as_bytes().chunks(columns).map(|line| str::from_utf8(line).expect("ASCII")).collect();
        lines.join(end)
    };
    let long = "of a key that takes several lines ".repeat(5);
    for secret in ["s3cret-of-ours", "t0ken-of-the-forge-5f1c8a", long.as_str()] {
        let mask = Mask::of([secret.as_bytes()]);
        for before in 0..60 {
            let bytes = format!("{}{secret}{}", "b".repeat(before), "behind it");
            for (columns, end) in
                [76, 64, 12, 8, 6].into_iter().flat_map(|columns| [(columns, "\n"), (columns, "\r\n")])
            {
                let text = wrapped(&STANDARD.encode(&bytes), columns, end);
                let shown = mask.text(text.clone());
                assert_eq!(shown.matches(HIDDEN).count(), 1, "{before}: {text:?} is shown as {shown:?}");
                let around = (before + "behind it".len()) * 4 / 3 + 16;
                assert!(
                    shown.replace(end, "").len() <= around + HIDDEN.len(),
                    "{before}: {text:?} is shown as {shown:?}"
                );
            }
            let digits = wrapped(&hex::encode(&bytes), 60, "\n");
            let shown = mask.text(digits.clone());
            assert_eq!(shown.matches(HIDDEN).count(), 1, "{before}: {digits:?} is shown as {shown:?}");
        }
    }
    let text = wrapped(&STANDARD.encode("user:hunter2hunter2 and so on"), 12, "\r\n");
    check(&["hunter2hunter2"], &text, "dXNlcjp***iBhbmQgc28g\r\nb24=");
    check(&["hunter2hunter2"], "hunter2\nhunter2", "hunter2\nhunter2");
}

#[test]
fn of_several_lines_each_is_hidden() {
    let key = "-----BEGIN KEY-----\nAAAABBBBCCCCDDDD\n  EEEEFFFFGGGGHHHH\r\nshort\n-----END KEY-----";
    check(&[key], "x\nAAAABBBBCCCCDDDD\nEEEEFFFFGGGGHHHH short\n", "x\n***\n*** short\n");
    assert_eq!(masked(&[key], "-----BEGIN KEY-----\n"), "-----BEGIN KEY-----\n", "it is in everybody's key");
    assert_eq!(masked(&[key], &format!("key: {key}!")), "key: ***!");
    assert_eq!(masked(&[key], r#"{"key":"AAAABBBBCCCCDDDD\n  EEEE"}"#), r#"{"key":"***\n  EEEE"}"#);
}

#[test]
fn a_pause_shows_what_is_too_little_to_tell() {
    let mut stream = Mask::of([b"hunter2hunter2".as_slice()]).stream();
    assert_eq!(&*stream.push(b"password: hun"), b"password: ");
    assert!(stream.can_pause());
    assert_eq!((stream.pause(), stream.can_pause()), (b"hun".to_vec(), false));
    assert_eq!(&*stream.push(b"hunter2hunt"), b"");
    assert_eq!((stream.can_pause(), stream.pause()), (false, Vec::new()), "this may be most of a secret");
    assert_eq!(&*stream.push(b"ing"), b"hunter2hunting");
    assert_eq!(stream.finish(), b"");
}

#[test]
fn what_holds_no_secret_is_not_copied() {
    let mask = Mask::of([b"hunter2hunter2".as_slice()]);
    assert!(matches!(mask.stream().push(b"nothing to see"), std::borrow::Cow::Borrowed(_)));
    assert!(matches!(Mask::default().stream().push(b"hunter2hunter2"), std::borrow::Cow::Borrowed(_)));
}

#[test]
fn nothing_of_a_mask_is_printed() {
    assert_eq!(format!("{:?}", Mask::of([b"hunter2hunter2".as_slice()])), "Mask(…)");
}

/// Against the plainest way to do it: look for every form at every place.
#[test]
fn random_texts_are_masked_as_the_plainest_way_would() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).expect("small")
    };
    for round in 0..3000 {
        // Few letters, so that much of it looks like much else.
        let letters = 2 + round % 3;
        let mut word = |length: usize| -> Vec<u8> { (0..length).map(|_| b'a' + random(letters) as u8).collect() };
        let secrets: Vec<Vec<u8>> = (0..3).map(|at| word(8 + at * 2)).collect();
        let text: Vec<u8> =
            [word(17), secrets[1].clone(), word(9), secrets[2].clone()[..9].to_vec(), word(40)].concat();
        let mask = Mask::of(secrets.iter().map(Vec::as_slice));
        let mut known = Forms::new();
        secrets.iter().for_each(|secret| forms::add(secret, &mut known));
        let forms: Vec<Form> = known.into_iter().map(|(text, in_lines)| Form { text, in_lines }).collect();
        let expected = plainly(&forms, &text);
        let mut stream = mask.stream();
        let (mut out, mut rest) = (Vec::new(), text.as_slice());
        while !rest.is_empty() {
            let (piece, others) = rest.split_at((1 + random(12)).min(rest.len()));
            out.extend_from_slice(&stream.push(piece));
            rest = others;
        }
        out.extend(stream.finish());
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected), "round {round}");
    }
}

fn plainly(forms: &[Form], text: &[u8]) -> Vec<u8> {
    let mut holes: Vec<(usize, usize)> = Vec::new();
    for at in 0..text.len() {
        let rest = &text[at..];
        let (mut whole, mut open) = (Vec::new(), Vec::new());
        for form in forms {
            match form.meets(rest) {
                Meets::Not => {}
                Meets::Whole(bytes) => whole.push(bytes),
                Meets::Open(bytes) => open.push(bytes),
            }
        }
        let cut_off = open.into_iter().min();
        let cut_off = cut_off.filter(|form| stream::tells(rest.len(), *form)).map(|_| rest.len());
        let Some(length) = whole.into_iter().chain(cut_off).max() else { continue };
        match holes.last_mut().filter(|hole| at < hole.1) {
            Some(hole) => hole.1 = hole.1.max(at + length),
            None => holes.push((at, at + length)),
        }
    }
    let (mut out, mut done) = (Vec::new(), 0);
    for (from, to) in holes {
        out.extend_from_slice(&text[done..from]);
        out.extend_from_slice(HIDDEN.as_bytes());
        done = to;
    }
    out.extend_from_slice(&text[done..]);
    out
}
