"""Makes the reference of `docs/` from the code, when the site is built.

It lies outside the package because nobody who installs Remit runs it. Only `hook.py` knows MkDocs: another generator of
sites can take the same pages from `reference.pages()`.

reference       every generated page, by path
schemas         the JSON Schema of each file that people write
repository      pages and files outside docs/ that pages link to
theme           the order of pages and folders, and corrections of the theme's HTML
hook            what MkDocs calls
site            builds the site, if a file has changed
"""
