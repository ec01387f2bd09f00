//! The Container Runtime Interface on the socket: translates messages to domain calls and back, nothing else.
