"""Makes the reference of `docs/` from the code, when the site is built.

It lies outside the package because nobody who installs Remit runs it. Only `hook.py` knows MkDocs: another generator of
sites can take the same pages from `reference.pages()`.

reference    every generated page, by path
repository   pages and files outside docs/ that pages link to
navigation   the order of pages and folders
hook         what MkDocs calls
"""
