//! Wires the rooms together and runs until told to stop.
