"""Write the notebooks as web pages, with the outputs that they keep: nothing is run.

    python .ci/site.py [FOLDER]    # site/ where none is named

START_HERE.ipynb becomes index.html, every other notebook a page of its name in the same place. What the pages link to
lies beside them: pictures, the licence, modules. A link that leads to nothing ends it with one line. Needs the
environment that runs the notebooks; `make site` starts it with that of .venv.
"""

import html
import posixpath
import re
import shutil
import string
import sys
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bs4 import BeautifulSoup
from nbconvert import HTMLExporter

from tests.books import BOOKS, HOME, ROOT, code_cells, read, texts

SERIES = "Dask, cuDF, cuML and multi-GPU k-means"
RAN_ON = "Ran on: "  # how the output of a notebook's last code cell begins
FORMULA = re.compile(r"\$[^$\s][^$]*\$")
STYLE = "style.css"

PAGE = string.Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="stylesheet" href="$style">
</head>
<body>
<header class="recorded">
<p><strong>A recorded page:</strong> nothing runs here. The outputs are those of one run on
<strong>$hardware</strong>, with $versions.</p>
<p>To run the notebook yourself, get the project and type <code>make lab</code>.</p>
</header>
<main class="jp-Notebook">
$body
</main>
$mathjax</body>
</html>
""")

# After nbconvert's own style sheets, whose variables --jp-... have a light and a dark value.
OWN_STYLE = """
:root {
  color-scheme: light dark;
  --jp-content-font-size1: 16px;
  --jp-ui-font-size1: 14px;
  --jp-code-font-size: 14px;
  /* more contrast than the themes have */
  --jp-cell-prompt-not-active-opacity: 1;
  --jp-mirror-editor-comment-color: #356a6a;
  --jp-mirror-editor-number-color: #007000;
  --jp-mirror-editor-operator-color: #8f1ae0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --jp-mirror-editor-comment-color: #6fb3b3;
    --jp-mirror-editor-number-color: var(--md-green-400);
    --jp-mirror-editor-operator-color: #cf8cff;
  }
}
body {
  margin: 0;
  background: var(--jp-layout-color0);
  color: var(--jp-content-font-color1);
  font: 16px / 1.5 var(--jp-content-font-family);
}
.jp-Notebook, .recorded > p { max-width: 60rem; margin: 0 auto; }
.recorded { padding: 0.6rem 1rem; background: var(--jp-layout-color2); font-size: 14px; }
.recorded code { font-family: var(--jp-code-font-family); }
.jp-Collapser { display: none; }
.jp-Notebook .jp-Cell .jp-InputPrompt { cursor: auto; }
.jp-InputPrompt, .jp-OutputPrompt { font-size: 12px; }
.jp-RenderedMarkdown th { text-align: left; }
.jp-RenderedHTMLCommon code { font-size: 0.9em; }
.jp-RenderedMarkdown .highlight { margin: 1em 0; padding: 0.4em 0.6em; overflow-x: auto; }
.jp-RenderedMarkdown .highlight pre {
  background: none;
  font-size: var(--jp-code-font-size);
  white-space: pre;
}
.jp-RenderedMarkdown a:is(:link, :visited) {
  text-decoration: underline;
  text-underline-offset: 0.15em;
}
.jp-RenderedMarkdown a.anchor-link:link { text-decoration: none; }
.jp-RenderedMarkdown table { margin-left: 0; }
.jp-OutputArea-output.jp-RenderedText pre { word-break: normal; overflow-wrap: anywhere; }
.jp-Notebook h1 { line-height: 1.2; }
a.anchor-link { visibility: hidden; margin-left: 0.3em; }
:is(h1, h2, h3):hover > a.anchor-link { visibility: visible; }
:target { scroll-margin-top: 1rem; }

/* what is wider than the screen scrolls in its own box */
.jp-InputArea-editor, .jp-OutputArea-output, .scroll { overflow-x: auto; }
.jp-MarkdownOutput { overflow-wrap: break-word; }
.cm-editor .highlight pre {
  margin: 0;
  padding: 0.4em 0.6em;
  font: inherit;
  line-height: var(--jp-code-line-height);
}
.jp-RenderedHTMLCommon img {
  max-width: 100%;
  height: auto;
  box-sizing: border-box;
  border-radius: 8px;
  background: white;
}
.jp-OutputArea-output img { padding: 4px; }

details > summary { cursor: pointer; }
details.solution { margin: 0.5rem 0; border: 1px solid var(--jp-border-color2); border-radius: 4px; }
details.solution > summary { padding: 0.4rem 0.8rem; font-weight: bold; }

