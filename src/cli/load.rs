//! `cricket load FILE`: import images from an archive or layout without a registry.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::ValueHint;
use clap::{Arg, ArgMatches, Command};
use cricket_proto::admin::LoadImagesRequest;
use cricket_proto::admin::admin_service_client::AdminServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use super::{CliError, load_config, print};

/// How long the daemon may take to answer the connection. Loading itself takes as long as the
/// archive is large and ends with ^C.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn command() -> Command {
    Command::new("load")
        .about("Import the images of an OCI layout or `docker save` archive into the daemon")
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .value_parser(clap::value_parser!(PathBuf))
                .value_hint(ValueHint::AnyPath)
                .help("Archive (tar) or layout directory, read by the daemon on this machine"),
        )
}

pub(super) fn run(matches: &ArgMatches, own: &ArgMatches) -> Result<ExitCode, CliError> {
    let socket = load_config(matches)?.config.api.listen;
    let named = own.get_one::<PathBuf>("file").cloned().unwrap_or_default();
    // The daemon has another working directory, and its file system is this one.
    let path = std::fs::canonicalize(&named).map_err(|source| CliError::File {
        path: named,
        source,
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    let lines = runtime.block_on(load(&socket, &path))?;
    print(lines.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// One line per name, `ID NAME`, or the id alone of an image without a name.
async fn load(socket: &Path, path: &Path) -> Result<String, CliError> {
    let refused = |message: String| CliError::Refused {
        what: format!("loading {}", path.display()),
        message,
    };
    let Some(text) = path.to_str() else {
        return Err(refused("the path is not UTF-8; rename the file".to_owned()));
    };
    let mut client = AdminServiceClient::new(connect(socket).await?);
    let request = LoadImagesRequest {
        path: text.to_owned(),
    };
    let answer = client
        .load_images(request)
        .await
        .map_err(|status| refused(status.message().to_owned()))?;
    let mut out = String::new();
    for image in answer.into_inner().images {
        match image.names.as_slice() {
            [] => out.push_str(&format!("{}\n", image.id)),
            names => names
                .iter()
                .for_each(|name| out.push_str(&format!("{} {name}\n", image.id))),
        }
    }
    Ok(out)
}

async fn connect(socket: &Path) -> Result<Channel, CliError> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let no_daemon = |source| CliError::NoDaemon {
        socket: socket.to_owned(),
        source,
    };
    // The name is only for HTTP's authority; the connector decides where it goes.
    let endpoint = Endpoint::from_static("http://localhost");
    let connecting = endpoint.connect_with_connector(connector);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(no_daemon(Box::new(error))),
        Err(late) => Err(no_daemon(Box::new(late))),
    }
}
