"""The index: rows that say what the log holds and where, on SQLite or PostgreSQL.

Owns: the database, its discipline, its schema, and every statement that runs on it. Must never: hold anything that segments
and keyring cannot reproduce (except sessions, cursors, heartbeats, change numbers and the last seconds of read audit), or
know how bytes are stored, encrypted or decoded.
"""
