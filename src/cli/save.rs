//! `cricket save IMAGE…`: images as an archive or a layout directory, through the daemon's socket.
//!
//! The daemon sends the archive and writes nothing; what is written, this process writes, with the
//! rights of who called it.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, ValueHint};
use clap::{Arg, ArgAction, ArgMatches, Command};
use cricket_proto::admin::admin_service_client::AdminServiceClient;
use cricket_proto::admin::{LayerPacking, SaveFormat, SaveImagesPart, SaveImagesRequest};

use super::client::connect;
use super::save_target::Target;
use super::{CliError, converse, load_config};

/// The largest part that is taken; the daemon sends 128 KiB.
const MAX_PART_BYTES: usize = 4 << 20;

pub(super) fn command() -> Command {
    Command::new("save")
        .about("Write images of the daemon to an archive or an OCI layout directory")
        .long_about(
            "Writes images of the daemon to an archive or an OCI layout directory, which `cricket \
             load`, skopeo, podman, docker and containerd read. The image's id stays the same. An \
             image that is named is saved under that name, one that is given by its id under all its \
             names. Layers are written as plain tars unless --compress says otherwise, as `podman \
             save` and `docker save` do; the digest of the manifest is then another than the \
             registry's.",
        )
        .arg(
            Arg::new("images")
                .value_name("IMAGE")
                .required(true)
                .action(ArgAction::Append)
                .num_args(1..)
                .help("Name or id of an image that the daemon has"),
        )
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .value_hint(ValueHint::AnyPath)
                .default_value("-")
                .help("File, or directory of oci-dir, to write; `-` is standard output"),
        )
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .value_parser(PossibleValuesParser::new([
                    "oci-archive",
                    "oci-dir",
                    "docker-archive",
                ]))
                .default_value("oci-archive")
                .help("Form of what is written"),
        )
        .arg(
            Arg::new("compress")
                .long("compress")
                .value_name("METHOD")
                .value_parser(PossibleValuesParser::new(["none", "gzip", "zstd"]))
                .default_value("none")
                .help("Compress each layer; not for docker-archive"),
        )
}

pub(super) fn run(matches: &ArgMatches, own: &ArgMatches) -> Result<ExitCode, CliError> {
    let socket = load_config(matches)?.config.api.listen;
    let text = |name| {
        own.get_one::<String>(name)
            .map(String::as_str)
            .unwrap_or_default()
    };
    let images: Vec<String> = own
        .get_many("images")
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let output = own
        .get_one::<PathBuf>("output")
        .cloned()
        .unwrap_or_default();
    let request = SaveImagesRequest {
        images,
        format: match text("format") {
            "docker-archive" => SaveFormat::DockerArchive,
            _ => SaveFormat::OciArchive,
        }
        .into(),
        packing: match text("compress") {
            "gzip" => LayerPacking::Gzip,
            "zstd" => LayerPacking::Zstd,
            _ => LayerPacking::Unpacked,
        }
        .into(),
    };
    let target = Target::open(&output, text("format") == "oci-dir")?;
    converse(save(&socket, request, target))?;
    Ok(ExitCode::SUCCESS)
}

/// Brings the archive to its target. After an error there is nothing under the target's name.
async fn save(
    socket: &Path,
    request: SaveImagesRequest,
    mut target: Target,
) -> Result<(), CliError> {
    // which image it was says the daemon
    let refused = |status: tonic::Status| CliError::Refused {
        what: "saving".to_owned(),
        message: status.message().to_owned(),
    };
    let mut client =
        AdminServiceClient::new(connect(socket).await?).max_decoding_message_size(MAX_PART_BYTES);
    let mut parts = client
        .save_images(request)
        .await
        .map_err(refused)?
        .into_inner();
    let mut progress = Progress::new();
    while let Some(part) = parts.message().await.map_err(refused)? {
        progress.show(&part);
        target.write(&part.data)?;
    }
    progress.clear();
    target.finish()
}

/// One line on standard error that is overwritten; nothing when nobody watches.
struct Progress {
    shown: bool,
    percent: Option<u64>,
}

impl Progress {
    fn new() -> Progress {
        Progress {
            shown: std::io::stderr().is_terminal(),
            percent: None,
        }
    }

    fn show(&mut self, part: &SaveImagesPart) {
        if !self.shown {
            return;
        }
        let percent = (part.done_bytes * 100).checked_div(part.total_bytes);
        if percent == self.percent {
            return;
        }
        self.percent = percent;
        eprint!("\r{}", line(part));
        // A terminal that has gone ends the process by its own signal.
        let _ = std::io::stderr().flush();
    }

    fn clear(&self) {
        if self.shown {
            eprint!("\r\u{1b}[K");
        }
    }
}

/// How far it is.
fn line(part: &SaveImagesPart) -> String {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let percent = (part.done_bytes * 100)
        .checked_div(part.total_bytes)
        .unwrap_or(100);
    format!(
        "saving: {:.1} of {:.1} MB of layers, {percent} %",
        mb(part.done_bytes),
        mb(part.total_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is() {
        let table = [
            ((0, 0), "saving: 0.0 of 0.0 MB of layers, 100 %"),
            ((0, 1 << 20), "saving: 0.0 of 1.0 MB of layers, 0 %"),
            (
                (1_500_000, 3_000_000),
                "saving: 1.5 of 3.0 MB of layers, 50 %",
            ),
        ];
        for ((done_bytes, total_bytes), expected) in table {
            let part = SaveImagesPart {
                data: Vec::new(),
                done_bytes,
                total_bytes,
            };
            assert_eq!(line(&part), expected);
        }
    }

    #[test]
    fn formats_and_methods_are_checked_before_anyone_is_asked() {
        for args in [
            &["cricket", "save"][..],
            &["cricket", "save", "--format", "tar", "a:1"],
            &["cricket", "save", "--compress=lzma", "a:1"],
        ] {
            let error = super::super::command()
                .try_get_matches_from(args)
                .unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
    }
}
