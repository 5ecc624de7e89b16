"""A search engine over collections of documents: one index file for each, in the store of the collection.

documents    files become documents: front matter, text, sections
passages       sections become passages of at most 200 words
terms        texts become terms
permissions  which documents of a collection the rules permit
index        one collection: its tables, and how documents are added and removed
shelf        one collection as a reader may see it: what is permitted and in force
ranking      BM25 over the permitted passages of all collections, and whether anything was found
unfinished   files that end the process which reads them
freshness    files that have changed since they were ingested
"""
