"""The tables of the embedded graph store; knows nothing of what is done with them."""

from __future__ import annotations

VERSION = 1

NO_PASSAGE = 0
"""Stands for "no passage" in `fact`; SQLite's row ids begin at 1."""

SCHEMA = """
-- Counts over the whole store; `version` goes up with every commit that changes something.
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES ('version', 0), ('total', 0), ('upper', 0), ('long', 0);

CREATE TABLE IF NOT EXISTS passage (
    id INTEGER PRIMARY KEY AUTOINCREMENT, node_id TEXT NOT NULL UNIQUE, doc_id TEXT NOT NULL, title TEXT NOT NULL,
    lead INTEGER NOT NULL, text TEXT NOT NULL, node TEXT NOT NULL, digest TEXT NOT NULL, doc_hash TEXT NOT NULL,
    long INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS passage_doc ON passage (doc_id);

-- One row per scalar metadata element, for filters.
CREATE TABLE IF NOT EXISTS field (passage_id INTEGER NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, value NOT NULL);
CREATE INDEX IF NOT EXISTS field_passage ON field (passage_id, key, kind, value);

-- `uses` counts the passages that declare a name; `given` marks those the user stated; a name with neither goes.
CREATE TABLE IF NOT EXISTS name (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, df INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0, upper INTEGER NOT NULL DEFAULT 0, uses INTEGER NOT NULL DEFAULT 0,
    given INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS declared (
    passage_id INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (passage_id, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS link (
    passage_id INTEGER NOT NULL, name_id INTEGER NOT NULL, total INTEGER NOT NULL, upper INTEGER NOT NULL,
    titled INTEGER NOT NULL, surface TEXT NOT NULL, PRIMARY KEY (passage_id, name_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS link_name ON link (name_id, passage_id, titled);

CREATE TABLE IF NOT EXISTS fact (
    id INTEGER PRIMARY KEY, subject TEXT NOT NULL, relation TEXT NOT NULL, object TEXT NOT NULL, source TEXT NOT NULL,
    subject_name TEXT NOT NULL, object_name TEXT NOT NULL, passage_id INTEGER NOT NULL,
    UNIQUE (passage_id, subject, relation, object));
CREATE INDEX IF NOT EXISTS fact_subject ON fact (subject_name);
CREATE INDEX IF NOT EXISTS fact_object ON fact (object_name);

-- Normalised words; the texts themselves are in `passage`.
CREATE VIRTUAL TABLE IF NOT EXISTS word USING fts5 (title, text, content='', tokenize='ascii');
CREATE VIRTUAL TABLE IF NOT EXISTS word_df USING fts5vocab (word, 'row');
"""
