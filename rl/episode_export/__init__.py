"""Recorded episodes in other programs' formats: Inspect's logs and OpenTelemetry's spans."""
