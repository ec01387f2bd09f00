//! `cricket pull IMAGE`: pull an image and watch it come.
//!
//! ^C ends this process, which leaves the pull; the daemon cancels it when nobody else wants it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::ValueHint;
use clap::{Arg, ArgAction, ArgMatches, Command};
use cricket_proto::admin::admin_service_client::AdminServiceClient;
use cricket_proto::admin::{PullImageRequest, PullImageUpdate};

use super::progress::View;
use super::{CliError, client, converse, load_config, print};

pub(super) fn command() -> Command {
    Command::new("pull")
        .about("Pull an image and show its progress; prints the image's id")
        .arg(
            Arg::new("image")
                .value_name("IMAGE")
                .required(true)
                .help("Name, with a tag or a digest; a short one as registries.conf says"),
        )
        .arg(
            Arg::new("creds")
                .long("creds")
                .value_name("USER:PASSWORD")
                .conflicts_with("authfile")
                .help("Credentials for the image's registry"),
        )
        .arg(
            Arg::new("authfile")
                .long("authfile")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .value_hint(ValueHint::FilePath)
                .help("An auth.json to be read instead of the configured ones"),
        )
        .arg(
            Arg::new("quiet")
                .long("quiet")
                .short('q')
                .action(ArgAction::SetTrue)
                .help("Print the id alone"),
        )
}

pub(super) fn run(matches: &ArgMatches, own: &ArgMatches) -> Result<ExitCode, CliError> {
    let request = request(own)?;
    let socket = load_config(matches)?.config.api.listen;
    let mut view = View::of_stderr(own.get_flag("quiet"));
    let pulled = converse(pull(&socket, request, &mut view));
    view.end();
    print(format!("{}\n", pulled?).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn request(own: &ArgMatches) -> Result<PullImageRequest, CliError> {
    let text = |name: &str| own.get_one::<String>(name).cloned().unwrap_or_default();
    let image = text("image");
    let refused = |message: &str| CliError::Refused {
        what: format!("pulling {image}"),
        message: message.to_owned(),
    };
    let (username, password) = match text("creds").split_once(':') {
        Some((user, password)) if !user.is_empty() => (user.to_owned(), password.to_owned()),
        None if own.get_one::<String>("creds").is_none() => Default::default(),
        _ => return Err(refused("--creds is not USER:PASSWORD")),
    };
    let auth_file = match own.get_one::<PathBuf>("authfile") {
        // The daemon has another working directory, and its file system is this one.
        Some(file) => std::fs::canonicalize(file)
            .map_err(|source| CliError::File {
                path: file.clone(),
                source,
            })?
            .into_os_string()
            .into_string()
            .map_err(|_| refused("the path of --authfile is not UTF-8; rename the file"))?,
        None => String::new(),
    };
    Ok(PullImageRequest {
        image,
        username,
        password,
        auth_file,
    })
}

/// The image's id.
async fn pull(
    socket: &Path,
    request: PullImageRequest,
    view: &mut View,
) -> Result<String, CliError> {
    let what = format!("pulling {}", request.image);
    let refused = |message: &str| CliError::Refused {
        what: what.clone(),
        message: message.to_owned(),
    };
    let mut client = AdminServiceClient::new(client::connect(socket).await?);
    let updates = client.pull_image(request).await;
    let mut updates = updates
        .map_err(|status| refused(status.message()))?
        .into_inner();
    loop {
        let update = updates.message().await;
        match update.map_err(|status| refused(status.message()))? {
            Some(PullImageUpdate { image_ref, pull }) => {
                if let Some(pull) = pull {
                    view.show(&pull);
                }
                if !image_ref.is_empty() {
                    return Ok(image_ref);
                }
            }
            None => return Err(refused("the daemon ended before the pull did")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<PullImageRequest, CliError> {
        let all = ["cricket", "pull", "r/a:1"].iter().chain(args);
        let matches = super::super::command().try_get_matches_from(all).unwrap();
        request(matches.subcommand().unwrap().1)
    }

    #[test]
    fn credentials_are_a_user_and_a_password_that_may_hold_colons() {
        let request = parsed(&["--creds", "u:p:q"]).unwrap();
        assert_eq!(
            (request.username.as_str(), request.password.as_str()),
            ("u", "p:q")
        );
        assert_eq!(parsed(&[]).unwrap().username, "");
        for wrong in ["u", ":p", ""] {
            let error = parsed(&["--creds", wrong]).unwrap_err().to_string();
            assert_eq!(error, "pulling r/a:1: --creds is not USER:PASSWORD");
        }
    }

    #[test]
    fn an_auth_file_must_be_there_and_is_named_in_full() {
        let error = parsed(&["--authfile", "/nonexistent/auth.json"]).unwrap_err();
        assert!(matches!(error, CliError::File { .. }));
        let here = parsed(&["--authfile", "Cargo.toml"]).unwrap().auth_file;
        assert!(
            here.starts_with('/') && here.ends_with("/Cargo.toml"),
            "{here}"
        );
    }
}
