"""The suite's own database: access logs read into events, visits and figures."""
