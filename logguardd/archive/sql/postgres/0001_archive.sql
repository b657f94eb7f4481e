-- The archive: every message, the blacklist, and how far each journal has been stored.
--
-- The role that runs this owns it all. To let the daemon run as a role that can do less (here logguardd_app):
--
--   GRANT SELECT, INSERT ON logs, blacklist, journal_offsets TO logguardd_app;
--   GRANT DELETE ON blacklist TO logguardd_app;
--   GRANT EXECUTE ON FUNCTION logguardd_make_partition(date) TO logguardd_app;
--   GRANT EXECUTE ON FUNCTION logguardd_drop_partition(date) TO logguardd_app;
--
-- The first line is enough. DELETE and logguardd_drop_partition are for retention: without them the daemon cannot drop
-- what is old (nor can who breaks into it); call logguardd_drop_partition(current_date - 90) as the owner every night
-- until it returns NULL. Without logguardd_make_partition, days that nobody made go to logs_default. What changes rows,
-- functions do that run with the owner's rights and ask whether their caller may insert into the table.

CREATE TABLE logs (
    -- An identity needs no right on a sequence; a thousand at once cost one WAL record. Gaps mean nothing.
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1000),
    timestamp timestamptz NOT NULL,
    source_ip inet,
    source_port integer,
    destination_port integer,
    protocol text,
    action text,
    message text NOT NULL,
    client_id text NOT NULL,
    log_level text NOT NULL,
    service_name text,
    raw_log text NOT NULL,
    created_at timestamptz NOT NULL,
    facility smallint NOT NULL,
    procid text,
    msgid text,
    structured_data jsonb,
    origin text NOT NULL,
    rule text,
    parse_error text
) PARTITION BY RANGE (created_at);

COMMENT ON TABLE logs IS 'Every message that logguardd received; a partition for each day (UTC) of created_at';
COMMENT ON COLUMN logs.timestamp IS 'When the sender says it happened; created_at where that is missing or far off';
COMMENT ON COLUMN logs.created_at IS 'When it was received';
COMMENT ON COLUMN logs.client_id IS 'The sending host';
COMMENT ON COLUMN logs.source_ip IS 'The remote address in the message';
COMMENT ON COLUMN logs.action IS 'The tags of the rule';

CREATE TABLE logs_default PARTITION OF logs DEFAULT;

-- Measured on COPY of 200,000 rows, 70 % with an address, 1.9 us of the server's CPU a row without any index: BRIN adds
-- 0.05 us, the index on addresses 1.2 us (it answers what is asked most: what did this address do). A primary key or an
-- index on rule or created_at would add 0.4 us each, a hash index on client_id 1.5 us. No B-tree stands on text that a
-- sender chooses: a key over 2,704 bytes is an error.
CREATE INDEX logs_created_at_id ON logs USING brin (created_at, id) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX logs_source_ip ON logs (source_ip) WHERE source_ip IS NOT NULL;

CREATE TABLE blacklist (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ip_address inet NOT NULL,
    port integer NOT NULL DEFAULT 0,
    reason text NOT NULL,
    blacklist_count integer NOT NULL DEFAULT 1,
    first_blacklisted_at timestamptz NOT NULL,
    last_blacklisted_at timestamptz NOT NULL,
    expires_at timestamptz,
    is_active boolean NOT NULL DEFAULT true,
    metadata jsonb NOT NULL DEFAULT '{}',
    UNIQUE (ip_address, port)
);
CREATE INDEX blacklist_last ON blacklist (last_blacklisted_at);

COMMENT ON TABLE blacklist IS 'Addresses and networks that are or were banned';
COMMENT ON COLUMN blacklist.port IS 'The destination port, 0 for all ports';
COMMENT ON COLUMN blacklist.expires_at IS 'NULL for never';
COMMENT ON COLUMN blacklist.metadata IS 'jail: the jail''s name; evidence: rules, senders, the last message';

