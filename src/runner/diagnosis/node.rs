//! node itself: a version that is too new or too old for the code, and a heap that is too small.

use super::{Diagnosis, after, mend};

/// Reads what node printed before it gave up, in whatever step it ran.
pub(super) fn diagnose(output: &str) -> Option<Diagnosis> {
    heap(output)
        .or_else(|| openssl(output))
        .or_else(|| too_new(output))
        .or_else(|| required(output))
        .or_else(|| too_old(output))
}

/// V8's last words; `Mark-Compact 4045.0 (4130.0) -> …`, once `Mark-sweep`, says how large the heap had become.
fn heap(output: &str) -> Option<Diagnosis> {
    if !output.contains("JavaScript heap out of memory") {
        return None;
    }
    // V8 counts in MiB. Twice of what was too little, in steps that people write.
    let full = output.rsplit_once("Mark-").and_then(|(_, rest)| number(rest));
    let wanted = [4096, 8192, 16384].into_iter().find(|size| full.is_none_or(|full| full * 3 < size * 2));
    let wanted = wanted.unwrap_or(32768);
    let option = format!("--max-old-space-size={wanted}");
    Some(
        Diagnosis::theirs(format!("out of memory, node's heap is full; [env] NODE_OPTIONS = \"{option}\" raises it")).mended_by(
            mend::or(
                &mend::env("NODE_OPTIONS", &option),
                &mend::server("# when the step is then killed: what it may use beside node's heap counts, too\n[defaults]\nlimits = { memory = \"8GiB\" }"),
            ),
        ),
    )
}

/// The first number of a text, without its fraction.
fn number(text: &str) -> Option<u64> {
    let digits = text.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?;
    digits.parse().ok()
}

/// webpack up to 5.60 hashes with MD4, which OpenSSL 3 (node 17 and later) no longer has.
fn openssl(output: &str) -> Option<Diagnosis> {
    const OPTION: &str = "--openssl-legacy-provider";
    if output.contains(&format!("{OPTION} is not allowed in NODE_OPTIONS")) {
        return Some(
            Diagnosis::theirs(format!(
                "this node does not know {OPTION}; take it out of NODE_OPTIONS, or [toolchain] node = \"20\""
            ))
            .mended_by(mend::toolchain("node", "20")),
        );
    }
    let signs = ["ERR_OSSL_EVP_UNSUPPORTED", "error:0308010C:digital envelope routines"];
    signs.iter().any(|sign| output.contains(sign)).then(|| {
        Diagnosis::theirs(format!(
            "ERR_OSSL_EVP_UNSUPPORTED, this webpack is too old for node 17 and later; [env] NODE_OPTIONS = \"{OPTION}\""
        ))
        .mended_by(mend::or(&mend::env("NODE_OPTIONS", OPTION), &mend::toolchain("node", "16")))
    })
}

/// Code that reaches into a node of its own time.
fn too_new(output: &str) -> Option<Diagnosis> {
    if output.contains("primordials is not defined") {
        return Some(
            Diagnosis::theirs(
                "gulp 3 does not run on node 12 and later (primordials is not defined); [toolchain] node = \"10\"",
            )
            .mended_by(mend::or(&mend::toolchain("node", "10"), &mend::by_hand("npm install --save-dev gulp@4"))),
        );
    }
    if output.contains("Node Sass does not yet support your current environment") {
        let version = after(output, "releases/tag/v").map(str::trim);
        let node = node_of_node_sass(version.unwrap_or("4"));
        return Some(
            Diagnosis::theirs(format!(
                "node-sass {} does not run on this node; [toolchain] node = \"{node}\", or the package sass instead",
                version.unwrap_or("here")
            ))
            .mended_by(mend::or(
                &mend::toolchain("node", node),
                &mend::by_hand("npm uninstall node-sass && npm install --save-dev sass"),
            )),
        );
    }
    None
}

