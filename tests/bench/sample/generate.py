"""The samples: front-end repositories whose generated modules import what their committed lockfiles name.

`small` is React, webpack and babel, and bower components from git repositories; `medium` adds Ant Design and what an
application of it takes; `large` adds two more kits of components. Everything is generated and the same in every run, apart
from the addresses in it: `package.json` and `package-lock.json` stand beside this file, the lockfile without addresses,
which are those of the registry that a run asks. Run by itself, it writes a sample into a folder to look at:
`generate.py NAME FOLDER COMPONENTS-URL REGISTRY-URL`.
"""

import json
import sys
from pathlib import Path

# Name → how many modules. In node_modules: 6 500, 37 000 and 55 000 files.
SAMPLES = {"small": 100, "medium": 150, "large": 200}
_HERE = Path(__file__).resolve().parent

# Name, files, and the components each needs.
COMPONENTS = {
    "shop-base": (40, []),
    "shop-locale": (60, ["shop-base"]),
    "shop-theme": (60, ["shop-base"]),
    "shop-charts": (120, ["shop-base", "shop-locale"]),
    "shop-icons": (200, []),
}
VERSIONS = ("1.0.0", "1.1.0", "1.2.0")

_WEBPACK = """\
const path = require('path');

module.exports = {
  mode: 'production',
  entry: './src/index.jsx',
  output: { path: path.resolve(__dirname, 'dist'), filename: '[name].js', clean: true },
  resolve: {
    extensions: ['.jsx', '.js'],
    modules: ['node_modules', 'bower_components'],
    descriptionFiles: ['package.json', 'bower.json'],
  },
  module: {
    rules: [
      {
        test: /\\.jsx?$/,
        include: path.resolve(__dirname, 'src'),
        use: {
          loader: 'babel-loader',
          options: {
            presets: [
              ['@babel/preset-env', { targets: 'defaults', modules: false }],
              ['@babel/preset-react', { runtime: 'automatic' }],
            ],
          },
        },
      },
    ],
  },
  performance: { hints: false },
};
"""


# What a module of each sample takes from its dependencies: the import, and an expression that uses it.
_ANTD = ("Button", "Card", "DatePicker", "Form", "Input", "List", "Modal", "Select", "Table", "Tabs", "Tag", "Tree")
_ICONS = ("BellOutlined", "CloudOutlined", "EditOutlined", "FireOutlined", "GiftOutlined", "HomeOutlined", "MailOutlined")
_MUI = ("Alert", "Avatar", "Box", "Chip", "Drawer", "Grid", "Paper", "Slider", "Stack", "Stepper", "Tooltip")
_FLUENT = ("Callout", "CommandBar", "Dropdown", "Label", "Panel", "Pivot", "Rating", "Spinner", "Toggle")
_DATES = ("addDays", "differenceInDays", "endOfMonth", "format", "isWeekend", "parseISO", "startOfWeek", "subMonths")
_LODASH = ("chunk", "debounce", "get", "groupBy", "merge", "orderBy", "sumBy", "throttle", "uniqBy")
_LANGUAGES = ("bash", "css", "json", "python", "rust", "sql", "typescript", "xml")
_RXJS = ("combineLatest", "from", "interval", "merge", "of", "timer", "zip")


def _taken(sample, number):
    """Import lines, and the names that the module then uses."""
    if sample == "small":
        return "", []

    def one(names):
        return names[number % len(names)]

    lines = [
        f"import {{ {one(_ANTD)} as Antd }} from 'antd';",
        f"import {{ {one(_ICONS)} as Icon }} from '@ant-design/icons';",
        f"import {{ {one(_DATES)} as date }} from 'date-fns';",
        f"import pick from 'lodash/{one(_LODASH)}';",
        "import axios from 'axios';",
        "import { Link } from 'react-router-dom';",
        "import { createSlice } from '@reduxjs/toolkit';",
        "import { useSelector } from 'react-redux';",
    ]
    names = ["Antd", "Icon", "date", "pick", "axios", "Link", "createSlice", "useSelector"]
    if sample == "medium":
        lines.append(f"import {{ {one(_RXJS)} as stream }} from 'rxjs';")
        lines.append(f"import language from 'highlight.js/lib/languages/{one(_LANGUAGES)}';")
        names += ["stream", "language"]
    else:
        lines.append(f"import {{ {one(_MUI)} as Mui }} from '@mui/material';")
        lines.append(f"import {{ {one(_FLUENT)} as Fluent }} from '@fluentui/react';")
        names += ["Mui", "Fluent"]
    return "\n".join(lines) + "\n", names


