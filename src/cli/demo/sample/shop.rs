//! The repository `demo/shop`: webpack, babel and React, and some hundred small modules.

use std::fmt::Write;

use super::{Tree, components};

/// Files that are the same in every commit.
const FIXED: [(&str, &str); 8] = [
    (".gitignore", include_str!("shop/gitignore")),
    ("README.md", include_str!("shop/README.md")),
    ("package.json", include_str!("shop/package.json")),
    ("package-lock.json", include_str!("shop/package-lock.json")),
    ("webpack.config.js", include_str!("shop/webpack.config.js")),
    ("public/index.html", include_str!("shop/index.html")),
    ("src/index.jsx", include_str!("shop/index.jsx")),
    ("src/price.js", include_str!("shop/price.js")),
];
const CART: &str = include_str!("shop/cart.js");
const PART: &str = include_str!("shop/part.jsx");

const PAGES: [&str; 8] = ["Home", "Catalogue", "Product", "Basket", "Checkout", "Account", "Orders", "Help"];
/// The parts of a page; part `k` shows the parts `2k + 1` and `2k + 2`, as in a heap.
const PARTS: [&str; 13] = [
    "Page",
    "Header",
    "List",
    "Navigation",
    "Search",
    "Card",
    "Filter",
    "Menu",
    "Logo",
    "Hint",
    "Picture",
    "Badge",
    "Rating",
];
const ARTICLES: [&str; 11] =
    ["apple", "bread", "cheese", "coffee", "flour", "honey", "milk", "olive", "pepper", "salt", "tea"];

/// Whether a commit of the sample can be bundled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Condition {
    /// Every import is there.
    Sound,
    /// `src/cart.js` imports a file that is not there.
    Broken,
}

/// The sample after `pushes` pushes; its bower components are fetched from `components_url`.
pub(in super::super) fn shop(components_url: &str, pushes: usize, condition: Condition) -> Tree {
    let mut tree: Tree = FIXED.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect();
    tree.insert("bower.json".into(), bower_manifest(components_url));
    tree.insert("src/cart.js".into(), cart(condition));
    tree.insert("src/headline.js".into(), format!("export const headline = 'Shop, as of push {pushes}';\n"));
    tree.insert("src/App.jsx".into(), app());
    for page in PAGES {
        for (number, part) in PARTS.iter().enumerate() {
            tree.insert(format!("src/pages/{}/{page}{part}.jsx", page.to_lowercase()), module(page, number));
        }
    }
    tree
}

fn bower_manifest(components_url: &str) -> String {
    let wanted =
        [("shop-charts", "~3.1.0"), ("shop-forms", "~1.4.0"), ("shop-icons", "~1.2.0"), ("shop-locale", "~2.0.0")];
    let mut dependencies = serde_json::Map::new();
    for (name, range) in wanted {
        dependencies.insert(name.into(), components::address(components_url, name, range).into());
    }
    // Both a direct and an indirect dependency: bower has to find one release that suits both.
    dependencies.insert("shop-numbers".into(), components::address(components_url, "shop-numbers", "^2.1.0").into());
    let manifest = serde_json::json!({ "name": "shop", "private": true, "dependencies": dependencies });
    format!("{manifest:#}\n")
}

fn cart(condition: Condition) -> String {
    match condition {
        Condition::Sound => CART.to_owned(),
        Condition::Broken => CART.replace("'./price'", "'./prices'"),
    }
}

fn app() -> String {
    let mut app = String::from("import { bars } from 'shop-charts';\nimport { required } from 'shop-forms';\n");
    app.push_str("import { languages } from 'shop-locale';\n\nimport { headline } from './headline';\n");
    for page in PAGES {
        let _ = writeln!(app, "import {page} from './pages/{}/{page}Page';", page.to_lowercase());
    }
    app.push_str("\nexport default function App() {\n  return (\n    <main lang={languages[0]}>\n");
    app.push_str("      <h1>{required(headline)}</h1>\n      <pre>{bars([3, 1, 2])}</pre>\n");
    for page in PAGES {
        let _ = writeln!(app, "      <{page} />");
    }
    app.push_str("    </main>\n  );\n}\n");
    app
}

