//! The bower components, each with several releases, so that bower has something to resolve.

use super::Tree;

/// A bower component: a git repository with a tag for each release.
#[derive(Debug)]
pub(in super::super) struct Component {
    /// Its name in `bower.json` and in its address.
    pub name: &'static str,
    /// Its releases, the oldest first.
    pub releases: Vec<Release>,
}

/// One release of a component.
#[derive(Debug)]
pub(in super::super) struct Release {
    /// The version, which is also the tag.
    pub version: &'static str,
    /// Its files.
    pub tree: Tree,
}

/// What makes a component, apart from its version.
struct Kind {
    name: &'static str,
    versions: [&'static str; 4],
    main: &'static str,
    /// A path and content for the file of a number; how many there are.
    file: fn(usize) -> (String, String),
    files: usize,
    needs: &'static [(&'static str, &'static str)],
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "shop-icons",
        versions: ["1.1.0", "1.2.0", "1.2.3", "1.3.0"],
        main: "export function icon(name) {\n  return `[${name}]`;\n}\n",
        file: icon,
        files: 640,
        needs: &[],
    },
    Kind {
        name: "shop-locale",
        versions: ["1.9.0", "2.0.0", "2.0.1", "2.1.0"],
        main: "export const languages = ['en', 'de', 'fr'];\n",
        file: locale,
        files: 420,
        needs: &[],
    },
    Kind {
        name: "shop-charts",
        versions: ["3.0.0", "3.1.0", "3.1.4", "4.0.0"],
        main: "import { round } from 'shop-numbers';\n\n\
               export function bars(values) {\n  return values.map((value) => '#'.repeat(round(value, 0))).join('\\n');\n}\n",
        file: source,
        files: 320,
        needs: &[("shop-numbers", "~2.1.0")],
    },
    Kind {
        name: "shop-forms",
        versions: ["1.3.0", "1.4.0", "1.4.2", "2.0.0"],
        main: "export function required(text) {\n  return text || '(required)';\n}\n",
        file: source,
        files: 280,
        needs: &[],
    },
    Kind {
        name: "shop-numbers",
        versions: ["2.0.0", "2.1.0", "2.1.2", "2.2.0"],
        main: "export function round(value, digits) {\n  return Number(value.toFixed(digits));\n}\n",
        file: source,
        files: 90,
        needs: &[],
    },
];

/// What `bower.json` says for a component that is fetched from `components_url`.
pub(super) fn address(components_url: &str, name: &str, range: &str) -> String {
    format!("{components_url}/{name}.git#{range}")
}

/// Every component, with all its releases.
pub(in super::super) fn components(components_url: &str) -> Vec<Component> {
    KINDS
        .iter()
        .map(|kind| Component {
            name: kind.name,
            releases: kind
                .versions
                .iter()
                .map(|version| Release { version, tree: release(kind, version, components_url) })
                .collect(),
        })
        .collect()
}

fn release(kind: &Kind, version: &str, components_url: &str) -> Tree {
    let dependencies: serde_json::Map<_, _> = kind
        .needs
        .iter()
        .map(|(name, range)| ((*name).to_owned(), address(components_url, name, range).into()))
        .collect();
    let manifest = serde_json::json!({ "name": kind.name, "main": "main.js", "dependencies": dependencies });
    let mut tree: Tree = (0..kind.files).map(kind.file).collect();
    tree.insert("bower.json".into(), format!("{manifest:#}\n"));
    tree.insert("main.js".into(), format!("// {} {version}\n{}", kind.name, kind.main));
    tree
}

fn icon(number: usize) -> (String, String) {
    let angle = number * 7 % 360;
    let image = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 24 24\">\n  \
         <path d=\"M4 12h16M12 4v16\" transform=\"rotate({angle} 12 12)\" stroke=\"currentColor\"/>\n</svg>\n"
    );
    (format!("icons/{}/{number:04}.svg", ["line", "solid", "small", "large"][number % 4]), image)
}

fn locale(number: usize) -> (String, String) {
    let (language, area) = (number / 20, number % 20);
    let texts: serde_json::Map<_, _> = (0..40)
        .map(|text| {
            (format!("area{area}.text{text}"), format!("Text {text} of area {area} in language {language}").into())
        })
        .collect();
    (format!("locale/{language:02}/area{area:02}.json"), format!("{:#}\n", serde_json::Value::from(texts)))
}

fn source(number: usize) -> (String, String) {
    let mut content = format!("// Part {number}.\n\n");
    for step in 0..30 {
        content.push_str(&format!("export const value{step} = {};\n", number * 31 + step));
    }
    (format!("src/{:02}/part{number:03}.js", number / 20), content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_component_has_several_hundred_files_and_an_address_for_what_it_needs() {
        let components = components("http://127.0.0.1:1/bower");
        let files: usize = components.iter().map(|component| component.releases[0].tree.len()).sum();
        assert!(files > 1500, "{files}");
        let charts = components.iter().find(|component| component.name == "shop-charts").expect("listed");
        let manifest = &charts.releases[0].tree["bower.json"];
        assert!(manifest.contains("http://127.0.0.1:1/bower/shop-numbers.git#~2.1.0"), "{manifest}");
    }

    #[test]
    fn releases_differ() {
        for component in components("http://h") {
            let trees: Vec<&Tree> = component.releases.iter().map(|release| &release.tree).collect();
            assert!(trees.windows(2).all(|pair| pair[0] != pair[1]), "{}", component.name);
        }
    }
}
