"""The sample: a small front-end repository with a hundred modules, and the bower components it asks for.

React, webpack and babel come from a registry, the components from git repositories. Everything is generated and the
same in every run, apart from the two addresses in it. Run by itself, it writes the sample into a folder to look at:
`shop.py FOLDER COMPONENTS-URL`.
"""

import json
import sys
from pathlib import Path

MODULES = 100
# No build script: the agent then starts webpack by its configuration, as the scripts do; `npm run` would cost it 0.3 s.
PACKAGE = {
    "name": "shop",
    "version": "1.0.0",
    "private": True,
    "dependencies": {"react": "18.3.1", "react-dom": "18.3.1"},
    "devDependencies": {
        "@babel/core": "7.26.0",
        "@babel/preset-env": "7.26.0",
        "@babel/preset-react": "7.26.3",
        "babel-loader": "9.2.1",
        "webpack": "5.97.1",
        "webpack-cli": "6.0.1",
    },
}
# What depends on these is resolved as it was on that day (npm's --before), so that every machine installs the same.
RESOLVED_AS_OF = "2025-03-01"

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


def _module(number):
    return f"""\
import {{ useState }} from 'react';

const rows{number} = Array.from({{ length: {number % 7 + 3} }}, (_, at) => ({{ id: at, price: at * {number} + 0.5 }}));

export default function Part{number}({{ title = 'Part {number}', ...rest }}) {{
  const [open, setOpen] = useState(false);
  const total = rows{number}.reduce((sum, {{ price }}) => sum + price, 0);
  return (
    <section {{...rest}} className={{open ? 'open' : 'closed'}}>
      <h2 onClick={{() => setOpen(!open)}}>{{title}}</h2>
      {{open && <ul>{{rows{number}.map((row) => <li key={{row.id}}>{{row.price?.toFixed(2) ?? '–'}}</li>)}}</ul>}}
      <p>{{`Total ${{total}}`}}</p>
    </section>
  );
}}
"""


def _index():
    imports = "".join(f"import Part{n} from './parts/part{n}';\n" for n in range(MODULES))
    parts = "".join(f"      <Part{n} />\n" for n in range(MODULES))
    components = "".join(f"import '{name}';\n" for name in COMPONENTS)
    return (
        f"import {{ createRoot }} from 'react-dom/client';\n{components}{imports}\n"
        f"function Shop() {{\n  return (\n    <main>\n{parts}    </main>\n  );\n}}\n\n"
        "createRoot(document.getElementById('root')).render(<Shop />);\n"
    )


def _json(value):
    return (json.dumps(value, indent=2) + "\n").encode()


def package_json():
    """What npm resolves the lockfile from."""
    return _json(PACKAGE)


def repository(components_url, lockfile):
    """The shop's files (name to bytes); `lockfile` is its package-lock.json."""
    bower = {
        "name": "shop",
        "private": True,
        "dependencies": {name: f"{components_url}/{name}.git#~1.1.0" for name in COMPONENTS},
    }
    files = {
        "package.json": package_json(),
        "package-lock.json": lockfile,
        "bower.json": _json(bower),
        "webpack.config.js": _WEBPACK.encode(),
        ".gitignore": b"node_modules\nbower_components\ndist\n",
        "src/index.jsx": _index().encode(),
    }
    for number in range(MODULES):
        files[f"src/parts/part{number}.jsx"] = _module(number).encode()
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
    folder, components_url = Path(sys.argv[1]), sys.argv[2]
    for name, content in repository(components_url, b"{}\n").items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