fn module(page: &str, number: usize) -> String {
    let mut imports = String::new();
    let mut children = String::new();
    for child in [2 * number + 1, 2 * number + 2] {
        if let Some(part) = PARTS.get(child) {
            let _ = writeln!(imports, "import {page}{part} from './{page}{part}';");
            let _ = writeln!(children, "      <{page}{part} />");
        }
    }
    let first = page.len() + number;
    let articles: Vec<String> =
        (0..4).map(|step| format!("'{}'", ARTICLES[(first + 3 * step) % ARTICLES.len()])).collect();
    let part = PARTS[number];
    PART.replace("@IMPORTS@", &imports)
        .replace("@CHILDREN@", &children)
        .replace("@ARTICLES@", &articles.join(", "))
        .replace("@NAME@", &format!("{page}{part}"))
        .replace("@CLASS@", &format!("{}-{}", page.to_lowercase(), part.to_lowercase()))
        .replace("@ICON@", &part.to_lowercase())
        .replace("@TITLE@", &format!("{page}: {}", part.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_relative_import_is_there_unless_broken() {
        let missing = |tree: &Tree| -> Vec<String> {
            let mut missing = Vec::new();
            for (path, content) in tree.iter().filter(|(path, _)| path.starts_with("src/")) {
                for line in content.lines().filter(|line| line.starts_with("import ")) {
                    let wanted = line.rsplit('\'').nth(1).expect("a quoted name");
                    if wanted.starts_with('.') && !resolves(tree, path, wanted) {
                        missing.push(format!("{path}: {wanted}"));
                    }
                }
            }
            missing
        };
        assert_eq!(missing(&shop("http://h", 1, Condition::Sound)), Vec::<String>::new());
        assert_eq!(missing(&shop("http://h", 1, Condition::Broken)), ["src/cart.js: ./prices"]);
    }

    fn resolves(tree: &Tree, from: &str, wanted: &str) -> bool {
        let mut parts: Vec<&str> = from.split('/').collect();
        parts.pop();
        for part in wanted.split('/') {
            match part {
                "." => {}
                ".." => drop(parts.pop()),
                name => parts.push(name),
            }
        }
        let base = parts.join("/");
        ["", ".js", ".jsx"].iter().any(|end| tree.contains_key(&format!("{base}{end}")))
    }

    #[test]
    fn some_hundred_modules_and_a_new_tree_with_each_push() {
        let tree = shop("http://h", 1, Condition::Sound);
        let modules = tree.keys().filter(|path| path.starts_with("src/")).count();
        assert!((100..200).contains(&modules), "{modules}");
        assert!(!tree.values().any(|content| content.contains('@') && content.contains("@NAME@")));
        assert_ne!(tree, shop("http://h", 2, Condition::Sound));
    }

    #[test]
    fn the_lockfile_fits_the_manifest_and_names_no_download_address() {
        let lock: serde_json::Value = serde_json::from_str(include_str!("shop/package-lock.json")).expect("JSON");
        let manifest: serde_json::Value = serde_json::from_str(include_str!("shop/package.json")).expect("JSON");
        let root = &lock["packages"][""];
        assert_eq!(root["dependencies"], manifest["dependencies"]);
        assert_eq!(root["devDependencies"], manifest["devDependencies"]);
        let packages = lock["packages"].as_object().expect("an object");
        assert!(packages.values().all(|package| package.get("resolved").is_none()));
        let (name, version) = super::super::SMALL_PACKAGE.rsplit_once('@').expect("name@version");
        assert_eq!(packages[&format!("node_modules/{name}")]["version"], version);
    }
}
