//! Install scripts of packages that download a binary or compile one.

use super::{Diagnosis, after, between, mend, node, outage};

/// A package whose install script fetches something from a place of its own.
struct Download {
    /// The package; a scope with its slash stands for all in it.
    package: &'static str,
    /// Where it fetches from by itself.
    host: &'static str,
    /// The variable that makes it not fetch, with its value; by the package's own documentation.
    skip: Option<(&'static str, &'static str)>,
}

const fn download(package: &'static str, host: &'static str, skip: Option<(&'static str, &'static str)>) -> Download {
    Download { package, host, skip }
}

const GITHUB: &str = "github.com";
const IMAGES: &str = "raw.githubusercontent.com";

const DOWNLOADS: [Download; 22] = [
    download("puppeteer", "storage.googleapis.com", Some(("PUPPETEER_SKIP_DOWNLOAD", "1"))),
    download("cypress", "download.cypress.io", Some(("CYPRESS_INSTALL_BINARY", "0"))),
    download("playwright", "cdn.playwright.dev", Some(("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1"))),
    download("playwright-chromium", "cdn.playwright.dev", Some(("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1"))),
    download("@playwright/", "cdn.playwright.dev", Some(("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1"))),
    download("electron", GITHUB, Some(("ELECTRON_SKIP_BINARY_DOWNLOAD", "1"))),
    download("chromedriver", "chromedriver.storage.googleapis.com", Some(("CHROMEDRIVER_SKIP_DOWNLOAD", "true"))),
    download("geckodriver", GITHUB, Some(("GECKODRIVER_SKIP_DOWNLOAD", "true"))),
    download("@sentry/cli", "downloads.sentry-cdn.com", Some(("SENTRYCLI_SKIP_DOWNLOAD", "1"))),
    download("phantomjs-prebuilt", GITHUB, None),
    download("phantomjs", "bitbucket.org", None),
    download("webdriver-manager", "chromedriver.storage.googleapis.com", None),
    download("protractor", "chromedriver.storage.googleapis.com", None),
    download("node-sass", GITHUB, None),
    download("sharp", GITHUB, None),
    download("gifsicle", IMAGES, None),
    download("pngquant-bin", IMAGES, None),
    download("optipng-bin", IMAGES, None),
    download("jpegtran-bin", IMAGES, None),
    download("mozjpeg", IMAGES, None),
    download("cwebp-bin", IMAGES, None),
    download("zopflipng-bin", IMAGES, None),
];

/// Reads what the install script of `package` printed; `None` when it tells of no download and no compiler.
pub(super) fn diagnose(package: &str, printed: &str) -> Option<Diagnosis> {
    compiler(package, printed).or_else(|| unreachable(package, printed))
}

/// A place that did not answer. It may answer next time, so this is an outage; the lines help where it never will.
fn unreachable(package: &str, printed: &str) -> Option<Diagnosis> {
    let away = outage::of_registry("", printed).filter(|found| found.retry)?;
    let known = DOWNLOADS
        .iter()
        .find(|known| package == known.package || (known.package.ends_with('/') && package.starts_with(known.package)));
    let host = asked(printed).or_else(|| outage::unresolved_host(printed).map(str::to_owned));
    let host = host.or_else(|| known.map(|known| known.host.to_owned()));
    let Some(host) = host else {
        return Some(Diagnosis::outage(format!("the install script of {package} could not download:{}", away.reason)));
    };
    // puppeteer says itself what its version heeds.
    let said = between(printed, "Set \"", "\" env variable to skip download").map(|name| (name, "1"));
    let Some((name, value)) = said.or_else(|| known.and_then(|known| known.skip)) else {
        return Some(
            Diagnosis::outage(format!("{package} could not fetch its binary from {host}")).mended_by(allowed(&host)),
        );
    };
    Some(
        Diagnosis::outage(format!("{package} can't fetch its binary from {host}; [env] {name} = \"{value}\" skips it"))
            .mended_by(mend::or(&mend::env(name, value), &allowed(&host))),
    )
}

fn allowed(host: &str) -> String {
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:443") };
    mend::server(&format!(
        "# where installs reach only named hosts; keep what is in the list\n[sandbox]\ninstall_hosts = [\"npm\", \"yarn\", \"bower\", \"node\", \"{address}\"]"
    ))
}

/// The host, and a port that is not https's, of the address that the script says it asks.
fn asked(printed: &str) -> Option<String> {
    let marks =
        ["Downloading ", "Downloading from file:  ", "URL: ", "Cannot download \"", "request to ", "Download failed: "];
    let url =
        marks.iter().filter_map(|mark| after(printed, mark)).find(|rest| rest.trim_start().starts_with("http"))?;
    let url = url::Url::parse(url.split_whitespace().next()?.trim_end_matches(['"', ',', ':'])).ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// No binary for this node and platform, and none of the tools that make one.
fn compiler(package: &str, printed: &str) -> Option<Diagnosis> {
    let missing = MISSING.iter().find(|(sign, _)| printed.contains(sign)).map(|(_, what)| *what)?;
    let why = format!("{package} has no binary for this node, and {missing} to compile it is missing");
    let agent = mend::packages("python3 make g++");
    if package == "node-sass" {
        // Where the download's own words are lost: node 12 has binaries of 4.12 and of what 4 came to after it.
        let version = between(printed, "/releases/download/v", "/").unwrap_or("4.12");
        let node = node::node_of_node_sass(version);
        let older = mend::toolchain("node", node);
        // The node-gyp of node-sass 4 and before it compiles only with python 2, which systems no longer have.
        let mended = if printed.contains("python2") { older } else { mend::or(&older, &agent) };
        return Some(Diagnosis::theirs(format!("{why}; [toolchain] node = \"{node}\" has a binary")).mended_by(mended));
    }
    let older =
        mend::repository(&format!("# an older node, for which {package} has a binary\n[toolchain]\nnode = \"20\""));
    let reason = format!("{why}; apt-get install python3 make g++");
    Some(Diagnosis::theirs(reason).mended_by(mend::or(&agent, &older)))
}

/// node-gyp's words, of version 3 to 12, for what it does not find.
const MISSING: [(&str, &str); 9] = [
    ("Could not find any Python installation to use", "python"),
    ("Can't find Python executable", "python"),
    ("gyp ERR! find Python \n", "python"),
    ("not found: python2", "python"),
    ("not found: make", "make"),
    ("spawn make ENOENT", "make"),
    ("make: g++: No such file", "g++"),
    ("make: cc: No such file", "a C compiler"),
    ("make: c++: No such file", "g++"),
];
