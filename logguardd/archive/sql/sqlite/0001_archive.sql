-- The archive: every message, the blacklist, and how far each journal has been stored. Times are text in UTC, as in
-- 2026-01-31T12:00:00.123456Z, which SQLite's date functions read and which sort as they are.

CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    timestamp TEXT NOT NULL,
    source_ip TEXT,
    source_port INTEGER,
    destination_port INTEGER,
    protocol TEXT,
    action TEXT,
    message TEXT NOT NULL,
    client_id TEXT NOT NULL,
    log_level TEXT NOT NULL,
    service_name TEXT,
    raw_log TEXT NOT NULL,
    created_at TEXT NOT NULL,
    facility INTEGER NOT NULL,
    procid TEXT,
    msgid TEXT,
    structured_data TEXT,
    origin TEXT NOT NULL,
    rule TEXT,
    parse_error TEXT
);

CREATE INDEX logs_created_at ON logs (created_at);
CREATE INDEX logs_source_ip ON logs (source_ip) WHERE source_ip IS NOT NULL;

CREATE TABLE blacklist (
    id INTEGER PRIMARY KEY,
    ip_address TEXT NOT NULL,
    port INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL,
    blacklist_count INTEGER NOT NULL DEFAULT 1,
    first_blacklisted_at TEXT NOT NULL,
    last_blacklisted_at TEXT NOT NULL,
    expires_at TEXT,
    is_active INTEGER NOT NULL DEFAULT 1,
    metadata TEXT NOT NULL DEFAULT '{}',
    UNIQUE (ip_address, port)
);
CREATE INDEX blacklist_last ON blacklist (last_blacklisted_at);

CREATE TABLE journal_offsets (
    journal_id TEXT PRIMARY KEY,
    next_offset INTEGER NOT NULL,
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))
) WITHOUT ROWID;
