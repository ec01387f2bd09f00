//! crio.conf(5) as a manual page, from the same tables as everything else.

use std::fmt::Write;

use super::schema::{EXAMPLE_NAME, Key, Status, Table};
use super::tables::{Config, handler};

const HEAD: &str = r#".TH CRIO.CONF 5 "" "cricket" "File formats"
.SH NAME
crio.conf \- configuration of the container runtime cricket
.SH SYNOPSIS
.I /etc/crio/crio.conf
.br
.I /etc/crio/crio.conf.d/*
.SH DESCRIPTION
The file is TOML. All keys are below the table
.BR [crio] ;
each section here is one of its tables. The format is that of CRI\-O, and every key of CRI\-O is
known. A key is honoured, or its entry here says why it has no effect, and setting it to something
else than its default is reported when the daemon starts.
.PP
Later sources win: built\-in defaults,
.IR /etc/crio/crio.conf ,
the files in
.I /etc/crio/crio.conf.d
in lexical order with those of its directories, environment variables, flags. In the drop\-in
directory every file is read whatever its ending, but for names that begin with a dot or end with
a tilde. Arrays and the tables of handlers and workloads replace earlier ones whole.
.I storage.conf
is not read.
.PP
A wrong type or value stops the daemon. An unknown key is a warning with the nearest known name.
Both come with file, line and column.
.B cricket config \-\-check
reports them without starting anything and does not exit with 0;
.B cricket config
prints what is in effect and where it comes from;
.B cricket config \-\-default
prints a commented file.
.PP
Paths are absolute. Times are written like
.BR 10s ,
.B 1m30s
or
.BR 500ms ,
sizes like
.BR 12MiB .
An empty string unsets a key where that makes sense.
"#;

const TAIL: &str = r#".SH FILES
.TP
.I /etc/crio/crio.conf
The configuration.
.TP
.I /etc/crio/crio.conf.d/
Further files, read after it.
.TP
.I /etc/containers/policy.json
Which images are trusted.
.TP
.I /etc/containers/registries.conf
Registries, mirrors, and which of them are insecure.
.TP
.I /etc/cni/net.d/
CNI configuration.
.SH SEE ALSO
.BR cricket (8),
.BR containers\-policy.json (5),
.BR containers\-registries.conf (5),
.BR runc (8),
.BR crun (1)
"#;

/// The manual page in roff.
pub fn page() -> String {
    let mut out = HEAD.to_owned();
    let config = Config::default();
    section(&mut out, &config, "crio");
    out.push_str(TAIL);
    out
}

fn section(out: &mut String, table: &dyn Table, path: &str) {
    if let Some(example) = table.example_child() {
        return section(out, example.as_ref(), &format!("{path}.{EXAMPLE_NAME}"));
    }
    let _ = writeln!(out, ".SH [{}]", escape(path));
    if path.ends_with(&format!("runtimes.{EXAMPLE_NAME}")) {
        let built_in = handler::BUILT_IN.join(" and ");
        let _ = writeln!(
            out,
            "One table per handler. {built_in} exist without one when they are in $PATH."
        );
    }
    for key in table.keys() {
        entry(out, key, table);
    }
    for (name, child) in table.children() {
        section(out, child, &format!("{path}.{name}"));
    }
}

fn entry(out: &mut String, key: &Key, table: &dyn Table) {
    let value = table
        .get(key.name)
        .map(|value| value.to_string())
        .unwrap_or_default();
    let _ = writeln!(
        out,
        ".TP\n\\fB{}\\fR = {}",
        escape(key.name),
        escape(&value)
    );
    for line in key.doc_lines() {
        let _ = writeln!(out, "{}", prose(line));
    }
    match key.status {
        Status::Honoured => {}
        Status::Accepted(why) => {
            let _ = writeln!(out, "\\fIHas no effect: {}.\\fR", escape(why));
        }
        Status::Deprecated(instead) => {
            let _ = writeln!(out, "\\fIDeprecated: {}.\\fR", escape(instead));
        }
    }
    let flag = (!key.flag.is_empty()).then(|| format!("Flag \\fB\\-\\-{}\\fR", escape(key.flag)));
    let variable = (!key.env.is_empty()).then(|| format!("variable \\fB{}\\fR", key.env));
    if let Some(flag) = flag {
        let variable = variable.map(|text| format!(", {text}")).unwrap_or_default();
        let _ = writeln!(out, "{flag}{variable}.");
    }
}

/// Text with `code` in bold.
fn prose(line: &str) -> String {
    let mut out = String::new();
    for (number, part) in line.split('`').enumerate() {
        match number % 2 {
            0 => out.push_str(&escape(part)),
            _ => {
                let _ = write!(out, "\\fB{}\\fR", escape(part));
            }
        }
    }
    match out.starts_with(['.', '\'']) {
        true => format!("\\&{out}"),
        false => out,
    }
}

/// Text that roff prints as it is.
fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}