/// The newest node that a node-sass has a binary for (its README's table).
pub(super) fn node_of_node_sass(version: &str) -> &'static str {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    match (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) {
        (0..=3, _) => "6",
        (4, 1..=8) => "8",
        (4, 9..=11) => "11",
        (4, 12..=13) => "12",
        (4, _) => "14",
        (5, _) => "15",
        (6, _) => "16",
        (7, _) => "17",
        (8, _) => "19",
        _ => "20",
    }
}

/// Tools that say which node they want.
fn required(output: &str) -> Option<Diagnosis> {
    // yarn 1: `error cart@2.0.0: The engine "node" is incompatible with this module. Expected version ">=22". Got "20.20.2"`.
    const YARN: &str = ": The engine \"node\" is incompatible with this module. Expected version \"";
    if let Some((before, rest)) = output.split_once(YARN) {
        let who = before.lines().next_back()?.trim_start_matches("error ");
        return Some(engine(who, rest.split('"').next()?, after(rest, "Got \"").and_then(|got| got.split('"').next())));
    }
    let says = |mark: &str| after(output, mark).and_then(version);
    let next = || {
        let line = output
            .lines()
            .find(|line| line.starts_with("You are using Node.js ") && line.ends_with(" is required."))?;
        version(line.rsplit_once("ersion ")?.1).map(|wanted| ("Next.js", wanted))
    };
    says("The Angular CLI requires a minimum Node.js version of ")
        .map(|wanted| ("the Angular CLI", wanted))
        .or_else(|| says("Vite requires Node.js version ").map(|wanted| ("Vite", wanted)))
        .or_else(next)
        .map(|(who, wanted)| engine(who, &wanted, None))
}

/// `v18.13` and `"^18.18.0 || >= 20"` alike: the first version in a text, without its `v`.
fn version(text: &str) -> Option<String> {
    let at = text.find(|c: char| c.is_ascii_digit())?;
    let digits = text[at..].split(|c: char| !(c.is_ascii_digit() || c == '.')).next()?;
    Some(digits.trim_end_matches('.').to_owned())
}

/// Who wants which node, and which one it got.
pub(super) fn engine(who: &str, wanted: &str, got: Option<&str>) -> Diagnosis {
    let got = got.map(|got| format!(", this is {}", got.trim_start_matches('v'))).unwrap_or_default();
    // A bare minimum is meant as one; a range stands as it is.
    let range = if wanted.starts_with(|c: char| c.is_ascii_digit()) && wanted.contains('.') {
        format!(">={wanted}")
    } else {
        wanted.to_owned()
    };
    Diagnosis::theirs(format!("{who} wants node {wanted}{got}; [toolchain] node = \"{range}\""))
        .mended_by(mend::toolchain("node", &range))
}

/// What an older node says of newer code.
fn too_old(output: &str) -> Option<Diagnosis> {
    let (line, wanted) = output.lines().find_map(|line| {
        let said = line.trim_start_matches("npm error ").trim_start_matches("npm ERR! ").trim();
        let known = TOO_OLD.iter().find(|(sign, _)| said.contains(sign) && said.contains("rror"))?;
        Some((said, known.1))
    })?;
    Some(
        Diagnosis::theirs(format!("this node is too old ({line}); [toolchain] node = \"{wanted}\""))
            .mended_by(mend::toolchain("node", wanted)),
    )
}

/// Signs in the line of an error, with the oldest supported node in which they are gone.
const TOO_OLD: [(&str, &str); 16] = [
    ("Cannot find module 'node:", "22"),
    ("No such built-in module: node:", "22"),
    ("Unexpected token '??='", "16"),
    ("Unexpected token '||='", "16"),
    ("Unexpected token '&&='", "16"),
    ("Unexpected token '?'", "16"),
    ("Unexpected token '??'", "16"),
    ("Unexpected token '?.'", "16"),
    ("structuredClone is not defined", "18"),
    ("Object.hasOwn is not a function", "18"),
    ("fetch is not defined", "18"),
    (".getRandomValues is not a function", "18"),
    ("crypto.hash is not a function", "22"),
    ("File is not defined", "20"),
    ("'node:util' does not provide an export named 'styleText'", "22"),
    ("Promise.withResolvers is not a function", "22"),
];
