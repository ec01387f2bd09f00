//! Pod networks by CNI: configuration, plugin execution, cached attachments, readiness.
