//! `cricket rmi IMAGE…`: remove images with all their names, as the kubelet's collector does.

use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use cricket_proto::cri::image_service_client::ImageServiceClient;
use cricket_proto::cri::{ImageSpec, ImageStatusRequest, RemoveImageRequest};

use super::client::connect;
use super::{CliError, converse, exit, load_config, print};

pub(super) fn command() -> Command {
    Command::new("rmi")
        .about("Remove images with all their names, unless a container uses them")
        .arg(
            Arg::new("image")
                .value_name("IMAGE")
                .required(true)
                .action(ArgAction::Append)
                .num_args(1..)
                .help("A name, a digest, an id or the beginning of one"),
        )
}

pub(super) fn run(matches: &ArgMatches, own: &ArgMatches) -> Result<ExitCode, CliError> {
    let socket = load_config(matches)?.config.api.listen;
    let named: Vec<&String> = own.get_many("image").into_iter().flatten().collect();
    converse(remove_all(&socket, &named))
}

/// Removes one after the other, whatever becomes of those before.
async fn remove_all(socket: &Path, named: &[&String]) -> Result<ExitCode, CliError> {
    let mut images = ImageServiceClient::new(connect(socket).await?);
    let mut code = ExitCode::SUCCESS;
    for name in named {
        match remove(&mut images, name).await {
            Ok(id) => print(format!("{id} {name}\n").as_bytes())?,
            Err(message) => {
                let what = format!("removing {name}");
                code = exit::report(&CliError::Refused { what, message });
            }
        }
    }
    Ok(code)
}

/// Removes an image and gives its id. The CRI calls it a success when there is none; a person who
/// has mistyped a name wants to know.
async fn remove(
    images: &mut ImageServiceClient<tonic::transport::Channel>,
    name: &str,
) -> Result<String, String> {
    let spec = |image: &str| {
        Some(ImageSpec {
            image: image.to_owned(),
            ..ImageSpec::default()
        })
    };
    let status = ImageStatusRequest {
        image: spec(name),
        verbose: false,
    };
    let found = images.image_status(status).await;
    let found = found.map_err(|status| status.message().to_owned())?;
    let Some(image) = found.into_inner().image else {
        return Err("there is no such image; `cricket images` lists those that there are".into());
    };
    let removal = RemoveImageRequest {
        image: spec(&image.id),
    };
    match images.remove_image(removal).await {
        Ok(_) => Ok(image.id),
        Err(status) => Err(status.message().to_owned()),
    }
}
