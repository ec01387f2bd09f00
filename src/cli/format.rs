//! The flag `--output`: how a list is shown.

use clap::{Arg, ArgMatches};

/// The flag, with what it says about itself.
pub(super) fn flag(help: &'static str) -> Arg {
    Arg::new("output")
        .long("output")
        .short('o')
        .value_name("FORMAT")
        .value_parser(["table", "json"])
        .default_value("table")
        .help(help)
}

/// Whether JSON was asked for.
pub(super) fn is_json(own: &ArgMatches) -> bool {
    own.get_one::<String>("output").is_some_and(|o| o == "json")
}