CREATE TABLE journal_offsets (
    journal_id text PRIMARY KEY,
    next_offset bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE journal_offsets IS 'The first position of each journal that is not in logs yet';

-- Makes the partition of a day and moves there what the default partition has of that day. Returns whether it was made.
-- A lock that is not free within a second (a long query on logs) is an error, so that inserts never queue behind it.
CREATE FUNCTION logguardd_make_partition(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '1s' AS $$
DECLARE
    name text := 'logs_' || to_char(day, 'YYYYMMDD');
    first timestamptz := day::timestamp AT TIME ZONE 'UTC';
    next timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF EXISTS (SELECT FROM pg_class c WHERE c.relname = name AND pg_table_is_visible(c.oid)) THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(7813583284023519232);  -- another daemon may be making it now
    IF EXISTS (SELECT FROM pg_class c WHERE c.relname = name AND pg_table_is_visible(c.oid)) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE logs INCLUDING DEFAULTS INCLUDING STORAGE)', name);
    EXECUTE format('WITH moved AS (DELETE FROM logs_default WHERE created_at >= %L AND created_at < %L RETURNING *)
                    INSERT INTO %I SELECT * FROM moved', first, next, name);
    EXECUTE format('ALTER TABLE logs ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, first, next);
    RETURN true;
END
$$;

-- Drops the oldest partition if its day lies before the given one, and what the default partition has from before it.
-- Returns the day, or NULL when there is none left to drop.
CREATE FUNCTION logguardd_drop_partition(before date) RETURNS date
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '1s' AS $$
DECLARE
    name text;
BEGIN
    DELETE FROM logs_default WHERE created_at < before::timestamp AT TIME ZONE 'UTC';
    SELECT c.relname INTO name
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'logs'::regclass AND c.relname ~ '^logs_[0-9]{8}$'
    ORDER BY c.relname LIMIT 1;
    IF name IS NULL OR to_date(substr(name, 6), 'YYYYMMDD') >= before THEN
        RETURN NULL;
    END IF;
    EXECUTE format('DROP TABLE %I', name);
    RETURN to_date(substr(name, 6), 'YYYYMMDD');
END
$$;

REVOKE ALL ON FUNCTION logguardd_make_partition(date), logguardd_drop_partition(date) FROM PUBLIC;

-- Raises an error unless the role that is logged in, or that it has taken with SET ROLE, may insert into the table.
CREATE FUNCTION logguardd_check_insert(name text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    caller text := coalesce(nullif(current_setting('role'), 'none'), session_user);
BEGIN
    IF NOT has_table_privilege(caller, name, 'INSERT') THEN
        RAISE insufficient_privilege USING MESSAGE = 'permission denied for table ' || name;
    END IF;
END
$$;

-- Moves a journal's offset from $2 (0: it has none yet) to $3. Returns whether it was there.
CREATE FUNCTION logguardd_advance(text, bigint, bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM logguardd_check_insert('journal_offsets');
    IF $2 = 0 THEN
        INSERT INTO journal_offsets (journal_id, next_offset) VALUES ($1, $3) ON CONFLICT DO NOTHING;
    ELSE
        UPDATE journal_offsets SET next_offset = $3, updated_at = now() WHERE journal_id = $1 AND next_offset = $2;
    END IF;
    RETURN FOUND;
END
$$;

-- Inserts or updates the ban of an address and port: reason, count, since, until (NULL for never), metadata.
CREATE FUNCTION logguardd_ban(inet, integer, text, integer, timestamptz, timestamptz, jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM logguardd_check_insert('blacklist');
    INSERT INTO blacklist (ip_address, port, reason, blacklist_count, first_blacklisted_at, last_blacklisted_at,
                           expires_at, is_active, metadata)
    VALUES ($1, $2, $3, $4, $5, $5, $6, true, $7)
    ON CONFLICT (ip_address, port) DO UPDATE SET
        reason = excluded.reason,
        blacklist_count = greatest(blacklist.blacklist_count, excluded.blacklist_count),
        last_blacklisted_at = excluded.last_blacklisted_at,
        expires_at = excluded.expires_at,
        is_active = true,
        metadata = excluded.metadata;
END
$$;

-- Marks the ban of an address and port as no longer active, unless it is newer than $3.
CREATE FUNCTION logguardd_end_ban(inet, integer, timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM logguardd_check_insert('blacklist');
    UPDATE blacklist SET is_active = false WHERE ip_address = $1 AND port = $2 AND last_blacklisted_at <= $3;
END
$$;

GRANT SELECT ON logguardd_migrations TO PUBLIC;

-- They run with the owner's rights: names must mean the tables above, whatever the caller's search_path.
DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'logguardd_make_partition(date)', 'logguardd_drop_partition(date)', 'logguardd_check_insert(text)',
        'logguardd_advance(text, bigint, bigint)', 'logguardd_end_ban(inet, integer, timestamptz)',
        'logguardd_ban(inet, integer, text, integer, timestamptz, timestamptz, jsonb)'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', signature, current_schema());
    END LOOP;
END
$$;
