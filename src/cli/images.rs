//! `cricket images`: the images of the node, who uses them, what they share and what their removal
//! would free.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use cricket_proto::admin::admin_service_client::AdminServiceClient;
use cricket_proto::admin::{Image, Layer, ListImagesRequest, ListImagesResponse};
use serde_json::json;

use super::amount::bytes;
use super::client::connect;
use super::{CliError, converse, exit, format, load_config, print};

/// Bytes of an answer: a hundred thousand layers.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Characters of an id in tables, as in crictl's.
const SHOWN_ID: usize = 13;

pub(super) fn command() -> Command {
    Command::new("images")
        .about("List the images of the node: sizes, users, and what their removal would free")
        .arg(
            Arg::new("image")
                .value_name("IMAGE")
                .action(ArgAction::Append)
                .num_args(0..)
                .help("Only these: a name, a digest, an id or the beginning of one"),
        )
        .arg(
            Arg::new("tree")
                .long("tree")
                .action(ArgAction::SetTrue)
                .help("Show the layers of each image, what shares them and what is only its own"),
        )
        .arg(format::flag("table, or json with sizes in bytes").conflicts_with("tree"))
}

pub(super) fn run(matches: &ArgMatches, own: &ArgMatches) -> Result<ExitCode, CliError> {
    let socket = load_config(matches)?.config.api.listen;
    let named = own.get_many::<String>("image").into_iter().flatten();
    let answer = converse(ask(&socket, named.cloned().collect()))?;
    let is_json = format::is_json(own);
    let text = match (is_json, own.get_flag("tree")) {
        (true, _) => format!("{:#}\n", as_json(&answer)),
        (false, true) => tree(&answer),
        (false, false) => table(&answer),
    };
    print(text.as_bytes())?;
    let mut code = ExitCode::SUCCESS;
    for missing in &answer.missing {
        let what = format!("image {missing}");
        let message = "there is none of that name on this node".to_owned();
        code = exit::report(&CliError::Refused { what, message });
    }
    Ok(code)
}

async fn ask(socket: &Path, images: Vec<String>) -> Result<ListImagesResponse, CliError> {
    let channel = connect(socket).await?;
    let mut client = AdminServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    match client.list_images(ListImagesRequest { images }).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(CliError::Refused {
            what: "listing images".to_owned(),
            message: status.message().to_owned(),
        }),
    }
}

/// The images to show: those that the command line names, or all.
fn shown(answer: &ListImagesResponse) -> impl Iterator<Item = &Image> {
    let all = answer.selected.is_empty() && answer.missing.is_empty();
    let wanted = move |image: &&Image| all || answer.selected.contains(&image.id);
    answer.images.iter().filter(wanted)
}

