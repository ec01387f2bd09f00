//! Logs: structured events on standard error or a file.
