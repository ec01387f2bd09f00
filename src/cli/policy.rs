//! `cricket policy test IMAGE`: what the trust policy says about an image, and why.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use cricket_proto::admin::admin_service_client::AdminServiceClient;
use cricket_proto::admin::{TestPolicyRequest, TestPolicyResponse};

use super::{CliError, client, converse, exit, load_config, print};

pub(super) fn command() -> Command {
    Command::new("policy")
        .about("Ask the daemon what its trust policy says")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("test")
                .about("Tell whether an image would be accepted, and why, without pulling it")
                .long_about(
                    "Tells whether the daemon's trust policy (policy.json) accepts an image: the \
                     scope that decides, every requirement and every signature. The daemon asks \
                     the registry for the manifest and the signatures, with the credentials of its \
                     own files, and pulls nothing.\n\nThe exit code is 0 when the image is \
                     accepted, 1 when it is refused or cannot be looked at.",
                )
                .arg(
                    Arg::new("image")
                        .value_name("IMAGE")
                        .required(true)
                        .help("Name of the image, as in a pod"),
                )
                .arg(
                    Arg::new("namespace")
                        .long("namespace")
                        .value_name("NAMESPACE")
                        .help("Kubernetes namespace, which may have a policy of its own"),
                ),
        )
}

pub(super) fn run(matches: &ArgMatches, own: &ArgMatches) -> Result<ExitCode, CliError> {
    let Some(("test", own)) = own.subcommand() else {
        return Err(CliError::UnknownCommand("policy".to_owned()));
    };
    let socket = load_config(matches)?.config.api.listen;
    let text = |name: &str| own.get_one::<String>(name).cloned().unwrap_or_default();
    let request = TestPolicyRequest {
        image: text("image"),
        namespace: text("namespace"),
    };
    let answer = converse(test(&socket, request))?;
    print(told(&answer).as_bytes())?;
    match answer.accepted {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(exit::failed()),
    }
}

async fn test(socket: &Path, request: TestPolicyRequest) -> Result<TestPolicyResponse, CliError> {
    let what = format!("testing the policy on {}", request.image);
    let mut client = AdminServiceClient::new(client::connect(socket).await?);
    let answer = client.test_policy(request).await;
    let answer = answer.map_err(|status| CliError::Refused {
        what,
        message: status.message().to_owned(),
    })?;
    Ok(answer.into_inner())
}

/// The verdict, for people: first the answer, then what led to it.
fn told(answer: &TestPolicyResponse) -> String {
    let word = |accepted: bool| if accepted { "accepted" } else { "refused" };
    let mut out = String::new();
    // writing to a String cannot fail
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(out, "{text}");
    };
    line(format_args!("{}: {}", answer.image, word(answer.accepted)));
    if !answer.manifest_digest.is_empty() {
        line(format_args!("manifest     {}", answer.manifest_digest));
    }
    line(format_args!("policy       {}", answer.policy));
    line(format_args!("scope        {}", answer.scope));
    if !answer.trouble.is_empty() {
        line(format_args!("signatures   not found: {}", answer.trouble));
    }
    for requirement in &answer.requirements {
        line(format_args!("requirement  {}", requirement.requirement));
        line(format_args!(
            "  {}: {}",
            word(requirement.accepted),
            requirement.reason
        ));
        for signature in &requirement.signatures {
            line(format_args!("  signature {}", signature.place));
            line(format_args!(
                "    {}: {}",
                word(signature.accepted),
                signature.reason
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use cricket_proto::admin::{PolicyRequirement, PolicySignature};

    use super::*;

    #[test]
    fn a_verdict_is_told_with_what_led_to_it() {
        let answer = TestPolicyResponse {
            image: "r.io/a:1".into(),
            accepted: false,
            manifest_digest: "sha256:1".into(),
            policy: "/etc/containers/policy.json".into(),
            scope: "transports.docker \"r.io\"".into(),
            trouble: String::new(),
            requirements: vec![PolicyRequirement {
                requirement: "signedBy (keyPath /k, matchExact)".into(),
                accepted: false,
                reason: "its signature is not accepted".into(),
                signatures: vec![PolicySignature {
                    place: "file:///s/signature-1".into(),
                    accepted: false,
                    reason: "it is by key AB".into(),
                }],
            }],
        };
        let want = "r.io/a:1: refused\n\
            manifest     sha256:1\n\
            policy       /etc/containers/policy.json\n\
            scope        transports.docker \"r.io\"\n\
            requirement  signedBy (keyPath /k, matchExact)\n\
            \x20 refused: its signature is not accepted\n\
            \x20 signature file:///s/signature-1\n\
            \x20   refused: it is by key AB\n";
        assert_eq!(told(&answer), want);
    }
}
