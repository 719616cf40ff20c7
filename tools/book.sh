#!/usr/bin/env bash
# Makes the book of the pages that docs/SUMMARY.md names: target/book. Builds mdBook once, in the version below, into
# target/mdbook. Fails on a warning, and on a link in the book that leads nowhere.
# usage: tools/book.sh
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.5.4
mdbook=target/mdbook/bin/mdbook
pages=target/book-pages

# Without its own server, without watching files, and not optimised: it is needed for a second.
if [ "$("$mdbook" --version 2>/dev/null)" != "mdbook v$version" ]; then
    cargo install --quiet --locked --debug --no-default-features --features search --root target/mdbook \
        --target-dir target/mdbook/build "mdbook@$version"
    rm -rf target/mdbook/build
fi

# The pages and all that they link to, in the places that they have here. The summary then stands one folder higher.
rm -rf "$pages" target/book
mkdir -p "$pages"
cp -r --parents ./*.md Cargo.toml LICENSE redis.conf.example docs clients/README.md clients/*/README.md clients/bench \
    clients/conformance clients/python/tests clients/go/internal/driver clients/java/src/test/java/fencelock clients/node/tests \
    clients/rust/tests/support tools/clients.sh bench/README.md deployments/README.md examples/deploy monitoring packaging \
    tests/integration "$pages"
sed 's|](\.\./|](|; t; s|](|](docs/|' docs/SUMMARY.md >"$pages/SUMMARY.md"
rm "$pages/docs/SUMMARY.md"
sed -i '/docs\/SUMMARY.md/d' "$pages/README.md" # the book has its contents on each page

"$mdbook" build 2>&1 | tee target/book.log
if grep -qE '^ *(WARN|ERROR)' target/book.log; then
    echo "book: mdBook warns" >&2
    exit 1
fi

python3 - target/book <<'PYTHON'
import html.parser, pathlib, sys, urllib.parse

class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        self.links += [attributes[name] for name in ("href", "src") if attributes.get(name)]

book = pathlib.Path(sys.argv[1]).resolve()
pages = {path: Page(path) for path in book.rglob("*.html") if path.name not in ("404.html", "print.html", "toc.html")}
dead = []
for path, page in pages.items():
    for link in page.links:
        url = urllib.parse.urlsplit(link)
        if url.scheme or url.netloc:
            continue
        target = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
        known = pages.get(target)
        if not target.exists() or known and url.fragment and url.fragment not in known.ids:
            dead.append(f"{path.relative_to(book)}: {link}")
print(f"book: {len(pages)} pages in {book.relative_to(pathlib.Path.cwd())}, {len(dead)} links lead nowhere", *dead, sep="\n")
sys.exit(1 if dead else 0)
PYTHON
