//! `cricket load FILE`: import images from an archive or layout without a registry.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::ValueHint;
use clap::{Arg, ArgMatches, Command};
use cricket_proto::admin::LoadImagesRequest;
use cricket_proto::admin::admin_service_client::AdminServiceClient;

use super::client;
use super::{CliError, converse, load_config, print};

pub(super) fn command() -> Command {
    Command::new("load")
        .about("Import the images of an OCI layout or `docker save` archive into the daemon")
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required_unless_present("input")
                .value_parser(clap::value_parser!(PathBuf))
                .value_hint(ValueHint::AnyPath)
                .conflicts_with("input")
                .help(
                    "Archive (tar, also gzip or zstd) or layout directory, read by the daemon on \
                     this machine; `-` is standard input, which the policy judges as the path of a \
                     file that no scope can name: what counts for it is the transport's own scope \
                     or the default",
                ),
        )
        .arg(
            Arg::new("input")
                .short('i')
                .long("input")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .value_hint(ValueHint::AnyPath)
                .help("The same, as docker and podman have it"),
        )
}

pub(super) fn run(matches: &ArgMatches, own: &ArgMatches) -> Result<ExitCode, CliError> {
    let socket = load_config(matches)?.config.api.listen;
    let named = own
        .get_one::<PathBuf>("file")
        .or_else(|| own.get_one("input"));
    let named = named.cloned().unwrap_or_default();
    // Held until the daemon has read it.
    let mut spooled = None;
    let found = match named == Path::new("-") {
        true => spool(std::io::stdin().lock()).map(|file| {
            let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
            spooled = Some(file);
            path.into()
        }),
        // The daemon has another working directory, and its file system is this one.
        false => std::fs::canonicalize(&named),
    };
    let path = found.map_err(|source| CliError::File {
        path: named,
        source,
    })?;
    let lines = converse(load(&socket, &path))?;
    drop(spooled);
    print(lines.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What comes, as a file without a name: the daemon reads an archive twice. The file is this process's
/// and goes with it.
fn spool(mut from: impl Read) -> std::io::Result<File> {
    let dir = std::env::temp_dir();
    let name = dir.join(format!(".cricket-load.{}", std::process::id()));
    let mut options = File::options();
    let mut file = options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&name)?;
    std::fs::remove_file(&name)?;
    std::io::copy(&mut from, &mut file)?;
    Ok(file)
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
    let mut client = AdminServiceClient::new(client::connect(socket).await?);
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

#[cfg(test)]
mod tests {
    use cricket_proto::admin::admin_service_server::{AdminService, AdminServiceServer};
    use cricket_proto::admin::{
        ListImagesRequest, ListImagesResponse, LoadImagesResponse, LoadedImage,
    };
    use tokio::net::UnixListener;
    use tokio_stream::wrappers::UnixListenerStream;
    use tonic::{Request, Response, Status};

    use super::*;

    /// A daemon that knows one archive.
    struct Daemon;

    #[tonic::async_trait]
    impl AdminService for Daemon {
        async fn load_images(
            &self,
            request: Request<LoadImagesRequest>,
        ) -> Result<Response<LoadImagesResponse>, Status> {
            if request.into_inner().path != "/images/good.tar" {
                return Err(Status::invalid_argument("not an archive of images"));
            }
            let image = |id: &str, names: &[&str]| LoadedImage {
                id: id.to_owned(),
                names: names.iter().map(|name| (*name).to_owned()).collect(),
            };
            let images = vec![image("aa", &["x:1", "x:2"]), image("bb", &[])];
            Ok(Response::new(LoadImagesResponse { images }))
        }

        async fn list_images(
            &self,
            _request: Request<ListImagesRequest>,
        ) -> Result<Response<ListImagesResponse>, Status> {
            Err(Status::unimplemented("not asked here"))
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    #[test]
    fn ids_and_names_of_the_daemon_s_answer_are_printed_and_its_refusal_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("daemon.sock");
        runtime().block_on(async {
            let listener = UnixListener::bind(&socket).unwrap();
            let server = tonic::transport::Server::builder()
                .add_service(AdminServiceServer::new(Daemon))
                .serve_with_incoming(UnixListenerStream::new(listener));
            let server = tokio::spawn(server);

            let lines = load(&socket, Path::new("/images/good.tar")).await.unwrap();
            assert_eq!(lines, "aa x:1\naa x:2\nbb\n");
            let error = load(&socket, Path::new("/images/bad.tar"))
                .await
                .unwrap_err();
            assert_eq!(
                error.to_string(),
                "loading /images/bad.tar: not an archive of images"
            );
            server.abort();
        });
    }

    #[test]
    fn without_a_daemon_the_error_names_the_socket() {
        let error = runtime()
            .block_on(load(Path::new("/nonexistent/crio.sock"), Path::new("/x")))
            .unwrap_err();
        let text = super::super::exit::chain(&error);
        assert!(
            text.starts_with("no daemon answers on /nonexistent/crio.sock; is it"),
            "{text}"
        );
        assert!(
            text.ends_with("No such file or directory (os error 2)"),
            "{text}"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named_before_anyone_is_asked() {
        let matches = super::super::command()
            .try_get_matches_from([
                "cricket",
                "--config=",
                "--config-dir=",
                "load",
                "/nonexistent/x",
            ])
            .unwrap();
        let (_, own) = matches.subcommand().unwrap();
        let error = run(&matches, own).unwrap_err();
        assert!(
            matches!(error, CliError::File { path, .. } if path == Path::new("/nonexistent/x"))
        );
    }
}
