//! Browsers in a step: without a sandbox of their own, not there, or without a library of the system.

use super::{Diagnosis, after, mend};

/// Reads what a browser, or who wanted to start one, printed.
pub(super) fn diagnose(output: &str) -> Option<Diagnosis> {
    library(output).or_else(|| sandbox(output)).or_else(|| absent(output))
}

/// Chromium's own sandbox needs what a confined step is not given; the step's is around it already.
fn sandbox(output: &str) -> Option<Diagnosis> {
    const SIGNS: [&str; 4] = [
        "Running as root without --no-sandbox is not supported",
        "No usable sandbox!",
        "Failed to move to new namespace: PID namespaces supported",
        "The SUID sandbox helper binary was found, but is not configured correctly",
    ];
    if !SIGNS.iter().any(|sign| output.contains(sign)) {
        return None;
    }
    const KARMA: &str = "// karma.conf.js\nbrowsers: ['ChromeInStep'],\ncustomLaunchers: {\n  \
                         ChromeInStep: { base: 'ChromeHeadless', flags: ['--no-sandbox'] },\n},";
    const PUPPETEER: &str = "// where puppeteer starts the browser\npuppeteer.launch({ args: ['--no-sandbox'] })";
    let by_karma = output.contains("[launcher]") || output.contains("arma v");
    let by_puppeteer = output.contains("puppeteer");
    let (line, mend) = match (by_karma, by_puppeteer) {
        (true, _) => ("karma: flags: ['--no-sandbox'] in a custom launcher", KARMA.to_owned()),
        (_, true) => ("puppeteer.launch({ args: ['--no-sandbox'] })", PUPPETEER.to_owned()),
        _ => ("start it with --no-sandbox", mend::or(KARMA, PUPPETEER)),
    };
    Some(Diagnosis::theirs(format!("Chrome finds no sandbox inside the step's own; {line}")).mended_by(mend))
}

/// Whoever wanted to start a browser did not find one.
fn absent(output: &str) -> Option<Diagnosis> {
    if output.contains("No binary for Chrome") || output.contains("Please, set \"CHROME_BIN\" env variable") {
        return Some(no_chrome("CHROME_BIN"));
    }
    if output.contains("Could not find Chrome (ver.") || output.contains("Could not find expected browser (chrome)") {
        return Some(no_chrome("PUPPETEER_EXECUTABLE_PATH"));
    }
    let playwright = output.contains("browserType.launch: Executable doesn't exist at");
    playwright.then(|| {
        Diagnosis::theirs("playwright's browser is not installed; add npx playwright install chromium to the step").mended_by(
            mend::repository("[[check]]\nname = \"e2e\"\nnetwork = true\ncommand = [\"sh\", \"-c\", \"npx playwright install chromium && npx playwright test\"]"),
        )
    })
}

fn no_chrome(variable: &str) -> Diagnosis {
    Diagnosis::ours(format!(
        "no Chrome was found on the agent; apt-get install chromium, [env] {variable} = \"/usr/bin/chromium\""
    ))
    .mended_by(format!("{}\n\n{}", mend::packages("chromium"), mend::env(variable, "/usr/bin/chromium")))
}

/// The dynamic loader's word (ld.so(8)), in glibc and in musl.
pub(super) fn library(output: &str) -> Option<Diagnosis> {
    let glibc = after(output, "error while loading shared libraries: ").and_then(|rest| rest.split(':').next());
    let musl = || after(output, "Error loading shared library ").and_then(|rest| rest.split(':').next());
    let library = glibc.or_else(musl)?.trim();
    Some(match PACKAGES.iter().find(|(name, _)| *name == library) {
        Some((_, package)) => Diagnosis::ours(format!("{library} is missing on the agent; apt-get install {package}"))
            .mended_by(mend::packages(if BROWSERS.contains(package) { ALL_OF_A_BROWSER } else { package })),
        None => Diagnosis::ours(format!("{library} is missing on the agent; install the package that holds it")).mended_by(
            format!("# on the agent: which package holds it\napt-get install apt-file && apt-file update && apt-file search {library}"),
        ),
    })
}

/// One library of a browser is never missing alone.
const ALL_OF_A_BROWSER: &str = "libnss3 libnspr4 libatk1.0-0 libatk-bridge2.0-0 libatspi2.0-0 libcups2 libdrm2 libgbm1 \
                                libxkbcommon0 libxcomposite1 libxdamage1 libxfixes3 libxrandr2 libpango-1.0-0 libcairo2 \
                                libasound2";

const BROWSERS: [&str; 16] = [
    "libnss3",
    "libnspr4",
    "libatk1.0-0",
    "libatk-bridge2.0-0",
    "libatspi2.0-0",
    "libcups2",
    "libdrm2",
    "libgbm1",
    "libxkbcommon0",
    "libxcomposite1",
    "libxdamage1",
    "libxfixes3",
    "libxrandr2",
    "libpango-1.0-0",
    "libcairo2",
    "libasound2",
];

/// Debian 12's packages of the libraries that browsers and image tools ask for.
const PACKAGES: [(&str, &str); 38] = [
    ("libnss3.so", "libnss3"),
    ("libnssutil3.so", "libnss3"),
    ("libsmime3.so", "libnss3"),
    ("libnspr4.so", "libnspr4"),
    ("libatk-1.0.so.0", "libatk1.0-0"),
    ("libatk-bridge-2.0.so.0", "libatk-bridge2.0-0"),
    ("libatspi.so.0", "libatspi2.0-0"),
    ("libcups.so.2", "libcups2"),
    ("libdrm.so.2", "libdrm2"),
    ("libgbm.so.1", "libgbm1"),
    ("libxkbcommon.so.0", "libxkbcommon0"),
    ("libXcomposite.so.1", "libxcomposite1"),
    ("libXdamage.so.1", "libxdamage1"),
    ("libXfixes.so.3", "libxfixes3"),
    ("libXrandr.so.2", "libxrandr2"),
    ("libpango-1.0.so.0", "libpango-1.0-0"),
    ("libcairo.so.2", "libcairo2"),
    ("libasound.so.2", "libasound2"),
    ("libX11.so.6", "libx11-6"),
    ("libX11-xcb.so.1", "libx11-xcb1"),
    ("libxcb.so.1", "libxcb1"),
    ("libXss.so.1", "libxss1"),
    ("libXtst.so.6", "libxtst6"),
    ("libXi.so.6", "libxi6"),
    ("libXext.so.6", "libxext6"),
    ("libXcursor.so.1", "libxcursor1"),
    ("libxshmfence.so.1", "libxshmfence1"),
    ("libgtk-3.so.0", "libgtk-3-0"),
    ("libgdk-3.so.0", "libgtk-3-0"),
    ("libgobject-2.0.so.0", "libglib2.0-0"),
    ("libglib-2.0.so.0", "libglib2.0-0"),
    ("libdbus-1.so.3", "libdbus-1-3"),
    ("libgconf-2.so.4", "libgconf-2-4"),
    ("libfontconfig.so.1", "libfontconfig1"),
    ("libjpeg.so.62", "libjpeg62-turbo"),
    ("libpng16.so.16", "libpng16-16"),
    ("libvips.so.42", "libvips42"),
    ("libatomic.so.1", "libatomic1"),
];
