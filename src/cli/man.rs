//! `cricket man`: the manual pages.

use std::io;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use clap_mangen::Man;

use super::{CliError, print};

pub(super) fn command() -> Command {
    Command::new("man")
        .about("Print a manual page in roff")
        .arg(
            Arg::new("page")
                .value_name("PAGE")
                .value_parser(["cricket", "crio.conf"])
                .default_value("cricket")
                .help("cricket is cricket(8), crio.conf is crio.conf(5)"),
        )
}

pub(super) fn run(own: &ArgMatches) -> Result<ExitCode, CliError> {
    match own.get_one::<String>("page").map(String::as_str) {
        Some("crio.conf") => print(crate::config::manual_page().as_bytes())?,
        _ => print(&page().map_err(CliError::Output)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

const SYNOPSIS: &str = r#".SH SYNOPSIS
\fBcricket\fR [\fIOPTIONS\fR]
.br
\fBcricket\fR [\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]
"#;

const TAIL: &str = r#".SH EXIT STATUS
.TP
.B 0
Done; the daemon was told to stop.
.TP
.B 1
The command was not carried out, or
.B config \-\-check
found something, or
.B doctor leaks
or
.B check
did.
.TP
.B 2
The command line is wrong, or
.B doctor leaks
or
.B check
cannot tell what there is.
.TP
.B 78
The configuration is wrong; starting again does not help.
.SH FILES
.TP
.I /etc/crio/crio.conf
Configuration, see
.BR crio.conf (5).
.TP
.I /etc/crio/crio.conf.d/
Further configuration files.
.TP
.I /etc/containers/policy.json
Which images are trusted; without it no image is pulled.
.TP
.I /etc/containers/registries.conf
Registries, mirrors, and which of them are insecure.
.TP
.IR /etc/containers/certs.d/ HOST[:PORT] / ", " /etc/docker/certs.d/ HOST[:PORT] /
Certificates for one registry: authorities
.RI ( *.crt )
and client certificates
.RI ( NAME.cert " with " NAME.key ).
They are read for each pull, from these two places alone.
.TP
.IR /run/containers/0/auth.json ", " ~/.config/containers/auth.json ", " ~/.docker/config.json
Credentials, unless
.B global_auth_file
of crio.conf names a file.
.TP
.I /etc/cni/net.d/
CNI configuration of the pod network.
.TP
.I /var/run/crio/crio.sock
Socket of the daemon.
.SH SEE ALSO
.BR crio.conf (5),
.BR containers\-policy.json (5),
.BR containers\-registries.conf (5),
.BR crictl (1),
.BR runc (8),
.BR crun (1)
"#;

/// cricket(8) in roff.
pub(super) fn page() -> io::Result<Vec<u8>> {
    // clap_mangen leaves out the help of what a short help hides.
    let command = super::command().mut_args(|arg| arg.hide_short_help(false));
    let subcommands: Vec<Command> = command.get_subcommands().cloned().collect();
    let man = Man::new(command)
        .section("8")
        .source("cricket")
        .manual("System administration");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    // clap_mangen would list a hundred flags here.
    out.extend(SYNOPSIS.as_bytes());
    man.render_description_section(&mut out)?;
    out.extend(commands(subcommands).into_bytes());
    man.render_options_section(&mut out)?;
    out.extend(TAIL.as_bytes());
    Ok(out)
}

/// The subcommands with their own arguments, in this page: clap_mangen would refer to pages that
/// do not exist.
fn commands(subcommands: Vec<Command>) -> String {
    let mut out = ".SH COMMANDS\n".to_owned();
    for mut command in subcommands {
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replace('-', "\\-");
        let about = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        out.push_str(&format!(
            ".TP\n\\fBcricket {usage}\\fR\n{}.\n",
            escape(&about)
        ));
        let own = command.get_arguments().filter(|arg| arg.get_id() != "help");
        for arg in own.filter(|arg| !arg.is_global_set()) {
            let (Some(help), name) = (arg.get_help(), arg.get_long()) else {
                continue;
            };
            let name = name.map_or_else(|| arg.get_id().to_string(), |name| format!("--{name}"));
            out.push_str(&format!(
                "\\fB{}\\fR: {}.\n",
                escape(&name),
                escape(&help.to_string())
            ));
        }
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}