@media (max-width: 760px) {
  .jp-Notebook .jp-InputPrompt, .jp-Notebook .jp-OutputPrompt { display: none; }
  .jp-InputArea, .jp-InputArea-editor, .jp-OutputArea-child { display: block; }
  .jp-InputArea .jp-MarkdownOutput, .jp-OutputArea-child .jp-OutputArea-output {
    display: block;
    width: auto;
  }
}
"""


def page_of(book):
    """Return the path of a notebook's page, below the site's folder."""
    return "index.html" if book == HOME else book.removesuffix(".ipynb") + ".html"


def target(book, link):
    """Return the path below ROOT that a link of a notebook leads to; None if it leads to the web or to the page itself.

    Ends with one line if there is no such file.
    """
    parts = urlsplit(link)
    if parts.scheme or parts.netloc or not parts.path:
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(book), unquote(parts.path)))
    if path.startswith(("..", "/")) or not (ROOT / path).is_file():
        sys.exit(f"{book}: this link leads to nothing in the project: {link}")
    return path


def relative(path, book):
    """Return the link that leads from a notebook's page to a path below the site's folder."""
    return quote(posixpath.relpath(path, posixpath.dirname(page_of(book)) or "."))


def lead_links(soup, book):
    """Make links to notebooks lead to their pages; return the paths of the other files that the page needs."""
    files = set()
    for name, attribute in (("a", "href"), ("img", "src")):
        for element in soup.find_all(name, attrs={attribute: True}):
            path = target(book, element[attribute])
            if path in BOOKS:
                fragment = urlsplit(element[attribute]).fragment
                link = relative(page_of(path), book)
                element[attribute] = f"{link}#{fragment}" if fragment else link
            elif path:
                files.add(path)
    return files


def fold_solutions(soup):
    """Put each solution, code and output, into a closed box."""
    for cell in soup.select(".celltag_solution"):
        box = cell.wrap(soup.new_tag("details", attrs={"class": "solution"}))
        summary = soup.new_tag("summary")
        summary.string = "Solution"
        box.insert(0, summary)


def name_navigation(soup):
    """Tell a screen reader that the first and the last cell are for moving between the pages."""
    cells = soup.select(".jp-MarkdownCell")
    for cell, label in ((cells[0], "Notebooks"), (cells[-1], "Notebooks, once more")):
        cell.name, cell["aria-label"] = "nav", label


def box_tables(soup):
    """Put each table into a box that scrolls when the screen is narrower."""
    for table in soup.find_all("table"):
        table.wrap(soup.new_tag("div", attrs={"class": "scroll"}))


def has_formulas(soup):
    """Tell whether the text of a page, without its code and its outputs, holds a formula."""
    return any(
        FORMULA.search(text)
        for cell in soup.select(".jp-MarkdownOutput")
        for text in cell.find_all(string=True)
        if not text.find_parent(["code", "pre"])
    )


def title(soup):
    """Return a page's title: its heading and the name of the series."""
    heading = soup.h1.get_text().removesuffix("¶")
    return heading if SERIES in heading else f"{heading} | {SERIES}"


def ran_on(book):
    """Return the hardware and the versions that a notebook's outputs come from, as it says itself."""
    said = "".join(texts(code_cells(read(book))[-1].outputs))
    if not said.startswith(RAN_ON) or "; " not in said:
        sys.exit(f"{book}: the last code cell does not say what the notebook ran on")
    return said.removeprefix(RAN_ON).strip().split("; ", 1)


def mathjax(exporter):
    """Return what loads MathJax, as nbconvert's template has it."""
    source = "{% from 'mathjax.html.j2' import mathjax %}{{ mathjax(url) }}\n"
    return exporter.environment.from_string(source).render(url=exporter.mathjax_url)


def unchanged(text):
    """Return the text: code of our own that nbconvert need not clean, which takes half of its time."""
    return text


def convert(exporter, book):
    """Return a notebook's page, and the paths below ROOT of the files that it needs."""
    body, _ = exporter.from_notebook_node(read(book))
    soup = BeautifulSoup(body, "html.parser")
    files = lead_links(soup, book)
    fold_solutions(soup)
    name_navigation(soup)
    box_tables(soup)
    hardware, versions = ran_on(book)
    page = PAGE.substitute(
        title=html.escape(title(soup)),
        style=relative(STYLE, book),
        mathjax=mathjax(exporter) if has_formulas(soup) else "",
        hardware=html.escape(hardware),
        versions=html.escape(versions),
        body=soup,
    )
    return page, files


def style(exporter):
    """Return the style sheet of all pages: nbconvert's light and dark themes by the reader's setting, and ours."""
    folder = next(
        folder
        for folder in (Path(path) / "static" for path in exporter.template_paths)
        if (folder / "theme-dark.css").is_file()
    )
    sheet, light, dark = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("index.css", "theme-light.css", "theme-dark.css")
    )
    dark = f"@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
    _, resources = exporter.from_notebook_node(read(HOME))
    return "\n".join([sheet, light, dark, *resources["inlining"]["css"], OWN_STYLE])


def write(path, text):
    """Write a text file, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main(arguments):
    if len(arguments) > 1 or arguments[:1] and arguments[0].startswith("-"):
        sys.exit("usage: python .ci/site.py [FOLDER]")
    folder = Path(*arguments) if arguments else ROOT / "site"
    if folder.resolve() == ROOT:
        sys.exit("Name another folder than the project's own.")
    # only the cells, without the template's scripts
    exporter = HTMLExporter(template_name="lab", template_file="base.html.j2")
    exporter.register_filter("clean_html", unchanged)
    files = set()
    for book in BOOKS:
        page, needed = convert(exporter, book)
        write(folder / page_of(book), page)
        files |= needed
    for path in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / path)
    write(folder / STYLE, style(exporter))
    print(f"{len(BOOKS)} pages; the first: {folder / page_of(HOME)}")


if __name__ == "__main__":
    main(sys.argv[1:])
