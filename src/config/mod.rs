//! crio.conf(5): the schema of every key, the files and drop-ins it comes from, checks and printing.
