//! The external OCI runtime's command line, its handlers, and the daemon's end of conmon.
