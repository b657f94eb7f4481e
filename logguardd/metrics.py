"""Prometheus metrics, one object that app.py makes and passes to the edges.

Names follow Prometheus' naming practice: base units, ``_total`` for counters. One update per batch, never per message.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """All metrics of one daemon, in a registry of its own."""

    def __init__(self) -> None:
        """Register every metric."""
        self.registry = CollectorRegistry()
        r = self.registry
        self.messages = Counter("logguardd_messages", "Messages received.", ["transport"], registry=r)
        self.bytes = Counter("logguardd_received_bytes", "Bytes of messages received.", ["transport"], registry=r)
        self.dropped = Counter(
            "logguardd_dropped", "Messages dropped, and bans (ban-*), by reason.", ["reason"], registry=r
        )
        self.truncated = Counter("logguardd_truncated", "Messages kept truncated at max_message.", registry=r)
        self.connections = Gauge("logguardd_connections", "Open connections.", ["transport"], registry=r)
        self.connections_opened = Counter(
            "logguardd_connections_opened", "Connections accepted.", ["transport"], registry=r
        )
        self.connections_refused = Counter(
            "logguardd_connections_refused", "Connections refused or closed by us, by reason.", ["transport", "reason"],
            registry=r)  # fmt: skip
        self.parse_errors = Counter("logguardd_parse_errors", "Messages archived with parse_error set.", registry=r)
        self.hits = Counter("logguardd_hits", "Hits, by rule.", ["rule"], registry=r)
        self.bans = Counter("logguardd_bans", "Bans made, by jail.", ["jail"], registry=r)
        self.bans_prevented = Counter(
            "logguardd_bans_prevented",
            "Bans not made since the address is protected, by reason.",
            ["reason"],
            registry=r,
        )
        self.certificate_end = Gauge(
            "logguardd_tls_certificate_not_after_timestamp_seconds",
            "When the certificate ends, in seconds since 1970; 0 if clients refuse it now.",
            ["listener"],
            registry=r,
        )
        self.bans_active = Gauge("logguardd_bans_active", "Bans in force.", registry=r)
        self.limiter_calls = Counter("logguardd_limiter_calls", "Batches counted, by limiter.", ["limiter"], registry=r)
        self.limiter_failures = Counter("logguardd_limiter_failures", "Calls to Redis that failed.", registry=r)
        self.breaker_open = Gauge("logguardd_limiter_breaker_open", "1 while hits are counted in memory.", registry=r)
        self.limiter_evicted = Counter(
            "logguardd_limiter_evicted", "Hits forgotten early since memory's bound was reached.", registry=r
        )
        self.shared_bans_ignored = Counter(
            "logguardd_shared_bans_ignored",
            "Entries of other daemons not taken over, by reason.",
            ["reason"],
            registry=r,
        )
        self.journal_head = Gauge("logguardd_journal_offset", "Position the next message gets.", registry=r)
        self.journal_bytes = Gauge("logguardd_journal_size_bytes", "Size of the journal.", registry=r)
        self.journal_pruned = Counter("logguardd_journal_pruned", "Messages dropped by retention.", registry=r)
        self.journal_failures = Counter(
            "logguardd_journal_failures", "Appends that failed and were tried again.", registry=r
        )
        self.consumer_offset = Gauge("logguardd_consumer_offset", "Committed position.", ["consumer"], registry=r)
        self.lag_messages = Gauge(
            "logguardd_consumer_lag_messages", "Messages not yet consumed.", ["consumer"], registry=r
        )
        self.lag_seconds = Gauge("logguardd_consumer_lag_seconds", "Age of the oldest message not yet consumed.",
                                 ["consumer"], registry=r)  # fmt: skip
        self.copy_batches = Counter("logguardd_archive_batches", "Transactions that stored messages.", registry=r)
        self.archive_rows = Counter("logguardd_archive_rows", "Messages stored.", registry=r)
        self.archive_failures = Counter("logguardd_archive_failures", "Archive writes that failed and were tried again.",
                                        registry=r)  # fmt: skip
        self.followers = Gauge("logguardd_firewall_followers", "Firewall followers connected.", registry=r)
        self.journal_seconds = Histogram(
            "logguardd_receive_to_journal_seconds", "Receive to durable in the journal.", buckets=_LATENCY, registry=r
        )
        self.archive_seconds = Histogram(
            "logguardd_receive_to_archive_seconds", "Receive to stored.", buckets=_LATENCY, registry=r
        )
        self.ban_seconds = Histogram(
            "logguardd_receive_to_ban_seconds", "Receive to handed to the firewall.", buckets=_LATENCY, registry=r
        )