/// One row a name.
fn table(answer: &ListImagesResponse) -> String {
    let head = [
        "NAME",
        "ID",
        "SIZE",
        "ON DISK",
        "CREATED",
        "PINNED",
        "IN USE BY",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for image in shown(answer) {
        let used_by = match image.used_by.as_slice() {
            [] => "-".to_owned(),
            [user] => user.clone(),
            [user, others @ ..] => format!("{user} and {} more", others.len()),
        };
        let day = image.created.split('T').next().unwrap_or_default();
        let row = |name: &str| {
            [
                name.to_owned(),
                short(&image.id).to_owned(),
                bytes(image.size_bytes),
                bytes(image.bytes_on_disk),
                if day.is_empty() { "-" } else { day }.to_owned(),
                if image.pinned { "yes" } else { "no" }.to_owned(),
                used_by.clone(),
            ]
        };
        match image.names.as_slice() {
            [] => rows.push(row(title(image))),
            names => rows.extend(names.iter().map(|name| row(name))),
        }
    }
    aligned(&rows)
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> = (0..N)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        out.push_str(line.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// Each image with its layers, lowest first.
fn tree(answer: &ListImagesResponse) -> String {
    let layers: BTreeMap<&str, &Layer> = answer
        .layers
        .iter()
        .map(|layer| (layer.id.as_str(), layer))
        .collect();
    let mut having: BTreeMap<&str, Vec<&Image>> = BTreeMap::new();
    for image in &answer.images {
        for layer in &image.layers {
            let images = having.entry(layer).or_default();
            if !images.iter().any(|known| known.id == image.id) {
                images.push(image);
            }
        }
    }
    let mut out = String::new();
    for image in shown(answer) {
        out.push_str(&format!("{}  {}\n", short(&image.id), title(image)));
        for name in image.names.iter().skip(1) {
            out.push_str(&format!("{:SHOWN_ID$}  {name}\n", ""));
        }
        out.push_str(&format!("│ {}\n", fate(image)));
        for (number, id) in image.layers.iter().enumerate() {
            let branch = if number + 1 == image.layers.len() {
                "└─"
            } else {
                "├─"
            };
            let layer = layers.get(id.as_str());
            let size = layer.map_or(0, |layer| layer.bytes);
            let sharing = having.get(id.as_str()).into_iter().flatten();
            let others: Vec<&str> = sharing
                .filter(|other| other.id != image.id)
                .map(|other| title(other))
                .collect();
            let kept = match (others.as_slice(), layer.is_some_and(|layer| layer.held)) {
                ([], false) => String::new(),
                ([], true) => "  needed by a container or a pull".to_owned(),
                (others, _) => format!("  shared with {}", others.join(", ")),
            };
            out.push_str(&format!(
                "{branch} {}  {:>8}{kept}\n",
                short(id),
                bytes(size)
            ));
        }
    }
    out
}

/// What its removal would do.
fn fate(image: &Image) -> String {
    let (freed, all) = (bytes(image.freed_bytes), bytes(image.bytes_on_disk));
    let kind = match image.artifact_type.as_str() {
        "" => String::new(),
        kind => format!("artifact {kind}; "),
    };
    let pinned = if image.pinned { "; pinned" } else { "" };
    match image.used_by.first() {
        Some(user) => format!("{kind}{all} on disk; cannot be removed: in use by {user}{pinned}"),
        None => format!("{kind}{all} on disk; removing it frees {freed}{pinned}"),
    }
}

fn as_json(answer: &ListImagesResponse) -> serde_json::Value {
    let image = |image: &Image| {
        json!({
            "id": image.id, "names": image.names, "digests": image.digests,
            "sizeBytes": image.size_bytes, "bytesOnDisk": image.bytes_on_disk,
            "freedBytes": image.freed_bytes, "created": image.created,
            "artifactType": image.artifact_type, "pinned": image.pinned,
            "usedBy": image.used_by, "layers": image.layers,
        })
    };
    let layer = |layer: &Layer| {
        json!({
            "id": layer.id, "bytes": layer.bytes, "inodes": layer.inodes, "held": layer.held,
        })
    };
    json!({
        "images": shown(answer).map(image).collect::<Vec<_>>(),
        "layers": answer.layers.iter().map(layer).collect::<Vec<_>>(),
    })
}

/// A name for a person: the first one, else a digest.
fn title(image: &Image) -> &str {
    let mut names = image.names.iter().chain(&image.digests);
    names.next().map_or("<none>", String::as_str)
}

fn short(id: &str) -> &str {
    id.get(..SHOWN_ID).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> ListImagesResponse {
        let layer = |id: &str, bytes, held| Layer {
            id: id.repeat(64),
            bytes,
            inodes: 1,
            held,
        };
        let image = |id: &str, names: &[&str], layers: &[&str]| Image {
            id: id.repeat(64),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            layers: layers.iter().map(|id| id.repeat(64)).collect(),
            size_bytes: 1_234_567,
            bytes_on_disk: 8_192,
            freed_bytes: 4_096,
            created: "2026-01-02T03:04:05Z".into(),
            ..Image::default()
        };
        let mut images = vec![
            image("a", &["r/a:1", "r/a:2"], &["1", "2"]),
            image("b", &["r/b:1"], &["1", "3"]),
            image("c", &[], &["4"]),
        ];
        images[1].used_by = vec!["container main_0 (c0ffee)".into(), "x".into()];
        images[2].artifact_type = "a/model".into();
        images[2].pinned = true;
        images[2].created.clear();
        images[2].digests = vec!["r/c@sha256:44".into()];
        ListImagesResponse {
            images,
            layers: vec![
                layer("1", 4_096, true),
                layer("2", 4_096, false),
                layer("3", 4_096, true),
                layer("4", 0, false),
            ],
            ..ListImagesResponse::default()
        }
    }

    #[test]
    fn those_that_are_not_named_are_not_shown_but_share() {
        let mut answer = answer();
        answer.selected = vec!["b".repeat(64)];
        assert_eq!(table(&answer).lines().count(), 2);
        let tree = tree(&answer);
        assert!(
            tree.contains("shared with r/a:1") && !tree.contains("r/a:2"),
            "{tree}"
        );
        answer.selected.clear();
        answer.missing = vec!["nothing".into()];
        assert_eq!(table(&answer).lines().count(), 1);
    }

    #[test]
    fn the_table_has_a_row_for_every_name() {
        let want = "\
NAME           ID             SIZE    ON DISK  CREATED     PINNED  IN USE BY
r/a:1          aaaaaaaaaaaaa  1.23MB  8.19kB   2026-01-02  no      -
r/a:2          aaaaaaaaaaaaa  1.23MB  8.19kB   2026-01-02  no      -
r/b:1          bbbbbbbbbbbbb  1.23MB  8.19kB   2026-01-02  no      container main_0 (c0ffee) and 1 more
r/c@sha256:44  ccccccccccccc  1.23MB  8.19kB   -           yes     -
";
        assert_eq!(table(&answer()), want);
    }

    #[test]
    fn the_tree_says_what_shares_each_layer_and_what_a_removal_frees() {
        let want = "\
aaaaaaaaaaaaa  r/a:1
               r/a:2
│ 8.19kB on disk; removing it frees 4.10kB
├─ 1111111111111    4.10kB  shared with r/b:1
└─ 2222222222222    4.10kB
bbbbbbbbbbbbb  r/b:1
│ 8.19kB on disk; cannot be removed: in use by container main_0 (c0ffee)
├─ 1111111111111    4.10kB  shared with r/a:1
└─ 3333333333333    4.10kB  needed by a container or a pull
ccccccccccccc  r/c@sha256:44
│ artifact a/model; 8.19kB on disk; removing it frees 4.10kB; pinned
└─ 4444444444444        0B
";
        assert_eq!(tree(&answer()), want);
    }
}
