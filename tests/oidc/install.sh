#!/bin/sh
# Installs the other implementations that the end-to-end tests meet into $1 and prints the Node that runs them.
# Needs npm and the package registry once; later runs find everything there.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${1:?usage: install.sh FOLDER}
mkdir -p "$cache"

new_enough() {
  major=$("$1" -p 'process.versions.node.split(".")[0]' 2>/dev/null) || return 1
  [ "$major" -ge 20 ]
}

command -v npm >/dev/null || { echo "npm is missing: install nodejs and npm (Debian: apt-get install npm)" >&2; exit 1; }
if [ -n "${NODE:-}" ] && new_enough "$NODE"; then node=$NODE
elif new_enough node; then node=$(command -v node)
else
  # Debian 12's own Node is 18. The registry has the binaries of newer ones as a package.
  node=$cache/runtime/node_modules/node/bin/node
  new_enough "$node" || npm install --prefix "$cache/runtime" --no-audit --no-fund --silent node@22 >&2
  new_enough "$node" || { echo "Node 20 or newer is missing, and npm could not install it; set NODE to one" >&2; exit 1; }
fi

if ! cmp -s "$here/package-lock.json" "$cache/package-lock.json" || [ ! -d "$cache/node_modules" ]; then
  cp "$here/package.json" "$here/package-lock.json" "$cache/"
  (cd "$cache" && npm ci --no-audit --no-fund --silent >&2) || {
    rm -f "$cache/package-lock.json"
    echo "npm could not install the packages of tests/oidc/package.json into $cache" >&2
    exit 1
  }
fi
cp "$here"/*.mjs "$cache/"
echo "$node"