def _module(sample, number):
    imports, names = _taken(sample, number)
    taken = f"const taken = [{', '.join(names)}];\n" if names else ""
    shown = "      <small>{taken.length}</small>\n" if names else ""
    return f"""\
import {{ useState }} from 'react';
{imports}
{taken}const rows{number} = Array.from({{ length: {number % 7 + 3} }}, (_, at) => ({{ id: at, price: at * {number} + 0.5 }}));

export default function Part{number}({{ title = 'Part {number}', ...rest }}) {{
  const [open, setOpen] = useState(false);
  const total = rows{number}.reduce((sum, {{ price }}) => sum + price, 0);
  return (
    <section {{...rest}} className={{open ? 'open' : 'closed'}}>
      <h2 onClick={{() => setOpen(!open)}}>{{title}}</h2>
      {{open && <ul>{{rows{number}.map((row) => <li key={{row.id}}>{{row.price?.toFixed(2) ?? '–'}}</li>)}}</ul>}}
      <p>{{`Total ${{total}}`}}</p>
{shown}    </section>
  );
}}
"""


def _index(sample):
    numbers = range(SAMPLES[sample])
    imports = "".join(f"import Part{n} from './parts/part{n}';\n" for n in numbers)
    parts = "".join(f"      <Part{n} />\n" for n in numbers)
    components = "".join(f"import '{name}';\n" for name in COMPONENTS) if sample == "small" else ""
    return (
        f"import {{ createRoot }} from 'react-dom/client';\n{components}{imports}\n"
        f"function Shop() {{\n  return (\n    <main>\n{parts}    </main>\n  );\n}}\n\n"
        "createRoot(document.getElementById('root')).render(<Shop />);\n"
    )


def _json(value):
    return (json.dumps(value, indent=2) + "\n").encode()


def lockfile(sample, registry_url):
    """The committed lockfile with addresses of tarballs, as npm writes them."""
    lock = json.loads((_HERE / sample / "package-lock.json").read_text(encoding="utf-8"))
    for place, package in lock["packages"].items():
        if place:
            name = package.get("name") or place.rpartition("node_modules/")[2]
            file = f"{name.rpartition('/')[2]}-{package['version']}.tgz"
            package["resolved"] = f"{registry_url.rstrip('/')}/{name}/-/{file}"
    return _json(lock)


def repository(sample, components_url, registry_url):
    """A sample's files (name to bytes)."""
    files = {
        "package.json": (_HERE / sample / "package.json").read_bytes(),
        "package-lock.json": lockfile(sample, registry_url),
        "webpack.config.js": _WEBPACK.encode(),
        ".gitignore": b"node_modules\nbower_components\ndist\n",
        "README.md": b"# A sample\n",
        "src/index.jsx": _index(sample).encode(),
    }
    if sample == "small":
        wanted = {name: f"{components_url}/{name}.git#~1.1.0" for name in COMPONENTS}
        files["bower.json"] = _json({"name": "shop", "private": True, "dependencies": wanted})
    for number in range(SAMPLES[sample]):
        files[f"src/parts/part{number}.jsx"] = _module(sample, number).encode()
    return files


def component(name, version, components_url):
    """A component's files in one version."""
    count, needs = COMPONENTS[name]
    bower = {
        "name": name,
        "main": "main.js",
        "dependencies": {other: f"{components_url}/{other}.git#^1.0.0" for other in needs},
    }
    files = {"bower.json": _json(bower)}
    files["main.js"] = f"window.components = Object.assign(window.components || {{}}, {{ '{name}': '{version}' }});\n".encode()
    for number in range(count):
        rows = "".join(f"  entry{row}: '{name} {version} {number * row}',\n" for row in range(40))
        files[f"parts/part{number}.js"] = f"module.exports = {{\n{rows}}};\n".encode()
    return files


def main():
    sample, folder, components_url, registry_url = sys.argv[1:5]
    for name, content in repository(sample, components_url, registry_url).items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
